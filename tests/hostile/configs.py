"""Hostile config.json and generation_config.json."""
from forms import CTX, EOT, VOCAB, Case, Link, Long, config, config_text, dumps, model

def one(name, content, *says, **files):
    return Case("config.json: " + name, model(config_json=content, **files), "config.json: ", *says)


def field(name, *says, **changes):
    return one(name, config(**changes), *says)


def number(name, key, text, *says):
    return one(name, config_text(key, text), *says)


def whole():
    yield one("empty", b"", "the file is empty")
    yield one("one bracket", b"{", "line 1")
    yield one("a list", b"[]", "not a JSON object")
    yield one("null", b"null", "not a JSON object")
    yield one("empty object", b"{}", "model_type is missing")
    yield one("NUL bytes only", bytes(4096), "a NUL byte")
    yield one("byte order mark", b"\xef\xbb\xbf" + config(), "byte order mark")
    yield one("UTF-16", config().decode().encode("utf-16"), "config.json: ")
    yield one("random bytes", bytes((i * 193 + 7) % 255 + 1 for i in range(3000)), "line 1")
    yield one("a field twice", config()[:-1] + b', "n_embd": 8}', "duplicate")
    yield one("a field twice, once escaped", config()[:-1] + b', "n\\u005fembd": 8}', "duplicate")
    yield one("text behind it", config() + b"x", "line 1")
    yield one("a second object behind it", config() + config(), "line 1")
    yield one("nested 33 deep", config_text("task_specific_params", "[" * 32 + "]" * 32), "nested deeper than 32 levels")
    yield one("nested a million deep", Long((b"[", 1000000)), "nested deeper than 32 levels")
    yield one("nested a million deep in objects", Long((b'{"a":', 1000000)), "nested deeper than 32 levels")
    yield one("a million empty objects", Long(config()[:-1] + b', "x": [', (b"{},", 1000000), b"{}]}"),
              "more than 100000 values")
    yield one("a text that never ends", Long(config()[:-1] + b', "x": "', (b"a", 1000000)), "line 1")
    yield one("comments", b"/* */" + config(), "line 1")
    yield one("single quotes", config().replace(b'"', b"'"), "line 1")
    yield one("NaN", config_text("x", "NaN"), "line 1")
    yield one("Infinity", config_text("x", "-Infinity"), "line 1")
    yield one("a leading zero", config_text("n_embd", "08"), "line 1")
    yield one("a plus sign", config_text("n_embd", "+8"), "line 1")
    yield one("hexadecimal", config_text("n_embd", "0x8"), "line 1")
    yield one("a control character in a text", config()[:-1] + b',"x":"\x01"}', "line 1")
    yield one("invalid UTF-8", config()[:-1] + b',"x":"\xff"}', "line 1")
    yield one("a surrogate half", config()[:-1] + b',"x":"\\ud800"}', "line 1")
    yield one("a link to itself", Link("config.json"), "Too many levels of symbolic links")
    yield one("a page of a web server", b"\n <!DOCTYPE html><html>Sign in", "this is an HTML or XML page")
    yield one("a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "this is a Git LFS pointer")


def sizes():
    for key, name in (("n_embd", "hidden_dim"), ("n_layer", "num_layers"), ("n_head", "num_heads"), ("n_positions", "max_seq_len"),
                      ("vocab_size", "vocab_size"), ("n_inner", "ffn_dim")):
        yield field(key + " 0", name + " must be > 0", **{key: 0})
        yield field(key + " -1", name + " must be > 0", **{key: -1})
        yield number(key + " -2^63", key, "-9223372036854775808", name + " must be > 0")
        yield number(key + " 2^31", key, "2147483648", key + " is 2147483648, expected a positive integer below 2^31")
        yield number(key + " 2^32 and a good size", key, str(2 ** 32 + 8), "expected a positive integer below 2^31")
        yield number(key + " 2^63", key, "9223372036854775808", "line 1")
        yield number(key + " of 400 digits", key, "1" + "0" * 400, "line 1")
        yield number(key + " 8.0", key, "8.0", key + " is a fraction (8), expected a positive integer")
        yield number(key + " 8e0", key, "8e0", key + " is a fraction (8)")
        yield number(key + " 1e400", key, "1e400", "line 1")
        yield number(key + " -0", key, "-0", "must be > 0")
        yield number(key + " text", key, '"8"', key + ' is "8", expected a positive integer')
        yield number(key + " true", key, "true", key + " is true")
        yield number(key + " a list", key, "[8]", key + " is a list")
        yield field(key + " 2^31 - 1", name + " must be at most", **{key: 2 ** 31 - 1})
        if key != "n_inner":
            yield field(key + " missing", key + " is missing", **{key: ...})
    yield field("heads that do not divide the width", "hidden_dim must be divisible by num_heads, found 8 and 3", n_head=3)
    yield field("more heads than dimensions", "must be divisible", n_head=16)
    yield field("everything at its maximum", "hidden_dim", n_embd=65537, n_positions=1 << 20, n_layer=1024, vocab_size=1000000)


def disagreements():
    """Sizes that are fine alone and not those of the weights."""
    for name, changes, part in (("width", dict(n_embd=16), "shape [%d, 8], expected [%d, 16]" % (VOCAB, VOCAB)),
                                ("width of its half", dict(n_embd=4), "expected [%d, 4]" % VOCAB),
                                ("one row less", dict(vocab_size=VOCAB - 1, eos_token_id=0), "shape [%d, 8], expected [%d, 8]"
                                 % (VOCAB, VOCAB - 1)),
                                ("one row more", dict(vocab_size=VOCAB + 1), "expected [%d, 8]" % (VOCAB + 1)),
                                ("a million rows", dict(vocab_size=1000000), "expected [1000000, 8]"),
                                ("context", dict(n_positions=CTX + 1), "tensor wpe.weight: shape [16, 8], expected [17, 8]"),
                                ("context of a million", dict(n_positions=1 << 20), "expected [1048576, 8]"),
                                ("feed-forward", dict(n_inner=33), "expected [8, 33]"),
                                ("1024 layers", dict(n_layer=1024), "tensor h.1.ln_1.weight is missing")):
        yield Case("config.json and weights: another " + name, model(config_json=config(**changes)), "model.safetensors: ", part)


def kinds():
    yield field("no model_type", "model_type is missing", model_type=...)
    yield field("another model_type", 'model_type is "llama", expected "gpt2"', model_type="llama")
    yield field("model_type a number", "model_type is 2", model_type=2)
    yield field("model_type with a NUL behind it", "model_type is \"gpt2\" with a NUL behind it, expected \"gpt2\"", model_type="gpt2\0x")
    yield field("model_type of a megabyte", "model_type is \"xxx", model_type="x" * 1000000)
    yield field("model_type with escape sequences", 'model_type is "\\x1b[2J"', model_type="\x1b[2J")
    yield field("model_type cut inside a character", "model_type is", model_type="x" + "\u00e9" * 200)
    yield field("code of its own", "auto_map is an object, expected none", auto_map={"AutoModel": "x.py"})
    yield field("architectures no list", "architectures is", architectures="GPT2LMHeadModel")
    yield field("architectures of numbers", "architectures is 1", architectures=[1])
    yield field("another architecture", 'architectures is "T5"', architectures=["GPT2LMHeadModel", "T5"])
    yield field("cross attention", "add_cross_attention is true", add_cross_attention=True)
    yield field("cross attention 1", "add_cross_attention is 1", add_cross_attention=1)
    yield field("quantized", "quantization_config is an object", quantization_config={})
    yield field("unknown activation", 'activation_function is "swiglu"', activation_function="swiglu")
    yield field("empty activation", 'activation_function is ""', activation_function="")
    yield field("activation with a NUL behind it", "activation_function is \"gelu_new\" with a NUL behind it", activation_function="gelu_new\0")
    yield field("architecture with a NUL behind it", "architectures is \"GPT2LMHeadModel\" with a NUL behind it", architectures=["GPT2LMHeadModel\0x"])
    yield field("activation a number", "activation_function is 1", activation_function=1)
    yield field("activation with a format", 'activation_function is "%n%s"', activation_function="%n%s")
    for name, text in (("0", "0"), ("negative", "-1e-5"), ("2", "2"), ("too small for a float", "1e-60"), ("1e300", "1e300"),
                       ("minus zero", "-0.0")):
        yield number("epsilon " + name, "layer_norm_epsilon", text, "layer_norm_epsilon is", "expected above 0 and at most 1")
    yield number("epsilon 1e400", "layer_norm_epsilon", "1e400", "line 1")
    yield number("epsilon a text", "layer_norm_epsilon", '"1e-5"', "layer_norm_epsilon is", "expected a number")
    yield field("scaling a number", "scale_attn_weights is 1, expected true or false", scale_attn_weights=1)
    yield field("tying a text", 'tie_word_embeddings is "no"', tie_word_embeddings="no")


def special_ids():
    yield field("end id a text", 'eos_token_id is "x"', eos_token_id="x")
    yield field("end id a fraction", "eos_token_id is a fraction", eos_token_id=1.5)
    yield field("end id true", "eos_token_id is true", eos_token_id=True)
    yield field("end id an object", "eos_token_id is an object", eos_token_id={})
    yield field("end ids of lists", "eos_token_id is a list", eos_token_id=[[1]])
    yield field("17 end ids", "more than 16 ids", eos_token_id=list(range(17)))
    yield field("1,000 end ids outside the vocabulary", "more than 16 ids", eos_token_id=[2 ** 31] * 1000)
    yield field("1,000 times the same end id", "more than 16 ids", eos_token_id=[EOT] * 1000)
    yield field("old name, 1,000 ids", "more than 16 ids", eos_token_id=..., eos_token_ids=[-1] * 1000)
    yield field("begin id a text", 'bos_token_id is "x"', bos_token_id="x")
    yield field("pad id a list", "pad_token_id is a list", pad_token_id=[])
    for name, content, part in (("a list", b"[]", "not a JSON object"), ("empty", b"", "the file is empty"),
                                ("no JSON", b"eos", "line 1"), ("a text for an id", dumps({"eos_token_id": "x"}), 'eos_token_id is "x"'),
                                ("1,000 ids", dumps({"eos_token_id": [-1] * 1000}), "more than 16 ids"),
                                ("a link to nothing", Link("nowhere"), "No such file")):
        yield Case("generation_config.json: " + name, model(generation_config_json=content), "generation_config.json: ", part)


def cases():
    for group in (whole, sizes, disagreements, kinds, special_ids):
        yield from group()
