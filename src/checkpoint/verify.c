/* checkpoint/verify.c: one function a checkpoint, in order; the first row that fails is the one to
 * look at.
 *
 * May include: common, formats, model, cache, kernels, sampling, tokenizer. */
#include "checkpoint/verify.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cache/kv_cache.h"
#include "checkpoint/capture.h"
#include "checkpoint/dump.h"
#include "checkpoint/expect.h"
#include "checkpoint/greedy.h"
#include "checkpoint/reference.h"
#include "checkpoint/tolerance.h"
#include "common/model_name.h"
#include "sampling/argmax.h"
#include "sampling/softmax.h"

enum {
    ROWS_FIXED = 128, /* more than all rows that do not depend on the number of blocks */
    RUNS = 3,         /* repetitions that must give the same bits */
    TOP = 5,          /* most likely tokens that must be the same ones, checkpoint 11 */
    SINGLE_STEPS =
        32 /* prompts up to this long are repeated token by token, longer ones in small chunks */
};

typedef struct {
    VerdictTable *t;
    const Gpt2 *m;
    const Tokenizer *tokenizer; /* may be NULL */
    const Kernels *k;
    Reference reference;
    Capture capture;
    const Gpt2Progress *progress; /* may be NULL */
    Arena prompt;                 /* ids of VERIFY_PROMPT, when there is no reference */
} Verify;

/* ---- Tensors against files ---- */

/* Loads a reference tensor; when there is none, the row says why and false is returned. */
static bool load_reference(const Verify *v, VerdictRow *row, const char *name, Npy *npy)
{
    char note[REFERENCE_NOTE_BYTES] = "";
    const ReferenceState state = reference_tensor(&v->reference, name, npy, note);

    if (state == REFERENCE_FOUND)
        return true;
    if (state == REFERENCE_BROKEN)
        row->verdict = VERDICT_FAIL;
    if (v->reference.n_folders == 0)
        verdict_set_note(row, "%s",
                         v->reference.promptless ? "the reference folder does not name its prompt"
                                                 : "no reference folder");
    else
        verdict_set_note(row, "%s", note);
    return false;
}

static void tensor_row(Verify *v, int checkpoint, double tolerance, const char *name)
{
    VerdictRow *row = verdict_add(v->t, checkpoint, tolerance, "%s", name);
    const CaptureTensor *ours = capture_find(&v->capture, name);
    Npy npy = {0};

    if (load_reference(v, row, name, &npy)) {
        const CompareView reference = reference_view(&npy);
        const Comparison c = reference_compare(name, &ours->view, &reference, tolerance);

        verdict_set(row, &c, &ours->view, &reference);
    }
    npy_close(&npy);
}

/* A weight against its dump. Weights are copied, not computed, so every value must be the same. */
static ErrCode weight_row(Verify *v, const DumpWeight *w, Err *err)
{
    VerdictRow *row = verdict_add(v->t, w->checkpoint, TOL_EXACT, "%s", w->name);
    const size_t n_rows = w->n_dims == 2 ? w->dims[0] : 1, n_cols = w->dims[w->n_dims - 1];
    CompareView ours = {.n_dims = w->n_dims, .dims = {w->dims[0], w->dims[1]}};
    Arena arena = {0};
    Npy npy = {0};
    float *data;
    ErrCode code;

    if (!load_reference(v, row, w->name, &npy))
        return ERR_OK;
    code = arena_init(&arena, n_rows * n_cols * sizeof *data, w->name, err);
    if (code == ERR_OK) {
        const CompareView reference = reference_view(&npy);
        Comparison c;

        data = arena_alloc(&arena, n_rows * n_cols, sizeof *data);
        for (size_t i = 0; i < n_rows; i++)
            dump_weight_row(w, i, data + i * n_cols);
        ours.data = data;
        c = compare_tensors(&ours, &reference, TOL_EXACT);
        verdict_set(row, &c, &ours, &reference);
    }
    npy_close(&npy);
    arena_free(&arena);
    return code;
}

/* Rows for the weights that a checkpoint is the first to use; only for dumps that exist, as most
 * folders have none. */
static ErrCode weight_rows(Verify *v, int checkpoint, Err *err)
{
    DumpWeight weights[DUMP_WEIGHTS];
    ErrCode code = ERR_OK;

    dump_list_weights(v->m, weights);
    for (int i = 0; code == ERR_OK && i < DUMP_WEIGHTS; i++)
        if (weights[i].checkpoint == checkpoint && reference_has(&v->reference, weights[i].name))
            code = weight_row(v, &weights[i], err);
    return code;
}

static VerdictRow *own_row(Verify *v, int checkpoint, const char *name)
{
    VerdictRow *row = verdict_add(v->t, checkpoint, TOL_EXACT, "%s", name);

    row->own = true;
    return row;
}

