/* tests/gguf_rig.h: GGUF files for the tests of reader and writer, put together from recipes: see
 * make. */
#ifndef LLORCH_TESTS_GGUF_RIG_H
#define LLORCH_TESTS_GGUF_RIG_H

#include "parser_rig.h"

#include "formats/gguf.h"

static inline ErrCode parse(Gguf **g, const void *data, size_t n, Err *err)
{
    *err = (Err){ERR_OK, ""};
    *g = NULL;
    return gguf_parse(g, guarded(data, n), n, "x.gguf", err);
}

static inline size_t put(unsigned char *out, size_t at, uint64_t value, size_t n)
{
    assert_true(at + n <= MAX_FILE);
    for (size_t i = 0; i < n; i++)
        out[at + i] = (unsigned char)(value >> (8 * i));
    return at + n;
}

static inline size_t put_text(unsigned char *out, size_t at, const char *text, size_t n)
{
    assert_true(at + n <= MAX_FILE);
    memcpy(out + at, text, n);
    return at + n;
}

/* The words of a recipe that stand for one number, or for many equal bytes. */
static inline size_t put_filling(unsigned char *out, size_t at, char kind, uint64_t v)
{
    switch (kind) {
    case 'b':
        return put(out, at, v, 1);
    case 'h':
        return put(out, at, v, 2);
    case 'w':
        return put(out, at, v, 4);
    case 'q':
        return put(out, at, v, 8);
    case 'p':
        while (at % v != 0)
            at = put(out, at, 0, 1);
        return at;
    case 'x':
    case 'z':
    case 'n':
        for (uint64_t i = 0; i < v; i++)
            at = put(out, at, kind == 'x' ? 'x' : kind == 'z' ? 0 : i + 1, 1);
        return at;
    default:
        fail_msg("recipe: unknown word %c", kind);
        return at;
    }
}

/* The words # @ and !, which have several parts. */
static inline size_t put_entry(unsigned char *out, size_t at, char kind, const char *word)
{
    const size_t n_name = kind == '#' ? 0 : strcspn(word, ":");
    const char *number = kind == '#' ? word : word + n_name + 1;
    uint64_t v[3];

    for (int i = 0; i < (kind == '#' ? 2 : kind == '@' ? 1 : 3); i++) {
        char *end;

        v[i] = strtoull(number, &end, 0);
        number = end + 1;
    }
    if (kind == '#') {
        at = put_text(out, at, "GGUF\3\0\0\0", 8);
        at = put(out, at, v[0], 8);
        return put(out, at, v[1], 8);
    }
    at = put(out, at, n_name, 8);
    at = put_text(out, at, word, n_name);
    if (kind == '@')
        return put(out, at, v[0], 4);
    at = put(out, at, 1, 4);
    at = put(out, at, v[0], 8);
    at = put(out, at, v[1], 4);
    return put(out, at, v[2], 8);
}

/* A file from words with blanks between them. Returns the size.
 *
 *   'abc      the bytes themselves          $abc      a string with its length
 *   b1 h1 w1 q1  a number of 1, 2, 4, 8 bytes
 *   x3        the byte 'x' three times      n3        the bytes 1, 2, 3
 *   z3        three zero bytes              p32       zeros up to a multiple of 32
 *   #2,1      the start of a file of 2 tensors and 1 key
 *   @key:8    a key and the type of its value
 *   !a:3:0:64 a tensor of one dimension, 3, of type 0 at offset 64 */
static inline size_t make(unsigned char *out, const char *recipe)
{
    size_t at = 0;

    while (*recipe != '\0') {
        const char kind = *recipe++;
        const size_t len = strcspn(recipe, " ");

        if (kind == '$')
            at = put(out, at, len, 8);
        if (kind == '$' || kind == '\'')
            at = put_text(out, at, recipe, len);
        else if (kind == '#' || kind == '@' || kind == '!')
            at = put_entry(out, at, kind, recipe);
        else
            at = put_filling(out, at, kind, strtoull(recipe, NULL, 0));
        recipe += len;
        recipe += *recipe == ' ';
    }
    return at;
}

/* One key of each type, and three tensors; b lies before a. */
static const char good[] =
    "#3,17 "
    "@k.u8:0 b200 @k.i8:1 b0xfe @k.u16:2 h65535 @k.i16:3 h0x8000 "
    "@k.u32:4 w4294967295 @k.i32:5 w0xffffffff @k.f32:6 w0x3fc00000 @k.bool:7 b1 @k.string:8 $text "
    "@k.u64:10 q0xffffffffffffffff @k.i64:11 q0x8000000000000000 @k.f64:12 q0x3ff8000000000000 "
    "@a.strings:9 w8 q3 $one $ $three @a.i32:9 w5 q2 w1 w0xfffffffe "
    "@a.f32:9 w6 q2 w0x3f800000 w0xbf000000 @a.u32:9 w4 q1 w7 "
    "@a.nested:9 w9 q2 w7 q1 b1 w8 q1 $deep "
    "!a:3:0:64 $b w2 q32 q1 w8 q0 $c w4 q1 q2 q1 q1 w1 q96 "
    "p32 n34 z30 n12 z20 n4";

#endif
