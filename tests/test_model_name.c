/* tests/test_model_name.c: what models are called that nobody named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/model_name.h"

static void is_named(const char *path, const char *want)
{
    char name[256];

    model_name_of(name, sizeof name, path);
    if (strcmp(name, want) != 0)
        fail_msg("%s: \"%s\", expected \"%s\"", path, name, want);
}

static void directories_by_their_base_name(void **state)
{
    (void)state;
    is_named("models/shakespeare", "shakespeare");
    is_named("models/shakespeare/", "shakespeare");
    is_named("models/shakespeare///", "shakespeare");
    is_named("models", "models");
    is_named("/", "/");
    is_named("nowhere/gpt2.v2", "gpt2.v2");
    is_named("", "");
}

static void dots_are_looked_up(void **state)
{
    (void)state;
    is_named("models/shakespeare/.", "shakespeare");
    is_named("models/shakespeare/./", "shakespeare");
    is_named("models/shakespeare/..", "models");
    is_named("nowhere/..", "..");
    is_named("..x", "..x");
}

static void files_by_their_stem(void **state)
{
    (void)state;
    is_named("models/shakespeare/model.safetensors", "model");
    is_named("tests/data/tiny-gpt2/config.json", "config");
    is_named("Makefile", "Makefile");
    is_named(".clang-format", ".clang-format"); /* nothing but an ending is no ending */
}

/* Stores of model files keep the bytes elsewhere, under a name that says nothing. */
static void links_by_their_own_name(void **state)
{
    char dir[] = "/tmp/llorch-test-XXXXXX", path[64], link_path[64];

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/6d6b7a", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
    (void)snprintf(link_path, sizeof link_path, "%s/small.q8.gguf", dir);
    assert_int_equal(symlink("6d6b7a", link_path), 0);
    is_named(link_path, "small.q8");
    assert_int_equal(unlink(link_path), 0);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(link_path, sizeof link_path, "%s/current", dir);
    assert_int_equal(symlink("/usr", link_path), 0);
    is_named(link_path, "current");
    assert_int_equal(unlink(link_path), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void long_names_are_cut(void **state)
{
    char name[5];

    (void)state;
    model_name_of(name, sizeof name, "models/shakespeare");
    assert_string_equal(name, "shak");
    model_name_of(name, 1, "models/shakespeare");
    assert_string_equal(name, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directories_by_their_base_name),
        cmocka_unit_test(dots_are_looked_up),
        cmocka_unit_test(files_by_their_stem),
        cmocka_unit_test(links_by_their_own_name),
        cmocka_unit_test(long_names_are_cut),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
