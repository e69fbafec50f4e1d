/* checkpoint/verify_maps.c: the maps of verify_charts.h: errors of every tensor, attention.
 *
 * May include: common, report. */
#include <math.h>
#include <stdio.h>

#include "checkpoint/error_chart.h"
#include "checkpoint/verify_charts.h"
#include "report/chart.h"

enum {
    MAPS_BYTES = 640 * 1024, /* of the cells of all maps as text, two characters each */
    ATTENTION_BYTES = 640 * 1024,
    MAX_SIDE = 64, /* tokens of an attention map */
    MIN_SIDE = 8,
    PANEL_NAME_BYTES = 16
};

/* ---- Errors ---- */

static bool has_map(const VerdictRow *row)
{
    return row->map.rows > 0;
}

/* How near to failing, failed ones above all others. */
static double badness(const VerdictRow *row)
{
    const double share =
        row->tolerance > 0.0 ? row->figures.worst / row->tolerance : row->figures.worst * 1e30;

    if (isnan(share) || isinf(share))
        return 1e300;
    return row->verdict == VERDICT_FAIL ? 1e200 + share : share;
}

int verify_chart_worst(const VerifyResult *r)
{
    int worst = -1;

    if (r->first_fault >= 0 && has_map(&r->table.rows[r->first_fault]))
        return r->first_fault;
    for (int i = 0; i < r->table.n_rows; i++)
        if (has_map(&r->table.rows[i]) &&
            (worst < 0 || badness(&r->table.rows[i]) > badness(&r->table.rows[worst])))
            worst = i;
    return worst;
}

/* How often all maps must be halved so that they stay within bounds. */
static int halvings(const VerdictTable *t)
{
    size_t n_bytes = 0;
    int times = 0;

    for (int i = 0; i < t->n_rows; i++)
        n_bytes += 2 * (size_t)(t->rows[i].map.rows * t->rows[i].map.columns);
    for (; n_bytes > MAPS_BYTES && times < 3; n_bytes /= 4)
        times++;
    return times;
}

static ErrorHeat heat_of(const VerifyResult *r, const VerdictRow *row, int times)
{
    ErrorHeat heat;
    CompareView shape;

    if (row->stage == TAP_STAGE_COUNT) {
        const CaptureTensor *t = capture_find(&r->capture, row->name);

        error_chart_stretch(&heat, &row->map, t != NULL ? &t->view : NULL);
    } else {
        shape = capture_stage(&r->capture, row->stage, row->layer < 0 ? 0 : row->layer);
        error_chart_stretch(&heat, &row->map, &shape);
    }
    error_chart_shrink(&heat, times);
    return heat;
}

void verify_chart_maps(JsonBuf *out, const VerifyResult *r)
{
    const int worst = verify_chart_worst(r), times = halvings(&r->table);
    ErrorHeat stretched;
    ChartHeat heat;

    if (worst < 0)
        return;
    stretched = heat_of(r, &r->table.rows[worst], times);
    heat = error_chart_heat(&stretched, r->table.rows[worst].name, NULL);
    chart_choice_begin(out, "errors", "Tensor", &heat);
    for (int i = 0; i < r->table.n_rows; i++) {
        if (i == worst || !has_map(&r->table.rows[i]))
            continue;
        stretched = heat_of(r, &r->table.rows[i], times);
        heat = error_chart_heat(&stretched, r->table.rows[i].name, NULL);
        chart_choice_add(out, &heat);
    }
    chart_choice_end(out);
}

/* ---- Attention ---- */

typedef struct {
    int n_layers, n_heads, n_tokens;
    int side;            /* of a map */
    uint8_t *cells;      /* [n_heads, side, side] of one layer */
    const char **panels; /* [n_heads] */
    char (*names)[PANEL_NAME_BYTES];
    Arena arena;
} AttentionMaps;

