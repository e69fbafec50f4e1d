/* cli/eval_report.c: see eval_report.h.
 *
 * May include: common, eval, kernels, report. */
#include "cli/eval_report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "eval/perplexity.h"
#include "report/terminal.h"

/* --- the table --- */

enum { NAME_BYTES = 128 };

static void model_name(char out[NAME_BYTES], const Gpt2 *m)
{
    char name[NAME_BYTES - GPT2_TYPES_BYTES - 1];

    (void)text_escape(name, sizeof name, m->name, strlen(m->name));
    (void)snprintf(out, NAME_BYTES, "%s %s", name, m->types);
}

static void add_line(JsonBuf *out, bool colour, const char *name, const char *value)
{
    char padded[32];

    (void)snprintf(padded, sizeof padded, "%-19s", name);
    term_text(out, colour, TERM_HEAD, padded);
    json_buf_printf(out, "%s\n", value);
}

static void add_mean(JsonBuf *out, bool colour, const char *name, const WindowMean *m,
                     const char *unit)
{
    const double error = window_mean_error(m);
    char value[96];

    if (isnan(error))
        (void)snprintf(value, sizeof value, "%.6g %s", window_mean_value(m), unit);
    else
        (void)snprintf(value, sizeof value, "%.6g +- %.2g %s", window_mean_value(m), error, unit);
    add_line(out, colour, name, value);
}

static void add_setup(JsonBuf *out, bool colour, const EvalReport *r)
{
    const WindowsPlan *p = r->plan;
    char value[256], name[NAME_BYTES];

    (void)text_escape(name, sizeof name, r->text->name, strlen(r->text->name));
    (void)snprintf(value, sizeof value, "%s: %zu tokens predicted, %zu bytes%s", name,
                   r->text->n_ids - 1, r->text->n_bytes,
                   r->bos ? "" : " (the first token has nothing before it)");
    add_line(out, colour, "text", value);
    (void)snprintf(value, sizeof value,
                   "%zu of at most %d inputs, stride %d: every token once, with %d or more before "
                   "it",
                   windows_count(p->n_ids, p->context, p->stride), p->context, p->stride,
                   p->context - p->stride + 1);
    add_line(out, colour, "windows", value);
    (void)snprintf(value, sizeof value, "%.0f tokens/s (%.1f s, %s, keys and values %s)",
                   (double)(r->text->n_ids - 1) / r->seconds, r->seconds, p->k->name,
                   kern_type_name(p->kv_type));
    add_line(out, colour, "speed", value);
}

static void add_perplexities(JsonBuf *out, bool colour, const EvalReport *r)
{
    static const char *const headings[] = {"model", "perplexity", "nats/token", "+-", "bits/byte"};
    TermTable table;

    term_table_begin(&table, headings, "lrrrr", colour);
    for (int i = 0; i < r->plan->n_models; i++) {
        const WindowMean *nll = &r->divergence.nll[i];
        const double error = window_mean_error(nll);
        char name[NAME_BYTES];

        model_name(name, r->plan->models[i]);
        term_table_cell(&table, TERM_PLAIN, "%s", name);
        term_table_cell(&table, TERM_PLAIN, "%.4f", exp(window_mean_value(nll)));
        term_table_cell(&table, TERM_PLAIN, "%.5f", window_mean_value(nll));
        if (isnan(error))
            term_table_cell(&table, TERM_PLAIN, "-");
        else
            term_table_cell(&table, TERM_PLAIN, "%.5f", error);
        term_table_cell(&table, TERM_PLAIN, "%.5f",
                        perplexity_bits_per_byte(nll, r->text->n_bytes));
    }
    term_table_print(&table, out);
}

