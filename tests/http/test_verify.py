#!/usr/bin/env python3
"""`verify` and `capture` on the command line: rows, verdicts, exit statuses, files. No server is started."""
# Runs beside others: nothing here measures time.
import json
import math
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile

from harness import BIN, ROOT, SHAKESPEARE, SLOW, TINY, Skip, Suite, check, clean_environment, equal

suite = Suite()
PROMPT = "First Citizen:\nBefore we proceed any further, hear me speak."
LIMIT = 120 * SLOW


def program(*args, stdin=b"", env=None, stdout=subprocess.PIPE, cwd=ROOT):
    done = subprocess.run([BIN, *args], input=stdin, stdout=stdout, stderr=subprocess.PIPE, timeout=LIMIT, check=False,
                          env=clean_environment(env), cwd=cwd)
    return done.returncode, (done.stdout or b"").decode("utf-8"), done.stderr.decode("utf-8")


class Row:
    """One line of the table: columns begin where their headings do, numbers end there."""

    def __init__(self, line, verdict_at):
        self.line = line
        number, rest = line[:verdict_at].split(None, 1)
        self.checkpoint = int(number)
        self.name = re.split(r"\s{2,}", rest)[0]
        self.tolerance = re.split(r"\s{2,}", rest)[1]
        self.worst = re.split(r"\s{2,}", rest)[2]
        self.verdict, _, self.note = line[verdict_at:].partition(": ")


def verify(*args, want=None, **options):
    status, out, err = program("verify", *args, **options)
    if want is not None:
        check(status == want, "exit %d, expected %d\n%s%s" % (status, want, out, err))
    lines = out.splitlines()
    check(lines and "verdict" in lines[0], out + err)
    at = lines[0].index("verdict")
    return [Row(line, at) for line in lines[1:lines.index("")]], lines[-1]


def row(rows, name):
    found = [r for r in rows if r.name == name]
    check(len(found) == 1, "%d rows %s" % (len(found), name))
    return found[0]


def one_error_line(err, *parts):
    lines = err.splitlines()
    equal(len(lines), 1)
    check(lines[0].startswith("llorch-cpud: ") and len(lines[0]) <= 512, lines)
    for part in parts:
        check(part in lines[0], "%r is not in %r" % (part, lines[0]))


def read_npy(path):
    """(shape, values) of a float32 file, by the format's definition."""
    with open(path, "rb") as file:
        data = file.read()
    equal(data[:8], b"\x93NUMPY\x01\x00")
    length = struct.unpack("<H", data[8:10])[0]
    header = data[10:10 + length].decode("latin-1")
    check("'descr': '<f4'" in header and "'fortran_order': False" in header and (10 + length) % 64 == 0, header)
    shape = tuple(int(n) for n in re.search(r"\(([^)]*)\)", header).group(1).replace(" ", "").strip(",").split(","))
    equal(len(data) - 10 - length, 4 * math.prod(shape))
    return shape, struct.unpack("<%df" % math.prod(shape), data[10 + length:])


