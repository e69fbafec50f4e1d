/* tests/test_bpe.c: merging against a slow, literal BPE, and the time it takes. */
#include "tokenizer_rig.h"

#include "common/clock.h"
#include "tokenizer/pre_split.h"

/* Ranks by pair of ids, read from merges.txt a second time and in another way. */
enum { MAX_IDS = 1024, NO_RANK = 1 << 30 };

typedef struct {
    int rank[MAX_IDS][MAX_IDS];
    int result[MAX_IDS][MAX_IDS];
} SlowMerges;

static void slow_init(SlowMerges *m)
{
    for (int i = 0; i < MAX_IDS; i++)
        for (int k = 0; k < MAX_IDS; k++)
            m->rank[i][k] = NO_RANK;
}

static size_t unspell(const char *text, char *out)
{
    size_t n = 0;

    while (*text != '\0')
        for (int b = 0; b < 256; b++) {
            char spelled[3];
            const size_t length = spell_byte(b, spelled);

            if (strncmp(text, spelled, length) == 0) {
                out[n++] = (char)b;
                text += length;
                break;
            }
        }
    return n;
}

static void slow_load(SlowMerges *m, const Tokenizer *t, const char *path)
{
    FILE *f = fopen(path, "r");
    char line[256], left[128], right[128], bytes[256];
    int rank = 0;

    assert_non_null(f);
    slow_init(m);
    while (fgets(line, sizeof line, f) != NULL) {
        if (line[0] == '#' && rank == 0)
            continue;
        assert_int_equal(sscanf(line, "%127s %127s", left, right), 2);

        const size_t n_left = unspell(left, bytes);
        const size_t n_right = unspell(right, bytes + n_left);
        const int a = tokenizer_find(t, bytes, n_left);
        const int b = tokenizer_find(t, bytes + n_left, n_right);

        m->rank[a][b] = rank++;
        m->result[a][b] = tokenizer_find(t, bytes, n_left + n_right);
    }
    fclose(f);
}

/* Word for word: repeatedly merge all occurrences of the lowest-rank adjacent pair. */
static size_t slow_merge(const SlowMerges *m, int32_t *ids, size_t n)
{
    for (;;) {
        int32_t a = -1, b = -1;
        int best = NO_RANK;
        size_t n_new = 0;

        for (size_t i = 0; i + 1 < n; i++)
            if (m->rank[ids[i]][ids[i + 1]] < best) {
                a = ids[i];
                b = ids[i + 1];
                best = m->rank[a][b];
            }
        if (best == NO_RANK)
            return n;
        for (size_t i = 0; i < n;) {
            if (i + 1 < n && ids[i] == a && ids[i + 1] == b) {
                ids[n_new++] = m->result[a][b];
                i += 2;
            } else {
                ids[n_new++] = ids[i++];
            }
        }
        n = n_new;
    }
}

static size_t slow_encode(const SlowMerges *m, const Tokenizer *t, const char *text, size_t n,
                          int32_t *ids)
{
    size_t n_ids = 0;

    for (size_t pos = 0; pos < n;) {
        const size_t piece = pre_split_next(text + pos, n - pos);

        for (size_t i = 0; i < piece; i++)
            ids[n_ids + i] = tokenizer_find(t, text + pos + i, 1);
        n_ids += slow_merge(m, ids + n_ids, piece);
        pos += piece;
    }
    return n_ids;
}

static void same_as_slow_bpe(void **state)
{
    static const char *const words[] = {"the", "ther", "ing",    "citizen",  "CORIOLANUS", "aaaa",
                                        "ss",  "thou", " ",      "  ",       "\n",         "'s",
                                        "'ll", "!",    "12",     "\xc3\xa9", "and",        "eee",
                                        "ou",  "hath", "rather", "tion",     "\xff"};
    Tokenizer *t = load(SHAKESPEARE);
    SlowMerges *m = allocate(sizeof *m);
    int32_t ids[600];
    char text[600];
    uint32_t seed = 9;

    (void)state;
    slow_load(m, t, SHAKESPEARE "/merges.txt");
    for (int round = 0; round < 3000; round++) {
        const size_t n_words = sizeof words / sizeof words[0];
        const bool one_piece = round % 3 == 0;
        size_t n = 0;

        for (uint32_t k = next_random(&seed) % 40; k > 0; k--) {
            const char *word = words[next_random(&seed) % n_words];

            if (one_piece && (unsigned char)((word[0] | 0x20) - 'a') > 25)
                continue;
            memcpy(text + n, word, strlen(word));
            n += strlen(word);
        }
        assert_ids(t, text, n, false, ids, slow_encode(m, t, text, n, ids));
    }
    free(m);
    tokenizer_free(t);
}

