/* hub/repo.c: see repo.h.
 *
 * May include: common. */
#include "hub/repo.h"

#include <stdio.h>
#include <string.h>

enum { SHA1_DIGITS = 40, SHA256_DIGITS = 64 };

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_hex(const char *s, size_t n)
{
    return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

/* One part of a repository's name: NULL, or what is wrong with it. */
static const char *part_fault(const char *s, size_t n)
{
    if (n == 0)
        return "a part is empty";
    if (n > HUB_PART_MAX)
        return "a part is longer than 96 characters";
    for (size_t i = 0; i < n; i++) {
        if (!is_word(s[i]) && s[i] != '-' && s[i] != '.')
            return "only letters, digits, '.', '_' and '-' are allowed";
        if (i > 0 && s[i] == s[i - 1] && !is_word(s[i]))
            return "\"--\" and \"..\" are not allowed";
    }
    if (!is_word(s[0]) || !is_word(s[n - 1]))
        return "a part begins or ends with '-' or '.'";
    if (n >= 4 && memcmp(s + n - 4, ".git", 4) == 0)
        return "it ends with \".git\"";
    return NULL;
}

static ErrCode bad_name(const char *text, const char *fault, Err *err)
{
    return err_set(err, ERR_USAGE, "\"%s\" names no repository, expected ORG/NAME[@REVISION]: %s",
                   text, fault);
}

ErrCode hub_repo_parse(HubRepo *out, const char *text, Err *err)
{
    HubRepo made;
    const size_t n = strcspn(text, "@");
    const char *slash = memchr(text, '/', n);
    const size_t n_org = slash != NULL ? (size_t)(slash - text) : 0;
    const char *name = slash != NULL ? slash + 1 : text;
    const size_t n_name = n - (size_t)(name - text);
    const char *fault = slash != NULL ? part_fault(text, n_org) : NULL;

    if (fault == NULL)
        fault = part_fault(name, n_name);
    if (fault != NULL)
        return bad_name(text, fault, err);
    memset(&made, 0, sizeof made);
    (void)snprintf(made.id, sizeof made.id, "%.*s", (int)n, text);
    (void)snprintf(made.name, sizeof made.name, "%.*s", (int)n_name, name);
    (void)snprintf(made.folder, sizeof made.folder, "models--%.*s%s%.*s", (int)n_org, text,
                   slash != NULL ? "--" : "", (int)n_name, name);
    if (hub_repo_set_revision(&made, text[n] == '@' ? text + n + 1 : HUB_DEFAULT_REVISION, err) !=
        ERR_OK)
        return err->code;
    *out = made;
    return ERR_OK;
}

/* The rules of git for names of references, and printable ASCII only. */
static const char *revision_fault(const char *s)
{
    const size_t n = strlen(s);

    if (n == 0)
        return "it is empty";
    if (n >= HUB_REVISION_BYTES)
        return "it is longer than 255 characters";
    for (size_t i = 0; i < n; i++) {
        const bool part_begins = i == 0 || s[i - 1] == '/';

        if (s[i] <= ' ' || s[i] > '~' || strchr("~^:?*[\\\"", s[i]) != NULL)
            return "only printable ASCII but ~^:?*[\\\" is allowed";
        if (part_begins && (s[i] == '.' || s[i] == '/' || s[i] == '-'))
            return "a part of it is empty, or begins with '.' or '-'";
        if (s[i] == '.' && s[i + 1] == '.')
            return "\"..\" is not allowed";
    }
    if (s[n - 1] == '/' || s[n - 1] == '.')
        return "it ends with '/' or '.'";
    return NULL;
}

ErrCode hub_repo_set_revision(HubRepo *repo, const char *revision, Err *err)
{
    const char *fault = revision_fault(revision);

    if (fault != NULL)
        return err_set(err, ERR_USAGE, "revision \"%s\": no branch, tag or commit: %s", revision,
                       fault);
    (void)snprintf(repo->revision, sizeof repo->revision, "%s", revision);
    return ERR_OK;
}

bool hub_is_commit(const char *text)
{
    return is_hex(text, SHA1_DIGITS);
}

bool hub_is_file_name(const char *text)
{
    const size_t n = strlen(text);

    if (n == 0 || n >= HUB_FILE_BYTES || (!is_word(text[0]) && text[0] != '+'))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_word(text[i]) && strchr(".-+", text[i]) == NULL)
            return false;
    return true;
}

bool hub_blob_name(char out[HUB_BLOB_BYTES], const char *etag)
{
    size_t n;

    if (strncmp(etag, "W/", 2) == 0)
        etag += 2;
    n = strlen(etag);
    if (n >= 2 && etag[0] == '"' && etag[n - 1] == '"') {
        etag++;
        n -= 2;
    }
    if (n == 0 || n >= HUB_BLOB_BYTES || !is_word(etag[0]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_word(etag[i]) && strchr(".-+=", etag[i]) == NULL)
            return false;
    /* The name of a download that is under way. */
    if (memchr(etag, '.', n) != NULL && n > 11 && memcmp(etag + n - 11, ".incomplete", 11) == 0)
        return false;
    memcpy(out, etag, n);
    out[n] = '\0';
    return true;
}

HubDigest hub_blob_digest(const char *blob)
{
    if (is_hex(blob, SHA256_DIGITS))
        return HUB_DIGEST_SHA256;
    return is_hex(blob, SHA1_DIGITS) ? HUB_DIGEST_GIT_SHA1 : HUB_DIGEST_NONE;
}
