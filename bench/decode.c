/* bench/decode.c: decode and prompt speed of a model on one core, next to a plain read of the same
 * weights in the same run. One line per case: median [min..max] over the rounds, which are
 * interleaved so that a noisy neighbour hits all cases alike. The last line is the longest time
 * between two yields: what a health check waits while the model computes.
 *
 * usage: bench-decode MODEL_DIR [rounds] */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "model/gpt2.h"

enum { MAX_ROUNDS = 99, DECODE_TOKENS = 8, PROMPT = 512, CHUNK = 64 };

typedef struct {
    const char *name;
    double value[MAX_ROUNDS];
} Case;

typedef struct {
    uint64_t last_ns, longest_ns;
} Gap;

static bool note_gap(void *ctx)
{
    Gap *g = ctx;
    const uint64_t now = clock_now_ns();

    if (now - g->last_ns > g->longest_ns)
        g->longest_ns = now - g->last_ns;
    g->last_ns = now;
    return true;
}

static double seconds_since(uint64_t start_ns)
{
    return (double)(clock_now_ns() - start_ns) * 1e-9;
}

typedef uint64_t Vector __attribute__((vector_size(32)));

/* GB/s of one linear pass over the packed weights: whole vectors, eight sums in flight, nothing
 * else. */
static double read_probe(const Gpt2 *m)
{
    const Vector *p = (const Vector *)(const void *)m->arena.base;
    const size_t n = m->arena.size_bytes / sizeof *p / 8 * 8;
    const uint64_t start = clock_now_ns();
    Vector sum[8] = {{0}};
    volatile uint64_t sink = 0;

    for (size_t i = 0; i < n; i += 8)
        for (size_t j = 0; j < 8; j++)
            sum[j] += p[i + j];
    for (size_t j = 0; j < 8; j++)
        sink += sum[j][0] + sum[j][1] + sum[j][2] + sum[j][3];
    (void)sink;
    return (double)(n * sizeof *p) * 1e-9 / seconds_since(start);
}

static void fail(const Err *err)
{
    (void)fprintf(stderr, "bench-decode: %s\n", err->msg);
    exit(1);
}

static double decode_speed(Gpt2Run *run, const int32_t *ids, int context, const Tap *tap)
{
    Err err = {0};
    uint64_t start;

    gpt2_reset(run);
    if (gpt2_prefill(run, ids, context, CHUNK, NULL, &err) != ERR_OK)
        fail(&err);
    start = clock_now_ns();
    for (int i = 0; i < DECODE_TOKENS; i++)
        if (gpt2_forward(run, ids + context + i, 1, true, tap, &err) != ERR_OK)
            fail(&err);
    return DECODE_TOKENS / seconds_since(start);
}

static double prompt_speed(Gpt2Run *run, const int32_t *ids, int n, Tap *tap)
{
    const uint64_t start = clock_now_ns();
    Err err = {0};

    ((Gap *)tap->ctx)->last_ns = start;
    gpt2_reset(run);
    if (gpt2_prefill(run, ids, n, CHUNK, tap, &err) != ERR_OK)
        fail(&err);
    return n / seconds_since(start);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(Case *c, int rounds)
{
    qsort(c->value, (size_t)rounds, sizeof(double), by_value);
    return c->value[rounds / 2];
}

static void print_case(Case *c, int rounds, const char *unit)
{
    const double mid = median(c, rounds);

    printf("%-22s %9.2f [%.2f..%.2f] %s\n", c->name, mid, c->value[0], c->value[rounds - 1], unit);
}

int main(int argc, char **argv)
{
    const int rounds = argc > 2 ? atoi(argv[2]) : 7;
    Case probe = {.name = "plain read"}, decode = {.name = "decode, context 16"};
    Case prompt_short = {.name = "prompt of 128"}, prompt_long = {.name = "prompt of 512"};
    Gap gap = {0};
    Tap tap = {.ctx = &gap, .yield = note_gap};
    const Kernels *k;
    cpu_set_t cpu;
    Gpt2Run run;
    uint64_t start;
    int32_t *ids;
    Err err = {0};
    Gpt2 m;

    if (argc < 2 || rounds < 1 || rounds > MAX_ROUNDS) {
        (void)fprintf(stderr, "usage: bench-decode MODEL_DIR [rounds 1..%d]\n", MAX_ROUNDS);
        return 2;
    }
    CPU_ZERO(&cpu);
    CPU_SET(0, &cpu);
    (void)sched_setaffinity(0, sizeof cpu, &cpu);
    start = clock_now_ns();
    if (kernels_select(&k, getenv("LLORCH_ISA"), &err) != ERR_OK ||
        gpt2_load(&m, argv[1], NULL, &err) != ERR_OK)
        fail(&err);
    printf("%s, %zu parameters, kernels %s, loaded in %.2f s\n", m.name, m.n_params, k->name,
           seconds_since(start));
    if (gpt2_run_init(&run, &m, k, m.config.n_ctx, GPT2_MAX_CHUNK, &err) != ERR_OK)
        fail(&err);
    if (m.config.n_ctx < PROMPT + DECODE_TOKENS) {
        (void)fprintf(stderr, "bench-decode: the model has %d positions, %d are needed\n",
                      m.config.n_ctx, PROMPT + DECODE_TOKENS);
        return 1;
    }
    ids = calloc((size_t)m.config.n_ctx, sizeof *ids);
    for (int i = 0; ids != NULL && i < m.config.n_ctx; i++)
        ids[i] = (int32_t)((uint32_t)i * 2654435761u >> 8) % m.config.vocab_size;
    for (int r = 0; ids != NULL && r < rounds; r++) {
        probe.value[r] = read_probe(&m);
        decode.value[r] = decode_speed(&run, ids, 16, NULL);
        prompt_short.value[r] = prompt_speed(&run, ids, 128, &tap);
        prompt_long.value[r] = prompt_speed(&run, ids, PROMPT, &tap);
    }
    print_case(&probe, rounds, "GB/s");
    print_case(&decode, rounds, "tokens/s");
    {
        /* What a token reads: all weights but the position table and, for a tied head, no second
         * table. */
        const double gb =
            ((double)m.n_params - (double)m.config.n_ctx * (double)m.config.dim) * 4e-9;

        printf("%-22s %9.2f GB/s, %.2f of the plain read\n", "  weights read",
               median(&decode, rounds) * gb, median(&decode, rounds) * gb / median(&probe, rounds));
    }
    print_case(&prompt_short, rounds, "tokens/s");
    print_case(&prompt_long, rounds, "tokens/s");
    printf("%-22s %9.2f ms\n", "longest yield gap", (double)gap.longest_ns * 1e-6);
    free(ids);
    gpt2_run_free(&run);
    gpt2_free(&m);
    return 0;
}
