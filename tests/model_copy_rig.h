/* tests/model_copy_rig.h: copies of the tiny model in directories of their own, made of links, for
 * tests of whole jobs that change one of its files. */
#ifndef LLORCH_TESTS_MODEL_COPY_RIG_H
#define LLORCH_TESTS_MODEL_COPY_RIG_H

#include <unistd.h>

#include "generation_rig.h"

static inline void link_file(const char *dir, const char *name)
{
    char cwd[2048], from[4096], to[4096];

    assert_non_null(getcwd(cwd, sizeof cwd));
    (void)snprintf(from, sizeof from, "%s/" TINY "/%s", cwd, name);
    (void)snprintf(to, sizeof to, "%s/%s", dir, name);
    assert_int_equal(symlink(from, to), 0);
}

static inline void write_file(const char *dir, const char *name, const char *text)
{
    char path[4096];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* The tiny model's configuration and weights in a new directory. */
static inline void make_dir_without_tokenizer(char dir[64])
{
    (void)snprintf(dir, 64, "/tmp/llorch-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    link_file(dir, "config.json");
    link_file(dir, "model.safetensors");
}

/* All of it but generation_config.json, which says where a text ends. */
static inline void make_dir(char dir[64])
{
    make_dir_without_tokenizer(dir);
    link_file(dir, "vocab.json");
    link_file(dir, "merges.txt");
}

static inline void remove_dir(const char *dir)
{
    static const char *const names[] = {"config.json", "generation_config.json",
                                        "model.safetensors", "vocab.json", "merges.txt"};
    char path[4096];

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(dir), 0);
}

#endif
