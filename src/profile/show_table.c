/* profile/show_table.c: the profile on a terminal.
 *
 * May include: common, report. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "profile/figures.h"
#include "profile/show.h"
#include "report/terminal.h"

enum { SMALL_SHARE_PERCENT = 1 };

static void add_heading(JsonBuf *out, bool colour, const char *text)
{
    json_buf_printf(out, "\n");
    term_text(out, colour, TERM_HEAD, text);
    json_buf_printf(out, "\n");
}

/* Nothing where there is nothing: a part without multiplications has no GFLOP/s. */
static void add_rate(TermTable *t, TermStyle style, double rate, double most)
{
    if (rate <= 0.0) {
        term_table_cell(t, style, "%s", "");
        term_table_cell(t, style, "%s", "");
        return;
    }
    term_table_cell(t, style, "%.2f", rate);
    if (most > 0.0)
        term_table_cell(t, style, "%.0f %%", 100.0 * rate / most);
    else
        term_table_cell(t, style, "%s", "");
}

static void add_row(TermTable *t, const ProfileReport *r, const char *name, const ProfileRow *row)
{
    const ProfileStat *s = &row->time;
    const TermStyle style = 100.0 * row->share < SMALL_SHARE_PERCENT ? TERM_WEAK : TERM_PLAIN;

    term_table_cell(t, style, "%s", name);
    term_table_cell(t, style, "%" PRIu64, s->calls);
    term_table_cell(t, style, "%.3f", (double)s->total_ns * 1e-6);
    term_table_cell(t, style, "%.2f", (double)s->total_ns * 1e-3 / (double)s->calls);
    term_table_cell(t, style, "%.2f", (double)s->min_ns * 1e-3);
    term_table_cell(t, style, "%.2f", (double)s->max_ns * 1e-3);
    term_table_cell(t, style, "%.1f %%", 100.0 * row->share);
    add_rate(t, style, row->gb_per_s, r->read_gb_per_s);
    add_rate(t, style, row->gflop_per_s, r->fma_gflop_per_s);
}

static void begin_rows(TermTable *t, const char *first, bool colour)
{
    const char *const headings[] = {first,   "calls", "ms",      "mean us", "min us", "max us",
                                    "share", "GB/s",  "of read", "GFLOP/s", "of FMA"};

    term_table_begin(t, headings, "lrrrrrrrrrr", colour);
}

/* Rows that sum to the whole. */
static void add_sum(TermTable *t, const ProfileReport *r, ProfilePhase phase)
{
    uint64_t ns = 0;

    for (int part = 0; part < PROFILE_PARTS; part++)
        ns += profile_sum(r->profile, phase, part).total_ns;
    term_table_cell(t, TERM_HEAD, "sum");
    term_table_cell(t, TERM_HEAD, "%s", "");
    term_table_cell(t, TERM_HEAD, "%.3f", (double)ns * 1e-6);
    for (int i = 0; i < 3; i++)
        term_table_cell(t, TERM_HEAD, "%s", "");
    term_table_cell(t, TERM_HEAD, "%.1f %%",
                    100.0 * (double)ns / (double)r->profile->phase_ns[phase]);
    for (int i = 0; i < 4; i++)
        term_table_cell(t, TERM_HEAD, "%s", "");
}

static void add_phase(JsonBuf *out, const ProfileReport *r, ProfilePhase phase, bool colour)
{
    TermTable t;

    begin_rows(&t, "part", colour);
    for (int part = 0; part < PROFILE_PARTS; part++) {
        const ProfileRow row = profile_row(r->profile, r->kv_type, phase, part, PROFILE_ALL_LAYERS);

        if (row.time.calls > 0)
            add_row(&t, r, profile_part_name(part), &row);
    }
    add_sum(&t, r, phase);
    term_table_print(&t, out);
}

static void add_layers(JsonBuf *out, const ProfileReport *r, ProfilePhase phase, bool colour)
{
    TermTable t;
    char name[64];

    begin_rows(&t, "layer, part", colour);
    for (int layer = 0; layer < r->profile->n_layers; layer++)
        for (int part = 0; part < PROFILE_PARTS; part++) {
            const ProfileRow row = profile_row(r->profile, r->kv_type, phase, part, layer);

            if (row.time.calls == 0)
                continue;
            (void)snprintf(name, sizeof name, "%d %s", layer, profile_part_name(part));
            add_row(&t, r, name, &row);
        }
    term_table_print(&t, out);
}

static double ms(double ns)
{
    return ns * 1e-6;
}

