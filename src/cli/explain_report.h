/* cli/explain_report.h: what `explain` prints.
 *
 * May include: common, eval, tokenizer. */
#ifndef LLORCH_CLI_EXPLAIN_REPORT_H
#define LLORCH_CLI_EXPLAIN_REPORT_H

#include "common/json.h"
#include "eval/candidates.h"
#include "tokenizer/tokenizer.h"

typedef struct {
    const CandidatesOptions *options;
    const Tokenizer *tokenizer;
    const Candidates *found;
} ExplainReport; /* all borrowed */

/* Tables for a person, as wide as the terminal, in colour where it is wanted. */
void explain_table(JsonBuf *out, const ExplainReport *r);

/* One JSON object and a newline. */
void explain_json(JsonBuf *out, const ExplainReport *r);

#endif
