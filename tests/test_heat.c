/* tests/test_heat.c: heat maps in pages and on terminals: every cell in its place, in its colour.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "markup_rig.h"
#include "report/chart.h"
#include "report/terminal.h"

#define HOSTILE "</script><script>x</script>\"'&<b \x01\xff\xc3 </title>-->"

enum { MAX_CELLS = 128 * 128 };

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 16;
}

static void fill(uint8_t *cells, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++)
        cells[i] = (uint8_t)(next_random(&seed) % 3 == 0 ? 0 : next_random(&seed));
}

/* ---- pages ---- */

/* Paints the paths behind p, up to the end of their group, into levels [rows, columns]; a cell that
 * two strokes cover fails. */
static void paint(const char *p, uint8_t *levels, int rows, int columns)
{
    memset(levels, 0, (size_t)rows * (size_t)columns);
    for (const char *end = strstr(p, "</g>"); p < end;) {
        const char *path = strstr(p, "<path class=\"h");
        char *at;

        if (path == NULL || path > end)
            return;
        const long level = strtol(path + strlen("<path class=\"h"), &at, 10);
        assert_in_range(level, 1, 16);
        for (at = strstr(at, " d=\"") + 4; *at == 'M';) {
            const long c = strtol(at + 1, &at, 10), r = strtol(at, &at, 10);

            assert_int_equal(*at, 'h');
            const long n = strtol(at + 1, &at, 10);
            assert_in_range(r, 0, rows - 1);
            assert_true(n > 0 && c >= 0 && c + n <= columns);
            for (long i = c; i < c + n; i++) {
                assert_int_equal(levels[r * columns + i], 0);
                levels[r * columns + i] = (uint8_t)level;
            }
        }
        assert_int_equal(*at, '"');
        p = at;
    }
}

/* 1 to 255 in sixteen equal parts. */
static int expected_level(int cell)
{
    int level = 0;

    while (level * 255 < cell * 16)
        level++;
    return level;
}

static void every_cell_is_drawn_once_in_its_colour(void **state)
{
    static const int shapes[][2] = {{1, 1},   {1, 64},  {64, 1},   {17, 3},
                                    {32, 64}, {26, 26}, {128, 128}};
    static uint8_t cells[MAX_CELLS], levels[MAX_CELLS];

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const int rows = shapes[i][0], columns = shapes[i][1];
        const ChartHeat heat = {.caption = "map",
                                .label_0 = "equal",
                                .label_255 = "1",
                                .cells = cells,
                                .rows = rows,
                                .columns = columns};
        JsonBuf out = {NULL, 0, 0, 0};

        fill(cells, sizeof cells, (uint32_t)i);
        cells[0] = 255;
        chart_heat(&out, &heat);
        assert_well_formed(&out);
        paint(strstr(out.data, "<g class=\"cells\""), levels, rows, columns);
        for (int k = 0; k < rows * columns; k++)
            assert_int_equal(levels[k], expected_level(cells[k]));
        json_buf_free(&out);
    }
}

static void colours_begin_above_zero_and_end_at_255(void **state)
{
    (void)state;
    for (int v = 0; v < 256; v++) {
        const uint8_t cell = (uint8_t)v;
        const ChartHeat heat = {.caption = "c", .cells = &cell, .rows = 1, .columns = 1};
        JsonBuf out = {NULL, 0, 0, 0};
        uint8_t level;

        chart_heat(&out, &heat);
        paint(strstr(out.data, "<g class=\"cells\""), &level, 1, 1);
        assert_int_equal(level, expected_level(v));
        assert_true(v != 0 || level == 0);
        assert_true(v != 1 || level == 1);
        assert_true(v != 255 || level == 16);
        json_buf_free(&out);
    }
}

static void a_map_costs_few_bytes(void **state)
{
    static uint8_t cells[MAX_CELLS];
    const ChartHeat heat = {.caption = "c", .cells = cells, .rows = 128, .columns = 128};
    JsonBuf out = {NULL, 0, 0, 0};

    (void)state;
    fill(cells, sizeof cells, 1);
    chart_heat(&out, &heat);
    assert_true(out.len < 10 * MAX_CELLS);
    json_buf_free(&out);
}

