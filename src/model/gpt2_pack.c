/* model/gpt2_pack.c: see gpt2_pack.h.
 *
 * May include: common, formats, kernels. */
#include "model/gpt2_pack.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "formats/safetensors_write.h"
#include "kernels/matrix.h"
#include "model/config.h"
#include "model/fingerprint.h"
#include "model/weights.h"

#define PACK_FORMAT "llorch-packed"
#define PACK_VERSION "1"

enum {
    ALIGN = 64,
    NAME_BYTES = WEIGHT_NAME_BYTES + 16,
    SLOTS_PER_LAYER = 12,
    OTHER_SLOTS = 5,      /* wte, wpe, ln_f twice, lm_head */
    WRITE_BYTES = 8 << 20 /* between two progress calls */
};

/* ---- What a tensor looks like ---- */

typedef struct {
    char name[NAME_BYTES];
    const char *dtype;
    int n_dims;
    size_t dims[5];
    size_t n_bytes;
    const void *data; /* when writing */
} Shape;

static Shape floats_shape(const WeightSlot *slot)
{
    Shape s = {.dtype = "F32",
               .n_dims = slot->kind == WEIGHT_ROWS ? 2 : 1,
               .dims = {slot->n, slot->k},
               .n_bytes = slot->n * slot->k * sizeof(float)};

    (void)snprintf(s.name, sizeof s.name, "%s", slot->name);
    return s;
}

static Shape panels_shape(const WeightSlot *slot, KernType type)
{
    static const char *const dtypes[KERN_TYPE_COUNT] = {[KERN_F32] = "F32",
                                                        [KERN_F16] = "F16",
                                                        [KERN_BF16] = "BF16",
                                                        [KERN_Q8_0] = "I8",
                                                        [KERN_Q4_0] = "U8"};
    const size_t panels = kern_pad(slot->n) / KERN_PANEL, blocks = slot->k / KERN_BLOCK;
    Shape s = {.dtype = dtypes[type],
               .n_dims = 3,
               .dims = {panels, slot->k, KERN_PANEL},
               .n_bytes = kern_panels_bytes(type, slot->n, slot->k)};

    (void)snprintf(s.name, sizeof s.name, "%s", slot->name);
    if (type == KERN_Q8_0) {
        s.n_dims = 5;
        memcpy(s.dims, (const size_t[]){panels, blocks, 16, KERN_PANEL, 2}, sizeof s.dims);
    } else if (type == KERN_Q4_0) {
        s.n_dims = 5;
        memcpy(s.dims, (const size_t[]){panels, blocks, 4, KERN_PANEL, 4}, sizeof s.dims);
    }
    return s;
}

static Shape scales_shape(const WeightSlot *slot, KernType type)
{
    Shape s = {.dtype = "F16",
               .n_dims = 3,
               .dims = {kern_pad(slot->n) / KERN_PANEL, slot->k / KERN_BLOCK, KERN_PANEL},
               .n_bytes = kern_scales_bytes(type, slot->n, slot->k)};

    (void)snprintf(s.name, sizeof s.name, "%s.scales", slot->name);
    return s;
}

/* ---- The checksum: FNV-1a over each tensor's line, added up, so that the order does not matter.
 * Not against forgery: against a file that was mixed up or edited by hand ---- */

static uint64_t hash_text(const char *text, size_t n)
{
    uint64_t h = 14695981039346656037u;

    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * 1099511628211u;
    return h;
}

/* offset: of its data, from the beginning of all data. */
static uint64_t hash_tensor(const char *name, const char *dtype, int n_dims, const size_t *dims,
                            size_t offset)
{
    char line[NAME_BYTES + 160];
    size_t len =
        (size_t)snprintf(line, sizeof line, "%.*s %s %zu", NAME_BYTES, name, dtype, offset);

    for (int i = 0; i < n_dims && len < sizeof line - 24; i++)
        len += (size_t)snprintf(line + len, sizeof line - len, " %zu", dims[i]);
    return hash_text(line, len);
}

/* ---- Writing ---- */

typedef struct {
    StNewTensor *tensors;
    Shape *shapes; /* names of the tensors live here */
    size_t n, room;
    int n_paddings;
    uint64_t structure;
    size_t total; /* bytes of data */
    Arena arena;
} Plan;

