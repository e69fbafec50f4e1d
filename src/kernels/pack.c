/* kernels/pack.c: see pack.h. Runs once per weight at load, so it is written for memory order: the
 * source is read in long runs whatever its orientation, and panels are written in whole cache
 * lines.
 *
 * Everything is done in the form of a file: strips of rows are brought into the form that a file of
 * the wanted type would have, and then only moved. In a panel 8 rows lie side by side in units of 4
 * bytes (a float, 8 weights of Q4_0) or 2 bytes (an f16 or bf16, 2 weights of Q8_0).
 *
 * May include: kernels. */
#include "kernels/pack.h"

#include <string.h>

#include "kernels/elementary.h"

enum {
    CHUNK = 16,         /* elements of a loop whose length the compiler knows, so it vectorises */
    STRIP = 512,        /* weights of a row at a time, where they must be converted */
    STRIP_BYTES = 2048, /* their bytes, for any type */
    LINE = 64           /* bytes of a cache line */
};

/* 16 bytes as 2- and 4-byte units. */
typedef uint16_t Units2 __attribute__((vector_size(16)));
typedef uint32_t Units4 __attribute__((vector_size(16)));

size_t kern_file_bytes(KernType type, size_t n)
{
    switch (type) {
    case KERN_F32:
        return n * 4;
    case KERN_F16:
    case KERN_BF16:
        return n * 2;
    case KERN_Q8_0:
        return n / KERN_BLOCK * sizeof(KernBlockQ8);
    default:
        return n / KERN_BLOCK * sizeof(KernBlockQ4);
    }
}

static uint16_t load_16(const void *p)
{
    uint16_t u;

    memcpy(&u, p, sizeof u);
    return u;
}

/* ---- Widening ---- */

static void widen_f16(float *restrict dst, const unsigned char *restrict src, size_t n)
{
    const size_t whole = n / CHUNK * CHUNK;

    for (size_t i = 0; i < whole; i += CHUNK) {
        uint16_t h[CHUNK];

        memcpy(h, src + 2 * i, sizeof h);
        for (int j = 0; j < CHUNK; j++)
            dst[i + (size_t)j] = kern_widen_f16(h[j]);
    }
    for (size_t i = whole; i < n; i++)
        dst[i] = kern_widen_f16(load_16(src + 2 * i));
}

static void widen_bf16(float *restrict dst, const unsigned char *restrict src, size_t n)
{
    const size_t whole = n / CHUNK * CHUNK;

    for (size_t i = 0; i < whole; i += CHUNK) {
        uint16_t h[CHUNK];

        memcpy(h, src + 2 * i, sizeof h);
        for (int j = 0; j < CHUNK; j++)
            dst[i + (size_t)j] = kern_widen_bf16(h[j]);
    }
    for (size_t i = whole; i < n; i++)
        dst[i] = kern_widen_bf16(load_16(src + 2 * i));
}

static void widen_q8(float *restrict dst, const KernBlockQ8 *restrict src, size_t n_blocks)
{
    for (size_t b = 0; b < n_blocks; b++, src++, dst += KERN_BLOCK) {
        const float d = kern_widen_f16(load_16(src->d));

        for (int i = 0; i < KERN_BLOCK; i++)
            dst[i] = d * (float)src->q[i];
    }
}

static void widen_q4(float *restrict dst, const KernBlockQ4 *restrict src, size_t n_blocks)
{
    for (size_t b = 0; b < n_blocks; b++, src++, dst += KERN_BLOCK) {
        const float d = kern_widen_f16(load_16(src->d));

        for (int i = 0; i < KERN_BLOCK / 2; i++) {
            dst[i] = d * (float)((src->q[i] & 15) - 8);
            dst[i + KERN_BLOCK / 2] = d * (float)((src->q[i] >> 4) - 8);
        }
    }
}

void kern_widen(float *dst, const void *src, KernType type, size_t index, size_t n)
{
    const unsigned char *p = (const unsigned char *)src + kern_file_bytes(type, index);

    switch (type) {
    case KERN_F32:
        memcpy(dst, p, n * sizeof *dst);
        break;
    case KERN_F16:
        widen_f16(dst, p, n);
        break;
    case KERN_BF16:
        widen_bf16(dst, p, n);
        break;
    case KERN_Q8_0:
        widen_q8(dst, (const KernBlockQ8 *)p, n / KERN_BLOCK);
        break;
    default:
        widen_q4(dst, (const KernBlockQ4 *)p, n / KERN_BLOCK);
    }
}

