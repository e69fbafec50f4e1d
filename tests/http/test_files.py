#!/usr/bin/env python3
"""Model files of every form, served and used by the other commands: quantize, pack, shared memory, fast starts, wrong files."""
import gzip
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import (BIN, ROOT, SHAKESPEARE, SLOW, TINY, Skip, Suite, Worker, check, clean_environment, equal, run_program,
                     text_of)

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
        equal(mapped["Private_Dirty"], 0)  # no page of the file was copied
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


status = suite.run()
shutil.rmtree(FOLDER)
sys.exit(status)
