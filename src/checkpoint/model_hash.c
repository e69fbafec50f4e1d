/* checkpoint/model_hash.c: see model_hash.h.
 *
 * May include: common, kernels, model. */
#include "checkpoint/model_hash.h"

#include <string.h>

#include "checkpoint/bits_hash.h"
#include "common/arena.h"
#include "common/json.h"
#include "kernels/pack.h"
#include "model/config.h"
#include "model/weights.h"

typedef struct {
    uint64_t hash;
    unsigned char *row; /* the longest one in the form of a file */
    size_t row_bytes;
} Hashing;

static uint64_t hash_bytes(uint64_t h, const void *bytes, size_t n)
{
    const unsigned char *b = bytes;

    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * 1099511628211u;
    return h;
}

ErrCode model_hash_config(const Gpt2 *m, uint64_t *hash, Err *err)
{
    JsonBuf config = {0};

    config_json(&config, &m->config);
    if (!config.oom)
        *hash = hash_bytes(bits_hash_start, config.data, config.len);
    const ErrCode code =
        config.oom ? err_set(err, ERR_MEMORY, "out of memory for the configuration") : ERR_OK;
    json_buf_free(&config);
    return code;
}

static size_t slot_row_bytes(const WeightSlot *slot)
{
    return kern_file_bytes(slot->matrix->type, slot->k);
}

static bool measure_slot(void *ctx, const WeightSlot *slot)
{
    Hashing *h = ctx;

    if (slot->matrix != NULL && slot_row_bytes(slot) > h->row_bytes)
        h->row_bytes = slot_row_bytes(slot);
    return true;
}

static bool hash_slot(void *ctx, const WeightSlot *slot)
{
    Hashing *h = ctx;

    h->hash = hash_bytes(h->hash, slot->name, strlen(slot->name));
    if (slot->matrix == NULL) {
        h->hash = bits_hash(h->hash, *slot->floats, slot->n * slot->k);
        return true;
    }
    for (size_t i = 0; i < slot->n; i++) {
        kern_unpack_file(h->row, slot->matrix, i);
        h->hash = hash_bytes(h->hash, h->row, slot_row_bytes(slot));
    }
    return true;
}

ErrCode model_hash_weights(Gpt2 *m, uint64_t *hash, Err *err)
{
    Hashing h = {.row_bytes = 0};
    Arena room = {0};
    ErrCode code = model_hash_config(m, &h.hash, err);

    if (code != ERR_OK)
        return code;
    (void)weights_each(m, measure_slot, &h);
    code = arena_init(&room, h.row_bytes, "a row of weights", err);
    if (code != ERR_OK)
        return code;
    h.row = arena_alloc(&room, h.row_bytes, 1);
    if (h.row != NULL)
        (void)weights_each(m, hash_slot, &h);
    else
        code = err_set(err, ERR_MEMORY, "out of memory for a row of weights");
    arena_free(&room);
    if (code == ERR_OK)
        *hash = h.hash;
    return code;
}
