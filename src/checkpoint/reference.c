/* checkpoint/reference.c: finds, reads and cross-checks reference files.
 *
 * May include: common, formats, model. */
#include "checkpoint/reference.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoint/capture.h"
#include "checkpoint/tolerance.h"
#include "common/json.h"
#include "common/text.h"

enum {
    JSON_BYTES = 256 * 1024 * 1024, /* the limit of every JSON file */
    ID_ARRAYS = 5 * REFERENCE_MAX_FOLDERS
};

/* Second names of tensors that are the only one of their checkpoint. */
static const struct {
    const char *name, *alias;
} aliases[] = {
    {"checkpoint_01_ln1_output", "checkpoint_01"}, {"checkpoint_05_output", "checkpoint_05"},
    {"checkpoint_06_ffn", "checkpoint_06"},        {"checkpoint_07_block_output", "checkpoint_07"},
    {"checkpoint_08_logits", "checkpoint_08"},     {"checkpoint_09_logits_last", "checkpoint_09"},
    {"checkpoint_11_probs", "checkpoint_11"},
};

static bool make_path(char out[REFERENCE_PATH_BYTES], const char *dir, const char *name)
{
    const int n = snprintf(out, REFERENCE_PATH_BYTES, "%s/%s", dir, name);

    return n > 0 && n < REFERENCE_PATH_BYTES;
}

static bool exists(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

static bool is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Parses folder/name and keeps it until reference_close. *json is NULL when there is no such file.
 */
static ErrCode open_json(Reference *r, const char *folder, const char *name, json_t **json,
                         Err *err)
{
    char path[REFERENCE_PATH_BYTES];

    *json = NULL;
    if (!make_path(path, folder, name) || !exists(path))
        return ERR_OK;
    *json = json_parse_file(path, JSON_BYTES, err);
    if (*json == NULL)
        return ERR_FORMAT;
    r->json[r->n_json++] = *json;
    if (!json_is_object(*json))
        return err_set(err, ERR_FORMAT, "%s: expected an object", path);
    return ERR_OK;
}

/* What an array of ids must satisfy, and where it stands. */
typedef struct {
    const char *folder, *file, *key;
    int max_ids, vocab_size;
} IdRule;

static ErrCode read_ids(Reference *r, const json_t *object, const IdRule *rule,
                        const int32_t **out_ids, int *n_out, Err *err)
{
    const json_t *array = json_object_get(object, rule->key);
    const size_t n = json_array_size(array);
    int32_t *ids;

    if (!json_is_array(array) || n < 1 || n > (size_t)rule->max_ids)
        return err_set(err, ERR_FORMAT, "%s/%s: %s: expected an array of 1 to %d token ids",
                       rule->folder, rule->file, rule->key, rule->max_ids);
    ids = arena_alloc(&r->arena, n, sizeof *ids);
    if (ids == NULL)
        return err_set(err, ERR_MEMORY, "%s/%s: out of memory", rule->folder, rule->file);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(array, i);

        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= rule->vocab_size)
            return err_set(err, ERR_FORMAT, "%s/%s: %s[%zu]: expected a token id below %d",
                           rule->folder, rule->file, rule->key, i, rule->vocab_size);
        ids[i] = (int32_t)json_integer_value(id);
    }
    *out_ids = ids;
    *n_out = (int)n;
    return ERR_OK;
}

static const char *text_of(const json_t *object, const char *key, size_t *n)
{
    const json_t *text = json_object_get(object, key);

    *n = json_string_length(text);
    return json_string_value(text);
}

/* name: "checkpoint_12.json" with "ids", or "checkpoint_10.json" with "greedy_ids". *found stays as
 * it is without one. */
