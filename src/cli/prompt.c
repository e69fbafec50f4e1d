/* cli/prompt.c: see prompt.h.
 *
 * May include: common, checkpoint. */
#include "cli/prompt.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/greedy.h"

ErrCode cli_prompt_of_text(CliPrompt *p, const char *option, const char *said,
                           const char *ids_option, const CliLoaded *l, Err *err)
{
    p->text = said;
    p->n_text = strlen(said);
    if (strcmp(said, "-") == 0) {
        const ErrCode code = cli_read_stdin(&p->stdin_text, &p->n_text, GREEDY_MAX_TEXT_BYTES, err);

        if (code != ERR_OK)
            return code;
        p->text = p->stdin_text;
    }
    if (p->n_text == 0)
        return err_set(err, ERR_USAGE, "%s: prompt must not be empty", option);
    if (l->tokenizer == NULL)
        return err_set(err, ERR_USAGE, "%s: the model has no tokenizer; %s works", option,
                       ids_option);
    return greedy_encode(l->tokenizer, p->text, p->n_text, &p->encoded, &p->ids, &p->n_ids, err);
}

ErrCode cli_prompt_of_ids(CliPrompt *p, const char *option, const char *said, const CliLoaded *l,
                          Err *err)
{
    size_t n = 0;
    const ErrCode code = cli_parse_ids(option, said, l->model.config.vocab_size - 1,
                                       (size_t)l->model.config.n_ctx, &p->given_ids, &n, err);

    if (code == ERR_OK) {
        p->ids = p->given_ids;
        p->n_ids = (int)n;
        cli_prompt_decode(p, p->ids, p->n_ids, l);
    }
    return code;
}

void cli_prompt_decode(CliPrompt *p, const int32_t *ids, int n_ids, const CliLoaded *l)
{
    /* A padded vocabulary has ids that no tokenizer knows. */
    if (l->tokenizer == NULL ||
        greedy_text(l->tokenizer, ids, n_ids, &p->decoded, &(Err){0}) != ERR_OK)
        return;
    p->text = p->decoded.data;
    p->n_text = p->decoded.len;
}

void cli_prompt_free(CliPrompt *p)
{
    free(p->stdin_text);
    free(p->given_ids);
    arena_free(&p->encoded);
    json_buf_free(&p->decoded);
    *p = (CliPrompt){.text = NULL};
}
