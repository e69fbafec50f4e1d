/* tokenizer/tokenizer.c: encoding and looking up. Nothing here allocates but tokenizer_scratch_new.
 *
 * May include: common, formats. */
#include "tokenizer/tokenizer.h"

#include <assert.h>
#include <string.h>

#include "common/arena.h"
#include "tokenizer/bpe.h"
#include "tokenizer/pre_split.h"
#include "tokenizer/tokenizer_internal.h"

struct TokenizerScratch {
    Arena arena; /* holds this struct too */
    BpeScratch bpe;
};

void tokenizer_free(Tokenizer *t)
{
    if (t != NULL) {
        Arena arena = t->arena;

        safetensors_close(t->file);
        arena_free(&arena);
    }
}

int tokenizer_vocab_size(const Tokenizer *t)
{
    return t->vocabulary.n_tokens;
}

const char *tokenizer_kind(const Tokenizer *t)
{
    return t->kind;
}

size_t tokenizer_bytes(const Tokenizer *t)
{
    return t->arena.size_bytes;
}

int tokenizer_end_of_text(const Tokenizer *t)
{
    return t->end_of_text;
}

const char *tokenizer_token(const Tokenizer *t, int id, size_t *n_bytes)
{
    assert(id >= 0 && id < t->vocabulary.n_tokens);

    const VocabularyToken *token = &t->vocabulary.token[id];

    *n_bytes = token->n;
    return t->vocabulary.bytes + token->start;
}

size_t tokenizer_longest_token(const Tokenizer *t)
{
    size_t longest = 0;

    for (int id = 0; id < t->vocabulary.n_tokens; id++)
        if (t->vocabulary.token[id].n > longest)
            longest = t->vocabulary.token[id].n;
    return longest;
}

size_t tokenizer_token_spelled(const Tokenizer *t, int id, char *out)
{
    size_t n;
    const char *bytes = tokenizer_token(t, id, &n);

    if (!vocabulary_is_special(&t->vocabulary.token[id]))
        return vocabulary_spell(bytes, n, out);
    memcpy(out, bytes, n);
    return n;
}

int tokenizer_token_type(const Tokenizer *t, int id)
{
    assert(id >= 0 && id < t->vocabulary.n_tokens);
    return (int)t->vocabulary.token[id].type;
}

bool tokenizer_is_special(const Tokenizer *t, int id)
{
    assert(id >= 0 && id < t->vocabulary.n_tokens);
    return vocabulary_is_special(&t->vocabulary.token[id]);
}

int tokenizer_n_merges(const Tokenizer *t)
{
    return t->merges.n_merges;
}

void tokenizer_merge(const Tokenizer *t, int rank, int *left, int *right)
{
    assert(rank >= 0 && rank < t->merges.n_merges);
    *left = t->merges.merge[rank].left;
    *right = t->merges.merge[rank].right;
}

int tokenizer_find(const Tokenizer *t, const char *bytes, size_t n_bytes)
{
    return vocabulary_find(&t->vocabulary, bytes, n_bytes, false);
}

TokenizerScratch *tokenizer_scratch_new(size_t max_bytes)
{
    const size_t n = max_bytes > 0 ? max_bytes : 1;
    Arena arena = {0};
    size_t total = 0, n_heap;

    if (n > INT32_MAX || !size_mul(2, n, &n_heap) ||
        !arena_plan(&total, 1, sizeof(TokenizerScratch)) ||
        !arena_plan(&total, n, sizeof(BpeSymbol)) ||
        !arena_plan(&total, n_heap, sizeof(uint64_t)) ||
        arena_init(&arena, total, "tokenizer scratch", NULL) != ERR_OK)
        return NULL;

    TokenizerScratch *s = arena_alloc(&arena, 1, sizeof *s);
    BpeSymbol *symbol = arena_alloc(&arena, n, sizeof *symbol);
    uint64_t *heap = arena_alloc(&arena, n_heap, sizeof *heap);

    if (s == NULL || symbol == NULL || heap == NULL) {
        arena_free(&arena);
        return NULL;
    }
    s->arena = arena;
    s->bpe = (BpeScratch){.symbol = symbol, .heap = heap, .max_bytes = n};
    return s;
}

void tokenizer_scratch_free(TokenizerScratch *s)
{
    if (s != NULL) {
        Arena arena = s->arena;

        arena_free(&arena);
    }
}

/* Text without special tokens. */
static size_t encode_plain(const Tokenizer *t, TokenizerScratch *s, const char *text, size_t n,
                           int32_t *ids)
{
    size_t n_ids = 0;

    for (size_t pos = 0; pos < n;) {
        const size_t n_piece = pre_split_next(text + pos, n - pos);

        for (size_t i = 0; i < n_piece; i++)
            ids[n_ids + i] = t->vocabulary.byte_id[(unsigned char)text[pos + i]];
        n_ids += bpe_merge(&t->merges, &s->bpe, ids + n_ids, n_piece);
        pos += n_piece;
    }
    return n_ids;
}

/* The text that stands for the end-of-text token in a prompt; NULL when there is none. A model may
 * name an ordinary token, whose text has to be merged like any other. */
static const char *special_text(const Tokenizer *t, size_t *n)
{
    if (t->end_of_text < 0)
        return NULL;

    const uint32_t type = t->vocabulary.token[t->end_of_text].type;
    const char *text = tokenizer_token(t, t->end_of_text, n);

    return *n > 0 && (type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED) ? text : NULL;
}

size_t tokenizer_encode(const Tokenizer *t, TokenizerScratch *s, const char *text, size_t n,
                        bool allow_special, int32_t *ids)
{
    size_t pos = 0, n_ids = 0, n_name = 0;
    const char *name = allow_special ? special_text(t, &n_name) : NULL;

    assert(n <= s->bpe.max_bytes);
    while (name != NULL && pos < n) {
        const char *found = memmem(text + pos, n - pos, name, n_name);

        if (found == NULL)
            break;

        /* The special token ends the text before it, also for the white space at its end. */
        const size_t n_before = (size_t)(found - text) - pos;

        n_ids += encode_plain(t, s, text + pos, n_before, ids + n_ids);
        ids[n_ids++] = t->end_of_text;
        pos += n_before + n_name;
    }
    return n_ids + encode_plain(t, s, text + pos, n - pos, ids + n_ids);
}
