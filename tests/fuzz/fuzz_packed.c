/* tests/fuzz/fuzz_packed.c: a packed file from memory: the model, which must be usable when it is
 * accepted, and the tokenizer in it. Its checksum, which no mutation would ever meet, is made right
 * first. */
#include "fuzz_run.h"

#include <inttypes.h>

#include "model/gpt2_pack.h"
#include "tokenizer/tokenizer_internal.h"

enum { SUM_DIGITS = 16, MAX_TEXT = 64 };

/* The checksum as gpt2_pack.c describes it, written a second time. */
static uint64_t fnv(const char *text, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return h;
}

static uint64_t sum_of_tensors(const Safetensors *st)
{
    char line[512];
    size_t n;
    uint64_t sum = 0;
    const StTensor *t = safetensors_tensors(st, &n);
    const unsigned char *first = n > 0 ? t[0].data : NULL;

    for (size_t i = 0; i < n; i++)
        first = t[i].data < first ? t[i].data : first;
    for (size_t i = 0; i < n; i++) {
        int len = snprintf(line, sizeof line, "%.80s %s %zu", t[i].name, t[i].dtype_name,
                           (size_t)(t[i].data - first));

        for (int d = 0; d < t[i].n_dims; d++)
            len += snprintf(line + len, sizeof line - (size_t)len, " %zu", t[i].dims[d]);
        sum += fnv(line, (size_t)len);
    }
    return sum;
}

/* Writes the checksum of the packed file st over the one in its bytes, if there is one. */
static void mend_sum(const Safetensors *st, char *bytes, size_t size)
{
    static const char *const summed[] = {"config", "tokenizer"};
    char digits[SUM_DIGITS + 1];
    size_t n;
    uint64_t sum = sum_of_tensors(st);
    const char *old = safetensors_metadata(st, "structure", &n);
    char *place = old != NULL && n == SUM_DIGITS ? memmem(bytes, size, old, n) : NULL;

    for (size_t i = 0; i < sizeof summed / sizeof summed[0]; i++) {
        const char *text = safetensors_metadata(st, summed[i], &n);

        if (text != NULL)
            sum += fnv(text, n);
    }
    (void)snprintf(digits, sizeof digits, "%016" PRIx64, sum);
    if (place != NULL)
        memcpy(place, digits, SUM_DIGITS);
}

static Safetensors *parse(const char *bytes, size_t size)
{
    Safetensors *st = NULL;
    Err err = {ERR_OK, ""};
    const ErrCode code =
        safetensors_parse(&st, (const unsigned char *)bytes, size, "fuzz.packed", &err);

    return code == ERR_OK ? st : NULL;
}

static void use_model(const char *bytes, size_t size)
{
    const Gpt2LoadOptions options = {.convert = false};
    Gpt2 m = {.packed = parse(bytes, size), .path = "fuzz.packed"};
    Err err = {ERR_OK, ""};

    FUZZ_CHECK(m.packed != NULL);
    const ErrCode code = gpt2_load_packed(&m, &options, &err);
    if (code == ERR_OK)
        fuzz_run(&m);
    else
        fuzz_check_refusal(code, &err);
    gpt2_free(&m);
}

/* Whatever is encoded is what decoding gives back. */
static void check_encoding(const Tokenizer *t, const char *text, size_t n)
{
    TokenizerScratch *s = tokenizer_scratch_new(n);
    int32_t ids[MAX_TEXT];
    size_t at = 0;

    FUZZ_CHECK(s != NULL && n <= MAX_TEXT);
    const size_t n_ids = tokenizer_encode(t, s, text, n, true, ids);
    FUZZ_CHECK(n_ids <= n);
    for (size_t i = 0; i < n_ids; i++) {
        size_t n_token;
        const char *token = tokenizer_token(t, ids[i], &n_token);

        FUZZ_CHECK(n_token <= n - at && memcmp(token, text + at, n_token) == 0);
        at += n_token;
    }
    FUZZ_CHECK(at == n);
    tokenizer_scratch_free(s);
}

static void use_tokenizer(const char *bytes, size_t size)
{
    Safetensors *st = parse(bytes, size);
    Tokenizer *t = NULL;
    Err err = {ERR_OK, ""};

    FUZZ_CHECK(st != NULL);
    const ErrCode code = tokenizer_from_packed(&t, st, "fuzz.packed", &err);
    if (code != ERR_OK) {
        fuzz_check_refusal(code, &err);
        safetensors_close(st);
        return;
    }
    check_encoding(t, "the cat<|endoftext|> \n\xff\x00 ab", 26);
    check_encoding(t, bytes, size < MAX_TEXT ? size : MAX_TEXT);
    check_encoding(t, bytes + size - (size < MAX_TEXT ? size : MAX_TEXT),
                   size < MAX_TEXT ? size : MAX_TEXT);
    tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    void *memory;

    /* Aligned as a mapping is; a sanitizer knows where it ends. */
    if (size == 0 || posix_memalign(&memory, 64, size) != 0)
        return 0;
    char *bytes = memcpy(memory, data, size);
    Safetensors *st = parse(bytes, size);
    if (st != NULL && gpt2_is_packed(st)) {
        mend_sum(st, bytes, size);
        use_model(bytes, size);
        use_tokenizer(bytes, size);
    }
    safetensors_close(st);
    free(bytes);
    return 0;
}
