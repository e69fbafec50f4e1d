/* cli/type_option.h: the values of --type and --kv-type.
 *
 * May include: common, kernels. */
#ifndef LLORCH_CLI_TYPE_OPTION_H
#define LLORCH_CLI_TYPE_OPTION_H

#include "common/error.h"
#include "kernels/matrix.h"

/* --type: any type of weights, in upper or lower case. Errors: ERR_USAGE. */
ErrCode type_option_parse(const char *text, KernType *out, Err *err) ERR_CHECK;

/* --kv-type: f32 or f16. Errors: ERR_USAGE. */
ErrCode type_option_parse_kv(const char *text, KernType *out, Err *err) ERR_CHECK;

#endif
