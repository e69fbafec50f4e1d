/* tests/fuzz/fuzz_gguf.c: a GGUF file from memory: metadata by every getter, tensors and their
 * places, and the weights of every type as float32. */
#include "fuzz.h"

#include "formats/gguf.h"

enum { MAX_WEIGHTS = 1 << 20 };

static void read_scalars(const Gguf *g, const char *key)
{
    int64_t i = 0;
    float f = 0.0f;
    bool b = false, found = false;
    GgufText text = {NULL, 0};
    Err err = {ERR_OK, ""};

    if (gguf_integer(g, key, -1000, 1000, &i, &found, &err) != ERR_OK)
        fuzz_check_refusal(err.code, &err);
    else
        FUZZ_CHECK(i >= -1000 && i <= 1000);
    if (gguf_f32(g, key, &f, &found, &err) != ERR_OK)
        fuzz_check_refusal(err.code, &err);
    if (gguf_bool(g, key, &b, &found, &err) != ERR_OK)
        fuzz_check_refusal(err.code, &err);
    if (gguf_string(g, key, &text, NULL, &err) != ERR_OK)
        fuzz_check_refusal(err.code, &err);
    else
        fuzz_touch(text.text, text.n);
}

static size_t count_elements(GgufArray *a, GgufMeta element)
{
    GgufText text;
    int32_t i;
    uint32_t u;
    float f;
    size_t n = 0;

    switch (element) {
    case GGUF_META_STRING:
        for (; gguf_next_string(a, &text); n++)
            fuzz_touch(text.text, text.n);
        return n;
    case GGUF_META_I32:
        while (gguf_next_i32(a, &i))
            n++;
        return n;
    case GGUF_META_U32:
        while (gguf_next_u32(a, &u))
            n++;
        return n;
    default:
        while (gguf_next_f32(a, &f))
            n++;
        return n;
    }
}

static void read_arrays(const Gguf *g, const char *key)
{
    static const GgufMeta elements[] = {GGUF_META_STRING, GGUF_META_I32, GGUF_META_U32,
                                        GGUF_META_F32};

    for (size_t i = 0; i < sizeof elements / sizeof elements[0]; i++) {
        GgufArray a;
        bool found = false;
        Err err = {ERR_OK, ""};

        if (gguf_array(g, key, elements[i], &a, &found, &err) != ERR_OK) {
            fuzz_check_refusal(err.code, &err);
        } else if (found) {
            const size_t n = a.n;

            FUZZ_CHECK(count_elements(&a, elements[i]) == n);
        }
    }
}

static void widen(const GgufTensor *t)
{
    Err err = {ERR_OK, ""};
    const bool supported = gguf_check_type(t, &err) == ERR_OK;

    if (!supported)
        fuzz_check_refusal(err.code, &err);
    if (t->n_elements > MAX_WEIGHTS)
        return;
    /* Exactly as large as it must be. */
    float *weights = malloc(t->n_elements * sizeof *weights);

    FUZZ_CHECK(weights != NULL);
    FUZZ_CHECK(gguf_widen(weights, t->data, t->type, t->n_elements) == supported);
    if (supported)
        fuzz_touch(weights, t->n_elements * sizeof *weights);
    free(weights);
}

/* Each tensor lies in the file, none in another, and they are sorted. */
static void check_tensors(const Gguf *g, const uint8_t *data, size_t size)
{
    size_t n, total = 0;
    const GgufTensor *t = gguf_tensors(g, &n);

    for (size_t i = 0; i < n; i++) {
        FUZZ_CHECK(t[i].n_bytes > 0 && t[i].data >= data && t[i].n_bytes <= size);
        FUZZ_CHECK((size_t)(t[i].data - data) <= size - t[i].n_bytes);
        FUZZ_CHECK(i == 0 || strcmp(t[i - 1].name, t[i].name) < 0);
        FUZZ_CHECK(gguf_find(g, t[i].name) == &t[i]);
        FUZZ_CHECK(t[i].n_elements == t[i].dims[0] * t[i].dims[1] * t[i].dims[2] * t[i].dims[3]);
        fuzz_touch(t[i].data, t[i].n_bytes);
        widen(&t[i]);
        total += t[i].n_bytes;
    }
    FUZZ_CHECK(total <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[] = {"k",         "a",         "general.alignment",
                                       "a.strings", "a.numbers", "general.architecture"};
    Gguf *g = NULL;
    Err err = {ERR_OK, ""};
    const ErrCode code = gguf_parse(&g, data, size, "fuzz.gguf", &err);

    if (code != ERR_OK) {
        fuzz_check_refusal(code, &err);
        return 0;
    }
    FUZZ_CHECK(gguf_file_bytes(g) == size && gguf_begins(data, size));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        read_scalars(g, keys[i]);
        read_arrays(g, keys[i]);
    }
    check_tensors(g, data, size);
    gguf_close(g);
    return 0;
}
