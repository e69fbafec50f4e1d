/* tokenizer/builder.c: sizes first, then one allocation, then the merges over a full vocabulary.
 *
 * May include: common, formats. */
#include "tokenizer/builder.h"

enum { MESSAGE_PIECE_BYTES = 100 };

static int shown(size_t n)
{
    return n < MESSAGE_PIECE_BYTES ? (int)n : MESSAGE_PIECE_BYTES;
}

/* A token of n bytes can be split in n - 1 ways and each is a merge at most once, so what comes
 * from the files bounds the merges in two ways; the smaller one sizes the table. */
static ErrCode allocate(TokenizerBuilder *b, int n_tokens, size_t text_bytes, int max_merges,
                        Err *err)
{
    size_t total = 0;

    if (!arena_plan(&total, 1, sizeof(Tokenizer)) ||
        !vocabulary_plan(&total, n_tokens, text_bytes) || !merge_table_plan(&total, max_merges))
        return err_set(err, ERR_LIMIT, "vocabulary too large");

    const ErrCode code = arena_init(&b->arena, total, "tokenizer", err);

    if (code != ERR_OK)
        return code;
    b->t = arena_alloc(&b->arena, 1, sizeof *b->t);
    return b->t != NULL ? ERR_OK : err_set(err, ERR_MEMORY, "no room for the tokenizer");
}

ErrCode builder_init(TokenizerBuilder *b, size_t n_tokens, size_t text_bytes, size_t merge_bound,
                     Err *err)
{
    *b = (TokenizerBuilder){.t = NULL};
    if (n_tokens == 0)
        return err_set(err, ERR_FORMAT, "the vocabulary is empty");
    if (n_tokens > TOKENIZER_MAX_VOCAB) {
        return err_set(err, ERR_LIMIT, "%zu tokens, at most %d are allowed", n_tokens,
                       TOKENIZER_MAX_VOCAB);
    }
    if (text_bytes > TOKENIZER_MAX_TEXT) {
        return err_set(err, ERR_LIMIT, "%zu bytes of tokens, at most %d are allowed", text_bytes,
                       TOKENIZER_MAX_TEXT);
    }

    const int max_merges = (int)(merge_bound < text_bytes ? merge_bound : text_bytes);
    ErrCode code = allocate(b, (int)n_tokens, text_bytes, max_merges, err);

    if (code == ERR_OK)
        code = vocabulary_init(&b->vocabulary, &b->t->vocabulary, &b->arena, (int)n_tokens,
                               text_bytes, err);
    if (code == ERR_OK)
        code = merge_table_init(&b->merges, &b->t->merges, &b->arena, max_merges, err);
    if (code != ERR_OK)
        builder_cancel(b);
    return code;
}

/* The token of a piece of a merge; the bytes of the piece go to out, their number to *n_out. */
static ErrCode find_piece(const Vocabulary *v, const char *text, size_t n, char *out, size_t *n_out,
                          int *id, Err *err)
{
    *id = vocabulary_spelled(text, n, out, n_out) ? vocabulary_find(v, out, *n_out, false) : -1;
    if (*id < 0)
        return err_set(err, ERR_FORMAT, "\"%.*s\" is not in the vocabulary", shown(n), text);
    return ERR_OK;
}

static ErrCode add_merge(TokenizerBuilder *b, const MergeText *text, Err *err)
{
    char bytes[2 * MERGE_READER_MAX_LINE]; /* of the left piece, then of the right one */
    const Vocabulary *v = &b->t->vocabulary;
    size_t n_left, n_right;
    int left, right;
    ErrCode code = find_piece(v, text->left, text->n_left, bytes, &n_left, &left, err);

    if (code == ERR_OK)
        code = find_piece(v, text->right, text->n_right, bytes + n_left, &n_right, &right, err);
    if (code != ERR_OK)
        return code;

    const int result = vocabulary_find(v, bytes, n_left + n_right, false);

    if (result < 0) {
        return err_set(err, ERR_FORMAT, "\"%.*s\" and \"%.*s\" joined are not in the vocabulary",
                       shown(text->n_left), text->left, shown(text->n_right), text->right);
    }
    return merge_table_add(&b->merges, left, right, result, err);
}

ErrCode builder_add_merges(TokenizerBuilder *b, MergeReader *r, Err *err)
{
    for (;;) {
        MergeText text;
        bool more;
        ErrCode code = merge_reader_next(r, &text, &more, err);

        if (code != ERR_OK)
            return code;
        if (!more)
            return merge_table_finish(&b->merges, err);
        code = add_merge(b, &text, err);
        if (code != ERR_OK) {
            merge_reader_where(r, err);
            return code;
        }
    }
}

void builder_cancel(TokenizerBuilder *b)
{
    arena_free(&b->arena);
    b->t = NULL;
}

Tokenizer *builder_finish(TokenizerBuilder *b, const char *kind, int end_of_text)
{
    b->t->kind = kind;
    b->t->end_of_text = end_of_text;
    b->t->arena = b->arena;
    return b->t;
}
