/* tests/test_common.c: arena, clock, mapped files and new ones. */
#include "folder_rig.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "common/arena.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/mapped_file.h"
#include "common/new_file.h"

static void arena_hands_out_aligned_zeroed_parts(void **state)
{
    size_t total = 0;
    Arena a;
    Err err;

    (void)state;
    assert_true(arena_plan(&total, 3, 5));
    assert_int_equal(total, 64);
    assert_true(arena_plan(&total, 1000, 4096));
    assert_true(arena_plan(&total, 1, 1));
    assert_int_equal(arena_init(&a, total, "test", &err), ERR_OK);
    unsigned char *p = arena_alloc(&a, 3, 5), *q = arena_alloc(&a, 1000, 4096),
                  *r = arena_alloc(&a, 1, 1);
    assert_true(p != NULL && q != NULL && r != NULL);
    assert_int_equal((uintptr_t)p % ARENA_ALIGN, 0);
    assert_int_equal(q - p, 64);
    assert_int_equal(r - q, 1000 * 4096);
    for (size_t i = 0; i < total; i++)
        assert_int_equal(p[i], 0);
    memset(p, 1, total);
    assert_null(arena_alloc(&a, 5000, 1));
    assert_null(arena_alloc(&a, SIZE_MAX, 2));
    assert_null(arena_alloc(&a, SIZE_MAX, 1));
    arena_free(&a);
    assert_null(a.base);
    assert_null(arena_alloc(&a, 1, 1));
    arena_free(&a);
}

static void arena_plan_refuses_overflow(void **state)
{
    size_t total = 128, product = 7;

    (void)state;
    assert_false(arena_plan(&total, SIZE_MAX, 2));
    assert_false(arena_plan(&total, SIZE_MAX, 1));
    assert_false(arena_plan(&total, SIZE_MAX - 100, 1));
    assert_int_equal(total, 128);
    assert_false(size_mul(SIZE_MAX / 2 + 1, 2, &product));
    assert_int_equal(product, 7);
    assert_true(size_mul(SIZE_MAX, 0, &product));
    assert_int_equal(product, 0);
}

static void arena_says_when_memory_is_out(void **state)
{
    Arena a = {NULL, 0, 0};
    Err err = {ERR_OK, ""};

    (void)state;
    assert_int_equal(arena_init(&a, SIZE_MAX, "weights", &err), ERR_MEMORY);
    assert_int_equal(arena_init(&a, SIZE_MAX / 4, "weights", &err), ERR_MEMORY);
    assert_true(strncmp(err.msg, "weights: needs ", 15) == 0);
    assert_non_null(strstr(err.msg, " bytes of memory, this machine has "));
    assert_null(a.base);
    assert_int_equal(arena_init(&a, 0, "nothing", &err), ERR_OK);
    assert_null(a.base);
}

static void clocks_run(void **state)
{
    char text[CLOCK_ISO_BYTES];
    const uint64_t before = clock_now_ns();

    (void)state;
    clock_iso_utc(text);
    assert_int_equal(strlen(text), 20);
    assert_true(strspn(text, "0123456789-T:Z") == 20 && text[10] == 'T' && text[19] == 'Z');
    assert_true(clock_now_ns() >= before);
    assert_true(clock_now_ms() >= before / 1000000);
}

