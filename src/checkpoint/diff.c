/* checkpoint/diff.c: which files belong together, and the loop over them.
 *
 * May include: common, formats. */
#include "checkpoint/diff.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "formats/npy.h"

enum { PATH_BYTES = 4096, METADATA_BYTES = 256 * 1024 * 1024 };

#define SUFFIX ".npy"

/* Two names of one tensor; an absent side is NULL. */
typedef struct {
    const char *file[2]; /* "checkpoint_05_output.npy" */
} Pair;

static ErrCode join(char out[PATH_BYTES], const char *folder, const char *file, Err *err)
{
    const int n = snprintf(out, PATH_BYTES, "%s/%s", folder, file);

    if (n < 0 || n >= PATH_BYTES)
        return err_set(err, ERR_IO, "%s: %s", folder, strerror(ENAMETOOLONG));
    return ERR_OK;
}

/* ---- One pair ---- */

static ErrCode open_side(Npy *npy, const Diff *d, int side, const char *file, Err *err)
{
    char path[PATH_BYTES];

    if (!d->folders)
        return npy_open(npy, d->paths[side], err);
    if (join(path, d->paths[side], file, err) != ERR_OK)
        return err->code;
    return npy_open(npy, path, err);
}

static CompareView view_of(const Npy *npy)
{
    CompareView v = {.data = npy->data, .n_dims = npy->n_dims};

    _Static_assert((int)COMPARE_MAX_DIMS >= (int)NPY_MAX_DIMS, "every file has a view");
    memcpy(v.dims, npy->dims, sizeof npy->dims);
    return v;
}

static void compare_loaded(const Diff *d, TensorDiff *row, const char *name, const Npy npy[2],
                           DiffElement *elements)
{
    const CompareView a = view_of(&npy[0]), b = view_of(&npy[1]);

    row->rounded[0] = npy[0].rounded;
    row->rounded[1] = npy[1].rounded;
    if (d->options.bits && (npy[0].rounded || npy[1].rounded)) {
        row->shape = a;
        row->shape.data = NULL;
        snprintf(row->note, sizeof row->note, "float64 in %s; --bits compares float32",
                 !npy[1].rounded  ? "A"
                 : npy[0].rounded ? "both"
                                  : "B");
        return;
    }
    tensor_diff(row, name, &a, &b, &d->options, elements);
}

/* Fills a row. What keeps its two files from being compared is said in its note and in err. */
static ErrCode diff_pair(const Diff *d, TensorDiff *row, const char *name, const Pair *pair,
                         DiffElement *elements, Err *err)
{
    Npy npy[2] = {{.n = 0}, {.n = 0}};
    ErrCode code = ERR_OK;

    *row = (TensorDiff){.name = name, .verdict = DIFF_NOT_COMPARED};
    for (int side = 0; code == ERR_OK && side < 2; side++)
        code = pair->file[side] != NULL ? open_side(&npy[side], d, side, pair->file[side], err)
                                        : err_set(err, ERR_IO, "only in %s", side == 0 ? "B" : "A");
    if (code == ERR_OK)
        compare_loaded(d, row, name, npy, elements);
    else
        snprintf(row->note, sizeof row->note, "%s", err->msg);
    npy_close(&npy[0]);
    npy_close(&npy[1]);
    return code;
}

/* ---- Two folders ---- */

static bool is_tensor_file(const char *name)
{
    const size_t n = strlen(name), suffix = strlen(SUFFIX);

    return name[0] != '.' && n > suffix && strcmp(name + n - suffix, SUFFIX) == 0;
}

/* Appends all .npy names, each ended by NUL. */
static ErrCode list_folder(const char *folder, JsonBuf *names, int *n, Err *err)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;

    if (dir == NULL)
        return err_set(err, ERR_IO, "%s: %s", folder, strerror(errno));
    *n = 0;
    while (errno = 0, (entry = readdir(dir)) != NULL)
        if (is_tensor_file(entry->d_name)) {
            json_buf_add(names, entry->d_name, strlen(entry->d_name) + 1);
            ++*n;
        }
    const int error = errno; /* of the readdir that found no more */
    closedir(dir);
    if (error != 0)
        return err_set(err, ERR_IO, "%s: %s", folder, strerror(error));
    if (names->oom)
        return err_set(err, ERR_MEMORY, "%s: out of memory", folder);
    if (*n == 0)
        return err_set(err, ERR_IO, "%s: holds no .npy file", folder);
    return ERR_OK;
}

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;

    return strcmp(*x, *y);
}

static void sort_names(const char **list, const JsonBuf *names, int n)
{
    const char *at = names->data;

    for (int i = 0; i < n; i++, at += strlen(at) + 1)
        list[i] = at;
    qsort(list, (size_t)n, sizeof *list, by_name);
}

/* The next pair of two sorted lists. */
static Pair next_pair(const char **a, int n_a, int *i, const char **b, int n_b, int *j)
{
    const int order = *i == n_a ? 1 : *j == n_b ? -1 : strcmp(a[*i], b[*j]);
    Pair pair = {{NULL, NULL}};

    if (order <= 0)
        pair.file[0] = a[(*i)++];
    if (order >= 0)
        pair.file[1] = b[(*j)++];
    return pair;
}

