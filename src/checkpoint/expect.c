/* checkpoint/expect.c: the recorded values, each with the pass that reproduces it. Numbers R1 to
 * R18 come from public tests of other GPT-2 implementations.
 *
 * May include: common, model, kernels, tokenizer. */
#include "checkpoint/expect.h"

#include <stdio.h>
#include <string.h>

#include "checkpoint/capture.h"
#include "checkpoint/greedy.h"
#include "checkpoint/quantity.h"
#include "checkpoint/tolerance.h"

enum {
    NEW_TOKENS_MAX = 18,
    PROMPT_IDS_MAX = 16,
    NLL_ROWS = 4,
    NLL_LEN = 64,
    LOGIT_ROWS_MAX = 11, /* the longest list of ids below */
    REPEATS = 3
};

typedef struct {
    const char *name;
    int n_layers, n_heads, dim, ffn_dim;
    bool values; /* R1 to R18 belong to it */
} Published;

static const Published published[] = {{"gpt2", 12, 12, 768, 3072, true},
                                      {"gpt2-medium", 24, 16, 1024, 4096, false}};

enum { PUBLISHED_VOCAB = 50257, PUBLISHED_CTX = 1024 };

/* Section 8. */
typedef struct {
    const char *model, *prompt, *text;
    int n_prompt, n_new;
    int32_t prompt_ids[PROMPT_IDS_MAX], ids[NEW_TOKENS_MAX];
} Spoken;

static const Spoken spoken[] = {
    {"gpt2-medium",
     "Hello.",
     " I'm a little late to the party, but",
     2,
     10,
     {15496, 13},
     {314, 1101, 257, 1310, 2739, 284, 262, 2151, 11, 475}},
    {"gpt2-medium",
     "What is the answer to life, the universe, and everything?",
     "\n\nThe answer is that we are all one",
     0,
     10,
     {0},
     {198, 198, 464, 3280, 318, 326, 356, 389, 477, 530}},
    {"gpt2",
     "The dog",
     " was found in a field near the intersection of West and West Streets.\n\nThe dog",
     2,
     18,
     {464, 3290},
     {373, 1043, 287, 257, 2214, 1474, 262, 16246, 286, 2688, 290, 2688, 27262, 13, 198, 198, 464,
      3290}},
};

/* No text is recorded for these; they must only come out the same every time. */
static const char *const repeated[] = {"The quick brown", "Once upon a time"};

static const Published *find_published(const char *name)
{
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++)
        if (strcmp(published[i].name, name) == 0)
            return &published[i];
    return NULL;
}

bool expect_known(const char *name)
{
    return find_published(name) != NULL;
}

ErrCode expect_check(const char *name, const Gpt2Config *config, const Tokenizer *tokenizer,
                     Err *err)
{
    const Published *p = find_published(name);

    if (p == NULL)
        return err_set(err, ERR_USAGE,
                       "--expect: no values are recorded for \"%s\", expected gpt2 or gpt2-medium",
                       name);
    if (config->n_layers != p->n_layers || config->n_heads != p->n_heads || config->dim != p->dim ||
        config->ffn_dim != p->ffn_dim || config->vocab_size != PUBLISHED_VOCAB ||
        config->n_ctx != PUBLISHED_CTX)
        return err_set(err, ERR_FORMAT,
                       "--expect %s: the model has %d layers, %d heads, width %d, feed-forward %d, "
                       "vocabulary %d, context %d; expected %d, %d, %d, %d, %d, %d",
                       name, config->n_layers, config->n_heads, config->dim, config->ffn_dim,
                       config->vocab_size, config->n_ctx, p->n_layers, p->n_heads, p->dim,
                       p->ffn_dim, PUBLISHED_VOCAB, PUBLISHED_CTX);
    if (tokenizer == NULL || tokenizer_vocab_size(tokenizer) != PUBLISHED_VOCAB)
        return err_set(err, ERR_UNSUPPORTED,
                       "--expect %s: the model needs GPT-2's tokenizer of %d tokens", name,
                       PUBLISHED_VOCAB);
    return ERR_OK;
}

/* What all rows share. */
typedef struct {
    VerdictTable *t;
    const Gpt2 *m;
    const Tokenizer *tokenizer;
    const Kernels *k;
    float *room; /* [LOGIT_ROWS_MAX, vocabulary]: the largest of what is computed below */
    Arena arena;
} Expect;

static void value_row(Expect *e, int checkpoint, double tolerance, const char *name,
                      const float *ours, const float *want, size_t n)
{
    VerdictRow *row = verdict_add(e->t, checkpoint, tolerance, "%s", name);
    const CompareView a = compare_vector(ours, n), b = compare_vector(want, n);
    const Comparison c = compare_tensors(&a, &b, tolerance);

    verdict_set(row, &c, &a, &b);
}

