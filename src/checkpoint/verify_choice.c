/* checkpoint/verify_choice.c: checkpoints 9 to 12: from the last row of logits to the text.
 *
 * May include: common, formats, model, kernels, sampling, tokenizer. */
#include "checkpoint/verify_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/greedy.h"
#include "checkpoint/tolerance.h"
#include "formats/npy.h"
#include "sampling/argmax.h"
#include "sampling/softmax.h"

enum {
    RUNS = 3, /* repetitions that must give the same bits */
    TOP = 5   /* most likely tokens that must be the same ones, checkpoint 11 */
};

/* ---- Checkpoints 9 to 11 ---- */

static CompareView last_row(const Verify *v)
{
    return compare_vector(capture_logits(&v->capture, v->capture.n_ids - 1),
                          (size_t)v->m->config.vocab_size);
}

/* The reference's logits of the last position: its checkpoint 9, else the last row of its
 * checkpoint 8. False, and the row says why, when there are none of the right size. *view points
 * into *npy. */
static bool reference_last_row(const Verify *v, VerdictRow *row, Npy *npy, CompareView *view)
{
    const size_t n_vocab = (size_t)v->m->config.vocab_size;
    char note[REFERENCE_NOTE_BYTES];

    if (v->self) {
        *view = compare_vector(v->self_logits, n_vocab);
        return true;
    }
    if (!verify_load_reference(v, row, "checkpoint_09_logits_last", npy)) {
        if (reference_tensor(&v->reference, "checkpoint_08_logits", npy, note) != REFERENCE_FOUND)
            return false;
        row->verdict = VERDICT_NOT_VALIDATED;
        row->note[0] = '\0';
    }
    if (npy->n_dims < 1 || npy->n < n_vocab || npy->dims[npy->n_dims - 1] != n_vocab) {
        const CompareView shape = reference_view(npy);
        char text[COMPARE_TEXT_BYTES];

        compare_shape(text, &shape);
        verdict_set_bool(row, false, "reference logits of shape %s, expected rows of %zu", text,
                         n_vocab);
        npy_close(npy);
        return false;
    }
    *view = compare_vector(npy->data + (npy->n - n_vocab), n_vocab);
    return true;
}

static void same_argmax(Verify *v, int checkpoint, const char *name)
{
    VerdictRow *row = verdict_add(v->t, checkpoint, TOL_EXACT, "%s", name);
    const int n_vocab = v->m->config.vocab_size;
    const CompareView ours = last_row(v);
    CompareView reference;
    Npy npy = {0};
    int a = 0, b = 0;
    Err err = {0};

    if (!reference_last_row(v, row, &npy, &reference))
        return;
    if (sampling_argmax(&a, ours.data, n_vocab, &err) != ERR_OK ||
        sampling_argmax(&b, reference.data, n_vocab, &err) != ERR_OK)
        verdict_set_bool(row, false, "%s", err.msg);
    else
        verdict_set_ids(row, &(int32_t){a}, 1, &(int32_t){b}, 1);
    if (v->self && a != b) {
        const double gap = (double)reference.data[b] - (double)reference.data[a];

        /* Both are right as far as the tolerance of the logits goes. */
        if (gap <= 2.0 * v->self_tolerance * fmax(1.0, fabs((double)reference.data[b]))) {
            row->verdict = VERDICT_NOT_VALIDATED;
            verdict_set_note(row, "the logits of %d and %d are %.2g apart", a, b, gap);
        }
    }
    npy_close(&npy);
}

/* What generation computes, RUNS times without an observer: the same bits as row T-1 of checkpoint
 * 8, and the same choice. */
