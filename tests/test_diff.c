/* tests/test_diff.c: two tensors, and two folders of them, as `diff` compares them. */
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

#include "checkpoint/diff.h"
#include "checkpoint/error_chart.h"
#include "checkpoint/tolerance.h"
#include "formats/npy.h"

enum { ROOM = 4 };

static const DiffOptions plain = {.n_worst = ROOM};
static const DiffOptions bits = {.bits = true, .n_worst = ROOM};

static TensorDiff diff_vectors(const char *name, const float *a, const float *b, size_t n,
                               const DiffOptions *options, DiffElement *elements)
{
    const CompareView x = compare_vector(a, n), y = compare_vector(b, n);
    TensorDiff d = {.verdict = DIFF_NOT_COMPARED};

    tensor_diff(&d, name, &x, &y, options, elements);
    return d;
}

/* ---- One pair ---- */

static void equal_tensors_agree(void **state)
{
    const float a[3] = {1.0f, -0.0f, 1e-40f}, b[3] = {1.0f, 0.0f, 1e-40f};
    DiffElement e[ROOM];
    TensorDiff d = diff_vectors("x", a, b, 3, &plain, e);

    (void)state;
    assert_int_equal(d.verdict, DIFF_AGREE);
    assert_int_equal(d.n_elements, 0);
    assert_string_equal(d.note, "");
    assert_true(d.tolerance == 0.0);
}

static void bits_show_the_first_that_differs(void **state)
{
    const float a[4] = {1.0f, -0.0f, 2.0f, 5.0f}, b[4] = {1.0f, 0.0f, 2.0f, 4.0f};
    DiffElement e[ROOM];
    TensorDiff d = diff_vectors("x", a, b, 4, &bits, e);

    (void)state;
    assert_int_equal(d.verdict, DIFF_DIFFER);
    assert_int_equal(d.n_bits, 2);
    assert_int_equal(d.first_bits, 1);
    assert_int_equal(d.bits[0], 0x80000000u);
    assert_int_equal(d.bits[1], 0);
    assert_int_equal(d.max_index, 3);
    /* The sign of zero is no error, so it is no element of the list. */
    assert_int_equal(d.n_elements, 1);
}

static void bits_accept_equal_nan(void **state)
{
    const float a[2] = {NAN, 1.0f};
    float b[2];
    DiffElement e[ROOM];

    (void)state;
    memcpy(b, a, sizeof b);
    assert_int_equal(diff_vectors("x", a, b, 2, &bits, e).verdict, DIFF_AGREE);
    assert_int_equal(diff_vectors("x", a, b, 2, &plain, e).verdict, DIFF_NOT_FINITE);
}

static void nan_on_one_side_is_named(void **state)
{
    const float a[3] = {0.0f, 1.0f, 2.5f}, b[3] = {0.0f, NAN, 2.0f};
    DiffElement e[ROOM];
    TensorDiff d = diff_vectors("x", a, b, 3, &plain, e);

    (void)state;
    assert_int_equal(d.verdict, DIFF_NOT_FINITE);
    assert_non_null(strstr(d.note, "[1]: 1 in A, "));
    assert_non_null(strstr(d.note, "nan in B"));
    assert_int_equal(d.figures.sides[1].n_nan, 1);
    assert_int_equal(d.n_elements, 2);
    assert_int_equal(e[0].index, 1); /* worse than any number */
}

static void shapes_must_be_equal(void **state)
{
    const float a[6] = {0};
    const CompareView x = {.data = a, .n_dims = 2, .dims = {2, 3}};
    const CompareView y = {.data = a, .n_dims = 2, .dims = {3, 2}};
    DiffElement e[ROOM];
    TensorDiff d = {.verdict = DIFF_AGREE};

    (void)state;
    tensor_diff(&d, "x", &x, &y, &plain, e);
    assert_int_equal(d.verdict, DIFF_NOT_COMPARED);
    assert_string_equal(d.note, "shape [2,3] in A, [3,2] in B");
    assert_int_equal(d.map.rows, 0);
}

