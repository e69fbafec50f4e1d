"""Hostile safetensors files, alone and in shards."""
import struct

from forms import (CTX, DIM, FFN, VOCAB, Case, Link, Sparse, config, count, data_of, dumps, floats, header, model, safetensors, shapes, weights,
                   wrap, wrap_long)

GOOD = safetensors()
HEAD = header(weights())
DATA = data_of(weights())
WTE = VOCAB * DIM * 4
LENGTH = struct.unpack("<Q", GOOD[:8])[0]


def one(name, content, *says):
    return Case("safetensors: " + name, model(model_safetensors=content), "model.safetensors: ", *says)


def configured(content=None, **changes):
    return model(model_safetensors=GOOD if content is None else content, config_json=config(**changes))


def entry(name, *says, **changes):
    return one(name, safetensors(**changes), "tensor wte.weight: ", *says)


def raw_entry(name, text, *says):
    """wte's entry is text."""
    return one(name, wrap(dumps({"wte.weight": "@"}).replace(b'"@"', text.encode()), DATA), *says)


def tensors_with(**changes):
    """The weights with (dtype, shape, data) of some replaced; names have _ for the dots."""
    return [(n, *changes.get(n.replace(".", "_"), (d, s, b))) for n, d, s, b in weights()]


def word(n):
    return struct.pack("<Q", n) + b"{" * 64


def frame():
    yield one("7 bytes", b"1234567", "7 bytes, expected at least 8")
    yield one("one byte", b"{", "this is a JSON file")
    yield one("only a length", struct.pack("<Q", 16), "but only 0 bytes follow")
    yield one("length 0", struct.pack("<Q", 0) + DATA, "does not start with '{'")
    yield one("length above the cap", word(100000001), "header of 100000001 bytes, expected at most 100000000")
    yield one("length 2^63", word(2 ** 63), "header of 9223372036854775808 bytes")
    yield one("length 2^64 - 1", word(2 ** 64 - 1), "header of 18446744073709551615 bytes")
    yield one("length that wraps to the size with its own 8 bytes", word(2 ** 64 - 8), "expected at most")
    yield one("length one too many", struct.pack("<Q", 57) + b"{" * 56, "header of 57 bytes, but only 56 bytes follow")
    yield one("length at the cap in a small file", word(100000000), "bytes follow")
    yield one("length in big endian", struct.pack(">Q", LENGTH) + GOOD[8:], "expected at most")
    yield one("header cut short by its length", struct.pack("<Q", LENGTH - 1) + GOOD[8:], "header: line 1")
    yield one("header reaching one byte into the data", struct.pack("<Q", LENGTH + 1) + GOOD[8:], "does not end with '}'")
    yield one("file of a header without its data", GOOD[:8 + LENGTH], "but the file has 0 bytes of data")
    yield one("last byte missing", GOOD[:-1], "data_offsets end at")
    yield one("one byte more", GOOD + b"\0", "but the tensors end at")
    yield one("all blanks", wrap(b" " * 64), "does not start with '{'")
    yield one("header behind blanks", wrap(b"   " + dumps(HEAD), DATA), "does not start with '{'")
    yield one("header padded with NUL", wrap(dumps(HEAD) + b"\0\0\0", DATA), "does not end with '}' and spaces")
    yield one("header padded with line feeds", wrap(dumps(HEAD) + b"\n", DATA), "does not end with '}' and spaces")
    yield one("two objects", wrap(dumps(HEAD) + b"{}", DATA), "header: line 1")
    yield one("a list", wrap(b"[]", DATA), "does not start with '{'")
    yield one("header in UTF-16", wrap(dumps(HEAD).decode().encode("utf-16-le"), DATA), "does not end with")
    yield one("byte order mark", wrap(b"\xef\xbb\xbf" + dumps(HEAD), DATA), "does not start with '{'")
    yield one("empty object", wrap(b"{}"), "tensor wte.weight is missing")
    yield one("empty object and data", wrap(b"{}", DATA), "bytes of data, but the tensors end at 0")


