/* tests/test_compare.c: the comparison behind every checkpoint, the table of verdicts, and which
 * reference file is believed. A comparison that is too kind would make all other tests worthless.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/compare.h"
#include "checkpoint/reference.h"
#include "checkpoint/tolerance.h"
#include "checkpoint/verdict.h"

static CompareView view(const float *data, int n_dims, size_t a, size_t b, size_t c)
{
    return (CompareView){.data = data, .n_dims = n_dims, .dims = {a, b, c}};
}

/* ---- compare_tensors ---- */

static void shape_comes_first(void **state)
{
    const float x[6] = {0}, bad[6] = {NAN, NAN, NAN, NAN, NAN, NAN};
    const CompareView a = view(x, 2, 2, 3, 0);
    const CompareView others[] = {view(x, 2, 3, 2, 0), view(x, 1, 6, 0, 0), view(x, 3, 1, 2, 3),
                                  view(bad, 2, 1, 3, 0)};

    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(compare_tensors(&a, &others[i], 1.0).verdict, COMPARE_SHAPE);
        assert_int_equal(compare_bits(&a, &others[i]).verdict, COMPARE_SHAPE);
    }
}

static void not_a_number_never_passes(void **state)
{
    const float bad[] = {NAN, INFINITY, -INFINITY};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int at = 0; at < 3; at++) {
            float x[3] = {1.0f, 2.0f, 3.0f}, y[3] = {1.0f, 2.0f, 3.0f};
            const CompareView a = compare_vector(x, 3), b = compare_vector(y, 3);
            Comparison c;

            x[at] = bad[i];
            c = compare_tensors(&a, &b, 1e30);
            assert_int_equal(c.verdict, COMPARE_NOT_FINITE);
            assert_int_equal(c.index, at);
            assert_int_equal(compare_tensors(&b, &a, 1e30).verdict, COMPARE_NOT_FINITE);
            y[at] = bad[i]; /* the same on both sides is no better */
            assert_int_equal(compare_tensors(&a, &b, 1e30).verdict, COMPARE_NOT_FINITE);
        }
}

static void tolerance_is_a_closed_bound(void **state)
{
    /* 1/1024 is exact in binary, so the difference is exactly the tolerance. */
    const float a[1] = {0.5f + 0x1p-10f}, b[1] = {0.5f};
    const CompareView x = compare_vector(a, 1), y = compare_vector(b, 1);

    (void)state;
    assert_int_equal(compare_tensors(&x, &y, 0x1p-10).verdict, COMPARE_EQUAL);
    assert_int_equal(compare_tensors(&x, &y, 0x1.fffffp-11).verdict, COMPARE_VALUES);
    assert_int_equal(compare_tensors(&x, &x, 0.0).verdict, COMPARE_EQUAL);
}

static void tolerance_grows_with_large_values_only(void **state)
{
    const float a[1] = {100.5f}, b[1] = {100.0f}, c[1] = {0.011f}, d[1] = {0.001f};
    const CompareView va = compare_vector(a, 1), vb = compare_vector(b, 1);
    const CompareView vc = compare_vector(c, 1), vd = compare_vector(d, 1);

    (void)state;
    assert_int_equal(compare_tensors(&va, &vb, 5.1e-3).verdict, COMPARE_EQUAL);
    assert_int_equal(compare_tensors(&va, &vb, 4.9e-3).verdict, COMPARE_VALUES);
    /* 0.01 off at 0.001 is a factor of 11, but what counts is the absolute difference. */
    assert_int_equal(compare_tensors(&vc, &vd, 0.0101).verdict, COMPARE_EQUAL);
    assert_int_equal(compare_tensors(&vc, &vd, 0.0099).verdict, COMPARE_VALUES);
}

static void every_element_counts(void **state)
{
    enum { N = 5000 };
    static float x[N], y[N];
    const CompareView a = view(x, 2, 50, 100, 0), b = view(y, 2, 50, 100, 0);

    (void)state;
    for (size_t i = 0; i < N; i += 37) {
        char place[COMPARE_TEXT_BYTES], want[COMPARE_TEXT_BYTES];
        Comparison c;

        y[i] = 0.25f;
        c = compare_tensors(&a, &b, 0.1);
        assert_int_equal(c.verdict, COMPARE_VALUES);
        assert_int_equal(c.n, N);
        assert_int_equal(c.n_beyond, 1);
        assert_int_equal(c.index, i);
        compare_place(place, &a, c.index);
        snprintf(want, sizeof want, "[%zu,%zu]", i / 100, i % 100);
        assert_string_equal(place, want);
        y[i] = 0.0f;
    }
}

