/* cli/sampling_option.h: the options that say how the next token is drawn, for the sub-commands
 * that generate.
 *
 * May include: common, sampling. */
#ifndef LLORCH_CLI_SAMPLING_OPTION_H
#define LLORCH_CLI_SAMPLING_OPTION_H

#include <getopt.h>

#include "common/error.h"
#include "sampling/sampler.h"

enum {
    SAMPLING_OPTION_TEMPERATURE = 1024, /* behind what a sub-command counts for itself */
    SAMPLING_OPTION_TOP_K,
    SAMPLING_OPTION_TOP_P,
    SAMPLING_OPTION_MIN_P,
    SAMPLING_OPTION_PENALTY,
    SAMPLING_OPTION_SEED
};

/* Rows for a table of struct option. */
#define SAMPLING_OPTION_ROWS                                                                       \
    {"temperature", required_argument, NULL, SAMPLING_OPTION_TEMPERATURE},                         \
        {"top-k", required_argument, NULL, SAMPLING_OPTION_TOP_K},                                 \
        {"top-p", required_argument, NULL, SAMPLING_OPTION_TOP_P},                                 \
        {"min-p", required_argument, NULL, SAMPLING_OPTION_MIN_P},                                 \
        {"repetition-penalty", required_argument, NULL, SAMPLING_OPTION_PENALTY},                  \
    {                                                                                              \
        "seed", required_argument, NULL, SAMPLING_OPTION_SEED                                      \
    }

/* Stores the value of one of them. Errors: ERR_USAGE. */
ErrCode sampling_option_take(SamplingParams *p, int option, const char *value, Err *err) ERR_CHECK;

#endif
