/* tests/tokenizer_rig.h: what the tests of the tokenizer share: loading, encoding, vectors,
 * refusals, and a folder for files made by a test. */
#ifndef LLORCH_TESTS_TOKENIZER_RIG_H
#define LLORCH_TESTS_TOKENIZER_RIG_H

#include "folder_rig.h"

#include <stdbool.h>
#include <sys/stat.h>

#include "common/json.h"
#include "common/text.h"
#include "tokenizer/tokenizer.h"

#define GPT2 "../shared/data/gpt2-tokenizer"
#define TINY "tests/data/tiny-gpt2"
#define SHAKESPEARE "models/shakespeare"
#define BLANK "\xc4\xa0" /* U+0120 */

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(undefined_behavior_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { MAX_FILE = 64 * 1024, MEGABYTE = 1000000 };

static inline uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Bounds of time mean nothing under a sanitizer or an emulator. */
static inline bool timing_counts(void)
{
    return !SANITIZED && getenv("LLORCH_RUNNER") == NULL;
}

static inline Tokenizer *load(const char *dir)
{
    Tokenizer *t = NULL;
    Err err = {0};

    if (tokenizer_load(&t, dir, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    return t;
}

/* Skips the test where GPT-2's vocabulary, which is not part of the repository, is absent. */
static inline Tokenizer *load_gpt2(void)
{
    if (access(GPT2 "/vocab.json", R_OK) != 0) {
        puts("# " GPT2 " is absent");
        skip();
    }
    return load(GPT2);
}

/* text, of room bytes, with the first occurrence of find, which must be there, replaced. */
static inline void replace(char *text, size_t room, const char *find, const char *with)
{
    char *at = strstr(text, find);

    if (at == NULL)
        fail_msg("no %s in the text to damage", find);
    assert_true(strlen(text) - strlen(find) + strlen(with) < room);
    memmove(at + strlen(with), at + strlen(find), strlen(at + strlen(find)) + 1);
    memcpy(at, with, strlen(with));
}

static inline void *allocate(size_t n)
{
    void *p = malloc(n > 0 ? n : 1);

    assert_non_null(p);
    return p;
}

static inline size_t encode(const Tokenizer *t, const char *text, size_t n, bool special,
                            int32_t *ids)
{
    TokenizerScratch *s = tokenizer_scratch_new(n);

    assert_non_null(s);

    const size_t n_ids = tokenizer_encode(t, s, text, n, special, ids);

    tokenizer_scratch_free(s);
    return n_ids;
}

static inline void print_case(const char *text, size_t n)
{
    char shown[200];

    (void)text_escape(shown, sizeof shown, text, n);
    printf("# text: %s\n", shown);
}

static inline void assert_ids(const Tokenizer *t, const char *text, size_t n, bool special,
                              const int32_t *want, size_t n_want)
{
    int32_t *ids = allocate(n * sizeof ids[0]);
    const size_t n_ids = encode(t, text, n, special, ids);

    if (n_ids != n_want || memcmp(ids, want, n_ids * sizeof ids[0]) != 0) {
        print_case(text, n);
        for (size_t i = 0; i < n_ids; i++)
            printf("%s%d", i == 0 ? "# got: " : " ", (int)ids[i]);
        putchar('\n');
    }
    assert_int_equal(n_ids, n_want);
    assert_memory_equal(ids, want, n_ids * sizeof ids[0]);
    free(ids);
}

/* The bytes of all tokens; malloc'ed. */
static inline char *concatenate(const Tokenizer *t, const int32_t *ids, size_t n_ids, size_t *n)
{
    size_t total = 0, n_token;

    for (size_t i = 0; i < n_ids; i++) {
        (void)tokenizer_token(t, ids[i], &n_token);
        total += n_token;
    }

    char *bytes = allocate(total);

    *n = 0;
    for (size_t i = 0; i < n_ids; i++) {
        const char *token = tokenizer_token(t, ids[i], &n_token);

        memcpy(bytes + *n, token, n_token);
        *n += n_token;
    }
    return bytes;
}

static inline void assert_round_trip(const Tokenizer *t, const char *text, size_t n)
{
    int32_t *ids = allocate(n * sizeof ids[0]);
    size_t n_back;
    char *back = concatenate(t, ids, encode(t, text, n, false, ids), &n_back);

    assert_int_equal(n_back, n);
    assert_memory_equal(back, text, n);
    free(back);
    free(ids);
}

static inline int32_t *ids_of(const json_t *array, size_t *n)
{
    assert_true(json_is_array(array));
    *n = json_array_size(array);

    int32_t *ids = allocate(*n * sizeof ids[0]);

    for (size_t i = 0; i < *n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return ids;
}

static inline char *bytes_of(const json_t *base64, size_t *n)
{
    assert_true(json_is_string(base64));
    *n = json_string_length(base64);

    char *bytes = allocate(*n);

    assert_true(text_base64_decode(bytes, n, json_string_value(base64), *n));
    return bytes;
}

static inline void assert_vector(const Tokenizer *t, const json_t *line, const char *key,
                                 bool special)
{
    size_t n, n_ids;
    char *text = bytes_of(json_object_get(line, "text"), &n);
    int32_t *want = ids_of(json_object_get(line, key), &n_ids);

    assert_ids(t, text, n, special, want, n_ids);
    free(want);
    free(text);
}

static inline void check_ids(const Tokenizer *t, const json_t *line)
{
    assert_vector(t, line, "ids", false);
}

static inline void check_special(const Tokenizer *t, const json_t *line)
{
    assert_vector(t, line, "ids_ordinary", false);
    assert_vector(t, line, "ids_special", true);
}

static inline void check_decode(const Tokenizer *t, const json_t *line)
{
    size_t n_ids, n_want, n;
    int32_t *ids = ids_of(json_object_get(line, "ids"), &n_ids);
    char *want = bytes_of(json_object_get(line, "bytes"), &n_want);
    char *got = concatenate(t, ids, n_ids, &n);

    assert_int_equal(n, n_want);
    assert_memory_equal(got, want, n);
    free(got);
    free(want);
    free(ids);
}

/* Calls check for each line of a file of JSON lines; returns how many there were. */
static inline int each_line(const char *path, const Tokenizer *t,
                            void (*check)(const Tokenizer *, const json_t *))
{
    FILE *f = fopen(path, "r");
    char *text = NULL;
    size_t cap = 0;
    int n_lines = 0;

    assert_non_null(f);
    for (ssize_t n; (n = getline(&text, &cap, f)) > 0; n_lines++) {
        Err err = {0};
        json_t *line = json_parse(text, (size_t)n, path, &err);

        assert_non_null(line);
        check(t, line);
        json_decref(line);
    }
    free(text);
    fclose(f);
    return n_lines;
}

/* Loading fails with this code and one line, which says the problem and is left in err. */
static inline void fails_to_load(const char *path, ErrCode code, const char *problem, Err *err)
{
    Tokenizer *t = NULL;

    *err = (Err){0};

    const ErrCode got = tokenizer_load(&t, path, err);

    if (got == ERR_OK)
        fail_msg("accepted, expected: %s", problem);
    if (strstr(err->msg, problem) == NULL)
        fail_msg("got: %s\nexpected: %s", err->msg, problem);
    assert_int_equal(got, code);
    assert_int_equal(err->code, code);
    assert_null(t);
    assert_null(strchr(err->msg, '\n'));
}

/* The names that files in the folder may have. */
static const char *const file_names[] = {"vocab.json", "merges.txt", "tokenizer.json",
                                         "spiece.model", "model.bin"};
enum { N_FILE_NAMES = sizeof file_names / sizeof file_names[0] };

/* The teardown that belongs to make_folder. */
static inline int leave_folder(void **state)
{
    (void)state;
    return remove_folder(file_names, N_FILE_NAMES);
}

/* The byte alphabet, as GPT-2's published encoder builds it. */
static inline size_t spell_byte(int byte, char out[3])
{
    int n_moved = 0, c = -1;

    for (int b = 0; b < 256; b++) {
        const bool itself = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;

        if (b == byte)
            c = itself ? b : 256 + n_moved;
        n_moved += !itself;
    }
    if (c < 0x80) {
        out[0] = (char)c;
        out[1] = '\0';
        return 1;
    }
    out[0] = (char)(0xc0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3f));
    out[2] = '\0';
    return 2;
}

/* "!": 0, ... of the 256 bytes (ids by byte value), without braces. */
static inline size_t print_bytes(char *out)
{
    size_t n = 0;

    for (int b = 0; b < 256; b++) {
        char spelled[3];

        (void)spell_byte(b, spelled);
        n += (size_t)sprintf(out + n, "\"%s%s\": %d, ", b == '"' || b == '\\' ? "\\" : "", spelled,
                             b);
    }
    return n;
}

#endif
