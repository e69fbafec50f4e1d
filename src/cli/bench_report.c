/* cli/bench_report.c: see bench_report.h.
 *
 * May include: common. */
#include "cli/bench_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"

/* ---- Collecting ---- */

static BenchResult *find(const BenchReport *r, const char *type, const char *name)
{
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->results[i].type, type) == 0 && strcmp(r->results[i].name, name) == 0)
            return &r->results[i];
    return NULL;
}

static BenchResult *append(BenchReport *r, const char *type, const char *name)
{
    if (r->n == r->cap) {
        const size_t cap = 2 * r->cap + 16;
        BenchResult *bigger = realloc(r->results, cap * sizeof *bigger);

        if (bigger == NULL)
            return NULL;
        r->results = bigger;
        r->cap = cap;
    }
    BenchResult *result = &r->results[r->n++];
    memset(result, 0, sizeof *result);
    (void)snprintf(result->type, sizeof result->type, "%s", type);
    (void)snprintf(result->name, sizeof result->name, "%s", name);
    return result;
}

static bool grow(double **x, size_t cap)
{
    double *bigger = realloc(*x, cap * sizeof *bigger);

    if (bigger == NULL)
        return false;
    *x = bigger;
    return true;
}

static bool has_room(BenchResult *result)
{
    const size_t cap = 2 * result->cap + 16;

    if (result->n < result->cap)
        return true;
    if (!grow(&result->value, cap) || !grow(&result->share, cap))
        return false;
    result->cap = cap;
    return true;
}

void bench_report_add(BenchReport *r, const char *type, const char *name, const char *unit,
                      const char *share_of, double value, double share)
{
    BenchResult *result = find(r, type, name);

    if (result == NULL)
        result = append(r, type, name);
    if (result == NULL || !has_room(result)) {
        r->oom = true;
        return;
    }
    result->unit = unit;
    result->share_of = share_of;
    result->value[result->n] = value;
    result->share[result->n++] = share;
}

void bench_report_probe(BenchReport *r, const char *name, const char *unit, double value)
{
    bench_report_add(r, "", name, unit, NULL, value, 1.0);
}

void bench_report_free(BenchReport *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->results[i].value);
        free(r->results[i].share);
    }
    free(r->results);
    *r = (BenchReport){.results = NULL};
}

