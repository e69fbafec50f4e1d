/* tests/fuzz/fuzz_hub.c: what comes from the hub, and what people type for it: headers of an
 * answer, names of repositories, revisions, files and blobs, the content of a reference.
 *
 * What is accepted is harmless as a part of a path or a line of a request: no slash where none
 * belongs, no "..", nothing hidden, no control character. The name that was taken apart gives the
 * same parts once more. */
#include "fuzz.h"

#include "hub/answer.h"
#include "hub/cache.h"
#include "hub/repo.h"

/* A path of parts that are neither hidden nor empty. */
static void check_path(const char *s, bool slashes)
{
    FUZZ_CHECK(s[0] != '\0' && s[0] != '/' && s[strlen(s) - 1] != '/');
    for (size_t i = 0; s[i] != '\0'; i++) {
        FUZZ_CHECK(s[i] > ' ' && s[i] <= '~');
        FUZZ_CHECK(s[i] != '/' || slashes);
        if (i == 0 || s[i - 1] == '/')
            FUZZ_CHECK(s[i] != '.' && s[i] != '/' && s[i] != '-');
    }
    FUZZ_CHECK(strstr(s, "..") == NULL || !slashes);
}

static void parse_repo(const char *text)
{
    char again[HUB_ID_BYTES + HUB_REVISION_BYTES + 1];
    HubRepo r, twice;
    Err err = {.code = ERR_OK};
    const ErrCode code = hub_repo_parse(&r, text, &err);

    if (code != ERR_OK) {
        FUZZ_CHECK(code == ERR_USAGE);
        fuzz_check_refusal(code, &err);
        return;
    }
    check_path(r.id, true);
    check_path(r.name, false);
    check_path(r.folder, false);
    check_path(r.revision, true);
    FUZZ_CHECK(strncmp(r.folder, "models--", 8) == 0 && strncmp(text, r.id, strlen(r.id)) == 0);
    (void)snprintf(again, sizeof again, "%s@%s", r.id, r.revision);
    FUZZ_CHECK(hub_repo_parse(&twice, again, &err) == ERR_OK);
    FUZZ_CHECK(memcmp(&r, &twice, sizeof r) == 0);
}

static void parse_names(const char *text)
{
    char blob[HUB_BLOB_BYTES];

    if (hub_is_file_name(text))
        check_path(text, false);
    if (hub_is_commit(text))
        FUZZ_CHECK(strlen(text) == HUB_COMMIT_BYTES - 1 && hub_blob_name(blob, text));
    if (!hub_blob_name(blob, text))
        return;
    check_path(blob, false);
    FUZZ_CHECK(strlen(blob) < sizeof blob && strstr(text, blob) != NULL);
    FUZZ_CHECK(hub_blob_digest(blob) != HUB_DIGEST_SHA256 || strlen(blob) == 64);
}

/* Texts of an answer go into requests and messages. */
static void check_text(const char *s)
{
    for (; *s != '\0'; s++)
        FUZZ_CHECK(*s > ' ' && *s <= '~');
}

static void check_answer(const HubAnswer *a)
{
    uint64_t size = 0;

    check_text(a->etag);
    check_text(a->linked_etag);
    check_text(a->location);
    check_text(a->error_code);
    FUZZ_CHECK(a->commit[0] == '\0' || hub_is_commit(a->commit));
    FUZZ_CHECK(a->status == 0 || (a->status >= 100 && a->status <= 999));
    FUZZ_CHECK(!a->has_range || a->range_start <= a->range_end);
    FUZZ_CHECK(!a->has_range || !a->has_range_total || a->range_end < a->range_total);
    FUZZ_CHECK(a->n_bytes <= HUB_HEADERS_MAX_BYTES);
    if (hub_answer_size(a, &size))
        FUZZ_CHECK(size < UINT64_C(1000000000000000000));
}

/* The input as the lines of one or more answers, each in a room of its own size. */
static void parse_answer(const uint8_t *data, size_t size)
{
    HubAnswer a, before;
    Err err = {.code = ERR_OK};

    hub_answer_begin(&a);
    hub_answer_begin(&before);
    while (size > 0) {
        const uint8_t *end = memchr(data, '\n', size);
        const size_t n = end != NULL ? (size_t)(end - data) + 1 : size;
        char *line = malloc(n);

        FUZZ_CHECK(line != NULL);
        memcpy(line, data, n);
        const ErrCode code = hub_answer_line(&a, line, n, &err);
        free(line);
        if (code != ERR_OK) {
            FUZZ_CHECK(code == ERR_FORMAT || code == ERR_LIMIT);
            fuzz_check_refusal(code, &err);
            return;
        }
        check_answer(&a);
        data += n;
        size -= n;
        if (n == 1) { /* an empty line ends an answer */
            hub_answer_inherit(&a, &before);
            before = a;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    FUZZ_CHECK(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    parse_repo(text);
    parse_names(text);
    parse_answer(data, size);
    free(text);
    return 0;
}
