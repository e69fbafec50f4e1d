/* tests/test_verify_html.c: the page of a verification where the command line cannot easily go:
 * large models, long prompts, which tensor comes first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/verify_charts.h"
#include "checkpoint/verify_html.h"

/* A verification that never ran. */
typedef struct {
    Gpt2 model;
    VerifyResult result;
    VerifyMeta meta;
    float *probs; /* of every layer */
} Made;

static Made *make(int n_layers, int n_heads, int n_tokens, int max_rows)
{
    const size_t n = (size_t)n_tokens;
    Made *m = calloc(1, sizeof *m);
    float **stages = calloc((size_t)n_layers * TAP_STAGE_COUNT, sizeof *stages);
    int32_t *ids = calloc(n, sizeof *ids);
    Err err = {0};

    assert_true(m != NULL && stages != NULL && ids != NULL);
    m->probs = calloc((size_t)n_heads * n * n, sizeof *m->probs);
    assert_non_null(m->probs);
    m->model.config = (Gpt2Config){.dim = 16,
                                   .n_heads = n_heads,
                                   .head_dim = 4,
                                   .n_layers = n_layers,
                                   .vocab_size = 32,
                                   .n_ctx = n_tokens};
    for (int i = 0; i < n_layers; i++)
        stages[i * TAP_STAGE_COUNT + TAP_PROBS] = m->probs;
    m->result.first_fault = -1;
    m->result.capture =
        (Capture){.model = &m->model, .ids = ids, .n_ids = n_tokens, .stages = stages};
    assert_int_equal(verdict_init(&m->result.table, max_rows, &err), ERR_OK);
    m->meta = (VerifyMeta){.model = "made", .ids = ids, .n_ids = n_tokens};
    return m;
}

static void made_free(Made *m)
{
    union {
        const void *in;
        void *out;
    } ids = {.in = m->result.capture.ids};

    verdict_free(&m->result.table);
    free(m->result.capture.stages);
    free(ids.out);
    free(m->probs);
    free(m);
}

/* A row with a map of the full size. */
static VerdictRow *add_row(Made *m, int layer, double worst, Verdict verdict)
{
    VerdictRow *row =
        verdict_add(&m->result.table, 7, 1e-3, "h.%d row %d", layer, m->result.table.n_rows);

    row->stage = TAP_BLOCK;
    row->layer = layer;
    row->verdict = verdict;
    row->measured = true;
    row->figures.worst = row->figures.max_abs = worst;
    row->figures.decades[8] = 2048;
    row->map.rows = COMPARE_MAP_ROWS;
    row->map.columns = COMPARE_MAP_COLUMNS;
    for (int i = 0; i < COMPARE_MAP_ROWS * COMPARE_MAP_COLUMNS; i++)
        row->map.cells[i] = (uint8_t)(40 + (i * 7 + m->result.table.n_rows) % 60);
    return row;
}

static JsonBuf page_of(const Made *m)
{
    JsonBuf out = {0};

    verify_html(&out, &m->result, &m->meta);
    assert_int_equal(out.oom, 0);
    assert_non_null(out.data);
    return out;
}

static int count(const char *text, const char *word)
{
    int n = 0;

    for (; (text = strstr(text, word)) != NULL; text += strlen(word))
        n++;
    return n;
}

/* The largest value behind data-columns=" in the text from there on. */
static int most_columns(const char *text)
{
    static const char word[] = "data-columns=\"";
    int most = 0;

    for (; (text = strstr(text, word)) != NULL; text += strlen(word)) {
        const int columns = atoi(text + strlen(word));

        most = columns > most ? columns : most;
    }
    return most;
}

static const char *attention_part(const JsonBuf *page)
{
    const char *at = strstr(page->data, "id=\"attention\"");

    assert_non_null(at);
    return at;
}

static void long_prompts_are_reduced_to_64_cells(void **state)
{
    Made *m = make(2, 3, 150, 1);
    JsonBuf page = page_of(m);

    (void)state;
    assert_int_equal(count(attention_part(&page), "head 2"), 2 * 2); /* label and text */
    assert_int_equal(most_columns(attention_part(&page)), 64);
    json_buf_free(&page);
    made_free(m);
}

static void short_prompts_keep_their_size(void **state)
{
    Made *m = make(2, 1, 5, 1);
    JsonBuf page = page_of(m);

    (void)state;
    assert_int_equal(most_columns(attention_part(&page)), 5);
    json_buf_free(&page);
    made_free(m);
}

