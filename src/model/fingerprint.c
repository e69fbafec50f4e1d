/* model/fingerprint.c: see fingerprint.h.
 *
 * Four lanes, each of which takes eight bytes of 32 by an exclusive or, a rotation and a
 * multiplication: as fast as memory can be read. The rotation brings what the top bits say back to
 * the bottom, or two changed signs in a lane would cancel out.
 *
 * May include: common, kernels. */
#include "model/fingerprint.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "kernels/matrix.h"

enum { STEP = 32 };

static const uint64_t odd = 0x9e3779b97f4a7c15u;

static inline uint64_t stir(uint64_t lane, uint64_t word)
{
    const uint64_t x = lane ^ word;

    return (x << 29 | x >> 35) * odd;
}

static uint64_t finish(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void take_step(uint64_t lanes[4], const unsigned char *bytes)
{
    uint64_t words[4];

    memcpy(words, bytes, sizeof words);
    lanes[0] = stir(lanes[0], words[0]);
    lanes[1] = stir(lanes[1], words[1]);
    lanes[2] = stir(lanes[2], words[2]);
    lanes[3] = stir(lanes[3], words[3]);
}

/* The bytes, and how many they are, behind what h says. */
static uint64_t add_bytes(uint64_t h, const void *data, size_t n)
{
    const unsigned char *bytes = data;
    uint64_t lanes[4] = {h, h + 1, h + 2, h + 3};
    unsigned char rest[STEP] = {0};
    size_t at = 0;

    for (; n - at >= STEP; at += STEP)
        take_step(lanes, bytes + at);
    memcpy(rest, bytes + at, n - at);
    take_step(lanes, rest);
    for (int i = 0; i < 4; i++)
        h = finish(h ^ lanes[i]);
    return finish(h ^ n);
}

uint64_t fingerprint_add(uint64_t so_far, const WeightSlot *slot)
{
    const KernMatrix *m = slot->matrix;
    uint64_t h = add_bytes(so_far, slot->name, strlen(slot->name));

    if (m == NULL)
        return add_bytes(h, *slot->floats, slot->n * slot->k * sizeof(float));
    h = add_bytes(h, m->panels, kern_panels_bytes(m->type, slot->n, slot->k));
    if (m->scales != NULL)
        h = add_bytes(h, m->scales, kern_scales_bytes(m->type, slot->n, slot->k));
    return finish(h ^ (uint64_t)m->type);
}

static bool add_slot(void *ctx, const WeightSlot *slot)
{
    uint64_t *h = ctx;

    *h = fingerprint_add(*h, slot);
    return true;
}

void fingerprint_weights(Gpt2 *m)
{
    m->weights_hash = 0;
    (void)weights_each(m, add_slot, &m->weights_hash);
    m->has_weights_hash = true;
}

ErrCode fingerprint_text(const Gpt2 *m, char text[FINGERPRINT_BYTES], Err *err)
{
    JsonBuf config = {0};
    ErrCode code = ERR_OK;

    text[0] = '\0';
    if (!m->has_weights_hash)
        return ERR_OK;
    config_json(&config, &m->config);
    if (config.oom)
        code = err_set(err, ERR_MEMORY, "out of memory for the configuration");
    else
        (void)snprintf(text, FINGERPRINT_BYTES, "%016" PRIx64,
                       add_bytes(m->weights_hash, config.data, config.len));
    json_buf_free(&config);
    return code;
}

void fingerprint_write(const Gpt2 *m, char text[FINGERPRINT_BYTES])
{
    (void)snprintf(text, FINGERPRINT_BYTES, "%016" PRIx64, m->weights_hash);
}

bool fingerprint_read(Gpt2 *m, const char *text, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    uint64_t hash = 0;

    if (n != FINGERPRINT_BYTES - 1)
        return false;
    for (size_t i = 0; i < n; i++) {
        const char *digit = memchr(digits, text[i], sizeof digits - 1);

        if (digit == NULL)
            return false;
        hash = hash << 4 | (uint64_t)(digit - digits);
    }
    m->weights_hash = hash;
    m->has_weights_hash = true;
    return true;
}