static void clock_formats_every_second(void **state)
{
    static const int64_t no_text[] = {-1, INT64_MIN, 253402300800, INT64_MAX};
    static const int64_t edges[] = {0, 951782399, 951782400, 4107542400, 253402300799};
    char text[CLOCK_ISO_BYTES], expected[CLOCK_ISO_BYTES];
    uint64_t random = 1;

    (void)state;
    for (size_t i = 0; i < 20000; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        const time_t t = i < 5 ? edges[i] : (time_t)((random >> 11) % UINT64_C(253402300800));
        struct tm tm;

        assert_non_null(gmtime_r(&t, &tm));
        assert_int_equal(strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%SZ", &tm), 20);
        clock_format_utc(text, t);
        assert_string_equal(text, expected);
    }
    for (size_t i = 0; i < sizeof no_text / sizeof no_text[0]; i++) {
        clock_format_utc(text, no_text[i]);
        assert_string_equal(text, "0000-00-00T00:00:00Z");
    }
}

static void put_text(const char *name, const char *text)
{
    put_file(name, text, strlen(text));
}

static void mapped_file_shows_the_bytes(void **state)
{
    MappedFile f;
    Err err;

    (void)state;
    put_text("plain", "hello");
    assert_int_equal(symlink("plain", path_of("link")), 0);
    assert_int_equal(mapped_file_open(&f, path_of("link"), 5, &err), ERR_OK);
    assert_int_equal(f.size, 5);
    assert_memory_equal(f.data, "hello", 5);
    mapped_file_close(&f);
    assert_null(f.data);
    mapped_file_close(&f);
    assert_int_equal(mapped_file_open(&f, path_of("plain"), 4, &err), ERR_LIMIT);
    assert_non_null(strstr(err.msg, "/plain: 5 bytes, expected at most 4"));
}

static void mapped_file_refuses_what_is_no_regular_file(void **state)
{
    char long_path[5000];
    MappedFile f = {NULL, 0};
    Err err;

    (void)state;
    put_text("empty", "");
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    assert_int_equal(symlink("nowhere", path_of("dangling")), 0);
    assert_int_equal(symlink("loop", path_of("loop")), 0);
    alarm(10); /* a FIFO must not be waited for */
    assert_int_equal(mapped_file_open(&f, path_of("fifo"), 0, &err), ERR_IO);
    alarm(0);
    assert_non_null(strstr(err.msg, "/fifo: not a regular file"));
    assert_int_equal(mapped_file_open(&f, folder, 0, &err), ERR_IO);
    assert_non_null(strstr(err.msg, ": is a directory"));
    assert_int_equal(mapped_file_open(&f, "/dev/zero", 0, &err), ERR_IO);
    assert_int_equal(mapped_file_open(&f, path_of("empty"), 0, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "/empty: the file is empty"));
    assert_int_equal(mapped_file_open(&f, path_of("dangling"), 0, &err), ERR_IO);
    assert_non_null(strstr(err.msg, strerror(ENOENT)));
    assert_int_equal(mapped_file_open(&f, path_of("loop"), 0, &err), ERR_IO);
    assert_non_null(strstr(err.msg, strerror(ELOOP)));
    memset(long_path, 'a', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    assert_int_equal(mapped_file_open(&f, long_path, 0, &err), ERR_IO);
    assert_non_null(strstr(err.msg, strerror(ENAMETOOLONG)));
    assert_null(f.data);
}

/* A child maps a file, the file is cut, the child reads: one line with the name, exit 1, no signal.
 */
static void mapped_file_guard_names_the_file(void **state)
{
    char text[512] = "";
    int fds[2], status = 0;

    (void)state;
    put_text("shrinks", "hello");
    assert_int_equal(pipe(fds), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        MappedFile f;
        Err err;

        dup2(fds[1], STDERR_FILENO);
        mapped_file_guard();
        if (mapped_file_open(&f, path_of("shrinks"), 0, &err) != ERR_OK ||
            truncate(path_of("shrinks"), 0) != 0)
            _exit(2);
        _exit(*(const volatile unsigned char *)f.data == 0 ? 3 : 4);
    }
    close(fds[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    const ssize_t n = read(fds[0], text, sizeof text - 1);
    close(fds[0]);
    assert_true(n > 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_non_null(strstr(text, "/shrinks: the file became shorter while it was in use"));
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
}

static void usual_wrong_files_are_recognised(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *part;
    } cases[] = {
        {"version https://git-lfs.github.com/spec/v1\n", 43, "Git LFS"},
        {"\x1f\x8b\x08", 3, "gzip"},
        {"PK\x03\x04", 4, "zip"},
        {"\x80\x02}q", 4, "pickle"},
        {"  \n<!DOCTYPE html>", 18, "HTML"},
        {"<html>", 6, "HTML"},
        {"GGUF\x03", 5, "GGUF"},
        {"\x80\x02\0\0\0\0\0\0{\"", 10, "safetensors"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *kind = mapped_file_kind((const unsigned char *)cases[i].bytes, cases[i].n);

        assert_non_null(kind);
        assert_non_null(strstr(kind, cases[i].part));
    }
    assert_null(mapped_file_kind((const unsigned char *)"{}", 2));
    assert_null(mapped_file_kind((const unsigned char *)"", 0));
}

static int leave_folder(void **state)
{
    static const char *const names[] = {"plain",    "link", "empty",  "fifo",
                                        "dangling", "loop", "shrinks"};

    (void)state;
    return remove_folder(names, sizeof names / sizeof names[0]);
}

static void touching_an_arena_backs_it_and_changes_nothing(void **state)
{
    enum { N_PAGES = 64, PAGE = 4096 };
    unsigned char resident[N_PAGES];
    Err err = {0};
    Arena a;

    (void)state;
    assert_int_equal(arena_init(&a, N_PAGES * PAGE, "test", &err), ERR_OK);
    a.base[5 * PAGE] = 7;
    arena_touch(&a, 4 * PAGE, SIZE_MAX); /* what lies behind the end is left out */
    assert_int_equal(mincore(a.base, N_PAGES * PAGE, resident), 0);
    for (int i = 4; i < N_PAGES; i++)
        assert_true(resident[i] & 1);
    assert_int_equal(a.base[5 * PAGE], 7);
    assert_int_equal(a.base[6 * PAGE], 0);
    arena_free(&a);
}

/* In a container every run has the process number 1. */
static void what_a_killed_run_left_is_in_nobodys_way(void **state)
{
    char stale[256], left[64];
    NewFile f;
    Err err;

    (void)state;
    snprintf(left, sizeof left, "rerun.%ld.0.tmp", (long)getpid());
    put_text(left, "half of it");
    snprintf(stale, sizeof stale, "%s", path_of(left));
    assert_int_equal(new_file_open(&f, path_of("rerun"), &err), ERR_OK);
    assert_true(new_file_write(&f, "all of it", 9));
    assert_int_equal(new_file_commit(&f, &err), ERR_OK);
    assert_int_equal(access(stale, F_OK), 0); /* it may be another container's, in use */
    assert_int_equal(unlink(stale), 0);
    assert_int_equal(unlink(path_of("rerun")), 0);
}

static void a_new_file_is_there_as_a_whole_or_not_at_all(void **state)
{
    char own[] = "/tmp/llorch-common-XXXXXX", path[64], text[8] = "";
    Err err = {0};
    NewFile f;
    FILE *in;

    (void)state;
    assert_non_null(mkdtemp(own));
    (void)snprintf(path, sizeof path, "%s/file", own);
    for (int round = 0; round < 2; round++) { /* the second replaces the first */
        assert_int_equal(new_file_open(&f, path, &err), ERR_OK);
        assert_true(new_file_write(&f, round == 0 ? "old" : "new", 3));
        assert_int_equal(access(path, F_OK), round == 0 ? -1 : 0);
        assert_int_equal(new_file_commit(&f, &err), ERR_OK);
    }
    /* A write that fails: the old file stays, the temporary one goes. */
    assert_int_equal(new_file_open(&f, path, &err), ERR_OK);
    assert_true(new_file_write(&f, "half", 4));
    (void)close(f.fd);
    assert_false(new_file_write(&f, "more", 4));
    assert_int_equal(new_file_commit(&f, &err), ERR_IO);
    assert_int_equal(access(f.temporary, F_OK), -1);
    in = fopen(path, "rb");
    assert_non_null(in);
    assert_int_equal(fread(text, 1, sizeof text, in), 3);
    assert_string_equal(text, "new");
    (void)fclose(in);
    assert_int_equal(unlink(path), 0);
    /* A pipe or a device would be gone. */
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(new_file_open(&f, path, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "/file: not a regular file, would be replaced by one"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(own), 0);
    assert_int_equal(new_file_open(&f, path, &err), ERR_IO); /* no such folder */
    assert_non_null(strstr(err.msg, "No such file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_file_is_there_as_a_whole_or_not_at_all),
        cmocka_unit_test(what_a_killed_run_left_is_in_nobodys_way),
        cmocka_unit_test(touching_an_arena_backs_it_and_changes_nothing),
        cmocka_unit_test(arena_hands_out_aligned_zeroed_parts),
        cmocka_unit_test(arena_plan_refuses_overflow),
        cmocka_unit_test(arena_says_when_memory_is_out),
        cmocka_unit_test(clocks_run),
        cmocka_unit_test(clock_formats_every_second),
        cmocka_unit_test(mapped_file_shows_the_bytes),
        cmocka_unit_test(mapped_file_refuses_what_is_no_regular_file),
        cmocka_unit_test(mapped_file_guard_names_the_file),
        cmocka_unit_test(usual_wrong_files_are_recognised),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_folder, leave_folder);
}
