/* tests/test_report.c: pages, tables on terminals, and files that are whole or not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "markup_rig.h"
#include "report/output.h"
#include "report/page.h"
#include "report/terminal.h"

#define HOSTILE "</script><script>x</script>\"'&<b \x01\xff\xc3 </title>-->"

static JsonBuf empty(void)
{
    return (JsonBuf){NULL, 0, 0, 0};
}

/* ---- pages ---- */

static const char *escaped(JsonBuf *out, const char *text, size_t n)
{
    json_buf_free(out);
    page_text(out, text, n);
    return out->data;
}

static void every_byte_is_text_or_replaced(void **state)
{
    JsonBuf out = empty();

    (void)state;
    for (int c = 0; c < 256; c++) {
        const char byte = (char)c, same[2] = {byte, '\0'};
        const char *want = c == '&'                                         ? "&amp;"
                           : c == '<'                                       ? "&lt;"
                           : c == '>'                                       ? "&gt;"
                           : c == '"'                                       ? "&quot;"
                           : c == '\''                                      ? "&#39;"
                           : c == '\n' || c == '\t' || (c >= 32 && c < 127) ? same
                                                                            : "\xef\xbf\xbd";

        assert_string_equal(escaped(&out, &byte, 1), want);
    }
    json_buf_free(&out);
}

