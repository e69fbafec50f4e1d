/* tests/test_chart.c: charts as SVG. Their numbers are read back from the paths: a picture that is
 * pretty and wrong would be believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>

#include "markup_rig.h"
#include "quick.h"
#include "report/chart.h"
#include "report/svg.h"

/* Everything that markup could stumble over. */
#define HOSTILE "</script><script>x</script>\"'&<b \x01\xff\xc3 </title>-->"

static JsonBuf empty(void)
{
    return (JsonBuf){NULL, 0, 0, 0};
}

static void nearly(double got, double want, double most)
{
    if (!(fabs(got - want) <= most))
        fail_msg("%.9g, expected %.9g", got, want);
}

static void close_to(double got, double want)
{
    nearly(got, want, 0.02); /* coordinates have two decimals */
}

/* The numbers of the path behind the first place of part, up to max. */
static int path_numbers(const char *svg, const char *part, double *out, int max)
{
    const char *p = strstr(svg, part);
    int n = 0;

    assert_non_null(p);
    p = strstr(p, " d=\"");
    assert_non_null(p);
    for (p += 4; *p != '"' && n < max;) {
        char *end;
        const double v = strtod(p, &end);

        if (end == p)
            p++;
        else
            out[n++] = v;
        p = end > p ? end : p;
    }
    return n;
}

/* Where the tick with this text stands on the y axis. */
static double tick_y(const char *svg, const char *text)
{
    char part[64];

    (void)snprintf(part, sizeof part, "text-anchor=\"end\">%s</text>", text);
    const char *p = strstr(svg, part);
    assert_non_null(p);
    while (strncmp(p, " y=\"", 4) != 0)
        p--;
    return strtod(p + 4, NULL) - 4.5; /* the baseline lies below the middle */
}

/* ---- axes ---- */

static void round_numbers_are_1_2_5(void **state)
{
    (void)state;
    nearly(axis_nice(1.0), 1.0, 0);
    nearly(axis_nice(1.1), 2.0, 0);
    nearly(axis_nice(2.5), 5.0, 0);
    nearly(axis_nice(7.0), 10.0, 0);
    nearly(axis_nice(0.03), 0.05, 1e-12);
    nearly(axis_nice(0.3 / 3), 0.1, 1e-12);
}

static void axes_hold_what_they_show(void **state)
{
    static const double values[] = {0,      1,       -1,      0.1,      99,     100,
                                    101,    1e6,     1e300,   1e308,    -1e308, 1e-9,
                                    5e-324, -1e-300, DBL_MAX, 12345.678};
    const int n = sizeof values / sizeof values[0];
    char text[SVG_TEXT_BYTES];

    (void)state;
    for (int i = 0; i < n * n * 2; i++) {
        const double a = values[i % n], b = values[i / n % n];
        const bool log = i >= n * n;
        AxisRange range = {.any = false};

        axis_range_add(&range, a);
        axis_range_add(&range, b);
        const AxisScale s = axis_scale(&range, log);
        assert_in_range(s.n_ticks, 2, SVG_MAX_TICKS);
        assert_true(isfinite(s.lo) && isfinite(s.hi) && s.hi > s.lo && s.step > 0);
        const double x = axis_share(&s, a), y = axis_share(&s, b);
        assert_true(x >= 0 && x <= 1 && y >= 0 && y <= 1);
        assert_true(a < b ? x <= y : x >= y);
        /* Ticks lie on the axis, where their text says. */
        for (int k = log && s.foot; k < s.n_ticks; k++) {
            const double at = axis_tick(&s, k, text);

            assert_true(at >= -1e-9 && at <= 1 + 1e-6);
            if (fabs(strtod(text, NULL)) > 1e-300 && fabs(strtod(text, NULL)) < 1e300)
                nearly(axis_share(&s, strtod(text, NULL)), at, 1e-3);
        }
    }
}

static void coordinates_are_short(void **state)
{
    static const double values[] = {12.3456, -0.001, 0, 100, -2.5};
    JsonBuf out = empty();

    (void)state;
    for (int i = 0; i < 5; i++) {
        svg_number(&out, values[i]);
        json_buf_printf(&out, " ");
    }
    assert_string_equal(out.data, "12.35 0 0 100 -2.5 ");
    json_buf_free(&out);
}