/* The file's name without its suffix, copied into the arena. */
static const char *stem_of(Arena *arena, const char *file)
{
    const char *slash = strrchr(file, '/');
    const char *base = slash != NULL ? slash + 1 : file;
    const size_t len = strlen(base), suffix = strlen(SUFFIX);
    const size_t n = len > suffix && strcmp(base + len - suffix, SUFFIX) == 0 ? len - suffix : len;
    char *out = arena_alloc(arena, n + 1, 1);

    if (out != NULL)
        memcpy(out, base, n);
    return out;
}

/* Room for n rows whose names have n_name_bytes, and for n_list pointers. */
static ErrCode make_arena(Diff *d, size_t n, size_t n_name_bytes, size_t n_list, Err *err)
{
    const size_t n_elements = (size_t)d->options.n_worst;
    size_t total = 0, elements = 0, names = 0;

    if (!size_mul(n, n_elements, &elements) || !size_mul(n, (size_t)ARENA_ALIGN, &names) ||
        !arena_plan(&total, n, sizeof(TensorDiff)) ||
        !arena_plan(&total, elements, sizeof(DiffElement)) || !arena_plan(&total, names, 1) ||
        !arena_plan(&total, n_name_bytes, 1) || !arena_plan(&total, n_list, sizeof(char *)) ||
        !arena_plan(&total, names, 1))
        return err_set(err, ERR_LIMIT, "too many tensors");
    return arena_init(&d->arena, total, "tensors to compare", err);
}

/* The two tokens arrays, borrowed from *roots; NULL where a folder does not say. */
static ErrCode read_tokens(const char *folder, json_t **root, const json_t **tokens, Err *err)
{
    char path[PATH_BYTES];
    struct stat st;
    const ErrCode code = join(path, folder, "metadata.json", err);

    *root = NULL;
    *tokens = NULL;
    if (code != ERR_OK || (stat(path, &st) != 0 && errno == ENOENT))
        return code;
    *root = json_parse_file(path, METADATA_BYTES, err);
    if (*root == NULL)
        return err->code;
    *tokens = json_object_get(*root, "tokens");
    if (*tokens != NULL && !json_is_array(*tokens))
        return err_set(err, ERR_FORMAT, "%s: tokens: expected an array", path);
    return ERR_OK;
}

static ErrCode same_tokens(const Diff *d, const json_t *a, const json_t *b, Err *err)
{
    const size_t n_a = json_array_size(a), n_b = json_array_size(b);

    if (n_a != n_b)
        return err_set(err, ERR_FORMAT, "%s: a prompt of %zu tokens, %s has one of %zu",
                       d->paths[0], n_a, d->paths[1], n_b);
    for (size_t i = 0; i < n_a; i++) {
        const json_t *x = json_array_get(a, i), *y = json_array_get(b, i);

        if (!json_equal(x, y))
            return err_set(err, ERR_FORMAT,
                           "%s: another prompt than %s: token %zu of %zu is %lld, there %lld",
                           d->paths[0], d->paths[1], i, n_a, (long long)json_integer_value(x),
                           (long long)json_integer_value(y));
    }
    return ERR_OK;
}

static ErrCode check_prompts(Diff *d, Err *err)
{
    json_t *roots[2] = {NULL, NULL};
    const json_t *tokens[2] = {NULL, NULL};
    ErrCode code = read_tokens(d->paths[0], &roots[0], &tokens[0], err);

    if (code == ERR_OK)
        code = read_tokens(d->paths[1], &roots[1], &tokens[1], err);
    d->prompt_unknown = tokens[0] == NULL || tokens[1] == NULL;
    if (code == ERR_OK && !d->prompt_unknown)
        code = same_tokens(d, tokens[0], tokens[1], err);
    json_decref(roots[0]);
    json_decref(roots[1]);
    return code;
}

static ErrCode diff_lists(Diff *d, int n_a, int n_b, Err *err)
{
    const size_t n = (size_t)n_a + (size_t)n_b, room = (size_t)d->options.n_worst;
    int i = 0, j = 0;
    ErrCode code = make_arena(d, n, d->names[0].len + d->names[1].len, n, err);

    if (code != ERR_OK)
        return code;
    const char **list = arena_alloc(&d->arena, n, sizeof *list);
    DiffElement *elements = arena_alloc(&d->arena, n * room, sizeof *elements);
    d->rows = arena_alloc(&d->arena, n, sizeof *d->rows);
    if (list == NULL || d->rows == NULL)
        return err_set(err, ERR_MEMORY, "tensors to compare: out of memory");
    sort_names(list, &d->names[0], n_a);
    sort_names(list + n_a, &d->names[1], n_b);
    while (i < n_a || j < n_b) {
        const Pair pair = next_pair(list, n_a, &i, list + n_a, n_b, &j);
        const char *name = stem_of(&d->arena, pair.file[0] != NULL ? pair.file[0] : pair.file[1]);
        const size_t at = (size_t)d->n_rows * room;

        if (name == NULL)
            return err_set(err, ERR_MEMORY, "tensors to compare: out of memory");
        /* A file that cannot be read is a row's note here. */
        (void)!diff_pair(d, &d->rows[d->n_rows++], name, &pair, elements + at, &(Err){0});
    }
    return ERR_OK;
}

