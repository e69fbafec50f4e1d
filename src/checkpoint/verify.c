/* checkpoint/verify.c: one function a checkpoint, in order; the first row that fails is the one to
 * look at.
 *
 * May include: common, model, kernels, tokenizer. */
#include "checkpoint/verify.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/expect.h"
#include "checkpoint/greedy.h"
#include "checkpoint/verify_parts.h"
#include "common/model_name.h"
#include "common/text.h"

enum {
    ROWS_FIXED = 128, /* more than all rows that do not depend on the number of blocks */
    MAX_PARTS = 8
};

typedef ErrCode Part(Verify *v, Err *err);

bool verify_progress(const Verify *v, double fraction)
{
    return v->progress == NULL || v->progress->progress == NULL ||
           v->progress->progress(v->progress->ctx, v->done + fraction * v->share);
}

/* The caller's prompt or the reference's, else VERIFY_PROMPT, else (no tokenizer) the first token
 * of the vocabulary. */
static ErrCode choose_prompt(Verify *v, const VerifyOptions *options, const int32_t **ids,
                             int *n_ids, Err *err)
{
    static const int32_t first_id = 0;
    ErrCode code = ERR_OK;

    *ids = options->ids != NULL ? options->ids : v->reference.ids;
    *n_ids = options->ids != NULL ? options->n_ids : v->reference.n_ids;
    if (*n_ids == 0 && v->tokenizer != NULL) {
        code = greedy_encode(v->tokenizer, VERIFY_PROMPT, strlen(VERIFY_PROMPT), &v->prompt, ids,
                             n_ids, err);
        if (*n_ids > v->m->config.n_ctx)
            *n_ids = v->m->config.n_ctx;
    }
    if (code == ERR_OK && *n_ids == 0) {
        *ids = &first_id;
        *n_ids = 1;
    }
    return code;
}

static ErrCode expected_rows(Verify *v, const VerifyOptions *options, Err *err)
{
    return options->expect == NULL
               ? ERR_OK
               : expect_run(v->t, options->expect, v->m, v->tokenizer, v->k, err);
}

/* The parts in order, each with the rows it adds. expect comes last, when it was asked for. */
static ErrCode run_rows(Verify *v, const VerifyOptions *options, Err *err)
{
    static Part *const folder[MAX_PARTS] = {verify_tensors_1_and_2,
                                            verify_cache,
                                            verify_tensors_3_to_8,
                                            verify_choice,
                                            verify_probabilities,
                                            verify_end_to_end,
                                            NULL};
    static Part *const self[MAX_PARTS] = {verify_self,          verify_cache,      verify_choice,
                                          verify_probabilities, verify_end_to_end, NULL};
    Part *const *parts = v->self ? self : folder;
    const int32_t *ids;
    int n_ids;
    ErrCode code = choose_prompt(v, options, &ids, &n_ids, err);

    v->share = 1.0 / (double)MAX_PARTS;
    if (code == ERR_OK)
        code = (v->self || options->keep_all ? capture_run_all : capture_run)(
            &v->capture, v->m, v->k, ids, n_ids, 1, NULL, err);
    for (; code == ERR_OK && *parts != NULL; parts++) {
        code = (*parts)(v, err);
        v->done += v->share;
        if (code == ERR_OK && !verify_progress(v, 0.0))
            code = err_set(err, ERR_CANCELLED, "cancelled");
        if (!v->capture.finite) /* nothing can be chosen from it; the rows so far say where */
            break;
    }
    return code == ERR_OK && v->capture.finite ? expected_rows(v, options, err) : code;
}

/* Which reference it is. The model's own folder counts when it has a prompt to compare with. */
static ErrCode open_reference(Verify *v, VerifyResult *r, const VerifyOptions *options, Err *err)
{
    const bool asked = options->reference != NULL;
    char dir[sizeof v->m->path];
    ErrCode code = ERR_OK;

    r->self =
        (asked && strcmp(options->reference, VERIFY_SELF) == 0) || (!asked && options->ids != NULL);
    if (!r->self) {
        model_dir_of(dir, sizeof dir, v->m->path);
        code = reference_open(&v->reference, &v->m->config, dir, options->reference, err);
    }
    if (code == ERR_OK && !r->self && !asked && v->reference.n_folders == 0 &&
        !v->reference.promptless)
        r->self = r->fallback = true;
    v->self = r->self;
    return code;
}