static ErrCode production_rows(Verify *v, VerdictRow *bits, VerdictRow *choice, Err *err)
{
    const int n_ids = v->capture.n_ids, n_vocab = v->m->config.vocab_size;
    const int chunk = n_ids < GPT2_MAX_CHUNK ? n_ids : GPT2_MAX_CHUNK;
    const CompareView row = last_row(v);
    int32_t ids[RUNS], first[RUNS];
    Gpt2Run run = {0};
    ErrCode code = gpt2_run_init(&run, v->m, v->k, n_ids, chunk, KERN_F32, err);

    bits->verdict = VERDICT_PASS;
    for (int i = 0; code == ERR_OK && i < RUNS; i++) {
        int id = 0;

        gpt2_reset(&run);
        code = gpt2_prefill(&run, v->capture.ids, n_ids, chunk, NULL, err);
        if (code == ERR_OK)
            code = sampling_argmax(&id, run.logits, n_vocab, err);
        ids[i] = id;
        first[i] = ids[0];
        if (code == ERR_OK && bits->verdict == VERDICT_PASS) {
            const CompareView ours = compare_vector(run.logits, (size_t)n_vocab);

            verify_same_bits(bits, &ours, &row);
        }
    }
    if (code == ERR_OK)
        verdict_set_ids(choice, ids, RUNS, first, RUNS);
    gpt2_run_free(&run);
    return code;
}

static void greedy_row(Verify *v, int checkpoint, const Greedy *greedy, const char *file,
                       const int32_t *ids)
{
    VerdictRow *row = verdict_add(v->t, checkpoint, TOL_EXACT, "%s: greedy ids", file);

    if (greedy->n_ids == 0)
        verdict_set_note(row, "no %s", file);
    else
        verdict_set_ids(row, ids, greedy->n_ids, greedy->ids, greedy->n_ids);
}

static ErrCode new_ids(Arena *arena, int32_t **ids, int n, Err *err)
{
    const ErrCode code = arena_init(arena, (size_t)n * sizeof **ids, "generated tokens", err);

    if (code == ERR_OK)
        *ids = arena_alloc(arena, (size_t)n, sizeof **ids);
    return code;
}

/* Some folders also record the ids of checkpoint 10; without such a file there is no row. */
static ErrCode checkpoint_10_file(Verify *v, Err *err)
{
    const Greedy *g = &v->reference.greedy_10;
    Arena arena = {0};
    int32_t *ids = NULL;
    ErrCode code;

    if (g->n_ids == 0)
        return ERR_OK;
    code = new_ids(&arena, &ids, g->n_ids, err);
    if (code == ERR_OK)
        code = greedy_continue(v->m, v->k, g->prompt_ids, g->n_prompt, ids, g->n_ids, err);
    if (code == ERR_OK)
        greedy_row(v, 10, g, "checkpoint_10.json", ids);
    arena_free(&arena);
    return code;
}

ErrCode verify_choice(Verify *v, Err *err)
{
    VerdictRow *bits = verify_own_row(v, 9, "last row equals row T-1 of checkpoint 8");
    VerdictRow *choice;
    ErrCode code;

    if (!v->self)
        verify_tensor_row(v, 9, TOL_LOGITS, "checkpoint_09_logits_last");
    same_argmax(v, 9, "argmax of the last row");
    choice = verify_own_row(v, 10, "three runs choose the same token");
    same_argmax(v, 10, "argmax of the reference's logits");
    code = production_rows(v, bits, choice, err);
    return code == ERR_OK ? checkpoint_10_file(v, err) : code;
}

/* Indices of the TOP largest values, ties to the lower index. */
static void find_top(const float *p, size_t n, int32_t top[TOP])
{
    int n_top = 0;

    for (size_t i = 0; i < n; i++) {
        int at = n_top;

        while (at > 0 && p[i] > p[top[at - 1]])
            at--;
        if (at == TOP)
            continue;
        if (n_top < TOP)
            n_top++;
        memmove(top + at + 1, top + at, (size_t)(n_top - 1 - at) * sizeof *top);
        top[at] = (int32_t)i;
    }
}