static void characters_stay_and_broken_ones_are_replaced(void **state)
{
    JsonBuf out = empty();

    (void)state;
    assert_string_equal(escaped(&out, "ä日😀", 9), "ä日😀");
    assert_string_equal(escaped(&out, "a\xc3", 2), "a\xef\xbf\xbd");
    assert_string_equal(escaped(&out, "\xf0\x9f\x98<", 4), "\xef\xbf\xbd&lt;");
    assert_string_equal(escaped(&out, "\xc0\xbc", 2), "\xef\xbf\xbd\xef\xbf\xbd"); /* overlong < */
    assert_string_equal(escaped(&out, "\xed\xa0\x80", 3), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    assert_string_equal(escaped(&out, "\xc2\x9b", 2), "\xef\xbf\xbd");     /* a control character */
    assert_string_equal(escaped(&out, "\xef\xbf\xbf", 3), "\xef\xbf\xbd"); /* no character */
    json_buf_free(&out);
}

/* A page with all that page.h has, made of one text. */
static JsonBuf page_of(const char *text)
{
    const char *const headings[] = {text, text, text};
    JsonBuf out = empty();

    page_begin(&out, text, text);
    page_facts_begin(&out);
    page_fact(&out, text, "%s", text);
    page_facts_end(&out);
    page_section(&out, text, text);
    page_section(&out, text, NULL);
    page_paragraph(&out, "%s", text);
    page_table_begin(&out, headings, "lrr", 3);
    page_row_begin(&out);
    page_cell(&out, CELL_PLAIN, "%s", text);
    page_cell(&out, CELL_BAD, "%.1e", 0.5);
    page_cell(&out, CELL_GOOD, "%s", "");
    page_row_end(&out);
    page_table_end(&out);
    page_grid_begin(&out);
    page_grid_end(&out);
    page_end(&out);
    return out;
}

static void a_page_is_complete(void **state)
{
    JsonBuf out = page_of("words");

    (void)state;
    assert_well_formed(&out);
    assert_int_equal(strncmp(out.data, "<!DOCTYPE html>\n<html lang=\"en\">", 32), 0);
    assert_non_null(strstr(out.data, "<meta charset=\"utf-8\">"));
    assert_non_null(strstr(out.data, "<meta name=\"viewport\" content=\"width=device-width"));
    assert_non_null(strstr(out.data, "<title>words</title>"));
    assert_non_null(strstr(out.data, "<h1>words</h1>"));
    assert_int_equal(count_of(out.data, "<h2>words</h2>"), 2);
    assert_non_null(strstr(out.data, "<dt>words</dt><dd>words</dd>"));
    assert_non_null(strstr(out.data, "<td class=\"bad\">5.0e-01</td><td class=\"good\"></td>"));
    json_buf_free(&out);
}

static void a_page_needs_nothing_from_outside(void **state)
{
    static const char *const links[] = {"://", "src=", "href=", "url(", "@import"};
    JsonBuf out = page_of("words");

    (void)state;
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
        assert_null(strstr(out.data, links[i]));
    json_buf_free(&out);
}

static void no_text_becomes_markup(void **state)
{
    JsonBuf out = page_of(HOSTILE), plain = page_of("words");

    (void)state;
    assert_well_formed(&out);
    assert_int_equal(count_of(out.data, "<"), count_of(plain.data, "<"));
    assert_null(strstr(out.data, "<script"));
    json_buf_free(&out);
    json_buf_free(&plain);
}

static void columns_are_aligned_by_class(void **state)
{
    JsonBuf out = page_of("words");

    (void)state;
    assert_non_null(strstr(out.data, "<table class=\"table r2 r3\">"));
    assert_non_null(strstr(out.data, ".r3 tr>:nth-child(3)"));
    json_buf_free(&out);
}

static void long_texts_are_kept(void **state)
{
    static char text[20001];
    JsonBuf out = empty();

    (void)state;
    memset(text, 'x', sizeof text - 1);
    page_paragraph(&out, "%s!", text);
    assert_int_equal(out.len, 20001 + strlen("<p></p>\n"));
    json_buf_free(&out);
}

/* 0.2126 r + 0.7152 g + 0.0722 b of "#rrggbb"; no need to linearize for the order of such colours.
 */
static double lightness(const char *colour)
{
    const long v = strtol(colour + 1, NULL, 16);

    assert_int_equal(colour[0], '#');
    return 0.2126 * (double)(v >> 16) + 0.7152 * (double)(v >> 8 & 255) +
           0.0722 * (double)(v & 255);
}

/* On paper more is darker, on black more is brighter; each level differs from the next. */
static void heat_colours_are_ordered_by_lightness(void **state)
{
    JsonBuf out = page_of("words");
    const char *light = strstr(out.data, "--h1:"), *dark = strstr(light + 1, "--h1:");

    (void)state;
    assert_non_null(dark);
    for (int scheme = 0; scheme < 2; scheme++) {
        const char *from = scheme == 0 ? light : dark;
        double before = scheme == 0 ? 256 : 0;

        for (int i = 1; i <= 16; i++) {
            char name[16];

            (void)snprintf(name, sizeof name, "--h%d:", i);
            const double now = lightness(strstr(from, name) + strlen(name));
            assert_true(scheme == 0 ? now <= before - 3 : now >= before + 3);
            before = now;
        }
    }
    json_buf_free(&out);
}

/* ---- terminals ---- */

static void table_of(JsonBuf *out, bool colour)
{
    static const char *const headings[] = {"näme", "größe", "日本"};
    TermTable t;

    term_table_begin(&t, headings, "lrl", colour);
    term_table_cell(&t, TERM_PLAIN, "%s", "a\x1b[31mb");
    term_table_cell(&t, TERM_BAD, "%d", 5);
    term_table_cell(&t, TERM_GOOD, "%s", "x");
    term_table_cell(&t, TERM_WEAK, "%s", "é");
    term_table_cell(&t, TERM_PLAIN, "%s", "");
    term_table_cell(&t, TERM_PLAIN, "%s", "long text");
    term_table_cell(&t, TERM_PLAIN, "%s", "本");
    term_table_cell(&t, TERM_PLAIN, "%s", "1234567");
    term_table_cell(&t, TERM_PLAIN, "%s", "");
    term_table_print(&t, out);
}

static void columns_are_as_wide_as_their_widest_cell(void **state)
{
    JsonBuf out = empty();

    (void)state;
    table_of(&out, false);
    assert_string_equal(out.data, "näme          größe  日本\n"
                                  "a\\x1b[31mb        5  x\n"
                                  "é                    long text\n"
                                  "本          1234567\n");
    json_buf_free(&out);
}

static void colour_moves_no_column(void **state)
{
    JsonBuf plain = empty(), colour = empty();

    (void)state;
    table_of(&plain, false);
    table_of(&colour, true);
    assert_non_null(strstr(colour.data, "\x1b[1;31m5\x1b[0m"));
    assert_non_null(strstr(colour.data, "\x1b[32mx\x1b[0m"));
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

static void long_cells_are_cut_with_dots(void **state)
{
    static const char *const headings[] = {"a"};
    char text[400];
    TermTable t;
    JsonBuf out = empty();

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    term_table_begin(&t, headings, "l", false);
    term_table_cell(&t, TERM_PLAIN, "%s", text);
    term_table_print(&t, &out);
    const char *cell = strchr(out.data, '\n') + 1;
    assert_int_equal(strcspn(cell, "\n"), TERM_CELL_BYTES - 1);
    assert_non_null(strstr(cell, "..."));
    json_buf_free(&out);
}

static void styles_are_only_for_terminals_with_colour(void **state)
{
    JsonBuf out = empty();

    (void)state;
    term_text(&out, false, TERM_BAD, "a");
    term_text(&out, true, TERM_PLAIN, "b");
    assert_string_equal(out.data, "ab");
    term_text(&out, true, TERM_WEAK, "c");
    assert_string_equal(out.data, "ab\x1b[2mc\x1b[0m");
    json_buf_free(&out);
}

/* Asks with standard output on to, and puts it back. */
static bool wants_colour_on(int to)
{
    const int saved = dup(STDOUT_FILENO);

    (void)fflush(stdout);
    assert_true(dup2(to, STDOUT_FILENO) >= 0);
    const bool wants = term_wants_colour();
    assert_true(dup2(saved, STDOUT_FILENO) >= 0);
    (void)close(saved);
    return wants;
}

static int width_on(int to)
{
    const int saved = dup(STDOUT_FILENO);

    (void)fflush(stdout);
    assert_true(dup2(to, STDOUT_FILENO) >= 0);
    const int width = term_width();
    assert_true(dup2(saved, STDOUT_FILENO) >= 0);
    (void)close(saved);
    return width;
}

static void colour_and_width_follow_the_terminal(void **state)
{
    const struct winsize size = {.ws_row = 20, .ws_col = 77};
    const int pipe_end = open("/dev/null", O_WRONLY | O_CLOEXEC);
    const int master = posix_openpt(O_RDWR | O_NOCTTY);
    int terminal = -1;

    (void)state;
    if (master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0)
        terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    if (terminal < 0) {
        printf("# no pseudo terminal here\n");
        skip();
    }
    assert_int_equal(unsetenv("NO_COLOR") | unsetenv("COLUMNS") | setenv("TERM", "xterm", 1), 0);
    assert_int_equal(ioctl(terminal, TIOCSWINSZ, &size), 0);
    assert_true(wants_colour_on(terminal));
    assert_false(wants_colour_on(pipe_end));
    assert_int_equal(setenv("NO_COLOR", "", 1), 0);
    assert_true(wants_colour_on(terminal));
    assert_int_equal(setenv("NO_COLOR", "1", 1), 0);
    assert_false(wants_colour_on(terminal));
    assert_int_equal(unsetenv("NO_COLOR") | setenv("TERM", "dumb", 1), 0);
    assert_false(wants_colour_on(terminal));
    assert_int_equal(width_on(terminal), 77);
    assert_int_equal(width_on(pipe_end), 100);
    assert_int_equal(setenv("COLUMNS", "57", 1), 0);
    assert_int_equal(width_on(terminal), 57);
    assert_int_equal(setenv("COLUMNS", "57x", 1), 0);
    assert_int_equal(width_on(terminal), 77);
    assert_int_equal(setenv("COLUMNS", "99999999999999999999", 1), 0);
    assert_int_equal(width_on(terminal), 77);
    (void)close(terminal);
    (void)close(master);
    (void)close(pipe_end);
}

/* ---- files ---- */

static int make_folder(void **state)
{
    char *folder = strdup("/tmp/test_report_XXXXXX");

    *state = folder;
    return folder == NULL || mkdtemp(folder) == NULL || chdir(folder) != 0;
}

/* The folder must be empty but for the file "kept". */
static int n_others(void)
{
    DIR *d = opendir(".");
    const struct dirent *e;
    int n = 0;

    while ((e = readdir(d)) != NULL)
        n += e->d_name[0] != '.' && strcmp(e->d_name, "kept") != 0;
    (void)closedir(d);
    return n;
}

static int remove_folder(void **state)
{
    const int left = n_others();

    (void)unlink("kept");
    const int bad = left + (chdir("/") != 0) + (rmdir(*state) != 0);
    free(*state);
    return bad;
}

static void assert_file(const char *path, const char *want)
{
    char got[64] = "";
    FILE *f = fopen(path, "r");

    assert_non_null(f);
    const size_t n = fread(got, 1, sizeof got - 1, f);
    (void)fclose(f);
    assert_int_equal(n, strlen(want));
    assert_string_equal(got, want);
}

static void a_text_becomes_a_file(void **state)
{
    JsonBuf text = empty();
    Err err = {ERR_OK, ""};

    (void)state;
    assert_int_equal(report_write("kept", &text, &err), ERR_OK); /* an empty one too */
    assert_file("kept", "");
    json_buf_printf(&text, "new");
    assert_int_equal(report_write("kept", &text, &err), ERR_OK);
    assert_file("kept", "new");
    assert_int_equal(n_others(), 0);
    json_buf_free(&text);
}

static void what_ran_out_of_memory_is_not_written(void **state)
{
    JsonBuf text = empty();
    Err err = {ERR_OK, ""};

    (void)state;
    json_buf_printf(&text, "old");
    assert_int_equal(report_write("kept", &text, &err), ERR_OK);
    json_buf_printf(&text, "half");
    text.oom = 1;
    assert_int_equal(report_write("kept", &text, &err), ERR_MEMORY);
    assert_non_null(strstr(err.msg, "kept: "));
    assert_file("kept", "old");
    assert_int_equal(report_write("other", &text, &err), ERR_MEMORY);
    assert_int_equal(n_others(), 0);
    json_buf_free(&text);
}

static void a_place_that_cannot_be_written_is_named(void **state)
{
    JsonBuf text = empty();
    Err err = {ERR_OK, ""};

    (void)state;
    json_buf_printf(&text, "old");
    assert_int_equal(report_write("kept", &text, &err), ERR_OK);
    assert_int_equal(report_write("absent/page.html", &text, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "absent/page.html"));
    assert_int_equal(report_write("kept/page.html", &text, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "Not a directory"));
    assert_int_equal(mkdir("folder", 0777), 0);
    assert_int_equal(report_write("folder", &text, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "folder: "));
    assert_int_equal(rmdir("folder"), 0);
    assert_file("kept", "old");
    assert_int_equal(n_others(), 0);
    json_buf_free(&text);
}

static void a_full_disk_leaves_the_old_file(void **state)
{
    struct rlimit before, small;
    JsonBuf text = empty();
    Err err = {ERR_OK, ""};

    (void)state;
    json_buf_printf(&text, "old");
    assert_int_equal(report_write("kept", &text, &err), ERR_OK);
    for (int i = 0; i < 1000; i++)
        json_buf_printf(&text, "%d", i);
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){100, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const ErrCode code = report_write("kept", &text, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(code, ERR_IO);
    assert_non_null(strstr(err.msg, "kept: File too large"));
    assert_file("kept", "old");
    assert_int_equal(n_others(), 0);
    json_buf_free(&text);
}

/* Renaming would put a plain file where the device was. */
static void a_device_is_written_to(void **state)
{
    struct stat st;
    int ends[2];
    char path[64], got[16] = "";
    JsonBuf text = empty();
    Err err = {ERR_OK, ""};

    (void)state;
    json_buf_printf(&text, "page");
    assert_int_equal(pipe(ends), 0);
    (void)snprintf(path, sizeof path, "/dev/fd/%d", ends[1]);
    assert_int_equal(report_write(path, &text, &err), ERR_OK);
    assert_int_equal(read(ends[0], got, sizeof got - 1), 4);
    assert_string_equal(got, "page");
    (void)close(ends[0]);
    (void)close(ends[1]);
    assert_int_equal(report_write("/dev/full", &text, &err), ERR_IO);
    assert_string_equal(err.msg, "/dev/full: No space left on device");
    assert_int_equal(stat("/dev/full", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    json_buf_free(&text);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_is_text_or_replaced),
        cmocka_unit_test(characters_stay_and_broken_ones_are_replaced),
        cmocka_unit_test(a_page_is_complete),
        cmocka_unit_test(a_page_needs_nothing_from_outside),
        cmocka_unit_test(no_text_becomes_markup),
        cmocka_unit_test(columns_are_aligned_by_class),
        cmocka_unit_test(long_texts_are_kept),
        cmocka_unit_test(heat_colours_are_ordered_by_lightness),
        cmocka_unit_test(columns_are_as_wide_as_their_widest_cell),
        cmocka_unit_test(colour_moves_no_column),
        cmocka_unit_test(long_cells_are_cut_with_dots),
        cmocka_unit_test(styles_are_only_for_terminals_with_colour),
        cmocka_unit_test(colour_and_width_follow_the_terminal),
        IN_FOLDER(a_text_becomes_a_file),
        IN_FOLDER(what_ran_out_of_memory_is_not_written),
        IN_FOLDER(a_place_that_cannot_be_written_is_named),
        IN_FOLDER(a_full_disk_leaves_the_old_file),
        IN_FOLDER(a_device_is_written_to),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