static void the_worst_come_first(void **state)
{
    enum { N = 40 };
    float a[N], b[N];
    DiffElement e[ROOM];

    (void)state;
    for (int i = 0; i < N; i++) {
        b[i] = 0.0f;
        a[i] = (float)((7 * i) % N) / 64.0f; /* a permutation of 0..39 */
    }
    /* Large, but small for its size: 64 of 1000 is the 0.064 that counts. */
    b[3] = 1000.0f;
    a[3] = 1064.0f;
    TensorDiff d = diff_vectors("x", a, b, N, &plain, e);
    assert_int_equal(d.n_elements, ROOM);
    for (int i = 0; i < ROOM; i++) {
        assert_int_equal((7 * (int)e[i].index) % N, N - 1 - i);
        assert_true(e[i].a == a[e[i].index] && e[i].b == b[e[i].index]);
        assert_true(e[i].error == (double)a[e[i].index]);
    }
    assert_int_equal(d.max_index, 3);
    assert_true(d.figures.max_abs == 64.0);
}

static void equal_errors_stay_in_their_order(void **state)
{
    const float a[6] = {1, 1, 2, 1, 2, 1}, b[6] = {0};
    DiffElement e[ROOM];

    (void)state;
    (void)diff_vectors("x", a, b, 6, &plain, e);
    assert_int_equal(e[0].index, 2);
    assert_int_equal(e[1].index, 4);
    assert_int_equal(e[2].index, 0);
    assert_int_equal(e[3].index, 1);
}

static void no_list_is_fine(void **state)
{
    const float a[1] = {1}, b[1] = {0};
    const DiffOptions none = {.n_worst = 0};

    (void)state;
    assert_int_equal(diff_vectors("x", a, b, 1, &none, NULL).n_elements, 0);
}

static void nothing_is_equal_to_nothing(void **state)
{
    DiffElement e[ROOM];

    (void)state;
    assert_int_equal(diff_vectors("x", NULL, NULL, 0, &plain, e).verdict, DIFF_AGREE);
    assert_int_equal(diff_vectors("x", NULL, NULL, 0, &bits, e).verdict, DIFF_AGREE);
}

static void a_tolerance_comes_from_the_name(void **state)
{
    static const struct {
        const char *name;
        double tolerance;
    } cases[] = {{"embeddings", TOL_EMBEDDING},
                 {"checkpoint_01_ln1_output", TOL_LAYER_NORM},
                 {"checkpoint_01", TOL_LAYER_NORM},
                 {"checkpoint_02_q", TOL_QKV},
                 {"checkpoint_05b_ln2_output", TOL_ATTENTION},
                 {"checkpoint_07_block_output", TOL_BLOCK},
                 {"checkpoint_07_block_00", TOL_BLOCK},
                 {"checkpoint_07_block_01", TOL_DEEP_BLOCK},
                 {"checkpoint_07_block_23", TOL_DEEP_BLOCK},
                 {"checkpoint_07", TOL_BLOCK},
                 {"checkpoint_08_logits", TOL_LOGITS},
                 {"checkpoint_11_probs", TOL_LOGITS},
                 {"h0_c_attn_weight", 0.0},
                 {"checkpoint_", 0.0},
                 {"checkpoint_1", 0.0},
                 {"checkpoint_012", 0.0},
                 {"checkpoint_99", 0.0},
                 {"", 0.0}};
    const float a[1] = {1.00005f}, b[1] = {1.0f};
    DiffElement e[ROOM];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_true(tensor_diff_tolerance(cases[i].name) == cases[i].tolerance);
    assert_int_equal(diff_vectors("x", a, b, 1, &plain, e).verdict, DIFF_DIFFER);
    assert_int_equal(diff_vectors("checkpoint_02_q", a, b, 1, &plain, e).verdict, DIFF_AGREE);
    const DiffOptions own = {.has_tolerance = true, .tolerance = 1e-6};
    assert_int_equal(diff_vectors("checkpoint_02_q", a, b, 1, &own, e).verdict, DIFF_DIFFER);
}

