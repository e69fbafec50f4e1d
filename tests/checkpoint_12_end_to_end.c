/* tests/checkpoint_12_end_to_end.c: text in, text out: tokenizer, prompt, cache, argmax, decoding.
 * With LLORCH_TEST_GPT2 or LLORCH_TEST_GPT2_MEDIUM naming a model directory, the values recorded
 * for the published models are checked as well. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "checkpoint/greedy.h"
#include "checkpoint/verify.h"
#include "sampling/argmax.h"

/* checkpoint_12.json */
typedef struct {
    json_t *json;
    const char *prompt, *text;
    int32_t ids[64], prompt_ids[256];
    int n_ids, n_prompt;
} Recorded;

static int read_ids(const json_t *array, int32_t *ids, size_t room)
{
    const size_t n = json_array_size(array);

    if (n == 0 || n > room)
        check_bail("checkpoint_12.json: %zu ids", n);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return (int)n;
}

static Recorded recorded(const CheckModel *m)
{
    Recorded r = {.json = NULL};
    Err err = {0};

    r.json = json_parse_file(m->greedy, 1 << 20, &err);
    if (r.json == NULL)
        check_bail("%s", err.msg);
    r.prompt = json_string_value(json_object_get(r.json, "prompt"));
    r.text = json_string_value(json_object_get(r.json, "text"));
    r.n_ids = read_ids(json_object_get(r.json, "ids"), r.ids, 64);
    r.n_prompt = read_ids(json_object_get(r.json, "prompt_ids"), r.prompt_ids, 256);
    if (r.prompt == NULL || r.text == NULL)
        check_bail("%s: no prompt or no text", m->greedy);
    return r;
}

/* Prompt to text through all parts; true when ids and text are the recorded ones. */
static bool whole_way(const CheckModel *m, const Kernels *isa, const Recorded *r, int32_t *ids)
{
    const int32_t *prompt;
    JsonBuf text = {0};
    Arena room = {0};
    Err err = {0};
    int n_prompt = 0;
    bool same;

    if (greedy_encode(m->tokenizer, r->prompt, strlen(r->prompt), &room, &prompt, &n_prompt,
                      &err) != ERR_OK ||
        greedy_continue(&m->model, isa, prompt, n_prompt, ids, r->n_ids, &err) != ERR_OK ||
        greedy_text(m->tokenizer, ids, r->n_ids, &text, &err) != ERR_OK)
        check_bail("%s: %s", m->name, err.msg);
    same = n_prompt == r->n_prompt &&
           memcmp(prompt, r->prompt_ids, (size_t)n_prompt * sizeof *prompt) == 0 &&
           memcmp(ids, r->ids, (size_t)r->n_ids * sizeof *ids) == 0 &&
           text.len == strlen(r->text) && memcmp(text.data, r->text, text.len) == 0;
    json_buf_free(&text);
    arena_free(&room);
    return same;
}

static void on_references(const CheckModel *m, const Recorded *r)
{
    int32_t first[64], again[64];

    for (const Kernels *isa = check_first_isa(); isa != NULL; isa = check_next_isa(isa)) {
        bool same = true;

        CHECK(whole_way(m, isa, r, first), "%s %s: %d ids and the text, exactly", m->name,
              isa->name, r->n_ids);
        for (int i = 0; i < 2; i++) {
            (void)whole_way(m, isa, r, again);
            same = same && memcmp(again, first, (size_t)r->n_ids * sizeof *first) == 0;
        }
        CHECK(same, "%s %s: three runs are equal", m->name, isa->name);
    }
}

/* The generation loop with one mistake. */
typedef enum { LOOP_RIGHT, LOOP_NO_CACHE, LOOP_SAME_POSITION, LOOP_FIRST_ROW, LOOP_REPEAT } Loop;