/* ---- Narrowing ---- */

static void narrow_f16(unsigned char *restrict dst, const float *restrict x, size_t n)
{
    const size_t whole = n / CHUNK * CHUNK;
    uint16_t h[CHUNK];

    for (size_t i = 0; i < whole; i += CHUNK) {
        for (int j = 0; j < CHUNK; j++)
            h[j] = kern_to_f16(x[i + (size_t)j]);
        memcpy(dst + 2 * i, h, sizeof h);
    }
    for (size_t i = whole; i < n; i++) {
        h[0] = kern_to_f16(x[i]);
        memcpy(dst + 2 * i, h, 2);
    }
}

static void narrow_bf16(unsigned char *restrict dst, const float *restrict x, size_t n)
{
    const size_t whole = n / CHUNK * CHUNK;
    uint16_t h[CHUNK];

    for (size_t i = 0; i < whole; i += CHUNK) {
        for (int j = 0; j < CHUNK; j++)
            h[j] = kern_to_bf16(x[i + (size_t)j]);
        memcpy(dst + 2 * i, h, sizeof h);
    }
    for (size_t i = whole; i < n; i++) {
        h[0] = kern_to_bf16(x[i]);
        memcpy(dst + 2 * i, h, 2);
    }
}

/* 1 / d, or 0 where d is 0 or so small that 1 / d is infinite: as an f16 it is 0 then. */
static float inverse(float d)
{
    const float id = d != 0.0f ? 1.0f / d : 0.0f;

    return id - id == 0.0f ? id : 0.0f;
}

static void store_scale(uint8_t d[2], float scale)
{
    const uint16_t h = kern_to_f16(scale);

    memcpy(d, &h, sizeof h);
}

/* Halves go away from zero; v - t is exact. */
static int32_t round_half_away(float v)
{
    const int32_t t = (int32_t)v;
    const float rest = v - (float)t;

    return t + (rest >= 0.5f) - (rest <= -0.5f);
}

static void narrow_q8(KernBlockQ8 *restrict dst, const float *restrict x, size_t n_blocks)
{
    for (size_t b = 0; b < n_blocks; b++, dst++, x += KERN_BLOCK) {
        int32_t worst = 0; /* of the magnitudes' bits, which are ordered like the magnitudes */
        float d, id;

        for (int i = 0; i < KERN_BLOCK; i++) {
            const int32_t magnitude = (int32_t)(kern_bits(x[i]) & 0x7fffffffu);

            worst = magnitude > worst ? magnitude : worst;
        }
        d = kern_from_bits((uint32_t)worst) / 127.0f;
        id = inverse(d);
        store_scale(dst->d, d);
        for (int i = 0; i < KERN_BLOCK; i++)
            dst->q[i] = (int8_t)round_half_away(x[i] * id);
    }
}

/* v is a product: compared as well as added to, so that no compiler makes a fused addition of it.
 */
static int32_t nibble(float v)
{
    return v < 6.5f ? (int32_t)(v + 8.5f) : 15;
}

static void narrow_q4(KernBlockQ4 *restrict dst, const float *restrict x, size_t n_blocks)
{
    for (size_t b = 0; b < n_blocks; b++, dst++, x += KERN_BLOCK) {
        float most = 0.0f, d, id; /* most: of greatest magnitude, the first one */

        for (int i = 0; i < KERN_BLOCK; i++)
            most = fabsf(x[i]) > fabsf(most) ? x[i] : most;
        d = most / -8.0f;
        id = inverse(d);
        store_scale(dst->d, d);
        for (int i = 0; i < KERN_BLOCK / 2; i++)
            dst->q[i] = (uint8_t)(nibble(x[i] * id) | nibble(x[i + KERN_BLOCK / 2] * id) << 4);
    }
}

