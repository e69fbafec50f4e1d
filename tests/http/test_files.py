#!/usr/bin/env python3
"""Model files of every form, served and used by the other commands: quantize, pack, shared memory, fast starts, wrong files."""
# Runs beside others: nothing here measures time.
import gzip
import json
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import (BIN, ROOT, SHAKESPEARE, SLOW, TINY, Skip, Suite, Worker, check, clean_environment, equal, run_program,
                     text_of, write_zeros)

suite = Suite()
FOLDER = tempfile.mkdtemp(prefix="llorch-files-")
TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")
COMMANDS = (("info",), ("generate", "--prompt", "x"), ("capture", "--ids", "1", "--out", FOLDER + "/capture"),
            ("verify",), ("quantize", "--type", "f16", "--out", FOLDER + "/out"), ("pack", "--out", FOLDER + "/out"))
made = {}


def run(*args, status=0, **more):
    got, out, error = run_program(*args, **more)
    equal((got, error if status == 0 else ""), (status, ""))
    return out if status == 0 else error


def model_file(command, kind, model=SHAKESPEARE):
    """A file of that type, made once."""
    key = (command, kind, model)
    if key not in made:
        made[key] = "%s/%s-%s.%s" % (FOLDER, os.path.basename(model), kind, "gguf" if command == "quantize" else "packed")
        run(command, "--model", model, "--type", kind, "--out", made[key])
    return made[key]


def greedy(model, *more):
    return json.loads(run("generate", "--model", model, "--prompt", "ROMEO:", "--temperature", "0", "--max-tokens", "20",
                          "--json", *more))["ids"]


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(name, data):
    path = os.path.join(FOLDER, name)
    with open(path, "wb") as file:
        file.write(data)
    return path


# --- every form does the same ---

def same_tokens(kind):
    want = greedy(SHAKESPEARE, "--type", kind)
    for command in ("quantize", "pack"):
        path = model_file(command, kind)
        for isa in ("scalar", "avx2") if "avx2" in run("--version") else ("scalar",):
            equal(greedy(path, "--isa", isa), want)
        with Worker(model=path) as w:
            events = w.run(prompt="ROMEO:", max_tokens=20, temperature=0)
            equal(text_of(events), run("generate", "--model", path, "--prompt", "ROMEO:", "--temperature", "0", "--max-tokens",
                                       "20"))
            equal(w.get("/health")[1]["model"], "shakespeare-" + kind)


for one in TYPES:
    suite.case("a %s model gives the same tokens as GGUF, packed and converted at load" % one, one)(same_tokens)


@suite.case("every command reads GGUF and packed files")
def every_command():
    prompt = b"Speak, speak."
    for model in (model_file("quantize", "f16"), model_file("pack", "f16")):
        equal(run("tokenize", "--model", model, data=prompt), run("tokenize", "--model", SHAKESPEARE, data=prompt))
        check(", 0 failed, 0 not validated" in run("verify", "--model", model, "--reference", SHAKESPEARE + "/reference"))
        folder = os.path.join(FOLDER, "captured")
        run("capture", "--model", model, "--ids", "1,2,3", "--out", folder)
        shipped = os.path.join(FOLDER, "captured-shipped")
        run("capture", "--model", SHAKESPEARE, "--ids", "1,2,3", "--out", shipped)
        names = [n for n in os.listdir(shipped) if n.endswith(".npy")]
        check(len(names) > 10, names)
        for name in names:
            equal(read(os.path.join(folder, name)), read(os.path.join(shipped, name)))
        info = json.loads(run("info", "--model", model, "--json"))
        equal((info["model"], info["path"]), ("shakespeare-f16", model))
        equal((info["file_types"], info["types"], info["parameters"]), ("F16", "F16", 2025600))


@suite.case("GGUF and packed files are served under the stem of their name, or the given one")
def names():
    with Worker(model=model_file("pack", "q8_0"), ready=True) as w:
        equal(w.get("/health")[1]["model"], "shakespeare-q8_0")
    with Worker("--model-name", "will", model=model_file("quantize", "q8_0")) as w:
        equal(w.get("/health")[1]["model"], "will")