static ErrCode read_greedy(Reference *r, const Gpt2Config *config, const char *folder,
                           const char *name, const char *ids_key, Greedy *found, Err *err)
{
    IdRule rule = {folder, name, "prompt_ids", config->n_ctx, config->vocab_size};
    Greedy g = {.file = name};
    json_t *json;
    ErrCode code = open_json(r, folder, name, &json, err);

    if (code != ERR_OK || json == NULL)
        return code;
    code = read_ids(r, json, &rule, &g.prompt_ids, &g.n_prompt, err);
    if (code != ERR_OK)
        return code;
    /* The last id is never fed back, so it needs no position. */
    rule.key = ids_key;
    rule.max_ids = config->n_ctx - g.n_prompt + 1;
    code = read_ids(r, json, &rule, &g.ids, &g.n_ids, err);
    if (code != ERR_OK)
        return code;
    g.prompt = text_of(json, "prompt", &g.n_prompt_bytes);
    g.text = text_of(json, "text", &g.n_text);
    *found = g;
    return ERR_OK;
}

/* Where metadata.json gives a size, it must be the model's: comparing would only say so in a less
 * helpful way. */
static ErrCode check_sizes(const json_t *metadata, const Gpt2Config *config, const char *folder,
                           Err *err)
{
    const struct {
        const char *key;
        int value;
    } sizes[] = {{"hidden_size", config->dim},
                 {"n_heads", config->n_heads},
                 {"head_dim", config->head_dim},
                 {"n_layers", config->n_layers},
                 {"vocab_size", config->vocab_size}};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const json_t *value = json_object_get(metadata, sizes[i].key);

        if (value != NULL && json_integer_value(value) != sizes[i].value)
            return err_set(err, ERR_FORMAT, "%s/metadata.json: %s: %lld, but the model has %d",
                           folder, sizes[i].key, (long long)json_integer_value(value),
                           sizes[i].value);
    }
    return ERR_OK;
}

static ErrCode read_metadata(Reference *r, const Gpt2Config *config, const char *folder,
                             const int32_t **ids, int *n_ids, Err *err)
{
    const IdRule rule = {folder, "metadata.json", "tokens", config->n_ctx, config->vocab_size};
    const json_t *temperature;
    json_t *json;
    ErrCode code = open_json(r, folder, "metadata.json", &json, err);

    if (code != ERR_OK || json == NULL)
        return code;
    code = check_sizes(json, config, folder, err);
    if (code != ERR_OK)
        return code;
    temperature = json_object_get(json, "temperature");
    /* The lower end is where sampling turns greedy; above the upper one every token is equally
     * likely. */
    if (temperature != NULL &&
        !(json_number_value(temperature) >= 1e-6 && json_number_value(temperature) <= 1e6))
        return err_set(err, ERR_FORMAT, "%s/metadata.json: temperature: expected 1e-6 to 1e6",
                       folder);
    if (temperature != NULL)
        r->temperature = json_number_value(temperature);
    if (json_object_get(json, rule.key) == NULL)
        return ERR_OK; /* checkpoint_12.json or checkpoint_10.json may know */
    return read_ids(r, json, &rule, ids, n_ids, err);
}

/* The prompt of one folder, and its continuations where an earlier folder had none. *n_ids stays 0
 * when none is named. */
static ErrCode read_folder(Reference *r, const Gpt2Config *config, const char *folder,
                           const int32_t **ids, int *n_ids, Err *err)
{
    Greedy g_12 = {0}, g_10 = {0};
    ErrCode code = read_metadata(r, config, folder, ids, n_ids, err);

    if (code == ERR_OK)
        code = read_greedy(r, config, folder, "checkpoint_12.json", "ids", &g_12, err);
    if (code == ERR_OK)
        code = read_greedy(r, config, folder, "checkpoint_10.json", "greedy_ids", &g_10, err);
    if (code != ERR_OK)
        return code;
    if (*n_ids == 0) {
        *ids = g_12.n_prompt > 0 ? g_12.prompt_ids : g_10.prompt_ids;
        *n_ids = g_12.n_prompt > 0 ? g_12.n_prompt : g_10.n_prompt;
    }
    if (r->greedy_12.n_ids == 0)
        r->greedy_12 = g_12;
    if (r->greedy_10.n_ids == 0)
        r->greedy_10 = g_10;
    return ERR_OK;
}

