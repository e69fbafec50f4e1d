/* tests/checkpoint_03_kv_cache.c: what goes into the cache comes out, row by row and layer by
 * layer, and nothing else. Exact: storage does not round. */
#include <math.h>
#include <string.h>

#include "check.h"

static void write_rows(KvCache *c, int layer, int start, const float *k, const float *v, int n)
{
    Err err = {0};
    const size_t row = (size_t)c->n_heads * (size_t)c->head_dim;

    if (kv_cache_write(c, check_first_isa(), layer, start, k, v, row, n, &err) != ERR_OK)
        check_bail("kv_cache_write: %s", err.msg);
}

/* The reference's k and v, written and read back; then the mistakes of the contract's table. */
static void storage(const CheckModel *m)
{
    const CheckRef *k = check_ref(m, "checkpoint_02_k"), *v = check_ref(m, "checkpoint_02_v");
    const Gpt2Config *c = &m->model.config;
    const size_t dim = (size_t)c->dim;
    float *got_k = check_buffer(k->n + dim), *got_v = check_buffer(k->n + dim);
    float *zeros = check_buffer(k->n);
    KvCache *cache = check_cache(2, c->n_heads, c->head_dim, k->rows + 1);

    kv_cache_read(cache, 0, got_k, got_v, k->rows);
    CHECK_SAME_BITS(got_k, zeros, k->n, "%s: an unused cache reads zeros (k)", m->name);
    CHECK_SAME_BITS(got_v, zeros, k->n, "%s: an unused cache reads zeros (v)", m->name);
    write_rows(cache, 0, 0, k->data, v->data, k->rows);
    kv_cache_advance(cache, k->rows);
    kv_cache_read(cache, 0, got_k, got_v, k->rows + 1);
    CHECK_SAME_BITS(got_k, k->data, k->n, "%s: k comes back bit for bit", m->name);
    CHECK_SAME_BITS(got_v, v->data, v->n, "%s: v comes back bit for bit", m->name);
    CHECK_SAME_BITS(got_k + k->n, zeros, dim, "%s: the row after the last one is untouched",
                    m->name);
    CHECK_SAME_BITS(got_k, check_ref(m, "checkpoint_03_k_cache")->data, k->n,
                    "%s: k is the reference's cache", m->name);
    CHECK(cache->length == k->rows, "%s: the length is the number of rows, not of heads", m->name);
    kv_cache_read(cache, 1, got_k, got_v, k->rows);
    CHECK_SAME_BITS(got_k, zeros, k->n, "%s: the other layer has its own memory", m->name);

    write_rows(cache, 1, 1, k->data, v->data, k->rows);
    kv_cache_read(cache, 1, got_k, got_v, k->rows);
    CHECK_NOT_CLOSE(got_k, k->data, k->n, TOL_EXACT, "%s caught: written from row 1 on (k)",
                    m->name);
    CHECK_NOT_CLOSE(got_v, v->data, v->n, TOL_EXACT, "%s caught: written from row 1 on (v)",
                    m->name);
    write_rows(cache, 1, 0, v->data, k->data, k->rows);
    kv_cache_read(cache, 1, got_k, got_v, k->rows);
    CHECK_NOT_CLOSE(got_k, k->data, k->n, TOL_EXACT, "%s caught: k and v exchanged", m->name);
    /* One cache for all layers: the next block overwrites it. */
    write_rows(cache, 0, 0, v->data, k->data, k->rows);
    kv_cache_read(cache, 0, got_k, got_v, k->rows);
    CHECK_NOT_CLOSE(got_k, k->data, k->n, TOL_EXACT, "%s caught: one cache for two layers",
                    m->name);
}

/* Reading as many rows as there are heads, or one row less, is caught by the shape alone. */
static void lengths(const CheckModel *m)
{
    const CheckRef *k = check_ref(m, "checkpoint_02_k");
    const size_t wrong[] = {(size_t)m->model.config.n_heads, (size_t)k->rows - 1};

    for (int i = 0; i < 2; i++) {
        CompareView view = k->view;
        Comparison c;

        view.dims[0] = wrong[i];
        c = compare_tensors(&view, &k->view, TOL_EXACT);
        CHECK(c.verdict == COMPARE_SHAPE, "%s caught: %zu rows read instead of %d", m->name,
              wrong[i], k->rows);
    }
}

