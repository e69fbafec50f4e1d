/* tokenizer/pre_split.c: GPT-2's pattern as a scanner. Its alternatives exclude each other by the
 * class of the first character (the one after a blank, if any), so nothing is ever tried twice.
 *
 * May include: common. */
#include "tokenizer/pre_split.h"

#include "common/text.h"
#include "tokenizer/unicode_classes.h"

static UnicodeClass class_at(const char *s, size_t n, size_t *used)
{
    if ((unsigned char)s[0] < 0x80) {
        *used = 1;
        return unicode_class((unsigned char)s[0]);
    }

    const int c = text_utf8_next(s, n, used);

    return c < 0 ? UNICODE_OTHER : unicode_class((uint32_t)c);
}

/* The end of the run of one class that reaches from before pos on. */
static size_t run_end(const char *text, size_t n, size_t pos, UnicodeClass class)
{
    size_t used;

    while (pos < n && class_at(text + pos, n - pos, &used) == class)
        pos += used;
    return pos;
}

/* 's|'t|'re|'ve|'m|'ll|'d, small letters only; 0 when text begins with none of them. */
static size_t contraction(const char *text, size_t n)
{
    if (n < 2 || text[0] != '\'')
        return 0;
    if (text[1] == 's' || text[1] == 't' || text[1] == 'm' || text[1] == 'd')
        return 2;
    if (n > 2 && ((text[1] == 'r' && text[2] == 'e') || (text[1] == 'v' && text[2] == 'e') ||
                  (text[1] == 'l' && text[2] == 'l')))
        return 3;
    return 0;
}

/* \s+(?!\S)|\s+ on text that begins with white space: a run before something else leaves its last
 * character to the next piece, unless it is the only one; a run at the end of the text is one
 * piece. */
static size_t white_space(const char *text, size_t n)
{
    size_t pos = 0, last = 0, used;

    while (pos < n && class_at(text + pos, n - pos, &used) == UNICODE_SPACE) {
        last = pos;
        pos += used;
    }
    return pos == n || last == 0 ? pos : last;
}

size_t pre_split_next(const char *text, size_t n)
{
    const size_t short_form = contraction(text, n);

    if (short_form > 0)
        return short_form;

    const size_t blank = text[0] == ' ' && n > 1 ? 1 : 0;
    size_t used;
    const UnicodeClass class = class_at(text + blank, n - blank, &used);

    return class == UNICODE_SPACE ? white_space(text, n) : run_end(text, n, blank + used, class);
}

const char *pre_split_unicode_version(void)
{
    return unicode_classes_version;
}