@suite.case("quantize and pack write the same bytes again")
def same_bytes():
    for command in ("quantize", "pack"):
        first = read(model_file(command, "q4_0", TINY))
        path = os.path.join(FOLDER, "again")
        run(command, "--model", TINY, "--type", "q4_0", "--out", path)
        equal(read(path) == first, True)


# --- starts and memory ---

@suite.case("a packed model is ready within 50 ms")
def ready_soon():
    model = model_file("pack", "f16")
    best = 1e9
    for _ in range(5):
        with Worker(model=model, ready=False) as w:
            w.wait_log("Worker ready, starting HTTP server")
            at = next(at for at, line in w.lines if isinstance(line, dict) and "Worker ready" in line["message"])
            best = min(best, 1000 * (at - w.started))
    check(best < 50 * SLOW, "%.1f ms" % best)


def kilobytes(lines):
    total = {}
    for line in lines:
        found = re.match(r"(\w+):\s+(\d+) kB", line)
        if found:
            total[found.group(1)] = total.get(found.group(1), 0) + int(found.group(2))
    return total


def memory(pid, path):
    """(figures of the process, figures of its mappings of path), in kB."""
    with open("/proc/%d/smaps_rollup" % pid, encoding="utf-8") as file:
        whole = kilobytes(file)
    mine, inside = [], False
    with open("/proc/%d/smaps" % pid, encoding="utf-8") as file:
        for line in file:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                inside = line.rstrip("\n").endswith(" " + path)
            elif inside:
                mine.append(line)
    return whole, kilobytes(mine)


def is_sanitized(pid):
    with open("/proc/%d/status" % pid, encoding="utf-8") as file:
        return kilobytes(file)["VmSize"] > 1 << 30  # a terabyte of shadow


def four_workers(model):
    """The memory of four workers on one model after each has computed a prompt."""
    workers = []
    try:
        workers += [Worker(model=model) for _ in range(4)]
        if is_sanitized(workers[0].pid):
            raise Skip("a sanitizer's memory hides the model's")
        for w in workers:
            w.run(prompt="If music be the food of love, play on;", max_tokens=4)
        return [memory(w.pid, model) for w in workers]
    finally:
        for w in workers:
            w.stop()


@suite.case("four workers on one packed file hold its weights once")
def shared_weights():
    model = model_file("pack", "f32")
    needs = json.loads(run("info", "--model", model, "--json"))["memory"]
    file_kb = os.path.getsize(model) / 1024
    private_kb = (needs["kv_cache_bytes"] + needs["work_bytes"]) / 1024 + 4096
    check(file_kb > 1.5 * private_kb - 4096, "the file is too small to tell")
    seen = four_workers(model)
    for whole, mapped in seen:
        equal(mapped["Anonymous"], 0)  # no page of the file was copied
        check(mapped["Rss"] > 0.8 * file_kb, mapped)  # and the prompt did read it
        check(whole["Private_Dirty"] <= private_kb, (whole, private_kb))
    shares = sum(mapped["Pss"] for _, mapped in seen)
    check(shares <= 1.02 * file_kb, "%d kB of a file of %d kB" % (shares, file_kb))
    total = sum(whole["Pss"] for whole, _ in seen)
    check(total <= 1.02 * file_kb + 4 * (private_kb + 2048), (total, file_kb, private_kb))


@suite.case("a model that is packed at load is each worker's own, which the same figures show")
def own_weights():
    weights_kb = json.loads(run("info", "--model", SHAKESPEARE, "--json"))["memory"]["weights_bytes"] / 1024
    for whole, _ in four_workers(SHAKESPEARE):
        check(whole["Private_Dirty"] >= weights_kb, whole)


# --- what goes wrong ---

def refused(model, *parts):
    for command in COMMANDS:
        got, out, error = run_program(command[0], "--model", model, *command[1:])
        equal((got, out, error.count("\n")), (1, "", 1))
        check(error.startswith("llorch-cpud: "), error)
        for part in parts:
            check(part in error, "%s: %r is not in %r" % (command[0], part, error))
    check(not os.path.exists(FOLDER + "/out"), "a file was left")
    with Worker(model=model, ready=False) as w:
        equal(w.wait(), 1)
        for part in parts:
            check(any(part in json.dumps(line) for _, line in w.lines), "%r is not in %r" % (part, w.raw_log))


