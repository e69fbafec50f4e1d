"""Hostile packed files: damaged copies of a good one, with the checksum of the structure made right again where the check
behind it is meant."""
import json
import struct

from forms import EOT, TOKENS, VOCAB, Case, packed, seal, unwrap, wrap_padded

DAMAGED = "packed file is damaged: "
TOKENIZER = "packed tokenizer: "


def one(name, content, *says):
    return Case("packed: " + name, {"m.packed": content}, "m.packed: ", *says, target="m.packed")


def structure(good):
    """The header, sealed and not."""
    def metadata(name, key, value, *says, sealed=True):
        head, data = unwrap(good)
        if value is None:
            del head["__metadata__"][key]
        else:
            head["__metadata__"][key] = value
        return one(name, seal(head, data) if sealed else wrap_padded(head, bytes(data)), *says)

    again = "write it again with llorch-cpud pack"
    for version in ("0", "2", "", "1 ", "1\0", "99999999999999999999"):
        yield metadata("version %r" % version, "version", version, "packed by another version of this program", again)
    yield metadata("no version", "version", None, "packed by another version")
    for key in ("config", "tokenizer"):
        yield metadata("another %s behind the checksum" % key, key, "{}", DAMAGED + "its structure has another checksum", sealed=False)
    for value in ("", "0", "0" * 16, "g" * 16, "0" * 1000000):
        yield metadata("checksum %s" % value[:17], "structure", value, DAMAGED + "its structure has another checksum", sealed=False)
    yield metadata("no checksum", "structure", None, DAMAGED + "its structure", sealed=False)
    yield metadata("no configuration", "config", None, DAMAGED + "it has no configuration")
    yield metadata("no types", "file_types", None, DAMAGED + "it does not say which types")
    for value in ("F" * 10000, "f32", "F32\x1b[2J", "F32\0"):
        yield metadata("types %r" % value[:20], "file_types", value, DAMAGED + "it does not say which types")
    yield metadata("no tokenizer", "tokenizer", None, TOKENIZER + 'no "tokenizer" in the metadata')


def sizes(good):
    """The configuration against the tensors."""
    config = json.loads(unwrap(good)[0]["__metadata__"]["config"])

    def another(name, part, **changes):
        head, data = unwrap(good)
        head["__metadata__"]["config"] = json.dumps(dict(config, **changes))
        return one("configuration: " + name, seal(head, data), part)

    yield another("width", DAMAGED + "tensor wte.weight has another type, shape or alignment", n_embd=16)
    yield another("rows", DAMAGED + "tensor wte.weight has another", vocab_size=VOCAB + 8)
    yield another("context", DAMAGED + "tensor wpe.weight has another", n_positions=17)
    yield another("a million positions", DAMAGED + "tensor wpe.weight has another", n_positions=1 << 20)
    yield another("layers", DAMAGED + "tensor h.1.ln_1.weight is missing", n_layer=2)
    yield another("1024 layers", DAMAGED + "tensor h.1.ln_1.weight is missing", n_layer=1024)
    yield another("feed-forward", DAMAGED + "tensor h.0.mlp.c_fc.weight has another", n_inner=40)
    yield another("an own head", DAMAGED + "tensor lm_head.weight is missing", tie_word_embeddings=False)
    yield another("heads", "must be divisible", n_head=3)
    yield another("2^32 heads", "n_head is 4294967298", n_head=2 ** 32 + 2)
    yield another("end id", "eos_token_id has more than 16 ids", eos_token_id=[1] * 17)
    yield another("another kind of model", 'model_type is "llama"', model_type="llama")


