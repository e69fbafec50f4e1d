#!/usr/bin/env python3
"""The sub-command bench: its JSON, its table, its refusals.

usage: tests/http/test_bench.py      (LLORCH_BIN: the program, build/llorch-cpud; from the root of the repository)
"""
import json
import math
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time

from harness import BIN, ROOT, Suite, check, clean_environment, equal, has, wait_caught

SMALL = "2,2,64,64,300"
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0"]
PROBES = ["read_linear", "read_streams", "read_ahead", "read_best", "fma"]
CASES = {"memory": "MB", "decode@16": "tokens/s", "decode@56": "tokens/s", "rest@16": "ms", "rest-sampled@16": "ms",
         "cache@64": "GB/s", "batch@1": "ms", "batch@2": "ms", "batch@4": "ms", "batch@8": "ms", "batch@16": "ms",
         "prompt@16": "tokens/s", "prompt@64": "tokens/s", "pack": "GB/s"}
suite = Suite()


def run(*args):
    return subprocess.run([BIN, "bench", *args], stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
                          env=clean_environment(), cwd=ROOT, check=False, encoding="utf-8")


def measured(*args):
    done = run(*args, "--json")
    check(done.returncode == 0, "status %d: %s" % (done.returncode, done.stderr))
    check(done.stderr == "", "standard error: " + done.stderr)
    return json.loads(done.stdout)


def refuses(part, *args):
    done = run(*args)
    equal((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1))
    has(done.stderr, part)


def sane(figures):
    for key in ("median", "min", "max"):
        check(math.isfinite(figures[key]) and figures[key] > 0, "%s in %r" % (key, figures))
    check(figures["min"] <= figures["median"] <= figures["max"], "order in %r" % figures)


@suite.test
def json_has_every_case_of_every_type():
    result = measured("--shape", SMALL, "--rounds", "1")
    equal(sorted(result), ["format", "machine", "probes", "results"])
    equal(sorted(result["probes"]), sorted(PROBES))
    for probe in result["probes"].values():
        equal(sorted(probe), ["max", "median", "min", "unit"])
        sane(probe)
    equal([(r["type"], r["case"]) for r in result["results"] if r["case"] == "memory"],
          [(t, "memory") for t in TYPES])
    equal({(r["type"], r["case"], r["unit"]) for r in result["results"]},
          {(t, c, u) for t in TYPES for c, u in CASES.items()})
    equal(len(result["results"]), len(TYPES) * len(CASES))
    for entry in result["results"]:
        equal(sorted(entry), ["better", "case", "max", "median", "min", "n", "share", "share_max", "share_min", "type",
                              "unit"])
        sane(entry)
        check(entry["share_min"] <= entry["share"] <= entry["share_max"], "%r" % entry)
        check(math.isfinite(entry["share"]) and entry["share"] > 0, "share in %r" % entry)


@suite.test
def the_machine_is_described():
    machine = measured("--shape", SMALL, "--rounds", "2", "--type", "f16", "--kv-type", "f16", "--isa", "scalar",
                       "--cases", "memory")["machine"]
    equal(sorted(machine), ["compiler", "config", "cpu", "cpu_name", "flags", "isa", "kv_type", "model", "rounds", "shape",
                            "version"])
    equal((machine["isa"], machine["kv_type"], machine["rounds"], machine["shape"]), ("scalar", "F16", 2, SMALL))
    check(machine["cpu"] in os.sched_getaffinity(0), "cpu %r" % machine["cpu"])


@suite.test
def rounds_types_and_cases_are_those_asked_for():
    result = measured("--shape", SMALL, "--rounds", "3", "--type", "q8_0", "--type", "F16", "--type", "q8_0", "--cases",
                      "step,batch", "--cpu", str(min(os.sched_getaffinity(0))))
    equal([(r["type"], r["case"]) for r in result["results"]],
          [(t, c) for t in ("Q8_0", "F16") for c in CASES if c.startswith(("rest", "batch"))])
    for entry in result["results"]:
        if entry["case"].startswith("rest"):
            check(entry["share"] < 1, "%r" % entry)
    equal(result["machine"]["cpu"], min(os.sched_getaffinity(0)))


@suite.test
def a_model_is_measured_in_its_own_types_or_those_asked_for():
    entries = measured("--model", "tests/data/tiny-gpt2", "--rounds", "1", "--cases", "load,memory")["results"]
    equal([(r["type"], r["case"]) for r in entries], [("F32", "load"), ("F32", "memory"), ("F32", "pack")])
    entries = measured("--model", "tests/data/tiny-gpt2", "--rounds", "1", "--type", "q8_0", "--cases", "load")["results"]
    equal([(r["type"], r["case"]) for r in entries], [("Q8_0", "load"), ("Q8_0", "pack")])


@suite.test
def the_table_says_the_same():
    done = run("--shape", SMALL, "--rounds", "1", "--type", "bf16", "--cases", "decode,memory")
    equal((done.returncode, done.stderr), (0, ""))
    lines = done.stdout.splitlines()
    for want in ("probes", "BF16", "shares"):
        check(any(line.startswith(want) for line in lines), "no %r in\n%s" % (want, done.stdout))
    for case in ("memory", "decode@16", "decode@56"):
        equal(sum(line.split()[:1] == [case] for line in lines), 2)
    check(max(map(len, lines)) <= 100, "a line is too long")


