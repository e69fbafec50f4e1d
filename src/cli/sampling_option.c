/* cli/sampling_option.c: see sampling_option.h.
 *
 * May include: common, sampling. */
#include "cli/sampling_option.h"

#include "cli/cli.h"

ErrCode sampling_option_take(SamplingParams *p, int option, const char *value, Err *err)
{
    switch (option) {
    case SAMPLING_OPTION_TEMPERATURE:
        return cli_parse_float("--temperature", value, 0.0f, 2.0f, &p->temperature, err);
    case SAMPLING_OPTION_TOP_K:
        return cli_parse_int("--top-k", value, 0, UINT32_MAX, &p->top_k, err);
    case SAMPLING_OPTION_TOP_P:
        return cli_parse_float("--top-p", value, 0.0f, 1.0f, &p->top_p, err);
    case SAMPLING_OPTION_MIN_P:
        return cli_parse_float("--min-p", value, 0.0f, 1.0f, &p->min_p, err);
    case SAMPLING_OPTION_PENALTY:
        return cli_parse_float("--repetition-penalty", value, 0.0f, 2.0f, &p->repetition_penalty,
                               err);
    default:
        return cli_parse_u64("--seed", value, &p->seed, err);
    }
}
