/* tests/fuzz/tokenizer_fuzz.h: what the targets of tokenizer files share: files in a folder of
 * their own, the tokens of all bytes in one byte of input, and what must hold of every tokenizer
 * that was accepted. */
#ifndef LLORCH_TESTS_TOKENIZER_FUZZ_H
#define LLORCH_TESTS_TOKENIZER_FUZZ_H

#include "fuzz.h"

#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#include "common/json.h"
#include "common/text.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8_stream.h"
#include "tokenizer/vocabulary.h"

/* --- files --- */

static char folder[] = "/tmp/llorch-fuzz-XXXXXX";
static const char *folder_files[2]; /* names, set by the target */

static inline const char *folder_path(const char *name)
{
    static char path[sizeof folder + 32];

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static inline void remove_fuzz_folder(void)
{
    for (size_t i = 0; i < 2; i++)
        if (folder_files[i] != NULL)
            (void)unlink(folder_path(folder_files[i]));
    (void)rmdir(folder);
}

/* Makes the folder the first time. It goes with the program; nothing in it is read but what the
 * input wrote. */
static inline void need_folder(const char *file_1, const char *file_2)
{
    static bool made;

    if (made)
        return;
    FUZZ_CHECK(mkdtemp(folder) != NULL);
    folder_files[0] = file_1;
    folder_files[1] = file_2;
    FUZZ_CHECK(atexit(remove_fuzz_folder) == 0);
    made = true;
}

/* "!":0,... for all bytes, ids by value. */
static inline const char *byte_entries(void)
{
    static JsonBuf entries;

    if (entries.data == NULL)
        for (int i = 0; i < 256; i++) {
            const char byte = (char)i;
            char spelled[2];

            json_buf_add(&entries, ",", i > 0);
            json_buf_string(&entries, spelled, vocabulary_spell(&byte, 1, spelled));
            json_buf_printf(&entries, ":%d", i);
        }
    FUZZ_CHECK(!entries.oom);
    return entries.data;
}

/* More only make duplicate keys, and the text long. */
enum { MAX_MARKS = 2 };

/* Makes this the content of a file. Never cuts a file to nothing: some file systems then wait for
 * the disk, a thousand times as long as all the rest takes. */
static inline void write_bytes(const char *name, const void *data, size_t size)
{
    const int fd = open(folder_path(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    FUZZ_CHECK(ftruncate(fd, (off_t)size) == 0 && close(fd) == 0);
}

/* Writes a JSON text in which a byte 1, never allowed, stands for the tokens of all bytes: a
 * vocabulary that can be accepted is a short input. */
static inline void write_json(const char *name, const uint8_t *data, size_t size)
{
    JsonBuf text = {NULL, 0, 0, 0};
    int n_marks = 0;

    for (size_t i = 0; i < size; i++) {
        if (data[i] == 1 && n_marks++ < MAX_MARKS)
            json_buf_add(&text, byte_entries(), strlen(byte_entries()));
        else
            json_buf_add(&text, (const char *)&data[i], 1);
    }
    FUZZ_CHECK(!text.oom);
    write_bytes(name, text.len > 0 ? text.data : "", text.len);
    json_buf_free(&text);
}

/* --- what must hold --- */

/* Encodes text[0..n) to ids (room for n) with room for exactly this text. */
static inline size_t encode_exactly(const Tokenizer *t, const char *text, size_t n, bool special,
                                    int32_t *ids)
{
    TokenizerScratch *s = tokenizer_scratch_new(n);

    FUZZ_CHECK(s != NULL);

    const size_t n_ids = tokenizer_encode(t, s, text, n, special, ids);

    tokenizer_scratch_free(s);
    FUZZ_CHECK(n_ids <= n && (n_ids > 0 || n == 0));
    return n_ids;
}

/* What is encoded decodes to itself. */
static inline void check_encoding(const Tokenizer *t, const char *text, size_t n, bool special)
{
    int32_t *ids = malloc((n > 0 ? n : 1) * sizeof ids[0]);
    size_t at = 0, n_token;

    FUZZ_CHECK(ids != NULL);

    const size_t n_ids = encode_exactly(t, text, n, special, ids);

    for (size_t i = 0; i < n_ids; i++) {
        FUZZ_CHECK(ids[i] >= 0 && ids[i] < tokenizer_vocab_size(t));

        const char *token = tokenizer_token(t, ids[i], &n_token);

        FUZZ_CHECK(n_token <= n - at && memcmp(token, text + at, n_token) == 0);
        at += n_token;
    }
    FUZZ_CHECK(at == n);
    free(ids);
}

/* Each token and all one after the other decode to valid UTF-8; a token is found by its bytes. */
static inline void check_tokens(const Tokenizer *t)
{
    const size_t longest = tokenizer_longest_token(t);
    char *out = malloc(3 * (longest + 3)), *spelled = malloc(2 * longest + 1);
    Utf8Stream u = {.n_held = 0};

    FUZZ_CHECK(out != NULL && spelled != NULL);
    for (int id = 0; id < tokenizer_vocab_size(t); id++) {
        size_t n;
        const char *token = tokenizer_token(t, id, &n);
        const bool normal = tokenizer_token_type(t, id) == TOKEN_NORMAL;

        FUZZ_CHECK(n <= longest);
        FUZZ_CHECK(text_utf8_valid(out, utf8_stream_push(&u, token, n, out)));
        FUZZ_CHECK(!normal || tokenizer_find(t, token, n) == id);
        FUZZ_CHECK(text_utf8_valid(spelled, tokenizer_token_spelled(t, id, spelled)));
        FUZZ_CHECK(normal || text_utf8_valid(token, n));
    }
    FUZZ_CHECK(text_utf8_valid(out, utf8_stream_flush(&u, out)));
    free(spelled);
    free(out);
}

/* Both parts of a merge and what they make are ordinary tokens. */
static inline void check_merges(const Tokenizer *t)
{
    const size_t longest = tokenizer_longest_token(t);
    char *joined = malloc(2 * longest);

    FUZZ_CHECK(joined != NULL && tokenizer_n_merges(t) > 0);
    for (int rank = 0; rank < tokenizer_n_merges(t); rank++) {
        int left, right;
        size_t n_left, n_right;

        tokenizer_merge(t, rank, &left, &right);

        const char *a = tokenizer_token(t, left, &n_left);
        const char *b = tokenizer_token(t, right, &n_right);

        FUZZ_CHECK(n_left > 0 && n_right > 0);
        memcpy(joined, a, n_left);
        memcpy(joined + n_left, b, n_right);
        FUZZ_CHECK(tokenizer_find(t, joined, n_left + n_right) >= 0);
    }
    free(joined);
}

/* Loads the folder; what is accepted also encodes the input itself. */
static inline void load_and_check(const uint8_t *data, size_t size)
{
    Tokenizer *t = NULL;
    Err err = {ERR_OK, ""};
    const ErrCode code = tokenizer_load(&t, folder, &err);

    if (code != ERR_OK) {
        FUZZ_CHECK(t == NULL);
        fuzz_check_refusal(code, &err);
        FUZZ_CHECK(text_utf8_valid(err.msg, strlen(err.msg)));
        FUZZ_CHECK(strstr(err.msg, folder) != NULL);
        return;
    }
    FUZZ_CHECK(tokenizer_end_of_text(t) >= -1);
    FUZZ_CHECK(tokenizer_end_of_text(t) < tokenizer_vocab_size(t));
    check_tokens(t);
    check_merges(t);
    check_encoding(t, (const char *)data, size, false);
    check_encoding(t, (const char *)data, size, true);
    tokenizer_free(t);
}

#endif
