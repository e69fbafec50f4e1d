/* http/api_keys.c: see api_keys.h.
 *
 * May include: common. */
#include "http/api_keys.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/mapped_file.h"

/* Each key is padded with NUL bytes, which no key holds: equal bytes mean equal lengths as well. */
struct ApiKeys {
    int n;
    size_t shortest;
    char key[API_KEYS_MAX][API_KEY_BYTES];
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Appends line[0..n), without blanks around it. */
static ErrCode add_key(ApiKeys *keys, const char *name, int number, const char *line, size_t n,
                       Err *err)
{
    char *key;

    if (n > API_KEY_BYTES)
        return err_set(err, ERR_LIMIT, "%s: line %d: a key of %zu bytes, expected at most %d", name,
                       number, n, (int)API_KEY_BYTES);
    if (keys->n == API_KEYS_MAX)
        return err_set(err, ERR_LIMIT, "%s: line %d: more than %d keys", name, number,
                       (int)API_KEYS_MAX);
    key = keys->key[keys->n];
    memcpy(key, line, n); /* before it is checked: the file may be changing under us */
    for (size_t i = 0; i < n; i++)
        if (key[i] <= ' ' || key[i] > '~')
            return err_set(err, ERR_FORMAT,
                           "%s: line %d: byte %zu of the key is not allowed, expected printable "
                           "ASCII without blanks",
                           name, number, i + 1);
    if (keys->n == 0 || n < keys->shortest)
        keys->shortest = n;
    keys->n++;
    return ERR_OK;
}

static ErrCode add_lines(ApiKeys *keys, const char *name, const char *data, size_t n, Err *err)
{
    const char *const end = data + n;

    for (int number = 1; data < end; number++) {
        const char *feed = memchr(data, '\n', (size_t)(end - data));
        const char *last = feed != NULL ? feed : end;
        const char *next = feed != NULL ? feed + 1 : end;

        while (data < last && is_blank(*data))
            data++;
        while (data < last && is_blank(last[-1]))
            last--;
        if (data < last && *data != '#' &&
            add_key(keys, name, number, data, (size_t)(last - data), err) != ERR_OK)
            return err->code;
        data = next;
    }
    if (keys->n == 0)
        return err_set(err, ERR_FORMAT, "%s: holds no key, expected one on a line", name);
    return ERR_OK;
}

ErrCode api_keys_parse(ApiKeys **out, const char *name, const void *data, size_t n, Err *err)
{
    ApiKeys *keys = calloc(1, sizeof *keys);
    Err own = {.code = ERR_OK};

    if (keys == NULL)
        return err_set(err, ERR_MEMORY, "%s: out of memory", name);
    if (add_lines(keys, name, data, n, err != NULL ? err : &own) != ERR_OK) {
        api_keys_free(keys);
        return err != NULL ? err->code : own.code;
    }
    *out = keys;
    return ERR_OK;
}

ErrCode api_keys_load(ApiKeys **out, const char *path, Err *err)
{
    MappedFile file;
    ErrCode code = mapped_file_open(&file, path, API_KEY_FILE_BYTES, err);

    if (code != ERR_OK)
        return code;
    code = api_keys_parse(out, path, file.data, file.size, err);
    mapped_file_close(&file);
    return code;
}

void api_keys_free(ApiKeys *keys)
{
    if (keys == NULL)
        return;
    explicit_bzero(keys, sizeof *keys);
    free(keys);
}

int api_keys_count(const ApiKeys *keys)
{
    return keys->n;
}

size_t api_keys_shortest(const ApiKeys *keys)
{
    return keys->shortest;
}

/* volatile: the compiler may not leave the loop once the result is known. */
bool api_keys_same(const void *a, const void *b, size_t n)
{
    const volatile unsigned char *const x = a, *const y = b;
    unsigned differing = 0;

    for (size_t i = 0; i < n; i++)
        differing |= (unsigned)(x[i] ^ y[i]);
    return differing == 0;
}

/* What follows "Bearer" and its blanks; NULL for another scheme. */
static const char *bearer_token(const char *authorization)
{
    static const char scheme[] = "Bearer ";

    if (authorization == NULL || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return NULL;
    authorization += sizeof scheme - 1;
    return authorization + strspn(authorization, " ");
}

bool api_keys_permit(const ApiKeys *keys, const char *authorization)
{
    const char *token = bearer_token(authorization);
    const size_t n = token != NULL ? strlen(token) : 0;
    char shown[API_KEY_BYTES] = {0};
    bool found = false;

    if (n == 0 || n > sizeof shown)
        return false;
    memcpy(shown, token, n);
    for (int i = 0; i < keys->n; i++)
        found |= api_keys_same(shown, keys->key[i], sizeof shown); /* no early end here, either */
    explicit_bzero(shown, sizeof shown);
    return found;
}
