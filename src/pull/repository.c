/* pull/repository.c: see repository.h.
 *
 * May include: cli, common, formats, hub, model, pull. */
#include "pull/repository.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "common/mapped_file.h"
#include "formats/safetensors.h"
#include "hub/cache.h"
#include "model/config.h"
#include "pull/download.h"
#include "pull/retry.h"

enum {
    MAX_FILES = 256, /* with all shards; published GPT-2 have one or two */
    MAX_SMALL_BYTES =
        256 * 1024 * 1024, /* of configuration, tokenizer, index: what loading takes */
    MAX_CONFIG_BYTES = 1024 * 1024
};

/* The whole of one pull. */
typedef struct {
    const PullOptions *o;
    Fetcher fetcher;
    Progress progress;
    Store store;
    Download download;
    char commit[HUB_COMMIT_BYTES];
    RemoteFile files[MAX_FILES]; /* in the order in which they are fetched */
    int n_files;
    bool has_tokenizer_json, has_vocab, has_merges;
} Pull;

/* --- asking the hub --- */

/* Revisions hold slashes and more; what is neither letter, digit nor one of "-._~" is escaped. */
static bool add_escaped(char *out, size_t size, const char *text)
{
    size_t n = strlen(out);

    for (; *text != '\0'; text++) {
        const char c = *text;
        const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                           (c >= 'A' && c <= 'Z') || strchr("-._~", c) != NULL;

        if (n + 4 > size)
            return false;
        n += (size_t)snprintf(out + n, size - n, plain ? "%c" : "%%%02X", (unsigned char)c);
    }
    return true;
}

static ErrCode file_url(char out[HUB_URL_BYTES], const Pull *p, const char *name, Err *err)
{
    const char *revision = p->commit[0] != '\0' ? p->commit : p->o->repo.revision;

    (void)snprintf(out, HUB_URL_BYTES, "%s/%s/resolve/", p->o->endpoint, p->o->repo.id);
    if (!add_escaped(out, HUB_URL_BYTES, revision) || strlen(out) + 2 >= HUB_URL_BYTES ||
        strcat(out, "/") == NULL || !add_escaped(out, HUB_URL_BYTES, name))
        return err_set(err, ERR_LIMIT, "%s: the address of %s is too long", p->o->repo.id, name);
    return ERR_OK;
}

/* The first answer says which commit this is about; all others must agree. */
static ErrCode check_commit(Pull *p, const HubAnswer *a, Err *err)
{
    const char *expected = p->commit;

    if (expected[0] == '\0' && hub_is_commit(p->o->repo.revision))
        expected = p->o->repo.revision;
    if (a->commit[0] == '\0' && expected[0] == '\0')
        return err_set(
            err, ERR_FORMAT,
            "%s: the answer of %s names no commit (X-Repo-Commit): is that a Hugging Face "
            "hub?",
            p->o->repo.id, p->o->endpoint);
    if (a->commit[0] != '\0' && expected[0] != '\0' && strcmp(a->commit, expected) != 0)
        return err_set(err, ERR_FORMAT, "%s: the hub answers for commit %s instead of %s",
                       p->o->repo.id, a->commit, expected);
    memmove(p->commit, a->commit[0] != '\0' ? a->commit : expected, HUB_COMMIT_BYTES);
    return ERR_OK;
}

static ErrCode take_answer(const Pull *p, const char *name, const HubAnswer *a, RemoteFile *out,
                           Err *err)
{
    memset(out, 0, sizeof *out);
    (void)snprintf(out->name, sizeof out->name, "%s", name);
    out->has_size = hub_answer_size(a, &out->size);
    if (!hub_blob_name(out->blob, hub_answer_etag(a)))
        return err_set(err, ERR_FORMAT, "%s: the hub's ETag of %s cannot be a file's name: \"%s\"",
                       p->o->repo.id, name, hub_answer_etag(a));
    if (!out->has_size && hub_blob_digest(out->blob) == HUB_DIGEST_NONE)
        return err_set(err, ERR_FORMAT, "%s: the hub tells neither size nor checksum of %s",
                       p->o->repo.id, name);
    return ERR_OK;
}

/* Whether a 404 is about this file, and not about the repository or the revision. */
static bool is_absent(const Pull *p, const HubAnswer *a)
{
    if (a->status != 404)
        return false;
    return strcmp(a->error_code, "EntryNotFound") == 0 ||
           (a->error_code[0] == '\0' && p->commit[0] != '\0');
}

