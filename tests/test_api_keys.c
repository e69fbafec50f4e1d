/* tests/test_api_keys.c: which files of keys are taken, which headers show one of them, and that
 * nothing of a key gets into a message. */
#include "parser_rig.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "http/api_keys.h"

#define KEY_A "first-key-0123456789"
#define KEY_B "second-key-abcdefghi"

static ApiKeys *parsed(const char *text)
{
    ApiKeys *keys = NULL;
    Err err = {0};
    const size_t n = strlen(text);

    if (api_keys_parse(&keys, "keys", guarded(text, n), n, &err) != ERR_OK)
        fail_msg("refused: %s: %s", text, err.msg);
    return keys;
}

/* --- files --- */

static void one_key_a_line_blanks_and_comments_aside(void **state)
{
    static const struct {
        const char *text;
        int n;
    } rows[] = {
        {KEY_A, 1},
        {KEY_A "\n", 1},
        {KEY_A "\r\n", 1},
        {KEY_A "\n\n\n", 1},
        {"  \t" KEY_A " \t \r\n", 1},
        {"# for the proxy\n" KEY_A "\n", 1},
        {"\n  # indented\n" KEY_A, 1},
        {KEY_A "\n" KEY_B, 2},
        {KEY_A "\r\n#" KEY_A "\r\n" KEY_B "\r\n", 2},
        {KEY_A "\n" KEY_A "\n" KEY_B, 3},
        {"#nothing\n" KEY_A "\n#" KEY_B, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ApiKeys *keys = parsed(rows[i].text);

        assert_int_equal(api_keys_count(keys), rows[i].n);
        assert_true(api_keys_permit(keys, "Bearer " KEY_A));
        assert_int_equal(api_keys_permit(keys, "Bearer " KEY_B),
                         rows[i].n > 1); /* not the one in a comment */
        assert_int_equal(api_keys_shortest(keys), strlen(KEY_A));
        api_keys_free(keys);
    }
}

static void refuses_what_cannot_be_a_key_and_shows_none_of_it(void **state)
{
    static const struct {
        const char *text;
        size_t n;
        ErrCode code;
        const char *message;
    } rows[] = {
#define ROW(text, code, message) {text, sizeof(text) - 1, code, message}
#define BYTE(line, at)                                                                             \
    "keys: line " line ": byte " at                                                                \
    " of the key is not allowed, expected printable ASCII without blanks"
        ROW("\n", ERR_FORMAT, "keys: holds no key, expected one on a line"),
        ROW(" \t\r\n\r", ERR_FORMAT, "keys: holds no key, expected one on a line"),
        ROW("# SECRET\n", ERR_FORMAT, "keys: holds no key, expected one on a line"),
        ROW("SECRET SECRET", ERR_FORMAT, BYTE("1", "7")),
        ROW(KEY_A "\nSECRET # name\n", ERR_FORMAT, BYTE("2", "7")),
        ROW("SECRET\tSECRET", ERR_FORMAT, BYTE("1", "7")),
        ROW("SECRET\rSECRET", ERR_FORMAT, BYTE("1", "7")),
        ROW("SECRET\0SECRET\n", ERR_FORMAT, BYTE("1", "7")),
        ROW("SECRET\x7f\n", ERR_FORMAT, BYTE("1", "7")),
        ROW("\xef\xbb\xbfSECRET\n", ERR_FORMAT, BYTE("1", "1")),
        ROW("SECR\xc3\x89T\n", ERR_FORMAT, BYTE("1", "5")),
        ROW("\xff\xfeS\0E\0C\0", ERR_FORMAT, BYTE("1", "1")),
        ROW("-----BEGIN SECRET KEY-----\n", ERR_FORMAT, BYTE("1", "11")),
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ApiKeys *keys = NULL;
        Err err = {0};

        assert_int_equal(
            api_keys_parse(&keys, "keys", guarded(rows[i].text, rows[i].n), rows[i].n, &err),
            rows[i].code);
        assert_string_equal(err.msg, rows[i].message);
        assert_null(keys);
    }
}

static void length_and_number_of_keys_have_limits(void **state)
{
    static char text[API_KEYS_MAX * (API_KEY_BYTES + 1) + 16];
    ApiKeys *keys = NULL;
    Err err = {0};
    size_t n = 0;

    (void)state;
    memset(text, 'k', API_KEY_BYTES + 1);
    assert_int_equal(api_keys_parse(&keys, "keys", text, API_KEY_BYTES + 1, &err), ERR_LIMIT);
    assert_string_equal(err.msg, "keys: line 1: a key of 513 bytes, expected at most 512");
    for (int i = 0; i < API_KEYS_MAX; i++, n += API_KEY_BYTES + 1) {
        memset(text + n, 'a' + i % 26, API_KEY_BYTES);
        text[n + API_KEY_BYTES] = '\n';
    }
    assert_int_equal(api_keys_parse(&keys, "keys", guarded(text, n), n, &err), ERR_OK);
    assert_int_equal(api_keys_count(keys), API_KEYS_MAX);
    api_keys_free(keys);
    keys = NULL;
    text[n] = 'x';
    assert_int_equal(api_keys_parse(&keys, "keys", text, n + 1, &err), ERR_LIMIT);
    assert_string_equal(err.msg, "keys: line 33: more than 32 keys");
    assert_null(keys);
    assert_int_equal(api_keys_parse(&keys, "keys", text, n + 1, NULL), ERR_LIMIT);
}

/* Any bytes are refused or are keys that open exactly what they say. */
static void every_damaged_byte_is_a_key_or_refused(void **state)
{
    static const char text[] = "# c\n " KEY_A "\r\n" KEY_B "\n";
    unsigned char file[sizeof text - 1];
    Err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof file; i++)
        for (int how = 0; how < N_DAMAGES; how++) {
            ApiKeys *keys = NULL;

            memcpy(file, text, sizeof file);
            file[i] = damage(file[i], how);
            if (api_keys_parse(&keys, "keys", guarded(file, sizeof file), sizeof file, &err) !=
                ERR_OK) {
                assert_null(keys);
                assert_null(strstr(err.msg, "-key"));
                continue;
            }
            assert_false(api_keys_permit(keys, "Bearer "));
            assert_true(api_keys_permit(keys, "Bearer " KEY_A) ||
                        api_keys_permit(keys, "Bearer " KEY_B));
            api_keys_free(keys);
        }
}

