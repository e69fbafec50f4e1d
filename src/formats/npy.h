/* formats/npy.h: NumPy .npy files: read into memory, and write.
 *
 * May include: common. */
#ifndef LLORCH_FORMATS_NPY_H
#define LLORCH_FORMATS_NPY_H

#include <stdbool.h>
#include <stddef.h>

#include "common/arena.h"
#include "common/error.h"

enum { NPY_MAX_DIMS = 8, NPY_MAX_HEADER_BYTES = 65536 };

typedef struct {
    float *data; /* in memory, C order, float32, n values (float64 files are rounded to float32);
                    NULL when n is 0 */
    size_t n;
    int n_dims; /* 0 for a scalar, which has n = 1 */
    size_t dims[NPY_MAX_DIMS];
    bool rounded; /* the file holds float64 */
    Arena memory; /* owned */
} Npy;

/* Reads versions 1 to 3 with descr '<f4' or '<f8', fortran_order False (True is refused with a
 * message). Messages: "<path>: <problem>". Close with npy_close. NaN and infinity are read as they
 * are. Errors: ERR_IO, ERR_FORMAT, ERR_UNSUPPORTED (other descr, Fortran order), ERR_LIMIT,
 * ERR_MEMORY. */
ErrCode npy_open(Npy *npy, const char *path, Err *err) ERR_CHECK;

/* The same over memory; what names it in messages. data stays the caller's. */
ErrCode npy_parse(Npy *npy, const unsigned char *data, size_t size, const char *what,
                  Err *err) ERR_CHECK;

/* A zeroed Npy is allowed. */
void npy_close(Npy *npy);

/* Writes version 1.0, '<f4', C order, data 64-byte aligned, through a temporary name and rename: no
 * half file stays. */
ErrCode npy_write(const char *path, const float *data, int n_dims, const size_t *dims,
                  Err *err) ERR_CHECK;

/* The same for a matrix [n_rows, n_cols] that is not in memory as such (packed weights): row(ctx,
 * i, out) makes row i, for i = 0, 1, 2, ... room: n_cols floats. */
typedef void (*NpyRow)(void *ctx, size_t i, float *out);
ErrCode npy_write_rows(const char *path, size_t n_rows, size_t n_cols, NpyRow row, void *ctx,
                       float *room, Err *err) ERR_CHECK;

#endif