/* Asks for a file's size and checksum. *there: whether the repository has it. */
static ErrCode ask(Pull *p, const char *name, RemoteFile *out, bool *there, Err *err)
{
    char url[HUB_URL_BYTES];
    Retry retry = {.o = p->o, .progress = &p->progress};
    const FetchRequest r = {.url = url, .head = true};
    HubAnswer a;

    if (file_url(url, p, name, err) != ERR_OK)
        return err->code;
    for (;;) {
        hub_answer_begin(&a);
        ErrCode code = fetch_run(&p->fetcher, &r, &a, err);
        if (code == ERR_OK && (a.status == 200 || hub_answer_redirects(&a) || is_absent(p, &a)))
            break;
        if (code == ERR_OK)
            code = retry_status(p->o, name, &a, err);
        if (!retry_wait(&retry, &a, err))
            return err->code;
    }
    *there = a.status != 404;
    if (*there && check_commit(p, &a, err) != ERR_OK)
        return err->code;
    if (!*there && a.commit[0] != '\0' && check_commit(p, &a, err) != ERR_OK)
        return err->code;
    return *there ? take_answer(p, name, &a, out, err) : ERR_OK;
}

/* --- files --- */

static ErrCode get(Pull *p, const RemoteFile *f, Err *err)
{
    char url[HUB_URL_BYTES];

    if (file_url(url, p, f->name, err) != ERR_OK ||
        download_file(&p->download, f, url, err) != ERR_OK)
        return err->code;
    return store_link(&p->store, f->name, f->blob, err);
}

static ErrCode add_file(Pull *p, const RemoteFile *f, Err *err)
{
    if (p->n_files == MAX_FILES)
        return err_set(err, ERR_LIMIT, "%s: more than %d files", p->o->repo.id, (int)MAX_FILES);
    p->files[p->n_files++] = *f;
    return ERR_OK;
}

static ErrCode check_small(const Pull *p, const RemoteFile *f, uint64_t max_bytes, Err *err)
{
    if (f->has_size && f->size > max_bytes)
        return err_set(err, ERR_LIMIT, "%s: %s has %" PRIu64 " bytes, expected at most %" PRIu64,
                       p->o->repo.id, f->name, f->size, max_bytes);
    return ERR_OK;
}

/* A file that may be missing, which is kept in mind then. */
static ErrCode add_optional(Pull *p, const char *name, bool *there, Err *err)
{
    RemoteFile f;

    if (ask(p, name, &f, there, err) != ERR_OK)
        return err->code;
    if (!*there) {
        store_mark_absent(&p->store, name);
        return ERR_OK;
    }
    return check_small(p, &f, MAX_SMALL_BYTES, err) != ERR_OK ? err->code : add_file(p, &f, err);
}

/* What loading would say of this configuration, before anything large is fetched. */
static ErrCode check_config(const Pull *p, const RemoteFile *f, Err *err)
{
    char path[PATH_MAX], what[HUB_ID_BYTES + 32];
    MappedFile file = {0};
    Gpt2Config config;

    if (store_blob_path(path, NULL, &p->store, f->blob, err) != ERR_OK ||
        mapped_file_open(&file, path, MAX_CONFIG_BYTES, err) != ERR_OK)
        return err->code;
    (void)snprintf(what, sizeof what, "%s: config.json", p->o->repo.id);
    const ErrCode code = config_parse(&config, (const char *)file.data, file.size, what, err);
    mapped_file_close(&file);
    if (code == ERR_OK)
        return ERR_OK;
    return err_prefix(err, "not a model this program computes, so it is not downloaded");
}

static ErrCode get_config(Pull *p, Err *err)
{
    RemoteFile f;
    bool there = false;

    if (ask(p, "config.json", &f, &there, err) != ERR_OK)
        return err->code;
    if (!there)
        return err_set(
            err, ERR_UNSUPPORTED,
            "%s: revision %s has no config.json, so it is no model in the form that can be "
            "loaded (one .gguf file of it: --file NAME.gguf)",
            p->o->repo.id, p->o->repo.revision);
    if (check_small(p, &f, MAX_CONFIG_BYTES, err) != ERR_OK ||
        store_open(&p->store, p->o->cache, &p->o->repo, p->commit, err) != ERR_OK ||
        get(p, &f, err) != ERR_OK)
        return err->code;
    return check_config(p, &f, err);
}