/* Columns column .. column + n - 1 of rows first .. first + n_rows - 1 of the room, one after the
 * other. */
static void pick(const Expect *e, float *out, size_t width, int first, int n_rows, int column,
                 int n)
{
    for (int r = 0; r < n_rows; r++)
        for (int i = 0; i < n; i++)
            *out++ = e->room[(size_t)(first + r) * width + (size_t)(column + i)];
}

/* R1 to R4: single layers over rows of wte. */
static ErrCode single_layers(Expect *e, Err *err)
{
    static const int32_t hello = 15496, three[] = {15496, 50256, 1234};
    static const float r1[] = {-0.0686508f, -0.132694f, 0.0112033f, -0.146658f,  -0.18417f,
                               -0.0357969f, -0.217333f, -0.171337f, -0.0103861f, -0.0141989f};
    static const float r2[] = {-0.114096f, -0.146124f, -0.052343f, -0.206682f, -0.284546f,
                               -0.062076f, -0.026583f, -0.193440f, -0.018746f, -0.028776f};
    static const float r3[] = {-0.099145f, 0.179045f,  0.868187f, 1.144703f,  0.128677f,
                               0.314243f,  -0.196578f, 0.317911f, -0.367978f, 0.233335f};
    static const float r4[] = {0.5459095f, -0.82332975f, 0.39609146f, -0.06768971f, 0.07372971f,
                               0.9198164f, -0.41184098f, 0.63222086f, -0.04071165f, 0.0521681f};
    const size_t dim = (size_t)e->m->config.dim;
    float got[10];
    ErrCode code;

    quantity_token_rows(e->m, &hello, 1, e->room);
    value_row(e, 1, 1e-4, "R1 token row 15496", e->room, r1, 10);
    code = quantity_layer_norm(e->m, e->k, &hello, 1, e->room, err);
    if (code != ERR_OK)
        return code;
    value_row(e, 1, 1e-3, "R2 ln_1 of the bare token row", e->room, r2, 10);
    code = quantity_c_fc(e->m, e->k, &hello, 1, e->room, err);
    if (code != ERR_OK)
        return code;
    value_row(e, 6, 1e-3, "R3 mlp.c_fc of the bare token row", e->room, r3, 10);
    code = quantity_attention(e->m, e->k, three, 3, e->room, err);
    if (code != ERR_OK)
        return code;
    pick(e, got, dim, 0, 1, 0, 5);
    pick(e, got + 5, dim, 2, 1, 0, 5);
    value_row(e, 5, 1e-3, "R4 attention over bare token rows", got, r4, 10);
    return ERR_OK;
}

/* R16 and R18 look at weights and ln_1, R5, R6 and R17 at block 0's attention, all for "Hello.". */
static ErrCode hello_block(Expect *e, Err *err)
{
    static const int32_t ids[] = {15496, 13};
    static const float r5[] = {0.15886375f, -1.5639379f, -0.11345699f, -3.7364058f};
    static const float r6[] = {1.0f, 0.0f, 0.97399073f, 0.02600927f};
    static const float r16 = 1.253802f, r17 = 7.640967f, r18 = 0.79574f;
    Capture c = {0};
    float got;
    ErrCode code = capture_run(&c, e->m, e->k, ids, 2, 0, NULL, err);

    if (code != ERR_OK)
        return code;
    /* Head 0 is the first [2, 2] of [heads, 2, 2]. */
    value_row(e, 4, TOL_SCORES, "R5 scores of head 0",
              capture_find(&c, "checkpoint_04_scores")->view.data, r5, 4);
    value_row(e, 4, TOL_SCORES, "R6 probabilities of head 0",
              capture_find(&c, "checkpoint_04_probs")->view.data, r6, 4);
    got = quantity_query_bias(e->m);
    value_row(e, 2, 2e-6 / (double)r16, "R16 largest query bias", &got, &r16, 1);
    got = quantity_cache_shift(capture_find(&c, "checkpoint_02_k")->view.data, e->m->config.dim);
    value_row(e, 3, TOL_QKV, "R17 effect of a cache that starts at 1", &got, &r17, 1);
    code = quantity_norm_gain(e->m, e->k, capture_find(&c, "embeddings")->view.data, 2, &got, err);
    /* Recorded through a difference of 1 %: a hundred times the rounding of a float near 0.8. */
    if (code == ERR_OK)
        value_row(e, 1, 2e-5, "R18 largest scaled value of ln_1", &got, &r18, 1);
    capture_free(&c);
    return code;
}

