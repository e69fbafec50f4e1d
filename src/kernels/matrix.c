/* kernels/matrix.c: see matrix.h.
 *
 * May include: kernels. */
#include "kernels/matrix.h"

#include <strings.h>

static const char *const type_names[KERN_TYPE_COUNT] = {"F32", "F16", "BF16", "Q8_0", "Q4_0"};

const char *kern_type_name(KernType type)
{
    return type_names[type];
}

bool kern_type_parse(const char *name, KernType *type)
{
    for (int t = 0; t < KERN_TYPE_COUNT; t++)
        if (strcasecmp(name, type_names[t]) == 0) {
            *type = (KernType)t;
            return true;
        }
    return false;
}

KernType kern_type_for(KernType type, size_t k)
{
    return kern_is_quantised(type) && k % KERN_BLOCK != 0 ? KERN_F16 : type;
}

size_t kern_panels_bytes(KernType type, size_t n, size_t k)
{
    const size_t weights = kern_pad(n) * k;

    switch (type) {
    case KERN_F32:
        return weights * 4;
    case KERN_F16:
    case KERN_BF16:
        return weights * 2;
    case KERN_Q8_0:
        return weights;
    default:
        return weights / 2;
    }
}

size_t kern_scales_bytes(KernType type, size_t n, size_t k)
{
    return kern_is_quantised(type) ? kern_pad(n) * (k / KERN_BLOCK) * sizeof(uint16_t) : 0;
}