def json_in_header():
    yield one("two entries of one name", wrap(dumps(HEAD)[:-1] + b',"wte.weight":{}}', DATA), "header: line 1", "duplicate")
    yield one("two entries of one name, one escaped",
              wrap(dumps(HEAD)[:-1] + b',"\\u0077te.weight":{}}', DATA), "duplicate")
    yield one("invalid UTF-8 in a name", wrap(b'{"\xff\xfe":{}}'), "header: line 1")
    yield one("surrogate half in a name", wrap(b'{"\\ud800":{}}'), "header: line 1")
    yield one("overlong UTF-8 in a name", wrap(b'{"\xc0\xaf":{}}'), "header: line 1")
    yield one("NUL byte in the text", wrap(b'{"a":\0{}}'), "a NUL byte")
    yield one("escape sequences in a name", wrap(dumps({"\x1b[2J\x1b]0;x\x07\n\r%s%n": {}})), "\\x1b[2J", "%s%n: dtype is missing")
    yield one("C1 control characters in a name", wrap(dumps({"\x9b2J": {}})), "\\xc2\\x9b2J: dtype is missing")
    yield one("a name of 1 MB", wrap(dumps({"x" * 1000000: {}})), "xxx...xxx", "dtype is missing")
    yield one("nested 33 deep", wrap(b'{"a":' + b"[" * 32 + b"]" * 32 + b"}"), "nested deeper than 32")
    yield one("nested a million deep", wrap_long(b'{"a":', (b"[", 1000000), b"}"), "nested deeper than 32")
    yield one("a million objects", wrap_long(b'{"a":[', (b"{},", 999999), b"{}]}"), "more than 500000 values")
    yield one("header of 30 MB of brackets", wrap_long(b'{"a":[', (b"[],", 9999999), b"[]]}"), "more than 500000 values")
    yield one("comment", wrap(b"{/**/}"), "header: line 1")
    yield one("trailing comma", wrap(dumps(HEAD)[:-1] + b",}", DATA), "header: line 1")
    yield one("metadata is a list", wrap({"__metadata__": []}), "__metadata__ is a list, expected an object")
    yield one("metadata is null", wrap({"__metadata__": None}), "__metadata__ is null, expected an object")
    yield one("metadata with a number", wrap({"__metadata__": {"a": 1}}), "__metadata__: a is an integer, expected a string")
    yield one("metadata with an object", wrap({"__metadata__": {"a": {}}}), "__metadata__: a is an object, expected a string")


