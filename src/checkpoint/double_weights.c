/* checkpoint/double_weights.c: see double_weights.h.
 *
 * May include: common, formats, model, kernels. */
#include "checkpoint/double_weights.h"

#include <stdio.h>
#include <string.h>

#include "formats/safetensors.h"
#include "kernels/pack.h"
#include "model/weights.h"

static size_t largest(size_t a, size_t b)
{
    return a > b ? a : b;
}

ErrCode double_weights_open(DoubleWeights *w, const Gpt2 *m, Err *err)
{
    const Gpt2Config *c = &m->config;
    const size_t widest = largest(3 * (size_t)c->dim, (size_t)c->ffn_dim);
    ErrCode code = ERR_OK;

    *w = (DoubleWeights){.m = m, .max_row = widest};
    if (m->packed == NULL)
        code = weight_source_open(&w->source, m->path, err);
    if (code == ERR_OK)
        code = arena_init(&w->arena, w->max_row * sizeof *w->row, "a row of weights", err);
    if (code == ERR_OK)
        w->row = arena_alloc(&w->arena, w->max_row, sizeof *w->row);
    if (code != ERR_OK)
        double_weights_close(w);
    return code;
}

void double_weights_close(DoubleWeights *w)
{
    weight_source_close(&w->source);
    arena_free(&w->arena);
    *w = (DoubleWeights){.m = NULL};
}

/* The panels of name in a packed file, whose shapes were checked when the model was loaded. */
static ErrCode find_packed(const Gpt2 *m, const char *name, size_t n, size_t k, DoubleWeight *out,
                           Err *err)
{
    static const struct {
        const char *dtype;
        KernType type;
    } types[] = {{"F32", KERN_F32},
                 {"F16", KERN_F16},
                 {"BF16", KERN_BF16},
                 {"I8", KERN_Q8_0},
                 {"U8", KERN_Q4_0}};
    const StTensor *t = safetensors_find(m->packed, name), *scales;
    char scales_name[WEIGHT_NAME_BYTES + 8];

    if (t == NULL)
        return err_set(err, ERR_FORMAT, "%s: tensor %s is missing", m->path, name);
    if (k == 0 || t->n_dims == 2) { /* vectors and positions are stored as they are */
        out->tensor = (SourceTensor){.data = t->data, .known = true, .type = KERN_F32};
        return ERR_OK;
    }
    out->panels = (KernMatrix){.n = (int)n, .k = (int)k, .panels = t->data};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].dtype, t->dtype_name) == 0)
            out->panels.type = types[i].type;
    (void)snprintf(scales_name, sizeof scales_name, "%s.scales", name);
    scales = safetensors_find(m->packed, scales_name);
    if (scales != NULL)
        out->panels.scales = (const uint16_t *)(const void *)scales->data;
    return ERR_OK;
}

ErrCode double_weights_find(const DoubleWeights *w, const char *name, size_t n, size_t k,
                            bool projection, DoubleWeight *out, Err *err)
{
    DoubleWeight found = {.order = KERN_OUT_IN};
    ErrCode code;

    if (w->m->packed != NULL)
        code = find_packed(w->m, name, n, k, &found, err);
    else
        code = weight_source_require(&w->source, name, n, k, projection, &found.tensor, err);
    if (code != ERR_OK)
        return code;
    if (projection && w->m->packed == NULL)
        found.order = found.tensor.order;
    if (k == 0) {
        found.n_rows = 1;
        found.row_len = n;
    } else {
        found.n_rows = found.order == KERN_IN_OUT ? k : n;
        found.row_len = found.order == KERN_IN_OUT ? n : k;
    }
    if (found.row_len > w->max_row)
        return err_set(err, ERR_FORMAT, "%s: tensor %s has rows of %zu", w->m->path, name,
                       found.row_len);
    *out = found;
    return ERR_OK;
}

void double_weights_row(const DoubleWeights *w, const DoubleWeight *weight, size_t i, double *out)
{
    if (weight->panels.panels != NULL)
        kern_unpack_row(w->row, &weight->panels, i);
    else
        source_widen(w->row, &weight->tensor, i * weight->row_len, weight->row_len);
    for (size_t j = 0; j < weight->row_len; j++)
        out[j] = (double)w->row[j];
}