def with_shares(path, factor, **machine):
    """A baseline whose shares are those of path, times factor where more is better, else divided by it."""
    with open(path, encoding="utf-8") as file:
        baseline = json.load(file)
    for entry in baseline["results"]:
        for key in ("share", "share_min", "share_max"):
            entry[key] = entry[key] * factor if entry["better"] == "higher" else entry[key] / factor
    baseline["machine"].update(machine)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(baseline, file)
    return path


@suite.test
def a_baseline_finds_what_became_slower():
    quick = ("--shape", SMALL, "--rounds", "1", "--type", "f16", "--cases", "decode,memory")
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/b.json"
        printed = measured(*quick, "--save", path)
        with open(path, encoding="utf-8") as file:
            equal(json.load(file), printed)
        equal(os.listdir(folder), ["b.json"])
        # So much worse or better that no noise hides it.
        done = run(*quick, "--compare", with_shares(path, 100))
        equal((done.returncode, done.stderr), (1, ""))
        check("3 of 3 cases are more than 10 % slower" in done.stdout, done.stdout)
        check("fewer than 3 rounds" in done.stdout, done.stdout)
        done = run(*quick, "--compare", path, "--max-slowdown", "100000")
        equal((done.returncode, done.stdout.count("SLOWER")), (0, 0))
        result = measured(*quick[:-1], "decode", "--compare", with_shares(path, 1e-4))["comparison"]
        equal((result["slower"], result["faster"], [c["verdict"] for c in result["cases"]]), (0, 2, ["faster"] * 2))
        equal((result["missing"], result["new"]), ([{"type": "F16", "case": "memory"}], []))


@suite.test
def a_baseline_of_something_else_is_refused():
    quick = ("--shape", SMALL, "--rounds", "1", "--cases", "memory")
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/b.json"
        measured(*quick, "--type", "f16", "--save", path)

        def refused(part, *args):
            done = run(*quick, "--compare", path, *args)
            equal((done.returncode, done.stdout, done.stderr.count("\n")), (1, "", 1))
            check(part in done.stderr and path in done.stderr, done.stderr)

        refused("another type of weights: F16, now Q8_0", "--type", "q8_0")
        refused("another type of KV cache: F32, now F16", "--type", "f16", "--kv-type", "f16")
        if json.load(open(path, encoding="utf-8"))["machine"]["isa"] != "scalar":
            refused("other kernels: avx2, now scalar", "--type", "f16", "--isa", "scalar")
        refused("another model: 2,2,64,64,300", "--type", "f16", "--shape", "2,2,64,64,301")
        refused("none of the cases", "--type", "f16", "--cases", "cache")
        for text in ("", "{}", "[1]", '{"format":"llorch-cpud bench 1"}', "\x1b[31m", "[" * 100000, "GGUF" * 100):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            refused("b.json", "--type", "f16")
        os.remove(path)
        refused("No such file", "--type", "f16")
        os.mkdir(path)
        refused("directory", "--type", "f16")


@suite.test
def a_baseline_that_cannot_be_written_leaves_nothing():
    with tempfile.TemporaryDirectory() as folder:
        for path in (folder + "/no/b.json", folder):
            done = run("--shape", SMALL, "--rounds", "1", "--type", "f16", "--cases", "memory", "--save", path)
            equal((done.returncode, done.stderr.count("\n")), (1, 1))
            check(path in done.stderr, done.stderr)
        equal(os.listdir(folder), [])


@suite.test
def nonsense_is_refused():
    refuses("--shape", "--shape", "gpt5")
    refuses("too short", "--shape", "2,2,64,31,300")
    refuses("divisible", "--shape", "2,3,64,64,300")
    refuses("--type", "--type", "q5")
    refuses("--kv-type", "--kv-type", "bf16")
    refuses("\"decod\"", "--cases", "memory,decod")
    refuses("--cases", "--cases", "")
    refuses("rounds", "--rounds", "0")
    refuses("rounds", "--rounds", "1001")
    refuses("--cpu", "--cpu", "100000")
    refuses("instruction set", "--shape", SMALL, "--isa", "mmx")
    refuses("--max-slowdown", "--max-slowdown", "-1")
    refuses("--max-slowdown", "--max-slowdown", "10%")
    refuses("either", "--shape", SMALL, "--model", "models/shakespeare")
    refuses("unexpected", "gpt2")
    refuses("unknown", "--colour")


@suite.test
def a_model_that_is_not_there_is_a_failure():
    done = run("--model", "no/such/model")
    equal((done.returncode, done.stdout, done.stderr.count("\n")), (1, "", 1))


@suite.test
def interrupt_ends_it_without_a_word():
    process = subprocess.Popen([BIN, "bench", "--shape", SMALL, "--rounds", "1000"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_caught(process)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    equal((process.returncode, out, error), (130, b"", b""))


@suite.test
def a_terminal_sees_the_progress():
    ours, theirs = pty.openpty()
    process = subprocess.Popen([BIN, "bench", "--shape", SMALL, "--rounds", "1000", "--cases", "step"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    seen = b""
    while b"measuring" not in seen or b"%" not in seen:
        seen += os.read(ours, 4096)  # the test's own limit ends a wait for nothing
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    os.close(ours)
    equal((process.returncode, out), (130, b""))


sys.exit(suite.run())