static void numbers_are_short(void **state)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},           {-0.0, "0"},
                 {0.25, "0.25"},     {1e-4, "1e-4"},
                 {1.5e-5, "1.5e-5"}, {1e6, "1e6"},
                 {123456, "123456"}, {-3, "-3"},
                 {INFINITY, "inf"},  {5e-324, "4.94066e-324"},
                 {1e308, "1e308"},   {0.001, "0.001"}};
    char text[SVG_TEXT_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        svg_value(text, cases[i].value);
        assert_string_equal(text, cases[i].text);
    }
}

/* ---- lines ---- */

static JsonBuf lines_of(const double *y, int n, bool log_y, double limit)
{
    const ChartLine line = {"ours", y};
    const ChartAxes axes = {.caption = "caption",
                            .x_label = "token",
                            .y_label = "ms",
                            .first_x = 1,
                            .n = n,
                            .log_y = log_y,
                            .limit = limit};
    JsonBuf out = empty();

    chart_lines(&out, &axes, &line, 1);
    assert_well_formed(&out);
    return out;
}

static void a_line_goes_through_its_values(void **state)
{
    const double y[] = {0, 5, 10, 2.5};
    double p[16];
    JsonBuf out = lines_of(y, 4, false, NAN);

    (void)state;
    assert_int_equal(path_numbers(out.data, "\"line s0 dash0\"", p, 16), 8);
    const double foot = tick_y(out.data, "0"), top = tick_y(out.data, "10");
    assert_true(foot > top);
    const char *axis = strstr(out.data, "<line class=\"axis\"");
    const double left = number_after(axis, "x1=\""), right = number_after(axis, "x2=\"");
    for (int i = 0; i < 4; i++) {
        close_to(p[2 * i], left + (right - left) * i / 3);
        close_to(p[2 * i + 1], foot + (top - foot) * y[i] / 10);
    }
    assert_non_null(strstr(out.data, "<title>ours, 2: 5</title>"));
    json_buf_free(&out);
}

static void a_log_axis_has_decades(void **state)
{
    const double y[] = {1e-6, 1e-4, 1e-3, 1};
    double p[16];
    JsonBuf out = lines_of(y, 4, true, NAN);

    (void)state;
    assert_int_equal(path_numbers(out.data, "\"line s0 dash0\"", p, 16), 8);
    const double foot = tick_y(out.data, "1e-6"), top = tick_y(out.data, "1");
    for (int i = 0; i < 4; i++)
        close_to(p[2 * i + 1], foot + (top - foot) * (log10(y[i]) + 6) / 6);
    for (int i = -5; i <= -3; i++) {
        char text[16];

        (void)snprintf(text, sizeof text, "1e%d", i);
        close_to(tick_y(out.data, text), foot + (top - foot) * (i + 6) / 6);
    }
    json_buf_free(&out);
}

static void nothing_and_less_stand_at_the_foot_of_a_log_axis(void **state)
{
    const double zero[] = {1e-3, 0, 1e-2, INFINITY}, below[] = {1e-3, -5, -INFINITY, 1e-2};
    double p[16];
    JsonBuf out = lines_of(zero, 4, true, NAN);

    (void)state;
    (void)path_numbers(out.data, "\"line s0 dash0\"", p, 16);
    close_to(p[3], tick_y(out.data, "0"));
    close_to(p[1], tick_y(out.data, "1e-3"));
    close_to(p[7], tick_y(out.data, "0.01")); /* the upper edge */
    assert_true(p[1] < p[3] - 10);
    json_buf_free(&out);
    out = lines_of(below, 4, true, NAN);
    (void)path_numbers(out.data, "\"line s0 dash0\"", p, 16);
    close_to(p[3], tick_y(out.data, "≤ 0"));
    close_to(p[5], tick_y(out.data, "≤ 0"));
    json_buf_free(&out);
}