def tensors(good):
    def entry(name, tensor, part, **changes):
        head, data = unwrap(good)
        for key, change in changes.items():
            head[tensor][key] = change(head[tensor][key])
        return one(name, seal(head, data), part)

    yield entry("a matrix in another type", "wte.weight", "bytes, expected", dtype=lambda _: "F16")
    yield entry("a matrix as bytes of the same number", "h.0.attn.c_attn.weight", DAMAGED + "tensor h.0.attn.c_attn.weight", dtype=lambda _: "I32")
    yield entry("panels turned", "wte.weight", DAMAGED + "tensor wte.weight has another", shape=lambda s: s[::-1])
    yield entry("panels flat", "wte.weight", DAMAGED + "tensor wte.weight has another", shape=lambda s: [s[0] * s[1] * s[2]])
    head, data = unwrap(good)
    for name, e in head.items():
        if name != "__metadata__":
            e["data_offsets"] = [n + 4 for n in e["data_offsets"]]
    head["first"] = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    yield one("all data moved by four bytes", seal(head, b"\0" * 4 + data), "alignment")
    head, data = unwrap(good)
    moved = seal(head, data)
    n = struct.unpack("<Q", moved[:8])[0]
    yield one("a header that ends off the grid", struct.pack("<Q", n + 1) + moved[8:8 + n] + b" " + moved[8 + n:], DAMAGED, "alignment")
    for name in ("wte.weight", "h.0.ln_1.weight", "ln_f.bias", "tokenizer.tokens", "tokenizer.bytes", "tokenizer.merge_buckets"):
        head, data = unwrap(good)
        head["other"] = head.pop(name)
        yield one("without " + name, seal(head, data), "tensor %s is missing" % name)
    for cut in (1, 64, 4096, len(good) // 2):
        yield one("%d bytes cut off" % cut, good[:-cut], "but the file has")


def tables(good):
    """The tokenizer's arrays, which no checksum covers: word `at` of a tensor becomes another."""
    def word(name, tensor, at, value, part):
        head, data = unwrap(good)
        begin, end = head[tensor]["data_offsets"]
        at = begin + 4 * at if at >= 0 else end + 4 * at
        data[at:at + 4] = struct.pack("<I", value % 2 ** 32)
        return one("%s: %s %d" % (tensor, name, value), seal(head, data), TOKENIZER, part)

    # A token is start, length, next of its bucket, type.
    for value in (2 ** 31, 2 ** 32 - 1, 1 << 20):
        yield word("start", "tokenizer.tokens", 4 * 256, value, "token 256: its text ends at byte")
        yield word("length", "tokenizer.tokens", 4 * 256 + 1, value, "token 256: ")
    for value in (256, VOCAB, -2, 2 ** 31 - 1, -2 ** 31):
        yield word("next", "tokenizer.tokens", 4 * 256 + 2, value, "token 256: followed by %d" % value)
        yield word("bucket", "tokenizer.token_buckets", 0, value, "bucket 0: token %d, expected" % value)
        yield word("bucket", "tokenizer.merge_buckets", 0, value, "bucket 0: merge %d, expected" % value)
    for value in (0, 2, 6, 255, -1):
        yield word("type", "tokenizer.tokens", 4 * 256 + 3, value, "token 256: type %d, expected" % (value % 2 ** 32))
    # A merge is left, right, result, next of its bucket.
    for value in (VOCAB, -2, 2 ** 31 - 1, -2 ** 31):
        for at in range(3):
            yield word("id", "tokenizer.merges", at, value, "merge 0: token %d, expected 0 to %d" % (value, EOT))
        yield word("next", "tokenizer.merges", 4 + 3, value, "merge 1: followed by %d, expected" % value)
    for at in range(3):
        yield word("another id", "tokenizer.merges", at, 65, "merge 0: token")
    yield word("special id", "tokenizer.merges", 0, EOT, "is not %d and" % EOT)
    yield word("bytes", "tokenizer.bytes", 16, 0, TOKENIZER)


def texts(good):
    said = json.loads(unwrap(good)[0]["__metadata__"]["tokenizer"])

    def another(name, part, **changes):
        head, data = unwrap(good)
        head["__metadata__"]["tokenizer"] = json.dumps({k: v for k, v in dict(said, **changes).items() if v is not ...})
        return one("tokenizer's text: " + name, seal(head, data), TOKENIZER, part)

    for key in said:
        yield another("no %s" % key, '"%s" is' % key, **{key: ...})
        yield another("%s a list" % key, '"%s" is' % key, **{key: []})
    for version in (0, 2, 2 ** 31, -1):
        yield another("version %d" % version, '"version" is %d, expected' % version, version=version)
    yield another("another Unicode", '"unicode" is "1.0.0", expected', unicode="1.0.0")
    yield another("a Unicode with a NUL behind it", '"unicode" is "", expected', unicode=said["unicode"] + "\0")
    yield another("a Unicode with escape sequences", '"unicode" is "\\x1b[2J", expected', unicode="\x1b[2J")
    for value in (-2, VOCAB, 2 ** 31, -2 ** 63):
        yield another("end of text %d" % value, '"end_of_text" is %d, expected -1 to %d' % (value, EOT), end_of_text=value)
    for key in ("token_seed", "merge_seed"):
        for value in (-1, 64, 2 ** 32):
            yield another("%s %d" % (key, value), '"%s" is %d, expected 0 to 63' % (key, value), **{key: value})
        yield another("another " + key, "", **{key: (said[key] + 1) % 64})
    head, data = unwrap(good)
    for name, text, part in (("no JSON", "{", "line 1"), ("a list", "[]", '"version" is not an integer'), ("empty", "", "line 1"),
                             ("a thousand values", "[" + "0," * 1000 + "0]", "more than 256 values")):
        head["__metadata__"]["tokenizer"] = text
        yield one("tokenizer's text: " + name, seal(head, data), TOKENIZER, part)


def cases(program):
    good = packed(program)
    assert len(TOKENS) == VOCAB
    for group in (structure, sizes, tensors, tables, texts):
        yield from group(good)