static ErrCode add_texts(Pull *p, Err *err)
{
    bool unread = false;

    if (add_optional(p, "generation_config.json", &unread, err) != ERR_OK ||
        add_optional(p, "tokenizer_config.json", &unread, err) != ERR_OK ||
        add_optional(p, "special_tokens_map.json", &unread, err) != ERR_OK ||
        add_optional(p, "added_tokens.json", &unread, err) != ERR_OK ||
        add_optional(p, "tokenizer.json", &p->has_tokenizer_json, err) != ERR_OK ||
        add_optional(p, "vocab.json", &p->has_vocab, err) != ERR_OK ||
        add_optional(p, "merges.txt", &p->has_merges, err) != ERR_OK)
        return err->code;
    if (!p->has_tokenizer_json && !(p->has_vocab && p->has_merges))
        progress_note(
            &p->progress,
            "%s has neither tokenizer.json nor vocab.json and merges.txt: it can be given "
            "token ids, but no text",
            p->o->repo.id);
    return ERR_OK;
}

static ErrCode add_weights(Pull *p, const RemoteFile *f, Err *err)
{
    if (!f->has_size)
        return err_set(err, ERR_FORMAT, "%s: the hub does not tell the size of %s", p->o->repo.id,
                       f->name);
    return add_file(p, f, err);
}

typedef struct {
    Pull *p;
    Err *err;
    ErrCode code;
} Shards;

static bool add_shard(void *ctx, const char *name)
{
    Shards *s = ctx;
    Pull *p = s->p;
    RemoteFile f;
    bool there = false;

    if (!hub_is_file_name(name))
        s->code = err_set(s->err, ERR_FORMAT,
                          "%s: model.safetensors.index.json: \"%s\" is no plain "
                          "file name",
                          p->o->repo.id, name);
    else if (ask(p, name, &f, &there, s->err) != ERR_OK)
        s->code = s->err->code;
    else if (!there)
        s->code =
            err_set(s->err, ERR_FORMAT,
                    "%s: model.safetensors.index.json names %s, which the repository does not "
                    "have",
                    p->o->repo.id, name);
    else
        s->code = add_weights(p, &f, s->err);
    return s->code == ERR_OK;
}

static ErrCode no_weights(Pull *p, Err *err)
{
    RemoteFile f;
    bool pickle = false;

    if (ask(p, "pytorch_model.bin", &f, &pickle, err) != ERR_OK)
        return err->code;
    return err_set(err, ERR_UNSUPPORTED,
                   "%s: has neither model.safetensors nor model.safetensors.index.json%s",
                   p->o->repo.id,
                   pickle ? " (pytorch_model.bin is not read: convert it to safetensors)" : "");
}

/* model.safetensors, or the index and all that it names. */
static ErrCode add_all_weights(Pull *p, Err *err)
{
    static const char index[] = "model.safetensors.index.json";
    char path[PATH_MAX];
    Shards s = {p, err, ERR_OK};
    RemoteFile f;
    bool there = false;

    if (ask(p, "model.safetensors", &f, &there, err) != ERR_OK)
        return err->code;
    if (there)
        return add_weights(p, &f, err);
    if (ask(p, index, &f, &there, err) != ERR_OK)
        return err->code;
    if (!there)
        return no_weights(p, err);
    if (check_small(p, &f, MAX_SMALL_BYTES, err) != ERR_OK || get(p, &f, err) != ERR_OK ||
        store_blob_path(path, NULL, &p->store, f.blob, err) != ERR_OK)
        return err->code;
    if (safetensors_each_shard(path, add_shard, &s, err) != ERR_OK)
        return err_prefix(err, "%s: %s", p->o->repo.id, index);
    return s.code;
}

/* Before the first byte of a large file. */
static ErrCode check_room(const Pull *p, Err *err)
{
    char needed[PROGRESS_SIZE_BYTES], there[PROGRESS_SIZE_BYTES];
    uint64_t left = 0, room = 0;

    for (int i = 0; i < p->n_files; i++) {
        const uint64_t n = download_left(&p->download, &p->files[i]);

        left = n > UINT64_MAX - left ? UINT64_MAX : left + n;
    }
    if (!store_free_bytes(&p->store, &room) || left <= room)
        return ERR_OK;
    return err_set(
        err, ERR_IO,
        "%s: %s are to be downloaded, but the disk has only %s free; make room, or choose "
        "another place with --cache-dir or HF_HUB_CACHE",
        p->store.repo, progress_size(needed, left), progress_size(there, room));
}

/* Whether the cache's branch or tag stands for this commit already. */
static bool has_ref(const Pull *p)
{
    char commit[HUB_COMMIT_BYTES];
    Err unread = {.code = ERR_OK};

    return hub_cache_commit(commit, p->o->cache, &p->o->repo, &unread) == ERR_OK &&
           strcmp(commit, p->commit) == 0;
}