static bool loop_matches(const CheckModel *m, const Recorded *r, Loop kind)
{
    const int n_vocab = m->model.config.vocab_size;
    Gpt2Run *run = check_run(&m->model, check_first_isa(), r->n_prompt + r->n_ids);
    int32_t next = r->prompt_ids[0];
    Err err = {0};
    ErrCode code = gpt2_prefill(run, r->prompt_ids, kind == LOOP_FIRST_ROW ? 1 : r->n_prompt,
                                r->n_prompt, NULL, &err);

    for (int i = 0; code == ERR_OK && i < r->n_ids; i++) {
        int id = -1;

        code = sampling_argmax(&id, run->logits, n_vocab, &err);
        if (code == ERR_OK && id != r->ids[i])
            return false;
        next = kind == LOOP_REPEAT && i > 0 ? next : (int32_t)id;
        if (kind == LOOP_NO_CACHE)
            gpt2_reset(run);
        if (kind == LOOP_SAME_POSITION)
            kv_cache_truncate(&run->cache, r->n_prompt);
        if (code == ERR_OK)
            code = gpt2_forward(run, &next, 1, true, NULL, &err);
    }
    if (code != ERR_OK)
        check_bail("%s: %s", m->name, err.msg);
    return true;
}

static void mistakes(const CheckModel *m, const Recorded *r)
{
    CHECK(loop_matches(m, r, LOOP_RIGHT), "%s: the loop by hand", m->name);
    CHECK(!loop_matches(m, r, LOOP_NO_CACHE), "%s caught: cache dropped between steps", m->name);
    CHECK(!loop_matches(m, r, LOOP_SAME_POSITION), "%s caught: the position does not advance",
          m->name);
    CHECK(!loop_matches(m, r, LOOP_FIRST_ROW), "%s caught: row 0 instead of row T-1", m->name);
    CHECK(!loop_matches(m, r, LOOP_REPEAT), "%s caught: the first new token is fed again and again",
          m->name);
}

/* Limits of the loop itself. */
static void borders(const CheckModel *m)
{
    const int n_ctx = m->model.config.n_ctx, n = n_ctx - m->n_ids + 1;
    int32_t *ids = calloc((size_t)n_ctx + 1, sizeof *ids);
    Err err = {0};

    if (ids == NULL)
        check_bail("out of memory");
    CHECK(greedy_continue(&m->model, check_first_isa(), m->ids, m->n_ids, ids, n, &err) == ERR_OK,
          "%s: generates until the context is full", m->name);
    CHECK(greedy_continue(&m->model, check_first_isa(), m->ids, m->n_ids, ids, n + 1, &err) ==
              ERR_LIMIT,
          "%s: refuses one token more", m->name);
    CHECK(greedy_continue(&m->model, check_first_isa(), m->ids, 0, ids, 1, &err) == ERR_USAGE,
          "%s: refuses an empty prompt", m->name);
    free(ids);
}

/* `verify --expect` with real weights. Own checks are cases too: the table says what they are. */
static void published(const char *variable, const char *name)
{
    const char *dir = getenv(variable);
    const VerifyOptions options = {.expect = name};
    VerifyResult result = {.first_fault = -1};
    const Kernels *k = NULL;
    Tokenizer *tokenizer = NULL;
    Gpt2 model = {.n_params = 0};
    Err err = {0};

    if (dir == NULL || dir[0] == '\0') {
        check_skip("weights not given", "%s: recorded values (%s)", name, variable);
        return;
    }
    if (kernels_select(&k, NULL, &err) != ERR_OK || gpt2_load(&model, dir, NULL, &err) != ERR_OK ||
        tokenizer_load(&tokenizer, model.path, &err) != ERR_OK ||
        verify_run(&result, &model, tokenizer, k, &options, NULL, &err) != ERR_OK)
        check_true(false, "%s: %s", name, err.msg);
    for (int i = 0; i < result.table.n_rows; i++)
        if (result.table.rows[i].verdict != VERDICT_NOT_VALIDATED)
            CHECK(result.table.rows[i].verdict == VERDICT_PASS, "%s: checkpoint %d: %s (%.3g, %s)",
                  name, result.table.rows[i].checkpoint, result.table.rows[i].name,
                  result.table.rows[i].figures.worst, result.table.rows[i].note);
    verify_result_free(&result);
    tokenizer_free(tokenizer);
    gpt2_free(&model);
}

int main(void)
{
    for (int i = 0; check_model(i) != NULL; i++) {
        const Recorded r = recorded(check_model(i));

        on_references(check_model(i), &r);
        mistakes(check_model(i), &r);
        borders(check_model(i));
        json_decref(r.json);
    }
    published("LLORCH_TEST_GPT2", "gpt2");
    published("LLORCH_TEST_GPT2_MEDIUM", "gpt2-medium");
    return check_report();
}
