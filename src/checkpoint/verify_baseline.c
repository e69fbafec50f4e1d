/* checkpoint/verify_baseline.c: see verify_baseline.h; the file.
 *
 * May include: common. */
#include "checkpoint/verify_baseline.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/json_field.h"

#define FORMAT "llorch-cpud verify 1"

/* 24 layers give 300 rows and half a megabyte. */
enum {
    MAX_FILE_BYTES = 64 << 20,
    MAX_ROWS = 100000,
    MAX_IDS = 1 << 20,
    TEXT_BYTES = 1024,
    WHAT_BYTES = 400
};

/* ---- Writing ---- */

static void add_string(JsonBuf *out, const char *key, const char *text)
{
    json_buf_printf(out, "\"%s\":", key);
    json_buf_string(out, text, strlen(text));
}

void verify_baseline_json(JsonBuf *out, const VerifyResult *r, const VerifyMeta *meta,
                          const VerifyMachine *machine)
{
    json_buf_printf(out, "{");
    add_string(out, "format", FORMAT);
    json_buf_printf(out, ",\"machine\":{");
    add_string(out, "cpu_name", machine->cpu_name);
    json_buf_printf(out, ",");
    add_string(out, "flags", machine->flags);
    json_buf_printf(out, ",\"weights_hash\":\"%016" PRIx64 "\"},\n\"result\":", machine->weights);
    verify_json(out, r, meta);
    json_buf_printf(out, "}\n");
}

/* ---- Reading ---- */

typedef struct {
    const char *key, **text;
} Field;

static ErrCode read_texts(const json_t *o, const Field *fields, size_t n, const char *what,
                          Err *err)
{
    ErrCode code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < n; i++)
        code = json_field_text(o, fields[i].key, TEXT_BYTES, what, fields[i].text, err);
    return code;
}

static ErrCode read_origin(VerifyBaseline *b, const json_t *result, Err *err)
{
    const Field of_machine[] = {
        {"cpu_name", &b->cpu_name}, {"flags", &b->flags}, {"weights_hash", &b->weights_hash}};
    const Field of_result[] = {{"model", &b->model},
                               {"weights", &b->types},
                               {"isa", &b->isa},
                               {"compiler", &b->compiler},
                               {"version", &b->version}};
    const Field of_reference[] = {{"kind", &b->kind}};
    const json_t *machine, *reference;
    ErrCode code = json_field_object(b->root, "machine", b->path, &machine, err);

    if (code == ERR_OK)
        code = read_texts(machine, of_machine, 3, b->path, err);
    if (code == ERR_OK)
        code = read_texts(result, of_result, 5, b->path, err);
    if (code == ERR_OK)
        code = json_field_object(result, "reference", b->path, &reference, err);
    if (code == ERR_OK)
        code = read_texts(reference, of_reference, 1, b->path, err);
    return code == ERR_OK ? json_field_array(result, "prompt_ids", MAX_IDS, b->path, &b->ids, err)
                          : code;
}

/* null: a number that is none, which verify_json writes so. */
static ErrCode read_number(const json_t *o, const char *key, const char *what, double *out,
                           Err *err)
{
    if (json_is_null(json_object_get(o, key))) {
        *out = NAN;
        return ERR_OK;
    }
    const ErrCode code = json_field_number(o, key, what, out, err);
    return code == ERR_OK && *out < 0.0
               ? err_set(err, ERR_FORMAT, "%s: %s is %g, expected none below 0", what, key, *out)
               : code;
}

/* The figures of a row's member key, if it has one; first: where they belong. */
static ErrCode read_figures(VerifyBaselineRow *row, VerifyFigure first, const json_t *o,
                            const char *key, const char *what, Err *err)
{
    const json_t *figures;
    ErrCode code;

    if (json_object_get(o, key) == NULL)
        return ERR_OK;
    code = json_field_object(o, key, what, &figures, err);
    if (code == ERR_OK)
        code = read_number(figures, "max_abs", what, &row->figures[first], err);
    return code == ERR_OK ? read_number(figures, "rms", what, &row->figures[first + 1], err) : code;
}

