/* cli/prompt.h: a prompt as text and as ids, whichever of them was given.
 *
 * May include: common, checkpoint. */
#ifndef LLORCH_CLI_PROMPT_H
#define LLORCH_CLI_PROMPT_H

#include <stddef.h>
#include <stdint.h>

#include "cli/loaded.h"
#include "common/arena.h"
#include "common/error.h"
#include "common/json.h"

typedef struct {
    char *stdin_text;   /* owned, or NULL */
    int32_t *given_ids; /* owned, or NULL */
    Arena encoded;
    JsonBuf decoded;
    const char *text; /* [n_text]; NULL: unknown */
    size_t n_text;
    const int32_t *ids; /* [n_ids] */
    int n_ids;
} CliPrompt;

/* The ids of what option (its name, for messages) said; "-" reads standard input, byte for byte.
 * ids_option: what to use when the model has no tokenizer. Errors: ERR_USAGE, ERR_IO, ERR_LIMIT,
 * ERR_MEMORY. */
ErrCode cli_prompt_of_text(CliPrompt *p, const char *option, const char *said,
                           const char *ids_option, const CliLoaded *l, Err *err) ERR_CHECK;

/* The ids "1,2,3" that option said, as many as the context holds at most. Errors: ERR_USAGE,
 * ERR_MEMORY. */
ErrCode cli_prompt_of_ids(CliPrompt *p, const char *option, const char *said, const CliLoaded *l,
                          Err *err) ERR_CHECK;

/* Fills in the text of ids, as far as the tokenizer knows them. */
void cli_prompt_decode(CliPrompt *p, const int32_t *ids, int n_ids, const CliLoaded *l);

void cli_prompt_free(CliPrompt *p); /* a zeroed one is allowed */

#endif
