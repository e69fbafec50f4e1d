/* profile/show_html.c: the profile as a page.
 *
 * May include: common, report. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "profile/figures.h"
#include "profile/show.h"
#include "report/chart.h"
#include "report/page.h"

/* What the bars are made of: more than eight kinds cannot be told apart. */
enum { GROUPS = 8, MAX_BARS = 128, NAME_BYTES = 24 };

static const char *const group_names[GROUPS] = {
    "qkv, c_proj", "cache, attention", "feed-forward",    "norms, sums, embedding",
    "head",        "sampling",         "tokenizer, http", "yield, other"};

static int group_of(int part)
{
    static const int groups[PROFILE_PARTS] = {
        [TAP_PART_EMBEDDING] = 3, [TAP_PART_LN_1] = 3,     [TAP_PART_QKV] = 0,
        [TAP_PART_CACHE] = 1,     [TAP_PART_SCORES] = 1,   [TAP_PART_SOFTMAX] = 1,
        [TAP_PART_VALUES] = 1,    [TAP_PART_C_PROJ] = 0,   [TAP_PART_ADD] = 3,
        [TAP_PART_LN_2] = 3,      [TAP_PART_FC] = 2,       [TAP_PART_GELU] = 2,
        [TAP_PART_PROJ] = 2,      [TAP_PART_LN_F] = 3,     [TAP_PART_HEAD] = 4,
        [PROFILE_SAMPLING] = 5,   [PROFILE_TOKENIZER] = 6, [PROFILE_HTTP] = 6,
        [PROFILE_YIELD] = 7,      [PROFILE_OTHER] = 7};

    return groups[part];
}

static double ms(uint64_t ns)
{
    return (double)ns * 1e-6;
}

/* ---- Facts ---- */

/* A token that waited for a neighbour's time slice would make all others flat. */
enum { TALL = 4 };

static ProfileLatency latency_of(const ProfileReport *r)
{
    const int n = r->profile->n_tokens - 1;

    memcpy(r->room, r->profile->token_ns + 1, (size_t)n * sizeof *r->room);
    return profile_latency(r->room, n);
}

static void add_facts(JsonBuf *out, const ProfileReport *r)
{
    const Profile *p = r->profile;
    const int n = p->n_tokens - 1;

    page_facts_begin(out);
    page_fact(out, "model", "%s, %s, KV cache %s", r->model, r->types, kern_type_name(r->kv_type));
    page_fact(out, "processor", "%s, cpu %d, kernels %s", r->cpu_name, r->cpu, r->isa);
    page_fact(out, "program", "llorch-cpud %s, %s", r->version, r->compiler);
    page_fact(out, "probes", "reads %.1f GB/s of these weights, multiplies %.1f GFLOP/s",
              r->read_gb_per_s, r->fma_gflop_per_s);
    page_fact(out, "first token", "%.3f ms after the request", ms(p->token_ns[0]));
    page_fact(out, "prompt", "%d tokens, %.1f a second", p->options.n_prompt,
              profile_prompt_rate(p));
    if (n > 0) {
        const ProfileLatency l = latency_of(r);

        page_fact(out, "decode", "%d tokens, %.1f a second", n, profile_decode_rate(p));
        page_fact(out, "a token", "mean %.3f, min %.3f, p50 %.3f, p95 %.3f, p99 %.3f, max %.3f ms",
                  l.mean_ns * 1e-6, ms(l.min_ns), ms(l.p50_ns), ms(l.p95_ns), ms(l.p99_ns),
                  ms(l.max_ns));
    }
    if (r->cost.pairs > 0)
        page_fact(out, "cost of the profile", "%+.2f %%, median of %d pairs",
                  100.0 * (r->cost.ratio - 1.0), r->cost.pairs);
    page_facts_end(out);
}

/* ---- Charts ---- */

/* Cuts bars above most; how many. */
static int cut_bars(double *values, int n_bars, double most)
{
    int n_cut = 0;

    for (int bar = 0; bar < n_bars; bar++) {
        double *parts = values + bar * GROUPS;
        double sum = 0.0;

        for (int g = 0; g < GROUPS; g++)
            sum += parts[g];
        for (int g = 0; sum > most && g < GROUPS; g++)
            parts[g] *= most / sum;
        n_cut += sum > most;
    }
    return n_cut;
}

