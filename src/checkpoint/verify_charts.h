/* checkpoint/verify_charts.h: the charts of verify_html.h. Internal.
 *
 * All draw nothing where there is nothing to draw; without memory they set out->oom.
 *
 * May include: common. */
#ifndef LLORCH_CHECKPOINT_VERIFY_CHARTS_H
#define LLORCH_CHECKPOINT_VERIFY_CHARTS_H

#include "checkpoint/verify.h"
#include "common/json.h"

/* The largest error and the RMS of every block's output, with the tolerance; of a double pass also
 * the errors of the single stages. */
void verify_chart_growth(JsonBuf *out, const VerifyResult *r);

/* The errors of the single stages as shares of what rounding allows, by layer. */
void verify_chart_stages(JsonBuf *out, const VerifyResult *r);

/* log10 of the error, one chart a checkpoint. */
void verify_chart_histograms(JsonBuf *out, const VerifyResult *r);

/* The row whose map is shown first: the first fault, else what failed, else the one that comes
 * nearest to its tolerance; -1 when no row has a map. */
int verify_chart_worst(const VerifyResult *r);

/* A choice of all maps, that row's first. */
void verify_chart_maps(JsonBuf *out, const VerifyResult *r);

/* Attention of all heads, a choice of layers. */
void verify_chart_attention(JsonBuf *out, const VerifyResult *r);

#endif
