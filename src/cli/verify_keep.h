/* cli/verify_keep.h: `verify --save` and `verify --compare`: a result is kept, or held against one
 * that was.
 *
 * May include: common, checkpoint, model. */
#ifndef LLORCH_CLI_VERIFY_KEEP_H
#define LLORCH_CLI_VERIFY_KEEP_H

#include <stdint.h>

#include "checkpoint/verify.h"
#include "checkpoint/verify_baseline.h"
#include "common/error.h"
#include "model/gpt2.h"

typedef struct {
    const char *save, *compare; /* files, or NULL */
    double max_growth;
    uint64_t weights;          /* hash of the model's */
    VerifyBaseline baseline;   /* with compare */
    VerifyComparison compared; /* filled in by verify_keep_compare */
} VerifyKeep;

/* Before anything is computed: reads the baseline and checks that it is of this model. Errors:
 * those of verify_baseline_read, verify_baseline_check and model_hash_weights. */
ErrCode verify_keep_begin(VerifyKeep *keep, Gpt2 *m, Err *err) ERR_CHECK;

/* Once there is a result. Errors: those of verify_baseline_compare. */
ErrCode verify_keep_compare(VerifyKeep *keep, const VerifyResult *r, Err *err) ERR_CHECK;

/* Writes the baseline, if asked to. Errors: ERR_IO, ERR_MEMORY. */
ErrCode verify_keep_save(const VerifyKeep *keep, const VerifyResult *r, const VerifyMeta *meta,
                         Err *err) ERR_CHECK;

void verify_keep_free(VerifyKeep *keep); /* a zeroed one is allowed */

#endif
