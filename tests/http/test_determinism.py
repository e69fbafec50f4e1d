#!/usr/bin/env python3
"""`verify --determinism` on the command line: table, JSON, exit statuses, files. No server is started."""
# Runs beside others: nothing here measures time.
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import BIN, ROOT, SHAKESPEARE, SLOW, TINY, Suite, check, clean_environment, equal

suite = Suite()
LIMIT = 120 * SLOW


def verify(*args, env=None):
    done = subprocess.run([BIN, "verify", *args], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False,
                          env=clean_environment(env), cwd=ROOT, encoding="utf-8")
    return done.returncode, done.stdout, done.stderr


def proof(*args, env=None):
    status, out, err = verify("--json", *args, env=env)
    equal((status, err), (0, ""))
    return json.loads(out)


def one_error_line(err, *parts):
    equal(err.count("\n"), 1)
    check(err.startswith("llorch-cpud: "), err)
    for part in parts:
        check(part in err, "%r is not in %r" % (part, err))


@suite.case("the shipped model has the hash that the documents give")
def documented():
    with open(os.path.join(ROOT, "docs", "determinism.md"), encoding="utf-8") as file:
        hashes = set(re.findall(r"hash ([0-9a-f]{16})\b", file.read()))
    status, out, err = verify("--determinism", "1", "--model", SHAKESPEARE)
    equal((status, err), (0, ""))
    rows = [line for line in out.splitlines() if line.endswith("  same")]
    found = {re.search(r" ([0-9a-f]{16})  same$", line).group(1) for line in rows}
    equal(len(found), 1)
    check(found < hashes or found == hashes, "%r, documented %r" % (found, hashes))
    check(out.splitlines()[-1].endswith("the logits of all 64 positions have the same bits, hash " + found.pop()), out)
    for way in ("random chunks", "cache reused", "copy: packed as F32"):
        check(any(line.startswith(way) for line in rows), way)
    check(any(" scalar " in line for line in rows), out)


@suite.case("JSON names every way; copies are made and removed again")
def as_json():
    with tempfile.TemporaryDirectory() as folder:
        result = proof("--determinism", "--model", TINY, env={"TMPDIR": folder})
        equal(os.listdir(folder), [])
    equal((result["model"], result["types"], result["prompt"]), ("tiny-gpt2", "F32", "the standard prompt"))
    found = result["determinism"]
    equal((found["holds"], found["positions"], found["seed"]), (True, 64, 1))
    equal(found["runs"], sum(way["runs"] for way in found["ways"]))
    equal(found["runs"], 100)
    for way in found["ways"]:
        equal((way["verdict"], way["hash"]), ("same", found["hash"]))


@suite.case("number, seed and prompt can be chosen")
def choices():
    runs = 100 if "LLORCH_TEST_QUICK" in os.environ else 200
    for form in (["--determinism=%d" % runs], ["--determinism", str(runs)]):
        result = proof(*form, "--seed", "12", "--prompt", "To be, or not to be", "--model", TINY)
        equal((result["prompt"], result["determinism"]["seed"]), ("the given prompt", 12))
        equal(result["determinism"]["runs"], runs)
    check(result["determinism"]["hash"] != proof("--determinism=1", "--model", TINY)["determinism"]["hash"], "hash")
    # The option may come last and before others: what follows is no number.
    equal(proof("--determinism", "--isa", "scalar", "--model", TINY)["determinism"]["ways"][0]["isa"], "scalar")


@suite.case("a model without a tokenizer computes generated ids")
def without_tokenizer():
    with tempfile.TemporaryDirectory() as folder:
        for name in ("config.json", "model.safetensors"):
            os.mkdir(folder + "/model") if name == "config.json" else None
            shutil.copy(os.path.join(TINY, name), folder + "/model")
        status, out, err = verify("--determinism=1", "--model", folder + "/model")
        equal(status, 0)
        one_error_line(err, "without a tokenizer")
        check("64 tokens of generated ids" in out, out)
        # docs/numerics.md, section 9, has the hash of these very logits.
        with open(os.path.join(ROOT, "docs", "numerics.md"), encoding="utf-8") as file:
            check(re.search(r"hash ([0-9a-f]{16})\n", out).group(1) in file.read(), out)
        status, out, err = verify("--determinism=1", "--model", folder + "/model", "--prompt", "x")
        equal((status, out), (2, ""))
        check("no tokenizer" in err, err)


@suite.case("nonsense is refused")
def refused():
    for part, args in (("determinism", ["--determinism=0"]), ("determinism", ["--determinism=many"]),
                       ("determinism", ["--determinism", "1000001"]), ("unexpected", ["--determinism", "many"]),
                       ("--seed", ["--determinism", "--seed", "-1"]),
                       ("--reference", ["--determinism", "--reference", TINY + "/reference"]),
                       ("must not be empty", ["--determinism", "--prompt", ""]),
                       ("context is 64", ["--determinism", "--prompt", "word " * 100])):
        status, out, err = verify("--model", TINY, *args)
        equal((status, out), (2, ""))
        one_error_line(err, part)


@suite.case("no room for copies is a failure of one line")
def no_room():
    status, out, err = verify("--determinism", "--model", TINY, env={"TMPDIR": "/no/such/folder"})
    equal((status, out), (1, ""))
    one_error_line(err, "/no/such/folder", "No such file")
    with tempfile.TemporaryDirectory() as folder:  # a limit on file size stands in for a full disk
        command = "ulimit -f 40; trap '' XFSZ; exec \"$0\" verify --determinism 1 --model \"$1\""
        done = subprocess.run(["sh", "-c", command, BIN, TINY], capture_output=True, timeout=LIMIT, check=False, cwd=ROOT,
                              env=clean_environment({"TMPDIR": folder}), encoding="utf-8")
        equal((done.returncode, done.stdout), (1, ""))
        one_error_line(done.stderr, "File too large")
        equal(os.listdir(folder), [])


@suite.case("Ctrl-C ends it without a word and without files")
def interrupted():
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([BIN, "verify", "--determinism", "1000000", "--model", SHAKESPEARE], cwd=ROOT,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=clean_environment({"TMPDIR": folder}))
        end = time.monotonic() + LIMIT
        while not os.listdir(folder):  # the folder for copies is made before anything is computed
            check(time.monotonic() < end, "nothing happened")
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT)
        equal((process.returncode, out, err), (130, b"", b""))
        equal(os.listdir(folder), [])


sys.exit(suite.run())
