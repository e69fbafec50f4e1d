/* tokenizer/tokenizer_load.c: finds out which form of a tokenizer a model has.
 *
 * May include: common, formats. */
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "common/mapped_file.h"
#include "common/model_name.h"
#include "formats/gguf.h"
#include "tokenizer/tokenizer_internal.h"

typedef enum { FORM_JSON, FORM_GGUF, FORM_SAFETENSORS } Form;

/* By the first bytes: names lie. A big-endian file is GGUF too, and refused as such. */
static ErrCode detect(Form *form, const char *path, Err *err)
{
    MappedFile file = {0};
    const ErrCode code = mapped_file_open(&file, path, 0, err);

    if (code != ERR_OK)
        return code;

    const char *kind = mapped_file_kind(file.data, file.size);

    *form = FORM_JSON;
    if (gguf_begins(file.data, file.size))
        *form = FORM_GGUF;
    else if (kind != NULL && strcmp(kind, "a safetensors model") == 0)
        *form = FORM_SAFETENSORS;
    mapped_file_close(&file);
    return ERR_OK;
}

/* The directory that a file lies in. */
static ErrCode from_directory_of(Tokenizer **out, const char *path, Err *err)
{
    char dir[PATH_MAX];

    if (strlen(path) >= sizeof dir)
        return err_set(err, ERR_IO, "%s: the path is too long", path);
    model_dir_of(dir, sizeof dir, path);
    return tokenizer_from_json(out, dir, err);
}

static ErrCode from_safetensors(Tokenizer **out, const char *path, Err *err)
{
    Safetensors *file = NULL;
    ErrCode code = safetensors_open(&file, path, err);

    if (code != ERR_OK)
        return code;

    size_t n;
    const char *format = safetensors_metadata(file, TOKENIZER_FORMAT_KEY, &n);

    if (format != NULL && strcmp(format, TOKENIZER_PACKED_FORMAT) == 0) {
        code = tokenizer_from_packed(out, file, path, err);
        if (code != ERR_OK)
            safetensors_close(file);
        return code;
    }
    safetensors_close(file);
    return from_directory_of(out, path, err);
}

ErrCode tokenizer_load(Tokenizer **out, const char *path, Err *err)
{
    struct stat st;
    Form form = FORM_JSON;

    if (stat(path, &st) != 0 || S_ISDIR(st.st_mode))
        return tokenizer_from_json(out, path, err);

    const ErrCode code = detect(&form, path, err);

    if (code != ERR_OK)
        return code;
    switch (form) {
    case FORM_GGUF:
        return tokenizer_from_gguf(out, path, err);
    case FORM_SAFETENSORS:
        return from_safetensors(out, path, err);
    case FORM_JSON:
        break;
    }
    return from_directory_of(out, path, err);
}
