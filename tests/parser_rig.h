/* tests/parser_rig.h: what the tests of file formats share: files that end at a page which cannot
 * be read, every prefix of a file and every damaged byte, work that does not grow too fast, and a
 * full disk. */
#ifndef LLORCH_TESTS_PARSER_RIG_H
#define LLORCH_TESTS_PARSER_RIG_H

#include "folder_rig.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "common/error.h"

enum { PAGE = 4096, MAX_FILE = 64 * PAGE };

/* --- in memory --- */

/* Memory whose last byte is followed by a page that cannot be read. */
static inline unsigned char *guarded_end(void)
{
    static unsigned char *end;

    if (end == NULL) {
        unsigned char *p =
            mmap(NULL, MAX_FILE + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        assert_true(p != MAP_FAILED);
        assert_int_equal(mprotect(p + MAX_FILE, PAGE, PROT_NONE), 0);
        end = p + MAX_FILE;
    }
    return end;
}

/* A copy of these bytes that ends there. */
static inline const unsigned char *guarded(const void *data, size_t n)
{
    if (n > 0)
        memcpy(guarded_end() - n, data, n);
    return guarded_end() - n;
}

/* Fails unless the file called what was refused like this. */
static inline void assert_refused(const char *what, ErrCode got, const Err *err, ErrCode code,
                                  const char *part)
{
    if (got == ERR_OK)
        fail_msg("accepted: %s", what);
    if (err->code != code || strstr(err->msg, part) == NULL)
        fail_msg("%s: %d %s", what, (int)err->code, err->msg);
}

/* Parses a file, checks what came out of it, and frees that. */
typedef ErrCode TryFile(const unsigned char *file, size_t n);

static inline void every_prefix_is_malformed(TryFile *try_file, const unsigned char *file, size_t n)
{
    for (size_t k = 0; k < n; k++)
        assert_int_equal(try_file(file, k), ERR_FORMAT);
    assert_int_equal(try_file(file, n), ERR_OK);
}

/* The byte as 0, 0xff, one more, one less, and with each bit flipped. */
enum { N_DAMAGES = 12 };

static inline unsigned char damage(unsigned char byte, int how)
{
    const int ways[4] = {0, 0xff, byte + 1, byte - 1};

    return (unsigned char)(how < 4 ? ways[how] : byte ^ 1 << (how - 4));
}

/* Damages each of the first n_head bytes in each way; the number of files that were refused. */
static inline size_t refused_of_damaged(TryFile *try_file, const unsigned char *file, size_t n,
                                        size_t n_head)
{
    static unsigned char damaged[MAX_FILE];
    size_t refused = 0;

    for (size_t i = 0; i < n_head; i++)
        for (int how = 0; how < N_DAMAGES; how++) {
            memcpy(damaged, file, n);
            damaged[i] = damage(file[i], how);
            refused += try_file(damaged, n) != ERR_OK;
        }
    return refused;
}

/* seconds_for: what a file of n tensors costs. Eight times the tensors: about ten times the work,
 * 64 times if anything were quadratic. */
static inline void assert_n_log_n(double (*seconds_for)(int n))
{
    const double small = seconds_for(7500), large = seconds_for(60000);

    if (large > 25 * small + 0.1)
        fail_msg("%g s for 7,500 tensors, %g s for 60,000", small, large);
}

/* --- on disk --- */

static inline size_t open_descriptors(void)
{
    size_t n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += dup2(fd, fd) == fd;
    return n;
}

/* A file size limit of 8 KiB is a full disk that a test can have. Returns the limit before it. */
static inline struct rlimit fill_disk(void)
{
    const struct rlimit small = {8192, RLIM_INFINITY};
    struct rlimit before;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    return before;
}

static inline void empty_disk(struct rlimit before)
{
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
}

#endif
