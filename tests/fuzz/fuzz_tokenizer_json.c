/* tests/fuzz/fuzz_tokenizer_json.c: tokenizer.json, in which a byte 1 stands for the tokens of all
 * bytes. */
#include "tokenizer_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    need_folder("tokenizer.json", NULL);
    write_json("tokenizer.json", data, size);
    load_and_check(data, size);
    return 0;
}