/* In [0, 1], sum 1, and never the other way round than the logits. */
static void check_distribution(VerdictRow *row, const float *p, const float *logits, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++) {
        if (!(p[i] >= 0.0f && p[i] <= 1.0f)) {
            verdict_set_bool(row, false, "probability %zu is %g", i, (double)p[i]);
            return;
        }
        if (i > 0 && ((logits[i] > logits[i - 1] && p[i] < p[i - 1]) ||
                      (logits[i] < logits[i - 1] && p[i] > p[i - 1]))) {
            verdict_set_bool(row, false, "probabilities %zu and %zu are in the wrong order", i - 1,
                             i);
            return;
        }
        sum += (double)p[i];
    }
    verdict_set_bool(row, fabs(sum - 1.0) <= TOL_PROBS, "the sum is %.9f", sum);
}

static void same_top(VerdictRow *row, const CompareView *ours, const CompareView *reference)
{
    const size_t n = compare_count(ours);
    const int n_top = n < TOP ? (int)n : TOP;
    int32_t a[TOP], b[TOP];

    if (compare_count(reference) != n) {
        verdict_set_bool(row, false, "%zu probabilities, expected %zu", compare_count(reference),
                         n);
        return;
    }
    find_top(ours->data, n, a);
    find_top(reference->data, n, b);
    verdict_set_ids(row, a, n_top, b, n_top);
}

/* Softmax over the reference's own logits, so that only this step is measured. p: room for the
 * vocabulary. */
static void recorded_probabilities(Verify *v, float *p)
{
    const size_t n_vocab = (size_t)v->m->config.vocab_size;
    VerdictRow *row = verdict_add(v->t, 11, TOL_PROBS, "checkpoint_11_probs");
    VerdictRow *top = verdict_add(v->t, 11, TOL_EXACT, "five most likely tokens");
    Npy logits = {0}, file = {0};
    CompareView from = {0};

    if (verify_load_reference(v, row, "checkpoint_11_probs", &file) &&
        reference_last_row(v, row, &logits, &from)) {
        const CompareView ours = compare_vector(p, n_vocab), reference = reference_view(&file);
        Err bad = {0};

        if (sampling_check_finite(from.data, (int)n_vocab, &bad) != ERR_OK) {
            verdict_set_bool(row, false, "%s", bad.msg);
        } else {
            Comparison c;

            sampling_softmax(v->k, p, from.data, (int)n_vocab, (float)v->reference.temperature);
            c = compare_tensors(&ours, &reference, TOL_PROBS);
            verdict_set(row, &c, &ours, &reference);
            same_top(top, &ours, &reference);
        }
    }
    if (top->verdict == VERDICT_NOT_VALIDATED)
        verdict_set_note(top, "see checkpoint_11_probs");
    npy_close(&logits);
    npy_close(&file);
}

/* The same over our own logits, against softmax in double. p: room for the vocabulary. */
static void defined_probabilities(Verify *v, double *p)
{
    const size_t n_vocab = (size_t)v->m->config.vocab_size;
    VerdictRow *row = verdict_add(v->t, 11, TOL_PROBS, "checkpoint_11_probs");
    const CompareView ours = capture_find(&v->capture, "checkpoint_11_probs")->view;
    const CompareView logits = last_row(v);
    CompareView reference = ours;
    double max = (double)logits.data[0], sum = 0.0;
    Comparison c;

    for (size_t i = 1; i < n_vocab; i++)
        max = fmax(max, (double)logits.data[i]);
    for (size_t i = 0; i < n_vocab; i++)
        sum += p[i] = exp(((double)logits.data[i] - max) / (double)CAPTURE_TEMPERATURE);
    for (size_t i = 0; i < n_vocab; i++)
        p[i] /= sum;
    reference.data = NULL;
    reference.wide = p;
    c = compare_tensors(&ours, &reference, TOL_PROBS);
    verdict_set(row, &c, &ours, &reference);
}

ErrCode verify_probabilities(Verify *v, Err *err)
{
    const size_t n_vocab = (size_t)v->m->config.vocab_size;
    Arena arena = {0};
    const ErrCode code = arena_init(&arena, n_vocab * sizeof(double), "probabilities", err);
    VerdictRow *own;

    if (code != ERR_OK)
        return code;
    if (v->self)
        defined_probabilities(v, arena_alloc(&arena, n_vocab, sizeof(double)));
    else
        recorded_probabilities(v, arena_alloc(&arena, n_vocab, sizeof(float)));
    own = verdict_add(v->t, 11, TOL_PROBS, "sum 1, all in [0,1], order kept");
    own->own = true;
    check_distribution(own, capture_find(&v->capture, "checkpoint_11_probs")->view.data,
                       last_row(v).data, n_vocab);
    arena_free(&arena);
    return ERR_OK;
}

