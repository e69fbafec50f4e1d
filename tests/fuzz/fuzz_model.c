/* tests/fuzz/fuzz_model.c: a whole model, loaded from files and then used: a GGUF file; or
 * config.json, a zero byte, and model.safetensors. */
#include "fuzz_files.h"
#include "fuzz_run.h"

#include "common/log.h"

enum { CONFIG, WEIGHTS, GGUF, N_FILES };

static FuzzFile files[N_FILES] = {
    [CONFIG] = {"config.json", -1},
    [WEIGHTS] = {"model.safetensors", -1},
    [GGUF] = {"x.gguf", -1},
};

static void remove_files_at_exit(void)
{
    fuzz_remove_files(files, N_FILES);
}

/* Writes the input to the files and the path of the model to path. */
static void fill_files(const uint8_t *data, size_t size, char path[FUZZ_PATH_BYTES])
{
    const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
    const size_t n_config = zero == NULL ? size : (size_t)(zero - data);

    if (gguf_begins(data, size)) {
        fuzz_fill(&files[GGUF], data, size);
        fuzz_path(path, files[GGUF].name);
        return;
    }
    fuzz_fill(&files[CONFIG], data, n_config);
    fuzz_fill(&files[WEIGHTS], zero == NULL ? data : zero + 1,
              zero == NULL ? 0 : size - n_config - 1);
    (void)snprintf(path, FUZZ_PATH_BYTES, "%s", fuzz_folder);
}

/* As the file has it, or everything as one type. */
static void load(const char *path, const Gpt2LoadOptions *options)
{
    Gpt2 m;
    Err err = {ERR_OK, ""};
    const ErrCode code = gpt2_load(&m, path, options, &err);

    if (code != ERR_OK) {
        fuzz_check_refusal(code, &err);
        return;
    }
    FUZZ_CHECK(config_check(&m.config, &err) == ERR_OK);
    fuzz_run(&m);
    gpt2_free(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const Gpt2LoadOptions q8 = {.convert = true, .type = KERN_Q8_0},
                          q4 = {.convert = true, .type = KERN_Q4_0};
    char path[FUZZ_PATH_BYTES];

    if (files[0].fd < 0) {
        log_init(LOG_OFF, NULL);
        fuzz_make_files(files, N_FILES);
        FUZZ_CHECK(atexit(remove_files_at_exit) == 0);
    }
    fill_files(data, size, path);
    load(path, NULL);
    load(path, size % 2 == 0 ? &q8 : &q4);
    return 0;
}