/* Bars of a token each, or of the mean of some where there are many. */
static void add_bars(JsonBuf *out, const ProfileReport *r)
{
    const Profile *p = r->profile;
    const int n = p->n_tokens - 1, each = (n - 1) / MAX_BARS + 1;
    const int n_bars = (n + each - 1) / each;
    double values[MAX_BARS * GROUPS] = {0.0};
    const double most = TALL * ms(latency_of(r).p50_ns);
    char caption[160], cut[80] = "";

    for (int i = 0; i < n; i++) {
        const int bar = i / each;
        const int of = (bar + 1) * each <= n ? each : n - bar * each;
        const uint64_t *parts = p->token_parts + (size_t)(i + 1) * PROFILE_PARTS;

        for (int part = 0; part < PROFILE_PARTS; part++)
            values[bar * GROUPS + group_of(part)] += ms(parts[part]) / of;
    }
    const int n_cut = cut_bars(values, n_bars, most);
    if (n_cut > 0)
        (void)snprintf(cut, sizeof cut, "; bars shortened to %.3g ms: %d", most, n_cut);
    if (each > 1)
        (void)snprintf(caption, sizeof caption,
                       "Where the time of decoded tokens goes: means of %d a bar%s", each, cut);
    else
        (void)snprintf(caption, sizeof caption, "Where the time of each decoded token goes%s", cut);
    const ChartAxes axes = {.caption = caption,
                            .x_label = each > 1 ? "bar" : "token",
                            .y_label = "ms",
                            .first_x = 1,
                            .n = n_bars,
                            .limit = NAN};
    chart_stacked(out, &axes, group_names, values, n_bars, GROUPS);
}

static void add_latency(JsonBuf *out, const ProfileReport *r)
{
    const Profile *p = r->profile;
    double *y = (double *)(void *)r->room; /* as wide, and free at the moment */
    const int n = p->n_tokens - 1;
    const ProfileLatency l = latency_of(r);

    _Static_assert(sizeof(double) == sizeof *r->room, "room for numbers of either kind");
    for (int i = 0; i < n; i++) {
        const double value = ms(p->token_ns[i + 1]);

        memcpy(&y[i], &value, sizeof value);
    }
    const ChartLine line = {.name = "latency", .y = y};
    const ChartAxes axes = {.caption = "From one token to the next",
                            .x_label = "token",
                            .y_label = "ms",
                            .first_x = 1,
                            .n = n,
                            .log_y = l.max_ns > TALL * l.p50_ns,
                            .limit = NAN};
    chart_lines(out, &axes, &line, 1);
}

/* ---- Flame ---- */

typedef struct {
    ChartBox *boxes;
    char (*names)[NAME_BYTES];
    int n, max;
} Flame;

static void add_box(Flame *f, int depth, double value, const char *name)
{
    if (f->n == f->max || value <= 0.0)
        return;
    (void)snprintf(f->names[f->n], NAME_BYTES, "%s", name);
    f->boxes[f->n] = (ChartBox){.name = f->names[f->n], .depth = depth, .value = value};
    f->n++;
}

static void add_parts_of(Flame *f, const Profile *p, ProfilePhase phase, int layer, int depth)
{
    for (int part = 0; part < PROFILE_PARTS; part++)
        add_box(f, depth, ms(profile_stat(p, phase, layer, part)->total_ns),
                profile_part_name(part));
}

static void add_phase_boxes(Flame *f, const Profile *p, ProfilePhase phase)
{
    char name[NAME_BYTES];

    add_box(f, 1, ms(p->phase_ns[phase]), profile_phase_name(phase));
    for (int layer = 0; layer < p->n_layers; layer++) {
        uint64_t ns = 0;

        for (int part = 0; part < PROFILE_PARTS; part++)
            ns += profile_stat(p, phase, layer, part)->total_ns;
        if (ns == 0)
            continue;
        (void)snprintf(name, sizeof name, "layer %d", layer);
        add_box(f, 2, ms(ns), name);
        add_parts_of(f, p, phase, layer, 3);
    }
    add_parts_of(f, p, phase, -1, 2);
}