static void figures_are_those_of_the_definition(void **state)
{
    const float x[4] = {1.5f, -2.0f, 0.0f, 104.0f}, y[4] = {1.0f, -2.0f, 0.25f, 100.0f};
    const CompareView a = compare_vector(x, 4), b = compare_vector(y, 4);
    const Comparison c = compare_tensors(&a, &b, 0.1);

    (void)state;
    assert_true(c.max_abs == 4.0);
    assert_true(c.max_rel == 1.0); /* 0.25 off at 0.25; zeros of the reference are left out */
    assert_true(c.mean_abs == 4.75 / 4.0);
    assert_true(fabs(c.rms - sqrt(16.3125 / 4.0)) < 1e-12);
    assert_true(c.worst == 0.5); /* 0.5 at 1 weighs more than 4 at 100 */
    assert_int_equal(c.index, 0);
    assert_true(c.ours == 1.5f && c.reference == 1.0f);
    assert_int_equal(c.n_beyond, 2);
}

static void the_largest_floats_do_not_overflow(void **state)
{
    const float x[1] = {3.4e38f}, y[1] = {-3.4e38f};
    const CompareView a = compare_vector(x, 1), b = compare_vector(y, 1);
    const Comparison c = compare_tensors(&a, &b, 1.9);

    (void)state;
    assert_int_equal(c.verdict, COMPARE_VALUES);
    assert_true(isfinite(c.rms) && c.worst == 2.0);
}

/* ---- Statistics ---- */

static void cosine_is_that_of_the_definition(void **state)
{
    const float x[2] = {3.0f, 4.0f}, y[2] = {4.0f, 3.0f}, z[2] = {-6.0f, -8.0f}, none[2] = {0};
    const CompareView a = compare_vector(x, 2), b = compare_vector(y, 2), c = compare_vector(z, 2);
    const CompareView zero = compare_vector(none, 2);

    (void)state;
    assert_true(fabs(compare_tensors(&a, &b, 1.0).cosine - 24.0 / 25.0) < 1e-15);
    assert_true(fabs(compare_tensors(&a, &c, 1.0).cosine + 1.0) < 1e-15);
    assert_true(isnan(compare_tensors(&a, &zero, 1.0).cosine));
}

static void sides_are_counted_and_measured_apart(void **state)
{
    const float x[6] = {1.0f, 3.0f, NAN, INFINITY, -INFINITY, 8.0f}, y[6] = {-2.0f, 2.0f};
    const CompareView a = compare_vector(x, 6), b = compare_vector(y, 6);
    const float nothing[1] = {NAN};
    const CompareView none = compare_vector(nothing, 1);
    const Comparison c = compare_tensors(&a, &b, 1.0);
    const CompareSide *ours = &c.sides[0], *reference = &c.sides[1];

    (void)state;
    assert_int_equal(c.verdict, COMPARE_NOT_FINITE);
    assert_int_equal(ours->n_nan, 1);
    assert_int_equal(ours->n_inf, 2);
    assert_true(ours->mean == 4.0 && ours->min == 1.0 && ours->max == 8.0);
    assert_true(fabs(ours->variance - 26.0 / 3.0) < 1e-12); /* over n, not n - 1 */
    assert_int_equal(reference->n_nan + reference->n_inf, 0);
    assert_true(reference->mean == 0.0 && reference->min == -2.0 && reference->max == 2.0);
    assert_true(fabs(reference->variance - 8.0 / 6.0) < 1e-12);
    assert_true(isnan(compare_tensors(&none, &none, 1.0).sides[0].mean));
}

static void decades_count_every_element_once(void **state)
{
    const double errors[] = {0.0, 1e-15, 5e-12, 5e-8, 0.5, 5.0, 5e9};
    const int decades[] = {0, 1, 1, 5, 12, 13, 15};
    enum { N = sizeof errors / sizeof errors[0] };
    uint32_t want[COMPARE_DECADES] = {0};
    const float zeros[N] = {0};
    CompareView a = compare_vector(zeros, N), b = compare_vector(zeros, N);
    Comparison c;

    (void)state;
    for (int i = 0; i < N; i++)
        want[decades[i]]++;
    b.wide = errors;
    c = compare_tensors(&a, &b, 1e10);
    assert_memory_equal(c.decades, want, sizeof want);
}

