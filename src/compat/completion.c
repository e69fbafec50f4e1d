/* compat/completion.c: see completion.h.
 *
 * May include: common, backend. */
#include "compat/completion.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"

void completion_begin(Completion *c, const CompletionRequest *request, const char *correlation_id)
{
    *c = (Completion){.request = *request, .created = clock_unix_sec()};
    snprintf(c->id, sizeof c->id, "cmpl-%.128s", correlation_id);
}

void completion_run(const Completion *c, BackendRequest *run)
{
    *run = c->request.run;
    completion_request_prompt(&c->request, c->prompt, run);
    /* Not of the prompt's number: a prompt gives what it would give alone. */
    run->sampling.seed += (uint64_t)c->choice;
}

/* "{..." up to the choices. */
static void write_head(const Completion *c, const Backend *b, JsonBuf *out)
{
    const BackendInfo *info = b->ops->info(b);

    json_buf_printf(
        out,
        "{\"id\":\"%s\",\"object\":\"text_completion\",\"created\":%" PRId64 ",\"model\":", c->id,
        c->created);
    json_buf_string(out, info->model_name, strlen(info->model_name));
    if (info->fingerprint != NULL)
        json_buf_printf(out, ",\"system_fingerprint\":\"fp_%s_%s\"", info->fingerprint,
                        LLORCH_VERSION);
    else
        json_buf_printf(out, ",\"system_fingerprint\":null");
    json_buf_printf(out, ",\"choices\":[");
}

static void write_usage(const Completion *c, JsonBuf *out)
{
    json_buf_printf(out,
                    ",\"usage\":{\"prompt_tokens\":%" PRId64 ",\"completion_tokens\":%" PRId64
                    ",\"total_tokens\":%" PRId64
                    ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRId64 "}}",
                    c->prompt_tokens, c->completion_tokens, c->prompt_tokens + c->completion_tokens,
                    c->cached_tokens);
}

/* Offsets count the prompt, whether it is echoed, and then counted token by token, or not. */
static void count_prompt(Completion *c, const Backend *b)
{
    BackendRequest run;

    completion_run(c, &run);
    if (run.prompt_ids != NULL)
        choice_count_ids(&c->now, b, run.prompt_ids, run.n_prompt_ids);
    else
        choice_count_text(&c->now, run.prompt);
}

void completion_add(Completion *c, const Backend *b, const BackendStep *step)
{
    const bool with_logprobs = c->request.logprobs >= 0;

    if (with_logprobs && !c->request.echo && !c->now.has_generated)
        count_prompt(c, b);
    choice_add(&c->now, b, step, with_logprobs);
}

static void write_choice(Completion *c, const Backend *b, Choice *choice)
{
    if (c->n_written == 0)
        write_head(c, b, &c->answer);
    else
        json_buf_add(&c->answer, ",", 1);
    choice_write(choice, c->n_written++, c->request.logprobs >= 0, &c->answer);
    choice_free(choice);
}

/* The best n of the prompt's choices, the best one first; equal ones in the order they were made.
 */
static void write_best(Completion *c, const Backend *b)
{
    bool taken[COMPLETION_MAX_CHOICES] = {false};

    for (int i = 0; i < c->request.n; i++) {
        int best = -1;

        for (int k = 0; k < c->request.best_of; k++)
            if (!taken[k] && (best < 0 || choice_mean_logprob(&c->kept[k]) >
                                              choice_mean_logprob(&c->kept[best])))
                best = k;
        taken[best] = true;
        write_choice(c, b, &c->kept[best]);
    }
    for (int k = 0; k < c->request.best_of; k++)
        choice_free(&c->kept[k]);
}

void completion_end_run(Completion *c, const Backend *b, const BackendStep *end)
{
    /* Evaluations ask for one token behind the text that they score, and drop it: it must be there,
     * whatever it is. */
    if (end->id >= 0)
        completion_add(c, b, end);
    c->now.reason = end->reason;
    c->completion_tokens += c->now.n_generated;
    if (c->choice == 0) {
        c->prompt_tokens += b->ops->n_prompt_tokens(b);
        c->cached_tokens += b->ops->n_cached_tokens(b);
    }
    if (c->request.stream)
        return;
    if (c->request.best_of == c->request.n) {
        write_choice(c, b, &c->now);
        return;
    }
    c->kept[c->choice] = c->now;
    c->now = (Choice){.n_chars = 0};
    if (c->choice == c->request.best_of - 1)
        write_best(c, b);
}

bool completion_next(Completion *c)
{
    choice_free(&c->now);
    if (++c->choice == c->request.best_of) {
        c->choice = 0;
        c->prompt++;
    }
    return c->prompt < c->request.n_prompts;
}

bool completion_has_chunk(const Completion *c, const BackendStep *step)
{
    const size_t n = choice_size(&c->now);

    return n > 0 && (step->kind == STEP_TOKEN || n >= COMPLETION_CHUNK_BYTES);
}

void completion_chunk(Completion *c, const Backend *b, JsonBuf *out)
{
    write_head(c, b, out);
    choice_write(&c->now, c->prompt, c->request.logprobs >= 0, out);
    json_buf_printf(out, c->request.include_usage ? "],\"usage\":null}" : "]}");
}

void completion_usage_chunk(const Completion *c, const Backend *b, JsonBuf *out)
{
    write_head(c, b, out);
    json_buf_add(out, "]", 1);
    write_usage(c, out);
    json_buf_add(out, "}", 1);
}

void completion_finish(Completion *c)
{
    json_buf_add(&c->answer, "]", 1);
    write_usage(c, &c->answer);
    json_buf_add(&c->answer, "}", 1);
}

bool completion_oom(const Completion *c)
{
    return c->answer.oom || choice_oom(&c->now);
}

bool completion_too_large(const Completion *c)
{
    size_t n = c->answer.len + choice_size(&c->now);

    for (int k = 0; k < c->choice; k++)
        n += choice_size(&c->kept[k]);
    return n > COMPLETION_MAX_ANSWER;
}

void completion_free(Completion *c)
{
    completion_request_free(&c->request);
    choice_free(&c->now);
    for (int k = 0; k < COMPLETION_MAX_CHOICES; k++)
        choice_free(&c->kept[k]);
    json_buf_free(&c->answer);
}