static void masked_scores_may_be_minus_infinity(void **state)
{
    float a[8] = {1, -INFINITY, 2, 3, 4, -INFINITY, 5, 6}, b[8];
    const CompareView x = {.data = a, .n_dims = 3, .dims = {2, 2, 2}};
    const CompareView y = {.data = b, .n_dims = 3, .dims = {2, 2, 2}};
    const CompareView flat = {.data = a, .n_dims = 2, .dims = {2, 4}};
    DiffElement e[ROOM];
    TensorDiff d = {.n_bits = 0};

    (void)state;
    memcpy(b, a, sizeof b);
    tensor_diff(&d, "checkpoint_04_masked", &x, &y, &plain, e);
    assert_int_equal(d.verdict, DIFF_AGREE);
    assert_int_equal(d.figures.n, 6);
    d = (TensorDiff){.n_bits = 0};
    tensor_diff(&d, "scores", &x, &y, &plain, e);
    assert_int_equal(d.verdict, DIFF_NOT_FINITE);
    /* Of another shape than scores have: no mask, but no wrong complaint about shapes either. */
    d = (TensorDiff){.n_bits = 0};
    tensor_diff(&d, "checkpoint_04_masked", &flat, &flat, &plain, e);
    assert_int_equal(d.verdict, DIFF_NOT_FINITE);
    b[1] = 0.0f;
    d = (TensorDiff){.n_bits = 0};
    tensor_diff(&d, "checkpoint_04_masked", &x, &y, &plain, e);
    assert_int_equal(d.verdict, DIFF_DIFFER);
    assert_non_null(strstr(d.note, "mask differs at [0,0,1]"));
}

/* ---- The map ---- */

static void a_stretched_map_uses_the_whole_scale(void **state)
{
    const float a[5] = {0.0f, 1e-8f, 1e-5f, 1e-4f, 1e-6f}, b[5] = {0};
    const CompareView x = compare_vector(a, 5), y = compare_vector(b, 5);
    CompareMap map;
    ErrorHeat heat;

    (void)state;
    compare_map(&map, &x, &y);
    error_chart_stretch(&heat, &map, &x);
    assert_int_equal(heat.rows, 1);
    assert_int_equal(heat.columns, 5);
    assert_int_equal(heat.whole_rows, 1);
    assert_int_equal(heat.whole_columns, 5);
    assert_int_equal(heat.cells[0], 0);
    assert_int_equal(heat.cells[1], 1);       /* more than three decades below the largest */
    assert_in_range(heat.cells[2], 160, 180); /* two thirds of the way up */
    assert_int_equal(heat.cells[3], 255);
    assert_in_range(heat.cells[4], 80, 95);
    assert_true(fabs(strtod(heat.top, NULL) - 1e-4) < 5e-6);
    assert_string_equal(heat.low, "1.0e-7");
    assert_string_equal(heat.bottom, "equal, 1.0e-7");
}

static void a_map_of_one_shade_is_labelled(void **state)
{
    const float a[2] = {0.0f, 3.0f}, b[2] = {0};
    const CompareView x = compare_vector(a, 2), y = compare_vector(b, 2);
    CompareMap map;
    ErrorHeat heat;

    (void)state;
    compare_map(&map, &x, &y);
    error_chart_stretch(&heat, &map, NULL);
    assert_int_equal(heat.cells[0], 0);
    assert_int_equal(heat.cells[1], 255);
    assert_int_equal(heat.whole_columns, 0);
    assert_string_equal(heat.bottom, "equal");
    assert_string_equal(heat.top, "1 or more");
    compare_map(&map, &y, &y);
    error_chart_stretch(&heat, &map, &y);
    assert_int_equal(heat.cells[1], 0);
    assert_string_equal(heat.top, "no error");
    assert_string_equal(heat.bottom, "equal");
}