def entries():
    yield raw_entry("entry is null", "null", "the entry is null, expected an object")
    yield raw_entry("entry is a number", "1", "the entry is an integer")
    yield raw_entry("entry is a text", '"F32"', "the entry is a string")
    yield entry("no dtype", "dtype is missing", dtype=...)
    yield entry("dtype is a number", "dtype is an integer, expected a string", dtype=32)
    yield entry("dtype is null", "dtype is null", dtype=None)
    yield entry("unknown dtype", 'unknown dtype "F128"', dtype="F128")
    yield entry("dtype in small letters", 'unknown dtype "f32"', dtype="f32")
    yield entry("empty dtype", 'unknown dtype ""', dtype="")
    yield entry("dtype with a NUL behind it", "unknown dtype", dtype="F32\0")
    yield entry("dtype of a megabyte", "unknown dtype", dtype="F" * 1000000)
    yield entry("dtype with escape sequences", 'unknown dtype "\\x1b[31m"', dtype="\x1b[31m")
    yield entry("no shape", "shape is missing, expected a list", shape=...)
    yield entry("shape is a number", "shape is an integer", shape=8)
    yield entry("9 dimensions", "9 dimensions, expected at most 8", shape=[1] * 9)
    yield entry("10,000 dimensions", "10000 dimensions, expected at most 8", shape=[1] * 10000)
    yield entry("negative dimension", "dimension 1 is negative", shape=[VOCAB, -8])
    yield entry("two negative dimensions", "dimension 0 is negative", shape=[-VOCAB, -8])
    yield entry("dimension as a fraction", "dimension 0 is a fraction", shape=[261.0, 8])
    yield entry("dimension as a text", "dimension 0 is a string", shape=["261", 8])
    yield entry("dimension true", "dimension 0 is a boolean", shape=[True, 8])
    yield entry("shape whose product overflows", "the product of the shape overflows", shape=[2 ** 62, 4, 261])
    yield entry("shape whose product wraps to the right size", "the product of the shape overflows",
                shape=[2 ** 32 + 1, 2 ** 32 + 1, VOCAB * DIM])
    yield entry("shape whose bytes overflow", "the size overflows", shape=[2 ** 60])
    yield one("dimension above 2^63", safetensors(shape=[2 ** 63]), "header: line 1")
    yield entry("a zero among large dimensions", "bytes, expected 0 for 0 elements", shape=[0, 2 ** 62])
    yield entry("no data_offsets", "data_offsets is missing", data_offsets=...)
    yield entry("data_offsets is an object", "data_offsets is an object", data_offsets={})
    yield entry("one offset", "data_offsets is another list", data_offsets=[0])
    yield entry("three offsets", "data_offsets is another list", data_offsets=[0, 1, 2])
    yield entry("negative offset", "expected two non-negative integers", data_offsets=[-1, WTE])
    yield entry("offset as a fraction", "expected two non-negative integers", data_offsets=[0.0, WTE])
    yield entry("offsets run backwards", "run backwards", data_offsets=[WTE, 0])
    yield entry("offsets that wrap", "but the file has", data_offsets=[2 ** 63 - 8, 2 ** 63 - 1])
    yield entry("end beyond the file", "but the file has", data_offsets=[0, 2 ** 40])
    yield entry("one byte too few", "bytes, expected %d" % WTE, data_offsets=[0, WTE - 1])
    yield entry("moved by one byte", "starts at byte 1 of the data, expected 0 (hole)",
                data_offsets=[1, WTE + 1])
    yield entry("dtype half as wide", "bytes, expected %d" % (WTE // 2), dtype="F16")
    yield entry("4-bit elements that fill no byte", "bytes, expected", dtype="F4", shape=[3])
    yield entry("transposed", "shape [8, %d], expected [%d, 8]" % (VOCAB, VOCAB), shape=[DIM, VOCAB])
    yield entry("flat", "shape [%d], expected [%d, 8]" % (VOCAB * DIM, VOCAB), shape=[VOCAB * DIM])
    yield entry("with a dimension of 1 more", "shape [1, %d, 8]" % VOCAB, shape=[1, VOCAB, DIM])


def places():
    head = header(weights())
    head["h.0.ln_1.bias"]["data_offsets"] = head["h.0.ln_1.weight"]["data_offsets"]
    yield one("two tensors share their bytes", wrap(head, DATA), "(overlap)")
    head = header(weights())
    head["extra"] = {"dtype": "U8", "shape": [WTE], "data_offsets": [0, WTE]}
    yield one("an extra tensor over a used one", wrap(head, DATA), "(overlap)")
    head = header(weights())
    del head["h.0.ln_1.bias"]
    yield one("a hole in the middle", wrap(head, DATA), "(hole)")
    yield one("a hole at the start", wrap({"a": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}}, b"x" * 8), "(hole)")
    many = b",".join(b'"t%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(40000))
    yield one("40,000 empty tensors", wrap(b"{%s}" % many), "tensor wte.weight is missing")
    same = b",".join(b'"k%d":"v"' % i for i in range(100000))
    yield one("100,000 metadata texts", wrap(b'{"__metadata__":{%s}}' % same), "tensor wte.weight is missing")


def contents():
    yield one("a bias missing", safetensors([t for t in weights() if t[0] != "h.0.attn.c_attn.bias"]),
              "tensor h.0.attn.c_attn.bias is missing")
    yield Case("safetensors: a layer missing", configured(n_layer=2), "tensor h.1.ln_1.weight is missing")
    yield one("a layer too many", safetensors(weights(layers=2)), "tensor h.1.ln_1.weight exists, but the model has 1 layers")
    yield one("weights in F64", safetensors(tensors_with(wte_weight=("F64", (VOCAB, DIM), bytes(2 * WTE)))),
              "type F64, expected F32, F16 or BF16")
    yield one("weights as booleans", safetensors(tensors_with(ln_f_bias=("BOOL", (DIM,), bytes(DIM)))), "type BOOL")
    yield one("weights in 6 bits", safetensors(tensors_with(ln_f_bias=("F6_E2M3", (DIM,), bytes(6)))), "type F6_E2M3")
    yield one("names with the prefix for half of them",
              safetensors([("transformer." + t[0] if t[0].startswith("w") else t[0], *t[1:]) for t in weights()]),
              "tensor transformer.h.0.ln_1.weight is missing")
    yield one("a bias of the wrong length", safetensors(tensors_with(ln_f_bias=("F32", (DIM - 1,), floats(DIM - 1)))),
              "tensor ln_f.bias: shape [7], expected [8]")
    yield one("a bias without dimensions", safetensors(tensors_with(ln_f_bias=("F32", (), floats(1)))), "shape [], expected [8]")
    yield one("attention of another layout",
              safetensors([(n, d, s[::-1] if n.endswith("c_attn.weight") else s, b) for n, d, s, b in weights()]),
              "shape [24, 8], expected [8, 24]")
    for what, bits, dtype, width in (("NaN", b"\0\0\xc0\x7f", "F32", 4), ("signalling NaN", b"\1\0\x80\x7f", "F32", 4),
                                     ("-inf", b"\0\0\x80\xff", "F32", 4), ("f16 inf", b"\0\x7c", "F16", 2),
                                     ("bf16 NaN", b"\xff\x7f", "BF16", 2)):
        last = bytes(width * (DIM - 1)) + bits
        yield one("%s in a vector" % what, safetensors(tensors_with(ln_f_weight=(dtype, (DIM,), last))),
                  "tensor ln_f.weight: element 7 is not finite")
        table = bytes(width * (VOCAB * DIM - 1)) + bits
        yield one("%s in the last row of a matrix" % what, safetensors(tensors_with(wte_weight=(dtype, (VOCAB, DIM), table))),
                  "tensor wte.weight: element %d is not finite" % (VOCAB * DIM - 1))


def heads():
    yield Case("safetensors: an own head that is missing", configured(tie_word_embeddings=False), "lm_head.weight is missing, but tie_word_embeddings is false")
    tensors = weights() + [("lm_head.weight", "F32", (VOCAB, DIM - 1), floats(VOCAB * (DIM - 1)))]
    yield Case("safetensors: an own head of the wrong width", configured(safetensors(tensors), tie_word_embeddings=False),
               "tensor lm_head.weight: shape [%d, 7], expected [%d, 8]" % (VOCAB, VOCAB))


def sized(needs, runs="model", **sizes):
    """Sizes that agree with each other and with the file, which has no blocks on the disk."""
    dims = dict(dict(dim=DIM, ctx=CTX, ffn=FFN, rows=VOCAB, layers=1), **sizes)
    heads_ = dims.pop("heads", 2)
    head, at = {}, 0
    for tensor, shape in shapes(**dims):
        head[tensor] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + 4 * count(shape)]}
        at += 4 * count(shape)
    start = wrap(head)
    files = configured(Sparse(start, len(start) + at), n_embd=dims["dim"], n_positions=dims["ctx"], n_head=heads_, n_inner=dims["ffn"],
                       vocab_size=dims["rows"], n_layer=dims["layers"])
    name = ", ".join("%s %d" % item for item in sizes.items())
    return Case("safetensors: more than there is memory: " + name, files, needs, runs=runs)


