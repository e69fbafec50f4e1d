/* kernels/kernels_select.c: which tables this machine can run, and which one is asked for.
 *
 * May include: common, kernels. */
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <fenv.h>
#include <float.h>
#include <string.h>

#include "kernels/kernels_internal.h"

static const Kernels *const all_tables[] = {
    &kernels_scalar,
#if defined(__x86_64__)
    &kernels_avx2,
#endif
};

enum { N_TABLES = sizeof all_tables / sizeof all_tables[0] };

#if defined(__x86_64__)
/* __builtin_cpu_supports knows no "f16c" in clang 14. */
static bool has_f16c(void)
{
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C) != 0;
}
#endif

static bool cpu_has(const Kernels *k)
{
#if defined(__x86_64__)
    if (k == &kernels_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
#endif
    return k == &kernels_scalar;
}

const Kernels *kernels_available(int i)
{
    for (int t = 0; t < (int)N_TABLES; t++)
        if (cpu_has(all_tables[t]) && i-- == 0)
            return all_tables[t];
    return NULL;
}

ErrCode kernels_select(const Kernels **out, const char *isa, Err *err)
{
    const Kernels *best = NULL;

    for (int t = 0; t < (int)N_TABLES; t++) {
        if (isa != NULL && strcmp(isa, all_tables[t]->name) != 0)
            continue;
        if (cpu_has(all_tables[t]))
            best = all_tables[t];
        else if (isa != NULL)
            return err_set(err, ERR_UNSUPPORTED,
                           "instruction set %s: this processor does not have it", isa);
    }
    if (best != NULL) { /* always so for NULL: the scalar table runs everywhere */
        *out = best;
        return ERR_OK;
    }
    if (isa != NULL && strcmp(isa, "avx2") == 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "instruction set %s: not built for this processor family", isa);
    return err_set(err, ERR_USAGE, "instruction set %s: unknown, expected scalar or avx2",
                   isa != NULL ? isa : "");
}

/* A sum that needs rounding to nearest, and a subnormal product that flush-to-zero would lose.
 * volatile: computed here, at run time, in this process's mode. */
ErrCode kernels_check_float_mode(Err *err)
{
    volatile float tiny = 0x1p-126f, half = 0.5f, one = 1.0f, ulp = 0x1p-24f;

    if (FLT_EVAL_METHOD != 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "this build computes float in higher precision (FLT_EVAL_METHOD %d)",
                       (int)FLT_EVAL_METHOD);
    if (fegetround() != FE_TONEAREST || one + ulp != one || one - ulp == one)
        return err_set(err, ERR_UNSUPPORTED,
                       "the floating-point unit does not round to nearest even");
    if (tiny * half != 0x1p-127f || tiny * half + tiny * half != tiny)
        return err_set(err, ERR_UNSUPPORTED,
                       "the floating-point unit flushes subnormal numbers to zero");
    return ERR_OK;
}