static void a_double_reference_is_not_rounded(void **state)
{
    const float x[2] = {1.0f, 2.0f};
    const double y[2] = {1.0 + 0x1p-40, 2.0};
    const CompareView a = compare_vector(x, 2);
    CompareView b = {.n_dims = 1, .dims = {2}, .wide = y};
    Comparison c = compare_tensors(&a, &b, 0x1p-41);

    (void)state;
    assert_int_equal(c.verdict, COMPARE_VALUES);
    assert_true(c.max_abs == 0x1p-40);
    assert_int_equal(compare_tensors(&a, &b, 0x1p-39).verdict, COMPARE_EQUAL);
    b.dims[0] = 1;
    assert_int_equal(compare_tensors(&a, &b, 1.0).verdict, COMPARE_SHAPE);
}

static void every_element_has_its_own_bound(void **state)
{
    const float x[3] = {1.0f, 100.5f, 2.0f}, y[3] = {1.25f, 100.0f, 2.0f};
    const CompareView a = compare_vector(x, 3), b = compare_vector(y, 3);
    double allowed[3] = {0.25, 1.0, 0.0};
    Comparison c = compare_allowed(&a, &b, allowed);

    (void)state;
    assert_int_equal(c.verdict, COMPARE_EQUAL);
    assert_true(c.worst == 1.0 && c.max_abs == 0.5);
    assert_int_equal(c.index, 0);
    allowed[1] = 0.125;
    c = compare_allowed(&a, &b, allowed);
    assert_int_equal(c.verdict, COMPARE_VALUES);
    assert_true(c.worst == 4.0 && c.n_beyond == 1);
    assert_int_equal(c.index, 1);
    allowed[1] = 0.0; /* nothing is allowed, and something is there */
    c = compare_allowed(&a, &b, allowed);
    assert_int_equal(c.verdict, COMPARE_VALUES);
    assert_true(isinf(c.worst));
}

static void the_map_shows_where_errors_are(void **state)
{
    enum { ROWS = 100, COLUMNS = 130 };
    static float x[ROWS * COLUMNS], y[ROWS * COLUMNS];
    const CompareView a = view(x, 2, ROWS, COLUMNS, 0), b = view(y, 2, ROWS, COLUMNS, 0);
    const CompareView small = view(x, 2, 3, 5, 0), other = view(y, 2, 5, 3, 0);
    const float errors[] = {1e-12f, 1e-6f, 1e-3f, 7.0f, NAN};
    int last = 0, n_marked = 0;
    CompareMap map;

    (void)state;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        const int cell =
            50 * COMPARE_MAP_ROWS / ROWS * COMPARE_MAP_COLUMNS + 77 * COMPARE_MAP_COLUMNS / COLUMNS;

        x[50 * COLUMNS + 77] = errors[i];
        compare_map(&map, &a, &b);
        assert_int_equal(map.rows, COMPARE_MAP_ROWS);
        assert_int_equal(map.columns, COMPARE_MAP_COLUMNS);
        n_marked = 0;
        for (int n = 0; n < map.rows * map.columns; n++)
            n_marked += map.cells[n] > 0;
        assert_int_equal(n_marked, 1);
        assert_true(map.cells[cell] >= last);
        last = map.cells[cell];
        assert_true(i > 0 || last == 1);
    }
    assert_int_equal(last, 255);
    y[50 * COLUMNS + 77] = NAN; /* on both sides: no difference */
    compare_map(&map, &a, &b);
    for (int n = 0; n < map.rows * map.columns; n++)
        assert_int_equal(map.cells[n], 0);
    compare_map(&map, &small, &small);
    assert_true(map.rows == 3 && map.columns == 5);
    compare_map(&map, &small, &other);
    assert_int_equal(map.rows, 0);
    x[50 * COLUMNS + 77] = y[50 * COLUMNS + 77] = 0.0f;
}

/* ---- compare_bits ---- */

static void bits_see_the_sign_of_zero(void **state)
{
    const float x[3] = {1.0f, 0.0f, 2.0f}, y[3] = {1.0f, -0.0f, 2.0f};
    const CompareView a = compare_vector(x, 3), b = compare_vector(y, 3);
    const Comparison c = compare_bits(&a, &b);

    (void)state;
    assert_int_equal(c.verdict, COMPARE_VALUES);
    assert_int_equal(c.n_beyond, 1);
    assert_int_equal(c.index, 1);
    assert_int_equal(compare_tensors(&a, &b, 0.0).verdict, COMPARE_EQUAL);
    assert_int_equal(compare_bits(&a, &a).verdict, COMPARE_EQUAL);
}

