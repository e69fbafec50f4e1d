/* cli/bench_rig.h: one model with everything that is needed to time it, and the bodies that are
 * timed.
 *
 * May include: common, kernels, model, sampling. */
#ifndef LLORCH_CLI_BENCH_RIG_H
#define LLORCH_CLI_BENCH_RIG_H

#include "cli/bench_step.h"
#include "common/arena.h"
#include "common/error.h"
#include "common/tap.h"
#include "kernels/kernels.h"
#include "kernels/probe.h"
#include "model/gpt2.h"
#include "sampling/sampler.h"

enum {
    BENCH_MAX_BATCH = 16,
    BENCH_DECODE_TOKENS = 8, /* one after the other, in one measurement of decoding */
    BENCH_MIN_CONTEXT = 32   /* shorter ones have no room for the cases */
};

typedef struct {
    Gpt2 model;
    Gpt2Run run;
    const Kernels *k;
    const Probe *probe;
    Tap tap; /* its yield tells Ctrl-C */

    const void *weights; /* all packed weights, as one piece of memory */
    size_t weights_bytes;
    size_t product_bytes; /* weights that one decoded token reads: all matrices but the embedding */
    size_t resident_bytes; /* of the process with this model ready to run, before the rest below */

    Arena room;   /* owns all of the following */
    int32_t *ids; /* [n_ctx] */
    float *x, *y; /* BENCH_MAX_BATCH rows, as wide as any matrix */
    void *scratch;
    Sampler *sampler;
    float *source;         /* [n_sources][dim][ffn_dim], to be packed */
    unsigned char *packed; /* [n_sources] matrices */
    size_t n_sources;
} BenchRig;

/* Takes over r->model, which is loaded, and makes the rest; r->k, r->probe and r->tap are given.
 * The cache is full of random numbers: speed does not depend on what is in it. Errors: ERR_LIMIT
 * (context too short), ERR_MEMORY and those of gpt2_run_init. Memory: bench_rig_free, also after an
 * error. */
ErrCode bench_rig_init(BenchRig *r, KernType kv_type, Err *err) ERR_CHECK;

/* Finds weights, weights_bytes and product_bytes of r->model, which is all that the probes need
 * beside r->probe; bench_rig_init does it. */
void bench_rig_weights(BenchRig *r);

void bench_rig_free(BenchRig *r); /* a zeroed one is allowed */

/* What is timed. n: context, tokens or rows. Errors: ERR_CANCELLED after Ctrl-C. */
typedef ErrCode BenchBody(BenchRig *r, int n, Err *err);

ErrCode bench_decode(BenchRig *r, int n, Err *err) ERR_CHECK;     /* BENCH_DECODE_TOKENS after n */
ErrCode bench_prompt(BenchRig *r, int n, Err *err) ERR_CHECK;     /* n tokens, last logits */
ErrCode bench_batch(BenchRig *r, int n, Err *err) ERR_CHECK;      /* all matrices, n rows */
ErrCode bench_read_cache(BenchRig *r, int n, Err *err) ERR_CHECK; /* one query, n keys, all heads */
ErrCode bench_pack(BenchRig *r, int n, Err *err) ERR_CHECK;       /* all of r->source; n: unused */

/* Seconds of one call of body: it is repeated for a fiftieth of a second, so that clocks and
 * interrupts do not count. */
ErrCode bench_time(double *seconds, BenchRig *r, BenchBody *body, int n, Err *err) ERR_CHECK;

/* The parts of one step at context n, for as long. */
ErrCode bench_parts(BenchParts *parts, BenchRig *r, int n, const SamplingParams *p,
                    Err *err) ERR_CHECK;

/* GB/s of reading all weights with each pattern; GFLOP/s of multiplying and adding. */
void bench_probe_read(const BenchRig *r, double gb_per_s[PROBE_READ_COUNT]);
double bench_probe_fma(const BenchRig *r);

/* Work of the bodies: bytes of keys and values of n_keys positions; operations of a prompt of n
 * tokens: all products but the head's for each token, the head's once, causal attention; bytes of
 * weights that bench_pack reads. */
double bench_cache_bytes(const BenchRig *r, int n_keys);
double bench_prompt_flop(const BenchRig *r, int n);
double bench_source_bytes(const BenchRig *r);

#endif