void kern_narrow(void *dst, const float *x, KernType type, size_t n)
{
    switch (type) {
    case KERN_F32:
        memcpy(dst, x, n * sizeof *x);
        break;
    case KERN_F16:
        narrow_f16(dst, x, n);
        break;
    case KERN_BF16:
        narrow_bf16(dst, x, n);
        break;
    case KERN_Q8_0:
        narrow_q8(dst, x, n / KERN_BLOCK);
        break;
    default:
        narrow_q4(dst, x, n / KERN_BLOCK);
    }
}

/* ---- Finiteness ---- */

/* Whether weights are finite, found on the way: adding 1 at the lowest place of the exponent
 * carries into the sign's place just when the exponent is all ones. An f32 is told by its upper
 * half, which is a bf16; what its lower half carries does not count. */
typedef struct {
    Units2 one, carry;
    KernType type; /* a float type */
} Finite;

static Finite finite_begin(KernType type)
{
    const uint16_t one = type == KERN_F16 ? 0x0400 : 0x0080;

    return (Finite){.one = {one, one, one, one, one, one, one, one}, .type = type};
}

static inline void finite_see(Finite *f, Units2 v)
{
    f->carry |= (v & 0x7fff) + f->one;
}

static bool finite_end(const Finite *f)
{
    uint32_t carry = 0;

    for (int i = f->type == KERN_F32 ? 1 : 0; i < 8; i += f->type == KERN_F32 ? 2 : 1)
        carry |= f->carry[i];
    return (carry & 0x8000u) == 0;
}

static inline Units2 load(const void *p)
{
    Units2 v;

    memcpy(&v, p, sizeof v);
    return v;
}

static bool all_finite_floats(const unsigned char *src, KernType type, size_t n_bytes)
{
    const size_t whole = n_bytes / sizeof(Units2) * sizeof(Units2);
    Finite f = finite_begin(type);
    unsigned char rest[sizeof(Units2)] = {0};

    for (size_t i = 0; i < whole; i += sizeof(Units2))
        finite_see(&f, load(src + i));
    memcpy(rest, src + whole, n_bytes - whole);
    finite_see(&f, load(rest));
    return finite_end(&f);
}

/* n weights in the form of a file. */
static bool all_finite(const void *src, KernType type, size_t n)
{
    const unsigned char *p = src;
    const size_t step = kern_file_bytes(type, KERN_BLOCK);

    if (!kern_is_quantised(type))
        return all_finite_floats(p, type, kern_file_bytes(type, n));
    for (size_t b = 0; b < n / KERN_BLOCK; b++)
        if ((load_16(p + b * step) & 0x7c00) == 0x7c00)
            return false;
    return true;
}

/* The first element of src[index .. index + n) that is not finite, or makes a block of type to not
 * finite: the largest of that block. There is one. */
static size_t find_bad(const void *src, KernType from, size_t index, size_t n, KernType to)
{
    float x[KERN_BLOCK];
    unsigned char narrow[KERN_BLOCK * sizeof(float)];

    for (size_t i = 0; i < n; i += KERN_BLOCK) {
        const size_t m = n - i < KERN_BLOCK ? n - i : KERN_BLOCK;
        size_t most = 0;

        kern_widen(x, src, from, index + i, m);
        for (size_t j = 0; j < m; j++) {
            if (!isfinite(x[j]))
                return index + i + j;
            most = fabsf(x[j]) > fabsf(x[most]) ? j : most;
        }
        kern_narrow(narrow, x, to, m);
        if (!all_finite(narrow, to, m))
            return index + i + most;
    }
    return index;
}

/* ---- Between the form of a file and panels ---- */

/* 8 rows side by side: dst[i][r] = src[r][i] in units of 4 bytes. Squares of 4 x 4 units are turned
 * in registers. */
