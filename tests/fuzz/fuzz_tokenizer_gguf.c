/* tests/fuzz/fuzz_tokenizer_gguf.c: the tokenizer in the metadata of a GGUF file. */
#include "tokenizer_fuzz.h"

#include "formats/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[sizeof folder + 32];

    if (!gguf_begins(data, size)) /* then it would be looked for elsewhere */
        return 0;
    need_folder("x.gguf", NULL);
    write_bytes("x.gguf", data, size);
    (void)snprintf(path, sizeof path, "%s", folder_path("x.gguf"));
    load_and_check(path, data, size);
    return 0;
}
