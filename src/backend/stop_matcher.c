/* backend/stop_matcher.c: one Knuth-Morris-Pratt automaton a string, all fed byte by byte.
 *
 * Bytes are enough: UTF-8 that begins at a character and equals the beginning of a stop string is
 * made of whole characters as soon as the pushed text is.
 *
 * May include: common. */
#include "backend/stop_matcher.h"

#include <string.h>

#include "common/text.h"

static void find_borders(StopString *s)
{
    size_t k = 0;

    s->border[0] = 0;
    for (size_t i = 1; i < s->n_bytes; i++) {
        while (k > 0 && s->text[i] != s->text[k])
            k = s->border[k - 1];
        if (s->text[i] == s->text[k])
            k++;
        s->border[i] = (uint16_t)k;
    }
}

static ErrCode check_stop(const BackendText *stop, int i, Err *err)
{
    if (stop->n_bytes == 0)
        return err_set(err, ERR_LIMIT, "stop sequence %d must not be empty", i);
    if (!text_utf8_valid(stop->text, stop->n_bytes))
        return err_set(err, ERR_FORMAT, "stop sequence %d is not valid UTF-8", i);

    const size_t n = text_utf8_count(stop->text, stop->n_bytes);
    if (n > BACKEND_MAX_STOP_CHARS)
        return err_set(err, ERR_LIMIT, "stop sequence %d must be at most %d characters (got %zu)",
                       i, BACKEND_MAX_STOP_CHARS, n);
    return ERR_OK;
}

ErrCode stop_matcher_init(StopMatcher *m, const BackendText *stops, int n_stops, Err *err)
{
    if (n_stops < 0 || n_stops > BACKEND_MAX_STOPS)
        return err_set(err, ERR_LIMIT, "stop must have at most %d sequences (got %d)",
                       BACKEND_MAX_STOPS, n_stops);
    for (int i = 0; i < n_stops; i++) {
        const ErrCode code = check_stop(&stops[i], i, err);
        if (code != ERR_OK)
            return code;
    }
    for (int i = 0; i < n_stops; i++) {
        StopString *s = &m->stops[i];

        memcpy(s->text, stops[i].text, stops[i].n_bytes);
        s->n_bytes = stops[i].n_bytes;
        s->n_matched = 0;
        find_borders(s);
    }
    m->n_stops = n_stops;
    m->matched = -1;
    m->n_held = 0;
    return ERR_OK;
}

/* One more byte of text; true when it completes the string. */
static bool stop_advance(StopString *s, char c)
{
    size_t k = s->n_matched;

    while (k > 0 && s->text[k] != c)
        k = s->border[k - 1];
    if (s->text[k] == c)
        k++;
    s->n_matched = k;
    return k == s->n_bytes;
}

/* Feeds all automata with one byte; the index of the first string in the list that it completes, or
 * -1. */
static int advance_all(StopMatcher *m, char c)
{
    int found = -1;

    for (int i = 0; i < m->n_stops; i++)
        if (stop_advance(&m->stops[i], c) && found < 0)
            found = i;
    return found;
}

/* Writes the first n bytes of held text followed by text[..]; returns n. */
static size_t give_out(const StopMatcher *m, const char *text, size_t n, char *out)
{
    const size_t from_held = n < m->n_held ? n : m->n_held;

    memcpy(out, m->held, from_held);
    memcpy(out + from_held, text, n - from_held);
    return n;
}

/* The last n bytes of held text followed by text[0..n_text) become the held text. */
static void hold(StopMatcher *m, const char *text, size_t n_text, size_t n)
{
    const size_t from_text = n < n_text ? n : n_text;
    const size_t from_held = n - from_text;

    memmove(m->held, m->held + (m->n_held - from_held), from_held);
    memcpy(m->held + from_held, text + (n_text - from_text), from_text);
    m->n_held = n;
}

size_t stop_matcher_push(StopMatcher *m, const char *text, size_t n, char *out)
{
    size_t keep = 0;

    if (m->matched >= 0 || n == 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        const int found = advance_all(m, text[i]);

        if (found >= 0) {
            const size_t end = m->n_held + i + 1;

            m->matched = found;
            return give_out(m, text, end - m->stops[found].n_bytes, out);
        }
    }
    for (int i = 0; i < m->n_stops; i++)
        keep = m->stops[i].n_matched > keep ? m->stops[i].n_matched : keep;

    const size_t n_out = give_out(m, text, m->n_held + n - keep, out);
    hold(m, text, n, keep);
    return n_out;
}

size_t stop_matcher_flush(StopMatcher *m, char *out)
{
    const size_t n = m->matched >= 0 ? 0 : m->n_held;

    memcpy(out, m->held, n);
    m->n_held = 0;
    return n;
}
