/* profile/show_json.c: the profile as one JSON object; times in nanoseconds, as they were measured.
 *
 * May include: common, kernels. */
#include <inttypes.h>
#include <string.h>

#include "profile/figures.h"
#include "profile/show.h"

static void add_string(JsonBuf *out, const char *key, const char *text)
{
    json_buf_printf(out, "\"%s\":", key);
    json_buf_string(out, text, strlen(text));
}

static void add_rate(JsonBuf *out, const char *rate_key, const char *share_key, double rate,
                     double most)
{
    if (rate > 0.0)
        json_buf_printf(out, ",\"%s\":%.6g", rate_key, rate);
    else
        json_buf_printf(out, ",\"%s\":null", rate_key);
    if (rate > 0.0 && most > 0.0)
        json_buf_printf(out, ",\"%s\":%.6g", share_key, rate / most);
    else
        json_buf_printf(out, ",\"%s\":null", share_key);
}

static void add_row(JsonBuf *out, const ProfileReport *r, int part, const ProfileRow *row)
{
    const ProfileStat *s = &row->time;

    json_buf_printf(out, "\"part\":\"%s\",\"calls\":%" PRIu64 ",\"total_ns\":%" PRIu64,
                    profile_part_name(part), s->calls, s->total_ns);
    json_buf_printf(out, ",\"mean_ns\":%.1f,\"min_ns\":%" PRIu64 ",\"max_ns\":%" PRIu64,
                    (double)s->total_ns / (double)s->calls, s->min_ns, s->max_ns);
    json_buf_printf(out, ",\"share\":%.6f,\"bytes\":%.0f,\"flop\":%.0f", row->share,
                    row->work.bytes, row->work.flop);
    add_rate(out, "gb_per_s", "of_read", row->gb_per_s, r->read_gb_per_s);
    add_rate(out, "gflop_per_s", "of_fma", row->gflop_per_s, r->fma_gflop_per_s);
}

/* layer: PROFILE_ALL_LAYERS, or one, which is then named. */
static void add_rows(JsonBuf *out, const ProfileReport *r, ProfilePhase phase, int layer,
                     const char **comma)
{
    for (int part = 0; part < PROFILE_PARTS; part++) {
        const ProfileRow row = profile_row(r->profile, r->kv_type, phase, part, layer);

        if (row.time.calls == 0)
            continue;
        json_buf_printf(out, "%s{", *comma);
        if (layer != PROFILE_ALL_LAYERS)
            json_buf_printf(out, "\"layer\":%d,", layer);
        add_row(out, r, part, &row);
        json_buf_printf(out, "}");
        *comma = ",";
    }
}

static void add_phase(JsonBuf *out, const ProfileReport *r, ProfilePhase phase)
{
    const Profile *p = r->profile;
    const char *comma = "";
    const bool prompt = phase == PROFILE_PROMPT;

    json_buf_printf(out, "\"%s\":{\"tokens\":%d,\"wall_ns\":%" PRIu64 ",\"tokens_per_sec\":%.3f,",
                    profile_phase_name(phase), prompt ? p->options.n_prompt : p->n_tokens - 1,
                    p->phase_ns[phase], prompt ? profile_prompt_rate(p) : profile_decode_rate(p));
    json_buf_printf(out, "\"parts\":[");
    add_rows(out, r, phase, PROFILE_ALL_LAYERS, &comma);
    json_buf_printf(out, "],\"layers\":[");
    comma = "";
    for (int layer = 0; layer < p->n_layers; layer++)
        add_rows(out, r, phase, layer, &comma);
    json_buf_printf(out, "]}");
}

