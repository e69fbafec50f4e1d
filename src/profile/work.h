/* profile/work.h: how many bytes a part of a pass has to move, and how many operations it has to
 * compute, from the model's sizes alone: so that its time can be held against what the machine
 * reads and multiplies at most.
 *
 * May include: common, kernels, model. */
#ifndef LLORCH_PROFILE_WORK_H
#define LLORCH_PROFILE_WORK_H

#include "common/tap.h"
#include "kernels/matrix.h"
#include "model/gpt2.h"
#include "profile/profile.h"

typedef struct {
    double bytes; /* each weight, activation and row of the cache that the part reads or writes,
                     once; a row of the cache once for every group of queries that looks at it */
    double flop;  /* additions, products, divisions; a fused pair is two, an exponential is one */
} ProfileWork;

/* One part of one block (layer 0 .. n_layers - 1), or of what is outside (layer -1), in a pass of
 * n_tokens at start_pos. logits: whether ln_f and head are computed, for the last row. Nothing for
 * stages. */
ProfileWork profile_work(const Gpt2 *m, KernType kv_type, int part, int layer, int n_tokens,
                         int start_pos, bool logits);

/* Of all passes of a phase. layer: PROFILE_ALL_LAYERS, or one of profile_work. */
enum { PROFILE_ALL_LAYERS = -2 };

ProfileWork profile_phase_work(const Profile *p, KernType kv_type, ProfilePhase phase, int part,
                               int layer);

#endif