static void refused(const char *path, ErrCode code, const char *problem)
{
    ApiKeys *keys = NULL;
    Err err = {0};

    assert_refused(path, api_keys_load(&keys, path, &err), &err, code, problem);
    assert_non_null(strstr(err.msg, path));
    assert_null(keys);
}

static void only_a_regular_file_is_read(void **state)
{
    static unsigned char big[API_KEY_FILE_BYTES + 1];
    ApiKeys *keys = NULL;
    Err err = {0};

    (void)state;
    memset(big, '\n', sizeof big);
    memcpy(big, KEY_A, sizeof KEY_A - 1);
    put_file("keys", big, API_KEY_FILE_BYTES);
    assert_int_equal(symlink(path_of("keys"), path_of("link")), 0);
    assert_int_equal(api_keys_load(&keys, path_of("link"), &err), ERR_OK);
    assert_true(api_keys_permit(keys, "Bearer " KEY_A));
    api_keys_free(keys);
    put_file("big", big, sizeof big);
    refused(path_of("big"), ERR_LIMIT, "65537 bytes, expected at most 65536");
    put_file("empty", "", 0);
    refused(path_of("empty"), ERR_FORMAT, "the file is empty");
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    refused(path_of("fifo"), ERR_IO, "not a regular file");
    refused("/dev/null", ERR_IO, "not a regular file");
    refused(path_of(""), ERR_IO, "is a directory");
    refused(path_of("absent"), ERR_IO, "No such file or directory");
}

/* --- headers --- */