def bombs():
    for runs in (["info", "--model", "{}"], ["serve", "--port", "0", "--model", "{}"], ["bench", "--rounds", "1", "--model", "{}"]):
        yield sized("KV cache and activations: needs ", runs, layers=1024, heads=8, ctx=1 << 20)
    yield sized("model weights: needs ", rows=1000000, dim=65536)
    yield sized("model weights: needs ", dim=65536, ffn=262144, layers=64)
    yield one("1 TB of nothing", Sparse(GOOD, 1 << 40), "bytes of data, but the tensors end at")
    yield one("1 TB of nothing from its first byte", Sparse(b"", 1 << 40), "does not start with '{'")


# --- shards ---

HALF = 2  # tensors in the first one


def sharded(index, **files):
    given = model(model_safetensors=None)
    given["model.safetensors.index.json"] = index if isinstance(index, bytes) else dumps(index)
    given.update({"a.safetensors": safetensors(weights()[:HALF]), "b.safetensors": safetensors(weights()[HALF:])})
    given.update({name.replace("_", "."): content for name, content in files.items()})
    return {name: content for name, content in given.items() if content is not None}


def weight_map(**changes):
    table = {t[0]: "a.safetensors" if i < HALF else "b.safetensors" for i, t in enumerate(weights())}
    table.update({name.replace("_", ".", 1): file for name, file in changes.items()})
    return {"metadata": {"total_size": len(DATA)}, "weight_map": {k: v for k, v in table.items() if v is not ...}}


def index(name, content, *says, **files):
    return Case("shards: " + name, sharded(content, **files), "model.safetensors.index.json: ", *says)


