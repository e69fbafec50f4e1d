/* tests/fuzz/fuzz_npy.c: a NumPy file from memory. */
#include "fuzz.h"

#include "formats/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Npy npy = {.data = NULL};
    size_t n = 1;
    Err err = {ERR_OK, ""};
    const ErrCode code = npy_parse(&npy, data, size, "fuzz.npy", &err);

    if (code != ERR_OK) {
        fuzz_check_refusal(code, &err);
        FUZZ_CHECK(npy.data == NULL && npy.memory.base == NULL);
        return 0;
    }
    FUZZ_CHECK(npy.n_dims >= 0 && npy.n_dims <= NPY_MAX_DIMS);
    for (int i = 0; i < npy.n_dims; i++)
        n *= npy.dims[i];
    FUZZ_CHECK(n == npy.n && n <= size / (npy.rounded ? 8 : 4));
    FUZZ_CHECK((npy.data == NULL) == (n == 0));
    /* float32 comes out as it lies in the file, which ends with it. */
    if (!npy.rounded && n > 0)
        FUZZ_CHECK(memcmp(npy.data, data + size - 4 * n, 4 * n) == 0);
    else
        fuzz_touch(npy.data, n * sizeof(float));
    npy_close(&npy);
    return 0;
}
