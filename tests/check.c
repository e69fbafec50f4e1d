/* tests/check.c: see check.h. Everything handed out is kept in lists and freed by check_report, so
 * that the leak checker stays silent and the tests stay short. */
#include "check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/reference.h"

enum { CHECK_MODELS = 2, CHECK_MAX = 1024, GUARD_BYTES = 64, GUARD = 0xa5 };

static struct {
    CheckModel models[CHECK_MODELS];
    Reference references[CHECK_MODELS];
    bool loaded[CHECK_MODELS];
    CheckRef refs[CHECK_MAX];
    const char *ref_names[CHECK_MAX];
    const CheckModel *ref_models[CHECK_MAX];
    Npy files[CHECK_MAX];
    unsigned char *buffers[CHECK_MAX];
    size_t buffer_bytes[CHECK_MAX];
    Gpt2Run *runs[CHECK_MAX];
    KvCache *caches[CHECK_MAX];
    Arena cache_arenas[CHECK_MAX];
    int n_refs, n_buffers, n_runs, n_caches;
    int n_cases, n_failed;
} check;

void check_bail(const char *format, ...)
{
    va_list args;

    printf("Bail out! ");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    exit(1);
}

static void need(bool good, const char *what, const Err *err)
{
    if (!good)
        check_bail("%s: %s", what, err != NULL ? err->msg : "out of memory");
}

static int take(int *count, const char *what)
{
    if (*count == CHECK_MAX)
        check_bail("more than %d %s", CHECK_MAX, what);
    return (*count)++;
}

/* ---- Models, references, buffers ---- */

const CheckModel *check_model(int i)
{
    static const CheckModel places[CHECK_MODELS] = {
        {.name = "tiny-gpt2",
         .dir = "tests/data/tiny-gpt2",
         .reference = "tests/data/tiny-gpt2/reference/named",
         .greedy = "tests/data/tiny-gpt2/reference/checkpoint_12.json"},
        {.name = "shakespeare",
         .dir = "models/shakespeare",
         .reference = "models/shakespeare/reference",
         .greedy = "models/shakespeare/reference/checkpoint_12.json"}};
    CheckModel *m;
    Err err = {0};

    if (i >= CHECK_MODELS)
        return NULL;
    m = &check.models[i];
    if (check.loaded[i])
        return m;
    *m = places[i];
    need(gpt2_load(&m->model, m->dir, NULL, &err) == ERR_OK, m->dir, &err);
    need(tokenizer_load(&m->tokenizer, m->dir, &err) == ERR_OK, m->dir, &err);
    need(reference_open(&check.references[i], &m->model.config, m->dir, m->reference, &err) ==
             ERR_OK,
         m->reference, &err);
    m->ids = check.references[i].ids;
    m->n_ids = check.references[i].n_ids;
    check.loaded[i] = true;
    return m;
}

const CheckRef *check_ref(const CheckModel *m, const char *name)
{
    char note[REFERENCE_NOTE_BYTES] = "";
    CheckRef *ref;
    Npy *npy;
    int at;

    for (int i = 0; i < check.n_refs; i++)
        if (check.ref_models[i] == m && strcmp(check.ref_names[i], name) == 0)
            return &check.refs[i];
    at = take(&check.n_refs, "reference tensors");
    npy = &check.files[at];
    ref = &check.refs[at];
    if (reference_tensor(&check.references[m - check.models], name, npy, note) != REFERENCE_FOUND)
        check_bail("%s: %s", m->name, note);
    *ref = (CheckRef){
        .data = npy->data, .n = npy->n, .view = reference_view(npy), .rows = (int)npy->dims[0]};
    check.ref_names[at] = name;
    check.ref_models[at] = m;
    return ref;
}

const Kernels *check_first_isa(void)
{
    return kernels_available(0);
}

const Kernels *check_next_isa(const Kernels *k)
{
    for (int i = 0; kernels_available(i) != NULL; i++)
        if (kernels_available(i) == k)
            return kernels_available(i + 1);
    return NULL;
}

float *check_buffer(size_t n)
{
    const int at = take(&check.n_buffers, "buffers");
    const size_t bytes = n * sizeof(float);
    const size_t whole = (bytes + GUARD_BYTES + 63) / 64 * 64;

    check.buffers[at] = aligned_alloc(64, whole);
    need(check.buffers[at] != NULL, "buffer", NULL);
    memset(check.buffers[at], 0, bytes);
    memset(check.buffers[at] + bytes, GUARD, GUARD_BYTES);
    check.buffer_bytes[at] = bytes;
    return (float *)(void *)check.buffers[at];
}

float *check_copy(const float *src, size_t n)
{
    float *copy = check_buffer(n);

    memcpy(copy, src, n * sizeof *copy);
    return copy;
}

Linear check_linear(const float *w, KernOrder order, const float *bias, int n_in, int n_out)
{
    float *panels = check_buffer(kern_pad((size_t)n_out) * (size_t)n_in);
    const KernMatrix m = {.type = KERN_F32, .n = n_out, .k = n_in, .panels = panels};
    size_t bad;

    need(kern_pack(panels, NULL, KERN_F32, (size_t)n_out, (size_t)n_in, 0, (size_t)n_out, w,
                   KERN_F32, order, &bad),
         "weights", NULL);
    return (Linear){.w = m, .bias = bias};
}

