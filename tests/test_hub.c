/* tests/test_hub.c: names of the hub, the cache that its programs share, what its headers say. */
#include "folder_rig.h"

#include <sys/stat.h>

#include "common/model_name.h"
#include "hub/answer.h"
#include "hub/cache.h"
#include "hub/repo.h"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define OTHER "fedcba9876543210fedcba9876543210fedcba98"
#define REPO "models--org--name"

static Err err;

/* --- names --- */

static void names_of_repositories_are_taken_apart(void **state)
{
    HubRepo r;

    (void)state;
    assert_int_equal(hub_repo_parse(&r, "openai-community/gpt2.v2@refs/pr/1", &err), ERR_OK);
    assert_string_equal(r.id, "openai-community/gpt2.v2");
    assert_string_equal(r.name, "gpt2.v2");
    assert_string_equal(r.folder, "models--openai-community--gpt2.v2");
    assert_string_equal(r.revision, "refs/pr/1");
    assert_int_equal(hub_repo_parse(&r, "gpt2", &err), ERR_OK);
    assert_string_equal(r.id, "gpt2");
    assert_string_equal(r.folder, "models--gpt2");
    assert_string_equal(r.revision, "main");
}

static void longest_names_fit(void **state)
{
    char text[2 * HUB_PART_MAX + 2 + HUB_REVISION_BYTES];
    HubRepo r;

    (void)state;
    memset(text, 'x', sizeof text);
    text[HUB_PART_MAX] = '/';
    text[2 * HUB_PART_MAX + 1] = '@';
    text[sizeof text - 1] = '\0';
    assert_int_equal(hub_repo_parse(&r, text, &err), ERR_OK);
    assert_int_equal(strlen(r.id), HUB_ID_BYTES - 1);
    assert_int_equal(strlen(r.folder), strlen("models--") + 2 * HUB_PART_MAX + 2);
    assert_int_equal(strlen(r.revision), HUB_REVISION_BYTES - 1);
}

static void hostile_names_are_refused(void **state)
{
    static const char *const bad[] = {
        "",         "/",         "a/",           "/a",       "a/b/c",     "..",
        "../a",     "a/..",      ".a/b",         "a/.b",     "a./b",      "a-/b",
        "-a/b",     "a/b-",      "a..b/c",       "a--b/c",   "a/b.git",   "a b/c",
        "a/b\n",    "a/b\x01",   "a/\xc3\xa4",   "a\\b/c",   "a:b/c",     "a/b@",
        "a/b@.",    "a/b@..",    "a/b@../../c",  "a/b@/c",   "a/b@c/",    "a/b@c//d",
        "a/b@c/.d", "a/b@c..d",  "a/b@c d",      "a/b@c\nd", "a/b@c~1",   "a/b@c^",
        "a/b@c:d",  "a/b@c?",    "a/b@c*",       "a/b@c[",   "a/b@c\\d",  "a/b@-c",
        "a/b@c/-d", "a/b@\"c\"", "a/b@\xc3\xa4", "a/b@c.",   "http://a/b"};
    HubRepo r, untouched;

    (void)state;
    memset(&untouched, 'x', sizeof untouched);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memset(&r, 'x', sizeof r);
        if (hub_repo_parse(&r, bad[i], &err) != ERR_USAGE)
            fail_msg("\"%s\" is taken", bad[i]);
        assert_memory_equal(&r, &untouched, sizeof r);
    }
}

static void commits_are_forty_digits(void **state)
{
    (void)state;
    assert_true(hub_is_commit(COMMIT));
    assert_false(hub_is_commit(COMMIT "0"));
    assert_false(hub_is_commit("0123456789abcdef"));
    assert_false(hub_is_commit("0123456789ABCDEF0123456789abcdef01234567"));
    assert_false(hub_is_commit("../../../../../../../../../../../../etc/"));
}

static void file_names_are_plain(void **state)
{
    static const char *const bad[] = {"",     ".",   "..",  ".x",  "a/b",   "/a",
                                      "a\\b", "a b", "a\n", "-rf", "a\xff", "a:b"};

    (void)state;
    assert_true(hub_is_file_name("model-00001-of-00002.safetensors"));
    assert_true(hub_is_file_name("tokenizer_config.json"));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(hub_is_file_name(bad[i]));
}

