/* checkpoint/diff_report.h: what `diff` prints: for people, and as JSON.
 *
 * May include: common, report. */
#ifndef LLORCH_CHECKPOINT_DIFF_REPORT_H
#define LLORCH_CHECKPOINT_DIFF_REPORT_H

#include <stdbool.h>

#include "checkpoint/diff.h"
#include "common/json.h"

/* Two files: both sides, the errors, their histogram, the heat map, the worst elements. Two
 * folders: a table of all tensors, then heat map and worst elements of the worst one. width:
 * columns of the terminal. */
void diff_print(JsonBuf *out, const Diff *d, bool colour, int width);

/* One object with everything but the map; numbers that are not finite are null. */
void diff_json(JsonBuf *out, const Diff *d);

/* The verdict in one sentence: "all 24 tensors agree within their tolerances". */
enum { DIFF_VERDICT_BYTES = 256 };
void diff_verdict(char out[DIFF_VERDICT_BYTES], const Diff *d);

/* What a tensor was held to: "1e-05", "equal values", "equal bits". */
enum { DIFF_RULE_BYTES = 32 };
void diff_rule(char out[DIFF_RULE_BYTES], const Diff *d, const TensorDiff *row);

/* "agree", "differ", "not finite", "not compared". */
const char *diff_word(DiffVerdict verdict);

/* The same with the note, when there is one: "differ: 3 of 12 differ". */
enum { DIFF_FINDING_BYTES = DIFF_NOTE_BYTES + 32 };
void diff_finding(char out[DIFF_FINDING_BYTES], const TensorDiff *row);

/* "0x3f800000 (1) in A, 0x3f800001 (1.0000001) in B": where bits differ first. */
enum { DIFF_BITS_BYTES = 192 };
void diff_bits_text(char out[DIFF_BITS_BYTES], const TensorDiff *row);

#endif