static inline void place_4(unsigned char *restrict dst, const unsigned char *const src[KERN_PANEL],
                           size_t n, Finite *f)
{
    const size_t whole = n / 4 * 4;

    for (size_t i = 0; i < whole; i += 4)
        for (size_t half = 0; half < KERN_PANEL; half += 4) {
            unsigned char *to = dst + (i * KERN_PANEL + half) * 4;
            Units4 row[4], pair[4], column[4];

            for (size_t r = 0; r < 4; r++) {
                row[r] = (Units4)load(src[half + r] + i * 4);
                finite_see(f, (Units2)row[r]);
            }
            for (size_t r = 0; r < 2; r++) {
                pair[r] = __builtin_shufflevector(row[2 * r], row[2 * r + 1], 0, 4, 1, 5);
                pair[r + 2] = __builtin_shufflevector(row[2 * r], row[2 * r + 1], 2, 6, 3, 7);
            }
            for (size_t c = 0; c < 2; c++) {
                column[2 * c] = __builtin_shufflevector(pair[2 * c], pair[2 * c + 1], 0, 1, 4, 5);
                column[2 * c + 1] =
                    __builtin_shufflevector(pair[2 * c], pair[2 * c + 1], 2, 3, 6, 7);
            }
            for (size_t c = 0; c < 4; c++)
                memcpy(to + c * KERN_PANEL * 4, &column[c], sizeof column[c]);
        }
    for (size_t i = whole; i < n; i++)
        for (size_t r = 0; r < KERN_PANEL; r++) {
            Units4 one = {0};

            memcpy(&one, src[r] + i * 4, 4);
            finite_see(f, (Units2)one);
            memcpy(dst + (i * KERN_PANEL + r) * 4, &one, 4);
        }
}

