/* tests/model_file_rig.h: what the tests of model files share: a folder for files made by a test,
 * the program's commands, models to write, and logits to compare.
 *
 * Run from the root of the repository. */
#ifndef LLORCH_TESTS_MODEL_FILE_RIG_H
#define LLORCH_TESTS_MODEL_FILE_RIG_H

#include "folder_rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "cli/cli.h"
#include "kernels/kernels.h"
#include "model/gpt2.h"
#include "model/gpt2_random.h"
#include "tokenizer/tokenizer.h"

#define TINY "tests/data/tiny-gpt2"      /* F32; rows of 48 and 192 weights */
#define SHAKESPEARE "models/shakespeare" /* F16; rows of 192 and 768 */

enum { N_IDS = 12, MESSAGE_BYTES = 1024 };

static const char *const type_names[KERN_TYPE_COUNT] = {
    [KERN_F32] = "f32",   [KERN_F16] = "f16",   [KERN_BF16] = "bf16",
    [KERN_Q8_0] = "q8_0", [KERN_Q4_0] = "q4_0",
};

/* --- files --- */

/* Files in the folder; removes them if asked to. */
static inline int count_files(bool remove_them)
{
    DIR *d = opendir(folder);
    int n = 0;

    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        n++;
        if (remove_them)
            assert_int_equal(unlink(path_of(e->d_name)), 0);
    }
    assert_int_equal(closedir(d), 0);
    return n;
}

/* The teardown that belongs to make_folder. */
static inline int leave_folder(void **state)
{
    (void)state;
    (void)count_files(true);
    return rmdir(folder);
}

/* Two files in the folder, byte by byte. */
static inline void assert_same_files(const char *a, const char *b)
{
    size_t n, m;
    unsigned char *x = read_file(path_of(a), &n), *y = read_file(path_of(b), &m);

    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

/* --- commands --- */

/* Runs a sub-command with these words; what it printed on standard error is in message, on standard
 * output in output (NULL: not wanted). The words end with a NULL. */
static inline int run_command(int (*command)(int, char **), char message[MESSAGE_BYTES],
                              char output[MESSAGE_BYTES], ...)
{
    char words[16][PATH_BYTES], *argv[17] = {NULL};
    const int kept[2] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
    char *const wanted[2] = {output, message};
    int files[2], argc = 0;
    va_list args;

    va_start(args, output);
    for (const char *word; (word = va_arg(args, const char *)) != NULL; argc++) {
        assert_true(argc < 16);
        (void)snprintf(words[argc], PATH_BYTES, "%s", word);
        argv[argc] = words[argc];
    }
    va_end(args);
    (void)fflush(NULL);
    for (int i = 0; i < 2; i++) {
        files[i] = memfd_create("output", MFD_CLOEXEC);
        assert_true(dup2(files[i], i == 0 ? STDOUT_FILENO : STDERR_FILENO) >= 0);
    }
    optind = 0; /* a new command line for getopt */

    const int status = command(argc, argv);

    (void)fflush(NULL);
    for (int i = 0; i < 2; i++) {
        assert_true(dup2(kept[i], i == 0 ? STDOUT_FILENO : STDERR_FILENO) >= 0);
        if (wanted[i] != NULL) {
            const ssize_t n = pread(files[i], wanted[i], MESSAGE_BYTES - 1, 0);

            assert_true(n >= 0);
            wanted[i][n] = '\0';
        }
        (void)close(files[i]);
        (void)close(kept[i]);
    }
    return status;
}

/* The same for a command that has to succeed, silently but for its summary. */
#define MUST_RUN(command, ...)                                                                     \
    do {                                                                                           \
        char message_[MESSAGE_BYTES];                                                              \
                                                                                                   \
        if (run_command(command, message_, NULL, __VA_ARGS__, NULL) != 0)                          \
            fail_msg("%s", message_);                                                              \
        assert_string_equal(message_, "");                                                         \
    } while (0)

static inline void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", text, part);
}

/* --- models --- */