/* Two of our own tensors, bit by bit. */
static void same_bits(VerdictRow *row, const CompareView *a, const CompareView *b)
{
    const Comparison c = compare_bits(a, b);

    verdict_set(row, &c, a, b);
}

static ErrCode checkpoints_1_and_2(Verify *v, Err *err)
{
    ErrCode code = weight_rows(v, 1, err);

    tensor_row(v, 1, TOL_EMBEDDING, "embeddings");
    tensor_row(v, 1, TOL_LAYER_NORM, "checkpoint_01_ln1_output");
    if (code == ERR_OK)
        code = weight_rows(v, 2, err);
    tensor_row(v, 2, TOL_QKV, "checkpoint_02_q");
    tensor_row(v, 2, TOL_QKV, "checkpoint_02_k");
    tensor_row(v, 2, TOL_QKV, "checkpoint_02_v");
    return code;
}

/* ---- Checkpoint 3 ---- */

/* k and v of all layers and of n rows, one layer after the other. */
typedef struct {
    Arena arena;
    float *k, *v; /* [n_layers, n_rows, dim] */
    CompareView k_view, v_view;
} CacheCopy;

static ErrCode copy_cache(CacheCopy *copy, const KvCache *cache, int n_rows, Err *err)
{
    const size_t row = (size_t)cache->n_heads * (size_t)cache->head_dim;
    const size_t layer = (size_t)n_rows * row, n = (size_t)cache->n_layers * layer;
    const CompareView view = {.n_dims = 4,
                              .dims = {(size_t)cache->n_layers, (size_t)n_rows,
                                       (size_t)cache->n_heads, (size_t)cache->head_dim}};
    size_t total = 0;
    ErrCode code;

    if (!arena_plan(&total, n, sizeof(float)) || !arena_plan(&total, n, sizeof(float)))
        return err_set(err, ERR_LIMIT, "a copy of the KV cache is too large");
    code = arena_init(&copy->arena, total, "copy of the KV cache", err);
    if (code != ERR_OK)
        return code;
    copy->k = arena_alloc(&copy->arena, n, sizeof(float));
    copy->v = arena_alloc(&copy->arena, n, sizeof(float));
    if (copy->k == NULL || copy->v == NULL)
        return err_set(err, ERR_MEMORY, "copy of the KV cache: out of memory");
    for (int i = 0; i < cache->n_layers; i++)
        kv_cache_read(cache, i, copy->k + (size_t)i * layer, copy->v + (size_t)i * layer, n_rows);
    copy->k_view = view;
    copy->v_view = view;
    copy->k_view.data = copy->k;
    copy->v_view.data = copy->v;
    return ERR_OK;
}

/* Every row of every layer of two caches; the first tensor that differs is reported. */
static void same_cache(VerdictRow *row, const CacheCopy *a, const CacheCopy *b)
{
    same_bits(row, &a->k_view, &b->k_view);
    if (row->verdict == VERDICT_PASS)
        same_bits(row, &a->v_view, &b->v_view);
}

static void read_back(Verify *v, const char *name, const char *stage, const char *cached)
{
    same_bits(own_row(v, 3, name), &capture_find(&v->capture, cached)->view,
              &capture_find(&v->capture, stage)->view);
}

/* The next token must only add a row: rows 0..T-1 stay, row T is no longer the zeros of an unused
 * position. */
static ErrCode one_more_step(Verify *v, const CacheCopy *before, Err *err)
{
    VerdictRow *row = own_row(v, 3, "one more step keeps all rows");
    Gpt2Run *run = &v->capture.run;
    CacheCopy after = {.k = NULL};
    int id = 0;
    ErrCode code;

    if (run->cache.length == run->cache.n_ctx) {
        verdict_set_note(row, "the prompt fills the context");
        return ERR_OK;
    }
    code = sampling_argmax(&id, run->logits, v->m->config.vocab_size, err);
    if (code == ERR_OK)
        code = gpt2_forward(run, &(int32_t){id}, 1, false, NULL, err);
    if (code == ERR_OK)
        code = copy_cache(&after, &run->cache, v->capture.n_ids, err);
    if (code == ERR_OK)
        same_cache(row, before, &after);
    arena_free(&after.arena);
    if (code == ERR_OK && row->verdict == VERDICT_PASS)
        verdict_set_bool(row, run->cache.length == v->capture.n_ids + 1,
                         "the cache holds %d rows, expected %d", run->cache.length,
                         v->capture.n_ids + 1);
    return code;
}

