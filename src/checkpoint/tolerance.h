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
/* Against the double pass (verify --reference self), the error since the embedding: as above for
 * models of float weights, times the root mean square of the tensor where that is more than 1. With
 * 8- and 4-bit weights every product also rounds its inputs to 8 bits, and these errors add up from
 * layer to layer: 0.05 of the root mean square was seen after 4 layers, 0.08 after 24. */
#define TOL_QUANTISED 0.25

/* Against the double pass, one stage alone: how far an engine in float32 may be off, element by
 * element. A bound comes from what was computed there, so that it is tight for every model; the
 * factors below are 2 to 10 times what the engine needs (shares seen over all stages of the
 * shipped, the tiny and a random model of 24 layers and 1,024 wide, prompts of 2 to 200 tokens, all
 * types).
 *
 * One rounding to float32, relative to the value: half a unit in the last place. */
#define TOL_ROUNDING 0x1p-24
/* A product, sum of w x + b: this many roundings of |b| + the sum of |w x|. Sums of 256 terms in a
 * chain are sure to stay within 258 roundings, terms of one sign come to 5 rms, random ones to less
 * than 1. Seen: up to 0.31 of what is allowed, with keys. */
#define TOL_LOCAL_PRODUCT 32.0
/* What is rounded before a product and then summed at random, as a multiple of its standard
 * deviation: inputs rounded to 8 bits (a step of max / 127 in a block of 32, spread evenly: step /
 * sqrt(12)), the activations of the feed-forward part. Five are seen among a million values. Seen:
 * up to 0.62. */
#define TOL_LOCAL_SIGMAS 8.0
/* LayerNorm: roundings of the normalised value, and of the mean and of x itself, which was added up
 * from two. An epsilon of 1e-6 instead of 1e-5 moves values by 4.5e-6 / variance: it is seen as
 * long as the variance of some row is below about 10, above which no result depends on it. Seen: up
 * to 0.64. */
#define TOL_LOCAL_NORM 5.0
#define TOL_LOCAL_MEAN 1.5
/* Softmax: roundings of a probability, besides those of the difference of scores in the exponent;
 * and results below float32's normal numbers become 0. Seen: up to 0.48. */
#define TOL_LOCAL_EXP 8.0
#define TOL_LOCAL_TINY 0x1p-125
/* An activation: roundings of its argument. GELU is 5.2e-7 off at most (kernels/elementary.h). */
#define TOL_LOCAL_ACTIVATION 4.0
/* An addition: one rounding of its result, which is a bound and not an estimate; the rest is for
 * the rounding of this bound itself. */
#define TOL_LOCAL_SUM 1.01

/* Weights in a reference folder were copied, not computed. */
#define TOL_EXACT 0.0

#endif
