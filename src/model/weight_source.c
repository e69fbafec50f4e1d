/* model/weight_source.c: see weight_source.h.
 *
 * May include: common, formats, kernels. */
#include "model/weight_source.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_BYTES = 96, SOURCE_MAX_BLOCK = 256 /* weights, of any type that can be widened */ };

/* What GGUF calls a weight; within a block behind "blk.N.". */
static const struct {
    const char *ours, *gguf;
} names[] = {
    {"wte", "token_embd"},          {"wpe", "position_embd"}, {"ln_f", "output_norm"},
    {"lm_head", "output"},          {"ln_1", "attn_norm"},    {"attn.c_attn", "attn_qkv"},
    {"attn.c_proj", "attn_output"}, {"ln_2", "ffn_norm"},     {"mlp.c_fc", "ffn_up"},
    {"mlp.c_proj", "ffn_down"},
};

void weight_source_gguf_name(char *out, size_t size, const char *name)
{
    const char *part = name, *kind = strrchr(name, '.');
    char block[24] = "";

    if (strncmp(name, "h.", 2) == 0) {
        part = strchr(name + 2, '.') + 1;
        (void)snprintf(block, sizeof block, "blk.%.*s", (int)(part - (name + 2)), name + 2);
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i].ours) == (size_t)(kind - part) &&
            strncmp(part, names[i].ours, (size_t)(kind - part)) == 0)
            (void)snprintf(out, size, "%s%s%s", block, names[i].gguf, kind);
}

/* Reads until n bytes are there or no more come; -1 with errno. */
static ssize_t read_begin(int fd, char *out, size_t n)
{
    size_t done = 0;

    while (done < n) {
        const ssize_t got = read(fd, out + done, n - done);

        if (got < 0 && errno != EINTR)
            return -1;
        if (got == 0)
            break;
        done += got > 0 ? (size_t)got : 0;
    }
    return (ssize_t)done;
}

/* By the first bytes: names lie. A big-endian file is GGUF too, and refused as such. What is no
 * regular file counts as none: whoever opens it next says what it is. */
static ErrCode is_gguf(const char *path, bool *yes, Err *err)
{
    char magic[4];
    int fd;

    do
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (fd < 0 && errno == EINTR);
    *yes = false;
    if (fd < 0)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    const ssize_t n = read_begin(fd, magic, sizeof magic);
    const int error = errno;
    (void)close(fd);
    if (n < 0 && error == EIO)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(error));
    *yes = n == (ssize_t)sizeof magic && gguf_begins(magic, sizeof magic);
    return ERR_OK;
}

ErrCode weight_source_open(WeightSource *s, const char *path, Err *err)
{
    bool gguf;
    ErrCode code = is_gguf(path, &gguf, err);

    *s = (WeightSource){.path = path};
    if (code != ERR_OK)
        return code;
    if (gguf)
        return gguf_open(&s->gguf, path, err);
    code = safetensors_open(&s->st, path, err);
    if (code == ERR_OK) {
        s->prefixed = safetensors_find(s->st, "transformer.wte.weight") != NULL;
        s->path = safetensors_path(s->st);
    }
    return code;
}

void weight_source_close(WeightSource *s)
{
    safetensors_close(s->st);
    gguf_close(s->gguf);
    *s = (WeightSource){.path = NULL};
}

/* The head is never prefixed: published files hold "lm_head.weight" beside "transformer.*". */
static void full_name(const WeightSource *s, const char *name, char out[NAME_BYTES])
{
    if (s->gguf != NULL)
        weight_source_gguf_name(out, NAME_BYTES, name);
    else
        (void)snprintf(out, NAME_BYTES, "%s%s",
                       s->prefixed && strcmp(name, "lm_head.weight") != 0 ? "transformer." : "",
                       name);
}

static bool found_safetensors(const StTensor *t, SourceTensor *out)
{
    static const struct {
        StDtype dtype;
        KernType type;
    } types[] = {{ST_F32, KERN_F32}, {ST_F16, KERN_F16}, {ST_BF16, KERN_BF16}};

    *out = (SourceTensor){.file = t->file,
                          .name = t->name,
                          .type_name = t->dtype_name,
                          .n_dims = t->n_dims,
                          .dims = {t->n_dims > 0 ? t->dims[0] : 1, t->n_dims > 1 ? t->dims[1] : 1},
                          .data = t->data,
                          .order = KERN_IN_OUT};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (t->dtype == types[i].dtype) {
            out->known = true;
            out->type = types[i].type;
        }
    return out->known;
}

