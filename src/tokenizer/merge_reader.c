/* tokenizer/merge_reader.c: all spellings of a list of merges.
 *
 * May include: common, formats. */
#include "tokenizer/merge_reader.h"

#include <string.h>

#include "common/text.h"

enum { MESSAGE_MERGE_BYTES = 100 }; /* of a merge in an error message */

void merge_reader_text(MergeReader *r, const char *text, size_t n)
{
    *r = (MergeReader){.text = text, .n_text = n};
}

void merge_reader_json(MergeReader *r, const json_t *array)
{
    *r = (MergeReader){.array = array, .name = "merges", .index = (size_t)-1};
}

void merge_reader_gguf(MergeReader *r, GgufArray strings, const char *name)
{
    *r = (MergeReader){.strings = strings, .name = name, .index = (size_t)-1};
}

size_t merge_reader_bound(const MergeReader *r)
{
    if (r->text == NULL)
        return r->array != NULL ? json_array_size(r->array) : r->strings.n;

    size_t n_lines = 1;

    for (const char *at = r->text, *end = at + r->n_text;
         (at = memchr(at, '\n', (size_t)(end - at))) != NULL; at++)
        n_lines++;
    return n_lines < r->n_text / 3 + 1 ? n_lines : r->n_text / 3 + 1; /* "a b" at least */
}

void merge_reader_where(const MergeReader *r, Err *err)
{
    if (r->text != NULL)
        err_prefix(err, "line %zu", r->index);
    else
        err_prefix(err, "%s[%zu]", r->name, r->index);
}

static ErrCode check_text(const char *s, size_t n, Err *err)
{
    if (n > MERGE_READER_MAX_LINE) {
        return err_set(err, ERR_LIMIT, "merge of %zu bytes, at most %d are allowed", n,
                       MERGE_READER_MAX_LINE);
    }
    if (memchr(s, '\0', n) != NULL)
        return err_set(err, ERR_FORMAT, "NUL byte in a merge");
    if (!text_utf8_valid(s, n))
        return err_set(err, ERR_FORMAT, "merge is not valid UTF-8");
    return ERR_OK;
}

/* "a b": exactly two pieces. */
static ErrCode split(const char *s, size_t n, MergeText *out, Err *err)
{
    const ErrCode code = check_text(s, n, err);

    if (code != ERR_OK)
        return code;

    const char *blank = memchr(s, ' ', n);
    const size_t n_left = blank != NULL ? (size_t)(blank - s) : n;
    const size_t n_right = blank != NULL ? n - n_left - 1 : 0;

    if (n_left == 0 || n_right == 0 || memchr(blank + 1, ' ', n_right) != NULL) {
        return err_set(err, ERR_FORMAT,
                       "malformed merge \"%.*s\", expected two pieces separated by one space",
                       n < MESSAGE_MERGE_BYTES ? (int)n : MESSAGE_MERGE_BYTES, s);
    }
    *out = (MergeText){.left = s, .right = blank + 1, .n_left = n_left, .n_right = n_right};
    return ERR_OK;
}

static bool next_line(MergeReader *r, const char **line, size_t *n)
{
    if (r->pos == r->n_text)
        return false;

    const char *start = r->text + r->pos;
    const size_t rest = r->n_text - r->pos;
    const char *end = memchr(start, '\n', rest);
    size_t length = end != NULL ? (size_t)(end - start) : rest;

    r->pos += end != NULL ? length + 1 : length;
    r->index++;
    if (length > 0 && start[length - 1] == '\r')
        length--;
    *line = start;
    *n = length;
    return true;
}

static ErrCode next_from_text(MergeReader *r, MergeText *out, bool *more, Err *err)
{
    static const char version[] = "#version";
    const char *line;
    size_t n;

    while (next_line(r, &line, &n)) {
        const bool header = r->index == 1 && n >= sizeof version - 1 &&
                            memcmp(line, version, sizeof version - 1) == 0;

        if (n > 0 && !header) {
            *more = true;
            return split(line, n, out, err);
        }
    }
    *more = false;
    return ERR_OK;
}

static ErrCode next_from_json(MergeReader *r, MergeText *out, bool *more, Err *err)
{
    r->index++;
    *more = r->index < json_array_size(r->array);
    if (!*more)
        return ERR_OK;

    const json_t *item = json_array_get(r->array, r->index);

    if (json_is_string(item))
        return split(json_string_value(item), json_string_length(item), out, err);

    const json_t *left = json_array_get(item, 0), *right = json_array_get(item, 1);

    if (json_array_size(item) != 2 || !json_is_string(left) || !json_is_string(right))
        return err_set(err, ERR_FORMAT, "malformed merge, expected \"a b\" or [\"a\", \"b\"]");
    *out = (MergeText){.left = json_string_value(left),
                       .right = json_string_value(right),
                       .n_left = json_string_length(left),
                       .n_right = json_string_length(right)};
    if (out->n_left == 0 || out->n_right == 0)
        return err_set(err, ERR_FORMAT, "malformed merge, a piece is empty");

    const ErrCode code = check_text(out->left, out->n_left, err);

    return code != ERR_OK ? code : check_text(out->right, out->n_right, err);
}

static ErrCode next_from_gguf(MergeReader *r, MergeText *out, bool *more, Err *err)
{
    GgufText text;

    r->index++;
    *more = gguf_next_string(&r->strings, &text);
    return *more ? split(text.text, text.n, out, err) : ERR_OK;
}

ErrCode merge_reader_next(MergeReader *r, MergeText *out, bool *more, Err *err)
{
    ErrCode code;

    if (r->text != NULL)
        code = next_from_text(r, out, more, err);
    else if (r->array != NULL)
        code = next_from_json(r, out, more, err);
    else
        code = next_from_gguf(r, out, more, err);
    if (code != ERR_OK)
        merge_reader_where(r, err);
    return code;
}