static void bits_see_the_last_place(void **state)
{
    float x[2] = {1.0f, 7.0f}, y[2] = {1.0f, 7.0f};
    const CompareView a = compare_vector(x, 2), b = compare_vector(y, 2);

    (void)state;
    y[1] = nextafterf(7.0f, 8.0f);
    assert_int_equal(compare_bits(&a, &b).verdict, COMPARE_VALUES);
    x[1] = NAN;
    assert_int_equal(compare_bits(&a, &b).verdict, COMPARE_VALUES);
    y[1] = x[1];
    assert_int_equal(compare_bits(&a, &b).verdict, COMPARE_EQUAL);
}

/* ---- compare_masked ---- */

enum { MASK_HEADS = 2, MASK_QUERIES = 3, MASK_KEYS = 5, MASK_N = 30 };

/* P = 2: query i sees keys 0 .. 2 + i. */
static void masked_scores(float *x)
{
    for (int i = 0; i < MASK_N; i++)
        x[i] = i % MASK_KEYS > 2 + i / MASK_KEYS % MASK_QUERIES ? -INFINITY : (float)i;
}

static void mask_is_exactly_minus_infinity(void **state)
{
    float x[MASK_N], y[MASK_N];
    const CompareView a = view(x, 3, MASK_HEADS, MASK_QUERIES, MASK_KEYS);
    const CompareView b = view(y, 3, MASK_HEADS, MASK_QUERIES, MASK_KEYS);
    const float instead[] = {0.0f, -1e30f, NAN, INFINITY};

    (void)state;
    masked_scores(x);
    masked_scores(y);
    assert_int_equal(compare_masked(&a, &b, 1e-4).verdict, COMPARE_EQUAL);
    assert_int_equal(compare_masked(&a, &b, 1e-4).n, MASK_HEADS * (3 + 4 + 5));
    for (int i = 0; i < MASK_N; i++) {
        const float right = x[i];
        Comparison c;

        for (size_t w = 0; isinf(right) && w < sizeof instead / sizeof instead[0]; w++) {
            x[i] = instead[w];
            c = compare_masked(&a, &b, 1e30);
            assert_int_equal(c.verdict, COMPARE_MASK);
            assert_int_equal(c.index, i);
            assert_int_equal(compare_masked(&b, &a, 1e30).verdict, COMPARE_MASK);
        }
        if (!isinf(right)) {
            x[i] = -INFINITY;
            assert_int_equal(compare_masked(&a, &b, 1e30).verdict, COMPARE_MASK);
            x[i] = NAN;
            assert_int_equal(compare_masked(&a, &b, 1e30).verdict, COMPARE_NOT_FINITE);
            x[i] = right + 1.0f + right;
            assert_int_equal(compare_masked(&a, &b, 1e-4).verdict, COMPARE_VALUES);
        }
        x[i] = right;
    }
}

static void mask_needs_heads_queries_and_keys(void **state)
{
    const float x[6] = {0};
    const CompareView flat = view(x, 2, 2, 3, 0), fewer_keys = view(x, 3, 1, 3, 2);

    (void)state;
    assert_int_equal(compare_masked(&flat, &flat, 1.0).verdict, COMPARE_SHAPE);
    assert_int_equal(compare_masked(&fewer_keys, &fewer_keys, 1.0).verdict, COMPARE_SHAPE);
}

static void explanations_name_the_fault(void **state)
{
    const float x[4] = {1.0f, NAN, 3.0f, 4.0f}, y[4] = {1.0f, 2.0f, 3.0f, 9.0f};
    const CompareView a = view(x, 2, 2, 2, 0), b = view(y, 2, 2, 2, 0), c = compare_vector(y, 4);
    const CompareView tail_a = compare_vector(x + 2, 2), tail_b = compare_vector(y + 2, 2);
    char text[COMPARE_TEXT_BYTES];
    Comparison r = compare_tensors(&a, &c, 1.0);

    (void)state;
    compare_explain(text, &r, &a, &c);
    assert_string_equal(text, "shape [2,2], reference [4]");
    r = compare_tensors(&a, &b, 1.0);
    compare_explain(text, &r, &a, &b);
    assert_string_equal(text, "not finite at [0,1]: nan, reference 2");
    r = compare_tensors(&tail_a, &tail_b, 0.1);
    compare_explain(text, &r, &tail_a, &tail_b);
    assert_string_equal(text, "1 of 2 differ");
    r = compare_tensors(&tail_a, &tail_a, 0.1);
    compare_explain(text, &r, &tail_a, &tail_a);
    assert_string_equal(text, "");
}

