/* tests/test_candidates.c: what one row of logits says, and the rows of a whole generation. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "checkpoint/greedy.h"
#include "eval/candidates.h"
#include "eval/distribution.h"
#include "sampling/likelihood.h"

static void good(ErrCode code, const Err *err)
{
    if (code != ERR_OK)
        check_bail("%s", err->msg);
}

static bool near(double got, double want)
{
    return fabs(got - want) <= 1e-12 * fmax(1.0, fabs(want));
}

/* ---- One row ---- */

static void known_rows(void)
{
    const float uniform[8] = {3, 3, 3, 3, 3, 3, 3, 3};
    const float certain[3] = {0.0f, 3000.0f, 0.0f};
    /* 1/2, 1/4, 1/8, 1/8, shifted by 5 */
    const float halves[4] = {5.0f - logf(8.0f), 5.0f - logf(2.0f), 5.0f - logf(4.0f),
                             5.0f - logf(8.0f)};

    CHECK(near(distribution_entropy(uniform, 8), 3.0), "eight equal candidates: 3 bits");
    CHECK(distribution_entropy(certain, 3) == 0.0, "one certain candidate: no bit");
    CHECK(fabs(distribution_entropy(halves, 4) - 1.75) < 1e-6, "1/2, 1/4, 1/8, 1/8: 1.75 bits");
    CHECK(fabs(distribution_nll(halves, 4, 2) - log(4.0)) < 1e-6, "-log of 1/4");
    CHECK(distribution_nll(certain, 3, 2) == 3000.0 && distribution_nll(certain, 3, 1) == 0.0,
          "a probability below every double still has a logarithm");
    CHECK(near(likelihood_log_sum(uniform, 8), 3.0 + log(8.0)), "log of a sum of exponentials");
}

static void ties(void)
{
    const float l[7] = {1, 4, 2, 4, 2, -1, 2};
    static const int ranks[7] = {6, 1, 3, 2, 4, 7, 5};
    static const int32_t best[7] = {1, 3, 2, 4, 6, 0, 5};
    bool ranked = true, found = true;

    for (int i = 0; i < 7; i++)
        ranked = ranked && distribution_rank(l, 7, i) == ranks[i];
    for (int n = 1; n <= 7; n++) {
        int32_t ids[8] = {-1, -1, -1, -1, -1, -1, -1, -1};

        likelihood_best(l, 7, n, ids);
        found = found && memcmp(ids, best, (size_t)n * sizeof *ids) == 0 && ids[n] == -1;
    }
    CHECK(ranked, "equal logits rank by index");
    CHECK(found, "the best come in the order of their ranks, however many are wanted");
    CHECK(distribution_top(l, 7) == 1, "the first of the largest is the top");
}

static void whole_row(void)
{
    float l[6] = {0.5f, -2.0f, 1.5f, 1.5f, -40.0f, 0.0f};
    CandidateRow row = {.rank = 0};
    double sum = 0.0, entropy = 0.0;
    bool ordered = true;
    Err err = {0};

    good(candidates_row(&row, l, 6, 6, 3, &err), &err);
    for (int i = 0; i < 6; i++) {
        sum += row.best[i].probability;
        entropy -= row.best[i].probability * log2(row.best[i].probability);
        ordered = ordered && distribution_rank(l, 6, row.best[i].id) == i + 1;
    }
    CHECK(near(sum, 1.0) && near(entropy, row.entropy_bits),
          "probabilities sum to 1, and give the entropy");
    CHECK(row.id == 3 && row.rank == 2 && row.probability == row.best[1].probability &&
              near(row.surprise_bits, -log2(row.probability)) && isnan(row.drawn),
          "rank, probability and surprise of the token in question");
    CHECK(ordered && row.n_best == 6, "candidates in order");
    l[4] = -INFINITY;
    CHECK(candidates_row(&row, l, 6, 2, 3, &err) == ERR_NUMERIC, "a logit that is infinite");
}

/* ---- A generation ---- */

static CandidatesOptions options_of(const CheckModel *cm)
{
    return (CandidatesOptions){.model = &cm->model,
                               .k = check_first_isa(),
                               .kv_type = KERN_F32,
                               .n_vocab = cm->model.config.vocab_size,
                               .prompt = cm->ids,
                               .n_prompt = cm->n_ids,
                               .n_best = 5,
                               .max_tokens = 12,
                               .sampling = {.temperature = 0.0f, .top_p = 1.0f}};
}

static void greedy(const CheckModel *cm)
{
    CandidatesOptions o = options_of(cm);
    int32_t want[12];
    bool same = true;
    Candidates c;
    Err err = {0};

    good(greedy_continue(&cm->model, o.k, o.prompt, o.n_prompt, want, 12, &err), &err);
    for (const Kernels *k = check_first_isa(); k != NULL; k = check_next_isa(k)) {
        o.k = k;
        good(candidates_run(&c, &o, &err), &err);
        same = same && c.n_rows == 12 && c.n_prompt_rows == 0 && !c.ended;
        for (int i = 0; same && i < 12; i++)
            same = c.rows[i].id == want[i] && c.rows[i].rank == 1 && c.rows[i].drawn == 1.0 &&
                   c.rows[i].best[0].id == want[i];
        candidates_free(&c);
    }
    CHECK(same, "%s: greedy tokens are those of generation, each of rank 1", cm->name);
}

