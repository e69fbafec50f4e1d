/* tests/folder_rig.h: a folder for the files that a test makes. */
#ifndef LLORCH_TESTS_FOLDER_RIG_H
#define LLORCH_TESTS_FOLDER_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>

enum { PATH_BYTES = 320 };

static char folder[64];

/* A setup of cmocka's, of a group or of each test. */
static inline int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/llorch-folder-XXXXXX");
    return mkdtemp(folder) == NULL;
}

/* name in the folder; good until the call after the next three. */
static inline const char *path_of(const char *name)
{
    static char paths[4][PATH_BYTES];
    static int at;
    char *path = paths[at++ % 4];

    (void)snprintf(path, PATH_BYTES, "%s/%s", folder, name);
    return path;
}

/* Removes these files, which may be absent, and empty folders. */
static inline void remove_files(const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)remove(path_of(names[i]));
}

/* The same and the folder; fails when it has another file, such as one that should be gone. */
static inline int remove_folder(const char *const *names, size_t n)
{
    remove_files(names, n);
    return rmdir(folder);
}

static inline void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* The same for a file in the folder. */
static inline void put_file(const char *name, const void *bytes, size_t n)
{
    write_file(path_of(name), bytes, n);
}

/* The whole file; malloc'ed. */
static inline unsigned char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");

    if (f == NULL)
        fail_msg("%s cannot be read", path);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *n = (size_t)ftell(f);
    rewind(f);

    unsigned char *bytes = malloc(*n + 1);

    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *n, f), *n);
    assert_int_equal(fclose(f), 0);
    return bytes;
}

/* The first bytes of a file in the folder, at most size; returns how many. */
static inline size_t get_bytes(const char *name, unsigned char *out, size_t size)
{
    FILE *f = fopen(path_of(name), "rb");

    assert_non_null(f);
    const size_t n = fread(out, 1, size, f);
    fclose(f);
    return n;
}

#endif