/* ---- The table ---- */

static VerdictTable new_table(void)
{
    VerdictTable t = {.rows = NULL};
    Err err = {0};

    assert_int_equal(verdict_init(&t, 8, &err), ERR_OK);
    return t;
}

static void own_checks_alone_validate_nothing(void **state)
{
    VerdictTable t = new_table();
    VerdictRow *own = verdict_add(&t, 3, 0.0, "own");

    (void)state;
    own->own = true;
    verdict_set_bool(own, true, "unused");
    (void)verdict_add(&t, 1, 1e-5, "no file");
    verdict_settle(&t);
    assert_int_equal(own->verdict, VERDICT_NOT_VALIDATED);
    assert_int_equal(verdict_count(&t, VERDICT_PASS), 0);
    verdict_free(&t);
}

static void own_checks_count_beside_a_reference(void **state)
{
    VerdictTable t = new_table();
    VerdictRow *own = verdict_add(&t, 3, 0.0, "own");

    (void)state;
    own->own = true;
    verdict_set_bool(own, true, "unused");
    verdict_set_bool(verdict_add(&t, 1, 1e-5, "reference"), false, "differs");
    verdict_settle(&t);
    assert_int_equal(own->verdict, VERDICT_PASS);
    verdict_free(&t);
}

static void a_failed_own_check_stays_failed(void **state)
{
    VerdictTable t = new_table();
    VerdictRow *own = verdict_add(&t, 3, 0.0, "own");

    (void)state;
    own->own = true;
    verdict_set_bool(own, false, "row %d", 4);
    verdict_settle(&t);
    assert_int_equal(own->verdict, VERDICT_FAIL);
    assert_string_equal(own->note, "row 4");
    verdict_free(&t);
}

static void ids_are_compared_exactly(void **state)
{
    const int32_t a[] = {1, 2, 3}, b[] = {1, 9, 8};
    VerdictTable t = new_table();
    VerdictRow *row = verdict_add(&t, 12, 0.0, "ids");

    (void)state;
    verdict_set_ids(row, a, 3, a, 3);
    assert_int_equal(row->verdict, VERDICT_PASS);
    verdict_set_ids(row, a, 3, b, 3);
    assert_int_equal(row->verdict, VERDICT_FAIL);
    assert_string_equal(row->place, "[1]");
    assert_true(row->figures.ours == 2.0f && row->figures.reference == 9.0f);
    verdict_set_ids(row, a, 2, a, 3);
    assert_int_equal(row->verdict, VERDICT_FAIL);
    verdict_set_ids(row, a, 0, a, 3);
    assert_int_equal(row->verdict, VERDICT_FAIL);
    verdict_free(&t);
}

static void the_table_is_aligned(void **state)
{
    const float x[2] = {1.0f, 2.0f}, y[2] = {1.0f, 2.5f};
    const CompareView a = compare_vector(x, 2), b = compare_vector(y, 2);
    const Comparison c = compare_tensors(&a, &b, 1e-4);
    VerdictTable t = new_table();
    JsonBuf out = {0};
    size_t column;

    (void)state;
    verdict_set(verdict_add(&t, 12, 1e-4, "a long name of a row"), &c, &a, &b);
    verdict_set_note(verdict_add(&t, 1, 0.0, "short"), "no file");
    verdict_format(&t, &out, false);
    verdict_format_totals(&t, &out, false);
    assert_int_equal(out.oom, 0);
    column = (size_t)(strstr(out.data, "verdict\n") - out.data);
    {
        const char *second = strchr(out.data, '\n') + 1, *third = strchr(second, '\n') + 1;

        assert_memory_equal(second + column, "FAIL: 1 of 2 differ\n", 20);
        assert_memory_equal(third + column, "not validated: no file\n", 23);
    }
    assert_non_null(strstr(out.data, "\n0 passed, 1 failed, 1 not validated\n"));
    json_buf_free(&out);
    verdict_free(&t);
}

/* ---- Reference folders ---- */

static const Gpt2Config config = {
    .n_layers = 2, .n_heads = 2, .dim = 4, .head_dim = 2, .n_ctx = 8, .vocab_size = 10};
static char folder[64];