static void prompt_tokens(const CheckModel *cm)
{
    CandidatesOptions o = options_of(cm);
    Gpt2Run *run = check_run(&cm->model, o.k, o.n_prompt);
    bool same = true;
    Candidates c;
    Err err = {0};

    o.with_prompt = true;
    o.max_tokens = 1;
    good(candidates_run(&c, &o, &err), &err);
    CHECK(c.n_prompt_rows == cm->n_ids - 1 && c.n_rows == cm->n_ids,
          "%s: a row for each token of the prompt but the first", cm->name);
    for (int i = 0; i + 1 < o.n_prompt; i++) {
        const CandidateRow *row = &c.rows[i];
        CandidateRow want;

        good(gpt2_forward(run, &o.prompt[i], 1, true, NULL, &err), &err);
        good(candidates_row(&want, run->logits, o.n_vocab, 5, o.prompt[i + 1], &err), &err);
        same = same && row->id == want.id && row->rank == want.rank &&
               row->surprise_bits == want.surprise_bits && row->entropy_bits == want.entropy_bits &&
               memcmp(row->best, want.best, sizeof want.best) == 0 && isnan(row->drawn);
    }
    CHECK(same, "%s: and each as from a pass of its own", cm->name);
    candidates_free(&c);
}

static void drawn(const CheckModel *cm)
{
    CandidatesOptions o = options_of(cm);
    double off = 0.0;
    bool one = true, filtered = true, several = false;
    Candidates c;
    Err err = {0};

    o.sampling = sampling_defaults();
    good(candidates_run(&c, &o, &err), &err);
    for (int i = 0; i < c.n_rows; i++) {
        off = fmax(off, fabs(c.rows[i].drawn - c.rows[i].probability));
        several = several || c.rows[i].rank > 1;
    }
    CHECK(off < 1e-6 && several, "at temperature 1 tokens are drawn with their probability (%.1e)",
          off);
    candidates_free(&c);
    o.sampling.top_k = 1;
    good(candidates_run(&c, &o, &err), &err);
    for (int i = 0; i < c.n_rows; i++)
        one = one && c.rows[i].drawn == 1.0 && c.rows[i].probability < 1.0;
    CHECK(one, "where a single candidate is left, it is certain");
    candidates_free(&c);
    o.sampling.top_k = 5;
    good(candidates_run(&c, &o, &err), &err);
    for (int i = 0; i < c.n_rows; i++) {
        double kept = 0.0;

        for (int j = 0; j < 5; j++)
            kept += c.rows[i].best[j].probability;
        filtered = filtered && c.rows[i].rank <= 5 &&
                   fabs(c.rows[i].drawn - c.rows[i].probability / kept) < 1e-5;
    }
    CHECK(filtered, "the five best share the probability of all");
    candidates_free(&c);
}

static void endings(const CheckModel *cm)
{
    CandidatesOptions o = options_of(cm);
    Gpt2 ending = cm->model;
    int third;
    Candidates c;
    Err err = {0};

    good(candidates_run(&c, &o, &err), &err);
    third = c.rows[2].id;
    for (int i = 0; i < 2; i++)
        if (c.rows[i].id == third)
            check_bail("the third token comes earlier: choose another");
    candidates_free(&c);
    ending.config.eos_ids[0] = third;
    ending.config.n_eos = 1;
    o.model = &ending;
    good(candidates_run(&c, &o, &err), &err);
    CHECK(c.n_rows == 3 && c.ended && c.rows[2].id == third, "an end of text is the last row");
    candidates_free(&c);

    o = options_of(cm);
    o.max_tokens = 2000;
    good(candidates_run(&c, &o, &err), &err);
    CHECK(c.ended || c.n_rows == cm->model.config.n_ctx - cm->n_ids + 1,
          "a full context ends it: %d rows", c.n_rows);
    candidates_free(&c);
}

static bool stop(void *ctx, double fraction)
{
    int *calls = ctx;

    return fraction >= 0.0 && fraction <= 1.0 && ++*calls < 20;
}

static ErrCode fails(const CandidatesOptions *o, Err *err)
{
    Candidates c;
    const ErrCode code = candidates_run(&c, o, err);

    candidates_free(&c);
    return code;
}

static void refusals(const CheckModel *cm)
{
    static const int32_t outside[] = {1, 512};
    CandidatesOptions o = options_of(cm);
    int calls = 0;
    Err err = {0};

    o.n_prompt = 0;
    CHECK(fails(&o, &err) == ERR_USAGE, "an empty prompt is refused");
    o.n_prompt = 65;
    CHECK(fails(&o, &err) == ERR_USAGE && strstr(err.msg, "at most 64") != NULL,
          "a prompt beyond the context is refused");
    o = options_of(cm);
    o.prompt = outside;
    o.n_prompt = 2;
    CHECK(fails(&o, &err) == ERR_USAGE && strstr(err.msg, "id 512") != NULL,
          "an id outside the vocabulary is refused");
    o = options_of(cm);
    o.max_tokens = 0;
    CHECK(fails(&o, &err) == ERR_USAGE, "no token at all is refused");
    o = options_of(cm);
    o.progress = (Gpt2Progress){stop, &calls};
    CHECK(fails(&o, &err) == ERR_CANCELLED && calls == 20, "progress can stop it");
}

int main(void)
{
    const CheckModel *tiny = check_model(0), *shipped = check_model(1);

    known_rows();
    ties();
    whole_row();
    greedy(tiny);
    greedy(shipped);
    prompt_tokens(tiny);
    prompt_tokens(shipped);
    drawn(shipped);
    endings(tiny);
    refusals(tiny);
    return check_report();
}
