"""Weights that are numbers, and still hostile: the files are fine, computing with them is not."""
import struct

from forms import CTX, DIM, VOCAB, Case, config, floats, model, safetensors, weights

HUGE = 3e38
# (name, what the weights are, changes of the configuration)
OVERFLOWS = (
    ("activations overflow in the feed-forward", {"h.0.mlp.c_fc.weight": HUGE, "h.0.mlp.c_proj.weight": HUGE}, {}),
    ("attention scores overflow", {"h.0.attn.c_attn.weight": HUGE, "h.0.attn.c_attn.bias": HUGE}, {}),
    ("the residual overflows", {"h.0.attn.c_proj.bias": HUGE, "h.0.mlp.c_proj.bias": HUGE}, {}),
    ("the variance overflows", {"wpe.weight": 1e38, "h.0.attn.c_proj.bias": -1e38, "h.0.mlp.c_proj.weight": 1e38}, {}),
    ("embeddings overflow", {"wte.weight": HUGE, "wpe.weight": HUGE}, {}),
    ("the last norm overflows", {"ln_f.weight": HUGE, "ln_f.bias": HUGE, "wte.weight": HUGE}, {}),
    ("relu of too much", {"h.0.mlp.c_fc.bias": HUGE, "h.0.mlp.c_proj.weight": HUGE}, {"activation_function": "relu"}),
    ("silu of too much", {"h.0.mlp.c_fc.bias": HUGE, "h.0.mlp.c_proj.weight": HUGE}, {"activation_function": "silu"}),
    ("gelu of too much", {"h.0.mlp.c_fc.bias": HUGE, "h.0.mlp.c_proj.weight": HUGE}, {"activation_function": "gelu"}),
)
# These compute, strangely.
FINITE = (
    ("all weights zero", dict.fromkeys([t[0] for t in weights()], 0.0), {}),
    ("all weights the smallest denormal", dict.fromkeys([t[0] for t in weights()], 1e-45), {}),
    ("all norms zero", {t[0]: 0.0 for t in weights() if "ln_" in t[0]}, {}),
    ("minus zero", dict.fromkeys([t[0] for t in weights()], -0.0), {}),
    ("the smallest epsilon and equal rows", {"wte.weight": 0.5, "wpe.weight": 0.0}, {"layer_norm_epsilon": 1e-45}),
    ("tanh of too much", {"h.0.mlp.c_fc.bias": HUGE}, {"activation_function": "tanh"}),
)


def files(fixed, changes):
    return model(model_safetensors=safetensors(weights(fixed)), config_json=config(**changes))


def last_row_overflows():
    """Only one token's row is too large: its logit is infinite wherever the others' are not."""
    tensors = [(n, d, s, floats((VOCAB - 1) * DIM) + struct.pack("<8f", *[HUGE] * DIM)) if n == "wte.weight" else (n, d, s, b)
               for n, d, s, b in weights({"ln_f.weight": 0.0, "ln_f.bias": HUGE})]
    return model(model_safetensors=safetensors(tensors))


def overflowing():
    """(name, files of a model whose job has to end with an error)"""
    for name, fixed, changes in OVERFLOWS:
        yield name, files(fixed, changes)
    yield "one logit is infinite", last_row_overflows()


def finite():
    for name, fixed, changes in FINITE:
        yield name, files(fixed, changes)


def cases():
    for name, content in overflowing():
        for command in (["generate", "--prompt", "abc", "--max-tokens", str(CTX - 3)], ["explain", "--prompt", "abc"],
                        ["eval", "--text", "{}/config.json", "--limit", "40"], ["generate", "--prompt", "abc", "--temperature", "0", "--max-tokens", "3"]):
            yield Case("%s: %s" % (command[0], name), content, "", runs=[*command, "--model", "{}"])