/* What the result says about its reference, in words. */
static void describe(VerifyResult *r, const Verify *v)
{
    char folder[VERIFY_TEXT_BYTES - 64];
    const char *first = v->reference.folders[0];

    if (r->self) {
        (void)snprintf(r->reference, sizeof r->reference,
                       "double precision, weights from the model's file%s%s",
                       v->m->packed != NULL ? " (packed: read back from its panels)" : "",
                       r->fallback ? "; there is no reference folder" : "");
        return;
    }
    text_escape(folder, sizeof folder, first, strlen(first));
    if (v->reference.n_folders == 0)
        (void)snprintf(r->reference, sizeof r->reference, "a folder that names no prompt");
    else
        (void)snprintf(r->reference, sizeof r->reference, "tensors in %s%s", folder,
                       v->reference.n_folders > 1 ? " and its parent" : "");
}

/* Layers whose output was compared, once each: block 0 has two rows in a reference folder. */
static ErrCode measure_growth(VerifyResult *r, Err *err)
{
    const size_t n_layers = (size_t)r->capture.model->config.n_layers;
    const ErrCode code =
        arena_init(&r->arena, n_layers * sizeof(VerifyGrowth), "growth of the error", err);
    VerifyGrowth *growth = code == ERR_OK ? arena_alloc(&r->arena, n_layers, sizeof *growth) : NULL;

    r->growth = growth;
    for (int i = 0; growth != NULL && i < r->table.n_rows; i++) {
        const VerdictRow *row = &r->table.rows[i];
        const VerifyGrowth *last = r->n_growth > 0 ? &growth[r->n_growth - 1] : NULL;

        if (row->stage != TAP_BLOCK || !row->measured ||
            (last != NULL && last->layer >= row->layer))
            continue;
        growth[r->n_growth++] = (VerifyGrowth){
            .layer = row->layer,
            .max_abs = row->figures.max_abs,
            .rms = row->figures.rms,
            .factor = last != NULL && last->layer == row->layer - 1 && last->rms > 0.0
                          ? row->figures.rms / last->rms
                          : (double)NAN};
    }
    return code;
}

ErrCode verify_run(VerifyResult *r, const Gpt2 *m, const Tokenizer *tokenizer, const Kernels *k,
                   const VerifyOptions *options, const Gpt2Progress *progress, Err *err)
{
    Verify v = {.m = m, .tokenizer = tokenizer, .k = k, .progress = progress};
    VerifyResult made = {.first_fault = -1};
    ErrCode code = ERR_OK;

    v.t = &made.table;
    /* Before anything is computed: a wrong --expect is found at once. */
    if (options->expect != NULL)
        code = expect_check(options->expect, &m->config, tokenizer, err);
    if (code == ERR_OK)
        code = open_reference(&v, &made, options, err);
    if (code == ERR_OK)
        code = verdict_init(&made.table, ROWS_FIXED + verify_self_rows(m->config.n_layers), err);
    if (code == ERR_OK)
        code = run_rows(&v, options, err);
    made.capture = v.capture;
    if (code == ERR_OK)
        code = measure_growth(&made, err);
    if (code == ERR_OK && made.self)
        verify_find_fault(&made);
    describe(&made, &v);
    reference_close(&v.reference);
    arena_free(&v.prompt);
    arena_free(&v.self_arena);
    if (code != ERR_OK) {
        verify_result_free(&made);
        return code;
    }
    verdict_settle(&made.table);
    *r = made;
    return ERR_OK;
}

void verify_result_free(VerifyResult *r)
{
    verdict_free(&r->table);
    capture_free(&r->capture);
    arena_free(&r->arena);
    *r = (VerifyResult){.first_fault = -1};
}

Verdict verify_verdict(const VerifyResult *r)
{
    if (verdict_count(&r->table, VERDICT_FAIL) > 0)
        return VERDICT_FAIL;
    return verdict_count(&r->table, VERDICT_PASS) > 0 ? VERDICT_PASS : VERDICT_NOT_VALIDATED;
}