/* A fresh cache reads zeros, and the prompt in small pieces fills it with the same bits. */
static ErrCode piece_by_piece(Verify *v, const CacheCopy *whole, Err *err)
{
    const int n_ids = v->capture.n_ids, chunk = n_ids <= SINGLE_STEPS ? 1 : 7;
    VerdictRow *fresh = own_row(v, 3, "unused cache reads zeros");
    VerdictRow *pieces = own_row(
        v, 3, chunk == 1 ? "token by token equals one pass" : "7 tokens a pass equal one pass");
    CacheCopy zeros = {.k = NULL}, copy = {.k = NULL};
    Gpt2Run run = {0};
    ErrCode code = gpt2_run_init(&run, v->m, v->k, n_ids, chunk, KERN_F32, err);

    if (code == ERR_OK)
        code = copy_cache(&zeros, &run.cache, n_ids, err);
    if (code == ERR_OK) {
        const size_t n = compare_count(&zeros.k_view);
        bool all_zero = true;

        for (size_t i = 0; i < n; i++)
            all_zero = all_zero && zeros.k[i] == 0.0f && zeros.v[i] == 0.0f;
        verdict_set_bool(fresh, all_zero, "a fresh cache is not zero");
        code = gpt2_prefill(&run, v->capture.ids, n_ids, chunk, NULL, err);
    }
    if (code == ERR_OK)
        code = copy_cache(&copy, &run.cache, n_ids, err);
    if (code == ERR_OK)
        same_cache(pieces, &copy, whole);
    arena_free(&copy.arena);
    arena_free(&zeros.arena);
    gpt2_run_free(&run);
    return code;
}

static ErrCode checkpoint_3(Verify *v, Err *err)
{
    CacheCopy copy = {.k = NULL};
    ErrCode code = copy_cache(&copy, &v->capture.run.cache, v->capture.n_ids, err);

    read_back(v, "read-back of k equals checkpoint 2", "checkpoint_02_k", "checkpoint_03_k_cache");
    read_back(v, "read-back of v equals checkpoint 2", "checkpoint_02_v", "checkpoint_03_v_cache");
    if (code == ERR_OK)
        code = piece_by_piece(v, &copy, err);
    if (code == ERR_OK)
        code = one_more_step(v, &copy, err);
    arena_free(&copy.arena);
    tensor_row(v, 3, TOL_CACHE, "checkpoint_03_k_cache");
    tensor_row(v, 3, TOL_CACHE, "checkpoint_03_v_cache");
    return code;
}

