/* profile/profile.c: see profile.h.
 *
 * May include: common. */
#include "profile/profile.h"

#include <string.h>

const char *profile_part_name(int part)
{
    static const char *const names[PROFILE_PARTS + 1] = {[TAP_PART_EMBEDDING] = "embedding",
                                                         [TAP_PART_LN_1] = "ln_1",
                                                         [TAP_PART_QKV] = "qkv",
                                                         [TAP_PART_CACHE] = "cache",
                                                         [TAP_PART_SCORES] = "scores",
                                                         [TAP_PART_SOFTMAX] = "softmax",
                                                         [TAP_PART_VALUES] = "values",
                                                         [TAP_PART_C_PROJ] = "c_proj",
                                                         [TAP_PART_ADD] = "add",
                                                         [TAP_PART_LN_2] = "ln_2",
                                                         [TAP_PART_FC] = "fc",
                                                         [TAP_PART_GELU] = "gelu",
                                                         [TAP_PART_PROJ] = "proj",
                                                         [TAP_PART_LN_F] = "ln_f",
                                                         [TAP_PART_HEAD] = "head",
                                                         [PROFILE_SAMPLING] = "sampling",
                                                         [PROFILE_TOKENIZER] = "tokenizer",
                                                         [PROFILE_HTTP] = "http",
                                                         [PROFILE_YIELD] = "yield",
                                                         [PROFILE_OTHER] = "other",
                                                         [PROFILE_ATTENTION] = "attention"};

    return names[part];
}

const char *profile_phase_name(ProfilePhase phase)
{
    return phase == PROFILE_PROMPT ? "prompt" : "decode";
}

/* ---- Room ---- */

static bool is_attention(int part)
{
    return part == TAP_PART_SCORES || part == TAP_PART_SOFTMAX || part == TAP_PART_VALUES;
}

static size_t groups_of(int n_tokens)
{
    return ((size_t)n_tokens + KERN_QUERIES - 1) / KERN_QUERIES;
}

/* Events of all passes and stages. In a block: ten parts beside attention. */
static size_t count_events(const Profile *p, bool merges)
{
    const ProfileOptions *o = &p->options;
    const size_t layers = (size_t)p->n_layers, heads = (size_t)p->model->config.n_heads;
    const size_t n_chunks = (size_t)p->max_passes - (size_t)(o->n_tokens - 1);
    const size_t n_decodes = (size_t)(o->n_tokens - 1);
    /* A prompt's passes have at most one group more each than its tokens in one row would have. */
    const size_t groups = groups_of(o->n_prompt) + n_chunks + n_decodes;
    const size_t attention = merges ? n_chunks + n_decodes : 3 * heads * groups;

    return layers * (10 * (n_chunks + n_decodes) + attention) + 3 * (n_chunks + n_decodes) + 1 +
           3 * (size_t)o->n_tokens;
}

static ErrCode size_events(Profile *p, Err *err)
{
    p->max_events = 0;
    if (!p->options.events)
        return ERR_OK;
    p->max_events = count_events(p, false);
    p->merges = p->max_events > PROFILE_MAX_EVENTS;
    if (p->merges)
        p->max_events = count_events(p, true);
    if (p->max_events > PROFILE_MAX_EVENTS)
        return err_set(err, ERR_LIMIT, "a trace of %zu events, expected at most %d: fewer tokens",
                       p->max_events, PROFILE_MAX_EVENTS);
    return ERR_OK;
}

static size_t stats_of_phase(const Profile *p)
{
    return (size_t)(p->n_layers + 1) * PROFILE_PARTS;
}

