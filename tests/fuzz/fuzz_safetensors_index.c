/* tests/fuzz/fuzz_safetensors_index.c: the index of a model in shards, and two shards: the input is
 * the index, a zero byte, the length of the first shard in two bytes, the first shard and the
 * second. */
#include "fuzz_files.h"
#include "fuzz_safetensors.h"

enum { INDEX, SHARD_1, SHARD_2, N_FILES };

static FuzzFile files[N_FILES] = {
    [INDEX] = {"model.safetensors.index.json", -1},
    [SHARD_1] = {"1.safetensors", -1},
    [SHARD_2] = {"2.safetensors", -1},
};

static void remove_files_at_exit(void)
{
    fuzz_remove_files(files, N_FILES);
}

static void fill_files(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
    const uint8_t *shards = data + size, *end = data + size;
    size_t n = 0;

    if (zero != NULL && end - zero >= 3) {
        shards = zero + 3;
        n = (size_t)zero[1] | (size_t)zero[2] << 8;
        n = n < (size_t)(end - shards) ? n : (size_t)(end - shards);
    }
    fuzz_fill(&files[INDEX], data, zero == NULL ? size : (size_t)(zero - data));
    fuzz_fill(&files[SHARD_1], shards, n);
    fuzz_fill(&files[SHARD_2], shards + n, (size_t)(end - shards) - n);
}

/* The names of an index: plain, in order, each once. */
static bool take_name(void *ctx, const char *name)
{
    char *last = ctx;

    FUZZ_CHECK(name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, "..") != 0);
    FUZZ_CHECK(strncmp(name, last, 255) >= 0 && strcmp(name, last) != 0);
    (void)snprintf(last, 256, "%s", name);
    return true;
}

static void list_names(bool loads)
{
    char path[FUZZ_PATH_BYTES], last[256] = "";
    Err err = {ERR_OK, ""};

    fuzz_path(path, files[INDEX].name);
    const ErrCode code = safetensors_each_shard(path, take_name, last, &err);
    if (code != ERR_OK)
        fuzz_check_refusal(code, &err);
    FUZZ_CHECK(code == ERR_OK || !loads);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Safetensors *st = NULL;
    Err err = {ERR_OK, ""};

    if (files[INDEX].fd < 0) {
        fuzz_make_files(files, N_FILES);
        FUZZ_CHECK(atexit(remove_files_at_exit) == 0);
    }
    fill_files(data, size);
    /* As a directory, where the index is looked for. */
    const ErrCode code = safetensors_open(&st, fuzz_folder, &err);
    list_names(code == ERR_OK);
    if (code != ERR_OK) {
        fuzz_check_refusal(code, &err);
        FUZZ_CHECK(st == NULL);
        return 0;
    }
    FUZZ_CHECK(fuzz_check_tensors(st) <= safetensors_file_bytes(st));
    safetensors_close(st);
    return 0;
}