static ErrCode checkpoints_4_to_8(Verify *v, Err *err)
{
    char name[CAPTURE_NAME_BYTES];
    ErrCode code;

    tensor_row(v, 4, TOL_SCORES, "checkpoint_04_scores");
    tensor_row(v, 4, TOL_SCORES, "checkpoint_04_masked");
    tensor_row(v, 4, TOL_SCORES, "checkpoint_04_probs");
    code = weight_rows(v, 5, err);
    tensor_row(v, 5, TOL_ATTENTION, "checkpoint_05_output");
    tensor_row(v, 5, TOL_ATTENTION, "checkpoint_05b_ln2_output");
    if (code == ERR_OK)
        code = weight_rows(v, 6, err);
    tensor_row(v, 6, TOL_FFN, "checkpoint_06_ffn");
    tensor_row(v, 7, TOL_BLOCK, "checkpoint_07_block_output");
    for (int i = 0; i < v->m->config.n_layers; i++) {
        snprintf(name, sizeof name, "checkpoint_07_block_%02d", i);
        tensor_row(v, 7, i == 0 ? TOL_BLOCK : TOL_DEEP_BLOCK, name);
    }
    tensor_row(v, 8, TOL_LOGITS, "checkpoint_08_ln_f");
    tensor_row(v, 8, TOL_LOGITS, "checkpoint_08_logits");
    return code;
}

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

    if (!load_reference(v, row, "checkpoint_09_logits_last", npy)) {
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

            same_bits(bits, &ours, &row);
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

static ErrCode checkpoints_9_and_10(Verify *v, Err *err)
{
    VerdictRow *bits = own_row(v, 9, "last row equals row T-1 of checkpoint 8");
    VerdictRow *choice;
    ErrCode code;

    tensor_row(v, 9, TOL_LOGITS, "checkpoint_09_logits_last");
    same_argmax(v, 9, "argmax of the last row");
    choice = own_row(v, 10, "three runs choose the same token");
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

/* Softmax over the reference's own logits, so that only this step is measured. */
static ErrCode checkpoint_11(Verify *v, Err *err)
{
    const size_t n_vocab = (size_t)v->m->config.vocab_size;
    VerdictRow *row = verdict_add(v->t, 11, TOL_PROBS, "checkpoint_11_probs");
    VerdictRow *top = verdict_add(v->t, 11, TOL_EXACT, "five most likely tokens");
    VerdictRow *own = verdict_add(v->t, 11, TOL_PROBS, "sum 1, all in [0,1], order kept");
    const CaptureTensor *probs = capture_find(&v->capture, "checkpoint_11_probs");
    Npy logits = {0}, file = {0};
    CompareView from = {0};
    Arena arena = {0};
    float *p;
    ErrCode code;

    own->own = true;
    check_distribution(own, probs->view.data, last_row(v).data, n_vocab);
    code = arena_init(&arena, n_vocab * sizeof *p, "probabilities", err);
    if (code != ERR_OK)
        return code;
    p = arena_alloc(&arena, n_vocab, sizeof *p);
    if (load_reference(v, row, "checkpoint_11_probs", &file) &&
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

static ErrCode checkpoint_12(Verify *v, Err *err)
{
    const Greedy recorded = v->reference.greedy_12, g = continuation(v);
    VerdictRow *same = own_row(v, 12, "three runs give the same ids");
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
    if (code == ERR_OK)
        code = prompt_row(v, &recorded, err);
    if (code == ERR_OK) {
        greedy_row(v, 12, &recorded, "checkpoint_12.json", ids);
        code = text_row(v, &recorded, ids, err);
    }
    arena_free(&arena);
    return code;
}

/* ---- The whole ---- */

/* The reference's prompt, else VERIFY_PROMPT, else (no tokenizer) the first token of the
 * vocabulary. */
static ErrCode choose_prompt(Verify *v, const int32_t **ids, int *n_ids, Err *err)
{
    static const int32_t first_id = 0;
    ErrCode code = ERR_OK;

    *ids = v->reference.ids;
    *n_ids = v->reference.n_ids;
    if (*n_ids == 0 && v->tokenizer != NULL)
        code = greedy_encode(v->tokenizer, VERIFY_PROMPT, strlen(VERIFY_PROMPT), &v->prompt, ids,
                             n_ids, err);
    if (code == ERR_OK && *n_ids == 0) {
        *ids = &first_id;
        *n_ids = 1;
    }
    if (*n_ids > v->m->config.n_ctx)
        *n_ids = v->m->config.n_ctx;
    return code;
}

/* The parts in order, each with the rows it adds. expect comes last, when it was asked for. */
static ErrCode run_rows(Verify *v, const VerifyOptions *options, Err *err)
{
    static ErrCode (*const parts[])(Verify * v, Err * err) = {
        checkpoints_1_and_2,  checkpoint_3,  checkpoints_4_to_8,
        checkpoints_9_and_10, checkpoint_11, checkpoint_12};
    const size_t n_parts = sizeof parts / sizeof parts[0];
    const int32_t *ids;
    int n_ids;
    ErrCode code = choose_prompt(v, &ids, &n_ids, err);

    if (code == ERR_OK)
        code = capture_run(&v->capture, v->m, v->k, ids, n_ids, 1, NULL, err);
    for (size_t i = 0; code == ERR_OK && i < n_parts; i++) {
        code = parts[i](v, err);
        if (code == ERR_OK && v->progress != NULL &&
            !v->progress->progress(v->progress->ctx, (double)(i + 1) / (double)(n_parts + 1)))
            code = err_set(err, ERR_CANCELLED, "cancelled");
    }
    if (code == ERR_OK && options->expect != NULL)
        code = expect_run(v->t, options->expect, v->m, v->tokenizer, v->k, err);
    return code;
}

ErrCode verify_run(VerdictTable *t, const Gpt2 *m, const Tokenizer *tokenizer, const Kernels *k,
                   const VerifyOptions *options, const Gpt2Progress *progress, Err *err)
{
    Verify v = {.m = m, .tokenizer = tokenizer, .k = k, .progress = progress};
    VerdictTable table = {0};
    char dir[sizeof m->path];
    ErrCode code = ERR_OK;

    model_dir_of(dir, sizeof dir, m->path);
    /* Before anything is computed: a wrong --expect is found at once. */
    if (options->expect != NULL)
        code = expect_check(options->expect, &m->config, tokenizer, err);
    if (code == ERR_OK)
        code = verdict_init(&table, ROWS_FIXED + m->config.n_layers, err);
    v.t = &table;
    if (code == ERR_OK)
        code = reference_open(&v.reference, &m->config, dir, options->reference, err);
    if (code == ERR_OK)
        code = run_rows(&v, options, err);
    capture_free(&v.capture);
    reference_close(&v.reference);
    arena_free(&v.prompt);
    if (code != ERR_OK) {
        verdict_free(&table);
        return code;
    }
    verdict_settle(&table);
    *t = table;
    return ERR_OK;
}