def wrong_files():
    gguf, packed = read(model_file("quantize", "f16")), read(model_file("pack", "f16"))
    big = bytearray(gguf)
    big[:4] = b"FUGG"
    structure = packed.index(b'"structure":"') + 13
    other = bytearray(packed)
    other[structure] = other[structure] ^ 1
    return (("page.gguf", b"<html>not found</html>", "an HTML or XML page"),
            ("pointer.gguf", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
            ("zip.gguf", gzip.compress(gguf[:1000]), "a gzip archive"),
            ("empty.packed", b"", "the file is empty"),
            ("cut.gguf", gguf[:100000], "but the file has"),
            ("cut.packed", packed[:100000], "but the file has"),
            ("head.packed", packed[:300], "bytes follow"),
            ("big.gguf", bytes(big), "big endian"),
            ("old.gguf", b"GGUF\1\0\0\0" + bytes(100), "version 1, expected 2 or 3"),
            ("llama.gguf", gguf.replace(b"\4\0\0\0\0\0\0\0gpt2", b"\4\0\0\0\0\0\0\0bert", 1),
             "general.architecture is bert, expected gpt2"),
            ("newer.packed", packed.replace(b'"version":"1"', b'"version":"7"', 1), "packed by another version"),
            ("sum.packed", bytes(other), "its structure has another checksum"))


for number, label in enumerate(("an HTML page", "a Git LFS pointer", "a gzip archive", "an empty file", "a GGUF file cut short",
                                "a packed file cut short", "a packed file cut in its header", "a big-endian GGUF file",
                                "a GGUF file of version 1", "a GGUF file of another architecture",
                                "a packed file of another version", "a packed file with another checksum")):
    @suite.case("every command that computes refuses %s" % label, number)
    def wrong_file(which):
        name, data, part = wrong_files()[which]
        refused(write(name, data), name, part)


@suite.case("a packed file is not served as another type")
def other_type():
    model = model_file("pack", "f16")
    message = "is packed with wte.weight as F16, not Q8_0: a packed file keeps its types"
    check(message in run("generate", "--model", model, "--type", "q8_0", "--prompt", "x", status=2))
    equal(greedy(model, "--type", "f16"), greedy(model))
    with Worker("--type", "q8_0", model=model, ready=False) as w:
        check(w.wait() != 0)
        check(any(message in json.dumps(line) for _, line in w.lines), w.raw_log)


def replaced(model, out, *more):
    """Exit status and error of both commands, which must be the same."""
    seen = set()
    for command in ("quantize", "pack"):
        status, _, error = run_program(command, "--model", model, "--type", "q8_0", "--out", out, *more)
        seen.add((status, error))
    equal(len(seen), 1)
    return seen.pop()


def model_folder(name):
    """A copy of the tiny model, with another weights file, as a person may keep there."""
    folder = os.path.join(FOLDER, name)
    shutil.copytree(TINY, folder, ignore=lambda *_: ["reference"])
    for path in [os.path.join(folder, n) for n in os.listdir(folder)] + [folder]:
        os.chmod(path, 0o755)
    write(name + "/notes.txt", b"mine")
    return folder


def snapshot(folder):
    return {name: read(os.path.join(folder, name)) for name in os.listdir(folder)}


@suite.case("quantize and pack never replace a file of the model, by whatever name")
def model_stays():
    folder = model_folder("kept")
    weights, before = folder + "/model.safetensors", snapshot(folder)
    elsewhere = os.path.join(FOLDER, "elsewhere")
    os.mkdir(elsewhere)
    os.symlink(folder, elsewhere + "/folder")
    os.symlink(weights, elsewhere + "/soft")
    os.link(weights, elsewhere + "/hard")
    os.symlink(weights, elsewhere + "/model.safetensors")  # as download caches keep them: the model is a link
    os.link(folder + "/config.json", elsewhere + "/config.json")
    targets = [os.path.join(folder, name) for name in before]
    targets += [folder + "/./config.json", elsewhere + "/folder/vocab.json", elsewhere + "/soft", elsewhere + "/hard"]
    others = snapshot(elsewhere + "/folder")
    for model in (folder, folder + "/", weights, elsewhere + "/folder", elsewhere + "/folder/model.safetensors"):
        for out in targets:
            equal(replaced(model, out),
                  (2, "llorch-cpud: --out: %s: is a file of the model; choose another name\n" % out))
    for out in (weights, elsewhere + "/model.safetensors", elsewhere + "/config.json", elsewhere + "/hard"):
        check("is a file of the model" in replaced(elsewhere, out)[1], out)
    equal((snapshot(folder), others), (before, before))
    equal(sorted(os.listdir(elsewhere)), ["config.json", "folder", "hard", "model.safetensors", "soft"])


@suite.case("quantize and pack do not replace a shard, nor a tokenizer beside the model's folder")
def shards_and_tokenizers_stay():
    folder = model_folder("sharded")
    shard = folder + "/model-00001-of-00001.safetensors"
    os.rename(folder + "/model.safetensors", shard)
    names = [n for n in json.loads(read(shard)[8:8 + int.from_bytes(read(shard)[:8], "little")]) if n != "__metadata__"]
    index = write("sharded/model.safetensors.index.json",
                  json.dumps({"weight_map": {n: os.path.basename(shard) for n in names}}).encode())
    for model in (folder, index):
        for out in (shard, index):
            check("is a file of the model" in replaced(model, out)[1], out)
    for name in ("vocab.json", "merges.txt"):
        os.rename(os.path.join(folder, name), os.path.join(FOLDER, name))
    try:
        run("pack", "--model", folder, "--out", FOLDER + "/outer.packed")  # that tokenizer is the model's
        for name in ("vocab.json", "merges.txt"):
            check("is a file of the model" in replaced(folder, os.path.join(FOLDER, name))[1], name)
    finally:
        for name in ("vocab.json", "merges.txt"):
            os.remove(os.path.join(FOLDER, name))


@suite.case("quantize and pack write new names into the model's folder, and replace files of theirs elsewhere")
def new_names():
    folder = model_folder("new")
    for model, out in ((folder, folder + "/new.model"), (folder + "/model.safetensors", folder + "/newer.model")):
        run("pack", "--model", model, "--out", out)
    # A GGUF or packed file is a whole model: what lies beside it is not its own ...
    for one in (model_file("quantize", "f16", TINY), model_file("pack", "f16", TINY)):
        for _ in range(2):
            run("pack", "--model", one, "--out", FOLDER + "/beside.packed")
        equal(greedy(FOLDER + "/beside.packed"), greedy(one))
        os.symlink(one, FOLDER + "/link")
        os.link(one, FOLDER + "/hard-link")
        for out in (one, FOLDER + "/link", FOLDER + "/hard-link"):  # ... but it is
            for model in (one, FOLDER + "/link"):
                check("is a file of the model" in run("pack", "--model", model, "--out", out, status=2), out)
        os.remove(FOLDER + "/link")
        os.remove(FOLDER + "/hard-link")


@suite.case("a model that never ends is packed, not written as GGUF")
def never_ends():
    for name, value in (("null", None), ("none", [])):
        folder = model_folder("endless-" + name)
        config = json.loads(read(folder + "/config.json"))
        config["eos_token_id"] = value
        write("endless-%s/config.json" % name, json.dumps(config).encode())
        check("eos_token_id names no token, which GGUF's architecture gpt2 cannot express; llorch-cpud pack keeps such models\n"
              in run("quantize", "--model", folder, "--type", "f32", "--out", FOLDER + "/out", status=1))
        check(not os.path.exists(FOLDER + "/out"))
        run("pack", "--model", folder, "--out", FOLDER + "/endless.packed")
        equal(json.loads(run("info", "--model", FOLDER + "/endless.packed", "--json"))["architecture"]["eos_ids"], [])


@suite.case("a full disk leaves nothing, and an older file as it was")
def full_disk():
    folder = os.path.join(FOLDER, "full")
    os.mkdir(folder)
    path = os.path.join(folder, "model")
    with open(path, "wb") as file:
        file.write(b"older")
    for command in ("quantize", "pack"):
        done = subprocess.run([BIN, command, "--model", SHAKESPEARE, "--type", "q8_0", "--out", path], cwd=ROOT, check=False,
                              env=clean_environment(), capture_output=True, restore_signals=False,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000)))
        equal((done.returncode, done.stdout), (1, b""))
        check(b"model: File too large" in done.stderr, done.stderr)
        equal((os.listdir(folder), read(path)), (["model"], b"older"))