static void missing_values_interrupt_a_line(void **state)
{
    const double y[] = {1, NAN, 3, 4};
    const char *d;
    JsonBuf out = lines_of(y, 4, false, NAN);

    (void)state;
    d = strstr(out.data, "\"line s0 dash0\" d=\"");
    assert_non_null(d);
    d += strlen("\"line s0 dash0\" d=\"");
    const size_t n = strcspn(d, "\"");
    assert_int_equal(d[0], 'M');
    int moves = 0, draws = 0;
    for (size_t i = 0; i < n; i++) {
        moves += d[i] == 'M';
        draws += d[i] == 'L';
    }
    assert_int_equal(moves, 2);
    assert_int_equal(draws, 1);
    assert_int_equal(count_of(out.data, "<title>ours, "), 3);
    json_buf_free(&out);
}

static void many_values_are_marked_only_where_no_line_shows_them(void **state)
{
    double y[200];
    JsonBuf out;

    (void)state;
    for (int i = 0; i < 200; i++)
        y[i] = i % 7 == 3 || i % 7 == 5 ? (double)NAN : i; /* 4, 11, 18, ... stand alone */
    out = lines_of(y, 200, false, NAN);
    assert_int_equal(count_of(out.data, "<title>ours, "), 28);
    assert_non_null(strstr(out.data, "<title>ours, 5: 4</title>"));
    json_buf_free(&out);
}

static void the_limit_is_a_dashed_line_at_its_value(void **state)
{
    const double y[] = {1e-6, 1e-5};
    JsonBuf out = lines_of(y, 2, true, 1e-4);

    (void)state;
    close_to(number_after(strstr(out.data, "<line class=\"limit\""), "y1=\""),
             tick_y(out.data, "1e-4"));
    assert_non_null(strstr(out.data, ">limit 1e-4</text>"));
    json_buf_free(&out);
    out = lines_of(y, 2, true, NAN);
    assert_null(strstr(out.data, "limit"));
    json_buf_free(&out);
}

static void names_on_x_do_not_touch(void **state)
{
    static char texts[200][24];
    const char *names[200];
    double y[200];
    const ChartLine line = {"y", y};

    (void)state;
    for (int i = 0; i < 200; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "L%d ünïcode%d", i, i % 2 ? 1 : 100000);
        names[i] = texts[i];
        y[i] = i;
    }
    for (int n = 1; n <= 200; n += 3) {
        const ChartAxes axes = {.caption = "c", .x_names = names, .n = n, .limit = NAN};
        JsonBuf out = empty();
        double edge = -100;
        int found = 0;

        chart_lines(&out, &axes, &line, 1);
        for (const char *p = out.data; (p = strstr(p, "<text x=\"")) != NULL; p++) {
            const char *text = strchr(p, '>') + 1;
            const double x = number_after(p, "x=\"");
            const bool middle = strstr(p, "middle") != NULL && strstr(p, "middle") < text;
            const bool end = strstr(p, "\"end\"") != NULL && strstr(p, "\"end\"") < text;
            const double width = 7.2 * (double)text_utf8_count(text, strcspn(text, "<"));

            if (text[0] != 'L')
                continue;
            const double from = middle ? x - width / 2 : end ? x - width : x;
            assert_true(from >= edge && from >= -0.01 && from + width <= SVG_WIDE + 0.01);
            edge = from + width;
            found++;
        }
        assert_in_range(found, 1, 6);
        json_buf_free(&out);
    }
}

static void numbers_on_x_are_round(void **state)
{
    double y[100] = {0};
    JsonBuf out = lines_of(y, 100, false, NAN); /* x from 1 to 100 */

    (void)state;
    assert_non_null(strstr(out.data, "middle\">20</text>"));
    assert_non_null(strstr(out.data, "middle\">80</text>"));
    assert_null(strstr(out.data, "middle\">21</text>"));
    json_buf_free(&out);
}

static void lines_survive_every_value(void **state)
{
    static const double odd[] = {NAN, INFINITY, -INFINITY, 0, -1, 1e308, -1e308, 5e-324, 1};
    const int n = sizeof odd / sizeof odd[0], most = quick() ? n * n : n * n * n;

    (void)state;
    for (int i = 0; i < most; i++) {
        const double y[] = {odd[i % n], odd[i / n % n], odd[i / n / n % n]};

        for (int k = 0; k < 8; k++) {
            JsonBuf out = lines_of(y, k / 2, k % 2, odd[(i + k) % n]);
            json_buf_free(&out);
        }
    }
}

