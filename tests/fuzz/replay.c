/* tests/fuzz/replay.c: runs one fuzz target over its seeds, as TAP, without libFuzzer: every seed,
 * every prefix of every seed, and every byte of its head damaged; each time the input ends at a
 * page that cannot be read.
 *
 * replay_NAME            everything, from the root of the repository
 * replay_NAME FILE...    these inputs, once each; prints nothing when all is well */
#include "fuzz.h"

#include <dirent.h>
#include <libgen.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "parser_rig.h"
#include "quick.h"

enum { MAX_SEEDS = 256, HEAD_BYTES = 4096 /* of a seed, that are damaged */ };

/* Processor time for all prefixes, and for all damages: when they would take more, only one of so
 * many is made. */
static const double quick_seconds = 0.5, thorough_seconds = 4.0;

/* A fault is the sanitizer's to report; then it ends the program by SIGABRT, and say_where speaks.
 * Names and types are theirs. */
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *__asan_default_options(void)
{
    return "abort_on_error=1:handle_segv=2:handle_sigbus=2:handle_sigfpe=2:handle_sigill=2";
}

const char *__ubsan_default_options(void)
{
    return "abort_on_error=1:print_stacktrace=1";
}

static char seeds_folder[PATH_BYTES];
static char seed_paths[MAX_SEEDS][2 * PATH_BYTES];
static size_t n_seeds;
static char where[3 * PATH_BYTES]; /* the input that runs now */

static void now(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void now(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(where, sizeof where, format, args);
    va_end(args);
}

static void say_where(int sig)
{
    if (write(STDERR_FILENO, where, strlen(where)) < 0)
        _exit(1);
    (void)signal(sig, SIG_DFL);
    (void)raise(sig);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void find_seeds(const char *program)
{
    DIR *dir;
    struct dirent *entry;

    (void)snprintf(seeds_folder, sizeof seeds_folder, "tests/fuzz/seeds/%s",
                   program + strlen("replay_"));
    dir = opendir(seeds_folder);
    while (dir != NULL && (entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.' && n_seeds < MAX_SEEDS)
            (void)snprintf(seed_paths[n_seeds++], sizeof seed_paths[0], "%s/%s", seeds_folder,
                           entry->d_name);
    if (dir != NULL)
        (void)closedir(dir);
    if (n_seeds == 0 || n_seeds == MAX_SEEDS) {
        (void)printf("Bail out! %s: %zu files, expected some, fewer than %d\n", seeds_folder,
                     n_seeds, MAX_SEEDS);
        exit(1);
    }
    qsort(seed_paths, n_seeds, sizeof seed_paths[0], by_name);
}

static void run_input(const unsigned char *input, size_t n)
{
    assert_true(n <= MAX_FILE);
    (void)LLVMFuzzerTestOneInput(guarded(input, n), n);
}

/* Runs the target with the inputs of one kind that are made of one seed. */
typedef void RunSeed(const char *path, const unsigned char *seed, size_t n);

static size_t n_ways(void)
{
    return quick() ? 5 : N_DAMAGES;
}

static size_t head_of(size_t n)
{
    return n < HEAD_BYTES ? n : HEAD_BYTES;
}

/* What all prefixes and all damages would cost, from what whole seeds did. */
static double prefixes_cost, damages_cost;

static void run_whole(const char *path, const unsigned char *seed, size_t n)
{
    now("# the input was %s\n", path);
    run_input(seed, n);

    const clock_t start = clock(); /* the second time, when all is warm */

    run_input(seed, n);

    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;

    prefixes_cost += seconds * (double)n / 2;
    damages_cost += seconds * (double)(head_of(n) * n_ways());
}

/* One of how many inputs is made. Odd, so that all ways of damage take turns. */
static size_t step_of(double cost)
{
    return (size_t)(cost / (quick() ? quick_seconds : thorough_seconds)) | 1;
}

static void run_prefixes(const char *path, const unsigned char *seed, size_t n)
{
    const size_t step = step_of(prefixes_cost);

    for (size_t k = n % step; k < n; k += step) {
        now("# the input was the first %zu bytes of %s\n", k, path);
        run_input(seed, k);
    }
}

/* The first four ways of damage, then one bit after the other; in a hurry one of them for each
 * byte. */
static void run_damages(const char *path, const unsigned char *seed, size_t n)
{
    static unsigned char damaged[MAX_FILE];
    const size_t step = step_of(damages_cost);

    assert_true(n <= sizeof damaged);
    memcpy(damaged, seed, n);
    for (size_t k = n % step; k < head_of(n) * n_ways(); k += step) {
        const size_t i = k / n_ways(), way = k % n_ways();

        damaged[i] = damage(seed[i], (int)(quick() && way == 4 ? 4 + i % 8 : way));
        now("# the input was %s with byte %zu made 0x%02x\n", path, i, damaged[i]);
        run_input(damaged, n);
        damaged[i] = seed[i];
    }
}

static void run_file(const char *path, RunSeed *run)
{
    size_t n;
    unsigned char *seed = read_file(path, &n);

    run(path, seed, n);
    free(seed);
}

static void each_seed(RunSeed *run)
{
    for (size_t i = 0; i < n_seeds; i++)
        run_file(seed_paths[i], run);
    (void)fflush(stdout);
}

static const char *note(double cost)
{
    static char text[64];

    (void)snprintf(text, sizeof text, " (one in %zu, for time)", step_of(cost));
    return step_of(cost) > 1 ? text : "";
}

int main(int argc, char **argv)
{
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        (void)signal(signals[i], say_where);
    for (int i = 1; i < argc; i++)
        run_file(argv[i], run_whole);
    if (argc > 1)
        return 0;
    find_seeds(basename(argv[0]));
    (void)printf("1..3\n");
    each_seed(run_whole);
    (void)printf("ok 1 - every seed\n");
    each_seed(run_prefixes);
    (void)printf("ok 2 - every prefix of every seed%s\n", note(prefixes_cost));
    each_seed(run_damages);
    (void)printf("ok 3 - every byte of every seed's head, damaged in %zu ways%s\n", n_ways(),
                 note(damages_cost));
    now("%s", ""); /* what leaked was not the last input's, or not surely */
    return 0;
}
