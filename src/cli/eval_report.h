/* cli/eval_report.h: what `eval` prints.
 *
 * May include: common, eval. */
#ifndef LLORCH_CLI_EVAL_REPORT_H
#define LLORCH_CLI_EVAL_REPORT_H

#include "common/json.h"
#include "eval/divergence.h"
#include "eval/windows.h"

typedef struct {
    const char *name; /* as given */
    int32_t *ids;     /* [n_ids], owned by the command */
    size_t n_ids;
    size_t n_bytes; /* of the predicted tokens: all but the first */
} EvalText;

typedef struct {
    const WindowsPlan *plan; /* n_models: 2 when there is another model */
    const EvalText *text;
    bool bos;
    double seconds;
    Divergence divergence; /* with one model only nll[0] */
} EvalReport;

void eval_table(JsonBuf *out, const EvalReport *r);

/* One JSON object and a newline. */
void eval_json(JsonBuf *out, const EvalReport *r);

#endif