static void a_shrunken_map_keeps_the_largest(void **state)
{
    ErrorHeat heat = {.rows = 3,
                      .columns = 5,
                      .whole_rows = 3,
                      .cells = {1, 2, 3, 4, 9, 5, 6, 7, 8, 1, 1, 1, 1, 1, 2}};
    static const uint8_t once[] = {6, 8, 9, 1, 1, 2};

    (void)state;
    error_chart_shrink(&heat, 1);
    assert_int_equal(heat.rows, 2);
    assert_int_equal(heat.columns, 3);
    assert_int_equal(heat.whole_rows, 3);
    assert_memory_equal(heat.cells, once, sizeof once);
    error_chart_shrink(&heat, 9);
    assert_int_equal(heat.rows, 1);
    assert_int_equal(heat.columns, 1);
    assert_int_equal(heat.cells[0], 9);
}

static void histograms_add_up(void **state)
{
    const float a[3] = {1.0f, 1.5f, 0.0f}, b[3] = {1.0f, 1.0f, 0.001f};
    const CompareView x = compare_vector(a, 3), y = compare_vector(b, 3);
    const Comparison c = compare_tensors(&x, &y, 0.0), same = compare_tensors(&x, &x, 0.0);
    static const char *const names[] = {"equal", "1e-3", "0.01", "0.1"};
    static const uint64_t counts[] = {5, 2, 0, 2};
    ErrorHistogram h = {{0}};
    int bars[COMPARE_DECADES];

    (void)state;
    assert_int_equal(error_chart_bars(&h, bars), 0);
    error_chart_add(&h, &same);
    assert_int_equal(error_chart_bars(&h, bars), 1);
    assert_int_equal(bars[0], 0);
    error_chart_add(&h, &c);
    error_chart_add(&h, &c);
    assert_int_equal(error_chart_bars(&h, bars), 4);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(error_chart_decade(bars[i]), names[i]);
        assert_int_equal(h.counts[bars[i]], counts[i]);
    }
    h.counts[0] = 0;
    assert_int_equal(error_chart_bars(&h, bars), 3);
}

/* ---- Files and folders ---- */

typedef struct {
    char root[64], a[96], b[96];
} Folders;

static int make_folders(void **state)
{
    Folders *f = calloc(1, sizeof *f);

    assert_non_null(f);
    snprintf(f->root, sizeof f->root, "/tmp/llorch-diff-XXXXXX");
    assert_non_null(mkdtemp(f->root));
    snprintf(f->a, sizeof f->a, "%s/a", f->root);
    snprintf(f->b, sizeof f->b, "%s/b", f->root);
    assert_int_equal(mkdir(f->a, 0700), 0);
    assert_int_equal(mkdir(f->b, 0700), 0);
    *state = f;
    return 0;
}

static int remove_folders(void **state)
{
    Folders *f = *state;
    char command[128];

    snprintf(command, sizeof command, "rm -rf '%s'", f->root);
    const int status = system(command);
    free(f);
    return status;
}

static void put(const char *folder, const char *name, const float *x, size_t n)
{
    char path[256];
    Err err = {0};

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(npy_write(path, x, 1, &n, &err), ERR_OK);
}

