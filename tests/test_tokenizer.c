/* tests/test_tokenizer.c: encoding and looking up against recorded vectors. */
#include "tokenizer_rig.h"

static void gpt2_vectors(void **state)
{
    Tokenizer *t = load_gpt2();

    (void)state;
    assert_int_equal(tokenizer_vocab_size(t), 50257);
    assert_int_equal(tokenizer_end_of_text(t), 50256);
    assert_string_equal(tokenizer_kind(t), "hf-json");
    assert_int_equal(each_line(GPT2 "/vectors.jsonl", t, check_ids), 517);
    assert_int_equal(each_line(GPT2 "/vectors-special.jsonl", t, check_special), 14);
    assert_int_equal(each_line(GPT2 "/vectors-decode.jsonl", t, check_decode), 60);
    tokenizer_free(t);
}

/* The table of the worker contract, section 10. */
static void gpt2_contract_table(void **state)
{
    static const struct {
        const char *text;
        int32_t ids[18];
    } cases[] = {
        /* Lists end at the first -1. */
        {"Hello.", {15496, 13, -1}},
        {"Hello world", {15496, 995, -1}},
        {"Hello, world!", {15496, 11, 995, 0, -1}},
        {"Hello, my dog is cute", {15496, 11, 616, 3290, 318, 13779, -1}},
        {"The dog", {464, 3290, -1}},
        {"The quick brown", {464, 2068, 7586, -1}},
        {"Once upon a time", {7454, 2402, 257, 640, -1}},
        {"What is the answer to life, the universe, and everything?",
         {2061, 318, 262, 3280, 284, 1204, 11, 262, 6881, 11, 290, 2279, 30, -1}},
        {" I'm a little late to the party, but",
         {314, 1101, 257, 1310, 2739, 284, 262, 2151, 11, 475, -1}},
        {"GPT2 inference runtime in C++ and CUDA",
         {38, 11571, 17, 32278, 19124, 287, 327, 4880, 290, 29369, 5631, -1}},
        {"don't 123abc", {9099, 470, 17031, 39305, -1}},
        {"I'm don't we'll they've he'd you're",
         {40, 1101, 836, 470, 356, 1183, 484, 1053, 339, 1549, 345, 821, -1}},
        {"\n", {198, -1}},
        {"\n\n", {628, -1}},
        {"a\n\nb", {64, 198, 198, 65, -1}},
        {"  two  spaces", {220, 734, 220, 9029, -1}},
        {"   leading", {220, 220, 3756, -1}},
        {"na\xc3\xafve caf\xc3\xa9", {2616, 38776, 40304, -1}},
        {"\xf0\x9f\x91\x8b", {41840, 233, -1}},
        {"\xf0\x9f\x8e\x89", {8582, 236, 231, -1}},
        {"Hello \xe4\xb8\x96\xe7\x95\x8c \xf0\x9f\x8c\x8d",
         {15496, 220, 10310, 244, 45911, 234, 12520, 234, 235, -1}},
        {"", {-1}},
    };
    Tokenizer *t = load_gpt2();

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t n = strlen(cases[i].text);
        size_t n_ids = 0;

        while (cases[i].ids[n_ids] >= 0)
            n_ids++;
        assert_ids(t, cases[i].text, n, false, cases[i].ids, n_ids);
        assert_round_trip(t, cases[i].text, n);
    }
    tokenizer_free(t);
}

static void tiny_vectors(void **state)
{
    Tokenizer *t = load(TINY);

    (void)state;
    assert_int_equal(tokenizer_vocab_size(t), 512);
    assert_int_equal(tokenizer_end_of_text(t), 511);
    assert_int_equal(each_line(TINY "/reference/tokenizer_vectors.jsonl", t, check_ids), 16);
    tokenizer_free(t);
}