/* All strings of a and b up to 5 letters are tokens (62), a random choice of all ways to split them
 * are merges in random order: also merges that prefer a token before anything can make it, and
 * several that make the same token. */
static void write_strange_model(uint32_t *seed)
{
    char *text = allocate(MAX_FILE), merges[256][16];
    size_t n = 1, n_text = 0;
    int id = 256, n_merges = 0;

    text[0] = '{';
    n += print_bytes(text + 1);
    for (int length = 2; length <= 5; length++)
        for (int bits = 0; bits < 1 << length; bits++) {
            char token[8] = {0};

            for (int i = 0; i < length; i++)
                token[i] = bits >> i & 1 ? 'b' : 'a';
            n += (size_t)sprintf(text + n, "\"%s\": %d, ", token, id++);
            for (int cut = 1; cut < length; cut++)
                if (next_random(seed) % 2)
                    (void)sprintf(merges[n_merges++], "%.*s %s\n", cut, token, token + cut);
        }
    (void)sprintf(text + n, "\"<|endoftext|>\": %d}", id);
    put_file("vocab.json", text, strlen(text));
    assert_true(n_merges > 0);
    for (int left = n_merges; left > 0; left--) {
        const uint32_t pick = next_random(seed) % (uint32_t)left;

        n_text += (size_t)sprintf(text + n_text, "%s", merges[pick]);
        memmove(merges[pick], merges[left - 1], sizeof merges[0]);
    }
    put_file("merges.txt", text, n_text);
    free(text);
}

static void same_as_slow_bpe_for_strange_merges(void **state)
{
    SlowMerges *m = allocate(sizeof *m);
    char text[200];
    uint32_t seed = 4;
    int32_t ids[200];

    (void)state;
    for (int model = 0; model < 40; model++) {
        write_strange_model(&seed);

        Tokenizer *t = load(folder);

        slow_load(m, t, path_of("merges.txt"));
        for (int round = 0; round < 200; round++) {
            const size_t n = next_random(&seed) % (round % 2 ? 30 : sizeof text);

            for (size_t i = 0; i < n; i++)
                text[i] = next_random(&seed) % 2 ? 'a' : 'b';
            assert_ids(t, text, n, false, ids, slow_encode(m, t, text, n, ids));
        }
        tokenizer_free(t);
    }
    free(m);
}

/* "ab a" is preferred to "a b", but needs its result: all "a b" are merged before "ab a" is looked
 * at. */
static void a_round_merges_all_occurrences(void **state)
{
    static const int32_t want[] = {256, 256};
    char *text = allocate(MAX_FILE);
    size_t n = 1;

    (void)state;
    text[0] = '{';
    n += print_bytes(text + 1);
    (void)sprintf(text + n, "\"ab\": 256, \"aba\": 257}");
    put_file("vocab.json", text, strlen(text));
    put_file("merges.txt", "ab a\na b\n", 9);

    Tokenizer *t = load(folder);
    int32_t ids[40];

    assert_ids(t, "abab", 4, false, want, 2);
    /* The same in a piece that takes the other way through the code. */
    for (int i = 0; i < 40; i++) {
        text[i] = i % 2 ? 'b' : 'a';
        ids[i] = 256;
    }
    assert_ids(t, text, 40, false, ids, 20);
    assert_int_equal(tokenizer_end_of_text(t), -1);
    tokenizer_free(t);
    free(text);
}

static double seconds_to_encode(const Tokenizer *t, TokenizerScratch *s, const char *text, size_t n,
                                int32_t *ids, int repeat)
{
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < repeat; i++) {
        const uint64_t start = clock_cpu_ns();

        assert_true(tokenizer_encode(t, s, text, n, false, ids) <= n);

        const uint64_t took = clock_cpu_ns() - start;

        best = took < best ? took : best;
    }
    return (double)best * 1e-9;
}

static void fill(char *text, size_t n, const char *unit)
{
    const size_t length = strlen(unit);

    for (size_t i = 0; i < n; i++)
        text[i] = unit[i % length];
}