static void put_text(const char *folder, const char *name, const char *text)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void folders_are_matched_by_name(void **state)
{
    const Folders *f = *state;
    const float x[2] = {1, 2}, y[2] = {1, 3};
    Diff d;
    Err err = {0};

    put(f->a, "b.npy", x, 2);
    put(f->b, "b.npy", y, 2);
    put(f->a, "a.npy", x, 2);
    put(f->a, "d.npy", x, 2);
    put(f->b, "d.npy", x, 2);
    put(f->b, "c.npy", x, 2);
    put(f->b, "e.npy", x, 1);
    put(f->a, "e.npy", x, 2);
    put_text(f->b, "notes.txt", "no tensor");
    put_text(f->a, "f.npy", "no tensor");
    put(f->b, "f.npy", x, 2);
    assert_int_equal(diff_run(&d, f->a, f->b, &plain, &err), ERR_OK);
    static const struct {
        const char *name, *note;
        DiffVerdict verdict;
    } rows[] = {
        {"a", "only in A", DIFF_NOT_COMPARED},      {"b", "1 of 2 differ", DIFF_DIFFER},
        {"c", "only in B", DIFF_NOT_COMPARED},      {"d", "", DIFF_AGREE},
        {"e", "shape [2] in A", DIFF_NOT_COMPARED}, {"f", "not a NumPy", DIFF_NOT_COMPARED}};

    assert_int_equal(d.n_rows, 6);
    for (int i = 0; i < d.n_rows; i++) {
        assert_string_equal(d.rows[i].name, rows[i].name);
        assert_int_equal(d.rows[i].verdict, rows[i].verdict);
        assert_non_null(strstr(d.rows[i].note, rows[i].note));
    }
    assert_int_equal(d.worst, 1);
    assert_true(d.prompt_unknown);
    assert_false(diff_agrees(&d, &err));
    assert_non_null(strstr(err.msg, "a: only in A; 4 tensors"));
    diff_free(&d);
}

static void prompts_must_be_the_same(void **state)
{
    const Folders *f = *state;
    const float x[2] = {1, 2};
    Diff d;
    Err err = {0};

    put(f->a, "a.npy", x, 2);
    put(f->b, "a.npy", x, 2);
    put_text(f->a, "metadata.json", "{\"tokens\": [1, 2, 3], \"model\": \"x\"}");
    put_text(f->b, "metadata.json", "{\"tokens\": [1, 2, 3]}");
    assert_int_equal(diff_run(&d, f->a, f->b, &plain, &err), ERR_OK);
    assert_false(d.prompt_unknown);
    assert_true(diff_agrees(&d, &err));
    diff_free(&d);
    put_text(f->b, "metadata.json", "{\"tokens\": [1, 4, 3]}");
    assert_int_equal(diff_run(&d, f->a, f->b, &plain, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "token 1 of 3 is 2, there 4"));
    put_text(f->b, "metadata.json", "{\"tokens\": [1, 2]}");
    assert_int_equal(diff_run(&d, f->a, f->b, &plain, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "3 tokens"));
    put_text(f->b, "metadata.json", "{\"tokens\": 7}");
    assert_int_equal(diff_run(&d, f->a, f->b, &plain, &err), ERR_FORMAT);
    put_text(f->b, "metadata.json", "{\"tokens\": [1,");
    assert_int_equal(diff_run(&d, f->a, f->b, &plain, &err), ERR_FORMAT);
    put_text(f->b, "metadata.json", "[1, 2, 3]");
    assert_int_equal(diff_run(&d, f->a, f->b, &plain, &err), ERR_OK);
    assert_true(d.prompt_unknown);
    diff_free(&d);
}

static void two_of_a_kind_are_needed(void **state)
{
    const Folders *f = *state;
    const float x[2] = {1, 2};
    char file[128], missing[128];
    Diff d;
    Err err = {0};

    put(f->a, "a.npy", x, 2);
    snprintf(file, sizeof file, "%s/a.npy", f->a);
    snprintf(missing, sizeof missing, "%s/none.npy", f->a);
    assert_int_equal(diff_run(&d, file, f->b, &plain, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "is a folder"));
    assert_int_equal(diff_run(&d, file, missing, &plain, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "none.npy: No such file"));
    assert_int_equal(diff_run(&d, f->a, f->b, &plain, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "/b: holds no .npy file"));
    put(f->b, "b.npy", x, 1);
    snprintf(missing, sizeof missing, "%s/b.npy", f->b);
    assert_int_equal(diff_run(&d, file, missing, &plain, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "shape [2] in A, [1] in B"));
    assert_int_equal(diff_run(&d, file, file, &plain, &err), ERR_OK);
    assert_string_equal(d.rows[0].name, "a");
    diff_free(&d);
}

