/* checkpoint/diff_json.c: diff_json of diff_report.h.
 *
 * May include: common. */
#include <math.h>
#include <string.h>

#include "checkpoint/diff_report.h"

static void text(JsonBuf *out, const char *key, const char *value)
{
    json_buf_printf(out, "\"%s\":", key);
    json_buf_string(out, value, strlen(value));
}

static void number(JsonBuf *out, const char *key, double value)
{
    if (isfinite(value))
        json_buf_printf(out, ",\"%s\":%.17g", key, value);
    else
        json_buf_printf(out, ",\"%s\":null", key);
}

static void place(JsonBuf *out, const char *key, const TensorDiff *row, size_t index)
{
    char at[COMPARE_TEXT_BYTES];

    compare_place(at, &row->shape, index);
    json_buf_printf(out, ",\"%s\":%s", key, at);
}

static void side(JsonBuf *out, const char *key, const CompareSide *s)
{
    json_buf_printf(out, ",\"%s\":{\"nan\":%zu,\"inf\":%zu", key, s->n_nan, s->n_inf);
    number(out, "mean", s->mean);
    number(out, "variance", s->variance);
    number(out, "min", s->min);
    number(out, "max", s->max);
    json_buf_printf(out, "}");
}

static void elements(JsonBuf *out, const TensorDiff *row)
{
    json_buf_printf(out, ",\"worst_elements\":[");
    for (int i = 0; i < row->n_elements; i++) {
        const DiffElement *e = &row->elements[i];

        json_buf_printf(out, "%s{\"index\":%zu", i > 0 ? "," : "", e->index);
        place(out, "at", row, e->index);
        number(out, "a", (double)e->a);
        number(out, "b", (double)e->b);
        number(out, "error", e->error);
        json_buf_printf(out, "}");
    }
    json_buf_printf(out, "]");
}

static void figures(JsonBuf *out, const TensorDiff *row)
{
    const Comparison *c = &row->figures;
    char shape[COMPARE_TEXT_BYTES];

    compare_shape(shape, &row->shape);
    json_buf_printf(out, ",\"shape\":%s,\"n\":%zu,\"n_beyond\":%zu", shape, c->n, c->n_beyond);
    number(out, "worst", c->worst);
    place(out, "worst_at", row, c->index);
    number(out, "max_abs", c->max_abs);
    place(out, "max_abs_at", row, row->max_index);
    number(out, "max_rel", c->max_rel);
    number(out, "mean_abs", c->mean_abs);
    number(out, "rms", c->rms);
    number(out, "cosine", c->cosine);
    side(out, "a", &c->sides[0]);
    side(out, "b", &c->sides[1]);
    json_buf_printf(out, ",\"decades\":[");
    for (int i = 0; i < COMPARE_DECADES; i++)
        json_buf_printf(out, "%s%u", i > 0 ? "," : "", (unsigned)c->decades[i]);
    json_buf_printf(out, "],\"n_bits_differ\":%zu", row->n_bits);
    if (row->n_bits > 0) {
        place(out, "first_bits_at", row, row->first_bits);
        json_buf_printf(out, ",\"first_bits\":[\"0x%08x\",\"0x%08x\"]", (unsigned)row->bits[0],
                        (unsigned)row->bits[1]);
    }
    elements(out, row);
}

static void tensor(JsonBuf *out, const TensorDiff *row)
{
    json_buf_printf(out, "{");
    text(out, "name", row->name);
    json_buf_printf(out, ",");
    text(out, "verdict", diff_word(row->verdict));
    json_buf_printf(out, ",");
    text(out, "note", row->note);
    number(out, "tolerance", row->tolerance);
    if (row->verdict != DIFF_NOT_COMPARED)
        figures(out, row);
    json_buf_printf(out, "}");
}

void diff_json(JsonBuf *out, const Diff *d)
{
    const int n_agree = diff_count(d, DIFF_AGREE);

    json_buf_printf(out, "{");
    text(out, "a", d->paths[0]);
    json_buf_printf(out, ",");
    text(out, "b", d->paths[1]);
    json_buf_printf(out, ",\"bits\":%s,\"agree\":%s,\"n_agree\":%d,\"n_tensors\":%d,\"tensors\":[",
                    d->options.bits ? "true" : "false", n_agree == d->n_rows ? "true" : "false",
                    n_agree, d->n_rows);
    for (int i = 0; i < d->n_rows; i++) {
        json_buf_printf(out, i > 0 ? "," : "");
        tensor(out, &d->rows[i]);
    }
    json_buf_printf(out, "]}\n");
}