static void borders(const CheckModel *m)
{
    const CheckRef *k = check_ref(m, "checkpoint_02_k"), *v = check_ref(m, "checkpoint_02_v");
    const Gpt2Config *c = &m->model.config;
    const size_t dim = (size_t)c->dim;
    const int n = k->rows;
    KvCache *cache = check_cache(1, c->n_heads, c->head_dim, n);
    float *before_k = check_buffer(k->n), *before_v = check_buffer(k->n);
    float *got_k = check_buffer(k->n), *got_v = check_buffer(k->n);
    const struct {
        int start, rows;
        const char *what;
    } bad[] = {{1, n, "one row too many"},
               {n, 1, "a row after the last"},
               {0, n + 1, "more rows than positions"},
               {-1, 1, "a row before the first"},
               {INT32_MAX, 1, "a start far outside"}};

    write_rows(cache, 0, 0, k->data, v->data, n);
    kv_cache_read(cache, 0, before_k, before_v, n);
    CHECK_SAME_BITS(before_k, k->data, k->n, "%s: the last position can be written", m->name);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        Err err = {0};
        const ErrCode code = kv_cache_write(cache, check_first_isa(), 0, bad[i].start, v->data,
                                            k->data, dim, bad[i].rows, &err);

        kv_cache_read(cache, 0, got_k, got_v, n);
        CHECK(code == ERR_LIMIT && memcmp(got_k, before_k, k->n * sizeof *got_k) == 0 &&
                  memcmp(got_v, before_v, k->n * sizeof *got_v) == 0,
              "%s: refuses %s and writes nothing", m->name, bad[i].what);
    }
}

/* A cache of float16 refuses what becomes infinite in it, wherever it stands; float32 keeps it. */
static void ranges(const Kernels *isa)
{
    enum { N_HEADS = 3, D = 10, N = 4, ROW = N_HEADS * D };
    static const struct {
        float x;
        bool fits;
        const char *text;
    } cases[] = {{65519.0f, true, NULL},
                 {-65519.0f, true, NULL},
                 {65520.0f, false, " of 6.55e+04 is beyond the range of float16"},
                 {-1e5f, false, " of -1e+05 is beyond the range of float16; use --kv-type f32"},
                 {INFINITY, false, " is not finite"},
                 {NAN, false, " is not finite"}};
    KvCache *f32 = check_cache(2, N_HEADS, D, N);
    float *rows[2] = {check_buffer(N * ROW), check_buffer(N * ROW)};
    Arena arena;
    KvCache f16;
    size_t bytes = 0;
    Err err = {0};
    int n_wrong = 0;

    if (kv_cache_plan(&bytes, KERN_F16, 2, N_HEADS, D, N, &err) != ERR_OK ||
        arena_init(&arena, bytes, "cache", &err) != ERR_OK ||
        kv_cache_init(&f16, &arena, KERN_F16, 2, N_HEADS, D, N, &err) != ERR_OK)
        check_bail("%s", err.msg);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int at = 0; at < 2 * N * ROW; at++) {
            float *x = &rows[at % 2][at / 2];
            const float kept = *x;
            char want[128];

            *x = cases[i].x;
            err = (Err){0};
            (void)snprintf(want, sizeof want, "KV cache: layer 1, position %d: a %s%s",
                           at / 2 / ROW, at % 2 == 0 ? "key" : "value",
                           cases[i].fits ? "" : cases[i].text);
            n_wrong += kv_cache_write(&f16, isa, 1, 0, rows[0], rows[1], ROW, N, &err) !=
                       (cases[i].fits ? ERR_OK : ERR_NUMERIC);
            n_wrong += !cases[i].fits && strncmp(err.msg, want, strlen(want)) != 0;
            n_wrong += kv_cache_write(f32, isa, 1, 0, rows[0], rows[1], ROW, N, &err) != ERR_OK;
            *x = kept;
        }
    CHECK(n_wrong == 0, "%s: float16 refuses what it cannot hold, by name, at every place",
          isa->name);
    arena_free(&arena);
}

/* What a layer of a run's cache holds. */
static void read_layer(const Gpt2Run *run, int layer, int n, float *k, float *v)
{
    kv_cache_read(&run->cache, layer, k, v, n);
}

/* The whole model: prefill in one piece, and piece by piece, fills all layers with the same bits.
 */
static void pieces(const CheckModel *m, const Kernels *isa, int chunk)
{
    const int n = m->n_ids, n_layers = m->model.config.n_layers;
    const size_t n_values = (size_t)n * (size_t)m->model.config.dim;
    Gpt2Run *whole = check_run(&m->model, isa, n + 1), *parts = check_run(&m->model, isa, n + 1);
    float *a = check_buffer(n_values), *b = check_buffer(n_values);
    float *c = check_buffer(n_values), *d = check_buffer(n_values);
    Err err = {0};
    bool same = true;

    if (gpt2_prefill(whole, m->ids, n, n, NULL, &err) != ERR_OK ||
        gpt2_prefill(parts, m->ids, n, chunk, NULL, &err) != ERR_OK)
        check_bail("%s: %s", m->name, err.msg);
    for (int i = 0; i < n_layers; i++) {
        read_layer(whole, i, n, a, b);
        read_layer(parts, i, n, c, d);
        same = same && memcmp(a, c, n_values * sizeof *a) == 0 &&
               memcmp(b, d, n_values * sizeof *b) == 0;
    }
    CHECK(same, "%s %s: %d tokens a pass fill all layers with the same bits", m->name, isa->name,
          chunk);
}