static ErrCode get_all(Pull *p, Err *err)
{
    if (check_room(p, err) != ERR_OK)
        return err->code;
    for (int i = 0; i < p->n_files; i++)
        if (get(p, &p->files[i], err) != ERR_OK)
            return err->code;
    if (store_sync_snapshot(&p->store, err) != ERR_OK)
        return err->code;
    /* Last: until now the branch stands for what it stood for before, which is complete. */
    return has_ref(p) ? ERR_OK : store_write_ref(&p->store, &p->o->repo, p->commit, err);
}

/* --- the two forms of a pull --- */

static ErrCode pull_model(Pull *p, char out[PATH_MAX], Err *err)
{
    if (get_config(p, err) != ERR_OK || add_texts(p, err) != ERR_OK ||
        add_all_weights(p, err) != ERR_OK || get_all(p, err) != ERR_OK)
        return err->code;
    memcpy(out, p->store.snapshot, PATH_MAX);
    return ERR_OK;
}

static ErrCode pull_file(Pull *p, char out[PATH_MAX], Err *err)
{
    RemoteFile f;
    bool there = false;

    if (ask(p, p->o->file, &f, &there, err) != ERR_OK)
        return err->code;
    if (!there)
        return err_set(err, ERR_IO, "%s: revision %s has no %s", p->o->repo.id, p->o->repo.revision,
                       p->o->file);
    if (store_open(&p->store, p->o->cache, &p->o->repo, p->commit, err) != ERR_OK ||
        add_weights(p, &f, err) != ERR_OK || get_all(p, err) != ERR_OK)
        return err->code;
    if (snprintf(out, PATH_MAX, "%s/%s", p->store.snapshot, p->o->file) >= PATH_MAX)
        return err_set(err, ERR_LIMIT, "%s: path too long", p->store.snapshot);
    return ERR_OK;
}

/* What the cache has of it, complete; nothing is asked for. */
static ErrCode find(char out[PATH_MAX], const PullOptions *o, Err *err)
{
    char commit[HUB_COMMIT_BYTES], folder[PATH_MAX];
    struct stat st;

    if (o->file == NULL)
        return hub_cache_find(out, o->cache, &o->repo, err);
    if (hub_cache_commit(commit, o->cache, &o->repo, err) != ERR_OK ||
        hub_cache_snapshot(folder, o->cache, &o->repo, commit, err) != ERR_OK)
        return err->code;
    if (snprintf(out, PATH_MAX, "%s/%s", folder, o->file) >= PATH_MAX || stat(out, &st) != 0)
        return err_set(err, ERR_IO, "%s: %s is not in the cache %s", o->repo.id, o->file, o->cache);
    return ERR_OK;
}

static ErrCode pull_online(char out[PATH_MAX], const PullOptions *o, Err *err)
{
    Pull p = {.o = o,
              .fetcher = {.endpoint = o->endpoint,
                          .token = o->token,
                          .timeout_s = o->timeout_s,
                          .interrupted = cli_interrupted}};
    Err in_cache = {.code = ERR_OK};

    p.download = (Download){&p.fetcher, o, &p.progress, &p.store};
    progress_open(&p.progress, o->quiet);
    if (fetch_open(&p.fetcher, err) != ERR_OK)
        return err->code;
    ErrCode code = o->file != NULL ? pull_file(&p, out, err) : pull_model(&p, out, err);
    fetch_close(&p.fetcher);
    progress_clear(&p.progress);
    /* The hub could not be asked whether there is something newer. */
    if (code == ERR_NETWORK && p.commit[0] == '\0' && !o->force &&
        find(out, o, &in_cache) == ERR_OK) {
        progress_note(&p.progress, "%s; going by what the cache has of %s", err->msg, o->repo.id);
        *err = (Err){.code = ERR_OK};
        code = ERR_OK;
    }
    return code;
}

ErrCode repository_pull(char out[PATH_MAX], const PullOptions *o, Err *err)
{
    Err unread = {.code = ERR_OK};

    if (o->offline) {
        if (o->force)
            return err_set(err, ERR_USAGE, "--force: HF_HUB_OFFLINE is set");
        return find(out, o, err) == ERR_OK
                   ? ERR_OK
                   : err_prefix(err, "HF_HUB_OFFLINE is set, and only the cache is looked into");
    }
    /* What a commit is never changes. */
    if (!o->force && hub_is_commit(o->repo.revision) && find(out, o, &unread) == ERR_OK)
        return ERR_OK;
    return pull_online(out, o, err);
}