static ErrCode diff_folders(Diff *d, Err *err)
{
    int n[2] = {0, 0};
    ErrCode code = check_prompts(d, err);

    for (int side = 0; code == ERR_OK && side < 2; side++)
        code = list_folder(d->paths[side], &d->names[side], &n[side], err);
    return code == ERR_OK ? diff_lists(d, n[0], n[1], err) : code;
}

/* ---- Two files ---- */

/* The name that says most: a checkpoint's on either side. */
static const char *telling_name(Arena *arena, const char *const paths[2])
{
    const char *a = stem_of(arena, paths[0]), *b = stem_of(arena, paths[1]);

    if (a == NULL || b == NULL)
        return NULL;
    return tensor_diff_tolerance(a) == 0.0 && tensor_diff_tolerance(b) > 0.0 ? b : a;
}

static ErrCode diff_files(Diff *d, Err *err)
{
    const Pair pair = {{d->paths[0], d->paths[1]}};
    ErrCode code = make_arena(d, 1, strlen(d->paths[0]) + strlen(d->paths[1]) + 2, 0, err);

    if (code != ERR_OK)
        return code;
    DiffElement *elements = arena_alloc(&d->arena, (size_t)d->options.n_worst, sizeof *elements);
    d->rows = arena_alloc(&d->arena, 1, sizeof *d->rows);
    const char *name = telling_name(&d->arena, d->paths);
    if (d->rows == NULL || name == NULL)
        return err_set(err, ERR_MEMORY, "tensors to compare: out of memory");
    d->n_rows = 1;
    code = diff_pair(d, &d->rows[0], name, &pair, elements, err);
    if (code == ERR_OK && d->rows[0].verdict == DIFF_NOT_COMPARED) {
        (void)diff_agrees(d, err);
        code = err->code;
    }
    return code;
}

/* ---- */

/* Disagreement first, then the size of the error. */
static int find_worst(const Diff *d)
{
    int worst = -1;

    for (int i = 0; i < d->n_rows; i++) {
        const TensorDiff *row = &d->rows[i];
        const TensorDiff *best = worst >= 0 ? &d->rows[worst] : NULL;

        if (row->map.rows == 0)
            continue;
        if (best == NULL || row->verdict > best->verdict ||
            (row->verdict == best->verdict && row->figures.worst > best->figures.worst))
            worst = i;
    }
    return worst;
}

ErrCode diff_run(Diff *d, const char *a, const char *b, const DiffOptions *options, Err *err)
{
    Diff made = {.paths = {a, b}, .options = *options};
    bool is_dir[2];
    ErrCode code;

    for (int side = 0; side < 2; side++) {
        struct stat st;

        if (stat(made.paths[side], &st) != 0)
            return err_set(err, ERR_IO, "%s: %s", made.paths[side], strerror(errno));
        is_dir[side] = S_ISDIR(st.st_mode);
    }
    if (is_dir[0] != is_dir[1])
        return err_set(err, ERR_IO, "%s is a folder and %s is not: expected two of a kind",
                       made.paths[is_dir[0] ? 0 : 1], made.paths[is_dir[0] ? 1 : 0]);
    made.folders = is_dir[0];
    code = made.folders ? diff_folders(&made, err) : diff_files(&made, err);
    if (code != ERR_OK) {
        diff_free(&made);
        return code;
    }
    made.worst = find_worst(&made);
    *d = made;
    return ERR_OK;
}

void diff_free(Diff *d)
{
    json_buf_free(&d->names[0]);
    json_buf_free(&d->names[1]);
    arena_free(&d->arena);
    *d = (Diff){.n_rows = 0};
}

int diff_count(const Diff *d, DiffVerdict verdict)
{
    int n = 0;

    for (int i = 0; i < d->n_rows; i++)
        n += d->rows[i].verdict == verdict;
    return n;
}

bool diff_agrees(const Diff *d, Err *err)
{
    const int n_bad = diff_count(d, DIFF_NOT_COMPARED) + diff_count(d, DIFF_NOT_FINITE);
    const TensorDiff *row = d->rows;
    char others[48] = "";

    if (n_bad == 0)
        return diff_count(d, DIFF_AGREE) == d->n_rows;
    while (row->verdict != DIFF_NOT_COMPARED && row->verdict != DIFF_NOT_FINITE)
        row++;
    if (n_bad > 1)
        snprintf(others, sizeof others, "; %d tensors in all like it", n_bad);
    (void)err_set(err, ERR_FORMAT, "%s (A) and %s (B): %s%s%s%s", d->paths[0], d->paths[1],
                  d->folders ? row->name : "", d->folders ? ": " : "", row->note, others);
    return false;
}