static void add_divergence(JsonBuf *out, bool colour, const EvalReport *r)
{
    const Divergence *d = &r->divergence;
    const double ratio = exp(window_mean_value(&d->loss));
    char value[160];

    json_buf_printf(out, "\n");
    (void)snprintf(value, sizeof value, "%.6f (%+.3f %%)", ratio, 100.0 * (ratio - 1.0));
    add_line(out, colour, "perplexity ratio", value);
    add_mean(out, colour, "loss", &d->loss, "nats/token more than the first model");
    add_mean(out, colour, "KL divergence", &d->kl, "nats/token, KL(first || second)");
    (void)snprintf(value, sizeof value, "median %.3g, p99 %.3g, largest %.3g nats", d->kl_p50,
                   d->kl_p99, d->kl_max);
    add_line(out, colour, "  of the tokens", value);
    (void)snprintf(value, sizeof value, "%.3f %% (%zu of %zu tokens)",
                   100.0 * (double)d->n_same_top / (double)d->kl.n, d->n_same_top, d->kl.n);
    add_line(out, colour, "same top token", value);
    (void)snprintf(value, sizeof value, "%.6g", d->largest);
    add_line(out, colour, "largest difference", value);
}

void eval_table(JsonBuf *out, const EvalReport *r)
{
    const bool colour = term_wants_colour();

    add_setup(out, colour, r);
    json_buf_printf(out, "\n");
    add_perplexities(out, colour, r);
    if (r->plan->n_models == 2)
        add_divergence(out, colour, r);
}

/* --- JSON --- */

/* JSON has no NaN and no infinity. */
static void add_number(JsonBuf *out, const char *name, double x)
{
    if (isfinite(x))
        json_buf_printf(out, ",\"%s\":%.17g", name, x);
    else
        json_buf_printf(out, ",\"%s\":null", name);
}

static void add_model(JsonBuf *out, const EvalReport *r, int i)
{
    const Gpt2 *m = r->plan->models[i];
    const WindowMean *nll = &r->divergence.nll[i];

    json_buf_printf(out, "{\"name\":");
    json_buf_string(out, m->name, strlen(m->name));
    json_buf_printf(out, ",\"path\":");
    json_buf_string(out, m->path, strlen(m->path));
    json_buf_printf(out, ",\"types\":\"%s\"", m->types);
    add_number(out, "perplexity", exp(window_mean_value(nll)));
    add_number(out, "nats_per_token", window_mean_value(nll));
    add_number(out, "nats_per_token_error", window_mean_error(nll));
    add_number(out, "bits_per_byte", perplexity_bits_per_byte(nll, r->text->n_bytes));
    json_buf_printf(out, "}");
}

static void add_divergence_json(JsonBuf *out, const EvalReport *r)
{
    const Divergence *d = &r->divergence;

    json_buf_printf(out, ",\"against\":");
    add_model(out, r, 1);
    add_number(out, "perplexity_ratio", exp(window_mean_value(&d->loss)));
    add_number(out, "loss", window_mean_value(&d->loss));
    add_number(out, "loss_error", window_mean_error(&d->loss));
    json_buf_printf(out, ",\"kl\":{\"unit\":\"nats\"");
    add_number(out, "mean", window_mean_value(&d->kl));
    add_number(out, "mean_error", window_mean_error(&d->kl));
    add_number(out, "p50", d->kl_p50);
    add_number(out, "p99", d->kl_p99);
    add_number(out, "max", d->kl_max);
    json_buf_printf(out, "},\"same_top\":%zu", d->n_same_top);
    add_number(out, "same_top_share", (double)d->n_same_top / (double)d->kl.n);
    add_number(out, "largest_logit_difference", d->largest);
}

void eval_json(JsonBuf *out, const EvalReport *r)
{
    const WindowsPlan *p = r->plan;

    json_buf_printf(out, "{\"text\":");
    json_buf_string(out, r->text->name, strlen(r->text->name));
    json_buf_printf(out, ",\"tokens\":%zu,\"bytes\":%zu,\"bos\":%s,\"context\":%d,\"stride\":%d,",
                    p->n_ids - 1, r->text->n_bytes, r->bos ? "true" : "false", p->context,
                    p->stride);
    json_buf_printf(out, "\"windows\":%zu,\"isa\":\"%s\",\"kv_type\":\"%s\"",
                    windows_count(p->n_ids, p->context, p->stride), p->k->name,
                    kern_type_name(p->kv_type));
    add_number(out, "seconds", r->seconds);
    add_number(out, "tokens_per_sec", (double)(p->n_ids - 1) / r->seconds);
    json_buf_printf(out, ",\"model\":");
    add_model(out, r, 0);
    if (p->n_models == 2)
        add_divergence_json(out, r);
    json_buf_printf(out, "}\n");
}