/* ---- bars ---- */

static void a_histogram_has_the_heights_of_its_counts(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    static const char *const parts[] = {"a: 4</title>", "c: 10</title>", "d: 1</title>"};
    static const double counts_drawn[] = {4, 10, 1};
    const uint64_t counts[] = {4, 0, 10, 1};
    JsonBuf out = empty();

    (void)state;
    chart_histogram(&out, "caption", names, counts, 4);
    assert_well_formed(&out);
    assert_int_equal(count_of(out.data, "<path class=\"part s0\""), 3);
    const double foot = tick_y(out.data, "0"), top = tick_y(out.data, "10");
    const char *bar = out.data;
    for (int i = 0; i < 3; i++) {
        double p[8];

        bar = strstr(bar + 1, "<path class=\"part");
        assert_non_null(strstr(bar, parts[i]));
        assert_int_equal(path_numbers(bar, "<path", p, 8), 5); /* x, foot, top, width, foot */
        close_to(p[1], foot);
        close_to(p[4], foot);
        close_to(p[2], foot + (top - foot) * counts_drawn[i] / 10);
    }
    json_buf_free(&out);
}

static void the_smallest_count_can_be_seen(void **state)
{
    static const char *const names[] = {"a", "b"};
    const uint64_t counts[] = {UINT64_MAX, 1};
    double p[8];
    JsonBuf out = empty();

    (void)state;
    chart_histogram(&out, NULL, names, counts, 2);
    assert_well_formed(&out);
    assert_int_equal(path_numbers(strstr(out.data, "18446744073709551615</title>"), "<path", p, 8),
                     5);
    assert_true(p[1] - p[2] >= 1.0);
    json_buf_free(&out);
    chart_histogram(&out, "none", names, counts, 0);
    assert_well_formed(&out);
    json_buf_free(&out);
}

static void stacked_parts_stand_on_each_other(void **state)
{
    static const char *const names[] = {"low", "none", "high"};
    const double values[] = {2, 0, 6, 4, NAN, 1}; /* 2 bars */
    const ChartAxes axes = {.caption = "c", .y_label = "ms", .limit = NAN};
    double low[16], high[16];
    JsonBuf out = empty();

    (void)state;
    chart_stacked(&out, &axes, names, values, 2, 3);
    assert_well_formed(&out);
    const char *svg = strstr(out.data, "<svg class=\"plot");
    const double foot = tick_y(svg, "0"), unit = (tick_y(svg, "8") - foot) / 8;
    assert_int_equal(path_numbers(svg, "\"part s0 tint0\"", low, 16), 10);
    assert_int_equal(path_numbers(svg, "\"part s2 tint0\"", high, 16), 10);
    for (int bar = 0; bar < 2; bar++) {
        close_to(low[5 * bar + 1], foot);
        close_to(low[5 * bar + 2], foot + unit * values[3 * bar]);
        close_to(high[5 * bar + 1], low[5 * bar + 2]);
        close_to(high[5 * bar + 2], foot + unit * (values[3 * bar] + values[3 * bar + 2]));
        close_to(high[5 * bar], low[5 * bar]);
    }
    assert_non_null(strstr(out.data, "low 46.2 %")); /* 6 of 13 */
    assert_non_null(strstr(out.data, "high 53.8 %"));
    json_buf_free(&out);
}

static void stacked_bars_survive_every_value(void **state)
{
    static const double odd[] = {NAN, INFINITY, -INFINITY, 0, -1, 1e308, DBL_MAX, 5e-324, 1};
    static const char *const names[] = {HOSTILE, "b"};
    const int n = sizeof odd / sizeof odd[0];

    (void)state;
    for (int i = 0; i < n * n; i++) {
        const double v[] = {odd[i % n], odd[i / n], odd[(i + 3) % n], 1};
        const ChartAxes axes = {.caption = HOSTILE, .x_label = HOSTILE, .limit = odd[i % n]};

        for (int k = 0; k < 3; k++) {
            JsonBuf out = empty();

            chart_stacked(&out, &axes, names, v, k, 2);
            chart_stacked(&out, &axes, names, v, k, 0);
            assert_well_formed(&out);
            json_buf_free(&out);
        }
    }
}

