#!/usr/bin/env python3
"""`verify --save` and `--compare` on the command line: files, reports, exit statuses. No server is started."""
# Runs beside others: nothing here measures time.
import json
import os
import subprocess
import sys
import tempfile

from harness import BIN, ROOT, SHAKESPEARE, SLOW, TINY, Suite, check, clean_environment, equal

suite = Suite()
LIMIT = 120 * SLOW
SHIPPED = os.path.join(SHAKESPEARE, "baseline", "verify.json")
SELF = ("--reference", "self")


def verify(*args):
    done = subprocess.run([BIN, "verify", *args], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False,
                          env=clean_environment(), cwd=ROOT, encoding="utf-8")
    return done.returncode, done.stdout, done.stderr


def one_error_line(err, *parts):
    equal(err.count("\n"), 1)
    check(err.startswith("llorch-cpud: "), err)
    for part in parts:
        check(part in err, "%r is not in %r" % (part, err))


def refused(status, part, *args):
    got, out, err = verify(*args)
    equal((got, out), (status, ""))
    one_error_line(err, part)


@suite.case("the shipped model has the figures of its baseline, on every instruction set")
def shipped():
    for isa in ([], ["--isa", "scalar"]):
        status, out, err = verify("--model", SHAKESPEARE, *SELF, "--compare", SHIPPED, *isa)
        equal((status, err), (0, ""))
        check("; nothing fails, is missing or grew beyond 2 x" in out.splitlines()[-1], out)
    status, out, err = verify("--model", SHAKESPEARE, *SELF, "--compare", SHIPPED, "--json")
    equal((status, err), (0, ""))
    found = json.loads(out)["comparison"]
    equal((found["baseline"], found["failures"], found["max_growth"]), (SHIPPED, 0, 2))
    check(found["checks"] > 50 and found["figures"] > 150, found)


@suite.case("an error that has grown makes the exit status 1 and is named")
def growth():
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/v.json"
        status, out, err = verify("--model", SHAKESPEARE, *SELF, "--save", path)
        equal((status, err, os.listdir(folder)), (0, "", ["v.json"]))
        with open(path, encoding="utf-8") as file:
            baseline = json.load(file)
        equal(baseline["format"], "llorch-cpud verify 1")
        row = next(r for r in baseline["result"]["rows"] if r["name"] == "logits")
        row["figures"]["max_abs"] /= 2.1
        row["figures"]["rms"] /= 1.9
        baseline["result"]["rows"].append({"name": "gone", "verdict": "pass"})
        with open(path, "w", encoding="utf-8") as file:
            json.dump(baseline, file)
        status, out, err = verify("--model", SHAKESPEARE, *SELF, "--compare", path)
        equal((status, err), (1, ""))
        check("FAILURES: 2 " in out.splitlines()[-1], out)
        lines = out[out.index("compared with"):].splitlines()
        check(lines[2].startswith("gone ") and lines[2].endswith("missing"), lines)
        check(lines[3].startswith("logits ") and lines[3].endswith(" 2.10 x  grew"), lines)
        status, out, err = verify("--model", SHAKESPEARE, *SELF, "--compare", path, "--max-growth", "2.2")
        check("FAILURES: 1 " in out.splitlines()[-1], out)
        status, out, err = verify("--model", SHAKESPEARE, *SELF, "--compare", path, "--max-growth", "1.5", "--json")
        equal((status, err), (1, ""))
        changes = json.loads(out)["comparison"]["changes"]
        equal([(c["name"], c["verdict"]) for c in changes if c["verdict"] in ("missing", "grew")],
              [("gone", "missing"), ("logits", "grew"), ("logits", "grew")])


@suite.case("a baseline of something else is refused in one line")
def foreign():
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/v.json"
        equal(verify("--model", TINY, *SELF, "--save", path)[0], 0)
        compare = ("--compare", path)
        refused(1, "another type of weights: F32, now F16", "--model", SHAKESPEARE, *SELF, *compare)
        refused(1, "another prompt", "--model", TINY, *SELF, "--prompt", "x", *compare)
        with open(path, encoding="utf-8") as file:
            baseline = json.load(file)
        baseline["machine"]["weights_hash"] = "0123456789abcdef"
        with open(path, "w", encoding="utf-8") as file:
            json.dump(baseline, file)
        refused(1, "another model: tiny-gpt2 (weights 0123456789abcdef)", "--model", TINY, *SELF, *compare)
        for text in ("", "{}", "[1]", "{\"format\":\"llorch-cpud bench 1\"}", "{\"format\":\"llorch-cpud verify 1\"}",
                     "[" * 100000, "\x1b[31m", "GGUF" * 100):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            refused(1, path, "--model", TINY, *SELF, *compare)
        refused(1, "No such file", "--model", TINY, *SELF, "--compare", folder + "/none")
        refused(1, folder, "--model", TINY, *SELF, "--compare", folder)


@suite.case("a baseline made with reference tensors is compared with those")
def with_folder():
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/v.json"
        equal(verify("--model", SHAKESPEARE, "--save", path)[0], 0)
        status, out, err = verify("--model", SHAKESPEARE, "--compare", path)
        equal((status, err), (0, ""))
        check("all figures are the same" in out.splitlines()[-1], out)
        refused(1, "another kind of reference: folder, now self", "--model", SHAKESPEARE, *SELF, "--compare", path)


@suite.case("a baseline that cannot be written leaves nothing, an older one stays")
def unwritable():
    with tempfile.TemporaryDirectory() as folder:
        status, _, err = verify("--model", TINY, *SELF, "--save", folder + "/no/v.json")
        equal(status, 1)
        one_error_line(err, folder + "/no/v.json", "No such file")
        with open(folder + "/v.json", "w", encoding="utf-8") as file:
            file.write("older")
        command = "ulimit -f 8; trap '' XFSZ; exec \"$0\" verify --model \"$1\" --reference self --save \"$2\""
        done = subprocess.run(["sh", "-c", command, BIN, TINY, folder + "/v.json"], capture_output=True, timeout=LIMIT,
                              check=False, cwd=ROOT, env=clean_environment(), encoding="utf-8")
        equal(done.returncode, 1)
        one_error_line(done.stderr, "File too large")
        equal(os.listdir(folder), ["v.json"])
        with open(folder + "/v.json", encoding="utf-8") as file:
            equal(file.read(), "older")


@suite.case("nonsense is refused")
def nonsense():
    for growth in ("0.5", "0", "-1", "x", "inf", ""):
        refused(2, "--max-growth", "--model", TINY, "--max-growth", growth)
    refused(2, "--determinism", "--model", TINY, "--determinism", "--save", "x")
    refused(2, "--determinism", "--model", TINY, "--determinism", "--compare", SHIPPED)


sys.exit(suite.run())