static void shakespeare_prompt(void **state)
{
    Tokenizer *t = load(SHAKESPEARE);
    Err err = {0};
    json_t *root = json_parse_file(SHAKESPEARE "/reference/checkpoint_12.json", MAX_FILE, &err);
    const char *prompt = json_string_value(json_object_get(root, "prompt"));
    size_t n_want;

    (void)state;
    assert_non_null(prompt);

    int32_t *want = ids_of(json_object_get(root, "prompt_ids"), &n_want);

    assert_int_equal(tokenizer_vocab_size(t), 1024);
    assert_int_equal(tokenizer_end_of_text(t), 1023);
    assert_ids(t, prompt, strlen(prompt), false, want, n_want);
    free(want);
    json_decref(root);
    tokenizer_free(t);
}

static void finds_ordinary_tokens_only(void **state)
{
    Tokenizer *t = load(TINY);
    size_t n;

    (void)state;
    for (int id = 0; id < tokenizer_vocab_size(t); id++) {
        const char *bytes = tokenizer_token(t, id, &n);

        assert_int_equal(tokenizer_find(t, bytes, n), id == tokenizer_end_of_text(t) ? -1 : id);
    }
    assert_memory_equal(tokenizer_token(t, 511, &n), "<|endoftext|>", 13);
    assert_int_equal(n, 13);
    assert_int_equal(tokenizer_find(t, "", 0), -1);
    assert_int_equal(tokenizer_find(t, "\xc4\xa0", 2),
                     -1); /* the spelling of a blank, not a blank */
    assert_true(tokenizer_bytes(t) > 0);
    tokenizer_free(t);
}

static void end_of_text_is_special_on_request_only(void **state)
{
    static const char text[] = "a<|endoftext|>b<|endoftext|>";
    static const int32_t special[] = {64, 511, 65, 511};
    Tokenizer *t = load(TINY);
    int32_t ids[sizeof text];

    (void)state;
    assert_ids(t, text, strlen(text), true, special, 4);

    const size_t n = encode(t, text, strlen(text), false, ids);

    assert_true(n > 4);
    for (size_t i = 0; i < n; i++)
        assert_int_not_equal(ids[i], 511);
    assert_round_trip(t, text, strlen(text));
    tokenizer_free(t);
}

static void random_bytes_round_trip(void **state)
{
    Tokenizer *t = load(SHAKESPEARE);
    char text[400];
    uint32_t seed = 5;

    (void)state;
    for (int round = 0; round < 500; round++) {
        const size_t n = next_random(&seed) % sizeof text;

        for (size_t i = 0; i < n; i++)
            text[i] = (char)(round % 2 ? next_random(&seed) : next_random(&seed) % 3 + 'a');
        assert_round_trip(t, text, n);
    }
    tokenizer_free(t);
}

static void both_forms_give_the_same_ids(void **state)
{
    Tokenizer *pair = load(TINY), *one;
    FILE *f = fopen(TINY "/tokenizer.json", "rb");
    char *text = allocate(MAX_FILE);
    uint32_t seed = 3;

    (void)state;
    assert_non_null(f);
    put_file("tokenizer.json", text, fread(text, 1, MAX_FILE, f));
    assert_true(feof(f));
    fclose(f);
    one = load(folder);
    assert_int_equal(tokenizer_vocab_size(one), 512);
    assert_int_equal(tokenizer_end_of_text(one), 511);
    assert_int_equal(each_line(TINY "/reference/tokenizer_vectors.jsonl", one, check_ids), 16);
    for (int round = 0; round < 300; round++) {
        int32_t ids[200];
        const size_t n = next_random(&seed) % 200;

        for (size_t i = 0; i < n; i++)
            text[i] = "etaoinshr dlu\n,.'"[next_random(&seed) % 17];
        assert_ids(one, text, n, false, ids, encode(pair, text, n, false, ids));
    }
    free(text);
    tokenizer_free(one);
    tokenizer_free(pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_vectors),
        cmocka_unit_test(gpt2_contract_table),
        cmocka_unit_test(tiny_vectors),
        cmocka_unit_test(shakespeare_prompt),
        cmocka_unit_test(finds_ordinary_tokens_only),
        cmocka_unit_test(end_of_text_is_special_on_request_only),
        cmocka_unit_test(random_bytes_round_trip),
        cmocka_unit_test_setup_teardown(both_forms_give_the_same_ids, make_folder, leave_folder),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