static void put_text(const char *name, const char *text)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void put_tensor(const char *name, float first)
{
    const float x[8] = {first, 1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f, 7.0f};
    const size_t dims[] = {2, 4};
    char path[128];
    Err err = {0};

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(npy_write(path, x, 2, dims, &err), ERR_OK);
}

static int new_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/llorch-compare-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

#define METADATA "{\"tokens\": [1, 2]}"

static ReferenceState look_for(const char *name, float *first, char note[REFERENCE_NOTE_BYTES])
{
    Reference r = {.n_folders = 0};
    ReferenceState found;
    Npy npy = {0};
    Err err = {0};

    assert_int_equal(reference_open(&r, &config, "/nonexistent", folder, &err), ERR_OK);
    found = reference_tensor(&r, name, &npy, note);
    if (found == REFERENCE_FOUND)
        *first = npy.data[0];
    npy_close(&npy);
    reference_close(&r);
    return found;
}

static void full_name_before_alias(void **state)
{
    char note[REFERENCE_NOTE_BYTES];
    float first = 0.0f;

    (void)state;
    put_text("metadata.json", METADATA);
    assert_int_equal(look_for("checkpoint_05_output", &first, note), REFERENCE_ABSENT);
    assert_non_null(strstr(note, "checkpoint_05_output.npy"));
    put_tensor("checkpoint_05.npy", 5.0f);
    assert_int_equal(look_for("checkpoint_05_output", &first, note), REFERENCE_FOUND);
    assert_true(first == 5.0f);
    put_tensor("checkpoint_05_output.npy", 6.0f);
    assert_int_equal(look_for("checkpoint_05_output", &first, note), REFERENCE_FOUND);
    assert_true(first == 6.0f);
}

static void only_single_tensors_have_aliases(void **state)
{
    char note[REFERENCE_NOTE_BYTES];
    float first;

    (void)state;
    put_text("metadata.json", METADATA);
    put_tensor("checkpoint_02.npy", 1.0f);
    put_tensor("checkpoint_03.npy", 1.0f);
    put_tensor("checkpoint_04.npy", 1.0f);
    assert_int_equal(look_for("checkpoint_02_q", &first, note), REFERENCE_ABSENT);
    assert_int_equal(look_for("checkpoint_03_k_cache", &first, note), REFERENCE_ABSENT);
    assert_int_equal(look_for("checkpoint_04_probs", &first, note), REFERENCE_ABSENT);
}

static void two_sources_must_agree(void **state)
{
    char note[REFERENCE_NOTE_BYTES];
    float first = 0.0f;

    (void)state;
    put_text("metadata.json", METADATA);
    put_tensor("checkpoint_06_ffn.npy", 0.5f);
    put_tensor("checkpoint_06_ffn_other.npy", 0.5009f);
    assert_int_equal(look_for("checkpoint_06_ffn", &first, note), REFERENCE_FOUND);
    assert_true(first == 0.5f);
    put_tensor("checkpoint_06_ffn_third.npy", 0.502f);
    assert_int_equal(look_for("checkpoint_06_ffn", &first, note), REFERENCE_DISTRUSTED);
    assert_non_null(strstr(note, "checkpoint_06_ffn_third.npy"));
    put_text("checkpoint_06_ffn_third.npy", "no tensor");
    assert_int_equal(look_for("checkpoint_06_ffn", &first, note), REFERENCE_DISTRUSTED);
    put_tensor("checkpoint_06_ffn_third.npy", NAN);
    assert_int_equal(look_for("checkpoint_06_ffn", &first, note), REFERENCE_DISTRUSTED);
}

static void other_files_are_no_second_source(void **state)
{
    static const char *const names[] = {"checkpoint_06_ffnother.npy", "checkpoint_06_ffn_other.txt",
                                        "checkpoint_06_ffn_.npy", "checkpoint_06.npy"};
    char note[REFERENCE_NOTE_BYTES];
    float first;

    (void)state;
    put_text("metadata.json", METADATA);
    put_tensor("checkpoint_06_ffn.npy", 0.5f);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        put_text(names[i], "no tensor");
        assert_int_equal(look_for("checkpoint_06_ffn", &first, note), REFERENCE_FOUND);
    }
}

static void damaged_files_are_reported(void **state)
{
    char note[REFERENCE_NOTE_BYTES];
    float first;

    (void)state;
    put_text("metadata.json", METADATA);
    put_text("embeddings.npy", "no tensor");
    assert_int_equal(look_for("embeddings", &first, note), REFERENCE_BROKEN);
    assert_non_null(strstr(note, "embeddings.npy"));
}

