/* cli/bench_baseline.c: see bench_baseline.h.
 *
 * May include: common. */
#include "cli/bench_baseline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json_field.h"

enum { MAX_FILE_BYTES = 4 << 20, MAX_CASES = 10000, TEXT_BYTES = 1024, MAX_N = 1000000 };

/* ---- Reading ---- */

static ErrCode read_machine(BenchBaseline *b, const json_t *machine, Err *err)
{
    const struct {
        const char *key, **text;
    } fields[] = {{"cpu_name", &b->cpu_name}, {"isa", &b->isa},         {"compiler", &b->compiler},
                  {"flags", &b->flags},       {"version", &b->version}, {"model", &b->model},
                  {"config", &b->config},     {"kv_type", &b->kv_type}};
    char what[TEXT_BYTES];
    ErrCode code = ERR_OK;

    (void)snprintf(what, sizeof what, "%s: machine", b->path);
    for (size_t i = 0; code == ERR_OK && i < sizeof fields / sizeof fields[0]; i++)
        code = json_field_text(machine, fields[i].key, TEXT_BYTES, what, fields[i].text, err);
    return code;
}

static ErrCode read_case(BenchBaselineCase *c, const json_t *result, const char *what, Err *err)
{
    ErrCode code = json_field_text(result, "type", BENCH_NAME_BYTES, what, &c->type, err);

    if (code == ERR_OK)
        code = json_field_text(result, "case", BENCH_NAME_BYTES, what, &c->name, err);
    if (code == ERR_OK)
        code = json_field_number(result, "share", what, &c->share, err);
    if (code == ERR_OK)
        code = json_field_number(result, "share_min", what, &c->least, err);
    if (code == ERR_OK)
        code = json_field_number(result, "share_max", what, &c->most, err);
    if (code == ERR_OK)
        code = json_field_int(result, "n", 1, MAX_N, what, &c->n, err);
    if (code == ERR_OK && !(c->least > 0.0 && c->least <= c->share && c->share <= c->most))
        code =
            err_set(err, ERR_FORMAT, "%s: share %g of %g to %g, expected numbers above 0 in order",
                    what, c->share, c->least, c->most);
    return code;
}

static const BenchBaselineCase *find_case(const BenchBaseline *b, const char *type,
                                          const char *name)
{
    for (size_t i = 0; i < b->n; i++)
        if (strcmp(b->cases[i].type, type) == 0 && strcmp(b->cases[i].name, name) == 0)
            return &b->cases[i];
    return NULL;
}

static ErrCode read_cases(BenchBaseline *b, Err *err)
{
    const json_t *results;
    ErrCode code = json_field_array(b->root, "results", MAX_CASES, b->path, &results, err);

    if (code != ERR_OK)
        return code;
    b->cases = calloc(json_array_size(results) + 1, sizeof *b->cases);
    if (b->cases == NULL)
        return err_set(err, ERR_MEMORY, "%s: out of memory", b->path);
    for (size_t i = 0; code == ERR_OK && i < json_array_size(results); i++) {
        BenchBaselineCase c = {.type = NULL};
        char what[TEXT_BYTES];

        (void)snprintf(what, sizeof what, "%s: results[%zu]", b->path, i);
        code = read_case(&c, json_array_get(results, i), what, err);
        if (code == ERR_OK && find_case(b, c.type, c.name) != NULL)
            code =
                err_set(err, ERR_FORMAT, "%s: case %s of %s is there twice", what, c.name, c.type);
        if (code == ERR_OK)
            b->cases[b->n++] = c;
    }
    return code;
}

static ErrCode read_root(BenchBaseline *b, Err *err)
{
    const json_t *machine;
    const char *format = json_string_value(json_object_get(b->root, "format"));
    ErrCode code;

    if (format == NULL || strcmp(format, BENCH_FORMAT) != 0)
        return err_set(err, ERR_FORMAT,
                       "%s: is no baseline of bench: format is %.40s, expected \"%s\"", b->path,
                       format != NULL ? format : "missing", BENCH_FORMAT);
    code = json_field_object(b->root, "machine", b->path, &machine, err);
    if (code == ERR_OK)
        code = read_machine(b, machine, err);
    return code == ERR_OK ? read_cases(b, err) : code;
}

