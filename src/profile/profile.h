/* profile/profile.h: where the time of one request goes: a prompt and some tokens, each moment of
 * which belongs to a part of the model's pass (common/tap.h) or to a stage around it.
 *
 * The clock is read when a part ends; what passed since the end before is the part's. So the parts
 * of a phase sum to its wall time, to the nanosecond. What no part claims is PROFILE_OTHER.
 *
 * May include: common, kernels, model. */
#ifndef LLORCH_PROFILE_PROFILE_H
#define LLORCH_PROFILE_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/error.h"
#include "common/tap.h"
#include "kernels/ticks.h"
#include "model/gpt2.h"

/* The parts of a pass are those of TapPart; these are around and between them. */
enum {
    PROFILE_SAMPLING = TAP_PART_COUNT, /* logits to a token */
    PROFILE_TOKENIZER,                 /* the prompt to tokens; a token to text */
    PROFILE_HTTP,                      /* a token's event made and written to a connection */
    PROFILE_YIELD, /* in the tap's yield hook, called within parts, about once a millisecond */
    PROFILE_OTHER, /* no part: before the first mark of a pass, loops, calls */
    PROFILE_PARTS,
    PROFILE_ATTENTION = PROFILE_PARTS /* events only: scores, softmax and values of a layer */
};

/* "ln_1", "c_proj", "sampling"; static text. */
const char *profile_part_name(int part);

/* The prompt's phase ends when the first token is out; every other token belongs to decoding. */
typedef enum { PROFILE_PROMPT, PROFILE_DECODE, PROFILE_PHASES } ProfilePhase;

const char *profile_phase_name(ProfilePhase phase);

typedef struct {
    uint64_t calls, total_ns;
    uint64_t min_ns, max_ns; /* of one call; 0 without calls */
} ProfileStat;

/* One pass of the model. */
typedef struct {
    ProfilePhase phase;
    int start_pos, n_tokens;
    bool logits;
    uint64_t start_ns, end_ns;
} ProfilePass;

/* One part of a pass or stage, for a trace; they follow each other. */
typedef struct {
    uint64_t start_ns, end_ns;
    int32_t pass;  /* -1: a stage, outside passes */
    int32_t token; /* on the way to which it was computed */
    int32_t layer; /* -1: outside the blocks */
    int32_t part;
} ProfileEvent;

/* A trace with more events than this is of no use to anybody: 32 bytes each here, some 110 in the
 * file. */
enum { PROFILE_MAX_EVENTS = 1 << 20 };

typedef struct {
    int n_prompt;             /* tokens, >= 1 */
    int n_tokens;             /* to be generated, >= 1 */
    int chunk;                /* tokens of a pass at most */
    bool events;              /* keep them for a trace */
    const Tap *tap;           /* the yield to call, or NULL; borrowed */
    uint64_t (*now_ns)(void); /* NULL: kernels/ticks.h */
} ProfileOptions;

typedef struct {
    const Gpt2 *model;
    ProfileOptions options;
    int n_layers;
    TickClock clock;
    uint64_t begin_ns, end_ns;
    uint64_t last_ns;        /* the end of the part before */
    uint64_t yielded_ns;     /* since then, in the yield hook */
    uint64_t yield_ns;       /* when the hook returned last */
    int n_yields;            /* since the mark before, or since the hook was called */
    uint64_t token_start_ns; /* of the present one, with what was skipped since taken off */
    uint64_t skipped_ns;     /* within begin .. end, but nobody's: profile_skip */
    ProfilePhase phase;      /* the present one */
    uint64_t phase_ns[PROFILE_PHASES]; /* wall time */
    ProfileStat *stats;    /* [PROFILE_PHASES][n_layers + 1][PROFILE_PARTS], layer -1 first */
    uint64_t *token_parts; /* [n_tokens][PROFILE_PARTS]: ns on the way to each token */
    uint64_t *token_ns;    /* [n_tokens]: from the token before, or from the start */
    int n_tokens;          /* that are out */
    ProfilePass *passes;
    int n_passes, max_passes;
    bool in_pass;
    bool merges; /* PROFILE_ATTENTION stands for scores, softmax and values */
    ProfileEvent *events;
    size_t n_events, max_events;
    bool overflow; /* a pass, a token or an event too many: the profile is not whole */
    Arena arena;   /* owns all arrays */
} Profile;

/* Room for one request; the options are copied. Errors: ERR_LIMIT (more than PROFILE_MAX_EVENTS
 * even with merged attention), ERR_MEMORY. Memory: profile_free. */
ErrCode profile_init(Profile *p, const Gpt2 *m, const ProfileOptions *o, Err *err) ERR_CHECK;
void profile_free(Profile *p); /* a zeroed one is allowed */

/* Forgets what was measured; begins the clock. */
void profile_begin(Profile *p);

/* What passed since the part before belongs to part: a stage, or PROFILE_OTHER. */
void profile_stage(Profile *p, int part);

/* Around gpt2_forward with profile_tap. */
void profile_pass_begin(Profile *p, int start_pos, int n_tokens, bool logits);
void profile_pass_end(Profile *p);

/* A token is out: the next one begins. */
void profile_token(Profile *p);

/* What passed since the part before is nobody's: it is no part of the request. */
void profile_skip(Profile *p);

void profile_end(Profile *p);

/* The hooks for gpt2_forward; valid as long as p. */
Tap profile_tap(Profile *p);

/* Of one part in one layer, -1 for what is outside the blocks. */
const ProfileStat *profile_stat(const Profile *p, ProfilePhase phase, int layer, int part);

/* Of all layers together. */
ProfileStat profile_sum(const Profile *p, ProfilePhase phase, int part);

#endif
