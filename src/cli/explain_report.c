/* cli/explain_report.c: see explain_report.h.
 *
 * May include: common, eval, kernels, report, tokenizer. */
#include "cli/explain_report.h"

#include <math.h>
#include <string.h>

#include "common/text.h"
#include "report/terminal.h"

enum { CANDIDATES_PER_LINE = 5, QUOTED_BYTES = 20, QUOTED_ROOM = 8 * QUOTED_BYTES + 8 };

static bool is_greedy(const ExplainReport *r)
{
    return r->options->sampling.temperature < 1e-6f; /* sampler.h */
}

/* The beginning of a text in quotes, so that blanks show: quotes and backslashes of its own get a
 * backslash, line ends and bytes that are no character are written as escapes. */
static void quote(char out[QUOTED_ROOM], const char *text, size_t n)
{
    char plain[2 * QUOTED_BYTES] = "", escaped[QUOTED_ROOM - 8];
    size_t n_plain = 0;

    for (size_t i = 0; i < n && i < QUOTED_BYTES; i++) {
        if (text[i] == '"' || text[i] == '\\')
            plain[n_plain++] = '\\';
        plain[n_plain++] = text[i];
    }
    (void)text_escape(escaped, sizeof escaped, plain, n_plain);
    (void)snprintf(out, QUOTED_ROOM, "\"%s\"%s", escaped, n > QUOTED_BYTES ? "..." : "");
}

static void quote_token(char out[QUOTED_ROOM], const Tokenizer *t, int id)
{
    size_t n;
    const char *bytes = tokenizer_token(t, id, &n);

    quote(out, bytes, n);
}

/* --- the tables --- */

static void percent_text(char out[16], double p)
{
    if (p > 0.0 && p < 0.0005)
        (void)snprintf(out, 16, "<0.1%%");
    else
        (void)snprintf(out, 16, "%.1f%%", 100.0 * p);
}

static void percent_cell(TermTable *t, double p)
{
    char text[16];

    percent_text(text, p);
    term_table_cell(t, TERM_PLAIN, "%s", text);
}

/* The best of a row, from the first-th on, as the cells of one line. */
static void candidate_cells(TermTable *t, const ExplainReport *r, const CandidateRow *row,
                            int first, int per_line)
{
    char quoted[QUOTED_ROOM], percent[16];

    for (int i = first; i < first + per_line; i++) {
        if (i >= row->n_best) {
            term_table_cell(t, TERM_PLAIN, "%s", "");
            continue;
        }
        quote_token(quoted, r->tokenizer, row->best[i].id);
        percent_text(percent, row->best[i].probability);
        term_table_cell(t, row->best[i].id == row->id ? TERM_GOOD : TERM_PLAIN, "%5s %s", percent,
                        quoted);
    }
}

/* What stands behind number, token, p, rank and entropy. */
typedef enum { COLUMN_NONE, COLUMN_SURPRISE, COLUMN_DRAWN } LastColumn;

static void row_cells(TermTable *t, const ExplainReport *r, int position, const CandidateRow *row,
                      LastColumn last)
{
    char quoted[QUOTED_ROOM];

    quote_token(quoted, r->tokenizer, row->id);
    term_table_cell(t, TERM_WEAK, "%d", position);
    term_table_cell(t, row->rank <= row->n_best ? TERM_GOOD : TERM_BAD, "%s", quoted);
    percent_cell(t, row->probability);
    term_table_cell(t, TERM_PLAIN, "%d", row->rank);
    term_table_cell(t, TERM_PLAIN, "%.2f", row->entropy_bits);
    if (last == COLUMN_SURPRISE)
        term_table_cell(t, TERM_PLAIN, "%.2f", row->surprise_bits);
    if (last == COLUMN_DRAWN)
        percent_cell(t, row->drawn);
}

typedef struct {
    const CandidateRow *rows;
    int n, first_position;
    LastColumn last;
} Part;