static void add_latency(JsonBuf *out, const ProfileReport *r)
{
    const Profile *p = r->profile;
    const int n = p->n_tokens - 1;

    json_buf_printf(out, "\"latency\":{\"first_token_ns\":%" PRIu64 ",\"tokens_ns\":[",
                    p->token_ns[0]);
    for (int i = 1; i < p->n_tokens; i++)
        json_buf_printf(out, i > 1 ? ",%" PRIu64 : "%" PRIu64, p->token_ns[i]);
    json_buf_printf(out, "]");
    if (n > 0) {
        memcpy(r->room, p->token_ns + 1, (size_t)n * sizeof *r->room);
        const ProfileLatency l = profile_latency(r->room, n);

        json_buf_printf(out,
                        ",\"mean_ns\":%.1f,\"min_ns\":%" PRIu64 ",\"p50_ns\":%" PRIu64
                        ",\"p95_ns\":%" PRIu64 ",\"p99_ns\":%" PRIu64 ",\"max_ns\":%" PRIu64,
                        l.mean_ns, l.min_ns, l.p50_ns, l.p95_ns, l.p99_ns, l.max_ns);
    }
    json_buf_printf(out, "}");
}

static void add_memory(JsonBuf *out, const Memory *m)
{
    const char *comma = "";

    json_buf_printf(out, "\"memory\":{\"stages\":[");
    for (int i = 0; i < MEMORY_STAGES; i++) {
        const int stage = (i + MEMORY_LOAD) % MEMORY_STAGES; /* what comes first, first */
        const MemoryStage *s = &m->stages[stage];

        if (s->looks == 0)
            continue;
        json_buf_printf(out, "%s{\"stage\":\"%s\",\"looks\":%" PRIu64, comma,
                        memory_stage_name(stage), s->looks);
        json_buf_printf(out,
                        ",\"allocated_bytes\":%" PRIu64 ",\"peak_bytes\":%" PRIu64
                        ",\"live_bytes\":%" PRIu64 ",\"resident_bytes\":%" PRIu64 "}",
                        s->allocated_bytes, s->peak_bytes, s->live_bytes, s->resident_bytes);
        comma = ",";
    }
    json_buf_printf(out,
                    "],\"steady_allocated_bytes\":%" PRIu64 ",\"peak_resident_bytes\":%" PRIu64 "}",
                    m->steady_allocated_bytes, m->peak_resident_bytes);
}

static void add_result(JsonBuf *out, const ProfileReport *r)
{
    json_buf_printf(out, "\"ids\":[");
    for (int i = 0; i < r->profile->n_tokens; i++)
        json_buf_printf(out, i > 0 ? ",%d" : "%d", (int)r->ids[i]);
    json_buf_printf(out, "],\"text\":");
    if (r->text != NULL)
        json_buf_string(out, r->text, r->n_text);
    else
        json_buf_printf(out, "null");
}

static void add_machine(JsonBuf *out, const ProfileReport *r)
{
    json_buf_printf(out, "\"machine\":{");
    add_string(out, "cpu_name", r->cpu_name);
    json_buf_printf(out, ",\"cpu\":%d,", r->cpu);
    add_string(out, "isa", r->isa);
    json_buf_printf(out, ",");
    add_string(out, "compiler", r->compiler);
    json_buf_printf(out, ",");
    add_string(out, "version", r->version);
    json_buf_printf(out, "},\"probes\":{\"read_gb_per_s\":%.6g,\"fma_gflop_per_s\":%.6g}",
                    r->read_gb_per_s, r->fma_gflop_per_s);
}

void profile_show_json(JsonBuf *out, const ProfileReport *r)
{
    json_buf_printf(out, "{\"model\":{");
    add_string(out, "name", r->model);
    json_buf_printf(out, ",");
    add_string(out, "types", r->types);
    json_buf_printf(out, ",");
    add_string(out, "kv_type", kern_type_name(r->kv_type));
    json_buf_printf(out, ",\"layers\":%d},", r->profile->n_layers);
    add_machine(out, r);
    json_buf_printf(out, ",");
    add_result(out, r);
    for (int phase = 0; phase < PROFILE_PHASES; phase++) {
        json_buf_printf(out, ",");
        add_phase(out, r, (ProfilePhase)phase);
    }
    json_buf_printf(out, ",");
    add_latency(out, r);
    json_buf_printf(out, ",");
    add_memory(out, r->memory);
    if (r->cost.pairs > 0)
        json_buf_printf(out, ",\"cost\":{\"pairs\":%d,\"ratio\":%.5f,\"least\":%.5f,\"most\":%.5f}",
                        r->cost.pairs, r->cost.ratio, r->cost.least_ratio, r->cost.most_ratio);
    json_buf_printf(out, "}\n");
}
