/* tests/test_exactness.c: whole-model logits, bit for bit: whatever the chunking of the prompt, the
 * reuse of the cache, the instruction set or the type of the weight file, every position's logits
 * are the same (docs/numerics.md). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "formats/safetensors.h"
#include "kernels/elementary.h"
#include "kernels/pack.h"
#include "model/gpt2.h"

enum { N_IDS = 120 };

/* Logits of every position of one sequence. */
typedef struct {
    float *rows; /* [n_ctx, vocab] */
    int vocab;
} Logits;

static void keep_logits(void *ctx, const TapEvent *e)
{
    Logits *l = ctx;

    if (e->stage == TAP_LOGITS)
        memcpy(l->rows + (size_t)e->start_pos * (size_t)l->vocab, e->data,
               (size_t)l->vocab * sizeof(float));
}

static void load(Gpt2 *m, const char *dir)
{
    Err err = {0};

    if (gpt2_load(m, dir, NULL, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void make_ids(int32_t *ids, int n, int vocab)
{
    uint32_t x = 12345;

    for (int i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        ids[i] = (int32_t)(x >> 8) % vocab;
    }
}

/* Positions of the sequence; the recorded hash needs all of them, the rest is content with less
 * where time is short. */
static int n_wanted = N_IDS;

static int choose_length(void **state)
{
    (void)state;
    n_wanted = getenv("LLORCH_TEST_QUICK") != NULL ? N_IDS / 3 : N_IDS;
    return 0;
}

static int length_for(const Gpt2 *m)
{
    return m->config.n_ctx < n_wanted ? m->config.n_ctx : n_wanted;
}

/* All logits of ids computed in chunks; start: positions that are already in the cache. */
static void compute(Gpt2Run *run, Logits *l, const int32_t *ids, int start, int n, int chunk)
{
    const Tap tap = {.ctx = l, .observe = keep_logits};
    Err err = {0};

    for (int done = start; done < n; done += chunk) {
        const int take = n - done < chunk ? n - done : chunk;

        if (gpt2_forward(run, ids + done, take, true, &tap, &err) != ERR_OK)
            fail_msg("%s", err.msg);
    }
}

static void init_run(Gpt2Run *run, const Gpt2 *m, const Kernels *k)
{
    Err err = {0};

    if (gpt2_run_init(run, m, k, length_for(m), GPT2_MAX_CHUNK, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static Logits new_logits(const Gpt2 *m)
{
    const Logits l = {calloc((size_t)length_for(m) * (size_t)m->config.vocab_size, sizeof(float)),
                      m->config.vocab_size};

    assert_non_null(l.rows);
    return l;
}

static size_t logits_bytes(const Gpt2 *m)
{
    return (size_t)length_for(m) * (size_t)m->config.vocab_size * sizeof(float);
}

/* What everything else is compared with: the scalar table, one token at a time. */
static Logits reference(const Gpt2 *m, const int32_t *ids)
{
    const Logits l = new_logits(m);
    Logits copy = l;
    Gpt2Run run;

    init_run(&run, m, kernels_available(0));
    compute(&run, &copy, ids, 0, length_for(m), 1);
    gpt2_run_free(&run);
    return l;
}

static void assert_same(const Logits *got, const Logits *want, size_t bytes, const char *way)
{
    if (memcmp(got->rows, want->rows, bytes) != 0)
        for (size_t i = 0; i < bytes / sizeof(float); i++)
            if (memcmp(got->rows + i, want->rows + i, sizeof(float)) != 0)
                fail_msg("%s: position %zu, token %zu: %a, expected %a", way,
                         i / (size_t)want->vocab, i % (size_t)want->vocab, (double)got->rows[i],
                         (double)want->rows[i]);
}

/* The scalar table takes a second for each pass over the shipped model: it runs the telling cases
 * only. */
static bool skips(const Kernels *k, bool minor)
{
    return minor && k == kernels_available(0) && kernels_available(1) != NULL;
}

static void check_model(const char *dir)
{
    static const int chunks[] = {1, 2, 3, 5, 7, 64, 100, GPT2_MAX_CHUNK};
    int32_t ids[N_IDS];
    Gpt2 m;
    Logits want, got;

    load(&m, dir);
    make_ids(ids, N_IDS, m.config.vocab_size);
    want = reference(&m, ids);
    got = new_logits(&m);
    for (int t = 0; kernels_available(t) != NULL; t++) {
        const Kernels *k = kernels_available(t);
        Gpt2Run run;
        char way[64];

        init_run(&run, &m, k);
        for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
            if (skips(k, chunks[c] != 7 && chunks[c] != 64))
                continue;
            memset(got.rows, 0, logits_bytes(&m));
            gpt2_reset(&run);
            compute(&run, &got, ids, 0, length_for(&m), chunks[c]);
            (void)snprintf(way, sizeof way, "%s, chunks of %d", k->name, chunks[c]);
            assert_same(&got, &want, logits_bytes(&m), way);
        }
        /* A cache prefix is kept and the rest computed again, after other tokens stood there. */
        for (int keep = 0; keep < length_for(&m); keep += 9) {
            int32_t other[N_IDS];

            if (skips(k, keep != 27))
                continue;

            for (int i = 0; i < N_IDS; i++)
                other[i] = i < keep ? ids[i] : (ids[i] + 1) % m.config.vocab_size;
            gpt2_reset(&run);
            compute(&run, &got, other, 0, length_for(&m), 50);
            kv_cache_truncate(&run.cache, keep);
            memcpy(got.rows, want.rows, (size_t)keep * (size_t)got.vocab * sizeof(float));
            compute(&run, &got, ids, keep, length_for(&m), 13);
            (void)snprintf(way, sizeof way, "%s, prefix of %d reused", k->name, keep);
            assert_same(&got, &want, logits_bytes(&m), way);
        }
        gpt2_run_free(&run);
    }
    free(want.rows), free(got.rows);
    gpt2_free(&m);
}

static void tiny_model_gives_the_same_bits_however_it_is_computed(void **state)
{
    (void)state;
    check_model("tests/data/tiny-gpt2");
}

static void shipped_model_gives_the_same_bits_however_it_is_computed(void **state)
{
    (void)state;
    check_model("models/shakespeare");
}

/* Yes or no to going on, from a counter. */
typedef struct {
    int left;
} Patience;

static bool run_out(void *ctx)
{
    Patience *p = ctx;

    return p->left-- > 0;
}

/* However far a pass came before it was stopped, the next one must not notice. */
static void a_cancelled_pass_leaves_no_trace(void **state)
{
    int32_t ids[N_IDS];
    Gpt2 m;
    Logits want, got;
    Gpt2Run run;

    (void)state;
    load(&m, "tests/data/tiny-gpt2");
    make_ids(ids, N_IDS, m.config.vocab_size);
    want = reference(&m, ids);
    got = new_logits(&m);
    init_run(&run, &m, kernels_available(0));
    for (int patience = 0;; patience++) {
        Patience p = {patience};
        const Tap tap = {.ctx = &p, .yield = run_out};
        Err err = {0};
        const ErrCode code = gpt2_forward(&run, ids + 7, 11, true, &tap, &err);

        if (code == ERR_OK) {
            assert_true(patience > 10); /* it was stopped in many places before */
            break;
        }
        assert_int_equal(code, ERR_CANCELLED);
        assert_int_equal(run.cache.length, 0);
        compute(&run, &got, ids, 0, length_for(&m), 17);
        assert_same(&got, &want, logits_bytes(&m), "after a cancelled pass");
        gpt2_reset(&run);
    }
    gpt2_run_free(&run);
    free(want.rows), free(got.rows);
    gpt2_free(&m);
}

/* ---- The same values in another type of file ---- */

static void copy_file(const char *from_dir, const char *to_dir, const char *name)
{
    char path[512], buffer[65536];
    FILE *in, *out;
    size_t n;

    (void)snprintf(path, sizeof path, "%s/%s", from_dir, name);
    in = fopen(path, "rb");
    (void)snprintf(path, sizeof path, "%s/%s", to_dir, name);
    out = fopen(path, "wb");
    assert_non_null(in);
    assert_non_null(out);
    while ((n = fread(buffer, 1, sizeof buffer, in)) > 0)
        assert_int_equal(fwrite(buffer, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
    (void)fclose(in);
}

/* Writes the tensors of st to path as F32. mask16: values cut to their upper 16 bits, so that BF16
 * holds them exactly; bf16: those are then stored as BF16. */
static void write_weights(const Safetensors *st, const char *path, bool cut, bool bf16)
{
    size_t n, at = 0, header_bytes = 0, room = 1 << 20;
    const StTensor *t = safetensors_tensors(st, &n);
    char *header = malloc(room);
    const size_t width = bf16 ? 2 : 4;
    FILE *f = fopen(path, "wb");
    uint64_t length;

    assert_non_null(header);
    assert_non_null(f);
    for (size_t i = 0; i < n; i++) {
        const size_t count = t[i].n_bytes / (t[i].dtype == ST_F32 ? 4 : 2);

        header_bytes += (size_t)snprintf(header + header_bytes, room - header_bytes,
                                         "%c\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                                         i > 0 ? ',' : '{', t[i].name, bf16 ? "BF16" : "F32");
        for (int d = 0; d < t[i].n_dims; d++)
            header_bytes += (size_t)snprintf(header + header_bytes, room - header_bytes, "%s%zu",
                                             d > 0 ? "," : "", t[i].dims[d]);
        header_bytes += (size_t)snprintf(header + header_bytes, room - header_bytes,
                                         "],\"data_offsets\":[%zu,%zu]}", at, at + count * width);
        at += count * width;
    }
    header_bytes += (size_t)snprintf(header + header_bytes, room - header_bytes, "}");
    length = header_bytes;
    assert_int_equal(fwrite(&length, 8, 1, f), 1);
    assert_int_equal(fwrite(header, header_bytes, 1, f), 1);
    for (size_t i = 0; i < n; i++) {
        const KernType type = t[i].dtype == ST_F32   ? KERN_F32
                              : t[i].dtype == ST_F16 ? KERN_F16
                                                     : KERN_BF16;

        for (size_t e = 0; e < t[i].n_bytes / kern_type_bytes(type); e++) {
            uint32_t u = kern_bits(kern_widen(t[i].data, e, type));

            u = cut ? u & 0xffff0000u : u;
            assert_int_equal(
                fwrite(bf16 ? (unsigned char *)&u + 2 : (unsigned char *)&u, width, 1, f), 1);
        }
    }
    assert_int_equal(fclose(f), 0);
    free(header);
}

/* Loads the model of dir with its weights rewritten and returns its logits. */
static Logits logits_of_rewritten(const char *dir, bool cut, bool bf16)
{
    char temp[] = "/tmp/llorch-exactness-XXXXXX", path[600];
    int32_t ids[N_IDS];
    Safetensors *st;
    Err err = {0};
    Logits l;
    Gpt2 m;

    assert_non_null(mkdtemp(temp));
    assert_int_equal(safetensors_open(&st, dir, &err), ERR_OK);
    (void)snprintf(path, sizeof path, "%s/model.safetensors", temp);
    write_weights(st, path, cut, bf16);
    safetensors_close(st);
    copy_file(dir, temp, "config.json");
    load(&m, temp);
    assert_string_equal(m.dtypes, bf16 ? "BF16" : "F32");
    make_ids(ids, N_IDS, m.config.vocab_size);
    l = reference(&m, ids);
    gpt2_free(&m);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/config.json", temp);
    (void)unlink(path);
    (void)rmdir(temp);
    return l;
}

static void f16_file_equals_the_f32_file_with_widened_values(void **state)
{
    int32_t ids[N_IDS];
    Gpt2 m;
    Logits want, got;

    (void)state;
    load(&m, "models/shakespeare");
    assert_string_equal(m.dtypes, "F16");
    make_ids(ids, N_IDS, m.config.vocab_size);
    want = reference(&m, ids);
    got = logits_of_rewritten("models/shakespeare", false, false);
    assert_same(&got, &want, logits_bytes(&m), "F32 file");
    free(want.rows), free(got.rows);
    gpt2_free(&m);
}

static void bf16_file_equals_the_f32_file_with_widened_values(void **state)
{
    const Logits f32 = logits_of_rewritten("models/shakespeare", true, false);
    const Logits bf16 = logits_of_rewritten("models/shakespeare", true, true);
    Gpt2 m;

    (void)state;
    load(&m, "models/shakespeare");
    assert_same(&bf16, &f32, logits_bytes(&m), "BF16 file");
    gpt2_free(&m);
    free(f32.rows), free(bf16.rows);
}

/* ---- The same bits on every machine ---- */

/* FNV-1a over the bits of all logits, computed by one table. Recorded once; a difference means that
 * this build or machine does not compute the documented arithmetic. */
static uint64_t hash_model(const Gpt2 *m, const Kernels *k)
{
    int32_t ids[N_IDS];
    uint64_t h = 14695981039346656037u;
    Logits l = new_logits(m);
    Gpt2Run run;

    make_ids(ids, N_IDS, m->config.vocab_size);
    init_run(&run, m, k);
    compute(&run, &l, ids, 0, length_for(m), 20);
    for (size_t i = 0; i < logits_bytes(m) / sizeof(float); i++)
        h = (h ^ kern_bits(l.rows[i])) * 1099511628211u;
    gpt2_run_free(&run);
    free(l.rows);
    return h;
}

static void check_hash(const char *dir, uint64_t want)
{
    Gpt2 m;

    load(&m, dir);
    for (int t = 0; kernels_available(t) != NULL; t++) {
        const uint64_t got = hash_model(&m, kernels_available(t));

        if (got != want)
            fail_msg("%s, %s: logits hash %016llx, expected %016llx", dir,
                     kernels_available(t)->name, (unsigned long long)got, (unsigned long long)want);
    }
    gpt2_free(&m);
}

static void logits_have_the_recorded_hash(void **state)
{
    (void)state;
    check_hash("tests/data/tiny-gpt2", 0xba4ad6b8d09c1b07u);
    check_hash("models/shakespeare", 0x1221f82dc8ed609fu);
}

/* Arguments: the one test to run (tests/exact_builds runs the hash alone in builds of all kinds).
 */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_have_the_recorded_hash),
        cmocka_unit_test_setup(tiny_model_gives_the_same_bits_however_it_is_computed,
                               choose_length),
        cmocka_unit_test_setup(shipped_model_gives_the_same_bits_however_it_is_computed,
                               choose_length),
        cmocka_unit_test_setup(a_cancelled_pass_leaves_no_trace, choose_length),
        cmocka_unit_test_setup(f16_file_equals_the_f32_file_with_widened_values, choose_length),
        cmocka_unit_test_setup(bf16_file_equals_the_f32_file_with_widened_values, choose_length),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("exactness", tests, NULL, NULL);
}