static void steps_and_jobs(const CheckModel *m, const Kernels *isa)
{
    const int n = m->n_ids;
    const size_t dim = (size_t)m->model.config.dim, n_values = (size_t)n * dim;
    Gpt2Run *run = check_run(&m->model, isa, n + 1);
    float *k = check_buffer(n_values + dim), *v = check_buffer(n_values + dim);
    float *k2 = check_buffer(n_values + dim), *v2 = check_buffer(n_values + dim);
    float *zeros = check_buffer(dim);
    Err err = {0};
    const int32_t next = 1;

    if (gpt2_prefill(run, m->ids, n, n, NULL, &err) != ERR_OK)
        check_bail("%s: %s", m->name, err.msg);
    read_layer(run, 0, n, k, v);
    CHECK_CLOSE(k, check_ref(m, "checkpoint_03_k_cache")->data, n_values, TOL_CACHE,
                "%s %s: k after the prompt matches the reference", m->name, isa->name);
    CHECK_CLOSE(v, check_ref(m, "checkpoint_03_v_cache")->data, n_values, TOL_CACHE,
                "%s %s: v after the prompt matches the reference", m->name, isa->name);

    if (gpt2_forward(run, &next, 1, false, NULL, &err) != ERR_OK)
        check_bail("%s: %s", m->name, err.msg);
    read_layer(run, 0, n + 1, k2, v2);
    CHECK(run->cache.length == n + 1, "%s %s: a step adds one row", m->name, isa->name);
    CHECK_SAME_BITS(k2, k, n_values, "%s %s: a step keeps all rows of k", m->name, isa->name);
    CHECK_SAME_BITS(v2, v, n_values, "%s %s: a step keeps all rows of v", m->name, isa->name);
    CHECK_NOT_CLOSE(k2 + n_values, zeros, dim, TOL_QKV, "%s %s: the new row is written", m->name,
                    isa->name);
    CHECK(gpt2_forward(run, &next, 1, false, NULL, &err) == ERR_LIMIT && run->cache.length == n + 1,
          "%s %s: a step past the end is refused", m->name, isa->name);

    gpt2_reset(run);
    CHECK(run->cache.length == 0, "%s %s: reset forgets all rows", m->name, isa->name);
    if (gpt2_prefill(run, m->ids, n, n, NULL, &err) != ERR_OK)
        check_bail("%s: %s", m->name, err.msg);
    read_layer(run, 0, n, k2, v2);
    CHECK_SAME_BITS(k2, k, n_values, "%s %s: the next job finds a clean cache", m->name, isa->name);
    /* Without the reset, the same prompt lands on other positions. */
    kv_cache_truncate(&run->cache, 1);
    if (gpt2_prefill(run, m->ids, n - 1, n, NULL, &err) != ERR_OK)
        check_bail("%s: %s", m->name, err.msg);
    read_layer(run, 0, n, k2, v2);
    CHECK_NOT_CLOSE(k2, k, n_values, TOL_CACHE, "%s %s caught: a cache not reset between jobs",
                    m->name, isa->name);
}

/* S5: K = 0.5 sin(n 0.001), V = 0.3 cos(n 0.001), [2, 12, 64]. */
static void vector(void)
{
    static const float k5[] = {0.0f, 0.0005f, 0.00099999993f, 0.0014999978f, 0.0019999947f};
    static const float v2[] = {0.3f, 0.29999986f};
    enum { N = 2 * 12 * 64 };
    float *k = check_buffer(N), *v = check_buffer(N), *a = check_buffer(N), *b = check_buffer(N);
    KvCache *cache = check_cache(1, 12, 64, 2);

    for (int n = 0; n < N; n++) {
        k[n] = (float)(0.5 * sin((double)((float)n * 0.001f)));
        v[n] = (float)(0.3 * cos((double)((float)n * 0.001f)));
    }
    write_rows(cache, 0, 0, k, v, 2);
    kv_cache_read(cache, 0, a, b, 2);
    CHECK_SAME_BITS(a, k, N, "S5: k comes back bit for bit");
    CHECK_SAME_BITS(b, v, N, "S5: v comes back bit for bit");
    CHECK_CLOSE(a, k5, 5, 1e-7, "S5: first values of k");
    CHECK_CLOSE(b, v2, 2, 1e-7, "S5: first values of v");
}

int main(void)
{
    static const int chunks[] = {1, 2, 7};

    for (int i = 0; check_model(i) != NULL; i++) {
        const CheckModel *m = check_model(i);

        storage(m);
        lengths(m);
        borders(m);
        for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k)) {
            for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++)
                pieces(m, k, chunks[c]);
            steps_and_jobs(m, k);
        }
    }
    for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k))
        ranges(k);
    vector();
    return check_report();
}