static ErrCode open_folder(Reference *r, char msg[ERR_MSG_BYTES])
{
    Err err = {0};
    const ErrCode code = reference_open(r, &config, "/nonexistent", folder, &err);

    snprintf(msg, ERR_MSG_BYTES, "%s", err.msg);
    return code;
}

static void prompt_comes_from_metadata_else_from_12_else_from_10(void **state)
{
    char msg[ERR_MSG_BYTES];
    Reference r = {.n_folders = 0};

    (void)state;
    assert_int_equal(open_folder(&r, msg), ERR_OK);
    assert_int_equal(r.n_folders, 0);
    assert_true(r.promptless);
    reference_close(&r);
    put_text("checkpoint_10.json", "{\"prompt_ids\": [1], \"greedy_ids\": [4, 5]}");
    assert_int_equal(open_folder(&r, msg), ERR_OK);
    assert_int_equal(r.n_ids, 1);
    assert_int_equal(r.ids[0], 1);
    assert_int_equal(r.greedy_10.n_ids, 2);
    reference_close(&r);
    put_text("checkpoint_12.json", "{\"prompt_ids\": [2], \"ids\": [4], \"text\": \"x\"}");
    assert_int_equal(open_folder(&r, msg), ERR_OK);
    assert_int_equal(r.ids[0], 2);
    assert_int_equal(r.greedy_12.n_ids, 1);
    assert_string_equal(r.greedy_12.text, "x");
    assert_null(r.greedy_12.prompt);
    reference_close(&r);
    put_text("metadata.json", "{\"tokens\": [3, 9], \"temperature\": 1.5}");
    assert_int_equal(open_folder(&r, msg), ERR_OK);
    assert_int_equal(r.n_ids, 2);
    assert_int_equal(r.ids[1], 9);
    assert_true(r.temperature == 1.5);
    reference_close(&r);
}

