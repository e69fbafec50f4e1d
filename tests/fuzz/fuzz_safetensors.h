/* tests/fuzz/fuzz_safetensors.h: what must hold of any accepted safetensors file or index. */
#ifndef LLORCH_TESTS_FUZZ_SAFETENSORS_H
#define LLORCH_TESTS_FUZZ_SAFETENSORS_H

#include "fuzz.h"

#include "formats/safetensors.h"

/* Each tensor is sorted, found by name, of the size that its shape says, and readable. Returns the
 * sum of all sizes. */
static inline size_t fuzz_check_tensors(const Safetensors *st)
{
    size_t n, total = 0;
    const StTensor *t = safetensors_tensors(st, &n);

    for (size_t i = 0; i < n; i++) {
        unsigned bits = 0;
        size_t n_bits = 1;

        FUZZ_CHECK(i == 0 || strcmp(t[i - 1].name, t[i].name) < 0);
        FUZZ_CHECK(safetensors_find(st, t[i].name) == &t[i]);
        FUZZ_CHECK(safetensors_dtype_bits(t[i].dtype_name, &bits));
        FUZZ_CHECK(t[i].n_dims >= 0 && t[i].n_dims <= ST_MAX_DIMS);
        for (int k = 0; k < t[i].n_dims; k++)
            n_bits *= t[i].dims[k];
        FUZZ_CHECK(t[i].n_bytes * 8 == n_bits * bits);
        fuzz_touch(t[i].data, t[i].n_bytes);
        total += t[i].n_bytes;
    }
    return total;
}

#endif
