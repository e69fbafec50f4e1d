/* tests/fuzz/fuzz_stop_matcher.c: stop strings over a text that comes in any pieces, against the
 * definition.
 *
 * The input: the number of stop strings, a byte of length and the bytes for each; the rest is text,
 * whose pieces are as long as the low bits of their first bytes say. */
#include "fuzz.h"

#include "../stop_rig.h"
#include "backend/stop_matcher.h"

enum { MAX_TEXT = 512 };

typedef struct {
    const uint8_t *at;
    size_t left;
} Input;

static size_t take_byte(Input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->at++;
}

static BackendText take_text(Input *in)
{
    const size_t wanted = take_byte(in), n = wanted < in->left ? wanted : in->left;
    const BackendText text = {.text = (const char *)in->at, .n_bytes = n};

    in->at += n;
    in->left -= n;
    return text;
}

/* What came out so far is what the definition lets out of the bytes that went in. */
static void check_so_far(const StopMatcher *m, Input text, size_t done, const BackendText *stops,
                         int n_stops, const char *out, size_t n_out)
{
    const char *start = (const char *)text.at;
    const Cut want = naive_cut(start, done, stops, n_stops);
    const size_t held = want.matched < 0 ? naive_held(start, done, stops, n_stops) : 0;

    FUZZ_CHECK(m->matched == want.matched && n_out == want.n_out - held);
    FUZZ_CHECK(memcmp(out, start, n_out) == 0);
}

static void push_all(StopMatcher *m, Input text, const BackendText *stops, int n_stops)
{
    static char out[MAX_TEXT + STOP_MAX_BYTES];
    const char *start = (const char *)text.at;
    size_t done = 0, n_out = 0;

    while (done < text.left && m->matched < 0) {
        const size_t left = text.left - done, wanted = 1 + text.at[done] % 8;
        const size_t len = wanted < left ? wanted : left;
        /* Exactly as large as it must be. */
        char *piece = malloc(STOP_MAX_BYTES + len);

        FUZZ_CHECK(piece != NULL);

        const size_t got = stop_matcher_push(m, start + done, len, piece);

        FUZZ_CHECK(got <= STOP_MAX_BYTES + len && n_out + got <= sizeof out);
        memcpy(out + n_out, piece, got);
        free(piece);
        n_out += got;
        done += len;
        check_so_far(m, text, done, stops, n_stops, out, n_out);
    }

    const Cut want = naive_cut(start, done, stops, n_stops);

    FUZZ_CHECK(n_out + STOP_MAX_BYTES <= sizeof out);
    n_out += stop_matcher_flush(m, out + n_out);
    FUZZ_CHECK(n_out == want.n_out && memcmp(out, start, n_out) == 0);
    FUZZ_CHECK(want.matched < 0 || stop_matcher_push(m, "x", 1, out) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static StopMatcher m;
    BackendText stops[BACKEND_MAX_STOPS + 1];
    Input in = {data, size};
    Err err = {ERR_OK, ""};
    const int n_stops = (int)(take_byte(&in) % (BACKEND_MAX_STOPS + 2));

    for (int i = 0; i < n_stops; i++)
        stops[i] = take_text(&in);
    if (in.left > MAX_TEXT)
        in.left = MAX_TEXT;

    const ErrCode code = stop_matcher_init(&m, stops, n_stops, &err);

    if (code != ERR_OK)
        fuzz_check_refusal(code, &err);
    else
        push_all(&m, in, stops, n_stops);
    return 0;
}
