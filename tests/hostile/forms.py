"""What the hostile files are made of: a small valid model in every form, and the pieces to build wrong ones from.

Nothing here uses the program under test, but for packed(), whose layout is the program's own.
"""
import json
import os
import socket
import struct
import subprocess
import tempfile
from functools import lru_cache

DIM, HEADS, CTX, FFN = 8, 2, 16, 32


# --- what can lie in a folder beside plain bytes ---

class Link:
    def __init__(self, target):
        self.target = target

    def make(self, path):
        os.symlink(self.target, path)


class Fifo:
    def make(self, path):
        os.mkfifo(path)


class Socket:
    def make(self, path):
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)


class Folder:
    def make(self, path):
        os.mkdir(path)


class Sparse:
    """A file that claims a size it has no blocks for."""

    def __init__(self, head, size):
        self.head, self.size = head, size

    def make(self, path):
        with open(path, "wb") as file:
            file.write(self.head)
            file.truncate(self.size)


class Long:
    """A large file, written piece by piece: each is bytes, (bytes, how often) or something that yields bytes."""

    def __init__(self, *pieces):
        self.pieces = pieces

    def make(self, path):
        with open(path, "wb") as file:
            for piece in self.pieces:
                if isinstance(piece, bytes):
                    file.write(piece)
                elif isinstance(piece, tuple):
                    block = max(1, 65536 // len(piece[0]))
                    for left in range(piece[1], 0, -block):
                        file.write(piece[0] * min(block, left))
                else:
                    file.writelines(piece)


class Unreadable:
    def make(self, path):
        with open(path, "wb") as file:
            file.write(b"{}")
        os.chmod(path, 0)


def lay_out(folder, files):
    """Writes {name: bytes or one of the above} below folder."""
    os.makedirs(folder, exist_ok=True)
    for name, content in files.items():
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if isinstance(content, bytes):
            with open(path, "wb") as file:
                file.write(content)
        else:
            content.make(os.fsdecode(path))


class Case:
    """One row: files is laid out in a folder of its own; says are parts of the one line that has to come.

    target  what --model names, below the folder
    runs    which commands read it: "model" or "tokenizer" (see test_hostile_files.py), or one command, {} for the folder
    status  of the exit: 2 where the command line is at fault
    heavy   takes a second or more, or hundreds of megabytes: only with LLORCH_TEST_HEAVY
    """

    def __init__(self, name, files, *says, target="", runs="model", heavy=False, status=1):
        self.name, self.files, self.says = name, files, says
        self.target, self.runs, self.heavy, self.status = target, runs, heavy, status


# --- tokenizer ---

def alphabet():
    """GPT-2's character for every byte."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table = {b: chr(b) for b in plain}
    for n, b in enumerate(b for b in range(256) if b not in plain):
        table[b] = chr(256 + n)
    return [table[b] for b in range(256)]


BYTES = alphabet()
MERGES = [("a", "b"), ("ab", "c"), ("t", "h"), ("th", "e")]
TOKENS = BYTES + [a + b for a, b in MERGES] + ["<|endoftext|>"]
EOT = len(TOKENS) - 1
VOCAB = len(TOKENS)


def dumps(value):
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def vocab(changes=(), tokens=TOKENS):
    """vocab.json, some entries set to another id or, with None, left out."""
    table = {token: i for i, token in enumerate(tokens)}
    table.update(dict(changes))
    return dumps({token: i for token, i in table.items() if i is not None})


def merges(pairs=MERGES):
    return ("#version: 0.2\n" + "".join("%s %s\n" % pair for pair in pairs)).encode()


def tokenizer_json(in_model=(), **changes):
    inner = {"type": "BPE", "vocab": {t: i for i, t in enumerate(TOKENS[:-1])}, "merges": ["%s %s" % p for p in MERGES]}
    inner.update(dict(in_model))
    whole = {"version": "1.0", "normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
             "added_tokens": [{"id": EOT, "content": "<|endoftext|>", "special": True}], "model": inner}
    whole.update(changes)
    return dumps({k: v for k, v in whole.items() if v is not ...})


# --- configuration ---

def config(**changes):
    fields = {"model_type": "gpt2", "n_layer": 1, "n_head": HEADS, "n_embd": DIM, "n_positions": CTX,
              "vocab_size": VOCAB, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "eos_token_id": EOT}
    fields.update(changes)
    return dumps({k: v for k, v in fields.items() if v is not ...})


def config_text(key, text):
    """config.json with the value of key as it is: numbers that Python would not write."""
    return config(**{key: "@"}).replace(b'"@"', text.encode())


# --- weights ---

@lru_cache(maxsize=None)
def floats(n, value=None, seed=1):
    """n float32: value, or small numbers that differ."""
    if value is not None:
        return struct.pack("<f", value) * n
    return struct.pack("<%df" % n, *(((i * 7919 + seed * 104729) % 2003 / 1001.5 - 1) / 8 for i in range(n)))


def shapes(dim=DIM, ctx=CTX, ffn=FFN, rows=VOCAB, layers=1):
    yield "wte.weight", (rows, dim)
    yield "wpe.weight", (ctx, dim)
    for i in range(layers):
        for name, shape in (("ln_1.weight", (dim,)), ("ln_1.bias", (dim,)), ("attn.c_attn.weight", (dim, 3 * dim)),
                            ("attn.c_attn.bias", (3 * dim,)), ("attn.c_proj.weight", (dim, dim)), ("attn.c_proj.bias", (dim,)),
                            ("ln_2.weight", (dim,)), ("ln_2.bias", (dim,)), ("mlp.c_fc.weight", (dim, ffn)),
                            ("mlp.c_fc.bias", (ffn,)), ("mlp.c_proj.weight", (ffn, dim)), ("mlp.c_proj.bias", (dim,))):
            yield "h.%d.%s" % (i, name), shape
    yield "ln_f.weight", (dim,)
    yield "ln_f.bias", (dim,)


def count(shape):
    n = 1
    for dim in shape:
        n *= dim
    return n


def weights(values=(), **sizes):
    """[(name, dtype, shape, bytes)]; values: name to the one number of all its elements."""
    fixed = dict(values)
    return [(name, "F32", shape, floats(count(shape), fixed.get(name, 1.0 if "ln_" in name and "weight" in name else None), i))
            for i, (name, shape) in enumerate(shapes(**sizes))]


def header(tensors):
    entries, at = {}, 0
    for name, dtype, shape, data in tensors:
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    return entries


def wrap_long(*pieces):
    """The same with a large header of pieces as Long takes them, and no data."""
    n = sum(len(p) if isinstance(p, bytes) else len(p[0]) * p[1] for p in pieces)
    return Long(struct.pack("<Q", n), *pieces)


def wrap(head, data=b""):
    """A safetensors file from its header, bytes or an object, and its data."""
    head = head if isinstance(head, bytes) else dumps(head)
    return struct.pack("<Q", len(head)) + head + data


def data_of(tensors):
    return b"".join(data for _, _, _, data in tensors)


def safetensors(tensors=None, **entry_changes):
    """The valid file, or one whose header says something else about wte.weight."""
    tensors = weights() if tensors is None else tensors
    head = header(tensors)
    if entry_changes:
        entry = head["wte.weight"]
        entry.update(entry_changes)
        head["wte.weight"] = {k: v for k, v in entry.items() if v is not ...}
    return wrap(head, data_of(tensors))


def model(**changes):
    """The files of a model folder; names have _ for the dot, None leaves one out."""
    files = {"config_json": config, "model_safetensors": safetensors, "vocab_json": vocab, "merges_txt": merges}
    files = {name: changes[name] if name in changes else make() for name, make in files.items()}
    files.update((name, content) for name, content in changes.items() if name not in files)
    return {name.replace("_json", ".json").replace("_safetensors", ".safetensors").replace("_txt", ".txt"): content
            for name, content in files.items() if content is not None}


# --- GGUF ---

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_SCALARS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
GGUF_NAMES = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm",
              "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up",
              "mlp.c_proj": "ffn_down"}


def text(s):
    data = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, v):
    """The bytes of a value behind its type; an array is (element type, list), raw bytes stay."""
    if isinstance(v, bytes) and kind != STRING:
        return v
    if kind == STRING:
        return text(v)
    if kind == ARRAY:
        element, items = v
        return struct.pack("<IQ", element, len(items)) + b"".join(value(element, i) for i in items)
    return struct.pack("<" + _SCALARS[kind], v)


def encoded(kind, v):
    """The same, made once for the long lists that every file has."""
    if kind == ARRAY and isinstance(v, tuple) and v[1] and (v[1] is TOKENS or v[1] == _TYPES):
        if v[0] not in _KNOWN:
            _KNOWN[v[0]] = value(kind, v)
        return _KNOWN[v[0]]
    return value(kind, v)


_TYPES = [3 if t == "<|endoftext|>" else 1 for t in TOKENS]
_KNOWN = {}


def gguf_keys(tokens=TOKENS, types=None, pairs=MERGES):
    types = [3 if t == "<|endoftext|>" else 1 for t in tokens] if types is None else types
    return {"general.architecture": (STRING, "gpt2"), "gpt2.block_count": (U32, 1), "gpt2.attention.head_count": (U32, HEADS),
            "gpt2.embedding_length": (U32, DIM), "gpt2.feed_forward_length": (U32, FFN), "gpt2.context_length": (U32, CTX),
            "gpt2.attention.layer_norm_epsilon": (F32, 1e-5), "tokenizer.ggml.model": (STRING, "gpt2"),
            "tokenizer.ggml.pre": (STRING, "gpt-2"), "tokenizer.ggml.tokens": (ARRAY, (STRING, tokens)),
            "tokenizer.ggml.token_type": (ARRAY, (I32, types)),
            "tokenizer.ggml.merges": (ARRAY, (STRING, ["%s %s" % p for p in pairs])),
            "tokenizer.ggml.eos_token_id": (U32, EOT), "tokenizer.ggml.bos_token_id": (U32, EOT)}


def gguf_name(name):
    part, kind = name.rsplit(".", 1)
    if part.startswith("h."):
        _, layer, part = part.split(".", 2)
        return "blk.%s.%s.%s" % (layer, GGUF_NAMES[part], kind)
    return "%s.%s" % (GGUF_NAMES[part], kind)


def gguf_tensors(**sizes):
    """[[name, dims, type, offset, bytes]]"""
    rows, at = [], 0
    for name, shape in shapes(**sizes):
        data = floats(count(shape), 1.0 if "ln_" in name and "weight" in name else None, at)
        swapped = "wte" not in name and "wpe" not in name and len(shape) == 2
        dims = shape if swapped else shape[::-1]  # rows are outputs, and the length of a row comes first
        rows.append([gguf_name(name), list(dims), 0, at, data])
        at += (len(data) + 31) // 32 * 32
    return rows


def gguf(keys=(), tensors=None, version=3, n_tensors=None, n_keys=None, extra=b"", alignment=32, magic=b"GGUF", tail=b""):
    """A file with some keys changed (None: left out); extra: raw bytes behind the keys, counted by n_keys."""
    table = gguf_keys()
    table.update(dict(keys))
    table = {k: v for k, v in table.items() if v is not None}
    tensors = gguf_tensors() if tensors is None else tensors
    head = [magic, struct.pack("<IQQ", version, len(tensors) if n_tensors is None else n_tensors, len(table) if n_keys is None else n_keys)]
    for key, (kind, v) in table.items():
        head += text(key), struct.pack("<I", kind), encoded(kind, v)
    head.append(extra)
    for name, dims, kind, offset, _ in tensors:
        head += text(name), struct.pack("<I%dQIQ" % len(dims), len(dims), *dims, kind, offset)
    out = b"".join(head)
    out += b"\0" * (-len(out) % alignment)
    start = len(out)
    for _, _, _, offset, data in tensors:
        if data:
            out += b"\0" * (start + offset - len(out)) + data
    return out + tail


# --- NPY ---

def npy(head="{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", data=floats(6), version=(1, 0), length=None):
    head = head if isinstance(head, bytes) else head.encode("latin-1")
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    n = len(head) if length is None else length
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version[0] == 1 else "<I", n) + head + data


# --- packed files ---

@lru_cache(maxsize=None)
def packed(program):
    """A valid packed file, as the program writes it."""
    with tempfile.TemporaryDirectory(prefix="llorch-hostile-") as folder:
        lay_out(folder, model())
        out = os.path.join(folder, "out.packed")
        subprocess.run([program, "pack", "--model", folder, "--type", "f32", "--out", out], check=True, stdout=subprocess.DEVNULL)
        with open(out, "rb") as file:
            return file.read()


def unwrap(file):
    """(header object, data) of a safetensors file."""
    n = struct.unpack("<Q", file[:8])[0]
    return json.loads(file[8:8 + n]), bytearray(file[8 + n:])


def _fnv(line):
    h = 14695981039346656037
    for byte in line:
        h = (h ^ byte) * 1099511628211 % 2 ** 64
    return h


def seal(head, data):
    """The file with the checksum of its structure made right again, so that the checks behind it are reached."""
    total = 0
    for name, entry in head.items():
        if name != "__metadata__":
            line = "%s %s %d" % (name, entry["dtype"], entry["data_offsets"][0])
            total += _fnv((line + "".join(" %d" % d for d in entry["shape"])).encode())
    texts = head["__metadata__"]
    total += sum(_fnv(texts[key].encode()) for key in ("config", "tokenizer") if key in texts)
    texts["structure"] = "%016x" % (total % 2 ** 64)
    return wrap_padded(head, bytes(data))


def wrap_padded(head, data):
    """As wrap, with the data at a multiple of 64."""
    head = dumps(head)
    return wrap(head + b" " * (-(len(head) + 8) % 64), data)
