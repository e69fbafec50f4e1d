/* checkpoint/verify_json.c: a verification as one JSON object. Numbers that are not finite become
 * null.
 *
 * May include: common, model. */
#include "checkpoint/verify.h"

#include <math.h>
#include <string.h>

#include "checkpoint/verify_parts.h"

static void text(JsonBuf *out, const char *key, const char *value)
{
    json_buf_printf(out, "\"%s\":", key);
    if (value != NULL)
        json_buf_string(out, value, strlen(value));
    else
        json_buf_printf(out, "null");
}

static void number(JsonBuf *out, const char *key, double value)
{
    json_buf_printf(out, "\"%s\":", key);
    if (isfinite(value))
        json_buf_printf(out, "%.9g", value);
    else
        json_buf_printf(out, "null");
}

static void side(JsonBuf *out, const char *key, const CompareSide *s)
{
    json_buf_printf(out, ",\"%s\":{", key);
    number(out, "mean", s->mean);
    json_buf_printf(out, ",");
    number(out, "variance", s->variance);
    json_buf_printf(out, ",");
    number(out, "min", s->min);
    json_buf_printf(out, ",");
    number(out, "max", s->max);
    json_buf_printf(out, ",\"nan\":%zu,\"inf\":%zu}", s->n_nan, s->n_inf);
}

static const char *verdict_word(CompareVerdict verdict)
{
    static const char *const words[] = {[COMPARE_EQUAL] = "equal",
                                        [COMPARE_SHAPE] = "shape",
                                        [COMPARE_NOT_FINITE] = "not finite",
                                        [COMPARE_MASK] = "mask",
                                        [COMPARE_VALUES] = "values"};

    return words[verdict];
}

static void figures(JsonBuf *out, const Comparison *c, const char *place)
{
    static const struct {
        const char *key;
        size_t at;
    } numbers[] = {{"worst", offsetof(Comparison, worst)},
                   {"max_abs", offsetof(Comparison, max_abs)},
                   {"max_rel", offsetof(Comparison, max_rel)},
                   {"mean_abs", offsetof(Comparison, mean_abs)},
                   {"rms", offsetof(Comparison, rms)}};

    text(out, "result", verdict_word(c->verdict));
    json_buf_printf(out, ",\"n\":%zu,\"n_beyond\":%zu", c->n, c->n_beyond);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        double value;

        memcpy(&value, (const char *)c + numbers[i].at, sizeof value);
        json_buf_printf(out, ",");
        number(out, numbers[i].key, value);
    }
    /* All its digits: what counts is how far it is from 1. */
    if (isfinite(c->cosine))
        json_buf_printf(out, ",\"cosine\":%.17g", c->cosine);
    else
        json_buf_printf(out, ",\"cosine\":null");
    json_buf_printf(out, ",\"index\":%zu,", c->index);
    text(out, "place", place);
    json_buf_printf(out, ",");
    number(out, "ours", (double)c->ours);
    json_buf_printf(out, ",");
    number(out, "reference", (double)c->reference);
    side(out, "ours_statistics", &c->sides[0]);
    side(out, "reference_statistics", &c->sides[1]);
    json_buf_printf(out, ",\"decades\":[");
    for (int i = 0; i < COMPARE_DECADES; i++)
        json_buf_printf(out, "%s%u", i > 0 ? "," : "", (unsigned)c->decades[i]);
    json_buf_printf(out, "]");
}

static const char *json_verdict(Verdict verdict)
{
    switch (verdict) {
    case VERDICT_PASS:
        return "pass";
    case VERDICT_FAIL:
        return "fail";
    default:
        return "not validated";
    }
}

static void add_row(JsonBuf *out, const VerdictRow *row)
{
    json_buf_printf(out, "{\"checkpoint\":%d,", row->checkpoint);
    text(out, "name", row->name);
    json_buf_printf(out, ",\"layer\":");
    json_buf_printf(out, row->layer >= 0 ? "%d," : "null,", row->layer);
    text(out, "stage", row->stage == TAP_STAGE_COUNT ? NULL : verify_stage_name(row->stage));
    json_buf_printf(out, ",");
    text(out, "verdict", json_verdict(row->verdict));
    json_buf_printf(out, ",");
    number(out, "tolerance", row->tolerance);
    json_buf_printf(out, ",\"own\":%s,", row->own ? "true" : "false");
    text(out, "note", row->note);
    if (row->measured) {
        json_buf_printf(out, ",\"figures\":{");
        figures(out, &row->figures, row->place);
        json_buf_printf(out, "}");
    }
    if (row->has_local) {
        json_buf_printf(out, ",\"local\":{");
        figures(out, &row->local, row->local_place);
        json_buf_printf(out, "}");
    }
    json_buf_printf(out, "}");
}

static void add_run(JsonBuf *out, const VerifyResult *r, const VerifyMeta *meta)
{
    static const char *const keys[] = {"model", "weights", "isa", "compiler", "version"};
    const char *const values[] = {meta->model, meta->types, meta->isa, meta->compiler,
                                  meta->version};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        text(out, keys[i], values[i]);
        json_buf_printf(out, ",");
    }
    json_buf_printf(out, "\"prompt\":");
    if (meta->prompt != NULL)
        json_buf_string(out, meta->prompt, meta->n_prompt);
    else
        json_buf_printf(out, "null");
    json_buf_printf(out, ",\"prompt_ids\":[");
    for (int i = 0; i < meta->n_ids; i++)
        json_buf_printf(out, "%s%d", i > 0 ? "," : "", (int)meta->ids[i]);
    json_buf_printf(out, "],\"reference\":{");
    text(out, "kind", r->self ? "self" : "folder");
    json_buf_printf(out, ",\"fallback\":%s,", r->fallback ? "true" : "false");
    text(out, "text", meta->reference);
    json_buf_printf(out, "}");
}

void verify_json(JsonBuf *out, const VerifyResult *r, const VerifyMeta *meta)
{
    const VerdictTable *t = &r->table;

    json_buf_printf(out, "{");
    add_run(out, r, meta);
    json_buf_printf(out, ",\"rows\":[");
    for (int i = 0; i < t->n_rows; i++) {
        json_buf_printf(out, "%s\n", i > 0 ? "," : "");
        add_row(out, &t->rows[i]);
    }
    json_buf_printf(out, "],\n\"growth\":[");
    for (int i = 0; i < r->n_growth; i++) {
        json_buf_printf(out, "%s{\"layer\":%d,", i > 0 ? "," : "", r->growth[i].layer);
        number(out, "max_abs", r->growth[i].max_abs);
        json_buf_printf(out, ",");
        number(out, "rms", r->growth[i].rms);
        json_buf_printf(out, ",");
        number(out, "factor", r->growth[i].factor);
        json_buf_printf(out, "}");
    }
    json_buf_printf(out, "],\"first_fault\":");
    if (r->first_fault >= 0) {
        json_buf_printf(out, "{\"row\":%d,", r->first_fault);
        text(out, "text", r->fault);
        json_buf_printf(out, "}");
    } else {
        json_buf_printf(out, "null");
    }
    json_buf_printf(out, ",\"counts\":{\"passed\":%d,\"failed\":%d,\"not_validated\":%d},",
                    verdict_count(t, VERDICT_PASS), verdict_count(t, VERDICT_FAIL),
                    verdict_count(t, VERDICT_NOT_VALIDATED));
    text(out, "verdict", json_verdict(verify_verdict(r)));
    json_buf_printf(out, "}\n");
}