/* Merges rows r and r + 4 unit by unit, for r < 4; three times that turns a square of 8 x 8. */
static inline void merge_rows(Units2 to[KERN_PANEL], const Units2 row[KERN_PANEL])
{
    for (size_t r = 0; r < KERN_PANEL / 2; r++) {
        to[2 * r] = __builtin_shufflevector(row[r], row[r + 4], 0, 8, 1, 9, 2, 10, 3, 11);
        to[2 * r + 1] = __builtin_shufflevector(row[r], row[r + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
}

/* The same in units of 2 bytes. */
static inline void place_2(unsigned char *restrict dst, const unsigned char *const src[KERN_PANEL],
                           size_t n, Finite *f)
{
    const size_t whole = n / 8 * 8;

    for (size_t i = 0; i < whole; i += 8) {
        Units2 a[KERN_PANEL], b[KERN_PANEL];

        for (size_t r = 0; r < KERN_PANEL; r++) {
            a[r] = load(src[r] + i * 2);
            finite_see(f, a[r]);
        }
        merge_rows(b, a);
        merge_rows(a, b);
        merge_rows(b, a);
        memcpy(dst + i * KERN_PANEL * 2, b, sizeof b);
    }
    for (size_t i = whole; i < n; i++)
        for (size_t r = 0; r < KERN_PANEL; r++) {
            Units2 one = {0};

            memcpy(&one, src[r] + i * 2, 2);
            finite_see(f, one);
            memcpy(dst + (i * KERN_PANEL + r) * 2, &one, 2);
        }
}

/* Blocks of 8 rows to panels and scales. */
static void place_blocks(unsigned char *panel, uint16_t *scales,
                         const unsigned char *const src[KERN_PANEL], KernType type, size_t n_blocks)
{
    const size_t step = kern_file_bytes(type, KERN_BLOCK);
    Finite ignored = finite_begin(KERN_F32); /* quants are no floats */

    for (size_t b = 0; b < n_blocks; b++) {
        const unsigned char *q[KERN_PANEL];

        for (size_t r = 0; r < KERN_PANEL; r++) {
            scales[b * KERN_PANEL + r] = load_16(src[r] + b * step);
            q[r] = src[r] + b * step + 2;
        }
        if (type == KERN_Q8_0) {
            place_2(panel, q, KERN_BLOCK / 2, &ignored);
            panel += (size_t)KERN_BLOCK * KERN_PANEL;
        } else {
            place_4(panel, q, KERN_BLOCK / 8, &ignored);
            panel += (size_t)KERN_BLOCK * KERN_PANEL / 2;
        }
    }
}

/* Where weights i0.. of the panel of row o begin. */
static size_t panel_offset(KernType type, size_t k, size_t o, size_t i0)
{
    return kern_panels_bytes(type, KERN_PANEL, k) * (o / KERN_PANEL) +
           kern_panels_bytes(type, KERN_PANEL, i0);
}

static size_t scales_offset(size_t k, size_t o, size_t i0)
{
    return (o / KERN_PANEL * (k / KERN_BLOCK) + i0 / KERN_BLOCK) * KERN_PANEL;
}

/* 8 rows of m weights, in the form of a file, to columns i0 .. i0 + m of the panel of row o. False
 * if one of a float type is not finite. */
static bool place(unsigned char *panels, uint16_t *scales, KernType type, size_t k, size_t o,
                  size_t i0, const unsigned char *const src[KERN_PANEL], size_t m)
{
    unsigned char *panel = panels + panel_offset(type, k, o, i0);
    Finite f = finite_begin(type);

    if (type == KERN_F32)
        place_4(panel, src, m, &f);
    else if (!kern_is_quantised(type))
        place_2(panel, src, m, &f);
    else
        place_blocks(panel, scales + scales_offset(k, o, i0), src, type, m / KERN_BLOCK);
    return kern_is_quantised(type) || finite_end(&f);
}

/* Weights i0 .. i0 + m of row o in the form of a file. */
static void gather(unsigned char *dst, const KernMatrix *w, size_t o, size_t i0, size_t m)
{
    const size_t k = (size_t)w->k, r = o % KERN_PANEL;
    const unsigned char *panel = (const unsigned char *)w->panels + panel_offset(w->type, k, o, i0);

    if (w->type == KERN_F32) {
        for (size_t i = 0; i < m; i++)
            memcpy(dst + i * 4, panel + (i * KERN_PANEL + r) * 4, 4);
    } else if (!kern_is_quantised(w->type)) {
        for (size_t i = 0; i < m; i++)
            memcpy(dst + i * 2, panel + (i * KERN_PANEL + r) * 2, 2);
    } else {
        const size_t unit = w->type == KERN_Q8_0 ? 2 : 4;
        const uint16_t *scales = w->scales + scales_offset(k, o, i0);
        const size_t units = (kern_file_bytes(w->type, KERN_BLOCK) - 2) / unit;

        for (size_t b = 0; b < m / KERN_BLOCK; b++) {
            memcpy(dst, scales + b * KERN_PANEL + r, 2);
            dst += 2;
            for (size_t i = 0; i < units; i++, dst += unit)
                memcpy(dst, panel + ((b * units + i) * KERN_PANEL + r) * unit, unit);
        }
    }
}

void kern_unpack_file(void *dst, const KernMatrix *m, size_t o)
{
    gather(dst, m, o, 0, (size_t)m->k);
}

void kern_unpack_row(float *row, const KernMatrix *m, size_t o)
{
    unsigned char strip[STRIP_BYTES];

    for (size_t i = 0; i < (size_t)m->k; i += STRIP) {
        const size_t n = (size_t)m->k - i < STRIP ? (size_t)m->k - i : STRIP;

        gather(strip, m, o, i, n);
        kern_widen(row + i, strip, m->type, 0, n);
    }
}

void kern_unpack_column(float *column, const KernMatrix *m, size_t i)
{
    const size_t n = kern_is_quantised(m->type) ? KERN_BLOCK : 1, start = i / n * n;
    unsigned char strip[STRIP_BYTES];
    float wide[KERN_BLOCK];

    for (size_t o = 0; o < (size_t)m->n; o++) {
        gather(strip, m, o, start, n);
        kern_widen(wide, strip, m->type, 0, n);
        column[o] = wide[i - start];
    }
}

/* ---- Packing ---- */

/* src[index .. index + n) in the form of a file of type to, n at most STRIP; false if that, or the
 * source, is not finite. */
static bool convert(unsigned char *dst, KernType to, const void *src, KernType from, size_t index,
                    size_t n, size_t *bad)
{
    const unsigned char *p = (const unsigned char *)src + kern_file_bytes(from, index);
    float wide[STRIP];

    if (all_finite(p, from, n)) {
        if (from == to) {
            memcpy(dst, p, kern_file_bytes(from, n));
            return true;
        }
        kern_widen(wide, p, from, 0, n);
        kern_narrow(dst, wide, to, n);
        if (to == KERN_F32 || all_finite(dst, to, n))
            return true;
    }
    *bad = find_bad(src, from, index, n, to);
    return false;
}

/* [out, in], 8 rows from source row o on, `some` of them there: converted strip by strip. */
static bool pack_converted(unsigned char *panels, uint16_t *scales, KernType to, size_t k,
                           size_t first, size_t some, const void *src, KernType from, size_t o,
                           size_t *bad)
{
    unsigned char strip[KERN_PANEL][STRIP_BYTES];
    const unsigned char *strips[KERN_PANEL];

    for (size_t r = 0; r < KERN_PANEL; r++) {
        strips[r] = strip[r];
        if (r >= some)
            memset(strip[r], 0, STRIP_BYTES);
    }
    for (size_t i = 0; i < k; i += STRIP) {
        const size_t m = k - i < STRIP ? k - i : STRIP;

        for (size_t r = 0; r < some; r++)
            if (!convert(strip[r], to, src, from, (o + r) * k + i, m, bad))
                return false;
        (void)place(panels, scales, to, k, first + o, i, strips, m); /* convert has looked */
    }
    return true;
}

/* [out, in]: eight source rows are read side by side and written as one panel; straight from the
 * source where nothing must be converted. */
static bool pack_out_in(unsigned char *panels, uint16_t *scales, KernType to, size_t k,
                        size_t first, size_t rows, const void *src, KernType from, size_t *bad)
{
    const size_t row_bytes = kern_file_bytes(from, k);

    for (size_t o = 0; o < rows; o += KERN_PANEL) {
        const size_t some = rows - o < KERN_PANEL ? rows - o : KERN_PANEL;
        const unsigned char *source[KERN_PANEL];

        if (from != to || some < KERN_PANEL) {
            if (!pack_converted(panels, scales, to, k, first, some, src, from, o, bad))
                return false;
            continue;
        }
        for (size_t r = 0; r < KERN_PANEL; r++)
            source[r] = (const unsigned char *)src + (o + r) * row_bytes;
        if ((kern_is_quantised(to) && !all_finite(source[0], to, KERN_PANEL * k)) ||
            !place(panels, scales, to, k, first + o, 0, source, k)) {
            *bad = find_bad(src, from, o * k, KERN_PANEL * k, to);
            return false;
        }
    }
    return true;
}

/* A line of a source row, [in, out], to the panels of its outputs, `some` bytes of it: each panel
 * gets 8 outputs, width bytes. */
static inline void place_line(unsigned char *dst, size_t panel_bytes, const size_t width,
                              const unsigned char *src, size_t some, Finite *f)
{
    unsigned char line[LINE] = {0};

    if (some < LINE) {
        memcpy(line, src, some);
        src = line;
    }
    for (size_t i = 0; i < LINE && i < (some + width - 1) / width * width; i += sizeof(Units2)) {
        const Units2 v = load(src + i);

        finite_see(f, v);
        memcpy(dst + i / width * panel_bytes + i % width, &v, sizeof v);
    }
}

/* Rows of n weights of a float type, stride bytes apart, to panels: `rows` steps of each. A line of
 * every row at a time, so that panels get whole lines too. */
static inline bool place_rows(unsigned char *panels, size_t panel_bytes, const size_t width,
                              const unsigned char *src, size_t stride, size_t rows, size_t n,
                              KernType type)
{
    const size_t n_bytes = kern_file_bytes(type, n);
    Finite f = finite_begin(type);

    for (size_t i = 0; i < n_bytes; i += LINE, panels += LINE / width * panel_bytes)
        for (size_t r = 0; r < rows; r++)
            place_line(panels + r * width, panel_bytes, width, src + r * stride + i,
                       n_bytes - i < LINE ? n_bytes - i : LINE, &f);
    return finite_end(&f);
}

static bool place_rows_of(unsigned char *panels, size_t panel_bytes, const unsigned char *src,
                          size_t stride, size_t rows, size_t n, KernType type)
{
    if (type == KERN_F32)
        return place_rows(panels, panel_bytes, KERN_PANEL * sizeof(float), src, stride, rows, n,
                          type);
    return place_rows(panels, panel_bytes, KERN_PANEL * sizeof(uint16_t), src, stride, rows, n,
                      type);
}

/* [in, out] to float types: one input row holds all outputs; its element o goes to panel o / 8,
 * place i * 8 + o % 8. */
static bool pack_in_out(unsigned char *panels, KernType to, size_t n, size_t k, const void *src,
                        KernType from, size_t *bad)
{
    enum { ROWS = 8 };
    unsigned char block[ROWS][STRIP_BYTES];
    const size_t panel_bytes = kern_panels_bytes(to, KERN_PANEL, k);
    const size_t strip = from == to ? n : STRIP; /* nothing to convert: straight from the source */

    for (size_t i = 0; i < k; i += ROWS) {
        const size_t rows = k - i < ROWS ? k - i : ROWS;

        for (size_t o = 0; o < n; o += strip) {
            const size_t m = n - o < strip ? n - o : strip;
            const unsigned char *p = (const unsigned char *)src + kern_file_bytes(from, i * n + o);

            for (size_t r = 0; from != to && r < rows; r++)
                if (!convert(block[r], to, src, from, (i + r) * n + o, m, bad))
                    return false;
            if (!place_rows_of(panels + panel_offset(to, k, o, i), panel_bytes,
                               from == to ? p : block[0],
                               from == to ? kern_file_bytes(from, n) : STRIP_BYTES, rows, m, to)) {
                *bad = find_bad(src, from, i * n, rows * n, to);
                return false;
            }
        }
    }
    return true;
}

/* Block of 32 input rows by up to COLUMNS outputs, the first at (i, o), to blocks of type to. False
 * and *bad when the scale of one is not finite. */
enum { COLUMNS = 128 };

static bool place_columns(unsigned char *panels, uint16_t *scales, KernType to, size_t n, size_t k,
                          size_t i, size_t o, float block[KERN_BLOCK][COLUMNS], size_t *bad)
{
    const size_t m = n - o < COLUMNS ? n - o : COLUMNS;

    for (size_t j = 0; j < m; j += KERN_PANEL) {
        unsigned char narrow[KERN_PANEL][sizeof(KernBlockQ8)] = {{0}};
        const unsigned char *strips[KERN_PANEL];

        for (size_t r = 0; r < KERN_PANEL; r++) {
            float column[KERN_BLOCK];
            size_t most = 0;

            strips[r] = narrow[r];
            if (j + r >= m)
                continue;
            for (size_t s = 0; s < KERN_BLOCK; s++)
                column[s] = block[s][j + r];
            kern_narrow(narrow[r], column, to, KERN_BLOCK);
            if (all_finite(narrow[r], to, KERN_BLOCK))
                continue;
            for (size_t s = 1; s < KERN_BLOCK; s++)
                most = fabsf(column[s]) > fabsf(column[most]) ? s : most;
            *bad = (i + most) * n + o + j + r;
            return false;
        }
        (void)place(panels, scales, to, k, o + j, i, strips, KERN_BLOCK);
    }
    return true;
}

/* [in, out] to blocks, which run along the inputs. */
static bool pack_columns(unsigned char *panels, uint16_t *scales, KernType to, size_t n, size_t k,
                         const void *src, KernType from, size_t *bad)
{
    float block[KERN_BLOCK][COLUMNS];

    for (size_t i = 0; i < k; i += KERN_BLOCK)
        for (size_t o = 0; o < n; o += COLUMNS) {
            const size_t m = n - o < COLUMNS ? n - o : COLUMNS;

            for (size_t s = 0; s < KERN_BLOCK; s++)
                if (!convert((unsigned char *)block[s], KERN_F32, src, from, (i + s) * n + o, m,
                             bad))
                    return false;
            if (!place_columns(panels, scales, to, n, k, i, o, block, bad))
                return false;
        }
    return true;
}

bool kern_pack(void *panels, uint16_t *scales, KernType to, size_t n, size_t k, size_t first,
               size_t rows, const void *src, KernType from, KernOrder order, size_t *bad)
{
    if (order == KERN_OUT_IN)
        return pack_out_in(panels, scales, to, k, first, rows, src, from, bad);
    if (kern_is_quantised(to))
        return pack_columns(panels, scales, to, n, k, src, from, bad);
    return pack_in_out(panels, to, n, k, src, from, bad);
}

bool kern_all_finite(const float *x, size_t n, size_t *bad)
{
    if (all_finite(x, KERN_F32, n))
        return true;
    *bad = find_bad(x, KERN_F32, 0, n, KERN_F32);
    return false;
}

bool kern_copy(float *dst, const void *src, KernType type, size_t n, size_t *bad)
{
    for (size_t i = 0; i < n; i += STRIP) {
        const size_t m = n - i < STRIP ? n - i : STRIP;

        if (!convert((unsigned char *)(dst + i), KERN_F32, src, type, i, m, bad))
            return false;
    }
    return true;
}