static void add_shape(Plan *p, const Shape *s)
{
    StNewTensor *t = &p->tensors[p->n];

    if (p->n == p->room) /* room was counted: cannot be */
        return;
    p->shapes[p->n] = *s;
    *t = (StNewTensor){.name = p->shapes[p->n].name, .dtype = s->dtype, .n_dims = s->n_dims};
    memcpy(t->dims, s->dims, sizeof s->dims);
    p->structure += hash_tensor(s->name, s->dtype, s->n_dims, s->dims, p->total);
    p->total += s->n_bytes;
    p->n++;
}

/* A tensor, and the bytes that bring the next one to a multiple of 64. */
static void add_aligned(Plan *p, const Shape *s)
{
    static const unsigned char zeros[ALIGN];
    const size_t over = s->n_bytes % ALIGN;

    add_shape(p, s);
    if (over != 0) {
        Shape padding = {.dtype = "U8",
                         .n_dims = 1,
                         .dims = {ALIGN - over},
                         .n_bytes = ALIGN - over,
                         .data = zeros};

        (void)snprintf(padding.name, sizeof padding.name, "padding.%d", p->n_paddings++);
        add_shape(p, &padding);
    }
}

static bool add_slot(void *ctx, const WeightSlot *slot)
{
    Shape s;

    if (slot->matrix == NULL) {
        s = floats_shape(slot);
        s.data = *slot->floats;
        add_aligned(ctx, &s);
        return true;
    }
    s = panels_shape(slot, slot->matrix->type);
    s.data = slot->matrix->panels;
    add_aligned(ctx, &s);
    if (slot->matrix->scales != NULL) {
        s = scales_shape(slot, slot->matrix->type);
        s.data = slot->matrix->scales;
        add_aligned(ctx, &s);
    }
    return true;
}

