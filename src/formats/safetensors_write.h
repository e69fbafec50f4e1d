/* formats/safetensors_write.h: writes a .safetensors file: the header, known in advance, then the
 * data of the tensors in its order.
 *
 * Same calls, same bytes.
 *
 * May include: common. */
#ifndef LLORCH_FORMATS_SAFETENSORS_WRITE_H
#define LLORCH_FORMATS_SAFETENSORS_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/new_file.h"
#include "formats/safetensors.h"

/* Data starts at a multiple of this in the file. Within it tensors follow each other without a
 * hole, as the format demands: who wants each one aligned makes their sizes multiples. */
enum { ST_DATA_ALIGN = 64 };

/* A string of __metadata__; UTF-8. */
typedef struct {
    const char *key;
    const char *text; /* n bytes */
    size_t n;
} StNewText;

typedef struct {
    const char *name;  /* UTF-8 */
    const char *dtype; /* as the format has it: "F32", "U8" */
    int n_dims;        /* 0 to ST_MAX_DIMS */
    size_t dims[ST_MAX_DIMS];
} StNewTensor;

typedef struct {
    NewFile file;
    uint64_t n_left; /* bytes of data still to come */
    bool too_much;
} StWriter;

/* Starts path under a temporary name and writes the header; names and keys are unique. The lists
 * are not needed afterwards. Errors: ERR_IO, ERR_MEMORY, ERR_LIMIT (header above
 * ST_MAX_HEADER_BYTES), ERR_INTERNAL (unknown dtype, sizes that overflow, text that is no UTF-8); w
 * then needs no other call. */
ErrCode safetensors_writer_open(StWriter *w, const char *path, const StNewText *texts,
                                size_t n_texts, const StNewTensor *tensors, size_t n_tensors,
                                Err *err) ERR_CHECK;

/* Appends data[0..n), in the order of the list, in any number of pieces. False after a failure,
 * which safetensors_writer_finish reports: the rest need not be computed. */
bool safetensors_writer_data(StWriter *w, const void *data, size_t n);

/* Completes the file under its name; on any failure nothing stays and path is what it was before.
 * w is closed in any case. Errors: ERR_IO, ERR_INTERNAL (more or less data than the tensors have).
 */
ErrCode safetensors_writer_finish(StWriter *w, Err *err) ERR_CHECK;

/* Instead of safetensors_writer_finish: nothing stays. */
void safetensors_writer_discard(StWriter *w);

#endif