bool bench_lower_is_better(const char *name)
{
    if (strncmp(name, "batch@", 6) == 0)
        return strcmp(name, "batch@1") != 0; /* one row is held against reading the weights */
    return strncmp(name, "rest", 4) == 0 || strcmp(name, "memory") == 0;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_median(double *x, size_t n)
{
    qsort(x, n, sizeof *x, by_value);
    return 0.5 * (x[(n - 1) / 2] + x[n / 2]);
}

/* ---- JSON ---- */

static void add_string(JsonBuf *out, const char *key, const char *text)
{
    json_buf_printf(out, "\"%s\":", key);
    json_buf_string(out, text, strlen(text));
}

/* "unit":..,"median":..,"min":..,"max":.. */
static void add_figures(JsonBuf *out, BenchResult *result)
{
    const double median = bench_median(result->value, result->n);

    add_string(out, "unit", result->unit);
    json_buf_printf(out, ",\"median\":%.6g,\"min\":%.6g,\"max\":%.6g", median, result->value[0],
                    result->value[result->n - 1]);
}

static bool is_probe(const BenchResult *result)
{
    return result->share_of == NULL;
}

static void add_probes(JsonBuf *out, BenchReport *r)
{
    const char *comma = "";

    json_buf_printf(out, "\"probes\":{");
    for (size_t i = 0; i < r->n; i++) {
        if (!is_probe(&r->results[i]))
            continue;
        json_buf_printf(out, "%s\"%s\":{", comma, r->results[i].name);
        add_figures(out, &r->results[i]);
        json_buf_printf(out, "}");
        comma = ",";
    }
    json_buf_printf(out, "}");
}

static void add_results(JsonBuf *out, BenchReport *r)
{
    const char *comma = "";

    json_buf_printf(out, "\"results\":[");
    for (size_t i = 0; i < r->n; i++) {
        BenchResult *result = &r->results[i];

        if (is_probe(result))
            continue;
        json_buf_printf(out, "%s{", comma);
        add_string(out, "type", result->type);
        json_buf_printf(out, ",");
        add_string(out, "case", result->name);
        json_buf_printf(out, ",");
        add_figures(out, result);
        json_buf_printf(out, ",\"share\":%.6g", bench_median(result->share, result->n));
        json_buf_printf(out, ",\"share_min\":%.6g,\"share_max\":%.6g,\"n\":%zu,", result->share[0],
                        result->share[result->n - 1], result->n);
        add_string(out, "better", bench_lower_is_better(result->name) ? "lower" : "higher");
        json_buf_printf(out, "}");
        comma = ",";
    }
    json_buf_printf(out, "]");
}

static void add_machine(JsonBuf *out, const BenchMachine *m)
{
    json_buf_printf(out, "\"machine\":{");
    add_string(out, "cpu_name", m->cpu_name);
    json_buf_printf(out, ",\"cpu\":%d,", m->cpu);
    add_string(out, "isa", m->isa);
    json_buf_printf(out, ",");
    add_string(out, "compiler", m->compiler);
    json_buf_printf(out, ",");
    add_string(out, "flags", m->flags);
    json_buf_printf(out, ",");
    add_string(out, "version", m->version);
    json_buf_printf(out, ",");
    add_string(out, "shape", m->shape);
    json_buf_printf(out, ",");
    add_string(out, "model", m->model);
    json_buf_printf(out, ",");
    add_string(out, "config", m->config);
    json_buf_printf(out, ",");
    add_string(out, "kv_type", m->kv_type);
    json_buf_printf(out, ",\"rounds\":%d}", m->rounds);
}

void bench_report_members(JsonBuf *out, BenchReport *r, const BenchMachine *m)
{
    add_string(out, "format", BENCH_FORMAT);
    json_buf_printf(out, ",");
    add_machine(out, m);
    json_buf_printf(out, ",");
    add_probes(out, r);
    json_buf_printf(out, ",");
    add_results(out, r);
}

void bench_report_json(JsonBuf *out, BenchReport *r, const BenchMachine *m)
{
    json_buf_printf(out, "{");
    bench_report_members(out, r, m);
    json_buf_printf(out, "}\n");
}

/* ---- Table ---- */

/* Names come from outside: nothing in them may steer the terminal. */
static void add_text(JsonBuf *out, const char *name, const char *text)
{
    char shown[512];

    (void)text_escape(shown, sizeof shown, text, strlen(text));
    json_buf_printf(out, "%-10s %s\n", name, shown);
}

/* Three digits that mean something. */
static int decimals(double x)
{
    return x < 10.0 ? 3 : x < 100.0 ? 2 : 1;
}

static void add_row(JsonBuf *out, BenchResult *result)
{
    const double median = bench_median(result->value, result->n);
    const int d = decimals(median);

    json_buf_printf(out, "  %-17s %9.*f %9.*f %9.*f  ", result->name, d, median, d,
                    result->value[0], d, result->value[result->n - 1]);
    if (is_probe(result))
        json_buf_printf(out, "%s\n", result->unit);
    else
        json_buf_printf(out, "%-8s %8.3f %s\n", result->unit,
                        bench_median(result->share, result->n), result->share_of);
}

/* Rows of one type, or the probes for "". */
static void add_rows(JsonBuf *out, BenchReport *r, const char *type)
{
    json_buf_printf(out, "\n%-19s %9s %9s %9s%s\n", type[0] != '\0' ? type : "probes", "median",
                    "min", "max", type[0] != '\0' ? "              share of" : "");
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->results[i].type, type) == 0)
            add_row(out, &r->results[i]);
}

static bool is_first_of_type(const BenchReport *r, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (strcmp(r->results[j].type, r->results[i].type) == 0)
            return false;
    return true;
}

static bool is_first_of_name(const BenchReport *r, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (strcmp(r->results[j].name, r->results[i].name) == 0)
            return false;
    return true;
}

/* Cases down, types across: the shares once more, side by side. */
static void add_shares(JsonBuf *out, BenchReport *r)
{
    json_buf_printf(out, "\n%-19s", "shares");
    for (size_t i = 0; i < r->n; i++)
        if (!is_probe(&r->results[i]) && is_first_of_type(r, i))
            json_buf_printf(out, " %9s", r->results[i].type);
    json_buf_printf(out, "\n");
    for (size_t i = 0; i < r->n; i++) {
        if (is_probe(&r->results[i]) || !is_first_of_name(r, i))
            continue;
        json_buf_printf(out, "  %-17s", r->results[i].name);
        for (size_t j = 0; j < r->n; j++) {
            if (is_probe(&r->results[j]) || !is_first_of_type(r, j))
                continue;
            BenchResult *cell = find(r, r->results[j].type, r->results[i].name);
            if (cell != NULL)
                json_buf_printf(out, " %9.3f", bench_median(cell->share, cell->n));
        }
        json_buf_printf(out, "\n");
    }
}

void bench_report_table(JsonBuf *out, BenchReport *r, const BenchMachine *m)
{
    add_text(out, "model", m->shape);
    add_text(out, "processor", m->cpu_name);
    json_buf_printf(out, "%-10s %s %s, %s; cpu %d, kernels %s, KV cache %s, %d rounds\n", "program",
                    "llorch-cpud", m->version, m->compiler, m->cpu, m->isa, m->kv_type, m->rounds);
    add_rows(out, r, "");
    for (size_t i = 0; i < r->n; i++)
        if (!is_probe(&r->results[i]) && is_first_of_type(r, i))
            add_rows(out, r, r->results[i].type);
    add_shares(out, r);
}
