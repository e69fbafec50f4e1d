/* tests/test_verify_baseline.c: baselines of verify: which errors have grown, which files are
 * believed, and that the shipped model still has the errors of the baseline in the repository. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint/model_hash.h"
#include "checkpoint/verify.h"
#include "checkpoint/verify_baseline.h"
#include "kernels/kernels.h"
#include "model/gpt2.h"
#include "tokenizer/tokenizer.h"

#define SHAKESPEARE "models/shakespeare"
#define SHIPPED_BASELINE "models/shakespeare/baseline/verify.json"

static char file[] = "/tmp/llorch-baseline-XXXXXX";

static int make_file(void **state)
{
    const int fd = mkstemp(file);

    (void)state;
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(file);
}

static void write_text(const char *text, size_t n)
{
    FILE *f = fopen(file, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", text, part);
}

/* ---- A result made by hand ---- */

static const int32_t prompt[] = {3, 1, 4};
static const VerifyMachine machine = {.cpu_name = "cpu", .flags = "-O", .weights = 0xabc};
static const VerifyMeta meta = {.model = "m",
                                .types = "F16",
                                .ids = prompt,
                                .n_ids = 3,
                                .isa = "x",
                                .compiler = "c",
                                .version = "v",
                                .reference = "by hand"};

static void begin(VerifyResult *r)
{
    Err err = {0};

    *r = (VerifyResult){.self = true, .first_fault = -1, .capture = {.ids = prompt, .n_ids = 3}};
    if (verdict_init(&r->table, 8, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void end(VerifyResult *r)
{
    verdict_free(&r->table);
}

/* A row whose reference tensor holds values up to largest. */
static VerdictRow *add_row(VerifyResult *r, const char *name, double max_abs, double rms,
                           double largest)
{
    VerdictRow *row = verdict_add(&r->table, 7, 1e-3, "%s", name);

    row->verdict = VERDICT_PASS;
    row->measured = true;
    row->figures.max_abs = max_abs;
    row->figures.rms = rms;
    row->figures.sides[1] = (CompareSide){.min = -0.5 * largest, .max = largest};
    return row;
}

static void save(const VerifyResult *r)
{
    JsonBuf out = {0};

    verify_baseline_json(&out, r, &meta, &machine);
    assert_false(out.oom);
    write_text(out.data, out.len);
    json_buf_free(&out);
}

static void read_from(VerifyBaseline *b, const char *path)
{
    Err err = {0};

    if (verify_baseline_read(b, path, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void compare(VerifyComparison *c, const VerifyBaseline *b, const VerifyResult *r,
                    double max_growth)
{
    Err err = {0};

    if (verify_baseline_compare(c, b, r, max_growth, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

/* What became of one row, of a baseline with these figures: the number of failures. */
static int failures(double then_abs, double then_rms, double now_abs, double now_rms,
                    double largest, double max_growth)
{
    VerifyResult then, now;
    VerifyBaseline b = {.n_rows = 0};
    VerifyComparison c = {.n = 0};

    begin(&then);
    begin(&now);
    (void)add_row(&then, "row", then_abs, then_rms, largest);
    (void)add_row(&now, "row", now_abs, now_rms, largest);
    save(&then);
    read_from(&b, file);
    compare(&c, &b, &now, max_growth);
    const int n = c.n_failures;
    verify_comparison_free(&c);
    verify_baseline_free(&b);
    end(&then);
    end(&now);
    return n;
}

/* ---- Growth ---- */

static void errors_may_grow_to_the_factor(void **state)
{
    (void)state;
    assert_int_equal(failures(1e-5, 1e-6, 1.9e-5, 1e-6, 1.0, 2.0), 0);
    assert_int_equal(failures(1e-5, 1e-6, 2.1e-5, 1e-6, 1.0, 2.0), 1);
    assert_int_equal(failures(1e-5, 1e-6, 1e-5, 1.9e-6, 1.0, 2.0), 0);
    assert_int_equal(failures(1e-5, 1e-6, 1e-5, 2.1e-6, 1.0, 2.0), 1);
    assert_int_equal(failures(1e-5, 1e-6, 2.1e-5, 2.1e-6, 1.0, 2.0), 2);
    assert_int_equal(failures(1e-5, 1e-6, 2.9e-5, 2.9e-6, 1.0, 3.0), 0);
    assert_int_equal(failures(1e-5, 1e-6, 1.1e-5, 1e-6, 1.0, 1.05), 1);
    assert_int_equal(failures(1e-5, 1e-6, 1e-9, 1e-9, 1.0, 2.0), 0);
}

/* Below half a unit in the last place of the tensor's largest value growth says nothing. */
static void growth_below_rounding_does_not_count(void **state)
{
    (void)state;
    assert_int_equal(failures(1e-9, 1e-10, 3e-9, 3e-10, 1.0, 2.0), 0);
    assert_int_equal(failures(0.0, 0.0, 5e-8, 5e-8, 1.0, 2.0), 0);
    assert_int_equal(failures(0.0, 0.0, 7e-8, 5e-8, 1.0, 2.0), 1);
    assert_int_equal(failures(1e-9, 1e-9, 5e-8, 1e-9, 1e-3, 2.0), 0);
    assert_int_equal(failures(1e-9, 1e-9, 7e-8, 1e-9, 1e-3, 2.0), 1);
    assert_int_equal(failures(1e-9, 1e-9, 5e-6, 1e-9, 100.0, 2.0), 0);
    assert_int_equal(failures(1e-9, 1e-9, 7e-6, 1e-9, 100.0, 2.0), 1);
}

static void a_stage_alone_is_compared_too(void **state)
{
    VerifyResult then, now;
    VerifyBaseline b = {.n_rows = 0};
    VerifyComparison c;

    (void)state;
    begin(&then);
    begin(&now);
    for (int i = 0; i < 2; i++) {
        VerdictRow *row = add_row(i == 0 ? &then : &now, "row", 1e-5, 1e-6, 1.0);

        row->has_local = true;
        row->local = row->figures;
        row->local.rms = i == 0 ? 1e-6 : 5e-6;
    }
    save(&then);
    read_from(&b, file);
    compare(&c, &b, &now, 2.0);
    assert_int_equal(c.n_rows, 1);
    assert_int_equal(c.n_figures, 4);
    assert_int_equal(c.n, 1);
    assert_int_equal(c.n_failures, 1);
    assert_int_equal(c.changes[0].kind, VERIFY_GREW);
    assert_int_equal(c.changes[0].figure, VERIFY_LOCAL_RMS);
    assert_true(fabs(c.changes[0].factor - 5.0) < 1e-6);
    verify_comparison_free(&c);
    verify_baseline_free(&b);
    end(&then);
    end(&now);
}

/* A file with rows that then were right, gone, not validated; and one that is new. */
static void the_worst_comes_first_and_everything_is_named(void **state)
{
    static const struct {
        VerifyChangeKind kind;
        const char *name;
    } want[] = {{VERIFY_FAILS, "fails"},   {VERIFY_MISSING, "gone"},  {VERIFY_MISSING, "skipped"},
                {VERIFY_GREW, "grew 9"},   {VERIFY_GREW, "grew 3"},   {VERIFY_LARGER, "larger"},
                {VERIFY_SMALLER, "small"}, {VERIFY_NEW, "validated"}, {VERIFY_NEW, "new"}};
    VerifyResult then, now;
    VerifyBaseline b = {.n_rows = 0};
    VerifyComparison c;
    JsonBuf out = {0};
    Err err = {0};
    bool seen[9] = {false};

    (void)state;
    begin(&then);
    begin(&now);
    (void)add_row(&then, "small", 8e-5, 1e-6, 1.0);
    (void)add_row(&then, "gone", 1e-5, 1e-6, 1.0);
    (void)add_row(&then, "larger", 1e-5, 1e-6, 1.0);
    (void)add_row(&then, "grew 3", 1e-5, 1e-6, 1.0);
    (void)add_row(&then, "fails", 1e-5, 1e-6, 1.0);
    (void)add_row(&then, "grew 9", 1e-5, 1e-6, 1.0);
    add_row(&then, "validated", 1e-5, 1e-6, 1.0)->verdict = VERDICT_NOT_VALIDATED;
    (void)add_row(&then, "skipped", 1e-5, 1e-6, 1.0);
    add_row(&now, "fails", 1e-5, 1e-6, 1.0)->verdict = VERDICT_FAIL;
    (void)add_row(&now, "new", 1.0, 1.0, 1.0);
    (void)add_row(&now, "grew 9", 9e-5, 1e-6, 1.0);
    (void)add_row(&now, "grew 3", 3e-5, 1e-6, 1.0);
    (void)add_row(&now, "larger", 1.5e-5, 1e-6, 1.0);
    (void)add_row(&now, "small", 1e-5, 1e-6, 1.0);
    (void)add_row(&now, "validated", 1.0, 1.0, 1.0);
    add_row(&now, "skipped", 1e-5, 1e-6, 1.0)->verdict = VERDICT_NOT_VALIDATED;
    save(&then);
    read_from(&b, file);
    compare(&c, &b, &now, 2.0);
    assert_int_equal(c.n, 9);
    assert_int_equal(c.n_failures, 5);
    for (int i = 0; i < 9; i++) { /* two of one kind without figures come in any order */
        assert_int_equal(c.changes[i].kind, want[i].kind);
        for (int j = 0; j < 9; j++)
            seen[j] = seen[j] || strcmp(c.changes[i].name, want[j].name) == 0;
    }
    for (int i = 0; i < 9; i++)
        assert_true(seen[i]);
    assert_string_equal(c.changes[3].name, "grew 9");
    assert_string_equal(c.changes[4].name, "grew 3");
    verify_comparison_format(&out, &c, false);
    assert_has(out.data, "grew 9     max abs       1.00e-05  9.00e-05  9.00 x  grew\n");
    assert_has(out.data, "; FAILURES: 5 ");
    assert_has(out.data, file);
    json_buf_free(&out);
    verify_comparison_json(&out, &c);
    json_t *root = json_parse(out.data, out.len, "json", &err);
    assert_non_null(root);
    assert_int_equal(json_integer_value(json_object_get(root, "failures")), 5);
    assert_int_equal(json_array_size(json_object_get(root, "changes")), 9);
    json_decref(root);
    json_buf_free(&out);
    verify_comparison_free(&c);
    verify_baseline_free(&b);
    end(&then);
    end(&now);
}

static void figures_that_are_no_numbers_are_left_to_the_verdict(void **state)
{
    (void)state;
    assert_int_equal(failures((double)NAN, 1e-6, 1e-5, 1e-6, 1.0, 2.0), 0);
    assert_int_equal(failures(1e-5, 1e-6, (double)NAN, (double)INFINITY, 1.0, 2.0), 0);
}

/* ---- Files ---- */

static void baselines_of_something_else_are_refused(void **state)
{
    static const int32_t other[] = {3, 1, 5};
    VerifyResult then;
    VerifyBaseline b = {.n_rows = 0};
    VerifyComparison c;
    Err err = {0};

    (void)state;
    begin(&then);
    (void)add_row(&then, "row", 1e-5, 1e-6, 1.0);
    save(&then);
    read_from(&b, file);
    assert_int_equal(verify_baseline_check(&b, "m", "F16", 0xabc, &err), ERR_OK);
    assert_int_equal(verify_baseline_check(&b, "m", "F32", 0xabc, &err), ERR_UNSUPPORTED);
    assert_has(err.msg, "another type of weights: F16, now F32");
    assert_int_equal(verify_baseline_check(&b, "n", "F16", 0xabd, &err), ERR_UNSUPPORTED);
    assert_has(err.msg, "another model: m (weights 0000000000000abc), now n (0000000000000abd)");
    assert_has(err.msg, file);
    then.self = false;
    assert_int_equal(verify_baseline_compare(&c, &b, &then, 2.0, &err), ERR_UNSUPPORTED);
    assert_has(err.msg, "another kind of reference: self, now folder");
    then.self = true;
    then.capture.ids = other;
    assert_int_equal(verify_baseline_compare(&c, &b, &then, 2.0, &err), ERR_UNSUPPORTED);
    assert_has(err.msg, "another prompt");
    then.capture.ids = prompt;
    then.capture.n_ids = 2;
    assert_int_equal(verify_baseline_compare(&c, &b, &then, 2.0, &err), ERR_UNSUPPORTED);
    verify_baseline_free(&b);
    end(&then);
}

/* Every prefix, and every member that is read missing or of another type. */
static void damaged_files_are_refused(void **state)
{
    static const char *const keys[] = {
        "format",  "machine", "cpu_name", "flags",    "weights_hash", "result",    "model",
        "weights", "isa",     "version",  "compiler", "prompt_ids",   "reference", "kind",
        "rows",    "name",    "verdict",  "max_abs",  "rms"};
    VerifyResult then;
    VerifyBaseline b = {.n_rows = 0};
    JsonBuf out = {0};
    Err err = {0};

    (void)state;
    begin(&then);
    (void)add_row(&then, "row", 1e-5, 1e-6, 1.0);
    verify_baseline_json(&out, &then, &meta, &machine);
    for (size_t n = 0; n + 1 < out.len; n++) { /* the last byte is the end of the line */
        write_text(out.data, n);
        assert_int_equal(verify_baseline_read(&b, file, &err), ERR_FORMAT);
        assert_null(b.root);
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char key[32];
        char *copy = strdup(out.data);

        assert_non_null(copy);
        (void)snprintf(key, sizeof key, "\"%s\":", keys[i]);
        char *at = strstr(copy, key);
        assert_non_null(at);
        at[1] = '?';
        write_text(copy, out.len);
        if (verify_baseline_read(&b, file, &err) != ERR_FORMAT)
            fail_msg("believed without %s", keys[i]);
        assert_has(err.msg, file);
        assert_null(strchr(err.msg, '\n'));
        free(copy);
    }
    json_buf_free(&out);
    end(&then);
}

static void impossible_rows_are_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "1",
        "{\"name\":\"x\",\"verdict\":\"maybe\"}",
        "{\"name\":1,\"verdict\":\"pass\"}",
        "{\"name\":\"x\",\"verdict\":\"pass\",\"figures\":3}",
        "{\"name\":\"x\",\"verdict\":\"pass\",\"figures\":{\"max_abs\":-1,\"rms\":0}}",
        "{\"name\":\"x\",\"verdict\":\"pass\",\"figures\":{\"max_abs\":\"1\",\"rms\":0}}",
        "{\"name\":\"x\",\"verdict\":\"pass\",\"local\":[]}",
        ("{\"verdict\":\"pass\",\"name\":"
         "\"01234567890123456789012345678901234567890123456789012345678901234\"}"),
    };
    VerifyBaseline b = {.n_rows = 0};
    Err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[1024];
        const int n = snprintf(
            text, sizeof text,
            "{\"format\":\"llorch-cpud verify 1\",\"machine\":{\"cpu_name\":\"\",\"flags\":\"\","
            "\"weights_hash\":\"\"},\"result\":{\"model\":\"\",\"weights\":\"\",\"isa\":\"\","
            "\"compiler\":\"\",\"version\":\"\",\"prompt_ids\":[],\"reference\":{\"kind\":\"\"},"
            "\"rows\":[%s]}}",
            rows[i]);

        assert_true(n > 0 && (size_t)n < sizeof text);
        write_text(text, (size_t)n);
        assert_int_equal(verify_baseline_read(&b, file, &err), ERR_FORMAT);
        assert_has(err.msg, file);
        assert_null(strchr(err.msg, '\n'));
    }
}

/* ---- The shipped model ---- */

typedef struct {
    Gpt2 model;
    Tokenizer *tokenizer;
} Shipped;

static void open_shipped(Shipped *s)
{
    Err err = {0};

    if (gpt2_load(&s->model, SHAKESPEARE, NULL, &err) != ERR_OK ||
        tokenizer_load(&s->tokenizer, SHAKESPEARE, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void close_shipped(Shipped *s)
{
    tokenizer_free(s->tokenizer);
    gpt2_free(&s->model);
}

/* All instruction sets and compilers give the same bits, so nothing moves at all; the reference is
 * computed in double by the C library's functions, so the last digits of an error may. */
static void shipped_model_has_the_errors_of_its_baseline(void **state)
{
    const VerifyOptions options = {.reference = VERIFY_SELF};
    VerifyBaseline b = {.n_rows = 0};
    uint64_t hash = 0;
    Shipped s;
    Err err = {0};

    (void)state;
    open_shipped(&s);
    read_from(&b, SHIPPED_BASELINE);
    if (model_hash_weights(&s.model, &hash, &err) != ERR_OK ||
        verify_baseline_check(&b, s.model.name, s.model.types, hash, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    for (int t = 0; kernels_available(t) != NULL; t++) {
        VerifyResult r = {.first_fault = -1};
        VerifyComparison c;

        if (verify_run(&r, &s.model, s.tokenizer, kernels_available(t), &options, NULL, &err) !=
            ERR_OK)
            fail_msg("%s", err.msg);
        compare(&c, &b, &r, VERIFY_MAX_GROWTH);
        assert_int_equal(c.n_rows, b.n_rows);
        assert_true(c.n_figures > 3 * c.n_rows);
        for (int i = 0; i < c.n; i++)
            if (!(fabs(c.changes[i].factor - 1.0) < 1e-5))
                fail_msg("%s, %s: %g, in the baseline %g", kernels_available(t)->name,
                         c.changes[i].name, c.changes[i].now, c.changes[i].then);
        assert_int_equal(c.n_failures, 0);
        verify_comparison_free(&c);
        verify_result_free(&r);
    }
    verify_baseline_free(&b);
    close_shipped(&s);
}

static void the_hash_is_that_of_the_weights(void **state)
{
    const Gpt2LoadOptions as_f32 = {.convert = true, .type = KERN_F32};
    uint64_t hash = 0, config = 0, other = 0;
    Shipped s;
    Gpt2 f32;
    Err err = {0};

    (void)state;
    open_shipped(&s);
    assert_int_equal(model_hash_weights(&s.model, &hash, &err), ERR_OK);
    assert_int_equal(model_hash_config(&s.model, &config, &err), ERR_OK);
    assert_true(hash != config);
    assert_int_equal(gpt2_load(&f32, SHAKESPEARE, &as_f32, &err), ERR_OK);
    assert_int_equal(model_hash_config(&f32, &other, &err), ERR_OK);
    assert_true(other == config);
    assert_int_equal(model_hash_weights(&f32, &other, &err), ERR_OK);
    assert_true(other != hash); /* other bytes, and the type is said anyway */
    gpt2_free(&f32);

    /* One bit of one weight. */
    uint32_t bits;
    float *gamma = (float *)(uintptr_t)s.model.ln_f.gamma;
    memcpy(&bits, gamma, sizeof bits);
    bits ^= 1;
    memcpy(gamma, &bits, sizeof bits);
    assert_int_equal(model_hash_weights(&s.model, &other, &err), ERR_OK);
    assert_true(other != hash);
    close_shipped(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_may_grow_to_the_factor),
        cmocka_unit_test(growth_below_rounding_does_not_count),
        cmocka_unit_test(a_stage_alone_is_compared_too),
        cmocka_unit_test(the_worst_comes_first_and_everything_is_named),
        cmocka_unit_test(figures_that_are_no_numbers_are_left_to_the_verdict),
        cmocka_unit_test(baselines_of_something_else_are_refused),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(impossible_rows_are_refused),
        cmocka_unit_test(shipped_model_has_the_errors_of_its_baseline),
        cmocka_unit_test(the_hash_is_that_of_the_weights),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("verify_baseline", tests, make_file, remove_file);
}
