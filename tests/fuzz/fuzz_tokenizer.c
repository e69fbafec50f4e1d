/* tests/fuzz/fuzz_tokenizer.c: any bytes through the shipped tokenizer: they encode as the
 * definition says and decode to themselves; any ids, in any pieces, decode to valid UTF-8. */
#include "tokenizer_fuzz.h"

#include "tokenizer/pre_split.h"

enum { MAX_VOCAB = 1024, MAX_NAIVE = 400, NO_RANK = 0x7fff };

static const Tokenizer *shipped(void)
{
    static Tokenizer *t;
    Err err = {ERR_OK, ""};

    if (t == NULL)
        FUZZ_CHECK(tokenizer_load(&t, "models/shakespeare", &err) == ERR_OK);
    return t;
}

/* --- the definition, in the plainest way --- */

typedef struct {
    int16_t rank[MAX_VOCAB][MAX_VOCAB], joined[MAX_VOCAB][MAX_VOCAB];
} Pairs;

static void fill_pairs(Pairs *p, const Tokenizer *t)
{
    FUZZ_CHECK(tokenizer_vocab_size(t) <= MAX_VOCAB && tokenizer_n_merges(t) < NO_RANK);
    for (int i = 0; i < MAX_VOCAB; i++)
        for (int j = 0; j < MAX_VOCAB; j++)
            p->rank[i][j] = NO_RANK;
    for (int rank = 0; rank < tokenizer_n_merges(t); rank++) {
        char bytes[2048];
        int left, right;
        size_t n_left, n_right;

        tokenizer_merge(t, rank, &left, &right);

        const char *a = tokenizer_token(t, left, &n_left);
        const char *b = tokenizer_token(t, right, &n_right);

        FUZZ_CHECK(n_left + n_right <= sizeof bytes);
        memcpy(bytes, a, n_left);
        memcpy(bytes + n_left, b, n_right);
        p->rank[left][right] = (int16_t)rank;
        p->joined[left][right] = (int16_t)tokenizer_find(t, bytes, n_left + n_right);
    }
}

/* Merges all pairs of the best rank, from left to right, until none is left. */
static size_t merge_naively(const Pairs *p, int32_t *ids, size_t n)
{
    for (;;) {
        int best = NO_RANK;
        size_t kept = 0;

        for (size_t i = 0; i + 1 < n; i++)
            if (p->rank[ids[i]][ids[i + 1]] < best)
                best = p->rank[ids[i]][ids[i + 1]];
        if (best == NO_RANK)
            return n;
        for (size_t i = 0; i < n; kept++) {
            const bool pair = i + 1 < n && p->rank[ids[i]][ids[i + 1]] == best;

            ids[kept] = pair ? p->joined[ids[i]][ids[i + 1]] : ids[i];
            i += pair ? 2 : 1;
        }
        n = kept;
    }
}

static void check_definition(const Tokenizer *t, const char *text, size_t n)
{
    static Pairs pairs;
    static bool filled;
    int32_t want[MAX_NAIVE], got[MAX_NAIVE];
    size_t n_want = 0;

    if (n > MAX_NAIVE)
        return;
    if (!filled)
        fill_pairs(&pairs, t);
    filled = true;
    for (size_t at = 0, length; at < n; at += length) {
        length = pre_split_next(text + at, n - at);
        FUZZ_CHECK(length >= 1 && length <= n - at);
        for (size_t i = 0; i < length; i++)
            want[n_want + i] = tokenizer_find(t, text + at + i, 1);
        n_want += merge_naively(&pairs, want + n_want, length);
    }
    FUZZ_CHECK(encode_exactly(t, text, n, false, got) == n_want);
    FUZZ_CHECK(memcmp(got, want, n_want * sizeof want[0]) == 0);
}

/* --- decoding --- */

/* Two bytes are an id, the tokens are pushed one by one; pushed at once they give the same. */
static void check_decoding(const Tokenizer *t, const uint8_t *data, size_t size)
{
    const size_t longest = tokenizer_longest_token(t), n_ids = size / 2;
    const size_t room = 3 * (n_ids * longest + 3);
    char *bytes = malloc(n_ids * longest + 1), *pieces = malloc(room + 3),
         *whole = malloc(room + 3);
    Utf8Stream u = {.n_held = 0}, v = {.n_held = 0};
    size_t n_bytes = 0, n_pieces = 0, n_whole;

    FUZZ_CHECK(bytes != NULL && pieces != NULL && whole != NULL);
    for (size_t i = 0; i < n_ids; i++) {
        const int id = (data[2 * i] << 8 | data[2 * i + 1]) % tokenizer_vocab_size(t);
        size_t n;
        const char *token = tokenizer_token(t, id, &n);
        const size_t got = utf8_stream_push(&u, token, n, pieces + n_pieces);

        FUZZ_CHECK(got <= 3 * (n + 3) && text_utf8_valid(pieces + n_pieces, got));
        n_pieces += got;
        memcpy(bytes + n_bytes, token, n);
        n_bytes += n;
    }
    n_pieces += utf8_stream_flush(&u, pieces + n_pieces);
    n_whole = utf8_stream_push(&v, bytes, n_bytes, whole);
    n_whole += utf8_stream_flush(&v, whole + n_whole);
    FUZZ_CHECK(n_whole == n_pieces && memcmp(whole, pieces, n_whole) == 0);
    FUZZ_CHECK(text_utf8_valid(whole, n_whole));
    if (text_utf8_valid(bytes, n_bytes))
        FUZZ_CHECK(n_whole == n_bytes && memcmp(whole, bytes, n_bytes) == 0);
    free(whole);
    free(pieces);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const Tokenizer *t = shipped();

    check_encoding(t, (const char *)data, size, false);
    check_encoding(t, (const char *)data, size, true);
    check_definition(t, (const char *)data, size);
    check_decoding(t, data, size);
    return 0;
}