static void bad_json_is_refused(void **state)
{
    static const struct {
        const char *file, *text, *part;
    } bad[] = {
        {"metadata.json", "{", "metadata.json"},
        {"metadata.json", "[]", "expected an object"},
        {"metadata.json", "{\"tokens\": []}", "tokens"},
        {"metadata.json", "{\"tokens\": 3}", "tokens"},
        {"metadata.json", "{\"tokens\": [1, 10]}", "tokens[1]: expected a token id below 10"},
        {"metadata.json", "{\"tokens\": [-1]}", "tokens[0]"},
        {"metadata.json", "{\"tokens\": [1.0]}", "tokens[0]"},
        {"metadata.json", "{\"tokens\": [true]}", "tokens[0]"},
        {"metadata.json", "{\"tokens\": [4294967297]}", "tokens[0]"},
        {"metadata.json", "{\"tokens\": [1,1,1,1,1,1,1,1,1]}", "1 to 8"},
        {"metadata.json", "{\"tokens\": [1], \"tokens\": [2]}", "metadata.json"},
        {"metadata.json", "{\"tokens\": [1], \"hidden_size\": 8}", "hidden_size: 8, but"},
        {"metadata.json", "{\"tokens\": [1], \"n_layers\": 3}", "n_layers"},
        {"metadata.json", "{\"tokens\": [1], \"temperature\": 0}", "temperature"},
        {"metadata.json", "{\"tokens\": [1], \"temperature\": \"0.8\"}", "temperature"},
        {"checkpoint_12.json", "{\"ids\": [1]}", "prompt_ids"},
        {"checkpoint_12.json", "{\"prompt_ids\": [1]}", "ids"},
        {"checkpoint_12.json", "{\"prompt_ids\": [1,1,1,1,1,1], \"ids\": [1,1,1,1]}", "1 to 3"},
        {"checkpoint_10.json", "{\"prompt_ids\": [1], \"greedy_ids\": [10]}", "greedy_ids[0]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char path[128], msg[ERR_MSG_BYTES];
        Reference r = {.n_folders = 0};

        put_text(bad[i].file, bad[i].text);
        assert_int_equal(open_folder(&r, msg), ERR_FORMAT);
        if (strstr(msg, bad[i].part) == NULL)
            fail_msg("%s: \"%s\" does not say \"%s\"", bad[i].text, msg, bad[i].part);
        snprintf(path, sizeof path, "%s/%s", folder, bad[i].file);
        assert_int_equal(unlink(path), 0);
    }
}

static void a_folder_that_is_none_is_refused(void **state)
{
    Reference r = {.n_folders = 0};
    Err err = {0};

    (void)state;
    assert_int_equal(reference_open(&r, &config, folder, "/nonexistent/x", &err), ERR_IO);
    assert_int_equal(reference_open(&r, &config, folder, "/dev/null", &err), ERR_IO);
    assert_int_equal(reference_open(&r, &config, folder, NULL, &err), ERR_OK);
    assert_int_equal(r.n_folders, 0);
    assert_false(r.promptless);
    reference_close(&r);
}

/* MODEL/reference/named first, then MODEL/reference, but only when both speak of the same prompt.
 */
static void second_folder_needs_the_same_prompt(void **state)
{
    char note[REFERENCE_NOTE_BYTES], path[128];
    Reference r = {.n_folders = 0};
    Npy npy = {0};
    Err err = {0};

    (void)state;
    snprintf(path, sizeof path, "%s/reference", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/reference/named", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    put_text("reference/named/metadata.json", METADATA);
    put_tensor("reference/named/embeddings.npy", 1.0f);
    put_tensor("reference/checkpoint_05.npy", 5.0f);
    put_tensor("reference/embeddings.npy", 2.0f);
    put_text("reference/checkpoint_12.json", "{\"prompt_ids\": [1, 2], \"ids\": [4]}");
    assert_int_equal(reference_open(&r, &config, folder, NULL, &err), ERR_OK);
    assert_int_equal(r.n_folders, 2);
    assert_int_equal(r.greedy_12.n_ids, 1);
    assert_int_equal(reference_tensor(&r, "checkpoint_05_output", &npy, note), REFERENCE_FOUND);
    npy_close(&npy);
    assert_int_equal(reference_tensor(&r, "embeddings", &npy, note), REFERENCE_FOUND);
    assert_true(npy.data[0] == 1.0f);
    npy_close(&npy);
    reference_close(&r);

    put_text("reference/checkpoint_12.json", "{\"prompt_ids\": [1, 3], \"ids\": [4]}");
    assert_int_equal(reference_open(&r, &config, folder, NULL, &err), ERR_OK);
    assert_int_equal(r.n_folders, 1);
    assert_int_equal(r.greedy_12.n_ids, 1); /* it has its own prompt, so it still counts */
    assert_int_equal(reference_tensor(&r, "checkpoint_05_output", &npy, note), REFERENCE_ABSENT);
    reference_close(&r);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, new_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shape_comes_first),
        cmocka_unit_test(not_a_number_never_passes),
        cmocka_unit_test(tolerance_is_a_closed_bound),
        cmocka_unit_test(tolerance_grows_with_large_values_only),
        cmocka_unit_test(every_element_counts),
        cmocka_unit_test(figures_are_those_of_the_definition),
        cmocka_unit_test(the_largest_floats_do_not_overflow),
        cmocka_unit_test(cosine_is_that_of_the_definition),
        cmocka_unit_test(sides_are_counted_and_measured_apart),
        cmocka_unit_test(decades_count_every_element_once),
        cmocka_unit_test(a_double_reference_is_not_rounded),
        cmocka_unit_test(every_element_has_its_own_bound),
        cmocka_unit_test(the_map_shows_where_errors_are),
        cmocka_unit_test(bits_see_the_sign_of_zero),
        cmocka_unit_test(bits_see_the_last_place),
        cmocka_unit_test(mask_is_exactly_minus_infinity),
        cmocka_unit_test(mask_needs_heads_queries_and_keys),
        cmocka_unit_test(explanations_name_the_fault),
        cmocka_unit_test(own_checks_alone_validate_nothing),
        cmocka_unit_test(own_checks_count_beside_a_reference),
        cmocka_unit_test(a_failed_own_check_stays_failed),
        cmocka_unit_test(ids_are_compared_exactly),
        cmocka_unit_test(the_table_is_aligned),
        IN_FOLDER(full_name_before_alias),
        IN_FOLDER(only_single_tensors_have_aliases),
        IN_FOLDER(two_sources_must_agree),
        IN_FOLDER(other_files_are_no_second_source),
        IN_FOLDER(damaged_files_are_reported),
        IN_FOLDER(prompt_comes_from_metadata_else_from_12_else_from_10),
        IN_FOLDER(bad_json_is_refused),
        IN_FOLDER(a_folder_that_is_none_is_refused),
        IN_FOLDER(second_folder_needs_the_same_prompt),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