static void add_table(JsonBuf *out, const ExplainReport *r, const Part *part, int per_line,
                      bool colour)
{
    static const char *const left[] = {"#", "token", "p", "rank", "entropy"};
    static const char *const nth[CANDIDATES_PER_LINE] = {"    1", "    2", "    3", "    4",
                                                         "    5"};
    const int n_left = part->last == COLUMN_NONE ? 5 : 6;
    const char *headings[6 + CANDIDATES_PER_LINE];
    char align[6 + CANDIDATES_PER_LINE + 1] = "rlrrrr";
    TermTable table;

    for (int i = 0; i < 5; i++)
        headings[i] = left[i];
    headings[5] = part->last == COLUMN_SURPRISE ? "surprise" : "drawn";
    for (int i = 0; i < per_line; i++)
        headings[n_left + i] = nth[i];
    memset(align + n_left, 'l', (size_t)per_line);
    align[n_left + per_line] = '\0';
    term_table_begin(&table, headings, align, colour);
    for (int i = 0; i < part->n; i++) {
        row_cells(&table, r, part->first_position + i, &part->rows[i], part->last);
        for (int c = 0; c < part->rows[i].n_best; c += per_line) {
            for (int blank = 0; c > 0 && blank < n_left; blank++)
                term_table_cell(&table, TERM_PLAIN, "%s", "");
            candidate_cells(&table, r, &part->rows[i], c, per_line);
        }
    }
    term_table_print(&table, out);
}

static size_t longest_line(const JsonBuf *text)
{
    size_t longest = 0;

    for (size_t at = 0; at < text->len;) {
        const char *end = memchr(text->data + at, '\n', text->len - at);
        const size_t n = end != NULL ? (size_t)(end - text->data) - at : text->len - at;
        const size_t n_chars = text_utf8_count(text->data + at, n);

        longest = n_chars > longest ? n_chars : longest;
        at += n + 1;
    }
    return longest;
}

/* As many candidates in a line as the terminal is wide enough for. */
static void fit_table(JsonBuf *out, const ExplainReport *r, const Part *part)
{
    const size_t width = (size_t)term_width();
    int per_line = CANDIDATES_PER_LINE;
    size_t used;

    if (part->n == 0)
        return;
    per_line = per_line < part->rows[0].n_best ? per_line : part->rows[0].n_best;
    do {
        JsonBuf trial = {0};

        add_table(&trial, r, part, per_line, false);
        used = longest_line(&trial);
        json_buf_free(&trial);
    } while (used > width && --per_line > 1);
    add_table(out, r, part, per_line > 1 ? per_line : 1, term_wants_colour());
}

static void add_means(JsonBuf *out, const char *what, const CandidateRow *rows, int n)
{
    double surprise = 0.0, entropy = 0.0;

    for (int i = 0; i < n; i++) {
        surprise += rows[i].surprise_bits / n;
        entropy += rows[i].entropy_bits / n;
    }
    if (n > 0)
        json_buf_printf(out,
                        "%s: %d token%s, mean surprise %.2f bits (perplexity %.2f), mean "
                        "entropy %.2f bits\n",
                        what, n, n == 1 ? "" : "s", surprise, exp2(surprise), entropy);
}

void explain_table(JsonBuf *out, const ExplainReport *r)
{
    const CandidatesOptions *o = r->options;
    const Candidates *f = r->found;
    const Part prompt = {f->rows, f->n_prompt_rows, 1, COLUMN_SURPRISE};
    const Part text = {f->rows + f->n_prompt_rows, f->n_rows - f->n_prompt_rows, o->n_prompt,
                       is_greedy(r) ? COLUMN_NONE : COLUMN_DRAWN};
    const bool colour = term_wants_colour();

    if (o->with_prompt) {
        char quoted[QUOTED_ROOM];

        quote_token(quoted, r->tokenizer, o->prompt[0]);
        term_text(out, colour, TERM_HEAD, "the prompt");
        json_buf_printf(out, ": each token given those before it; the first, %s, has none\n",
                        quoted);
        fit_table(out, r, &prompt);
        json_buf_printf(out, "\n");
    }
    term_text(out, colour, TERM_HEAD, "generated");
    json_buf_printf(out, " after %d tokens of prompt\n", o->n_prompt);
    fit_table(out, r, &text);
    json_buf_printf(out, "\n");
    add_means(out, "prompt", prompt.rows, prompt.n);
    add_means(out, "generated", text.rows, text.n);
    if (f->ended)
        json_buf_printf(out, "the last token ends the text\n");
    json_buf_printf(out,
                    "p, surprise and entropy: softmax of the logits of %s (%s) at temperature "
                    "1, in bits\n",
                    o->model->name, o->model->types);
}