/* A reduced map of 192 columns has ticks up to 150, in their places. */
static void axes_count_what_the_cells_stand_for(void **state)
{
    static uint8_t cells[32 * 64];
    const ChartHeat heat = {
        .caption = "c", .cells = cells, .rows = 32, .columns = 64, .whole_columns = 192};
    JsonBuf out = {NULL, 0, 0, 0};

    (void)state;
    chart_heat(&out, &heat);
    assert_well_formed(&out);
    assert_non_null(strstr(out.data, ">150</text>"));
    assert_null(strstr(out.data, ">200</text>"));
    const char *at = strstr(out.data, ">100</text>");
    while (strncmp(at, " x=\"", 4) != 0)
        at--;
    const double x = strtod(at + 4, NULL), left = number_after(out.data, "translate(");
    const double width = number_after(out.data, "scale(") * 64;
    assert_true(x - left > width * 100 / 192 && x - left < width * 101 / 192);
    json_buf_free(&out);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void the_other_maps_are_kept_as_text(void **state)
{
    static uint8_t first[6 * 7], second[16 * 16], third[3];
    const ChartHeat heats[] = {
        {.caption = "one", .cells = first, .rows = 6, .columns = 7},
        {.caption = HOSTILE, .cells = second, .rows = 16, .columns = 16, .row_label = HOSTILE},
        {.caption = "three", .cells = third, .rows = 1, .columns = 3, .id = HOSTILE}};
    JsonBuf out = {NULL, 0, 0, 0};

    (void)state;
    for (int i = 0; i < 256; i++)
        second[i] = (uint8_t)i;
    fill(first, sizeof first, 1);
    chart_choice_begin(&out, "maps of \"all\"", HOSTILE, &heats[0]);
    chart_choice_add(&out, &heats[1]);
    chart_choice_add(&out, &heats[2]);
    chart_choice_end(&out);
    assert_well_formed(&out);
    assert_int_equal(count_of(out.data, "<figure>"), 1);
    assert_int_equal(count_of(out.data, "<figure hidden"), 2);
    assert_int_equal(count_of(out.data, "<script>"), 1);
    assert_int_equal(count_of(out.data, "data-hex=\""), 2);
    assert_non_null(strstr(out.data, "id=\"maps-of--all-\""));
    const char *hex = strstr(out.data, " data-columns=\"16\" data-hex=\"");
    assert_non_null(hex);
    hex = strstr(hex, "hex=\"") + 5;
    for (int i = 0; i < 256; i++)
        assert_int_equal(hex_digit(hex[2 * i]) * 16 + hex_digit(hex[2 * i + 1]), i);
    assert_int_equal(hex[512], '"');
    assert_non_null(strstr(out.data, " data-columns=\"3\" data-hex=\"000000\""));
    json_buf_free(&out);
}

/* What strangers wrote must not get near the script, whatever it is. */
static void the_script_of_a_choice_is_always_the_same(void **state)
{
    static const uint8_t cell = 1;
    static const char *const texts[] = {"plain", HOSTILE};
    JsonBuf outs[2] = {{NULL, 0, 0, 0}, {NULL, 0, 0, 0}};
    const char *scripts[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        const ChartHeat heat = {texts[i], texts[i], texts[i], texts[i], texts[i], texts[i],
                                &cell,    1,        1,        0,        0};

        chart_choice_begin(&outs[i], texts[i], texts[i], &heat);
        chart_choice_add(&outs[i], &heat);
        chart_choice_end(&outs[i]);
        scripts[i] = strstr(outs[i].data, "<script>");
    }
    assert_string_equal(scripts[0], scripts[1]);
    assert_null(strstr(scripts[0], "innerHTML"));
    json_buf_free(&outs[0]);
    json_buf_free(&outs[1]);
}

static void maps_without_cells_are_drawn_empty(void **state)
{
    const ChartHeat heat = {.caption = HOSTILE, .label_0 = HOSTILE, .label_255 = HOSTILE};
    JsonBuf out = {NULL, 0, 0, 0};

    (void)state;
    chart_heat(&out, &heat);
    assert_well_formed(&out);
    json_buf_free(&out);
}

/* ---- terminals ---- */

static const char *line_of(const char *text, int n)
{
    for (int i = 0; i < n; i++)
        text = strchr(text, '\n') + 1;
    return text;
}

static void a_small_map_is_shown_as_it_is(void **state)
{
    const uint8_t cells[] = {0, 1, 64, 65, 128, 129, 192, 193, 255, 0};
    JsonBuf out = {NULL, 0, 0, 0};

    (void)state;
    term_heat(&out, false, cells, 2, 5, 80, "equal", "1e-3\x1b[2J");
    assert_string_equal(out.data, "┌─────┐\n│ ░░▒▒│\n│▓▓██ │\n└─────┘\n"
                                  "blank: equal   ░▒▓█ up to 1e-3\\x1b[2J\n");
    json_buf_free(&out);
}

/* One cell that is set must be seen at any width, and only in its share. */
static void a_large_map_keeps_its_largest_cells(void **state)
{
    static uint8_t cells[100 * 200];

    (void)state;
    for (int k = 0; k < 40; k++) {
        const int row = k * 37 % 100, column = k * 71 % 200, width = 10 + k;
        JsonBuf out = {NULL, 0, 0, 0};

        memset(cells, 0, sizeof cells);
        cells[row * 200 + column] = 255;
        if (column > 0) /* a smaller neighbour does not hide it */
            cells[row * 200 + column - 1] = 3;
        term_heat(&out, false, cells, 100, 200, width, "0", "1");
        assert_int_equal(count_of(out.data, "\n"), 32 + 3);
        assert_int_equal(count_of(out.data, "█"), 1 + 1); /* and one in the scale */
        const char *at = strstr(out.data, "█");
        int line = 0;
        for (const char *p = out.data; p < at; p++)
            line += *p == '\n';
        assert_true((line - 1) * 100 / 32 <= row && row < line * 100 / 32);
        const char *start = line_of(out.data, line);
        const int place = (int)text_utf8_count(start, (size_t)(at - start)) - 1;
        const int inner = width - 2;
        assert_true(place * 200 / inner <= column && column < (place + 1) * 200 / inner);
        for (int i = 0; i < 34; i++) {
            const char *l = line_of(out.data, i);
            assert_int_equal(text_utf8_count(l, strcspn(l, "\n")), width);
        }
        json_buf_free(&out);
    }
}

static void colour_changes_no_shade(void **state)
{
    uint8_t cells[8 * 40];
    JsonBuf plain = {NULL, 0, 0, 0}, colour = {NULL, 0, 0, 0};

    (void)state;
    fill(cells, sizeof cells, 7);
    term_heat(&plain, false, cells, 8, 40, 80, "0", "1");
    term_heat(&colour, true, cells, 8, 40, 80, "0", "1");
    assert_true(colour.len > plain.len);
    char *to = colour.data;
    for (const char *p = colour.data; *p != '\0';)
        if (*p == '\x1b')
            p = strchr(p, 'm') + 1;
        else
            *to++ = *p++;
    *to = '\0';
    assert_string_equal(colour.data, plain.data);
    json_buf_free(&plain);
    json_buf_free(&colour);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cell_is_drawn_once_in_its_colour),
        cmocka_unit_test(colours_begin_above_zero_and_end_at_255),
        cmocka_unit_test(a_map_costs_few_bytes),
        cmocka_unit_test(axes_count_what_the_cells_stand_for),
        cmocka_unit_test(the_other_maps_are_kept_as_text),
        cmocka_unit_test(the_script_of_a_choice_is_always_the_same),
        cmocka_unit_test(maps_without_cells_are_drawn_empty),
        cmocka_unit_test(a_small_map_is_shown_as_it_is),
        cmocka_unit_test(a_large_map_keeps_its_largest_cells),
        cmocka_unit_test(colour_changes_no_shade),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