static ErrCode make_room(Profile *p, Err *err)
{
    const size_t n_tokens = (size_t)p->options.n_tokens, n_passes = (size_t)p->max_passes;
    size_t bytes = 0;
    ErrCode code;

    if (!arena_plan(&bytes, PROFILE_PHASES * stats_of_phase(p), sizeof *p->stats) ||
        !arena_plan(&bytes, n_tokens * PROFILE_PARTS, sizeof *p->token_parts) ||
        !arena_plan(&bytes, n_tokens, sizeof *p->token_ns) ||
        !arena_plan(&bytes, n_passes, sizeof *p->passes) ||
        !arena_plan(&bytes, p->max_events, sizeof *p->events))
        return err_set(err, ERR_LIMIT, "a profile of %zu tokens is too large", n_tokens);
    if ((code = arena_init(&p->arena, bytes, "profile", err)) != ERR_OK)
        return code;
    p->stats = arena_alloc(&p->arena, PROFILE_PHASES * stats_of_phase(p), sizeof *p->stats);
    p->token_parts = arena_alloc(&p->arena, n_tokens * PROFILE_PARTS, sizeof *p->token_parts);
    p->token_ns = arena_alloc(&p->arena, n_tokens, sizeof *p->token_ns);
    p->passes = arena_alloc(&p->arena, n_passes, sizeof *p->passes);
    p->events = arena_alloc(&p->arena, p->max_events, sizeof *p->events);
    if (p->stats == NULL || p->token_parts == NULL || p->token_ns == NULL || p->passes == NULL ||
        (p->events == NULL && p->max_events > 0)) {
        arena_free(&p->arena);
        return err_set(err, ERR_MEMORY, "out of memory for the profile");
    }
    /* A page that is not there yet would be somebody's time. */
    arena_touch(&p->arena, 0, p->arena.size_bytes);
    return ERR_OK;
}

ErrCode profile_init(Profile *p, const Gpt2 *m, const ProfileOptions *o, Err *err)
{
    Profile new = {.model = m, .options = *o, .n_layers = m->config.n_layers};
    ErrCode code;

    if (o->n_prompt < 1 || o->n_tokens < 1 || o->chunk < 1)
        return err_set(err, ERR_USAGE, "%d prompt tokens, %d tokens: at least one of each",
                       o->n_prompt, o->n_tokens);
    ticks_begin(&new.clock);
    new.max_passes = (o->n_prompt - 1) / o->chunk + o->n_tokens;
    if ((code = size_events(&new, err)) != ERR_OK || (code = make_room(&new, err)) != ERR_OK)
        return code;
    *p = new;
    return ERR_OK;
}

void profile_free(Profile *p)
{
    arena_free(&p->arena);
    *p = (Profile){.model = NULL};
}

/* ---- Measuring ---- */

enum { YIELD_NS = 1000 * 1000, FEW_YIELDS = 3 };

static uint64_t read_clock(const Profile *p)
{
    return p->options.now_ns != NULL ? p->options.now_ns() : ticks_now_ns(&p->clock);
}

static void add_to(ProfileStat *s, uint64_t ns)
{
    if (s->calls == 0 || ns < s->min_ns)
        s->min_ns = ns;
    if (ns > s->max_ns)
        s->max_ns = ns;
    s->calls++;
    s->total_ns += ns;
}

static size_t stat_index(const Profile *p, ProfilePhase phase, int layer, int part)
{
    return (size_t)phase * stats_of_phase(p) + (size_t)(layer + 1) * PROFILE_PARTS + (size_t)part;
}

static void add(Profile *p, int part, int layer, uint64_t ns)
{
    if (p->n_tokens == p->options.n_tokens) {
        p->overflow = true;
        return;
    }
    add_to(&p->stats[stat_index(p, p->phase, layer, part)], ns);
    p->token_parts[(size_t)p->n_tokens * PROFILE_PARTS + (size_t)part] += ns;
}

static void keep_event(Profile *p, int part, int layer, uint64_t start_ns, uint64_t end_ns)
{
    const int pass = p->in_pass ? p->n_passes - 1 : -1;

    if (p->merges && is_attention(part)) {
        ProfileEvent *before = p->n_events > 0 ? &p->events[p->n_events - 1] : NULL;

        part = PROFILE_ATTENTION;
        if (before != NULL && before->part == part && before->layer == layer &&
            before->pass == pass) {
            before->end_ns = end_ns;
            return;
        }
    }
    if (p->n_events == p->max_events) {
        p->overflow = true;
        return;
    }
    p->events[p->n_events++] = (ProfileEvent){.start_ns = start_ns,
                                              .end_ns = end_ns,
                                              .pass = pass,
                                              .token = p->n_tokens,
                                              .layer = layer,
                                              .part = part};
}

/* A part ends: what passed since the one before, less what was spent in the yield hook, is its. */
static uint64_t end_part(Profile *p, int part, int layer)
{
    const uint64_t now = read_clock(p), start = p->last_ns;

    add(p, part, layer, now - start - p->yielded_ns);
    p->yielded_ns = 0;
    p->n_yields = 0;
    p->last_ns = now;
    return start;
}

static void mark(void *ctx, TapPart part, int layer)
{
    Profile *p = ctx;
    const uint64_t start = end_part(p, (int)part, layer);

    if (p->max_events > 0)
        keep_event(p, (int)part, layer, start, p->last_ns);
}