@suite.case("Ctrl-C leaves nothing and exits with 130")
def interrupt():
    folder = os.path.join(FOLDER, "interrupted")
    os.mkdir(folder)
    for command in ("quantize", "pack"):
        seen = 0
        for wait_ms in (0, 1, 2, 4, 8, 16):
            process = subprocess.Popen([BIN, command, "--model", SHAKESPEARE, "--type", "q4_0", "--out", folder + "/model"],
                                       cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            while process.poll() is None and not os.listdir(folder):  # the temporary file
                time.sleep(0.0002)
            time.sleep(wait_ms / 1000)
            process.send_signal(signal.SIGINT)
            process.communicate()
            if process.returncode == 130:
                seen += 1
                equal(os.listdir(folder), [])
            else:
                equal((process.returncode, os.listdir(folder)), (0, ["model"]))
                os.remove(folder + "/model")
        if not seen:
            raise Skip("no signal came while the file was being written")


# --- what a person sees meanwhile ---

def wide_model():
    """A model of 25 million weights, all zero: a file that takes a while to write, but no room on the disk."""
    if "wide" not in made:
        made["wide"] = folder = model_folder("wide")
        config = json.loads(read(folder + "/config.json"))
        config.update(n_layer=8, n_embd=512, n_head=8)
        write("wide/config.json", json.dumps(config).encode())
        write_zeros(folder + "/model.safetensors", config, "F16", 2)
    return made["wide"]


def slowed(command, during):
    """What the terminal shows when the command is stopped for more than a second while during(process, folder) is true, or None
    when it was not seen to be true."""
    folder = tempfile.mkdtemp(dir=FOLDER)
    ours, theirs = pty.openpty()
    process = subprocess.Popen([BIN, command, "--model", wide_model(), "--type", "f32", "--out", folder + "/out"], cwd=ROOT,
                               env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    while process.poll() is None and not during(process, folder):
        time.sleep(0.0005)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.02)
    hit = process.poll() is None and during(process, folder)
    if hit:
        time.sleep(1.1)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    equal(process.returncode, 0)
    seen = b""
    try:
        while True:
            seen += os.read(ours, 4096)
    except OSError:  # nothing is left, and nobody writes any more
        os.close(ours)
    shutil.rmtree(folder)
    return seen if hit else None


def is_loading(process, _folder):
    """The last things read are the projections, long after the file was mapped."""
    try:
        with open("/proc/%d/maps" % process.pid, encoding="utf-8") as file:
            return "/wide/model.safetensors" in file.read()
    except OSError:
        return False


def is_writing(_process, folder):
    """A quarter is still missing at least: 100 MB will be written."""
    sizes = [os.stat(os.path.join(folder, n)).st_size for n in os.listdir(folder) if n.endswith(".tmp")]
    return bool(sizes) and 0 < sizes[0] < 75000000


def shows_progress(command, what, during):
    try:
        os.close(pty.openpty()[0])
    except OSError as error:
        raise Skip("no terminal can be opened here (%s)" % error) from error
    for _ in range(5):
        seen = slowed(command, during)
        if seen is not None:
            break
    else:
        raise Skip("it was over too soon to be seen")
    check(re.fullmatch(rb"((\r(loading the model|writing the file) [ \d]{3} %)+\r\x1b\[K)+", seen), seen)
    check(b"\r" + what in seen, seen)


for one in ("quantize", "pack"):
    suite.case("%s tells a terminal that it loads, and takes it back" % one, one, b"loading the model",
               is_loading)(shows_progress)
    suite.case("%s tells a terminal that it writes, and takes it back" % one, one, b"writing the file",
               is_writing)(shows_progress)


status = suite.run()
shutil.rmtree(FOLDER)
sys.exit(status)