static bool make_attention(AttentionMaps *a)
{
    const size_t n_heads = (size_t)a->n_heads, side = (size_t)a->side;
    size_t total = 0;

    if (!arena_plan(&total, n_heads * side * side, 1) ||
        !arena_plan(&total, n_heads, sizeof *a->panels) ||
        !arena_plan(&total, n_heads, sizeof *a->names) ||
        arena_init(&a->arena, total, "attention maps", NULL) != ERR_OK)
        return false;
    a->cells = arena_alloc(&a->arena, n_heads * side * side, 1);
    a->panels = arena_alloc(&a->arena, n_heads, sizeof *a->panels);
    a->names = arena_alloc(&a->arena, n_heads, sizeof *a->names);
    if (a->cells == NULL || a->panels == NULL || a->names == NULL)
        return false;
    for (int h = 0; h < a->n_heads; h++) {
        (void)snprintf(a->names[h], PANEL_NAME_BYTES, "head %d", h);
        a->panels[h] = a->names[h];
    }
    return true;
}

/* The square root tells small probabilities apart: of 20 keys each has 0.05 on average. */
static uint8_t cell_of(float p)
{
    if (!(p > 0.0f))
        return p == 0.0f ? 0 : 255; /* NaN must be seen */
    return p >= 1.0f ? 255 : (uint8_t)(1.0f + 254.0f * sqrtf(p));
}

/* Several tokens share a cell of a long prompt, which shows the largest of their values. */
static void fill_cells(AttentionMaps *a, const float *probs)
{
    const size_t n = (size_t)a->n_tokens, side = (size_t)a->side;

    for (size_t i = 0; i < (size_t)a->n_heads * side * side; i++)
        a->cells[i] = 0;
    for (size_t h = 0; h < (size_t)a->n_heads; h++)
        for (size_t q = 0; q < n; q++)
            for (size_t k = 0; k <= q; k++) {
                const uint8_t value = cell_of(probs[(h * n + q) * n + k]);
                uint8_t *cell = &a->cells[(h * side + q * side / n) * side + k * side / n];

                *cell = value > *cell ? value : *cell;
            }
}

static int count_layers(const Capture *c)
{
    int n = 0;

    for (int i = 0; i < c->model->config.n_layers; i++)
        n += capture_stage(c, TAP_PROBS, i).data != NULL;
    return n;
}

static int side_of(const AttentionMaps *a)
{
    const double maps = (double)a->n_layers * a->n_heads;
    const int room = (int)sqrt(ATTENTION_BYTES / 2.0 / maps);
    int side = a->n_tokens < MAX_SIDE ? a->n_tokens : MAX_SIDE;

    side = side > room ? room : side;
    return side < MIN_SIDE && a->n_tokens >= MIN_SIDE ? MIN_SIDE : side;
}

static void put_layer(JsonBuf *out, AttentionMaps *a, const float *probs, int layer, bool first)
{
    char caption[32];

    (void)snprintf(caption, sizeof caption, "Layer %d", layer);
    fill_cells(a, probs);
    const ChartHeat heat = {.caption = caption,
                            .label_0 = "0",
                            .label_255 = "1, by the square root",
                            .cells = a->cells,
                            .rows = a->side,
                            .columns = a->side,
                            .panels = a->panels,
                            .n_panels = a->n_heads};
    if (first)
        chart_choice_begin(out, "attention", "Layer", &heat);
    else
        chart_choice_add(out, &heat);
}

void verify_chart_attention(JsonBuf *out, const VerifyResult *r)
{
    const Gpt2Config *config = &r->capture.model->config;
    AttentionMaps a = {.n_layers = count_layers(&r->capture),
                       .n_heads = config->n_heads,
                       .n_tokens = r->capture.n_ids};
    bool first = true;

    if (a.n_layers == 0 || a.n_tokens == 0)
        return;
    a.side = side_of(&a);
    if (!make_attention(&a))
        out->oom = 1;
    for (int i = 0; out->oom == 0 && i < config->n_layers; i++) {
        const CompareView probs = capture_stage(&r->capture, TAP_PROBS, i);

        if (probs.data == NULL)
            continue;
        put_layer(out, &a, probs.data, i, first);
        first = false;
    }
    if (!first)
        chart_choice_end(out);
    arena_free(&a.arena);
}