/* --- JSON --- */

static void add_token(JsonBuf *out, const Tokenizer *t, int id)
{
    size_t n;
    const char *bytes = tokenizer_token(t, id, &n);

    json_buf_printf(out, "\"id\":%d,\"text\":", id);
    json_buf_string(out, bytes, n);
}

static void add_row(JsonBuf *out, const ExplainReport *r, int position, const CandidateRow *row)
{
    json_buf_printf(out, "{\"position\":%d,", position);
    add_token(out, r->tokenizer, row->id);
    json_buf_printf(out, ",\"probability\":%.17g,\"rank\":%d,\"surprise_bits\":%.17g,",
                    row->probability, row->rank, row->surprise_bits);
    json_buf_printf(out, "\"entropy_bits\":%.17g,", row->entropy_bits);
    if (!isnan(row->drawn))
        json_buf_printf(out, "\"drawn\":%.9g,", row->drawn);
    json_buf_printf(out, "\"best\":[");
    for (int i = 0; i < row->n_best; i++) {
        json_buf_printf(out, i > 0 ? ",{" : "{");
        add_token(out, r->tokenizer, row->best[i].id);
        json_buf_printf(out, ",\"probability\":%.17g}", row->best[i].probability);
    }
    json_buf_printf(out, "]}");
}

/* The bytes of the generated tokens as far as they are text: special tokens have none. */
static void add_text(JsonBuf *out, const ExplainReport *r)
{
    const Candidates *f = r->found;
    JsonBuf text = {0};

    for (int i = f->n_prompt_rows; i < f->n_rows; i++) {
        size_t n;
        const char *bytes = tokenizer_token(r->tokenizer, f->rows[i].id, &n);

        if (tokenizer_find(r->tokenizer, bytes, n) == f->rows[i].id)
            json_buf_add(&text, bytes, n);
    }
    json_buf_string(out, text.data != NULL ? text.data : "", text.len);
    out->oom |= text.oom;
    json_buf_free(&text);
}

void explain_json(JsonBuf *out, const ExplainReport *r)
{
    const CandidatesOptions *o = r->options;
    const Candidates *f = r->found;

    json_buf_printf(out, "{\"model\":");
    json_buf_string(out, o->model->name, strlen(o->model->name));
    json_buf_printf(out, ",\"types\":\"%s\",\"temperature_of_probabilities\":1,\"prompt_ids\":[",
                    o->model->types);
    for (int i = 0; i < o->n_prompt; i++)
        json_buf_printf(out, i > 0 ? ",%d" : "%d", (int)o->prompt[i]);
    json_buf_printf(out, "],");
    if (o->with_prompt) {
        json_buf_printf(out, "\"prompt_tokens\":[");
        for (int i = 0; i < f->n_prompt_rows; i++) {
            json_buf_printf(out, i > 0 ? "," : "");
            add_row(out, r, i + 1, &f->rows[i]);
        }
        json_buf_printf(out, "],");
    }
    json_buf_printf(out, "\"tokens\":[");
    for (int i = f->n_prompt_rows; i < f->n_rows; i++) {
        json_buf_printf(out, i > f->n_prompt_rows ? "," : "");
        add_row(out, r, o->n_prompt + i - f->n_prompt_rows, &f->rows[i]);
    }
    json_buf_printf(out, "],\"text\":");
    add_text(out, r);
    json_buf_printf(out, ",\"stop_reason\":\"%s\"}\n", f->ended ? "EOS" : "MAX_TOKENS");
}