static void an_etag_is_a_blob_only_as_a_plain_name(void **state)
{
    static const char *const bad[] = {"",     "\"\"",   "\"a/b\"",  "\"../x\"",
                                      ".",    "\"..\"", "a\"b",     "\"a b",
                                      "a\nb", "-x",     "\"a\\b\"", "x.incomplete"};
    char blob[HUB_BLOB_BYTES] = "untouched", long_one[HUB_BLOB_BYTES + 1];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (hub_blob_name(blob, bad[i]))
            fail_msg("%s is taken", bad[i]);
    memset(long_one, 'a', sizeof long_one - 1);
    long_one[sizeof long_one - 1] = '\0';
    assert_false(hub_blob_name(blob, long_one));
    assert_string_equal(blob, "untouched");
    assert_true(hub_blob_name(blob, long_one + 1));
    assert_true(hub_blob_name(blob, "W/\"abc-1\""));
    assert_string_equal(blob, "abc-1");
    assert_true(hub_blob_name(blob, "\"" COMMIT "\""));
    assert_string_equal(blob, COMMIT);
    assert_int_equal(hub_blob_digest(blob), HUB_DIGEST_GIT_SHA1);
    assert_int_equal(hub_blob_digest("d41d8cd98f00b204e9800998ecf8427e"), HUB_DIGEST_NONE);
    assert_int_equal(
        hub_blob_digest("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        HUB_DIGEST_SHA256);
}

/* --- the cache --- */

static void set(const char *name, const char *value)
{
    if (value != NULL)
        assert_int_equal(setenv(name, value, 1), 0);
    else
        assert_int_equal(unsetenv(name), 0);
}

static void set_all(const char *cache, const char *home, const char *xdg, const char *user)
{
    set("HF_HUB_CACHE", cache);
    set("HUGGINGFACE_HUB_CACHE", NULL);
    set("HF_HOME", home);
    set("XDG_CACHE_HOME", xdg);
    set("HOME", user);
}

static void the_environment_says_where_the_cache_is(void **state)
{
    char path[PATH_MAX];

    (void)state;
    set_all("/cache", "/hf", "/xdg", "/user");
    assert_int_equal(hub_cache_folder(path, "~/given", &err), ERR_OK);
    assert_string_equal(path, "/user/given");
    assert_int_equal(hub_cache_folder(path, NULL, &err), ERR_OK);
    assert_string_equal(path, "/cache");
    set_all("", "/hf", "/xdg", "/user");
    assert_int_equal(hub_cache_folder(path, NULL, &err), ERR_OK);
    assert_string_equal(path, "/hf/hub");
    set_all(NULL, NULL, "/xdg", "/user");
    assert_int_equal(hub_cache_folder(path, NULL, &err), ERR_OK);
    assert_string_equal(path, "/xdg/huggingface/hub");
    set_all(NULL, NULL, NULL, "/user");
    assert_int_equal(hub_cache_folder(path, NULL, &err), ERR_OK);
    assert_string_equal(path, "/user/.cache/huggingface/hub");
    set_all(NULL, NULL, NULL, NULL);
    assert_int_equal(hub_cache_folder(path, NULL, &err), ERR_IO);
    set_all(NULL, "~/x", NULL, NULL);
    assert_int_equal(hub_cache_folder(path, NULL, &err), ERR_IO);
}

static void paths_that_are_too_long_are_refused(void **state)
{
    char path[PATH_MAX], big[PATH_MAX];
    HubRepo r;

    (void)state;
    memset(big, 'x', sizeof big - 1);
    big[0] = '/';
    big[sizeof big - 1] = '\0';
    set_all(NULL, big, NULL, "/user");
    assert_int_equal(hub_cache_folder(path, NULL, &err), ERR_LIMIT);
    assert_int_equal(hub_cache_folder(path, big, &err), ERR_OK);
    assert_int_equal(hub_repo_parse(&r, "org/name", &err), ERR_OK);
    assert_int_equal(hub_cache_find(path, big, &r, &err), ERR_LIMIT);
    big[sizeof big - 60] = '\0';
    assert_int_equal(hub_cache_snapshot(path, big, &r, COMMIT, &err), ERR_LIMIT);
}

static void words_for_yes_are_those_of_the_other_programs(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        static const char *const words[] = {"1", "on", "YES", "True", "0", "", "off", "2"};

        set("HF_HUB_OFFLINE", words[i]);
        assert_int_equal(hub_environment_is_true("HF_HUB_OFFLINE"), i < 4);
    }
    set("HF_HUB_OFFLINE", NULL);
    assert_false(hub_environment_is_true("HF_HUB_OFFLINE"));
}

/* Everything that the tests below make, files before their folders. */
static const char *const made[] = {REPO "/refs/main",
                                   REPO "/refs",
                                   REPO "/snapshots/" COMMIT "/config.json",
                                   REPO "/snapshots/" COMMIT "/tokenizer.json",
                                   REPO "/snapshots/" COMMIT "/vocab.json",
                                   REPO "/snapshots/" COMMIT "/merges.txt",
                                   REPO "/snapshots/" COMMIT "/model.safetensors",
                                   REPO "/snapshots/" COMMIT "/model.safetensors.index.json",
                                   REPO "/snapshots/" COMMIT "/part-1",
                                   REPO "/snapshots/" COMMIT "/part-2",
                                   REPO "/snapshots/" COMMIT "/a.gguf",
                                   REPO "/snapshots/" COMMIT "/b.GGUF",
                                   REPO "/snapshots/" COMMIT,
                                   REPO "/snapshots",
                                   REPO "/.no_exist/" COMMIT "/tokenizer.json",
                                   REPO "/.no_exist/" COMMIT "/vocab.json",
                                   REPO "/.no_exist/" COMMIT,
                                   REPO "/.no_exist",
                                   REPO "/blobs/x",
                                   REPO "/blobs",
                                   REPO};

static int make_cache(void **state)
{
    static const char *const folders[] = {REPO,
                                          REPO "/refs",
                                          REPO "/blobs",
                                          REPO "/snapshots",
                                          REPO "/snapshots/" COMMIT,
                                          REPO "/.no_exist",
                                          REPO "/.no_exist/" COMMIT};

    if (make_folder(state) != 0)
        return 1;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        if (mkdir(path_of(folders[i]), 0700) != 0)
            return 1;
    put_file(REPO "/refs/main", COMMIT, strlen(COMMIT));
    put_file(REPO "/blobs/x", "x", 1);
    set_all(folder, NULL, NULL, NULL);
    return 0;
}

static int remove_cache(void **state)
{
    (void)state;
    return remove_folder(made, sizeof made / sizeof made[0]);
}

/* As the hub's programs make it: a link to the blob. */
static void add(const char *name)
{
    char path[PATH_BYTES / 2];

    (void)snprintf(path, sizeof path, REPO "/snapshots/" COMMIT "/%s", name);
    assert_int_equal(symlink("../../blobs/x", path_of(path)), 0);
}

static void found(const char *given, const char *ending)
{
    char path[PATH_MAX];

    if (hub_model_path(path, given, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(path, path_of(ending));
}

static void missing(const char *given, const char *part)
{
    char path[PATH_MAX] = "untouched";

    assert_int_equal(hub_model_path(path, given, &err), ERR_IO);
    if (strstr(err.msg, part) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", part, err.msg);
    assert_string_equal(path, "untouched");
}

static void a_whole_snapshot_is_found_by_every_name(void **state)
{
    static const char snapshot[] = REPO "/snapshots/" COMMIT;

    (void)state;
    add("config.json");
    add("tokenizer.json");
    add("model.safetensors");
    found("org/name", snapshot);
    found("org/name@main", snapshot);
    found("org/name@" COMMIT, snapshot);
    put_file(REPO "/refs/main", COMMIT "\n", strlen(COMMIT) + 1); /* another hand has written it */
    found("org/name", snapshot);
    missing("org/name@v1", "nor is revision v1");
    missing("org/name@" OTHER, "commit " OTHER " is not in");
    missing("org/other", "llorch-cpud pull org/other");
}

static void each_missing_part_is_named(void **state)
{
    (void)state;
    missing("org/name", "org/name: config.json is missing in");
    add("config.json");
    missing("org/name", "tokenizer.json (or vocab.json and merges.txt) is missing");
    add("vocab.json");
    missing("org/name", "tokenizer.json (or vocab.json and merges.txt) is missing");
    add("merges.txt");
    missing("org/name", "model.safetensors is missing");
    assert_int_equal(unlink(path_of(REPO "/blobs/x")), 0); /* links to nowhere are nothing */
    missing("org/name", "config.json is missing");
}

static void a_tokenizer_that_the_hub_does_not_have_is_not_missed(void **state)
{
    (void)state;
    add("config.json");
    add("model.safetensors");
    put_file(REPO "/.no_exist/" COMMIT "/tokenizer.json", "", 0);
    missing("org/name", "tokenizer.json (or");
    put_file(REPO "/.no_exist/" COMMIT "/vocab.json", "", 0);
    found("org/name", REPO "/snapshots/" COMMIT);
}

static void each_shard_must_be_there(void **state)
{
    static const char index[] =
        "{\"weight_map\":{\"a\":\"part-2\",\"b\":\"part-1\",\"c\":\"part-2\"}}";

    (void)state;
    add("config.json");
    add("tokenizer.json");
    put_file(REPO "/snapshots/" COMMIT "/model.safetensors.index.json", index, strlen(index));
    missing("org/name", "part-1 is missing");
    add("part-1");
    missing("org/name", "part-2 is missing");
    add("part-2");
    found("org/name", REPO "/snapshots/" COMMIT);
    /* What is wrong with an index, loading tells. */
    put_file(REPO "/snapshots/" COMMIT "/model.safetensors.index.json", "{", 1);
    found("org/name", REPO "/snapshots/" COMMIT);
}

static void the_only_gguf_file_counts_as_the_model(void **state)
{
    (void)state;
    add("a.gguf");
    found("org/name", REPO "/snapshots/" COMMIT "/a.gguf");
    add("b.GGUF");
    missing("org/name", "there are 2 .gguf files");
}

static void a_reference_that_is_no_commit_leads_nowhere(void **state)
{
    static const char *const bad[] = {"", "../../../../../../../../../../../../etc",
                                      COMMIT COMMIT COMMIT COMMIT, "main"};
    char path[PATH_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put_file(REPO "/refs/main", bad[i], strlen(bad[i]));
        assert_int_equal(hub_model_path(path, "org/name", &err), ERR_FORMAT);
        assert_non_null(strstr(err.msg, "expected a commit of 40 digits"));
    }
}

static void paths_and_what_is_no_name_stay_as_they_are(void **state)
{
    static const char *const same[] = {"/no/where", "./org/name", "org/name/", "nowhere",
                                       "a/b/c",     "src/hub",    "Makefile",  "../org/name"};
    char path[PATH_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        assert_int_equal(hub_model_path(path, same[i], &err), ERR_OK);
        assert_string_equal(path, same[i]);
    }
    set_all(NULL, NULL, NULL, NULL); /* no cache at all */
    assert_int_equal(hub_model_path(path, "nowhere", &err), ERR_OK);
    assert_string_equal(path, "nowhere");
    assert_int_equal(hub_model_path(path, "org/name", &err), ERR_IO);
    assert_non_null(strstr(err.msg, "org/name: No such file or directory: "));
}

static void models_of_the_hub_are_called_by_their_name(void **state)
{
    static const struct {
        const char *given, *name;
    } cases[] = {
        {"org/my-name@v1", "my-name"},
        {"org/name", "name"},
        {"/c/models--org--my-name/snapshots/" COMMIT, "my-name"},
        {"/c/models--org--name/snapshots/" COMMIT "/", "name"},
        {"models--gpt2/snapshots/" COMMIT, "gpt2"},
        {"/c/models--org--name/snapshots/main", "main"},
        {"/c/models--/snapshots/" COMMIT, COMMIT},
        {"/c/datasets--org--name/snapshots/" COMMIT, COMMIT},
        {"/c/models--org--name/other/" COMMIT, COMMIT},
        {"snapshots/" COMMIT, COMMIT},
        {COMMIT, COMMIT},
    };
    char name[256];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hub_model_name(name, sizeof name, cases[i].given);
        if (strcmp(name, cases[i].name) != 0)
            fail_msg("%s: \"%s\", expected \"%s\"", cases[i].given, name, cases[i].name);
    }
}

/* --- headers --- */

static HubAnswer answer;

/* The lines of text, one after the other, into a new answer. */
static ErrCode take(const char *text)
{
    hub_answer_begin(&answer);
    err = (Err){.code = ERR_OK};
    while (*text != '\0') {
        const size_t n = strcspn(text, "\n") + 1;

        if (hub_answer_line(&answer, text, text[n - 1] == '\0' ? n - 1 : n, &err) != ERR_OK)
            return err.code;
        text += text[n - 1] == '\0' ? n - 1 : n;
    }
    return ERR_OK;
}

static void the_headers_of_the_hub_are_read(void **state)
{
    uint64_t size = 0;

    (void)state;
    assert_int_equal(take("HTTP/1.1 302 Found\r\nx-repo-commit: " COMMIT
                          "\r\nX-LINKED-SIZE:548105171\r\n"
                          "X-Linked-ETag:  \"abc\" \r\nETag: \"other\"\r\nContent-Length: 1104\r\n"
                          "Location: https://cdn.example/x?y=%20\r\nX-Error-Code: GatedRepo\r\n"
                          "Retry-After: 30\r\nContent-Encoding: gzip\r\nX-Other: \x01\xff\r\n\r\n"),
                     ERR_OK);
    assert_int_equal(answer.status, 302);
    assert_string_equal(answer.commit, COMMIT);
    assert_string_equal(hub_answer_etag(&answer), "\"abc\"");
    assert_true(hub_answer_size(&answer, &size));
    assert_int_equal(size, 548105171);
    assert_int_equal(answer.length, 1104);
    assert_string_equal(answer.location, "https://cdn.example/x?y=%20");
    assert_string_equal(answer.error_code, "GatedRepo");
    assert_true(answer.has_retry_after && answer.retry_after_s == 30);
    assert_true(answer.encoded && hub_answer_redirects(&answer));
}

static void the_length_of_a_redirection_is_no_size(void **state)
{
    uint64_t size = 0;

    (void)state;
    assert_int_equal(take("HTTP/2 302\r\nContent-Length: 5\r\nLocation: /x\r\n"), ERR_OK);
    assert_false(hub_answer_size(&answer, &size));
    assert_int_equal(take("HTTP/2 200\r\nContent-Length: 5\r\nETag: \"e\"\r\n"), ERR_OK);
    assert_true(hub_answer_size(&answer, &size) && size == 5);
    assert_string_equal(hub_answer_etag(&answer), "\"e\"");
}

static void what_comes_before_the_last_answer_is_forgotten(void **state)
{
    (void)state;
    assert_int_equal(take("HTTP/1.1 103 Early Hints\r\nETag: \"a\"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
                     ERR_OK);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.etag, "");
}

static void what_the_hub_said_on_the_way_stays(void **state)
{
    HubAnswer before;

    (void)state;
    assert_int_equal(take("HTTP/1.1 307 x\r\nX-Repo-Commit: " COMMIT
                          "\r\nX-Linked-Size: 7\r\nX-Linked-Etag: \"l\"\r\n"
                          "ETag: \"e\"\r\nLocation: /y\r\n"),
                     ERR_OK);
    before = answer;
    assert_int_equal(take("HTTP/1.1 200 OK\r\nX-Linked-Size: 8\r\n"), ERR_OK);
    hub_answer_inherit(&answer, &before);
    assert_string_equal(answer.commit, COMMIT);
    assert_string_equal(answer.linked_etag, "\"l\"");
    assert_string_equal(answer.etag, "");
    assert_true(answer.linked_size == 8 && answer.location[0] == '\0');
}

static void ranges_are_read(void **state)
{
    (void)state;
    assert_int_equal(take("HTTP/1.1 206 x\r\nContent-Range: bytes 100-199/1234\r\n"), ERR_OK);
    assert_true(answer.has_range && answer.range_start == 100 && answer.range_end == 199);
    assert_true(answer.has_range_total && answer.range_total == 1234);
    assert_int_equal(take("HTTP/1.1 206 x\r\nContent-Range: bytes 0-0/*\r\n"), ERR_OK);
    assert_true(answer.has_range && !answer.has_range_total);
    assert_int_equal(take("HTTP/1.1 416 x\r\nContent-Range: bytes */9\r\n"), ERR_OK);
    assert_true(!answer.has_range && answer.range_total == 9);
}

static void damaged_headers_refuse_the_answer(void **state)
{
    static const char *const bad[] = {"HTTP/1.1 20 x",
                                      "HTTP/1.1",
                                      "HTTP/1.1 2000",
                                      "HTTP/1.1 200x",
                                      "Content-Length: -1",
                                      "Content-Length: 1x",
                                      "Content-Length:",
                                      "Content-Length: 1, 2",
                                      "Content-Length: 9999999999999999999",
                                      "Content-Length: 1\nContent-Length: 2",
                                      "X-Linked-Size: 0x10",
                                      "ETag: a\nETag: b",
                                      "X-Linked-Etag: a\nX-Linked-Etag: b",
                                      "Location: /a b",
                                      "Location: /a\x01",
                                      "Location: /a\nLocation: /b",
                                      "X-Repo-Commit: main",
                                      "X-Repo-Commit: ../../../../../../../../../../../../../x",
                                      "X-Repo-Commit: " COMMIT "\nX-Repo-Commit: " OTHER,
                                      "Content-Range: 1-2/3",
                                      "Content-Range: bytes 2-1/3",
                                      "Content-Range: bytes 1-3/3",
                                      "Content-Range: bytes 1-/3",
                                      "Content-Range: bytes 1-2",
                                      "Content-Range: bytes 1-2/3/4",
                                      "Content-Range: bytes 0-1/3\nContent-Range: bytes 0-1/3"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (take(bad[i]) != ERR_FORMAT)
            fail_msg("%s is taken", bad[i]);
}

static void headers_that_say_nothing_useful_count_as_absent(void **state)
{
    (void)state;
    assert_int_equal(
        take("HTTP/1.1 200 OK\r\nETag: \"of many words\"\r\nX-Linked-Etag:\r\nLocation:\r\nno "
             "colon\r\n"
             "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\nX-Error-Code: <b>\r\n: x\r\n"
             "Content-Encoding: identity\r\nX-Error-Code: AWordOfMoreThanThirtyOneCharacters\r\n"),
        ERR_OK);
    assert_string_equal(answer.etag, "");
    assert_string_equal(answer.error_code, "");
    assert_false(answer.has_retry_after || answer.encoded || hub_answer_redirects(&answer));
}

static void headers_are_bounded(void **state)
{
    static char line[HUB_URL_BYTES + 64] = "Location: /";
    int n = 0;

    (void)state;
    memset(line + 11, 'x', HUB_URL_BYTES);
    hub_answer_begin(&answer);
    assert_int_equal(hub_answer_line(&answer, line, strlen(line), &err), ERR_LIMIT);
    hub_answer_begin(&answer);
    while (hub_answer_line(&answer, "X: 1234567890\r\n", 15, &err) == ERR_OK)
        n++;
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(n, HUB_HEADERS_MAX_BYTES / 15);
    hub_answer_begin(&answer); /* status lines do not begin the count anew */
    for (n = 0; hub_answer_line(&answer, "HTTP/1.1 100 C\r\n", 16, &err) == ERR_OK; n++)
        ;
    assert_int_equal(n, HUB_HEADERS_MAX_BYTES / 16);
}

#define IN_CACHE(test) cmocka_unit_test_setup_teardown(test, make_cache, remove_cache)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_repositories_are_taken_apart),
        cmocka_unit_test(longest_names_fit),
        cmocka_unit_test(hostile_names_are_refused),
        cmocka_unit_test(commits_are_forty_digits),
        cmocka_unit_test(file_names_are_plain),
        cmocka_unit_test(an_etag_is_a_blob_only_as_a_plain_name),
        cmocka_unit_test(the_environment_says_where_the_cache_is),
        cmocka_unit_test(paths_that_are_too_long_are_refused),
        cmocka_unit_test(words_for_yes_are_those_of_the_other_programs),
        IN_CACHE(a_whole_snapshot_is_found_by_every_name),
        IN_CACHE(each_missing_part_is_named),
        IN_CACHE(a_tokenizer_that_the_hub_does_not_have_is_not_missed),
        IN_CACHE(each_shard_must_be_there),
        IN_CACHE(the_only_gguf_file_counts_as_the_model),
        IN_CACHE(a_reference_that_is_no_commit_leads_nowhere),
        IN_CACHE(paths_and_what_is_no_name_stay_as_they_are),
        IN_CACHE(models_of_the_hub_are_called_by_their_name),
        cmocka_unit_test(the_headers_of_the_hub_are_read),
        cmocka_unit_test(the_length_of_a_redirection_is_no_size),
        cmocka_unit_test(what_comes_before_the_last_answer_is_forgotten),
        cmocka_unit_test(what_the_hub_said_on_the_way_stays),
        cmocka_unit_test(ranges_are_read),
        cmocka_unit_test(damaged_headers_refuse_the_answer),
        cmocka_unit_test(headers_that_say_nothing_useful_count_as_absent),
        cmocka_unit_test(headers_are_bounded),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
