/* cli/verify_determinism.c: see verify_determinism.h.
 *
 * May include: common, checkpoint, kernels, model, report. */
#include "cli/verify_determinism.h"

#include <string.h>

#include "checkpoint/determinism.h"
#include "checkpoint/greedy.h"
#include "cli/cli.h"
#include "cli/model_copies.h"
#include "common/arena.h"
#include "common/json.h"
#include "common/text.h"
#include "report/terminal.h"

enum { SHOWN_BYTES = 4 * GPT2_NAME_BYTES };

/* What is computed. */
typedef struct {
    const int32_t *ids;
    int32_t generated[DETERMINISM_IDS];
    Arena room;
} Sequence;

static bool show_progress(void *ctx, double fraction)
{
    CliLoaded *l = ctx;

    cli_progress(&l->progress, fraction);
    return !cli_interrupted();
}

static int at_most(int n, int limit)
{
    return n < limit ? n : limit;
}

/* For a model without a tokenizer: the sequence of docs/numerics.md, section 9. */
static void generate_ids(Sequence *s, int vocab, DeterminismOptions *o)
{
    uint32_t x = 12345;

    for (int i = 0; i < DETERMINISM_IDS; i++) {
        x = x * 1664525u + 1013904223u;
        s->generated[i] = (int32_t)(x >> 8) % vocab;
    }
    o->ids = s->generated;
    o->n_ids = DETERMINISM_IDS;
}

static ErrCode make_sequence(Sequence *s, const CliLoaded *l, const VerifyDeterminism *a,
                             DeterminismOptions *o, Err *err)
{
    const char *text = DETERMINISM_PROMPT;
    ErrCode code = ERR_OK;

    if (a->ids != NULL) {
        o->ids = a->ids;
        o->n_ids = a->n_ids;
        return ERR_OK;
    }
    if (l->tokenizer == NULL) {
        generate_ids(s, l->model.config.vocab_size, o);
    } else {
        code = greedy_encode(l->tokenizer, text, strlen(text), &s->room, &s->ids, &o->n_ids, err);
        o->ids = s->ids;
    }
    o->n_ids = at_most(o->n_ids, at_most(DETERMINISM_IDS, l->model.config.n_ctx));
    return code;
}

/* The chosen table first: it does most of the work. */
static void list_tables(const Kernels *chosen, DeterminismOptions *o)
{
    const Kernels *k;

    o->tables[o->n_tables++] = chosen;
    for (int i = 0; (k = kernels_available(i)) != NULL && o->n_tables < DETERMINISM_MAX_TABLES; i++)
        if (k != chosen)
            o->tables[o->n_tables++] = k;
}

static void add_string(JsonBuf *out, const char *key, const char *text)
{
    json_buf_printf(out, "\"%s\":", key);
    json_buf_string(out, text, strlen(text));
    json_buf_printf(out, ",");
}

static const char *prompt_name(const CliLoaded *l, const VerifyDeterminism *a)
{
    if (a->ids != NULL)
        return "the given prompt";
    return l->tokenizer == NULL ? "generated ids" : "the standard prompt";
}

static int print(const CliLoaded *l, const VerifyDeterminism *a, const DeterminismResult *r)
{
    char name[SHOWN_BYTES];
    JsonBuf out = {0};
    int status;

    if (a->json) {
        json_buf_printf(&out, "{");
        add_string(&out, "model", l->model.name);
        add_string(&out, "types", l->model.types);
        add_string(&out, "prompt", prompt_name(l, a));
        json_buf_printf(&out, "\"determinism\":");
        determinism_json(r, &out);
        json_buf_printf(&out, "}\n");
    } else {
        (void)text_escape(name, sizeof name, l->model.name, strlen(l->model.name));
        json_buf_printf(&out, "%s, weights %s; %d tokens of %s\n\n", name, l->model.types, r->n_ids,
                        prompt_name(l, a));
        determinism_format(r, &out, term_wants_colour());
    }
    if (out.oom) {
        Err err = {0};

        (void)err_set(&err, ERR_MEMORY, "out of memory");
        status = cli_fail(&err);
    } else {
        status = cli_print(out.data);
    }
    json_buf_free(&out);
    return status == CLI_EXIT_OK && !determinism_holds(r) ? CLI_EXIT_FAILURE : status;
}

int verify_determinism(CliLoaded *l, const VerifyDeterminism *a)
{
    const Gpt2Progress progress = {show_progress, l};
    ModelCopies copies = {.model = &l->model, .tokenizer = l->tokenizer, .progress = progress};
    DeterminismOptions o = {.runs = a->runs, .seed = a->seed};
    DeterminismResult result;
    Sequence sequence = {.ids = NULL};
    Err err = {0};
    int status;
    ErrCode code = make_sequence(&sequence, l, a, &o, &err);

    cli_catch_interrupt();
    if (code == ERR_OK)
        code = model_copies_list(&copies, &o, &err);
    if (code == ERR_OK) {
        list_tables(l->k, &o);
        cli_progress_start(&l->progress, "computing in all ways");
        code = determinism_run(&result, &l->model, &o, &progress, &err);
        cli_progress_clear(&l->progress);
    }
    model_copies_free(&copies);
    arena_free(&sequence.room);
    if (code == ERR_CANCELLED && cli_interrupted())
        return cli_interrupt_status();
    status = code == ERR_OK ? print(l, a, &result) : cli_fail(&err);
    return status;
}