static ErrCode read_verdict(VerifyBaselineRow *row, const json_t *o, const char *what, Err *err)
{
    static const char *const words[] = {[VERDICT_NOT_VALIDATED] = "not validated",
                                        [VERDICT_PASS] = "pass",
                                        [VERDICT_FAIL] = "fail"};
    const char *text;
    const ErrCode code = json_field_text(o, "verdict", TEXT_BYTES, what, &text, err);

    if (code != ERR_OK)
        return code;
    for (int i = 0; i < 3; i++)
        if (strcmp(text, words[i]) == 0) {
            row->verdict = (Verdict)i;
            return ERR_OK;
        }
    return err_set(err, ERR_FORMAT, "%s: verdict is \"%.40s\"", what, text);
}

static ErrCode read_row(VerifyBaselineRow *row, const json_t *o, const char *what, Err *err)
{
    ErrCode code = json_field_text(o, "name", VERDICT_NAME_BYTES, what, &row->name, err);

    for (int i = 0; i < VERIFY_FIGURES; i++)
        row->figures[i] = NAN;
    if (code == ERR_OK)
        code = read_verdict(row, o, what, err);
    if (code == ERR_OK)
        code = read_figures(row, VERIFY_MAX_ABS, o, "figures", what, err);
    return code == ERR_OK ? read_figures(row, VERIFY_LOCAL_MAX_ABS, o, "local", what, err) : code;
}

static ErrCode read_rows(VerifyBaseline *b, const json_t *result, Err *err)
{
    const json_t *rows;
    size_t bytes = 0;
    ErrCode code = json_field_array(result, "rows", MAX_ROWS, b->path, &rows, err);

    if (code != ERR_OK)
        return code;
    const size_t n = json_array_size(rows);
    if (n == 0)
        return err_set(err, ERR_FORMAT, "%s: rows is empty", b->path);
    if (!arena_plan(&bytes, n, sizeof *b->rows))
        return err_set(err, ERR_LIMIT, "%s: too many rows", b->path);
    code = arena_init(&b->arena, bytes, "rows of a baseline", err);
    if (code != ERR_OK)
        return code;
    b->rows = arena_alloc(&b->arena, n, sizeof *b->rows);
    if (b->rows == NULL)
        return err_set(err, ERR_MEMORY, "%s: out of memory", b->path);
    for (; code == ERR_OK && b->n_rows < (int)n; b->n_rows++) {
        char what[WHAT_BYTES];

        (void)snprintf(what, sizeof what, "%.300s: rows[%d]", b->path, b->n_rows);
        code = read_row(&b->rows[b->n_rows], json_array_get(rows, (size_t)b->n_rows), what, err);
    }
    return code;
}

static ErrCode read_root(VerifyBaseline *b, Err *err)
{
    const char *format = json_string_value(json_object_get(b->root, "format"));
    const json_t *result;
    ErrCode code;

    if (format == NULL || strcmp(format, FORMAT) != 0)
        return err_set(err, ERR_FORMAT,
                       "%s: is no baseline of verify: format is %.40s, expected \"%s\"", b->path,
                       format != NULL ? format : "missing", FORMAT);
    code = json_field_object(b->root, "result", b->path, &result, err);
    if (code == ERR_OK)
        code = read_origin(b, result, err);
    return code == ERR_OK ? read_rows(b, result, err) : code;
}

ErrCode verify_baseline_read(VerifyBaseline *b, const char *path, Err *err)
{
    VerifyBaseline read = {.path = path, .root = json_parse_file(path, MAX_FILE_BYTES, err)};
    const ErrCode code = read.root != NULL ? read_root(&read, err) : err->code;

    if (code == ERR_OK)
        *b = read;
    else
        verify_baseline_free(&read);
    return code;
}

void verify_baseline_free(VerifyBaseline *b)
{
    arena_free(&b->arena);
    json_decref(b->root);
    *b = (VerifyBaseline){.root = NULL};
}

ErrCode verify_baseline_check(const VerifyBaseline *b, const char *name, const char *types,
                              uint64_t weights, Err *err)
{
    char hash[24];

    (void)snprintf(hash, sizeof hash, "%016" PRIx64, weights);
    if (strcmp(b->types, types) != 0)
        return err_set(err, ERR_UNSUPPORTED, "%s: is of another type of weights: %.100s, now %s",
                       b->path, b->types, types);
    if (strcmp(b->weights_hash, hash) != 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: is of another model: %.100s (weights %.40s), now %s (%s)", b->path,
                       b->model, b->weights_hash, name, hash);
    return ERR_OK;
}
