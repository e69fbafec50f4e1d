/* checkpoint/verify_tensors.c: the tensors of checkpoints 1, 2 and 4 to 8 against a reference
 * folder.
 *
 * May include: common, formats, model, kernels. */
#include "checkpoint/verify_parts.h"

#include <stdio.h>
#include <string.h>

#include "checkpoint/dump.h"
#include "checkpoint/tolerance.h"
#include "formats/npy.h"

/* Loads a reference tensor; when there is none, the row says why and false is returned. */
bool verify_load_reference(const Verify *v, VerdictRow *row, const char *name, Npy *npy)
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

void verify_tensor_row(Verify *v, int checkpoint, double tolerance, const char *name)
{
    VerdictRow *row = verdict_add(v->t, checkpoint, tolerance, "%s", name);
    const CaptureTensor *ours = capture_find(&v->capture, name);
    Npy npy = {0};

    row->stage = ours->stage;
    row->layer = ours->layer;
    if (verify_load_reference(v, row, name, &npy)) {
        const CompareView reference = reference_view(&npy);
        const Comparison c = reference_compare(name, &ours->view, &reference, tolerance);

        verdict_set(row, &c, &ours->view, &reference);
        compare_map(&row->map, &ours->view, &reference);
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

    if (!verify_load_reference(v, row, w->name, &npy))
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

VerdictRow *verify_own_row(Verify *v, int checkpoint, const char *name)
{
    VerdictRow *row = verdict_add(v->t, checkpoint, TOL_EXACT, "%s", name);

    row->own = true;
    return row;
}

/* Two of our own tensors, bit by bit. */
void verify_same_bits(VerdictRow *row, const CompareView *a, const CompareView *b)
{
    const Comparison c = compare_bits(a, b);

    verdict_set(row, &c, a, b);
}

ErrCode verify_tensors_1_and_2(Verify *v, Err *err)
{
    ErrCode code = weight_rows(v, 1, err);

    verify_tensor_row(v, 1, TOL_EMBEDDING, "embeddings");
    verify_tensor_row(v, 1, TOL_LAYER_NORM, "checkpoint_01_ln1_output");
    if (code == ERR_OK)
        code = weight_rows(v, 2, err);
    verify_tensor_row(v, 2, TOL_QKV, "checkpoint_02_q");
    verify_tensor_row(v, 2, TOL_QKV, "checkpoint_02_k");
    verify_tensor_row(v, 2, TOL_QKV, "checkpoint_02_v");
    return code;
}

ErrCode verify_tensors_3_to_8(Verify *v, Err *err)
{
    char name[CAPTURE_NAME_BYTES];
    ErrCode code;

    verify_tensor_row(v, 3, TOL_CACHE, "checkpoint_03_k_cache");
    verify_tensor_row(v, 3, TOL_CACHE, "checkpoint_03_v_cache");
    verify_tensor_row(v, 4, TOL_SCORES, "checkpoint_04_scores");
    verify_tensor_row(v, 4, TOL_SCORES, "checkpoint_04_masked");
    verify_tensor_row(v, 4, TOL_SCORES, "checkpoint_04_probs");
    code = weight_rows(v, 5, err);
    verify_tensor_row(v, 5, TOL_ATTENTION, "checkpoint_05_output");
    verify_tensor_row(v, 5, TOL_ATTENTION, "checkpoint_05b_ln2_output");
    if (code == ERR_OK)
        code = weight_rows(v, 6, err);
    verify_tensor_row(v, 6, TOL_FFN, "checkpoint_06_ffn");
    verify_tensor_row(v, 7, TOL_BLOCK, "checkpoint_07_block_output");
    for (int i = 0; i < v->m->config.n_layers; i++) {
        snprintf(name, sizeof name, "checkpoint_07_block_%02d", i);
        verify_tensor_row(v, 7, i == 0 ? TOL_BLOCK : TOL_DEEP_BLOCK, name);
    }
    verify_tensor_row(v, 8, TOL_LOGITS, "checkpoint_08_ln_f");
    verify_tensor_row(v, 8, TOL_LOGITS, "checkpoint_08_logits");
    return code;
}
