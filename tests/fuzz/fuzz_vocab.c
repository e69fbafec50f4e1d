/* tests/fuzz/fuzz_vocab.c: vocab.json and merges.txt. The input: the vocabulary up to the first
 * NUL, in which a byte 1 stands for the tokens of all bytes; behind it the merges. */
#include "tokenizer_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size > 0 ? memchr(data, 0, size) : NULL;
    const size_t n = nul != NULL ? (size_t)(nul - data) : size;
    const size_t n_merges = nul != NULL ? size - n - 1 : 0;

    need_folder("vocab.json", "merges.txt");
    write_json("vocab.json", data, n);
    write_bytes("merges.txt", nul != NULL ? nul + 1 : data, n_merges);
    load_and_check(data, size);
    return 0;
}
