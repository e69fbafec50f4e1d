/* tests/fuzz/fuzz.h: what the fuzz targets share. A target is one file, fuzz_NAME.c, with the
 * function below; it is linked with libFuzzer (make fuzz) and with replay.c (make fuzz-check).
 *
 * A target frees all that it gets, keeps nothing from one input to the next, and checks what must
 * hold of an input that is accepted as well: not only that nothing crashes. */
#ifndef LLORCH_TESTS_FUZZ_H
#define LLORCH_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/error.h"

/* libFuzzer's name. Always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the program, which is a finding, unless this holds. */
#define FUZZ_CHECK(holds)                                                                          \
    do {                                                                                           \
        if (!(holds)) {                                                                            \
            (void)fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #holds);       \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* What every refusal has: a code, and one line of at most 512 bytes without control characters. */
static inline void fuzz_check_refusal(ErrCode code, const Err *err)
{
    const size_t n = strnlen(err->msg, sizeof err->msg);

    FUZZ_CHECK(code != ERR_OK && code != ERR_INTERNAL && err->code == code);
    FUZZ_CHECK(n > 0 && n < sizeof err->msg);
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK((unsigned char)err->msg[i] >= ' ' && err->msg[i] != 0x7f);
}

/* Reads n bytes, so that a sanitizer sees each of them. */
static inline void fuzz_touch(const void *data, size_t n)
{
    const unsigned char *p = data;
    volatile unsigned char sum = 0;

    for (size_t i = 0; i < n; i++)
        sum = (unsigned char)(sum + p[i]);
}

#endif