float *check_unpack(const Linear *l)
{
    const size_t n_in = (size_t)l->w.k, n_out = (size_t)l->w.n;
    float *w = check_buffer(n_in * n_out), *row = check_buffer(n_in);

    for (size_t o = 0; o < n_out; o++) {
        kern_unpack_row(row, &l->w, o);
        for (size_t i = 0; i < n_in; i++)
            w[i * n_out + o] = row[i];
    }
    return w;
}

float *check_scratch(const CheckModel *m, int n_tokens)
{
    const Gpt2Config *c = &m->model.config;
    const int widest = c->ffn_dim > c->dim ? c->ffn_dim : c->dim;

    return check_buffer(kern_input_bytes((size_t)n_tokens, (size_t)widest) / sizeof(float));
}

Gpt2Run *check_run(const Gpt2 *m, const Kernels *k, int n_ctx)
{
    const int at = take(&check.n_runs, "runs");
    Gpt2Run *run = calloc(1, sizeof *run);
    Err err = {0};

    need(run != NULL, "run", NULL);
    need(gpt2_run_init(run, m, k, n_ctx, n_ctx < GPT2_MAX_CHUNK ? n_ctx : GPT2_MAX_CHUNK, KERN_F32,
                       &err) == ERR_OK,
         "run", &err);
    check.runs[at] = run;
    return run;
}

KvCache *check_cache(int n_layers, int n_heads, int head_dim, int n_ctx)
{
    const int at = take(&check.n_caches, "caches");
    KvCache *cache = calloc(1, sizeof *cache);
    Arena *arena = &check.cache_arenas[at];
    size_t total = 0;
    Err err = {0};

    need(cache != NULL, "cache", NULL);
    need(kv_cache_plan(&total, KERN_F32, n_layers, n_heads, head_dim, n_ctx, &err) == ERR_OK &&
             arena_init(arena, total, "cache", &err) == ERR_OK &&
             kv_cache_init(cache, arena, KERN_F32, n_layers, n_heads, head_dim, n_ctx, &err) ==
                 ERR_OK,
         "cache", &err);
    check.caches[at] = cache;
    return cache;
}

/* ---- Cases ---- */

static void print_case(bool good, const char *format, va_list args)
{
    check.n_cases++;
    check.n_failed += !good;
    printf("%sok %d - ", good ? "" : "not ", check.n_cases);
    vprintf(format, args);
    printf("\n");
}

void check_true(bool holds, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_case(holds, format, args);
    va_end(args);
}

void check_skip(const char *reason, const char *format, ...)
{
    va_list args;

    check.n_cases++;
    printf("ok %d - ", check.n_cases);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf(" # SKIP %s\n", reason);
}

static void print_figures(const Comparison *c, double tolerance)
{
    printf("# worst error %.3g at %zu (%.9g, reference %.9g), tolerance %g\n", c->worst, c->index,
           (double)c->ours, (double)c->reference, tolerance);
}

void check_close(const float *got, const float *want, size_t n, double tolerance,
                 const char *format, ...)
{
    const CompareView a = compare_vector(got, n), b = compare_vector(want, n);
    const Comparison c = compare_tensors(&a, &b, tolerance);
    va_list args;

    va_start(args, format);
    print_case(n > 0 && c.verdict == COMPARE_EQUAL, format, args);
    va_end(args);
    print_figures(&c, tolerance);
}

void check_not_close(const float *got, const float *want, size_t n, double tolerance,
                     const char *format, ...)
{
    const CompareView a = compare_vector(got, n), b = compare_vector(want, n);
    const Comparison c = compare_tensors(&a, &b, tolerance);
    va_list args;

    va_start(args, format);
    /* A mistake that yields NaN would be caught as well, but is not the mistake that was meant. */
    print_case(c.verdict == COMPARE_VALUES, format, args);
    va_end(args);
    print_figures(&c, tolerance);
}

void check_same_bits(const float *got, const float *want, size_t n, const char *format, ...)
{
    const CompareView a = compare_vector(got, n), b = compare_vector(want, n);
    const Comparison c = compare_bits(&a, &b);
    va_list args;

    va_start(args, format);
    print_case(n > 0 && c.verdict == COMPARE_EQUAL, format, args);
    va_end(args);
    if (c.verdict != COMPARE_EQUAL)
        printf("# %zu of %zu differ, worst at %zu: %.9g, expected %.9g\n", c.n_beyond, c.n, c.index,
               (double)c.ours, (double)c.reference);
}

/* ---- The end ---- */

static bool guards_whole(void)
{
    for (int i = 0; i < check.n_buffers; i++)
        for (size_t b = 0; b < GUARD_BYTES; b++)
            if (check.buffers[i][check.buffer_bytes[i] + b] != GUARD)
                return false;
    return true;
}

static void free_all(void)
{
    for (int i = 0; i < check.n_buffers; i++)
        free(check.buffers[i]);
    for (int i = 0; i < check.n_refs; i++)
        npy_close(&check.files[i]);
    for (int i = 0; i < check.n_runs; i++) {
        gpt2_run_free(check.runs[i]);
        free(check.runs[i]);
    }
    for (int i = 0; i < check.n_caches; i++) {
        arena_free(&check.cache_arenas[i]);
        free(check.caches[i]);
    }
    for (int i = 0; i < CHECK_MODELS; i++) {
        reference_close(&check.references[i]);
        tokenizer_free(check.models[i].tokenizer);
        gpt2_free(&check.models[i].model);
    }
}

int check_report(void)
{
    check_true(guards_whole(), "nothing was written behind a buffer");
    printf("1..%d\n", check.n_cases);
    free_all();
    return check.n_failed > 0 ? 1 : 0;
}