static ErrCode add_folder(Reference *r, const Gpt2Config *config, const char *folder, Err *err)
{
    const double temperature = r->temperature;
    const int32_t *ids = NULL;
    int n_ids = 0;
    const ErrCode code = read_folder(r, config, folder, &ids, &n_ids, err);

    if (code != ERR_OK)
        return code;
    if (n_ids == 0 || (r->n_ids > 0 && (n_ids != r->n_ids ||
                                        memcmp(ids, r->ids, (size_t)n_ids * sizeof *ids) != 0))) {
        r->temperature = temperature; /* of no or another prompt: its tensors are not ours */
        r->promptless = r->promptless || n_ids == 0;
        return ERR_OK;
    }
    r->ids = ids;
    r->n_ids = n_ids;
    snprintf(r->folders[r->n_folders++], REFERENCE_PATH_BYTES, "%s", folder);
    return ERR_OK;
}

static ErrCode add_folders(Reference *r, const Gpt2Config *config, const char *model_dir,
                           const char *dir, Err *err)
{
    static const char *const places[] = {"reference/named", "reference"};

    if (dir != NULL) {
        struct stat st;

        if (stat(dir, &st) != 0)
            return err_set(err, ERR_IO, "%s: %s", dir, strerror(errno));
        if (!S_ISDIR(st.st_mode))
            return err_set(err, ERR_IO, "%s: %s", dir, strerror(ENOTDIR));
        return add_folder(r, config, dir, err);
    }
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char path[REFERENCE_PATH_BYTES];

        if (make_path(path, model_dir, places[i]) && is_dir(path)) {
            const ErrCode code = add_folder(r, config, path, err);

            if (code != ERR_OK)
                return code;
        }
    }
    return ERR_OK;
}

ErrCode reference_open(Reference *r, const Gpt2Config *config, const char *model_dir,
                       const char *dir, Err *err)
{
    Reference made = {.temperature = 0.8};
    size_t total = 0;
    ErrCode code;

    for (int i = 0; i < ID_ARRAYS; i++)
        if (!arena_plan(&total, (size_t)config->n_ctx, sizeof(int32_t)))
            return err_set(err, ERR_LIMIT, "reference prompts are too large");
    code = arena_init(&made.arena, total, "reference prompts", err);
    if (code == ERR_OK)
        code = add_folders(&made, config, model_dir, dir, err);
    if (code != ERR_OK) {
        reference_close(&made);
        return code;
    }
    *r = made;
    return ERR_OK;
}

void reference_close(Reference *r)
{
    for (int i = 0; i < r->n_json; i++)
        json_decref(r->json[i]);
    arena_free(&r->arena);
    *r = (Reference){.n_folders = 0};
}

CompareView reference_view(const Npy *npy)
{
    CompareView v = {.data = npy->data, .n_dims = npy->n_dims};

    _Static_assert((int)COMPARE_MAX_DIMS >= (int)NPY_MAX_DIMS, "every file has a view");
    memcpy(v.dims, npy->dims, sizeof npy->dims);
    return v;
}

Comparison reference_compare(const char *name, const CompareView *ours,
                             const CompareView *reference, double tolerance)
{
    if (strcmp(name, "checkpoint_04_masked") == 0)
        return compare_masked(ours, reference, tolerance);
    return compare_tensors(ours, reference, tolerance);
}

static void set_note(char note[REFERENCE_NOTE_BYTES], const char *text)
{
    /* Cut in the middle and between characters. */
    (void)text_escape(note, REFERENCE_NOTE_BYTES, text, strlen(text));
}

/* One second source against the first. False, with a note, when they do not agree or it cannot be
 * read. */