def shards():
    yield index("no weight_map", {"metadata": {}}, "weight_map is missing, expected an object")
    yield index("weight_map is a list", {"weight_map": []}, "weight_map is a list")
    yield index("weight_map is empty", {"weight_map": {}}, "weight_map is empty")
    yield index("the index is a list", [], "weight_map is missing")
    yield index("the index is no JSON", b"weight_map", "line 1")
    yield index("the index is empty", b"", "the file is empty")
    yield index("the index is a safetensors file", GOOD, "this is a safetensors model, expected JSON")
    yield index("a number for a file", weight_map(wte_weight=1), "weight_map: wte.weight is an integer, expected a file name")
    for what, path in (("leads upwards", "../a.safetensors"), ("is absolute", "/etc/passwd"), ("is in a folder", "sub/a.safetensors"),
                       ("is the folder", "."), ("is the folder above", ".."), ("is empty", ""), ("has a slash behind", "a.safetensors/"),
                       ("has a NUL", "a.safetensors\0.txt"), ("leads upwards twice", "..//..//etc/passwd")):
        yield index("a name that " + what, weight_map(wte_weight=path), "wte.weight", "is not a plain file name")
    yield Case("shards: a name that is absent", sharded(weight_map(wte_weight="c.safetensors")), "c.safetensors: No such file")
    yield Case("shards: a name too long", sharded(weight_map(wte_weight="c" * 300)), "File name too long")
    yield Case("shards: a name of a megabyte", sharded(weight_map(wte_weight="c" * 1000000)), "File name too long")
    yield Case("shards: a name with escape sequences", sharded(weight_map(wte_weight="\x1b[2J\n")), "\\x1b[2J\\n: No such file")
    yield Case("shards: the index as its own shard", sharded(weight_map(wte_weight="model.safetensors.index.json")),
               "model.safetensors.index.json: this is a JSON file, expected a safetensors model")
    yield Case("shards: an index of an index", sharded(weight_map(wte_weight="c.index.json"), **{"c.index.json": dumps(weight_map())}),
               "c.index.json: this is a JSON file")
    yield Case("shards: config.json as a shard", sharded(weight_map(wte_weight="config.json")), "config.json: this is a JSON file")
    yield Case("shards: a shard is a link to nothing", sharded(weight_map(), a_safetensors=Link("nowhere")), "a.safetensors: No such file")
    yield Case("shards: a shard is a link to itself", sharded(weight_map(), a_safetensors=Link("a.safetensors")),
               "a.safetensors: Too many levels of symbolic links")
    yield Case("shards: a shard is a link to a folder", sharded(weight_map(), a_safetensors=Link("/")), "is a directory")
    yield Case("shards: a shard is /dev/zero", sharded(weight_map(), a_safetensors=Link("/dev/zero")), "not a regular file")
    yield Case("shards: a shard is damaged", sharded(weight_map(), b_safetensors=safetensors(weights()[HALF:])[:-1]), "b.safetensors: ",
               "data_offsets end at")
    yield index("a tensor in the other shard", weight_map(wte_weight="b.safetensors"),
                "tensor wte.weight is not in b.safetensors, where the index says it is")
    yield index("a tensor in none", weight_map(nowhere_weight="a.safetensors"), "tensor nowhere.weight is not in a.safetensors")
    yield Case("shards: a tensor left out of the index", sharded(weight_map(wpe_weight=...)), "tensor wpe.weight is missing")
    other = [("wte.weight", "F32", (VOCAB, 4), floats(VOCAB * 4))]
    yield Case("shards: the same tensor in two, the wrong one named",
               sharded(weight_map(wte_weight="c.safetensors"), c_safetensors=safetensors(other)),
               "c.safetensors: tensor wte.weight: shape [%d, 4], expected" % VOCAB)
    yield index("10,000 shards", {"weight_map": {"t%d" % i: "s%d.safetensors" % i for i in range(10000)}},
                "10000 shards, expected at most 1000")
    yield Case("shards: a thousand times the same file", sharded(
        {"weight_map": {"t%d" % i: "s%d" % i for i in range(1000)}}, **{"s%d" % i: Link("a.safetensors") for i in range(1000)}),
        "tensor t0 is not in s0, where the index says it is")


def cases():
    for group in (frame, json_in_header, entries, places, contents, heads, bombs, shards):
        yield from group()