static inline void load_as(Gpt2 *m, const char *path, const Gpt2LoadOptions *options)
{
    Err err = {0};

    if (gpt2_load(m, path, options, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static inline void load_model(Gpt2 *m, const char *path)
{
    load_as(m, path, NULL);
}

/* A message with this part, and nothing loaded. */
static inline void assert_refused(const char *path, ErrCode code, const char *part)
{
    Gpt2 m = {.n_params = 0};
    Err err = {0};

    if (gpt2_load(&m, path, NULL, &err) == ERR_OK)
        fail_msg("accepted, but should say \"%s\"", part);
    assert_has(err.msg, part);
    assert_has(err.msg, path);
    assert_null(strchr(err.msg, '\n'));
    assert_int_equal(err.code, code);
    assert_null(m.blocks);
}

/* The tokenizers of two models make the same ids of text. */
static inline void assert_same_ids(const char *a, const char *b, const char *text)
{
    const char *const paths[2] = {a, b};
    const size_t n_text = strlen(text);
    Tokenizer *t[2] = {NULL, NULL};
    int32_t *ids[2];
    size_t n[2];
    Err err = {0};

    for (int i = 0; i < 2; i++) {
        TokenizerScratch *s = tokenizer_scratch_new(n_text);

        ids[i] = malloc((n_text + 1) * sizeof ids[i][0]);
        assert_true(s != NULL && ids[i] != NULL);
        assert_int_equal(tokenizer_load(&t[i], paths[i], &err), ERR_OK);
        n[i] = tokenizer_encode(t[i], s, text, n_text, true, ids[i]);
        tokenizer_scratch_free(s);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(ids[0], ids[1], n[0] * sizeof ids[0][0]);
    assert_int_equal(tokenizer_end_of_text(t[0]), tokenizer_end_of_text(t[1]));
    for (int i = 0; i < 2; i++) {
        free(ids[i]);
        tokenizer_free(t[i]);
    }
}

/* Two layers, random weights in float32; 512 tokens, as many as the tokenizer of TINY has. */
static inline Gpt2Config small_config(void)
{
    Gpt2Config c;
    Err err = {0};

    if (gpt2_shape_parse(&c, "2,4,64,32,512", &err) != ERR_OK)
        fail_msg("%s", err.msg);
    c.n_eos = 1; /* the tiny model's, whose tokenizer such models get */
    c.eos_ids[0] = 511;
    return c;
}

static inline void random_model(Gpt2 *m, const Gpt2Config *c)
{
    Err err = {0};

    if (gpt2_random(m, c, KERN_F32, 1, NULL, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

/* --- logits --- */

static inline void keep_logits(void *ctx, const TapEvent *e)
{
    if (e->stage == TAP_LOGITS)
        memcpy((float *)ctx + (size_t)e->start_pos * (size_t)e->n_cols, e->data,
               (size_t)e->n_cols * sizeof(float));
}

/* [N_IDS, vocab] of one prompt, all of them finite; malloc'ed. */
static inline float *logits_of(const Gpt2 *m)
{
    const size_t n = (size_t)N_IDS * (size_t)m->config.vocab_size;
    float *logits = calloc(n, sizeof *logits);
    const Tap tap = {.observe = keep_logits, .ctx = logits};
    const Kernels *k;
    int32_t ids[N_IDS];
    Gpt2Run run;
    Err err = {0};

    assert_non_null(logits);
    for (int i = 0; i < N_IDS; i++)
        ids[i] = (i * 7919 + 17) % m->config.vocab_size;
    if (kernels_select(&k, NULL, &err) != ERR_OK ||
        gpt2_run_init(&run, m, k, N_IDS, N_IDS, KERN_F32, &err) != ERR_OK ||
        gpt2_forward(&run, ids, N_IDS, true, &tap, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    gpt2_run_free(&run);
    for (size_t i = 0; i < n; i++)
        assert_true(logits[i] - logits[i] == 0.0f);
    return logits;
}

static inline bool same_logits(const Gpt2 *a, const Gpt2 *b)
{
    float *x = logits_of(a), *y = logits_of(b);
    const size_t n = (size_t)N_IDS * (size_t)a->config.vocab_size;
    const bool same =
        a->config.vocab_size == b->config.vocab_size && memcmp(x, y, n * sizeof *x) == 0;

    free(x);
    free(y);
    return same;
}

#endif