/* ---- flames ---- */

typedef struct {
    double x, y, width;
} Box;

static Box box_of(const char *svg, const char *name)
{
    char part[64];

    (void)snprintf(part, sizeof part, "<title>%s: ", name);
    const char *p = strstr(svg, part);
    assert_non_null(p);
    return (Box){number_after(p, " x=\""), number_after(p, " y=\""), number_after(p, " width=\"")};
}

static void flames_nest(void **state)
{
    const ChartBox boxes[] = {{"run", 0, 8}, {"a", 1, 6},   {"aa", 2, 1}, {"ab", 2, 4},
                              {"b", 1, 2},   {"ba", 2, 99}, {"c", 1, 1}};
    JsonBuf out = empty();

    (void)state;
    chart_flame(&out, "caption", "ms", boxes, 7);
    assert_well_formed(&out);
    const Box run = box_of(out.data, "run"), a = box_of(out.data, "a"), aa = box_of(out.data, "aa");
    const Box ab = box_of(out.data, "ab"), b = box_of(out.data, "b"), ba = box_of(out.data, "ba");
    close_to(run.x, 0);
    close_to(run.width, SVG_WIDE);
    close_to(a.width, SVG_WIDE * 0.75);
    close_to(aa.x, 0);
    close_to(ab.x, aa.x + aa.width);
    close_to(ab.width, SVG_WIDE * 0.5);
    close_to(b.x, a.x + a.width);
    close_to(ba.x, b.x);
    close_to(ba.width, b.width); /* no wider than what it lies in */
    assert_true(run.y < a.y && a.y < aa.y && aa.y == ba.y && a.y == b.y);
    assert_null(strstr(out.data, "<title>c: ")); /* no room was left for it */
    assert_non_null(strstr(out.data, "<title>a: 6 ms, 75.0 %</title>"));
    json_buf_free(&out);
}

static void flames_survive_every_box(void **state)
{
    static const double odd[] = {NAN, INFINITY, -1, 0, 1e308, 5e-324, 1};
    static const int depths[] = {0, 1, 5, -3, 1000000};

    (void)state;
    for (int i = 0; i < 7 * 7 * 5 * 5; i++) {
        const ChartBox boxes[] = {{HOSTILE, depths[i % 5], odd[i / 25 % 7]},
                                  {"b", depths[i / 5 % 5], odd[i / 175]},
                                  {"c", 20, 1}};
        JsonBuf out = empty();

        chart_flame(&out, HOSTILE, HOSTILE, boxes, i % 4);
        assert_well_formed(&out);
        json_buf_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_numbers_are_1_2_5),
        cmocka_unit_test(axes_hold_what_they_show),
        cmocka_unit_test(coordinates_are_short),
        cmocka_unit_test(numbers_are_short),
        cmocka_unit_test(a_line_goes_through_its_values),
        cmocka_unit_test(a_log_axis_has_decades),
        cmocka_unit_test(nothing_and_less_stand_at_the_foot_of_a_log_axis),
        cmocka_unit_test(missing_values_interrupt_a_line),
        cmocka_unit_test(many_values_are_marked_only_where_no_line_shows_them),
        cmocka_unit_test(the_limit_is_a_dashed_line_at_its_value),
        cmocka_unit_test(names_on_x_do_not_touch),
        cmocka_unit_test(numbers_on_x_are_round),
        cmocka_unit_test(lines_survive_every_value),
        cmocka_unit_test(a_histogram_has_the_heights_of_its_counts),
        cmocka_unit_test(the_smallest_count_can_be_seen),
        cmocka_unit_test(stacked_parts_stand_on_each_other),
        cmocka_unit_test(stacked_bars_survive_every_value),
        cmocka_unit_test(flames_nest),
        cmocka_unit_test(flames_survive_every_box),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