static ErrCode add_flame(JsonBuf *out, const Profile *p, Err *err)
{
    const size_t max = 1 + PROFILE_PHASES * (1 + (size_t)(p->n_layers + 1) * (PROFILE_PARTS + 1));
    Arena room;
    Flame f = {.max = (int)max};
    size_t bytes = 0;
    ErrCode code;

    if (max > INT32_MAX || !arena_plan(&bytes, max, sizeof *f.boxes) ||
        !arena_plan(&bytes, max, sizeof *f.names))
        return err_set(err, ERR_LIMIT, "a page of %d layers is too large", p->n_layers);
    if ((code = arena_init(&room, bytes, "page", err)) != ERR_OK)
        return code;
    f.boxes = arena_alloc(&room, max, sizeof *f.boxes);
    f.names = arena_alloc(&room, max, sizeof *f.names);
    if (f.boxes != NULL && f.names != NULL) {
        add_box(&f, 0, ms(p->phase_ns[PROFILE_PROMPT] + p->phase_ns[PROFILE_DECODE]), "request");
        add_phase_boxes(&f, p, PROFILE_PROMPT);
        add_phase_boxes(&f, p, PROFILE_DECODE);
        chart_flame(out, "The request, its phases, layers and parts", "ms", f.boxes, f.n);
    } else {
        code = err_set(err, ERR_MEMORY, "out of memory for the page");
    }
    arena_free(&room);
    return code;
}

/* ---- Tables ---- */

static void add_rate(JsonBuf *out, double rate, double most)
{
    if (rate > 0.0)
        page_cell(out, CELL_PLAIN, "%.2f", rate);
    else
        page_cell(out, CELL_PLAIN, "%s", "");
    if (rate > 0.0 && most > 0.0)
        page_cell(out, CELL_PLAIN, "%.0f %%", 100.0 * rate / most);
    else
        page_cell(out, CELL_PLAIN, "%s", "");
}

static void add_row(JsonBuf *out, const ProfileReport *r, int part, const ProfileRow *row)
{
    const ProfileStat *s = &row->time;

    page_row_begin(out);
    page_cell(out, CELL_PLAIN, "%s", profile_part_name(part));
    page_cell(out, CELL_PLAIN, "%" PRIu64, s->calls);
    page_cell(out, CELL_PLAIN, "%.3f", ms(s->total_ns));
    page_cell(out, CELL_PLAIN, "%.2f", (double)s->total_ns * 1e-3 / (double)s->calls);
    page_cell(out, CELL_PLAIN, "%.2f", (double)s->min_ns * 1e-3);
    page_cell(out, CELL_PLAIN, "%.2f", (double)s->max_ns * 1e-3);
    page_cell(out, CELL_PLAIN, "%.1f %%", 100.0 * row->share);
    add_rate(out, row->gb_per_s, r->read_gb_per_s);
    add_rate(out, row->gflop_per_s, r->fma_gflop_per_s);
    page_row_end(out);
}

static void add_phase_table(JsonBuf *out, const ProfileReport *r, ProfilePhase phase)
{
    static const char *const headings[] = {
        "part",  "calls", "ms",      "mean \xc2\xb5s", "min \xc2\xb5s", "max \xc2\xb5s",
        "share", "GB/s",  "of read", "GFLOP/s",        "of FMA"};
    uint64_t sum = 0;

    page_table_begin(out, headings, "lrrrrrrrrrr", 11);
    for (int part = 0; part < PROFILE_PARTS; part++) {
        const ProfileRow row = profile_row(r->profile, r->kv_type, phase, part, PROFILE_ALL_LAYERS);

        if (row.time.calls > 0)
            add_row(out, r, part, &row);
        sum += row.time.total_ns;
    }
    page_row_begin(out);
    page_cell(out, CELL_PLAIN, "sum");
    page_cell(out, CELL_PLAIN, "%s", "");
    page_cell(out, CELL_PLAIN, "%.3f", ms(sum));
    for (int i = 0; i < 3; i++)
        page_cell(out, CELL_PLAIN, "%s", "");
    page_cell(out, CELL_PLAIN, "%.1f %%",
              100.0 * (double)sum / (double)r->profile->phase_ns[phase]);
    for (int i = 0; i < 4; i++)
        page_cell(out, CELL_PLAIN, "%s", "");
    page_row_end(out);
    page_table_end(out);
}

