/* cli/type_option.c: see type_option.h.
 *
 * May include: common, kernels. */
#include "cli/type_option.h"

ErrCode type_option_parse(const char *text, KernType *out, Err *err)
{
    if (!kern_type_parse(text, out))
        return err_set(err, ERR_USAGE, "--type: %s: expected f32, f16, bf16, q8_0 or q4_0", text);
    return ERR_OK;
}

ErrCode type_option_parse_kv(const char *text, KernType *out, Err *err)
{
    KernType type;

    if (!kern_type_parse(text, &type) || (type != KERN_F32 && type != KERN_F16))
        return err_set(err, ERR_USAGE, "--kv-type: %s: expected f32 or f16", text);
    *out = type;
    return ERR_OK;
}