static void a_bearer_token_that_is_a_key_is_let_in(void **state)
{
    static const char *const good[] = {
        "Bearer " KEY_A, "bearer " KEY_A, "BEARER " KEY_A, "bEaReR    " KEY_A, "Bearer " KEY_B,
    };
    static const char *const bad[] = {
        "",
        "?",
        KEY_A,
        " Bearer " KEY_A,
        "Bearer",
        "Bearer ",
        "Bearer    ",
        "Bearer" KEY_A,
        "Bearer\t" KEY_A,
        "Bearer: " KEY_A,
        "Bearers " KEY_A,
        "Basic " KEY_A,
        "Token " KEY_A,
        "Bearer Bearer " KEY_A,
        "Bearer \"" KEY_A "\"",
        "Bearer " KEY_A ",",
        "Bearer " KEY_A " ",
        "Bearer " KEY_A " " KEY_B,
        "Bearer " KEY_A "," KEY_B,
        "Bearer " KEY_A KEY_A,
        "Bearer " KEY_A KEY_B,
        "Bearer first-key-012345678",
        "Bearer irst-key-0123456789",
        "Bearer First-key-0123456789",
        "Bearer first-key-0123456788",
        "Bearer second-key-0123456789",
        "Bearer # comment",
        "Bearer #",
    };
    ApiKeys *keys = parsed("# comment\n" KEY_A "\n" KEY_B "\n");

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!api_keys_permit(keys, good[i]))
            fail_msg("turned away: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (api_keys_permit(keys, bad[i]))
            fail_msg("let in: %s", bad[i]);
    assert_false(api_keys_permit(keys, NULL));
    api_keys_free(keys);
}

/* The last byte of the longest key counts, and nothing longer is cut down to it. */
static void the_longest_key_counts_to_its_last_byte(void **state)
{
    char text[API_KEY_BYTES + 1] = {0}, header[API_KEY_BYTES + 16];
    ApiKeys *keys;

    (void)state;
    memset(text, 'k', API_KEY_BYTES);
    keys = parsed(text);
    snprintf(header, sizeof header, "Bearer %s", text);
    assert_true(api_keys_permit(keys, header));
    header[strlen(header) - 1] = 'l';
    assert_false(api_keys_permit(keys, header));
    header[strlen(header) - 1] = '\0';
    assert_false(api_keys_permit(keys, header));
    snprintf(header, sizeof header, "Bearer %sk", text);
    assert_false(api_keys_permit(keys, header));
    api_keys_free(keys);
}

/* --- the comparison --- */

/* Wherever the difference is, in whatever bit: so no byte is left out. */
static void every_bit_of_every_byte_is_compared(void **state)
{
    unsigned char a[API_KEY_BYTES], b[API_KEY_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof a; i++)
        a[i] = b[i] = (unsigned char)(i * 7);
    assert_true(api_keys_same(a, b, sizeof a));
    assert_true(api_keys_same(a, b, 0));
    for (size_t i = 0; i < sizeof a; i++)
        for (int bit = 0; bit < 8; bit++) {
            b[i] ^= (unsigned char)(1 << bit);
            assert_false(api_keys_same(a, b, sizeof a));
            assert_false(api_keys_same(b, a, sizeof a));
            assert_true(api_keys_same(a, b, i)); /* and none behind the end */
            b[i] = a[i];
        }
}

/* The first byte differs, and still the last one is read: a page that cannot be read lies there. */
static void the_first_difference_does_not_end_it(void **state)
{
    enum { BEYOND = 1 };
    const pid_t child = fork();
    int status;

    (void)state;
    assert_true(child >= 0);
    if (child == 0) {
        char a[17] = "A234567890123456";
        const unsigned char *b = guarded("B234567890123456", 16);

        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        signal(SIGSEGV, SIG_DFL); /* cmocka would report it */
        (void)api_keys_same(a, b, 16 + BEYOND);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int remove_all(void **state)
{
    static const char *const names[] = {"keys", "link", "big", "empty", "fifo"};

    (void)state;
    return remove_folder(names, sizeof names / sizeof names[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_key_a_line_blanks_and_comments_aside),
        cmocka_unit_test(refuses_what_cannot_be_a_key_and_shows_none_of_it),
        cmocka_unit_test(length_and_number_of_keys_have_limits),
        cmocka_unit_test(every_damaged_byte_is_a_key_or_refused),
        cmocka_unit_test_setup_teardown(only_a_regular_file_is_read, make_folder, remove_all),
        cmocka_unit_test(a_bearer_token_that_is_a_key_is_let_in),
        cmocka_unit_test(the_longest_key_counts_to_its_last_byte),
        cmocka_unit_test(every_bit_of_every_byte_is_compared),
        cmocka_unit_test(the_first_difference_does_not_end_it),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