static void add_latency(JsonBuf *out, const ProfileReport *r)
{
    const Profile *p = r->profile;
    const int n = p->n_tokens - 1;

    json_buf_printf(out, "first token  %.3f ms after the request\n", ms((double)p->token_ns[0]));
    json_buf_printf(out, "prompt       %d tokens, %.1f a second\n", p->options.n_prompt,
                    profile_prompt_rate(p));
    if (n == 0)
        return;
    memcpy(r->room, p->token_ns + 1, (size_t)n * sizeof *r->room);
    const ProfileLatency l = profile_latency(r->room, n);
    json_buf_printf(out, "decode       %d tokens, %.1f a second\n", n, profile_decode_rate(p));
    json_buf_printf(out,
                    "a token      mean %.3f, min %.3f, p50 %.3f, p95 %.3f, p99 %.3f, max %.3f ms\n",
                    ms(l.mean_ns), ms((double)l.min_ns), ms((double)l.p50_ns), ms((double)l.p95_ns),
                    ms((double)l.p99_ns), ms((double)l.max_ns));
}

static void add_memory(JsonBuf *out, const ProfileReport *r, bool colour)
{
    static const char *const headings[] = {"after", "looks", "allocated",
                                           "peak",  "live",  "resident"};
    static const int before[] = {MEMORY_LOAD, MEMORY_VOCABULARY, MEMORY_BUFFERS};
    const Memory *m = r->memory;
    TermTable t;

    term_table_begin(&t, headings, "lrrrrr", colour);
    for (int i = -3; i < PROFILE_PARTS; i++) {
        const int stage = i < 0 ? before[i + 3] : i;
        const MemoryStage *s = &m->stages[stage];

        if (s->looks == 0)
            continue;
        term_table_cell(&t, TERM_PLAIN, "%s", memory_stage_name(stage));
        term_table_cell(&t, TERM_PLAIN, "%" PRIu64, s->looks);
        term_table_cell(&t, TERM_PLAIN, "%" PRIu64, s->allocated_bytes);
        term_table_cell(&t, TERM_PLAIN, "%" PRIu64, s->peak_bytes);
        term_table_cell(&t, TERM_PLAIN, "%" PRIu64, s->live_bytes);
        term_table_cell(&t, TERM_PLAIN, "%" PRIu64, s->resident_bytes);
    }
    term_table_print(&t, out);
    json_buf_printf(out,
                    "allocated by the model, the sampler and the tokenizer after the first token: "
                    "%" PRIu64 " bytes\n"
                    "largest resident set: %" PRIu64 " bytes\n",
                    m->steady_allocated_bytes, m->peak_resident_bytes);
}

/* Names come from outside: nothing in them may steer the terminal. */
static void add_escaped(JsonBuf *out, const char *text)
{
    char shown[512];
    const size_t n = text_escape(shown, sizeof shown, text, strlen(text));

    json_buf_add(out, shown, n);
}

static void add_facts(JsonBuf *out, const ProfileReport *r)
{
    json_buf_printf(out, "model        ");
    add_escaped(out, r->model);
    json_buf_printf(out, ", %s, KV cache %s\n", r->types, kern_type_name(r->kv_type));
    json_buf_printf(out, "processor    ");
    add_escaped(out, r->cpu_name);
    json_buf_printf(out, ", cpu %d, kernels %s\n", r->cpu, r->isa);
    json_buf_printf(out, "probes       reads %.1f GB/s of these weights, multiplies %.1f GFLOP/s\n",
                    r->read_gb_per_s, r->fma_gflop_per_s);
}

void profile_show_table(JsonBuf *out, const ProfileReport *r, bool layers, bool colour)
{
    const Profile *p = r->profile;

    add_facts(out, r);
    add_latency(out, r);
    if (r->cost.pairs > 0)
        json_buf_printf(out, "cost         %+.2f %% (median of %d pairs, %+.2f to %+.2f)\n",
                        100.0 * (r->cost.ratio - 1.0), r->cost.pairs,
                        100.0 * (r->cost.least_ratio - 1.0), 100.0 * (r->cost.most_ratio - 1.0));
    for (int phase = 0; phase < PROFILE_PHASES; phase++) {
        if (p->phase_ns[phase] == 0)
            continue;
        add_heading(out, colour,
                    phase == PROFILE_PROMPT ? "Prompt, up to the first token" : "Decoding");
        add_phase(out, r, (ProfilePhase)phase, colour);
        if (layers) {
            json_buf_printf(out, "\n");
            add_layers(out, r, (ProfilePhase)phase, colour);
        }
    }
    add_heading(out, colour, "Memory, in bytes");
    add_memory(out, r, colour);
}