static bool found_gguf(const GgufTensor *t, SourceTensor *out)
{
    static const struct {
        uint32_t gguf;
        KernType type;
    } types[] = {{GGUF_F32, KERN_F32},
                 {GGUF_F16, KERN_F16},
                 {GGUF_BF16, KERN_BF16},
                 {GGUF_Q8_0, KERN_Q8_0},
                 {GGUF_Q4_0, KERN_Q4_0}};

    *out = (SourceTensor){.file = t->file,
                          .name = t->name,
                          .type_name = t->type_name,
                          .n_dims = t->n_dims,
                          .dims = {t->dims[0], t->n_dims > 1 ? t->dims[1] : 1},
                          .data = t->data,
                          .gguf_type = t->type,
                          .order = KERN_OUT_IN};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (t->type == types[i].gguf) {
            out->known = true;
            out->type = types[i].type;
        }
    return true;
}

static void shape_text(char *out, size_t size, const size_t *dims, int n_dims)
{
    size_t len = (size_t)snprintf(out, size, "[");

    for (int i = 0; i < n_dims && len < size; i++)
        len += (size_t)snprintf(out + len, size - len, "%s%zu", i > 0 ? ", " : "", dims[i]);
    if (len < size)
        (void)snprintf(out + len, size - len, "]");
}

static ErrCode check_shape(const WeightSource *s, const char *file, const char *name,
                           const size_t *dims, int n_dims, size_t n, size_t k, bool projection,
                           Err *err)
{
    /* GGUF lists the length of a row first, and its rows are outputs. */
    const bool in_first = s->gguf != NULL || projection;
    const size_t want[2] = {k > 0 && in_first ? k : n, in_first ? n : k};
    const int n_want = k > 0 ? 2 : 1;
    char found[128], expected[64];

    if (n_dims == n_want && memcmp(dims, want, (size_t)n_want * sizeof want[0]) == 0)
        return ERR_OK;
    shape_text(found, sizeof found, dims, n_dims);
    shape_text(expected, sizeof expected, want, n_want);
    return err_set(err, ERR_FORMAT, "%s: tensor %s: shape %s, expected %s", file, name, found,
                   expected);
}

ErrCode weight_source_require(const WeightSource *s, const char *name, size_t n, size_t k,
                              bool projection, SourceTensor *out, Err *err)
{
    char full[NAME_BYTES] = "";

    full_name(s, name, full);
    if (s->gguf != NULL) {
        const GgufTensor *t = gguf_find(s->gguf, full);

        if (t == NULL)
            return err_set(err, ERR_FORMAT, "%s: tensor %s is missing", s->path, full);
        if (check_shape(s, t->file, t->name, t->dims, t->n_dims, n, k, projection, err) != ERR_OK ||
            gguf_check_type(t, err) != ERR_OK)
            return err->code;
        (void)found_gguf(t, out);
        return ERR_OK;
    }

    const StTensor *t = safetensors_find(s->st, full);

    if (t == NULL)
        return err_set(err, ERR_FORMAT, "%s: tensor %s is missing", s->path, full);
    if (check_shape(s, t->file, t->name, t->dims, t->n_dims, n, k, projection, err) != ERR_OK)
        return err->code;
    if (!found_safetensors(t, out))
        return err_set(err, ERR_UNSUPPORTED, "%s: tensor %s: type %s, expected F32, F16 or BF16",
                       t->file, t->name, t->dtype_name);
    return ERR_OK;
}

bool weight_source_has(const WeightSource *s, const char *name)
{
    char full[NAME_BYTES] = "";

    full_name(s, name, full);
    return s->gguf != NULL ? gguf_find(s->gguf, full) != NULL
                           : safetensors_find(s->st, full) != NULL;
}

size_t source_row_bytes(const SourceTensor *t, size_t k)
{
    if (t->known)
        return kern_file_bytes(t->type, k);

    const GgufType *type = gguf_type(t->gguf_type);

    return k / type->block * type->block_bytes;
}

void source_widen(float *dst, const SourceTensor *t, size_t index, size_t n)
{
    if (t->known)
        kern_widen(dst, t->data, t->type, index, n);
    else /* the type was checked by weight_source_require */
        (void)gguf_widen(dst, t->data + source_row_bytes(t, index), t->gguf_type, n);
}

float source_element(const SourceTensor *t, size_t index)
{
    float block[SOURCE_MAX_BLOCK];
    size_t n = gguf_type(t->gguf_type)->block;

    if (t->known)
        n = kern_is_quantised(t->type) ? KERN_BLOCK : 1;
    assert(n <= SOURCE_MAX_BLOCK);
    source_widen(block, t, index / n * n, n);
    return block[index % n];
}

void weight_source_drop(const WeightSource *s, const char *name)
{
    char full[NAME_BYTES] = "";

    full_name(s, name, full);
    if (s->gguf != NULL)
        gguf_drop(gguf_find(s->gguf, full));
    else
        safetensors_drop(safetensors_find(s->st, full));
}
