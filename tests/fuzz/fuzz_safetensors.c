/* tests/fuzz/fuzz_safetensors.c: a safetensors file from memory: its header, its tensors, its
 * metadata. */
#include "fuzz_safetensors.h"

/* What is there is text that ends with a NUL behind its last byte. */
static void read_metadata(const Safetensors *st)
{
    static const char *const keys[] = {"a", "format", "config", "none such"};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        size_t n = 0;
        const char *text = safetensors_metadata(st, keys[i], &n);

        if (text != NULL) {
            fuzz_touch(text, n);
            FUZZ_CHECK(text[n] == '\0');
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Safetensors *st = NULL;
    size_t n_header = 0;
    Err err = {ERR_OK, ""};
    const ErrCode code = safetensors_parse(&st, data, size, "fuzz.safetensors", &err);

    if (code != ERR_OK) {
        fuzz_check_refusal(code, &err);
        FUZZ_CHECK(st == NULL);
        return 0;
    }
    for (int i = 7; i >= 0; i--)
        n_header = n_header << 8 | data[i];
    /* No byte of the file is unclaimed. */
    FUZZ_CHECK(fuzz_check_tensors(st) == size - 8 - n_header);
    FUZZ_CHECK(safetensors_file_bytes(st) == size);
    read_metadata(st);
    safetensors_close(st);
    return 0;
}
