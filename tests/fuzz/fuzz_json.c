/* tests/fuzz/fuzz_json.c: any bytes as JSON. What is accepted is what the grammar says, and reads
 * back the same when it is printed; what is refused has one line that says why. */
#include "fuzz.h"

#include "common/json.h"
#include "json_grammar.h"

enum { FEW_VALUES = 8 };

static void check_message(const Err *err)
{
    fuzz_check_refusal(err->code, err);
    FUZZ_CHECK(text_utf8_valid(err->msg, strlen(err->msg)));
}

/* A text that the grammar accepts is refused for these reasons only. */
static bool is_stricter_than_grammar(const Err *err)
{
    static const char *const reasons[] = {"duplicate object key", "too big integer",
                                          "too big negative integer", "real number overflow"};

    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (strstr(err->msg, reasons[i]) != NULL)
            return true;
    return false;
}

static void prints_and_reads_back(const json_t *root)
{
    char *printed = json_dumps(root, JSON_ENCODE_ANY | JSON_COMPACT);
    Err err = {ERR_OK, ""};

    FUZZ_CHECK(printed != NULL);

    json_t *again = json_parse(printed, strlen(printed), "printed", &err);

    FUZZ_CHECK(again != NULL && json_equal(root, again));
    json_decref(again);
    free(printed);
}

/* The same text under a bound: the same tree, or one reason more to refuse it. */
static void check_bounded(const char *text, size_t size, const json_t *root)
{
    Err err = {ERR_OK, ""};
    json_t *bounded = json_parse_bounded(text, size, FEW_VALUES, "fuzz", &err);

    if (bounded == NULL)
        check_message(&err);
    FUZZ_CHECK(bounded != NULL ? root != NULL && json_equal(bounded, root)
                               : root == NULL || err.code == ERR_LIMIT);
    json_decref(bounded);
}

/* Any bytes, written as a JSON string, are one; valid ones come back. */
static void check_written_string(const char *text, size_t size)
{
    JsonBuf b = {NULL, 0, 0, 0};
    Err err = {ERR_OK, ""};

    json_buf_string(&b, text, size);
    FUZZ_CHECK(b.oom == 0 && b.len == strlen(b.data) && is_json(b.data, b.len));

    json_t *s = json_parse(b.data, b.len, "written", &err);

    FUZZ_CHECK(json_is_string(s));
    if (text_utf8_valid(text, size))
        FUZZ_CHECK(json_string_length(s) == size && memcmp(json_string_value(s), text, size) == 0);
    json_decref(s);
    json_buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    Err err = {ERR_OK, ""};
    json_t *root = json_parse(text, size, "fuzz", &err);

    if (root == NULL) {
        check_message(&err);
        FUZZ_CHECK(!is_json(text, size) || is_stricter_than_grammar(&err));
    } else {
        FUZZ_CHECK(is_json(text, size));
        prints_and_reads_back(root);
    }
    check_bounded(text, size, root);
    json_decref(root);
    check_written_string(text, size);
    return 0;
}