ErrCode bench_baseline_read(BenchBaseline *b, const char *path, Err *err)
{
    BenchBaseline read = {.path = path, .root = json_parse_file(path, MAX_FILE_BYTES, err)};
    ErrCode code = read.root != NULL ? read_root(&read, err) : err->code;

    if (code == ERR_OK)
        *b = read;
    else
        bench_baseline_free(&read);
    return code;
}

void bench_baseline_free(BenchBaseline *b)
{
    free(b->cases);
    json_decref(b->root);
    *b = (BenchBaseline){.root = NULL};
}

/* ---- Checking ---- */

static bool has_type(const BenchBaseline *b, const char *type)
{
    for (size_t i = 0; i < b->n; i++)
        if (strcmp(b->cases[i].type, type) == 0)
            return true;
    return false;
}

ErrCode bench_baseline_check(const BenchBaseline *b, const BenchMachine *now, const char *type,
                             Err *err)
{
    if (strcmp(b->config, now->config) != 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: is of another model: %s (configuration %s), now %s (%s)", b->path,
                       b->model, b->config, now->model, now->config);
    if (strcmp(b->isa, now->isa) != 0)
        return err_set(err, ERR_UNSUPPORTED, "%s: is of other kernels: %s, now %s", b->path, b->isa,
                       now->isa);
    if (strcmp(b->kv_type, now->kv_type) != 0)
        return err_set(err, ERR_UNSUPPORTED, "%s: is of another type of KV cache: %s, now %s",
                       b->path, b->kv_type, now->kv_type);
    if (!has_type(b, type))
        return err_set(err, ERR_UNSUPPORTED, "%s: is of another type of weights: %s, now %s",
                       b->path, b->n > 0 ? b->cases[0].type : "none", type);
    return ERR_OK;
}

/* ---- Comparing ---- */

static int by_slower(const void *a, const void *b)
{
    const double x = ((const BenchChange *)a)->slower, y = ((const BenchChange *)b)->slower;

    return (x < y) - (x > y);
}

static BenchChange compare_case(const BenchBaselineCase *then, const BenchResult *now)
{
    BenchChange change = {.then = then, .type = now->type, .name = now->name, .n = now->n};
    const bool lower = bench_lower_is_better(now->name);

    change.share = bench_median(now->share, now->n);
    change.least = now->share[0];
    change.most = now->share[now->n - 1];
    change.slower =
        100.0 * ((lower ? change.share / then->share : then->share / change.share) - 1.0);
    return change;
}

static void add_result(BenchComparison *c, const BenchResult *now)
{
    const BenchBaselineCase *then = find_case(c->baseline, now->type, now->name);

    if (then == NULL) {
        c->added[c->n_added++] = now;
        return;
    }
    BenchChange *change = &c->changes[c->n++];

    *change = compare_case(then, now);
    c->n_slower += change->slower > c->max_slowdown;
    c->n_faster += change->slower < -c->max_slowdown;
}

static bool was_measured(const BenchReport *r, const BenchBaselineCase *then)
{
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->results[i].type, then->type) == 0 &&
            strcmp(r->results[i].name, then->name) == 0)
            return true;
    return false;
}

ErrCode bench_compare(BenchComparison *c, const BenchBaseline *b, const BenchReport *r,
                      double max_slowdown, Err *err)
{
    *c = (BenchComparison){.baseline = b, .max_slowdown = max_slowdown};
    c->changes = calloc(r->n + 1, sizeof *c->changes);
    c->added = calloc(r->n + 1, sizeof(*c->added));
    c->missing = calloc(b->n + 1, sizeof(*c->missing));
    if (c->changes == NULL || c->added == NULL || c->missing == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for a comparison");
    for (size_t i = 0; i < r->n; i++)
        if (r->results[i].share_of != NULL) /* no probe */
            add_result(c, &r->results[i]);
    for (size_t i = 0; i < b->n; i++)
        if (!was_measured(r, &b->cases[i]))
            c->missing[c->n_missing++] = &b->cases[i];
    if (c->n == 0)
        return err_set(err, ERR_UNSUPPORTED, "%s: has none of the cases that were measured",
                       b->path);
    qsort(c->changes, c->n, sizeof *c->changes, by_slower);
    return ERR_OK;
}

void bench_comparison_free(BenchComparison *c)
{
    free(c->changes);
    free(c->added);
    free(c->missing);
    *c = (BenchComparison){.baseline = NULL};
}
