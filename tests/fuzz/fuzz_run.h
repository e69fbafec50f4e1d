/* tests/fuzz/fuzz_run.h: a model that was accepted is used: two passes with each table of kernels.
 * Its weights may be anything, so may its logits; what counts is that nothing outside is touched.
 */
#ifndef LLORCH_TESTS_FUZZ_RUN_H
#define LLORCH_TESTS_FUZZ_RUN_H

#include "fuzz.h"

#include "kernels/kernels.h"
#include "model/gpt2.h"

static inline void fuzz_run_with(const Gpt2 *m, const Kernels *k, KernType kv_type)
{
    const int n_ctx = m->config.n_ctx < 2 ? m->config.n_ctx : 2;
    const int32_t ids[2] = {m->config.vocab_size - 1, 0};
    Gpt2Run run;
    Err err = {ERR_OK, ""};

    FUZZ_CHECK(gpt2_run_init(&run, m, k, n_ctx, 2, kv_type, &err) == ERR_OK);
    for (int i = 0; i < n_ctx; i++) {
        const ErrCode code = gpt2_forward(&run, &ids[i], 1, true, NULL, &err);

        /* A key or value that an f16 cache cannot hold. */
        FUZZ_CHECK(code == ERR_OK || (code == ERR_NUMERIC && kv_type == KERN_F16));
        if (code != ERR_OK)
            break;
        fuzz_touch(run.logits, (size_t)m->config.vocab_size * sizeof(float));
    }
    gpt2_run_free(&run);
}

static inline void fuzz_run(const Gpt2 *m)
{
    const char *const tables[] = {"scalar", NULL};
    const Kernels *k = NULL;
    Err err = {ERR_OK, ""};

    for (size_t i = 0; i < 2; i++) {
        FUZZ_CHECK(kernels_select(&k, tables[i], &err) == ERR_OK);
        fuzz_run_with(m, k, i == 0 ? KERN_F32 : KERN_F16);
    }
}

#endif
