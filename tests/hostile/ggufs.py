"""Hostile GGUF files."""
import struct

from forms import (ARRAY, BOOL, CTX, DIM, EOT, F32, F64, I32, I64, STRING, TOKENS, U8, U32, U64, VOCAB, Case, Sparse, gguf, gguf_keys,
                   gguf_tensors, model, text)

BIG = 2 ** 64 - 1


def one(name, content, *says, heavy=False):
    return Case("GGUF: " + name, {"m.gguf": content}, "m.gguf: ", *says, target="m.gguf", heavy=heavy)


def tensor(what, *says, **changes):
    """The first tensor's dims, type, offset, name or data are others."""
    rows = gguf_tensors()
    for field, at in (("name", 0), ("dims", 1), ("kind", 2), ("offset", 3), ("data", 4)):
        if field in changes:
            rows[0][at] = changes[field]
    return one(what, gguf(tensors=rows), *says)


def frame():
    good = gguf()
    for n in (1, 3, 4, 7, 8, 15, 16, 23):
        yield one("its first %d bytes" % n, good[:n], "expected at least 8" if n < 4 else "but only")
    yield one("its first 24 bytes", good[:24], "bytes follow")
    yield one("half of it", good[:len(good) // 2], "m.gguf: ")
    yield one("its last byte missing", good[:-1], "but the file has")
    yield one("big endian by its magic", gguf(magic=b"FUGG"), "big endian, expected little endian")
    yield one("big endian by its version", good[:4] + good[4:8][::-1] + good[8:], "big endian, expected little endian")
    for version in (0, 1, 4, 65535, 2 ** 32 - 1):
        yield one("version %d" % version, gguf(version=version), "version %d, expected 2 or 3" % version)
    for n in (1 << 20, 2 ** 32, 2 ** 61, 2 ** 63, BIG):
        yield one("%d tensors" % n, gguf(n_tensors=n), "number of tensors %d, but only" % n)
        yield one("%d keys" % n, gguf(n_keys=n), "number of keys %d, but only" % n)
    yield one("a key too many", gguf(n_keys=len(gguf_keys()) + 1), "m.gguf: ")
    yield one("a key too few", gguf(n_keys=len(gguf_keys()) - 1), "m.gguf: ")
    yield one("a tensor too few", gguf(n_tensors=len(gguf_tensors()) - 1), "m.gguf: ")
    yield one("no tensors", gguf(tensors=[]), "tensor token_embd.weight is missing")
    yield one("no keys", gguf(dict.fromkeys(gguf_keys())), "key general.architecture is missing")
    yield one("old GGML", b"lmgg" + bytes(100), "m.gguf: ")
    yield one("1 TB of nothing behind the magic", Sparse(b"GGUF\3\0\0\0", 1 << 40), "key general.architecture is missing")
    yield one("1 TB of keys", Sparse(b"GGUF\3\0\0\0" + bytes(8) + struct.pack("<Q", 1 << 36), 1 << 40),
              "number of keys 68719476736 leads beyond the first 268435456 bytes")
    yield one("1 TB of tensors", Sparse(b"GGUF\3\0\0\0" + struct.pack("<QQ", 65537, 0), 1 << 40), "65537 tensors and 0 keys, expected at most")
    yield one("1 TB of empty texts", Sparse(b"GGUF\3\0\0\0" + struct.pack("<QQ", 0, 1) + text("x") + struct.pack("<IIQ", ARRAY, STRING, 1 << 36),
                                            1 << 40), "array length 68719476736 leads beyond")
    yield one("1 TB in one text", Sparse(b"GGUF\3\0\0\0" + struct.pack("<QQ", 0, 1) + text("x") + struct.pack("<IQ", STRING, 1 << 39), 1 << 40),
              "string of 549755813888 bytes leads beyond")
    yield one("as many keys as possible in 1 TB", Sparse(b"GGUF\3\0\0\0" + struct.pack("<QQ", 0, 65536), 1 << 40), "key : there twice")


def strings():
    def raw(name, extra, *says):
        return one(name, gguf(extra=extra, n_keys=len(gguf_keys()) + 1), *says)

    for n in (BIG, BIG - 7, 2 ** 63, 2 ** 32, 1 << 20):
        yield raw("a key of %d bytes" % n, struct.pack("<Q", n) + b"x" * 64, "key of %d bytes" % n)
        yield raw("a string of %d bytes" % n, text("x") + struct.pack("<IQ", STRING, n) + b"x" * 64, "key x: byte", "string of %d bytes" % n)
    yield raw("a key of 65536 bytes", text("x" * 65536) + struct.pack("<I", U8) + b"\0", "key of 65536 bytes, expected at most 65535")
    yield raw("a NUL in a key", text("a\0b") + struct.pack("<I", U8) + b"\0", "a NUL byte in the name of a key")
    yield raw("escape sequences in a key", text("\x1b[2J\n") + struct.pack("<I", 13), "key \\x1b[2J\\n: byte", "type 13, expected 0 to 12")
    yield raw("invalid UTF-8 in a key", text(b"\xff\xfe") + struct.pack("<I", 99), "key \\xff\\xfe: byte", "type 99")
    yield raw("formats in a key", text("%s%n") + struct.pack("<I", 99), "key %s%n: byte")
    for kind in (13, 256, 2 ** 31, 2 ** 32 - 1):
        yield raw("a key of type %d" % kind, text("x") + struct.pack("<I", kind) + bytes(64), "type %d, expected 0 to 12" % kind)
        yield raw("an array of type %d" % kind, text("x") + struct.pack("<IIQ", ARRAY, kind, 1) + bytes(64),
                  "type of array elements %d, expected" % kind)
    for kind, width in ((U8, 1), (I32, 4), (F64, 8), (STRING, 8), (ARRAY, 12), (BOOL, 1)):
        for n in (BIG, 2 ** 64 // width + 1 if width > 1 else 2 ** 32, 2 ** 63, 1 << 24):
            yield raw("an array of %d elements of type %d" % (n, kind), text("x") + struct.pack("<IIQ", ARRAY, kind, n) + bytes(64),
                      "array length %d" % n)
    yield raw("a string in an array that wraps", text("x") + struct.pack("<IIQQ", ARRAY, STRING, 2, BIG) + bytes(64), "string of %d" % BIG)
    yield raw("a boolean 2", text("x") + struct.pack("<I", BOOL) + b"\2", "a boolean is 2, expected 0 or 1")
    yield raw("a boolean 255 in an array", text("x") + struct.pack("<IIQ", ARRAY, BOOL, 3) + b"\0\1\xff", "a boolean is 255")
    nested = b"".join(struct.pack("<IQ", ARRAY, 1) for _ in range(4)) + struct.pack("<IQB", U8, 1, 7)
    yield raw("arrays 5 deep", text("x") + struct.pack("<I", ARRAY) + nested, "arrays nested deeper than 4")
    yield raw("arrays 100,000 deep", text("x") + struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 100000, "nested deeper than 4")
    yield raw("a key twice", text("gpt2.block_count") + struct.pack("<II", U32, 1), "key gpt2.block_count: there twice")
    yield one("a million arrays of nothing", gguf({"x": (ARRAY, struct.pack("<IQ", ARRAY, 1000000) + struct.pack("<IQ", STRING, 0) * 1000000),
                                                   "gpt2.block_count": (U32, 0)}), "key gpt2.block_count: 0, expected 1 to", heavy=True)
    yield one("60,000 keys", gguf(extra=b"".join(text("k%d" % i) + struct.pack("<IB", U8, 1) for i in range(60000)),
                                  n_keys=60000 + len(gguf_keys()) - 1, keys={"general.architecture": None}),
              "key general.architecture is missing")
    yield one("60,000 times one key", gguf(extra=(text("k") + struct.pack("<IB", U8, 1)) * 60000, n_keys=60000 + len(gguf_keys())),
              "key k: there twice")


def tensors():
    yield tensor("0 dimensions", "tensor token_embd.weight: byte", "0 dimensions, expected 1 to 4", dims=[])
    yield tensor("5 dimensions", "5 dimensions, expected 1 to 4", dims=[1] * 5)
    yield tensor("a dimension 0", "dimension 0 is 0", dims=[0, VOCAB])
    yield tensor("a product that overflows", "the product of the dimensions overflows", dims=[2 ** 32, 2 ** 32])
    yield tensor("a product that wraps to 8 x %d" % VOCAB, "the product of the dimensions overflows", dims=[2 ** 63, 2, DIM, VOCAB])
    yield tensor("bytes that overflow", "the size overflows", dims=[2 ** 62])
    yield tensor("2^63 elements", "the size overflows", dims=[2 ** 63])
    yield tensor("more than the file has", "but the file has", dims=[DIM, 1 << 30])
    yield tensor("another width", "tensor token_embd.weight: shape [4, %d], expected [8, %d]" % (2 * VOCAB, 2 * VOCAB), dims=[4, 2 * VOCAB])
    yield tensor("one dimension, and so one row", "eos_token_id: %d, expected 0 to 0" % EOT, dims=[DIM * VOCAB])
    yield tensor("three dimensions", "shape [8, %d, 1]" % VOCAB, dims=[DIM, VOCAB, 1])
    huge = gguf(tensors=[["token_embd.weight", [1, 1000001], 24, 0, b""]])
    yield one("a vocabulary above a million", Sparse(huge, 4000000), "a vocabulary of 1000001 tokens, at most 1000000")
    for kind in (43, 100, 255, 2 ** 16, 2 ** 31, 2 ** 32 - 1):
        yield tensor("type %d" % kind, "type %d is unknown" % kind, kind=kind)
    for kind, name in ((4, "Q4_2"), (5, "Q4_3"), (9, "Q8_1"), (31, "Q4_0_4_4"), (38, "IQ4_NL_8_8")):
        yield tensor("type " + name, "type %s is not supported" % name, kind=kind)
    yield tensor("type I32", "type I32 is not supported", kind=26)
    yield tensor("type I8 at its size", "type I8 is not supported", kind=24)
    for kind, name in ((2, "Q4_0"), (8, "Q8_0"), (14, "Q6_K"), (16, "IQ2_XXS")):
        yield tensor("rows that are no whole blocks of " + name, "rows of 8 elements, expected a multiple of", kind=kind)
    yield tensor("offset off the grid", "offset 4, expected a multiple of 32", offset=4)
    yield tensor("offset beyond the file", "at offset 1099511627776, but the file has", offset=1 << 40, data=b"")
    yield tensor("offset and size that wrap", "bytes at offset %d" % (2 ** 64 - 32), offset=2 ** 64 - 32, data=b"")
    yield tensor("a name with escape sequences", "tensor \\x1b]0;x\\x07: byte", name="\x1b]0;x\x07", dims=[])
    yield tensor("an empty name", "tensor token_embd.weight is missing", name="")
    yield tensor("a name of 65536 bytes", "tensor of 65536 bytes, expected at most 65535", name="x" * 65536)
    yield tensor("a name of 65535 bytes, and no dimensions", "tensor xxx", "0 dimensions", name="x" * 65535, dims=[])
    rows = gguf_tensors()
    rows[1][3] = rows[0][3] + 32
    rows[1][4] = b""
    yield one("two tensors overlap", gguf(tensors=rows), "lies in tensor token_embd.weight, which ends at")
    rows = gguf_tensors()
    rows[1][3], rows[1][4] = rows[0][3], b""
    yield one("two tensors at one place", gguf(tensors=rows), "lies in tensor")
    yield one("a tensor twice", gguf(tensors=gguf_tensors() + [["output_norm.bias", [DIM], 0, 1 << 20, bytes(32)]]),
              "tensor output_norm.bias: there twice")
    yield one("a layer too many", gguf(tensors=gguf_tensors(layers=2)), "tensor blk.1.attn_norm.weight exists, but the model has 1 layers")
    yield one("a layer missing", gguf({"gpt2.block_count": (U32, 2)}), "tensor blk.1.attn_norm.weight is missing")
    empty = [["t%d" % i, [1], 24, 32 * i, b""] for i in range(60000)]
    yield one("60,000 tensors without data", gguf(tensors=empty), "but the file has")
    for bits, what in ((b"\0\0\xc0\x7f", "NaN"), (b"\0\0\x80\x7f", "inf")):
        rows = gguf_tensors()
        rows[-1][4] = bytes(28) + bits
        yield one("%s in a vector" % what, gguf(tensors=rows), "tensor output_norm.bias: element 7 is not finite")
    rows = gguf_tensors()
    rows[-1][2], rows[-1][4] = 28, struct.pack("<8d", 0, 0, 0, 0, 0, 0, 0, 1e300)
    yield one("an F64 that is no F32", gguf(tensors=rows), "element 7 is not finite as F32")


def metadata():
    for a in (0, 3, 24, 31, 65537, 131072, 2 ** 31, 2 ** 32 - 1):
        yield one("alignment %d" % a, gguf({"general.alignment": (U32, a)}), "general.alignment: %d, expected a power of two" % a)
    yield one("alignment in another type", gguf({"general.alignment": (U64, 32)}), "general.alignment: type U64, expected U32")
    yield one("alignment as a text", gguf({"general.alignment": (STRING, "32")}), "general.alignment: type string, expected U32")
    yield one("alignment above the offsets'", gguf({"general.alignment": (U32, 4096)}, alignment=4096), "expected a multiple of 4096")
    yield one("split in two", gguf({"split.count": (U32, 2), "split.no": (U32, 0)}), "part 1 of a model split into 2 files")
    yield one("split with a count of another type", gguf({"split.count": (STRING, "2")}), "split.count: type string, expected an integer")
    yield one("split into 2^31", gguf({"split.count": (U32, 2 ** 31)}), "split.count: 2147483648, expected 0 to 65535")
    wrong = {STRING: (U32, 1), U32: (STRING, "1"), F32: (F64, 1e-5), ARRAY: (STRING, "x")}
    for name, (kind, _) in gguf_keys().items():
        yield one("%s of another type" % name, gguf({name: wrong[kind]}), "key %s: type" % name, "expected")
        if "token_type" not in name and "pre" not in name and "token_id" not in name:
            yield one("%s missing" % name, gguf({name: None}), "key %s is missing" % name)
        if kind == U32:
            yield one("%s an array" % name, gguf({name: (ARRAY, (U32, [1]))}), "type array of U32, expected an integer")
            yield one("%s -1" % name, gguf({name: (I64, -1)}), "key %s: -1, expected" % name)
            yield one("%s 2^32" % name, gguf({name: (U64, 2 ** 32)}), "key %s: 4294967296, expected" % name)
            yield one("%s 2^64 - 1" % name, gguf({name: (U64, BIG)}), "key %s: %d, expected" % (name, BIG))
            yield one("%s -2^63" % name, gguf({name: (I64, -2 ** 63)}), "key %s: -9223372036854775808, expected" % name)
    for name, changes, part in (
            ("another architecture", {"general.architecture": (STRING, "llama")}, "general.architecture is llama, expected gpt2"),
            ("an architecture with a NUL", {"general.architecture": (STRING, "gpt2\0")}, "general.architecture is gpt2"),
            ("an architecture of a megabyte", {"general.architecture": (STRING, "x" * 1000000)}, "general.architecture is xxx"),
            ("an architecture with escape sequences", {"general.architecture": (STRING, "\x1b[2J")}, "is \\x1b[2J, expected"),
            ("heads that do not divide the width", {"gpt2.attention.head_count": (U32, 3)}, "must be divisible"),
            ("2^31 - 1 layers", {"gpt2.block_count": (U32, 2 ** 31 - 1)}, "num_layers must be at most"),
            ("a width beyond the maximum", {"gpt2.embedding_length": (U32, 65537)}, "hidden_dim must be at most 65536"),
            ("another width", {"gpt2.embedding_length": (U32, 16)}, "shape [8, %d], expected [16, %d]" % (VOCAB, VOCAB)),
            ("another context", {"gpt2.context_length": (U32, CTX + 1)}, "tensor position_embd.weight: shape"),
            ("epsilon NaN", {"gpt2.attention.layer_norm_epsilon": (F32, float("nan"))}, "layer_norm_epsilon must be > 0"),
            ("epsilon inf", {"gpt2.attention.layer_norm_epsilon": (F32, float("inf"))}, "layer_norm_epsilon must be at most 1"),
            ("epsilon 0", {"gpt2.attention.layer_norm_epsilon": (F32, 0.0)}, "layer_norm_epsilon must be > 0"),
            ("epsilon -1", {"gpt2.attention.layer_norm_epsilon": (F32, -1.0)}, "layer_norm_epsilon must be > 0"),
            ("end id of the vocabulary's size", {"tokenizer.ggml.eos_token_id": (U32, VOCAB)}, "eos_token_id: %d, expected 0 to %d" % (VOCAB, EOT)),
            ("begin id of the vocabulary's size", {"tokenizer.ggml.bos_token_id": (U32, VOCAB)}, "bos_token_id: %d, expected 0" % VOCAB)):
        yield one(name, gguf(changes), part)


def tokens():
    def listed(name, *says, words=TOKENS, **more):
        return one("tokens: " + name, gguf(dict({"tokenizer.ggml.tokens": (ARRAY, (STRING, words))}, **more)), *says)

    types = "tokenizer.ggml.token_type"
    plain = [1] * VOCAB
    yield listed("none", "tokens: the vocabulary is empty", words=[])
    yield listed("one less than types", "token_type: %d elements, expected one for each of %d tokens" % (VOCAB, VOCAB - 1), words=TOKENS[:-1])
    yield listed("more than rows", "model only %d rows" % VOCAB, words=TOKENS + ["x%d" % i for i in range(5)], **{types: None})
    yield listed("one twice", "tokens[257]: ", "appears twice", words=TOKENS[:257] + ["ab"] + TOKENS[258:])
    yield listed("invalid UTF-8", "tokens[0]: token is not valid UTF-8", words=[b"\xff"] + TOKENS[1:])
    yield listed("a byte missing", "tokens: byte 0x00 has no token", words=["zz"] + TOKENS[1:])
    yield listed("numbers", "type array of I32, expected array of string", **{"tokenizer.ggml.tokens": (ARRAY, (I32, [1]))})
    for kind in (0, 2, 6, 7, -1, 2 ** 31 - 1, -2 ** 31):
        yield listed("type %d" % kind, "token_type[3]: type %d" % kind, **{types: (ARRAY, (I32, plain[:3] + [kind] + plain[4:]))})
    yield listed("types as texts", "type array of string, expected array of I32", **{types: (ARRAY, (STRING, ["1"] * VOCAB))})
    yield listed("types as U32", "type array of U32, expected array of I32", **{types: (ARRAY, (U32, plain))})
    yield listed("all unused", "tokens: byte 0x00 has no token", **{types: (ARRAY, (I32, [5] * VOCAB))})
    yield one("tokens: a million and one of no text", gguf({"tokenizer.ggml.tokens": (ARRAY, struct.pack("<IQ", STRING, 1000001) + bytes(8000008)),
                                                            types: None}), "tokens: 1000001 tokens, at most 1000000")
    yield listed("another kind", 'model is "llama", expected "gpt2"', **{"tokenizer.ggml.model": (STRING, "llama")})
    yield listed("another cutting", 'pre is "llama-bpe", expected', **{"tokenizer.ggml.pre": (STRING, "llama-bpe")})
    name = "tokenizer.ggml.merges"
    for what, pairs, part in (("none", [], "merges: no merges"), ("one piece", ["ab"], 'merges[0]: malformed merge "ab"'),
                              ("an empty text", [""], "merges[0]: malformed merge"), ("a NUL", ["a\0 b"], "merges[0]: NUL byte in a merge"),
                              ("invalid UTF-8", ["a b", b"\xff b"], "merges[1]: merge is not valid UTF-8"),
                              ("an unknown piece", ["a zz"], '"zz" is not in the vocabulary'),
                              ("an unknown result", ["z z"], "joined are not in the vocabulary"),
                              ("one twice", ["a b", "a b"], "merges[1]: this merge appears twice"),
                              ("a merge of a megabyte", ["x" * 1000000 + " b"], "merges[0]: merge of 1000002 bytes"),
                              ("300,000 empty ones", [""] * 300000, "merges[0]: malformed merge")):
        yield one("merges: " + what, gguf({name: (ARRAY, (STRING, pairs))}), part)
    yield one("merges that are no texts", gguf({name: (ARRAY, (U8, [1, 2]))}), "merges: type array of U8, expected array of string")


def confusions():
    """The right thing at the wrong place."""
    files = model()
    yield Case("a GGUF file called model.safetensors", dict(files, **{"model.safetensors": gguf()}), "model.safetensors: ",
               "this is a GGUF model, expected a safetensors model")
    yield Case("a safetensors file called m.gguf without a configuration", {"m.gguf": files["model.safetensors"]}, "config.json: No such file",
               target="m.gguf", runs=["generate", "--prompt", "x", "--model", "{}/m.gguf"])
    yield Case("a vocabulary as a model", dict(files), "vocab.json", target="vocab.json")
    yield Case("config.json as a model", dict(files), "config.json: this is a JSON file, expected a safetensors model", target="config.json")


def cases():
    for group in (frame, strings, tensors, metadata, tokens, confusions):
        yield from group()
