/* kernels/pack.c: see pack.h. Runs once per weight at load, so it is written for memory order: the
 * source is read sequentially whatever its orientation.
 *
 * May include: kernels. */
#include "kernels/pack.h"

#include <string.h>

#include "kernels/elementary.h"
#include "kernels/kernels.h"

size_t kern_type_bytes(KernType type)
{
    return type == KERN_F32 ? 4 : 2;
}

static float widen_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exponent = (h >> 10) & 0x1fu;
    const uint32_t mantissa = h & 0x3ffu;

    if (exponent == 0) { /* zero or subnormal: mantissa * 2^-24, exact */
        const float m = (float)mantissa * 0x1p-24f;

        return kern_from_bits(kern_bits(m) | sign);
    }
    if (exponent == 31)
        return kern_from_bits(sign | 0x7f800000u | mantissa << 13);
    return kern_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

float kern_widen(const void *src, size_t index, KernType type)
{
    const unsigned char *p = (const unsigned char *)src + index * kern_type_bytes(type);
    uint32_t u32;
    uint16_t u16;

    if (type == KERN_F32) {
        memcpy(&u32, p, sizeof u32);
        return kern_from_bits(u32);
    }
    memcpy(&u16, p, sizeof u16);
    return type == KERN_F16 ? widen_f16(u16) : kern_from_bits((uint32_t)u16 << 16);
}

static bool finite_bits(float x)
{
    return (kern_bits(x) & 0x7f800000u) != 0x7f800000u;
}

/* n values of one source row to dst; false at the first that is not finite. */
static bool widen_row(float *dst, const void *src, size_t index, KernType type, size_t n,
                      size_t *bad)
{
    int32_t worst = 0; /* of the magnitudes' bits: signed, because SSE2 compares signed */

    if (type == KERN_F32) {
        memcpy(dst, (const unsigned char *)src + index * 4, n * 4);
    } else {
        for (size_t i = 0; i < n; i++)
            dst[i] = kern_widen(src, index + i, type);
    }
    for (size_t i = 0; i < n; i++) {
        const int32_t magnitude = (int32_t)(kern_bits(dst[i]) & 0x7fffffffu);

        worst = magnitude > worst ? magnitude : worst;
    }
    if (worst < 0x7f800000)
        return true;
    for (size_t i = 0; i < n; i++)
        if (!finite_bits(dst[i])) {
            *bad = index + i;
            break;
        }
    return false;
}

/* A block of the source is widened on the stack first: 16 rows of 512 elements, 32 KiB. Then every
 * panel gets whole cache lines; writing 64 panels at once would make their lines evict each other.
 */
enum { PACK_STRIP = 512, PACK_ROWS = 16 };

bool kern_copy(float *dst, const void *src, KernType type, size_t n, size_t *bad)
{
    return widen_row(dst, src, 0, type, n, bad);
}

/* [in, out]: one input row holds all outputs; its element o goes to panel o / 8, place i * 8 + o
 * % 8. */
static bool pack_in_out(float *panels, const void *src, KernType type, size_t n, size_t k,
                        size_t *bad)
{
    float block[PACK_ROWS][PACK_STRIP];

    for (size_t i0 = 0; i0 < k; i0 += PACK_ROWS) {
        const size_t rows = k - i0 < PACK_ROWS ? k - i0 : PACK_ROWS;

        for (size_t o0 = 0; o0 < n; o0 += PACK_STRIP) {
            const size_t m = n - o0 < PACK_STRIP ? n - o0 : PACK_STRIP;

            for (size_t r = 0; r < rows; r++) {
                if (!widen_row(block[r], src, (i0 + r) * n + o0, type, m, bad))
                    return false;
                for (size_t j = m; j < kern_pad(m); j++)
                    block[r][j] = 0.0f;
            }
            for (size_t j = 0; j < m; j += KERN_PANEL)
                for (size_t r = 0; r < rows; r++)
                    memcpy(panels + (o0 + j) * k + (i0 + r) * KERN_PANEL, block[r] + j,
                           KERN_PANEL * sizeof(float));
        }
    }
    return true;
}

/* [out, in]: eight source rows are read side by side and written as one panel. */
static bool pack_out_in(float *panels, const void *src, KernType type, size_t n, size_t k,
                        size_t *bad)
{
    float strip[PACK_STRIP];

    for (size_t o0 = 0; o0 < n; o0 += KERN_PANEL) {
        float *panel = panels + o0 * k;
        const size_t rows = n - o0 < KERN_PANEL ? n - o0 : KERN_PANEL;

        if (rows < KERN_PANEL)
            memset(panel, 0, k * KERN_PANEL * sizeof(float));
        for (size_t i0 = 0; i0 < k; i0 += PACK_STRIP) {
            const size_t m = k - i0 < PACK_STRIP ? k - i0 : PACK_STRIP;

            for (size_t r = 0; r < rows; r++) {
                if (!widen_row(strip, src, (o0 + r) * k + i0, type, m, bad))
                    return false;
                for (size_t i = 0; i < m; i++)
                    panel[(i0 + i) * KERN_PANEL + r] = strip[i];
            }
        }
    }
    return true;
}

bool kern_pack(float *panels, const void *src, KernType type, KernOrder order, size_t n, size_t k,
               size_t *bad)
{
    return order == KERN_IN_OUT ? pack_in_out(panels, src, type, n, k, bad)
                                : pack_out_in(panels, src, type, n, k, bad);
}

void kern_unpack_row(float *row, const float *panels, size_t o, size_t k)
{
    const float *p = panels + o / KERN_PANEL * KERN_PANEL * k + o % KERN_PANEL;

    for (size_t i = 0; i < k; i++)
        row[i] = p[i * KERN_PANEL];
}