static ErrCode make_plan(Plan *p, Gpt2 *m, const Gpt2PackExtra *extra, Err *err)
{
    size_t bytes = 0;
    ErrCode code;

    /* Each weight with its scales, each with a padding. */
    p->room = ((size_t)m->config.n_layers * SLOTS_PER_LAYER + OTHER_SLOTS) * 4 + extra->n_parts * 2;
    if (!arena_plan(&bytes, p->room, sizeof *p->tensors) ||
        !arena_plan(&bytes, p->room, sizeof *p->shapes))
        return err_set(err, ERR_LIMIT, "too many tensors");
    if ((code = arena_init(&p->arena, bytes, "list of tensors", err)) != ERR_OK)
        return code;
    p->tensors = arena_alloc(&p->arena, p->room, sizeof *p->tensors);
    p->shapes = arena_alloc(&p->arena, p->room, sizeof *p->shapes);
    if (p->tensors == NULL || p->shapes == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the list of tensors");
    (void)weights_each(m, add_slot, p);
    for (size_t i = 0; i < extra->n_parts; i++) {
        const Gpt2PackPart *part = &extra->parts[i];
        Shape s = {.dtype = part->dtype,
                   .n_dims = 1,
                   .dims = {part->n},
                   .n_bytes = part->n_bytes,
                   .data = part->data};

        (void)snprintf(s.name, sizeof s.name, "%s", part->name);
        add_aligned(p, &s);
    }
    return ERR_OK;
}

static ErrCode write_data(StWriter *w, const Plan *p, const Gpt2Progress *progress, Err *err)
{
    size_t done = 0;

    for (size_t i = 0; i < p->n; i++)
        for (size_t at = 0; at < p->shapes[i].n_bytes; at += WRITE_BYTES) {
            const size_t left = p->shapes[i].n_bytes - at;
            const size_t n = left < WRITE_BYTES ? left : WRITE_BYTES;

            if (!safetensors_writer_data(w, (const char *)p->shapes[i].data + at, n))
                return ERR_OK; /* safetensors_writer_finish says why */
            done += n;
            if (progress->progress != NULL &&
                !progress->progress(progress->ctx, (double)done / (double)p->total))
                return err_set(err, ERR_CANCELLED, "packing was stopped");
        }
    return ERR_OK;
}

static ErrCode write_file(const Plan *p, const char *path, const Gpt2 *m,
                          const Gpt2PackExtra *extra, const JsonBuf *config,
                          const Gpt2Progress *progress, Err *err)
{
    char structure[32], weights_hash[FINGERPRINT_BYTES];
    const StNewText texts[] = {
        {"config", config->data, config->len},
        {"file_types", m->file_types, strlen(m->file_types)},
        {"format", PACK_FORMAT, strlen(PACK_FORMAT)},
        {"structure", structure, 16},
        {"version", PACK_VERSION, strlen(PACK_VERSION)},
        {"weights_hash", weights_hash, sizeof weights_hash - 1},
        {extra->text_key, extra->text, extra->text != NULL ? strlen(extra->text) : 0},
    };
    const size_t n_texts = sizeof texts / sizeof texts[0] - (extra->text == NULL ? 1 : 0);
    uint64_t sum = p->structure + hash_text(config->data, config->len);
    StWriter w;
    ErrCode code;

    if (extra->text != NULL)
        sum += hash_text(extra->text, strlen(extra->text));
    (void)snprintf(structure, sizeof structure, "%016" PRIx64, sum);
    fingerprint_write(m, weights_hash);
    code = safetensors_writer_open(&w, path, texts, n_texts, p->tensors, p->n, err);
    if (code != ERR_OK)
        return code;
    code = write_data(&w, p, progress, err);
    if (code == ERR_OK)
        return safetensors_writer_finish(&w, err);
    safetensors_writer_discard(&w);
    return code;
}

ErrCode gpt2_pack_write(Gpt2 *m, const char *path, const Gpt2PackExtra *extra,
                        const Gpt2Progress *progress, Err *err)
{
    Plan p = {.n = 0};
    JsonBuf config = {0};
    ErrCode code = make_plan(&p, m, extra, err);

    config_json(&config, &m->config);
    if (code == ERR_OK && config.oom)
        code = err_set(err, ERR_MEMORY, "out of memory for the configuration");
    if (code == ERR_OK) {
        if (!m->has_weights_hash)
            fingerprint_weights(m);
        code = write_file(&p, path, m, extra, &config, progress, err);
    }
    json_buf_free(&config);
    arena_free(&p.arena);
    return code;
}

/* ---- Reading ---- */

static bool text_is(const Safetensors *st, const char *key, const char *want)
{
    size_t n;
    const char *text = safetensors_metadata(st, key, &n);

    return text != NULL && n == strlen(want) && memcmp(text, want, n) == 0;
}

bool gpt2_is_packed(const Safetensors *st)
{
    return text_is(st, "format", PACK_FORMAT);
}

static ErrCode damaged(const Gpt2 *m, const char *what, Err *err)
{
    return err_set(err, ERR_FORMAT,
                   "%s: packed file is damaged: %s; write it again with llorch-cpud pack", m->path,
                   what);
}

static ErrCode check_structure(const Gpt2 *m, Err *err)
{
    static const char *const summed[] = {"config", "tokenizer"};
    char want[32];
    uint64_t sum = 0;
    size_t n;
    const StTensor *t = safetensors_tensors(m->packed, &n);
    const unsigned char *data = n > 0 ? t[0].data : NULL; /* where all data begins */

    for (size_t i = 1; i < n; i++)
        data = t[i].data < data ? t[i].data : data;
    for (size_t i = 0; i < n; i++)
        sum += hash_tensor(t[i].name, t[i].dtype_name, t[i].n_dims, t[i].dims,
                           (size_t)(t[i].data - data));
    for (size_t i = 0; i < sizeof summed / sizeof summed[0]; i++) {
        size_t len;
        const char *text = safetensors_metadata(m->packed, summed[i], &len);

        if (text != NULL)
            sum += hash_text(text, len);
    }
    (void)snprintf(want, sizeof want, "%016" PRIx64, sum);
    return text_is(m->packed, "structure", want)
               ? ERR_OK
               : damaged(m, "its structure has another checksum", err);
}

typedef struct {
    Gpt2 *m;
    const Gpt2LoadOptions *o;
    Err *err;
} Reader;

/* The tensor that looks like want, at a place the kernels can read. */
static const void *find(const Reader *r, const Shape *want)
{
    const StTensor *t = safetensors_find(r->m->packed, want->name);
    char what[NAME_BYTES + 64];

    if (t != NULL && strcmp(t->dtype_name, want->dtype) == 0 && t->n_dims == want->n_dims &&
        memcmp(t->dims, want->dims, (size_t)want->n_dims * sizeof want->dims[0]) == 0 &&
        t->n_bytes == want->n_bytes && (uintptr_t)t->data % ALIGN == 0)
        return t->data;
    (void)snprintf(what, sizeof what, "tensor %s %s", want->name,
                   t == NULL ? "is missing" : "has another type, shape or alignment");
    (void)damaged(r->m, what, r->err);
    return NULL;
}

/* The type of a matrix follows from the element type of its panels. */
static KernType matrix_type(const Reader *r, const WeightSlot *slot)
{
    const StTensor *t = safetensors_find(r->m->packed, slot->name);

    for (int type = 0; t != NULL && type < KERN_TYPE_COUNT; type++)
        if (strcmp(panels_shape(slot, (KernType)type).dtype, t->dtype_name) == 0)
            return (KernType)type;
    return KERN_F32; /* find says what is wrong */
}

static bool type_fits(const Reader *r, const WeightSlot *slot)
{
    const KernType want = weights_type(r->o, slot, slot->matrix->type);

    if (want == slot->matrix->type)
        return true;
    (void)err_set(r->err, ERR_USAGE,
                  "%s: is packed with %s as %s, not %s: a packed file keeps its types; pack the "
                  "model again with --type",
                  r->m->path, slot->name, kern_type_name(slot->matrix->type), kern_type_name(want));
    return false;
}

static bool map_slot(void *ctx, const WeightSlot *slot)
{
    Reader *r = ctx;
    Shape s;

    if (slot->matrix == NULL) {
        s = floats_shape(slot);
        *slot->floats = find(r, &s);
        return *slot->floats != NULL;
    }
    slot->matrix->type = matrix_type(r, slot);
    if (kern_type_for(slot->matrix->type, slot->k) != slot->matrix->type) {
        char what[NAME_BYTES + 64];

        (void)snprintf(what, sizeof what,
                       "tensor %s: rows of a quantised matrix are no whole blocks", slot->name);
        (void)damaged(r->m, what, r->err);
        return false;
    }
    s = panels_shape(slot, slot->matrix->type);
    slot->matrix->panels = find(r, &s);
    if (slot->matrix->panels == NULL)
        return false;
    if (kern_is_quantised(slot->matrix->type)) {
        s = scales_shape(slot, slot->matrix->type);
        slot->matrix->scales = find(r, &s);
        if (slot->matrix->scales == NULL)
            return false;
    }
    return type_fits(r, slot);
}

/* The types of the file that was packed: only ever shown, so it must only be harmless. */
static bool read_file_types(Gpt2 *m)
{
    size_t n;
    const char *types = safetensors_metadata(m->packed, "file_types", &n);

    if (types == NULL || n >= sizeof m->file_types ||
        strspn(types, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+") != n)
        return false;
    memcpy(m->file_types, types, n + 1);
    return true;
}

/* What pack took of the weights. It is only ever shown, but what is there must be one. */
static ErrCode read_weights_hash(Gpt2 *m, Err *err)
{
    size_t n;
    const char *text = safetensors_metadata(m->packed, "weights_hash", &n);

    return text == NULL || fingerprint_read(m, text, n)
               ? ERR_OK
               : damaged(m, "its hash of the weights is none", err);
}

ErrCode gpt2_load_packed(Gpt2 *m, const Gpt2LoadOptions *o, Err *err)
{
    Reader r = {.m = m, .o = o, .err = err};
    size_t n;
    const char *config = safetensors_metadata(m->packed, "config", &n);
    ErrCode code;

    if (!text_is(m->packed, "version", PACK_VERSION))
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: packed by another version of this program (expected layout %s); write "
                       "it again with llorch-cpud pack",
                       m->path, PACK_VERSION);
    if ((code = check_structure(m, err)) != ERR_OK)
        return code;
    if (config == NULL)
        return damaged(m, "it has no configuration", err);
    if (!read_file_types(m))
        return damaged(m, "it does not say which types it was made from", err);
    if ((code = read_weights_hash(m, err)) != ERR_OK)
        return code;
    if ((code = config_parse(&m->config, config, n, m->path, err)) != ERR_OK)
        return code;
    if ((code = weights_begin(m, err)) != ERR_OK)
        return code;
    if (!weights_each(m, map_slot, &r))
        return err->code;
    weights_finish(m);
    return ERR_OK;
}