static bool sources_agree(const char *name, const Npy *first, const char *path, const char *file,
                          char note[REFERENCE_NOTE_BYTES])
{
    const CompareView a = reference_view(first);
    char text[COMPARE_TEXT_BYTES], shown[80];
    Npy second = {0};
    Err err = {0};
    CompareView b;
    Comparison c;

    if (npy_open(&second, path, &err) != ERR_OK) {
        set_note(note, err.msg);
        return false;
    }
    b = reference_view(&second);
    c = reference_compare(name, &a, &b, TOL_SOURCES);
    if (c.verdict != COMPARE_EQUAL) {
        compare_explain(text, &c, &a, &b);
        text_escape(shown, sizeof shown, file, strlen(file));
        snprintf(note, REFERENCE_NOTE_BYTES, "disagrees with %s: %.150s", shown, text);
    }
    npy_close(&second);
    return c.verdict == COMPARE_EQUAL;
}

/* NAME_altname.npy. No tensor's name is another's with "_" and more behind it, so the prefix is
 * enough. */
static bool is_second_source(const char *file, const char *name)
{
    const size_t n = strlen(name), len = strlen(file);

    return len > n + strlen("_.npy") && strncmp(file, name, n) == 0 && file[n] == '_' &&
           strcmp(file + len - strlen(".npy"), ".npy") == 0;
}

static bool all_sources_agree(const char *folder, const char *name, const Npy *first,
                              char note[REFERENCE_NOTE_BYTES])
{
    DIR *dir = opendir(folder);
    char path[REFERENCE_PATH_BYTES];
    const struct dirent *entry;
    bool agree = true;

    if (dir == NULL) {
        snprintf(note, REFERENCE_NOTE_BYTES, "cannot list the folder: %s", strerror(errno));
        return false;
    }
    while (agree && (errno = 0, entry = readdir(dir)) != NULL)
        if (is_second_source(entry->d_name, name))
            agree = make_path(path, folder, entry->d_name) &&
                    sources_agree(name, first, path, entry->d_name, note);
    const int error = errno; /* of the readdir that found no more */
    closedir(dir);
    if (agree && error != 0) {
        snprintf(note, REFERENCE_NOTE_BYTES, "cannot list the folder: %s", strerror(error));
        return false;
    }
    return agree;
}

/* The path of name's file in one folder: its own name first, then its alias. */
static bool find_file(char path[REFERENCE_PATH_BYTES], const char *folder, const char *name)
{
    char file[CAPTURE_NAME_BYTES + 8];

    snprintf(file, sizeof file, "%.*s.npy", CAPTURE_NAME_BYTES, name);
    if (make_path(path, folder, file) && exists(path))
        return true;
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++)
        if (strcmp(aliases[i].name, name) == 0) {
            snprintf(file, sizeof file, "%s.npy", aliases[i].alias);
            return make_path(path, folder, file) && exists(path);
        }
    return false;
}

bool reference_has(const Reference *r, const char *name)
{
    char path[REFERENCE_PATH_BYTES];

    for (int i = 0; i < r->n_folders; i++)
        if (find_file(path, r->folders[i], name))
            return true;
    return false;
}

ReferenceState reference_tensor(const Reference *r, const char *name, Npy *npy,
                                char note[REFERENCE_NOTE_BYTES])
{
    char path[REFERENCE_PATH_BYTES];
    Err err = {0};

    for (int i = 0; i < r->n_folders; i++) {
        if (!find_file(path, r->folders[i], name))
            continue;
        if (npy_open(npy, path, &err) != ERR_OK) {
            set_note(note, err.msg);
            return REFERENCE_BROKEN;
        }
        if (all_sources_agree(r->folders[i], name, npy, note))
            return REFERENCE_FOUND;
        npy_close(npy);
        return REFERENCE_DISTRUSTED;
    }
    snprintf(note, REFERENCE_NOTE_BYTES, "no %s.npy", name);
    return REFERENCE_ABSENT;
}
