/* common/model_name.c: see model_name.h.
 *
 * May include: nothing. */
#include "common/model_name.h"

#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_regular_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* The last component of path, slashes behind it left out: where it begins; *n: its length. */
static const char *last_component(const char *path, size_t *n)
{
    size_t end = strlen(path), start;

    while (end > 1 && path[end - 1] == '/')
        end--;
    for (start = end; start > 0 && (path[start - 1] != '/' || end == 1); start--)
        ;
    *n = end - start;
    return path + start;
}

static bool is_dots(const char *name, size_t n)
{
    return (n == 1 && name[0] == '.') || (n == 2 && name[0] == '.' && name[1] == '.');
}

/* Whether path[0..n) ends with "/models--ORG--NAME/snapshots", or begins with that: where NAME is.
 */
static const char *snapshot_name(const char *path, size_t n, size_t *n_name)
{
    static const char below[] = "/snapshots", prefix[] = "models--";
    size_t start;

    while (n > 0 && path[n - 1] == '/')
        n--;
    if (n < sizeof below - 1 || memcmp(path + n - (sizeof below - 1), below, sizeof below - 1) != 0)
        return NULL;
    n -= sizeof below - 1;
    for (start = n; start > 0 && path[start - 1] != '/'; start--)
        ;
    if (n - start <= sizeof prefix - 1 || memcmp(path + start, prefix, sizeof prefix - 1) != 0)
        return NULL;
    start += sizeof prefix - 1;
    for (size_t i = start; i + 1 < n; i++)
        if (path[i] == '-' && path[i + 1] == '-')
            start = i + 2;
    *n_name = n - start;
    return n > start ? path + start : NULL;
}

/* 40 hexadecimal digits: a commit. */
static bool is_commit(const char *name, size_t n)
{
    return n == 40 && strspn(name, "0123456789abcdef") >= n;
}

void model_name_of(char *out, size_t size, const char *path)
{
    char *real = NULL;
    size_t n;
    const char *name = last_component(path, &n);

    if (is_dots(name, n) && (real = realpath(path, NULL)) != NULL)
        name = last_component(real, &n);
    const char *whole = real != NULL ? real : path;
    size_t n_repo = 0;
    const char *repo =
        is_commit(name, n) ? snapshot_name(whole, (size_t)(name - whole), &n_repo) : NULL;

    if (repo != NULL) {
        name = repo;
        n = n_repo;
    } else if (is_regular_file(path)) {
        const char *dot = memrchr(name, '.', n);

        if (dot != NULL && dot > name)
            n = (size_t)(dot - name);
    }
    n = n < size ? n : size - 1;
    memcpy(out, name, n);
    out[n] = '\0';
    free(real);
}

void model_dir_of(char *out, size_t size, const char *path)
{
    char copy[PATH_MAX];

    (void)snprintf(copy, sizeof copy, "%s", path);
    (void)snprintf(out, size, "%s", is_regular_file(path) ? dirname(copy) : copy);
}