/* Layers down, parts across, milliseconds of decoding and prompt together. */
static void add_layers(JsonBuf *out, const Profile *p)
{
    static const int parts[] = {TAP_PART_LN_1,    TAP_PART_QKV,    TAP_PART_CACHE,  TAP_PART_SCORES,
                                TAP_PART_SOFTMAX, TAP_PART_VALUES, TAP_PART_C_PROJ, TAP_PART_ADD,
                                TAP_PART_LN_2,    TAP_PART_FC,     TAP_PART_GELU,   TAP_PART_PROJ};
    enum { N = sizeof parts / sizeof parts[0] };
    const char *headings[N + 2] = {"layer"};

    for (int i = 0; i < N; i++)
        headings[i + 1] = profile_part_name(parts[i]);
    headings[N + 1] = "sum";
    page_table_begin(out, headings, "lrrrrrrrrrrrrr", N + 2);
    for (int layer = 0; layer < p->n_layers; layer++) {
        uint64_t sum = 0;

        page_row_begin(out);
        page_cell(out, CELL_PLAIN, "%d", layer);
        for (int i = 0; i < N; i++) {
            const uint64_t ns = profile_stat(p, PROFILE_PROMPT, layer, parts[i])->total_ns +
                                profile_stat(p, PROFILE_DECODE, layer, parts[i])->total_ns;

            page_cell(out, CELL_PLAIN, "%.3f", ms(ns));
            sum += ns;
        }
        page_cell(out, CELL_PLAIN, "%.3f", ms(sum));
        page_row_end(out);
    }
    page_table_end(out);
}

static void add_memory(JsonBuf *out, const Memory *m)
{
    static const char *const headings[] = {"after", "looks", "allocated",
                                           "peak",  "live",  "resident"};

    page_table_begin(out, headings, "lrrrrr", 6);
    for (int i = 0; i < MEMORY_STAGES; i++) {
        const int stage = (i + MEMORY_LOAD) % MEMORY_STAGES;
        const MemoryStage *s = &m->stages[stage];

        if (s->looks == 0)
            continue;
        page_row_begin(out);
        page_cell(out, CELL_PLAIN, "%s", memory_stage_name(stage));
        page_cell(out, CELL_PLAIN, "%" PRIu64, s->looks);
        page_cell(out, CELL_PLAIN, "%" PRIu64, s->allocated_bytes);
        page_cell(out, CELL_PLAIN, "%" PRIu64, s->peak_bytes);
        page_cell(out, CELL_PLAIN, "%" PRIu64, s->live_bytes);
        page_cell(out, CELL_PLAIN, "%" PRIu64, s->resident_bytes);
        page_row_end(out);
    }
    page_table_end(out);
    page_paragraph(out,
                   "Allocated by the model, the sampler and the tokenizer after the first token: "
                   "%" PRIu64 " bytes. Largest resident set: %" PRIu64 " bytes.",
                   m->steady_allocated_bytes, m->peak_resident_bytes);
}

/* ---- Page ---- */

ErrCode profile_show_html(JsonBuf *out, const ProfileReport *r, Err *err)
{
    const Profile *p = r->profile;
    ErrCode code;

    page_begin(out, "Profile", r->model);
    add_facts(out, r);
    page_section(out, "The request", "As wide as their share of the time.");
    if ((code = add_flame(out, p, err)) != ERR_OK)
        return code;
    if (p->n_tokens > 1) {
        page_section(out, "Tokens", NULL);
        add_bars(out, r);
        add_latency(out, r);
    }
    page_section(out, "Prompt, up to the first token",
                 "GB/s and GFLOP/s follow from the model's sizes; a part that works in the caches "
                 "can exceed what memory gives.");
    add_phase_table(out, r, PROFILE_PROMPT);
    if (p->n_tokens > 1) {
        page_section(out, "Decoding", NULL);
        add_phase_table(out, r, PROFILE_DECODE);
    }
    page_section(out, "Layers", "Milliseconds of the whole request.");
    add_layers(out, p);
    page_section(out, "Memory",
                 "Bytes, from a run of its own without clocks; what is allocated and freed again "
                 "between two looks is not seen.");
    add_memory(out, r->memory);
    page_end(out);
    return out->oom ? err_set(err, ERR_MEMORY, "out of memory for the page") : ERR_OK;
}
