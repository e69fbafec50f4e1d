/* checkpoint/tolerance.h: how far a tensor may lie from its reference, and where each number comes
 * from.
 *
 * All are used as |ours - reference| <= tolerance * max(1, |reference|): GPT-2 has activations in
 * the hundreds, where one unit in the last place of a float is already 1.5e-5.
 *
 * May include: nothing. */
#ifndef LLORCH_CHECKPOINT_TOLERANCE_H
#define LLORCH_CHECKPOINT_TOLERANCE_H

/* One rounded addition of two table entries: as tight as the checkpoint it feeds. */
#define TOL_EMBEDDING 1e-5
/* Checkpoint 1. Two passes over a row of at most a few thousand
 * values come within 1e-6. */
#define TOL_LAYER_NORM 1e-5
/* Checkpoints 2, 4, 5, 6, 7, same section: one or two products of up to 4,096 terms; the definition
 * of the linear layer is 2.7e-6 rms off at that length, so a right implementation has a factor of
 * 30 in hand. */
#define TOL_QKV 1e-4
#define TOL_SCORES 1e-4
#define TOL_ATTENTION 1e-4
#define TOL_FFN 1e-4
#define TOL_BLOCK 1e-4
/* Checkpoint 3 is exact against checkpoint 2; against a reference it is as good as the k and v it
 * stores. */
#define TOL_CACHE 1e-4
/* Blocks after the first, ln_f and the logits (checkpoints 8 and 9): the error of a block is
 * carried through all later ones. The same for 12 and for 24 layers. */
#define TOL_DEEP_BLOCK 1e-3
#define TOL_LOGITS 1e-3
/* Checkpoint 11, softmax over the reference's own logits; also how far the sum may lie from 1. */
#define TOL_PROBS 1e-6
/* Two sources of one reference must agree with each other this well, else neither is trusted
 * (section 4). */
#define TOL_SOURCES 1e-3
#define TOL_QUANTISED 0.25
/* One rounding to float32, relative to the value: half a unit in the last place. */
#define TOL_ROUNDING 0x1p-24
#define TOL_LOCAL_PRODUCT 32.0
#define TOL_LOCAL_SIGMAS 8.0
#define TOL_LOCAL_NORM 6.0
#define TOL_LOCAL_MEAN 2.0
#define TOL_LOCAL_EXP 8.0
#define TOL_LOCAL_TINY 0x1p-125
#define TOL_LOCAL_ACTIVATION 4.0
#define TOL_LOCAL_SUM 1.01
/* Weights in a reference folder were copied, not computed. */
#define TOL_EXACT 0.0

#endif
