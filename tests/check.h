/* tests/check.h: what the checkpoint tests share: TAP output, the two models with their reference
 * tensors, comparison at a checkpoint's tolerance.
 *
 * Run from the root of the repository. The names of cases are printf formats. */
#ifndef LLORCH_TESTS_CHECK_H
#define LLORCH_TESTS_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/kv_cache.h"
#include "checkpoint/compare.h"
#include "checkpoint/tolerance.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"
#include "layers/linear.h"
#include "model/gpt2.h"
#include "tokenizer/tokenizer.h"

/* Shapes of the largest things a test needs from one of the two models. */
typedef struct {
    const char *name; /* "tiny-gpt2", "shakespeare" */
    const char *dir;
    const char *reference; /* folder of the named tensors */
    const char *greedy;    /* checkpoint_12.json */
    Gpt2 model;
    Tokenizer *tokenizer;
    const int32_t *ids; /* the reference's prompt */
    int n_ids;
} CheckModel;

typedef struct {
    const float *data;
    size_t n;
    CompareView view;
    int rows; /* first dimension */
} CheckRef;

/* Model i; NULL past the last. They are part of the repository, so a test ends at once without
 * them. */
const CheckModel *check_model(int i);

/* A reference tensor of that model. */
const CheckRef *check_ref(const CheckModel *m, const char *name);

/* The kernel tables of this machine, the scalar one first. */
const Kernels *check_first_isa(void);
const Kernels *check_next_isa(const Kernels *k);

/* n floats, zeroed, 64-byte aligned, with a guard behind them that check_report looks at. */
float *check_buffer(size_t n);
float *check_copy(const float *src, size_t n);

/* A linear layer packed from w: [n_in, n_out] row-major (KERN_IN_OUT) or [n_out, n_in]. */
Linear check_linear(const float *w, KernOrder order, const float *bias, int n_in, int n_out);

/* A linear layer's weights back as [n_in, n_out]. */
float *check_unpack(const Linear *l);

/* Scratch for a linear layer of this model with n_tokens rows. */
float *check_scratch(const CheckModel *m, int n_tokens);

/* A run of model m, all buffers for n_ctx positions; freed by check_report. */
Gpt2Run *check_run(const Gpt2 *m, const Kernels *k, int n_ctx);

/* An empty cache of the same kind. */
KvCache *check_cache(int n_layers, int n_heads, int head_dim, int n_ctx);

/* Ends the test program at once: something a test needs is missing. */
void check_bail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* One case. check_close prints the worst error, also when it passes: that is what one measures
 * faults against. check_not_close passes when the comparison does not: a deliberate mistake was
 * caught. */
void check_true(bool holds, const char *format, ...) __attribute__((format(printf, 2, 3)));
void check_close(const float *got, const float *want, size_t n, double tolerance,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));
void check_not_close(const float *got, const float *want, size_t n, double tolerance,
                     const char *format, ...) __attribute__((format(printf, 5, 6)));
void check_same_bits(const float *got, const float *want, size_t n, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void check_skip(const char *reason, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define CHECK(holds, ...) check_true(holds, __VA_ARGS__)
#define CHECK_CLOSE(got, want, n, tolerance, ...) check_close(got, want, n, tolerance, __VA_ARGS__)
#define CHECK_NOT_CLOSE(got, want, n, tolerance, ...)                                              \
    check_not_close(got, want, n, tolerance, __VA_ARGS__)
#define CHECK_SAME_BITS(got, want, n, ...) check_same_bits(got, want, n, __VA_ARGS__)

/* Prints the plan, frees everything; the exit status: 0 passed, 1 failed. */
int check_report(void);

#endif