/* One probability of the second layer's last query: 1 at key 0, in its right cell. */
static void attention_is_where_it_should_be(void **state)
{
    Made *m = make(2, 2, 3, 1);
    JsonBuf page;

    (void)state;
    m->probs[(1 * 3 + 2) * 3 + 0] = 1.0f;  /* head 1, query 2 */
    m->probs[(1 * 3 + 1) * 3 + 1] = 0.25f; /* query 1: 1 + 254 / 2 */
    m->probs[(1 * 3 + 0) * 3 + 2] = 1.0f;  /* after its query: never drawn */
    page = page_of(m);
    assert_int_equal(count(attention_part(&page), "data-hex=\"000000000000000000\""), 1);
    assert_int_equal(count(attention_part(&page), "data-hex=\"000000008000ff0000\""), 1);
    json_buf_free(&page);
    made_free(m);
}

static void the_largest_of_a_cell_is_shown(void **state)
{
    Made *m = make(1, 1, 128, 1);
    JsonBuf page;
    const char *at;

    (void)state;
    m->probs[127 * 128 + 1] = 1.0f;
    m->probs[126 * 128 + 0] = 0.01f; /* the same cell */
    page = page_of(m);
    /* The only layer is drawn: level 16, first column of the last row. */
    at = attention_part(&page);
    assert_int_equal(count(at, "<path class=\"h16\" d=\"M0 63h1\"/>"), 1);
    assert_null(strstr(at, "class=\"h2\" d=\"M0 63"));
    json_buf_free(&page);
    made_free(m);
}

/* Shape of GPT-2 XL: 48 layers of 25 heads, 14 rows a layer. */
static void large_models_stay_within_bounds(void **state)
{
    enum { LAYERS = 48, ROWS = 14 };
    Made *m = make(LAYERS, 25, 100, LAYERS * ROWS);
    JsonBuf page;

    (void)state;
    for (int i = 0; i < LAYERS * ROWS; i++)
        (void)add_row(m, i / ROWS, 1e-6, VERDICT_PASS);
    page = page_of(m);
    assert_in_range(page.len, 1000000, 4500000);
    assert_int_equal(count(page.data, "<figure hidden"), LAYERS - 1 + LAYERS * ROWS - 1);
    assert_in_range(most_columns(attention_part(&page)), 8, 32);
    json_buf_free(&page);
    made_free(m);
}

static void the_first_map_is_the_worst(void **state)
{
    Made *m = make(1, 1, 4, 8);

    (void)state;
    assert_int_equal(verify_chart_worst(&m->result), -1);
    (void)add_row(m, 0, 1e-6, VERDICT_PASS);
    (void)add_row(m, 0, 5e-6, VERDICT_PASS);
    (void)add_row(m, 0, 4e-6, VERDICT_PASS);
    assert_int_equal(verify_chart_worst(&m->result), 1);
    m->result.table.rows[2].tolerance = 1e-5; /* nearer to its own bound */
    assert_int_equal(verify_chart_worst(&m->result), 2);
    m->result.table.rows[0].verdict = VERDICT_FAIL;
    assert_int_equal(verify_chart_worst(&m->result), 0);
    m->result.table.rows[1].figures.worst = (double)NAN; /* not finite */
    assert_int_equal(verify_chart_worst(&m->result), 1);
    m->result.first_fault = 2;
    assert_int_equal(verify_chart_worst(&m->result), 2);
    m->result.table.rows[2].map.rows = 0;
    assert_int_equal(verify_chart_worst(&m->result), 1);
    made_free(m);
}

/* Two rows of one checkpoint make one chart; rows about ids and own checks none. */
static void histograms_are_of_checkpoints(void **state)
{
    Made *m = make(1, 1, 4, 8);
    JsonBuf out = {0};

    (void)state;
    (void)add_row(m, 0, 1e-6, VERDICT_PASS);
    (void)add_row(m, 0, 1e-6, VERDICT_PASS);
    add_row(m, 0, 1e-6, VERDICT_PASS)->own = true;
    verify_chart_histograms(&out, &m->result);
    assert_int_equal(count(out.data, "<figure"), 1);
    assert_non_null(strstr(out.data, "Checkpoint 7: block output"));
    assert_non_null(strstr(out.data, "4096"));
    json_buf_free(&out);
    made_free(m);
}

static void nothing_known_is_a_page_too(void **state)
{
    Made *m = make(1, 1, 1, 1);
    JsonBuf page;

    (void)state;
    m->result.capture.n_ids = 0;
    page = page_of(m);
    assert_null(strstr(page.data, "<figure"));
    assert_non_null(strstr(page.data, "not validated"));
    json_buf_free(&page);
    made_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_prompts_are_reduced_to_64_cells),
        cmocka_unit_test(short_prompts_keep_their_size),
        cmocka_unit_test(attention_is_where_it_should_be),
        cmocka_unit_test(the_largest_of_a_cell_is_shown),
        cmocka_unit_test(large_models_stay_within_bounds),
        cmocka_unit_test(the_first_map_is_the_worst),
        cmocka_unit_test(histograms_are_of_checkpoints),
        cmocka_unit_test(nothing_known_is_a_page_too),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