/* ---- Checkpoint 12 ---- */

static ErrCode prompt_row(Verify *v, const Greedy *g, Err *err)
{
    VerdictRow *row = verdict_add(v->t, 12, TOL_EXACT, "checkpoint_12.json: prompt ids");
    const int32_t *ids = NULL;
    Arena room = {0};
    int n_ids = 0;
    ErrCode code = ERR_OK;

    if (g->prompt == NULL)
        verdict_set_note(row, "no %s", g->n_ids > 0 ? "prompt in it" : "checkpoint_12.json");
    else if (v->tokenizer == NULL)
        verdict_set_note(row, "no tokenizer");
    else
        code = greedy_encode(v->tokenizer, g->prompt, g->n_prompt_bytes, &room, &ids, &n_ids, err);
    if (ids != NULL)
        verdict_set_ids(row, ids, n_ids, g->prompt_ids, g->n_prompt);
    arena_free(&room);
    return code;
}

static ErrCode text_row(Verify *v, const Greedy *g, const int32_t *ids, Err *err)
{
    VerdictRow *row = verdict_add(v->t, 12, TOL_EXACT, "checkpoint_12.json: text");
    JsonBuf text = {0};
    ErrCode code = ERR_OK;

    if (g->text == NULL)
        verdict_set_note(row, "no %s", g->n_ids > 0 ? "text in it" : "checkpoint_12.json");
    else if (v->tokenizer == NULL)
        verdict_set_note(row, "no tokenizer");
    else if ((code = greedy_text(v->tokenizer, ids, g->n_ids, &text, err)) == ERR_OK) {
        size_t at = 0;

        while (at < text.len && at < g->n_text && text.data[at] == g->text[at])
            at++;
        verdict_set_bool(row, at == text.len && at == g->n_text,
                         "the texts differ from byte %zu on (%zu and %zu bytes)", at, text.len,
                         g->n_text);
    }
    json_buf_free(&text);
    return code;
}

/* Without a recording, ten tokens after the prompt, or as many as fit. */
static Greedy continuation(const Verify *v)
{
    const int room = v->m->config.n_ctx - v->capture.n_ids + 1;
    Greedy g = v->reference.greedy_12;

    if (g.n_ids > 0)
        return g;
    return (Greedy){
        .prompt_ids = v->capture.ids, .n_prompt = v->capture.n_ids, .n_ids = room < 10 ? room : 10};
}

ErrCode verify_end_to_end(Verify *v, Err *err)
{
    const Greedy recorded = v->reference.greedy_12, g = continuation(v);
    VerdictRow *same = verify_own_row(v, 12, "three runs give the same ids");
    Arena arena = {0};
    int32_t *ids = NULL, *again;
    ErrCode code = new_ids(&arena, &ids, 2 * g.n_ids, err);

    if (code != ERR_OK)
        return code;
    again = ids + g.n_ids;
    code = greedy_continue(v->m, v->k, g.prompt_ids, g.n_prompt, ids, g.n_ids, err);
    for (int i = 1; code == ERR_OK && i < RUNS && same->verdict != VERDICT_FAIL; i++) {
        code = greedy_continue(v->m, v->k, g.prompt_ids, g.n_prompt, again, g.n_ids, err);
        if (code == ERR_OK)
            verdict_set_ids(same, again, g.n_ids, ids, g.n_ids);
    }
    if (code == ERR_OK && !v->self)
        code = prompt_row(v, &recorded, err);
    if (code == ERR_OK && !v->self) {
        greedy_row(v, 12, &recorded, "checkpoint_12.json", ids);
        code = text_row(v, &recorded, ids, err);
    }
    arena_free(&arena);
    return code;
}