static void a_checkpoint_on_either_side_sets_the_tolerance(void **state)
{
    const Folders *f = *state;
    const float x[1] = {1.0f}, y[1] = {1.00005f};
    char a[128], b[128];
    Diff d;
    Err err = {0};

    put(f->a, "mine.npy", x, 1);
    put(f->b, "checkpoint_05_output.npy", y, 1);
    snprintf(a, sizeof a, "%s/mine.npy", f->a);
    snprintf(b, sizeof b, "%s/checkpoint_05_output.npy", f->b);
    assert_int_equal(diff_run(&d, a, b, &plain, &err), ERR_OK);
    assert_true(d.rows[0].tolerance == TOL_ATTENTION);
    assert_true(diff_agrees(&d, &err));
    diff_free(&d);
    assert_int_equal(diff_run(&d, b, a, &plain, &err), ERR_OK);
    assert_true(diff_agrees(&d, &err));
    diff_free(&d);
}

/* Two values of float64 that round to the same float32 are not the same bits. */
static void float64_is_rounded_and_has_no_bits(void **state)
{
    static const char header[] = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }";
    const Folders *f = *state;
    const float x[1] = {1.0f};
    const double value = 1.0 + 1e-12;
    char path[128], b[128];
    unsigned char data[10 + 64 + 8] = "\x93NUMPY\x01\x00\x40";
    Diff d;
    Err err = {0};
    FILE *file;

    memset(data + 10, ' ', 63);
    memcpy(data + 10, header, sizeof header - 1);
    data[10 + 63] = '\n';
    memcpy(data + 10 + 64, &value, sizeof value);
    snprintf(path, sizeof path, "%s/wide.npy", f->a);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, sizeof data, file), sizeof data);
    assert_int_equal(fclose(file), 0);
    put(f->b, "x.npy", x, 1);
    snprintf(b, sizeof b, "%s/x.npy", f->b);
    assert_int_equal(diff_run(&d, path, b, &plain, &err), ERR_OK);
    assert_true(d.rows[0].rounded[0] && !d.rows[0].rounded[1]);
    assert_true(diff_agrees(&d, &err));
    diff_free(&d);
    assert_int_equal(diff_run(&d, path, b, &bits, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "float64 in A"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_tensors_agree),
        cmocka_unit_test(bits_show_the_first_that_differs),
        cmocka_unit_test(bits_accept_equal_nan),
        cmocka_unit_test(nan_on_one_side_is_named),
        cmocka_unit_test(shapes_must_be_equal),
        cmocka_unit_test(the_worst_come_first),
        cmocka_unit_test(equal_errors_stay_in_their_order),
        cmocka_unit_test(no_list_is_fine),
        cmocka_unit_test(nothing_is_equal_to_nothing),
        cmocka_unit_test(a_tolerance_comes_from_the_name),
        cmocka_unit_test(masked_scores_may_be_minus_infinity),
        cmocka_unit_test(a_stretched_map_uses_the_whole_scale),
        cmocka_unit_test(a_map_of_one_shade_is_labelled),
        cmocka_unit_test(a_shrunken_map_keeps_the_largest),
        cmocka_unit_test(histograms_add_up),
        cmocka_unit_test_setup_teardown(folders_are_matched_by_name, make_folders, remove_folders),
        cmocka_unit_test_setup_teardown(prompts_must_be_the_same, make_folders, remove_folders),
        cmocka_unit_test_setup_teardown(two_of_a_kind_are_needed, make_folders, remove_folders),
        cmocka_unit_test_setup_teardown(a_checkpoint_on_either_side_sets_the_tolerance,
                                        make_folders, remove_folders),
        cmocka_unit_test_setup_teardown(float64_is_rounded_and_has_no_bits, make_folders,
                                        remove_folders),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