static void megabyte_in_under_a_second(const Tokenizer *t)
{
    static const struct {
        const char *name, *unit;
    } cases[] = {{"one letter", "a"},
                 {"one capital", "A"},
                 {"blanks", " "},
                 {"line feeds", "\n"},
                 {"digits", "7"},
                 {"dashes", "-"},
                 {"two letters", "he"},
                 {"words without blanks", "thequickbrownfox"},
                 {"combining marks", "\xcc\x81"},
                 {"broken bytes", "\xff"}};
    TokenizerScratch *s = tokenizer_scratch_new(MEGABYTE);
    int32_t *ids = allocate(MEGABYTE * sizeof ids[0]);
    char *text = allocate(MEGABYTE);

    assert_non_null(s);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fill(text, MEGABYTE, cases[i].unit);

        const double seconds = seconds_to_encode(t, s, text, MEGABYTE, ids, 1);

        printf("# 1 MB of %s: %.0f ms\n", cases[i].name, seconds * 1e3);
        if (timing_counts())
            assert_true(seconds < 1.0);
    }
    free(text);
    free(ids);
    tokenizer_scratch_free(s);
}

static void long_pieces_shakespeare(void **state)
{
    Tokenizer *t = load(SHAKESPEARE);

    (void)state;
    megabyte_in_under_a_second(t);
    tokenizer_free(t);
}

static void long_pieces_gpt2(void **state)
{
    Tokenizer *t = load_gpt2();

    (void)state;
    megabyte_in_under_a_second(t);
    tokenizer_free(t);
}

/* a, aa, aaaa, ...: every level of merging touches the whole piece. */
static void long_pieces_that_merge_fully(void **state)
{
    char *text = allocate(MAX_FILE);
    size_t n = 1, n_merges = 0;
    char merges[4096];

    (void)state;
    text[0] = '{';
    n += print_bytes(text + 1);
    for (int length = 1, id = 256; length <= 512; length *= 2) {
        char a[1025];

        memset(a, 'a', sizeof a);
        n += (size_t)sprintf(text + n, "%s\"%.*s\": %d", id == 256 ? "" : ", ", 2 * length, a, id);
        n_merges += (size_t)sprintf(merges + n_merges, "%.*s %.*s\n", length, a, length, a);
        id++;
    }
    strcpy(text + n, "}");
    put_file("vocab.json", text, strlen(text));
    put_file("merges.txt", merges, n_merges);
    free(text);

    Tokenizer *t = load(folder);
    int32_t *ids = allocate(MEGABYTE * sizeof ids[0]);

    text = allocate(MEGABYTE);
    fill(text, MEGABYTE, "a");
    /* 1,000,000 = 976 * 1024 + 512 + 64 */
    assert_int_equal(encode(t, text, MEGABYTE, false, ids), 978);
    assert_int_equal(ids[0], 265);
    assert_int_equal(ids[975], 265);
    assert_int_equal(ids[976], 264);
    assert_int_equal(ids[977], 261);
    megabyte_in_under_a_second(t);
    free(text);
    free(ids);
    tokenizer_free(t);
}

static void long_pieces_cost_at_most_ten_times_ordinary_text(void **state)
{
    enum { N = 32768, REPEAT = 7 };
    static const char *const units[] = {"a", " ", "\xcc\x81", "he"};
    Tokenizer *t = load(SHAKESPEARE);
    TokenizerScratch *s = tokenizer_scratch_new(2 * N);
    int32_t *ids = allocate(2 * N * sizeof ids[0]);
    char *text = allocate(2 * N);

    (void)state;
    assert_non_null(s);
    fill(text, 2 * N,
         "Before we proceed any further, hear me speak.\nYou are all resolved rather to die?\n\n");

    const double ordinary = seconds_to_encode(t, s, text, N, ids, REPEAT);

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        const size_t n = N * strlen(units[i]);

        fill(text, n, units[i]);

        const double seconds = seconds_to_encode(t, s, text, n, ids, REPEAT);

        printf("# %.2f times ordinary text\n", seconds / ordinary);
        if (timing_counts())
            assert_true(seconds < 10.0 * ordinary * (double)strlen(units[i]));
    }
    free(text);
    free(ids);
    tokenizer_scratch_free(s);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_slow_bpe),
        cmocka_unit_test_setup_teardown(same_as_slow_bpe_for_strange_merges, make_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(a_round_merges_all_occurrences, make_folder, leave_folder),
        cmocka_unit_test(long_pieces_shakespeare),
        cmocka_unit_test(long_pieces_gpt2),
        cmocka_unit_test_setup_teardown(long_pieces_that_merge_fully, make_folder, leave_folder),
        cmocka_unit_test(long_pieces_cost_at_most_ten_times_ordinary_text),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("bpe", tests, NULL, NULL);
}
