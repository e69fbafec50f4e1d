/* backend/cpu_backend.h: a GPT-2 model on this processor, behind the interface of backend.h.
 *
 * May include: common, kernels. */
#ifndef LLORCH_BACKEND_CPU_BACKEND_H
#define LLORCH_BACKEND_CPU_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "common/error.h"
#include "kernels/matrix.h"

/* Prompt tokens of one step: enough to use each weight many times, short enough to stop soon. */
enum { CPU_BACKEND_CHUNK = 96 };

/* Zero and NULL stand for the default. */
typedef struct {
    const char *model_path; /* what gpt2_load takes; no default */
    const char *model_name; /* base name of the directory, stem of the file */
    int max_context;        /* the model's */
    int enough_context;     /* positions that no job exceeds: room for more is not made */
    const char *isa;        /* the best this machine has */
    bool has_type;          /* type says how the weights are held; otherwise as in the file */
    KernType type;
    KernType kv_type;                             /* of the KV cache: KERN_F32 or KERN_F16 */
    bool no_prefix_cache;                         /* compute every prompt from its first token */
    bool (*progress)(void *ctx, double fraction); /* false: stop the load with ERR_CANCELLED */
    void *progress_ctx;
} CpuBackendOptions;

/* Loads model and tokenizer and allocates every buffer a job needs.
 *
 * The tokenizer may know fewer ids than the model has rows (vocabularies are padded to round
 * sizes): the rows beyond are no candidates for a token, as if they were not there, and no prompt
 * id. A tokenizer that knows more is refused.
 *
 * Errors  those of gpt2_load and tokenizer_load; ERR_USAGE (max_context, isa); ERR_FORMAT
 * (vocabularies). Memory  *out is the caller's: (*out)->ops->free. Nothing is allocated after this,
 * nothing stays after an error. */
ErrCode cpu_backend_load(Backend **out, const CpuBackendOptions *o, Err *err) ERR_CHECK;

/* The prompt of the job started last, as token ids: [*n], valid until the next start. */
const int32_t *cpu_backend_prompt_ids(const Backend *b, size_t *n);

#endif