def change_npy(path, change):
    """Rewrites the values of a file in place: change gets the list of them."""
    with open(path, "rb") as file:
        data = file.read()
    start = 10 + struct.unpack("<H", data[8:10])[0]
    values = list(struct.unpack("<%df" % ((len(data) - start) // 4), data[start:]))
    change(values)
    with open(path, "wb") as file:
        file.write(data[:start] + struct.pack("<%df" % len(values), *values))


class Folder:
    """A copy of the tiny model's named references (or of another folder), gone at the end."""

    def __init__(self, source=TINY + "/reference/named"):
        self.source = source

    def __enter__(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.temporary.name, "reference")
        shutil.copytree(self.source, self.path)
        os.chmod(self.path, 0o755)
        return self

    def __exit__(self, *_):
        self.temporary.cleanup()

    def file(self, name):
        return os.path.join(self.path, name)


# ---- The two models of the repository ----

def check_model(model, has_10):
    rows, total = verify("--model", model, want=0)
    equal({r.checkpoint for r in rows}, set(range(1, 13)))
    equal([r.checkpoint for r in rows], sorted(r.checkpoint for r in rows))
    equal([r.line for r in rows if r.verdict != "pass"], [])
    equal(total, "%d passed, 0 failed, 0 not validated" % len(rows))
    with open(os.path.join(model, "config.json"), encoding="utf-8") as file:
        n_layers = json.load(file)["n_layer"]
    for layer in range(n_layers):
        equal(row(rows, "checkpoint_07_block_%02d" % layer).tolerance, "0.0001" if layer == 0 else "0.001")
    for name, tolerance in (("checkpoint_01_ln1_output", 1e-5), ("checkpoint_02_q", 1e-4), ("checkpoint_02_k", 1e-4),
                            ("checkpoint_02_v", 1e-4), ("checkpoint_04_scores", 1e-4), ("checkpoint_04_masked", 1e-4),
                            ("checkpoint_04_probs", 1e-4), ("checkpoint_05_output", 1e-4), ("checkpoint_06_ffn", 1e-4),
                            ("checkpoint_07_block_output", 1e-4), ("checkpoint_08_logits", 1e-3),
                            ("checkpoint_09_logits_last", 1e-3), ("checkpoint_11_probs", 1e-6)):
        found = row(rows, name)
        equal(float(found.tolerance), tolerance)
        check(float(found.worst) <= tolerance, found.line)
    check(any(r.name == "checkpoint_10.json: greedy ids" for r in rows) == has_10, "row of checkpoint_10.json")


suite.case("verify: every row of the tiny model passes, in order, at the contract's tolerances", TINY, True)(check_model)
suite.case("verify: every row of the shipped model passes as well", SHAKESPEARE, False)(check_model)


@suite.case("verify without --model takes the shipped model")
def shipped():
    # Next to the binary in build/, not in build/<variant>/.
    binary = os.path.join(ROOT, "build", "llorch-cpud")
    if not os.path.exists(binary):
        raise Skip("no build/llorch-cpud")
    done = subprocess.run([binary, "verify"], stdout=subprocess.PIPE, timeout=LIMIT, check=False, cwd="/")
    equal(done.returncode, 0)


@suite.case("verify: each instruction set gives the same table")
def instruction_sets():
    status, out, err = program("verify", "--model", TINY, "--isa", "scalar")
    equal(status, 0)
    equal(out, program("verify", "--model", TINY)[1])
    equal(err, "")


@suite.case("verify: a model file instead of a directory")
def model_file():
    verify("--model", TINY + "/model.safetensors", want=0)


# ---- References that are missing, renamed, damaged ----

@suite.case("verify: without any reference the double pass is taken, and that is said")
def no_reference():
    with tempfile.TemporaryDirectory() as folder:
        for name in ("config.json", "model.safetensors", "vocab.json", "merges.txt"):
            shutil.copy(os.path.join(TINY, name), folder)
        rows, total = verify("--model", folder, want=0)
        equal({r.checkpoint for r in rows}, set(range(1, 13)))
        equal(total, "%d passed, 0 failed, 0 not validated" % len(rows))
        equal(row(rows, "h.2 attention output").verdict, "pass")
        check("; there is no reference folder\n" in program("verify", "--model", folder)[1], "not said")
        os.remove(os.path.join(folder, "vocab.json"))
        os.remove(os.path.join(folder, "merges.txt"))
        status, _, err = program("verify", "--model", folder)
        equal(status, 0)
        one_error_line(err, "without a tokenizer")
        rows, _ = verify("--model", folder, "--reference", TINY + "/reference", want=0)
        equal(row(rows, "checkpoint_12.json: greedy ids").verdict, "pass")
        equal(row(rows, "checkpoint_12.json: text").verdict, "not validated")


@suite.case("verify: an empty reference folder validates nothing, exit 3")
def empty_reference():
    with tempfile.TemporaryDirectory() as folder:
        rows, _ = verify("--model", TINY, "--reference", folder, want=3)
        equal({r.verdict for r in rows}, {"not validated"})


# ---- The double pass ----

@suite.case("verify --reference self: a row for every stage of every layer, in the order of the computation")
def self_rows():
    stages = ["ln_1", "queries", "keys", "values", "scores", "masked scores", "probabilities", "attention output", "ln_2",
              "feed-forward output", "block output"]
    for model, n_layers in ((TINY, 3), (SHAKESPEARE, 4)):
        rows, total = verify("--model", model, "--reference", "self", want=0)
        want = ["embeddings"] + ["h.%d %s" % (layer, s) for layer in range(n_layers) for s in stages] + ["ln_f", "logits"]
        equal([r.name for r in rows[:len(want)]], want)
        equal([r.line for r in rows if r.verdict != "pass"], [])
        equal(total, "%d passed, 0 failed, 0 not validated" % len(rows))
        out = program("verify", "--model", model, "--reference", "self", "--stats")[1]
        check(max(len(line) for line in out.splitlines()) <= 140, "a line is too long")
        check("error of the block outputs\n" in out and "reference: double precision" in out, out)
        check(out.count("  ours  ") == out.count("  reference  ") == len(want) + 1, "statistics")


@suite.case("verify --reference self: every instruction set gives the same numbers")
def self_instruction_sets():
    scalar = program("verify", "--model", TINY, "--reference", "self", "--isa", "scalar")
    equal(scalar[0], 0)
    equal(scalar, program("verify", "--model", TINY, "--reference", "self"))


@suite.case("verify --json: one object with the run, all rows, all statistics, growth and verdict")
def as_json():
    for args, kind in ((["--reference", "self", "--prompt", "To be"], "self"), ([], "folder")):
        status, out, err = program("verify", "--model", SHAKESPEARE, "--json", *args)
        equal((status, err), (0, ""))
        got = json.loads(out)
        equal([got[key] for key in ("model", "weights", "verdict", "first_fault")], ["shakespeare", "F16", "pass", None])
        equal(got["reference"]["kind"], kind)
        equal(got["prompt"], "To be" if kind == "self" else PROMPT)
        equal(got["counts"], {"passed": len(got["rows"]), "failed": 0, "not_validated": 0})
        equal([g["layer"] for g in got["growth"]], [0, 1, 2, 3])
        check(got["growth"][1]["factor"] > 0 and got["growth"][0]["factor"] is None, got["growth"])
        equal(len({r["name"] for r in got["rows"]}), len(got["rows"]))
        for r in got["rows"]:
            figures = r.get("figures")
            if not figures or figures["worst"] is None:
                continue
            check(sum(figures["decades"]) in (0, figures["n"]), r)
            for side in ("ours_statistics", "reference_statistics"):
                equal(set(figures[side]), {"mean", "variance", "min", "max", "nan", "inf"})
            check(figures["cosine"] > 0.999999 and figures["rms"] <= figures["max_abs"], r)
            check((kind == "self" and r["stage"] is not None) == ("local" in r), r)


@suite.case("verify --reference self: --prompt, --prompt-ids and standard input give the same rows")
def self_prompts():
    with open(SHAKESPEARE + "/reference/metadata.json", encoding="utf-8") as file:
        ids = ",".join(str(i) for i in json.load(file)["tokens"])
    want = program("verify", "--model", SHAKESPEARE, "--prompt", PROMPT)
    equal(want[0], 0)
    check("reference: double precision" in want[1], want[1])
    equal(program("verify", "--model", SHAKESPEARE, "--reference", "self", "--prompt-ids", ids), want)
    equal(program("verify", "--model", SHAKESPEARE, "--prompt", "-", stdin=PROMPT.encode()), want)


@suite.case("verify: a packed file is read back from its panels, and that is said")
def self_packed():
    with tempfile.TemporaryDirectory() as folder:
        equal(program("pack", "--model", TINY, "--out", folder + "/tiny.packed")[0], 0)
        status, out, _ = program("verify", "--model", folder + "/tiny.packed", "--reference", "self")
        equal(status, 0)
        check("read back from its panels" in out, out)


def check_verify_error(args, status, *parts):
    got, out, err = program("verify", *args)
    equal((got, out), (status, ""))
    one_error_line(err, *parts)


for case in (
        ("a prompt for a folder", ["--model", TINY, "--reference", "/tmp", "--prompt", "a"], 2, "--prompt", "/tmp"),
        ("two prompts", ["--model", TINY, "--prompt", "a", "--prompt-ids", "1"], 2, "--prompt-ids"),
        ("an empty prompt", ["--model", TINY, "--prompt", ""], 2, "--prompt", "must not be empty"),
        ("an id outside the vocabulary", ["--model", TINY, "--prompt-ids", "1,512"], 2, "--prompt-ids"),
        ("a prompt beyond the context", ["--model", TINY, "--prompt", "x " * 200], 2, "context is 64"),
        ("--stats with --json", ["--model", TINY, "--stats", "--json"], 2, "--stats"),
        ("a value for --json", ["--model", TINY, "--json=1"], 2, "--json")):
    suite.case("verify: %s is refused in one line, exit %d" % (case[0], case[2]), *case[1:])(check_verify_error)


@suite.case("verify: aliases and the prompt of checkpoint_12.json, without metadata.json")
def aliases():
    rows, _ = verify("--model", TINY, "--reference", TINY + "/reference", want=0)
    for name in ("checkpoint_01_ln1_output", "checkpoint_05_output", "checkpoint_06_ffn", "checkpoint_07_block_output",
                 "checkpoint_08_logits", "checkpoint_09_logits_last", "checkpoint_11_probs",
                 "checkpoint_12.json: greedy ids", "checkpoint_12.json: text", "checkpoint_10.json: greedy ids"):
        equal(row(rows, name).verdict, "pass")
    for name in ("checkpoint_03_k_cache", "checkpoint_04_probs", "checkpoint_08_ln_f"):
        equal((row(rows, name).verdict, row(rows, name).note), ("not validated", "no %s.npy" % name))


@suite.case("verify: one missing file is one row that is not validated, exit 0")
def missing_file():
    with Folder() as f:
        os.remove(f.file("checkpoint_06_ffn.npy"))
        rows, total = verify("--model", TINY, "--reference", f.path, want=0)
        equal(row(rows, "checkpoint_06_ffn").verdict, "not validated")
        check(", 0 failed, " in total, total)


def check_damage(name, change, row_name, verdict, note):
    with Folder() as f:
        change_npy(f.file(name), change)
        rows, _ = verify("--model", TINY, "--reference", f.path, want=1 if verdict == "FAIL" else 0)
        found = row(rows, row_name)
        equal(found.verdict, verdict)
        check(note in found.note, found.line)


def put(index, value):
    def change(values):
        values[index] = value
    return change


def add(index, value):
    def change(values):
        values[index] += value
    return change


for damage in (
        ("checkpoint_01_ln1_output.npy", add(700, 3e-5), "checkpoint_01_ln1_output", "FAIL", "1 of 1248 differ"),
        ("checkpoint_02_k.npy", add(-1, 3e-4), "checkpoint_02_k", "FAIL", "1 of 1248 differ"),
        ("checkpoint_05_output.npy", put(0, math.nan), "checkpoint_05_output", "FAIL", "not finite at [0,0]"),
        ("checkpoint_08_logits.npy", put(-1, math.inf), "checkpoint_08_logits", "FAIL", "not finite at [25,511]"),
        ("checkpoint_04_masked.npy", put(1, -1e30), "checkpoint_04_masked", "FAIL", "mask differs at [0,0,1]"),
        ("checkpoint_04_masked.npy", put(0, -math.inf), "checkpoint_04_masked", "FAIL", "mask differs at [0,0,0]"),
        ("checkpoint_09_logits_last.npy", put(3, 99.0), "argmax of the last row", "FAIL", "the first at 0"),
        ("checkpoint_09_logits_last.npy", put(3, 99.0), "argmax of the reference's logits", "FAIL", "differ"),
        ("checkpoint_11_probs.npy", put(3, 0.9), "five most likely tokens", "FAIL", "differ"),
        ("checkpoint_11_probs.npy", add(505, 3e-6), "checkpoint_11_probs", "FAIL", "1 of 512 differ"),
        ("checkpoint_07_block_02.npy", add(5, 9e-4), "checkpoint_07_block_02", "pass", "")):
    suite.case("verify: %s %s is judged %s" % (damage[0], damage[4] or "within its tolerance", damage[3]), *damage)(
        check_damage)


@suite.case("verify: a tensor of another shape fails by its shape")
def other_shape():
    with Folder() as f:
        shutil.copy(f.file("checkpoint_04_scores.npy"), f.file("checkpoint_06_ffn.npy"))
        rows, _ = verify("--model", TINY, "--reference", f.path, want=1)
        equal(row(rows, "checkpoint_06_ffn").note, "shape [26,48], reference [4,26,26]")


@suite.case("verify: a damaged file fails its row and no other")
def damaged_file():
    with Folder() as f:
        with open(f.file("checkpoint_06_ffn.npy"), "r+b") as file:
            file.truncate(1000)
        rows, _ = verify("--model", TINY, "--reference", f.path, want=1)
        equal([r.name for r in rows if r.verdict == "FAIL"], ["checkpoint_06_ffn"])
        os.remove(f.file("checkpoint_06_ffn.npy"))
        os.mkfifo(f.file("checkpoint_06_ffn.npy"))  # never waited for
        rows, _ = verify("--model", TINY, "--reference", f.path, want=1)
        equal([r.name for r in rows if r.verdict == "FAIL"], ["checkpoint_06_ffn"])


@suite.case("verify: two sources that differ are both not trusted")
def second_source():
    with Folder() as f:
        shutil.copy(f.file("checkpoint_06_ffn.npy"), f.file("checkpoint_06_ffn_numpy.npy"))
        equal(row(verify("--model", TINY, "--reference", f.path, want=0)[0], "checkpoint_06_ffn").verdict, "pass")
        change_npy(f.file("checkpoint_06_ffn_numpy.npy"), add(3, 0.01))
        found = row(verify("--model", TINY, "--reference", f.path, want=0)[0], "checkpoint_06_ffn")
        equal(found.verdict, "not validated")
        check("checkpoint_06_ffn_numpy.npy" in found.note, found.line)


@suite.case("verify: other ids or another text in checkpoint_12.json fail")
def other_text():
    with Folder() as f:
        with open(TINY + "/reference/checkpoint_12.json", encoding="utf-8") as file:
            recorded = json.load(file)
        for key, value, failed in (("ids", recorded["ids"][:-1] + [7], "greedy ids"),
                                   ("text", recorded["text"] + ".", "text"),
                                   ("text", "C" + recorded["text"][1:], "text"),
                                   ("prompt", recorded["prompt"] + "?", "prompt ids")):
            with open(f.file("checkpoint_12.json"), "w", encoding="utf-8") as file:
                json.dump({**recorded, key: value}, file)
            rows, _ = verify("--model", TINY, "--reference", f.path, want=1)
            equal([r.name for r in rows if r.verdict == "FAIL"], ["checkpoint_12.json: " + failed])


@suite.case("verify: the temperature of metadata.json belongs to checkpoint 11")
def temperature():
    with Folder() as f:
        with open(f.file("metadata.json"), encoding="utf-8") as file:
            metadata = json.load(file)
        with open(f.file("metadata.json"), "w", encoding="utf-8") as file:
            json.dump({**metadata, "temperature": 1.0}, file)
        rows, _ = verify("--model", TINY, "--reference", f.path, want=1)
        equal([r.name for r in rows if r.verdict == "FAIL"], ["checkpoint_11_probs"])


# ---- Errors ----

def check_error(args, status, *parts):
    got, out, err = program("verify", *args)
    equal((got, out), (status, ""))
    one_error_line(err, *parts)


for case in (
        ("a reference that does not exist", ["--model", TINY, "--reference", "/nonexistent"], 1, "/nonexistent"),
        ("a reference that is a file", ["--model", TINY, "--reference", TINY + "/config.json"], 1, "config.json"),
        ("the reference of another model", ["--model", TINY, "--reference", SHAKESPEARE + "/reference"], 1,
         "metadata.json", "hidden_size"),
        ("a model that does not exist", ["--model", "/nonexistent"], 1, "/nonexistent"),
        ("an unknown name to expect", ["--model", TINY, "--expect", "gpt3"], 2, "gpt3", "gpt2-medium"),
        ("a model that is not gpt2", ["--model", TINY, "--expect", "gpt2"], 1, "3 layers", "12"),
        ("a model that is not gpt2-medium", ["--model", SHAKESPEARE, "--expect", "gpt2-medium"], 1, "4 layers", "24"),
        ("an unknown option", ["--model", TINY, "--frobnicate"], 2, "--frobnicate"),
        ("an option without its value", ["--reference"], 2, "--reference"),
        ("an argument too many", ["--model", TINY, "more"], 2, "more"),
        ("an unknown instruction set", ["--model", TINY, "--isa", "abacus"], 2, "abacus")):
    suite.case("verify: %s is refused in one line, exit %d" % (case[0], case[2]), *case[1:])(check_error)


@suite.case("verify: damaged metadata.json is an error that names it")
def bad_metadata():
    with Folder() as f:
        for text, part in (("{", "metadata.json"), ('{"tokens": [512]}', "tokens[0]"), ('{"tokens": []}', "tokens")):
            with open(f.file("metadata.json"), "w", encoding="utf-8") as file:
                file.write(text)
            check_error(["--model", TINY, "--reference", f.path], 1, "metadata.json", part)


@suite.case("verify: standard output that is full is an error")
def full_output():
    with open("/dev/full", "wb") as full:
        status, _, err = program("verify", "--model", TINY, stdout=full)
    equal(status, 1)
    one_error_line(err, "standard output")


@suite.case("verify and capture --help")
def help_texts():
    for command in ("verify", "capture"):
        status, out, err = program(command, "--help")
        equal((status, err), (0, ""))
        check(out.startswith("usage: llorch-cpud " + command), out)


# ---- capture ----

def tensors_of(config):
    t, d, h = 20, config["n_embd"], config["n_head"]
    e, v, f = d // h, config["vocab_size"], 4 * d
    shapes = {"embeddings": (t, d), "checkpoint_01_ln1_output": (t, d), "checkpoint_02_q": (t, h, e),
              "checkpoint_02_k": (t, h, e), "checkpoint_02_v": (t, h, e), "checkpoint_03_k_cache": (t, h, e),
              "checkpoint_03_v_cache": (t, h, e), "checkpoint_04_scores": (h, t, t), "checkpoint_04_masked": (h, t, t),
              "checkpoint_04_probs": (h, t, t), "checkpoint_05_output": (t, d), "checkpoint_05b_ln2_output": (t, d),
              "checkpoint_06_ffn": (t, d), "checkpoint_07_block_output": (t, d), "checkpoint_08_ln_f": (t, d),
              "checkpoint_08_logits": (t, v), "checkpoint_09_logits_last": (v,), "checkpoint_11_probs": (v,),
              "h0_ln_1_weight": (d,), "h0_ln_1_bias": (d,), "h0_c_attn_weight": (d, 3 * d), "h0_c_attn_bias": (3 * d,),
              "h0_c_proj_weight": (d, d), "h0_c_proj_bias": (d,), "h0_ln_2_weight": (d,), "h0_ln_2_bias": (d,),
              "h0_c_fc_weight": (d, f), "h0_c_fc_bias": (f,), "h0_ffn_c_proj_weight": (f, d), "h0_ffn_c_proj_bias": (d,),
              "token_embeddings": (v, d), "position_embeddings": (config["n_positions"], d)}
    shapes.update({"checkpoint_07_block_%02d" % i: (t, d) for i in range(config["n_layer"])})
    return shapes


class Captured:
    """The shipped model's reference prompt, captured once."""
    folder = None

    @classmethod
    def get(cls):
        if cls.folder is None:
            cls.temporary = tempfile.TemporaryDirectory()
            cls.folder = os.path.join(cls.temporary.name, "deep", "er")
            status, out, err = program("capture", "--model", SHAKESPEARE, "--prompt", PROMPT, "--out", cls.folder)
            equal((status, out, err), (0, "", ""))
        return cls.folder


@suite.case("capture: every file with its shape, none besides, folders made")
def capture_files():
    with open(SHAKESPEARE + "/config.json", encoding="utf-8") as file:
        shapes = tensors_of(json.load(file))
    equal(sorted(os.listdir(Captured.get())), sorted([n + ".npy" for n in shapes] + ["metadata.json"]))
    for name, shape in shapes.items():
        equal((name, read_npy(os.path.join(Captured.get(), name + ".npy"))[0]), (name, shape))


@suite.case("capture: metadata.json has the fields of the convention")
def capture_metadata():
    with open(Captured.get() + "/metadata.json", encoding="utf-8") as file:
        got = json.load(file)
    with open(SHAKESPEARE + "/reference/metadata.json", encoding="utf-8") as file:
        want = json.load(file)
    for key in ("prompt", "tokens", "hidden_size", "n_heads", "head_dim", "n_layers", "vocab_size"):
        equal((key, got[key]), (key, want[key]))
    equal(got["model"], "shakespeare")
    check("llorch-cpud" in got["source"], got["source"])
    equal(sorted(got["files"]), sorted(n for n in os.listdir(Captured.get()) if n.endswith(".npy")))


@suite.case("capture: the tensors are those of the reference")
def capture_values():
    for name in sorted(os.listdir(SHAKESPEARE + "/reference")):
        if not name.endswith(".npy"):
            continue
        shape, want = read_npy(os.path.join(SHAKESPEARE, "reference", name))
        got_shape, got = read_npy(os.path.join(Captured.get(), name))
        equal((name, got_shape), (name, shape))
        for a, b in zip(got, want):
            check(a == b or abs(a - b) <= 1e-4 * max(1.0, abs(b)), "%s: %r, expected %r" % (name, a, b))


@suite.case("capture: weights come out as the model file holds them")
def capture_weights():
    with open(SHAKESPEARE + "/model.safetensors", "rb") as file:
        data = file.read()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    for name, tensor in (("h0_c_attn_weight", "h.0.attn.c_attn.weight"), ("h0_c_proj_weight", "h.0.attn.c_proj.weight"),
                         ("h0_c_fc_weight", "h.0.mlp.c_fc.weight"), ("h0_ffn_c_proj_weight", "h.0.mlp.c_proj.weight"),
                         ("h0_c_attn_bias", "h.0.attn.c_attn.bias"), ("h0_ln_1_weight", "h.0.ln_1.weight"),
                         ("h0_ln_2_bias", "h.0.ln_2.bias"), ("token_embeddings", "wte.weight"),
                         ("position_embeddings", "wpe.weight")):
        entry = header.get(tensor) or header["transformer." + tensor]
        equal(entry["dtype"], "F16")
        begin, end = (8 + length + n for n in entry["data_offsets"])
        want = struct.unpack("<%de" % ((end - begin) // 2), data[begin:end])
        shape, got = read_npy(os.path.join(Captured.get(), name + ".npy"))
        equal(list(shape), entry["shape"])
        check(got == want, name)


@suite.case("capture, then verify --reference: all zero errors, weights included")
def round_trip():
    rows, _ = verify("--model", SHAKESPEARE, "--reference", Captured.get(), want=0)
    for name in ("token_embeddings", "h0_c_attn_weight", "h0_ffn_c_proj_bias", "checkpoint_08_logits",
                 "checkpoint_04_masked", "checkpoint_11_probs"):
        equal((name, row(rows, name).verdict, row(rows, name).worst), (name, "pass", "0.00e+00"))
    with Folder(Captured.get()) as f:
        change_npy(f.file("h0_c_proj_weight.npy"), lambda values: values.__setitem__(5, values[5] + 1e-6))
        rows, _ = verify("--model", SHAKESPEARE, "--reference", f.path, want=1)
        equal([r.name for r in rows if r.verdict == "FAIL"], ["h0_c_proj_weight"])


@suite.case("capture: --ids, --prompt - and every instruction set give the same files")
def same_capture():
    with open(SHAKESPEARE + "/reference/metadata.json", encoding="utf-8") as file:
        ids = ",".join(str(i) for i in json.load(file)["tokens"])
    for args, stdin in ((["--ids", ids], b""), (["--prompt", "-"], PROMPT.encode()),
                        (["--prompt", PROMPT, "--isa", "scalar"], b"")):
        with tempfile.TemporaryDirectory() as folder:
            status, _, err = program("capture", "--model", SHAKESPEARE, *args, "--out", folder, stdin=stdin)
            equal((status, err), (0, ""))
            for name in os.listdir(Captured.get()):
                with open(os.path.join(Captured.get(), name), "rb") as a, open(os.path.join(folder, name), "rb") as b:
                    if name == "metadata.json":
                        equal(json.load(a)["prompt"], json.load(b)["prompt"])
                    else:
                        check(a.read() == b.read(), "%s with %s" % (name, args[0]))


@suite.case("capture: a prompt in several passes has whole scores and a causal mask")
def long_prompt():
    n = 200  # more than one pass of the model
    with tempfile.TemporaryDirectory() as folder:
        ids = ",".join(str(i % 900) for i in range(n))
        equal(program("capture", "--model", SHAKESPEARE, "--ids", ids, "--out", folder)[0], 0)
        shape, scores = read_npy(folder + "/checkpoint_04_scores.npy")
        _, masked = read_npy(folder + "/checkpoint_04_masked.npy")
        _, probs = read_npy(folder + "/checkpoint_04_probs.npy")
        _, q = read_npy(folder + "/checkpoint_02_q.npy")
        _, k = read_npy(folder + "/checkpoint_02_k.npy")
        equal(shape, (3, n, n))
        for h in range(3):
            for i in range(0, n, 9):
                at = (h * n + i) * n
                for j in range(n):
                    check(masked[at + j] == (scores[at + j] if j <= i else -math.inf), "masked[%d,%d,%d]" % (h, i, j))
                    check(j <= i or probs[at + j] == 0.0, "probs[%d,%d,%d]" % (h, i, j))
                check(abs(sum(probs[at:at + n]) - 1.0) <= 1e-6, "sum of probs[%d,%d]" % (h, i))
                for j in range(3, n, 29):
                    a, b = (i * 3 + h) * 64, (j * 3 + h) * 64
                    want = sum(x * y for x, y in zip(q[a:a + 64], k[b:b + 64])) / 8
                    check(abs(scores[at + j] - want) <= 1e-4 * max(1.0, abs(want)), "scores[%d,%d,%d]" % (h, i, j))


def check_capture_error(args, status, *parts):
    got, out, err = program("capture", *args)
    equal((got, out), (status, ""))
    one_error_line(err, *parts)


for case in (
        ("no prompt", ["--model", TINY, "--out", "/tmp/x"], 2, "--prompt", "--ids"),
        ("a prompt and ids", ["--model", TINY, "--prompt", "a", "--ids", "1", "--out", "/tmp/x"], 2, "--prompt"),
        ("no --out", ["--model", TINY, "--prompt", "a"], 2, "--out"),
        ("an empty prompt", ["--model", TINY, "--prompt", "", "--out", "/tmp/x"], 2, "--prompt"),
        ("an id outside the vocabulary", ["--model", TINY, "--ids", "1,512", "--out", "/tmp/x"], 2, "--ids"),
        ("more tokens than positions", ["--model", TINY, "--prompt", "x " * 200, "--out", "/tmp/x"], 2, "context is 64"),
        ("a file in place of the folder", ["--model", TINY, "--ids", "1", "--out", TINY + "/config.json"], 1,
         "config.json", "Not a directory"),
        ("a place nobody can write to", ["--model", TINY, "--ids", "1", "--out", "/proc/llorch"], 1, "/proc/llorch")):
    suite.case("capture: %s is refused in one line, exit %d" % (case[0], case[2]), *case[1:])(check_capture_error)


@suite.case("capture: a failing write leaves no half file and no metadata.json")
def half_capture():
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/metadata.json", "w", encoding="utf-8") as file:
            file.write("{}")  # of an older capture: must not describe a mixture
        os.mkdir(folder + "/checkpoint_05_output.npy")  # a file cannot replace it
        status, _, err = program("capture", "--model", TINY, "--ids", "1,2,3", "--out", folder)
        equal(status, 1)
        one_error_line(err, "checkpoint_05_output.npy")
        names = os.listdir(folder)
        check("metadata.json" not in names and not [n for n in names if n.endswith(".tmp")], names)
        for name in names:
            if os.path.isfile(os.path.join(folder, name)):
                read_npy(os.path.join(folder, name))


@suite.case("capture: a full disk is an error, without half files")
def full_disk():
    # A limit on file size stands in for the disk: the largest file of the tiny model is 98 kB.
    with tempfile.TemporaryDirectory() as folder:
        command = "ulimit -f 40; trap '' XFSZ; exec \"$0\" capture --model \"$1\" --ids 1,2,3 --out \"$2\""
        done = subprocess.run(["sh", "-c", command, BIN, TINY, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=LIMIT, check=False, cwd=ROOT)
        equal(done.returncode, 1)
        one_error_line(done.stderr.decode(), "File too large")
        names = os.listdir(folder)
        check("metadata.json" not in names and not [n for n in names if n.endswith(".tmp")], names)


@suite.case("capture: runs again over an older capture")
def over_older():
    with tempfile.TemporaryDirectory() as folder:
        for ids in ("1,2,3", "4,5"):
            equal(program("capture", "--model", TINY, "--ids", ids, "--out", folder)[0], 0)
        equal(read_npy(folder + "/embeddings.npy")[0], (2, 48))
        check(stat.S_IMODE(os.stat(folder + "/embeddings.npy").st_mode) & 0o111 == 0, "executable")
        verify("--model", TINY, "--reference", folder, want=0)


# ---- Real weights ----

def check_published(variable, name):
    model = os.environ.get(variable)
    if not model:
        raise Skip(variable + " names no model")
    rows, total = verify("--model", model, "--expect", name, want=0)
    check(", 0 failed, " in total, total)
    equal([r.line for r in rows if r.verdict == "FAIL"], [])


suite.case("verify --expect gpt2 on real weights", "LLORCH_TEST_GPT2", "gpt2")(check_published)
suite.case("verify --expect gpt2-medium on real weights", "LLORCH_TEST_GPT2_MEDIUM", "gpt2-medium")(check_published)

sys.exit(suite.run())