/* Small models yield every few microseconds, and two more looks at the clock each time would be
 * half of what the profile costs. So the hook is called when the mark before is YIELD_NS after the
 * last call, and at every third yield without a mark between: then the product is a long one. */
static bool timed_yield(void *ctx)
{
    Profile *p = ctx;

    if (++p->n_yields < FEW_YIELDS && p->last_ns < p->yield_ns + YIELD_NS)
        return true;
    p->n_yields = 0;
    const uint64_t start = read_clock(p);
    const bool go_on = tap_yield(p->options.tap);
    p->yield_ns = read_clock(p);
    add(p, PROFILE_YIELD, -1, p->yield_ns - start);
    p->yielded_ns += p->yield_ns - start;
    return go_on;
}

Tap profile_tap(Profile *p)
{
    const bool yields = p->options.tap != NULL && p->options.tap->yield != NULL;

    return (Tap){.ctx = p, .mark = mark, .yield = yields ? timed_yield : NULL};
}

void profile_begin(Profile *p)
{
    const size_t n_tokens = (size_t)p->options.n_tokens;

    memset(p->stats, 0, PROFILE_PHASES * stats_of_phase(p) * sizeof *p->stats);
    memset(p->token_parts, 0, n_tokens * PROFILE_PARTS * sizeof *p->token_parts);
    memset(p->token_ns, 0, n_tokens * sizeof *p->token_ns);
    memset(p->phase_ns, 0, sizeof p->phase_ns);
    p->n_tokens = p->n_passes = 0;
    p->n_events = 0;
    p->in_pass = p->overflow = false;
    p->phase = PROFILE_PROMPT;
    p->skipped_ns = p->yielded_ns = p->yield_ns = 0;
    p->n_yields = 0;
    if (p->options.now_ns == NULL)
        ticks_calibrate(&p->clock);
    p->begin_ns = p->end_ns = p->last_ns = p->token_start_ns = read_clock(p);
}

void profile_stage(Profile *p, int part)
{
    const uint64_t start = end_part(p, part, -1);

    if (p->max_events > 0 && part != PROFILE_OTHER)
        keep_event(p, part, -1, start, p->last_ns);
}

void profile_pass_begin(Profile *p, int start_pos, int n_tokens, bool logits)
{
    profile_stage(p, PROFILE_OTHER);
    if (p->n_passes == p->max_passes) {
        p->overflow = true;
        return;
    }
    p->passes[p->n_passes++] = (ProfilePass){.phase = p->phase,
                                             .start_pos = start_pos,
                                             .n_tokens = n_tokens,
                                             .logits = logits,
                                             .start_ns = p->last_ns};
    p->in_pass = true;
}

void profile_pass_end(Profile *p)
{
    profile_stage(p, PROFILE_OTHER);
    if (p->in_pass)
        p->passes[p->n_passes - 1].end_ns = p->last_ns;
    p->in_pass = false;
}

void profile_token(Profile *p)
{
    if (p->n_tokens == p->options.n_tokens) {
        p->overflow = true;
        return;
    }
    const uint64_t ns = p->last_ns - p->token_start_ns;
    p->token_ns[p->n_tokens++] = ns;
    p->phase_ns[p->phase] += ns;
    p->token_start_ns = p->last_ns;
    p->phase = PROFILE_DECODE;
}

void profile_skip(Profile *p)
{
    const uint64_t now = read_clock(p), ns = now - p->last_ns;

    p->skipped_ns += ns;
    p->token_start_ns += ns;
    p->last_ns = now;
}

void profile_end(Profile *p)
{
    p->end_ns = p->last_ns;
}

/* ---- Figures ---- */

const ProfileStat *profile_stat(const Profile *p, ProfilePhase phase, int layer, int part)
{
    return &p->stats[stat_index(p, phase, layer, part)];
}

ProfileStat profile_sum(const Profile *p, ProfilePhase phase, int part)
{
    ProfileStat sum = {0};

    for (int layer = -1; layer < p->n_layers; layer++) {
        const ProfileStat *s = profile_stat(p, phase, layer, part);

        if (s->calls == 0)
            continue;
        if (sum.calls == 0 || s->min_ns < sum.min_ns)
            sum.min_ns = s->min_ns;
        if (s->max_ns > sum.max_ns)
            sum.max_ns = s->max_ns;
        sum.calls += s->calls;
        sum.total_ns += s->total_ns;
    }
    return sum;
}