/* Index of the largest of n values; the lowest of equals, as sampling does. */
static float argmax_of(const float *x, int n)
{
    int best = 0;

    for (int i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return (float)best;
}

static ErrCode logits(Expect *e, const int32_t *ids, int n, Err *err)
{
    return quantity_stage(e->m, e->k, ids, n, TAP_LOGITS, e->room, err);
}

/* R7 to R9: row 0 depends on the first id only. */
static ErrCode logits_of_hello(Expect *e, Err *err)
{
    static const int32_t ids[] = {15496, 13};
    static const float r7[] = {-35.236244f, -35.326595f, -38.975349f, -39.390675f,
                               -37.653183f, -38.672436f, -36.024891f, -36.484154f};
    static const int at[] = {100, 384, 385, 1000, 10000, 50000};
    static const float r8[] = {-43.312637f, -40.130249f, -38.999393f,
                               -40.749808f, -41.987228f, -44.113781f};
    static const float r9 = 11.0f;
    float got[6];
    const ErrCode code = logits(e, ids, 2, err);

    if (code != ERR_OK)
        return code;
    value_row(e, 8, TOL_LOGITS, "R7 logits 0 to 7 after 15496", e->room, r7, 8);
    for (int i = 0; i < 6; i++)
        got[i] = e->room[at[i]];
    value_row(e, 8, TOL_LOGITS, "R8 six other logits after 15496", got, r8, 6);
    got[0] = argmax_of(e->room, PUBLISHED_VOCAB);
    value_row(e, 10, TOL_EXACT, "R9 argmax after 15496", got, &r9, 1);
    return ERR_OK;
}

/* R10 to R13: other prompts. */
static ErrCode logits_of_prompts(Expect *e, Err *err)
{
    static const int32_t three[] = {15496, 50256, 1234}, four[] = {15496, 11, 314, 716};
    static const int32_t six[] = {15496, 11, 616, 3290, 318, 13779};
    static const float r10[] = {-76.941086f, -79.28483f, -80.43526f, -80.43415f, -80.22852f};
    static const float r11[] = {11.0f, 464.0f, 262.0f};
    static const float r12 = -111.89471436f;
    static const float r13[] = {-114.5832f, -116.5725f, -116.0830f, -89.8644f, -93.1977f,
                                -94.4351f,  -88.3380f,  -92.8703f,  -94.4454f};
    const size_t n_vocab = PUBLISHED_VOCAB;
    float got[9];
    ErrCode code = logits(e, three, 3, err);

    if (code != ERR_OK)
        return code;
    value_row(e, 8, 1e-2, "R10 logits 0 to 4 of row 2", e->room + 2 * n_vocab, r10, 5);
    for (size_t r = 0; r < 3; r++)
        got[r] = argmax_of(e->room + r * n_vocab, PUBLISHED_VOCAB);
    value_row(e, 10, TOL_EXACT, "R11 argmax of rows 0, 1, 2", got, r11, 3);
    code = logits(e, four, 4, err);
    if (code != ERR_OK)
        return code;
    got[0] = (float)quantity_mean(e->room, 4 * n_vocab);
    value_row(e, 8, 1e-4, "R12 mean of 4 rows of logits", got, &r12, 1);
    code = logits(e, six, 6, err);
    if (code != ERR_OK)
        return code;
    pick(e, got, n_vocab, 1, 3, 1, 3);
    value_row(e, 8, TOL_LOGITS, "R13 logits of rows 1 to 3", got, r13, 9);
    return ERR_OK;
}

/* R14 and R15. */
static ErrCode final_norm_and_text(Expect *e, Err *err)
{
    static const int32_t ids[] = {0, 345, 232, 328, 740, 140, 1695, 69, 6078, 1588, 2};
    static const float r14[] = {-0.0436f, 0.0046f,  -0.1025f, -0.4822f, 0.2564f,
                                0.1926f,  -0.2747f, 0.0428f,  -0.1841f};
    static const float r15 = 5.270007f;
    int32_t text[NLL_ROWS * NLL_LEN + 1];
    float got[9];
    double nll;
    ErrCode code = quantity_stage(e->m, e->k, ids, 11, TAP_LN_F, e->room, err);

    if (code != ERR_OK)
        return code;
    pick(e, got, (size_t)e->m->config.dim, 1, 3, 1, 3);
    value_row(e, 8, 1e-4, "R14 ln_f of rows 1 to 3", got, r14, 9);
    code = quantity_text_ids(e->tokenizer, text, NLL_ROWS * NLL_LEN + 1, err);
    if (code == ERR_OK)
        code = quantity_nll(e->m, e->k, text, NLL_ROWS, NLL_LEN, &nll, err);
    if (code != ERR_OK)
        return code;
    got[0] = (float)nll;
    value_row(e, 8, 1e-2, "R15 mean loss over 256 tokens", got, &r15, 1);
    return ERR_OK;
}

/* ---- Section 8 ---- */

static ErrCode spoken_rows(Expect *e, const Spoken *s, Err *err)
{
    VerdictRow *prompt_row = verdict_add(e->t, 12, TOL_EXACT, "\"%.20s\": prompt ids", s->prompt);
    VerdictRow *ids_row = verdict_add(e->t, 12, TOL_EXACT, "\"%.20s\": new ids", s->prompt);
    VerdictRow *text_row = verdict_add(e->t, 12, TOL_EXACT, "\"%.20s\": text", s->prompt);
    VerdictRow *runs_row = verdict_add(e->t, 12, TOL_EXACT, "\"%.20s\": three runs", s->prompt);
    int32_t ids[NEW_TOKENS_MAX], again[NEW_TOKENS_MAX];
    const int32_t *prompt = NULL;
    JsonBuf text = {0};
    Arena room = {0};
    int n_prompt = 0;
    ErrCode code =
        greedy_encode(e->tokenizer, s->prompt, strlen(s->prompt), &room, &prompt, &n_prompt, err);

    runs_row->own = true;
    if (code == ERR_OK && s->n_prompt > 0)
        verdict_set_ids(prompt_row, prompt, n_prompt, s->prompt_ids, s->n_prompt);
    else
        verdict_set_note(prompt_row, "no ids are recorded for this prompt");
    if (code == ERR_OK)
        code = greedy_continue(e->m, e->k, prompt, n_prompt, ids, s->n_new, err);
    if (code == ERR_OK)
        code = greedy_text(e->tokenizer, ids, s->n_new, &text, err);
    if (code == ERR_OK) {
        verdict_set_ids(ids_row, ids, s->n_new, s->ids, s->n_new);
        verdict_set_bool(text_row,
                         text.len == strlen(s->text) && memcmp(text.data, s->text, text.len) == 0,
                         "another text");
    }
    for (int i = 1; code == ERR_OK && i < REPEATS && runs_row->verdict != VERDICT_FAIL; i++) {
        code = greedy_continue(e->m, e->k, prompt, n_prompt, again, s->n_new, err);
        if (code == ERR_OK)
            verdict_set_ids(runs_row, again, s->n_new, ids, s->n_new);
    }
    json_buf_free(&text);
    arena_free(&room);
    return code;
}

static ErrCode repeated_row(Expect *e, const char *text, Err *err)
{
    VerdictRow *row = verdict_add(e->t, 12, TOL_EXACT, "\"%s\": three runs", text);
    int32_t ids[2][10];
    const int32_t *prompt = NULL;
    Arena room = {0};
    int n_prompt = 0;
    ErrCode code = greedy_encode(e->tokenizer, text, strlen(text), &room, &prompt, &n_prompt, err);

    row->own = true;
    for (int i = 0; code == ERR_OK && i < REPEATS && row->verdict != VERDICT_FAIL; i++) {
        code = greedy_continue(e->m, e->k, prompt, n_prompt, ids[i > 0], 10, err);
        if (code == ERR_OK && i > 0)
            verdict_set_ids(row, ids[1], 10, ids[0], 10);
    }
    arena_free(&room);
    return code;
}

static ErrCode end_to_end(Expect *e, const char *name, Err *err)
{
    ErrCode code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < sizeof spoken / sizeof spoken[0]; i++)
        if (strcmp(spoken[i].model, name) == 0)
            code = spoken_rows(e, &spoken[i], err);
    for (size_t i = 0; code == ERR_OK && i < sizeof repeated / sizeof repeated[0]; i++)
        code = repeated_row(e, repeated[i], err);
    return code;
}

ErrCode expect_run(VerdictTable *t, const char *name, const Gpt2 *m, const Tokenizer *tokenizer,
                   const Kernels *k, Err *err)
{
    const size_t n = (size_t)LOGIT_ROWS_MAX * (size_t)m->config.vocab_size;
    Expect e = {.t = t, .m = m, .tokenizer = tokenizer, .k = k};
    ErrCode code = arena_init(&e.arena, n * sizeof *e.room, "recorded values", err);

    if (code != ERR_OK)
        return code;
    e.room = arena_alloc(&e.arena, n, sizeof *e.room);
    if (find_published(name)->values) {
        code = single_layers(&e, err);
        if (code == ERR_OK)
            code = hello_block(&e, err);
        if (code == ERR_OK)
            code = logits_of_hello(&e, err);
        if (code == ERR_OK)
            code = logits_of_prompts(&e, err);
        if (code == ERR_OK)
            code = final_norm_and_text(&e, err);
    }
    if (code == ERR_OK)
        code = end_to_end(&e, name, err);
    arena_free(&e.arena);
    return code;
}
