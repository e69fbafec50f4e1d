#!/usr/bin/env python3
"""The sub-command profile: its JSON, its tables, its page, its trace, its refusals.

usage: tests/http/test_profile.py      (LLORCH_BIN: the program, build/llorch-cpud; from the root of the repository)
"""
import html.parser
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

from harness import wait_caught

BIN = os.path.abspath(os.environ.get("LLORCH_BIN", "build/llorch-cpud"))
TINY = "tests/data/tiny-gpt2"
SHAKESPEARE = "models/shakespeare"
BLOCK = ["ln_1", "qkv", "cache", "scores", "softmax", "values", "c_proj", "add", "ln_2", "fc", "gelu", "proj"]
PARTS = ["embedding"] + BLOCK + ["ln_f", "head", "sampling", "tokenizer", "http", "yield", "other"]
LAYERS = 3  # of the tiny model; 4 heads
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def run(*args, model=TINY, command="profile"):
    env = {k: v for k, v in os.environ.items() if k not in ("LLORCH_ISA", "COLUMNS", "NO_COLOR")}
    return subprocess.run([BIN, command, "--model", model, *args], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=120, env=env, check=False, encoding="utf-8")


def done_well(*args, model=TINY):
    done = run(*args, model=model)
    check(done.returncode == 0, "status %d: %s" % (done.returncode, done.stderr))
    check(done.stderr == "", "standard error: " + done.stderr)
    return done.stdout


def measured(*args, model=TINY):
    return json.loads(done_well(*args, "--json", model=model))


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def equal(got, want):
    check(got == want, "got %r, expected %r" % (got, want))


def close(got, want, relative):
    check(abs(got - want) <= relative * abs(want), "got %r, expected %r" % (got, want))


def refuses(status, part, *args, model=TINY):
    done = run(*args, model=model)
    equal((done.returncode, done.stdout, done.stderr.count("\n")), (status, "", 1))
    check(part in done.stderr, "%r is not in %r" % (part, done.stderr))


@test
def json_has_every_part_of_both_phases():
    r = measured("--prompt", "What news?", "--tokens", "9", "--kv-type", "f16", "--isa", "scalar")
    equal(sorted(r), ["decode", "ids", "latency", "machine", "memory", "model", "probes", "prompt", "text"])
    equal(r["model"], {"name": "tiny-gpt2", "types": "F32", "kv_type": "F16", "layers": LAYERS})
    equal(r["machine"]["isa"], "scalar")
    for probe in r["probes"].values():
        check(math.isfinite(probe) and probe > 0, "probes %r" % r["probes"])
    for phase, tokens in (("prompt", None), ("decode", 8)):
        p = r[phase]
        check(tokens is None or p["tokens"] == tokens, "%r tokens" % p["tokens"])
        names = [part["part"] for part in p["parts"]]
        equal(names, [name for name in PARTS if name in names])
        equal(set(PARTS) - set(names) - {"yield"}, set())
        equal({(e["layer"], e["part"]) for e in p["layers"]}, {(l, b) for l in range(LAYERS) for b in BLOCK})


@test
def parts_sum_to_the_wall_time_and_shares_to_one():
    r = measured("--prompt", "What news?", "--tokens", "12")
    for phase in ("prompt", "decode"):
        p = r[phase]
        equal(sum(part["total_ns"] for part in p["parts"]), p["wall_ns"])
        close(sum(part["share"] for part in p["parts"]), 1.0, 1e-4)
        for part in p["parts"]:
            check(part["min_ns"] <= part["mean_ns"] <= part["max_ns"], "%r" % part)
            close(part["mean_ns"] * part["calls"], part["total_ns"], 0.05)
            of_layers = sum(e["total_ns"] for e in p["layers"] if e["part"] == part["part"])
            if part["part"] in BLOCK:
                equal(of_layers, part["total_ns"])
            if part["bytes"]:
                close(part["gb_per_s"], part["bytes"] / part["total_ns"], 1e-4)
                close(part["of_read"], part["gb_per_s"] / r["probes"]["read_gb_per_s"], 1e-4)
            else:
                equal((part["gb_per_s"], part["of_read"]), (None, None))
            if part["flop"]:
                close(part["gflop_per_s"], part["flop"] / part["total_ns"], 1e-4)
                close(part["of_fma"], part["gflop_per_s"] / r["probes"]["fma_gflop_per_s"], 1e-4)
    equal(r["prompt"]["wall_ns"], r["latency"]["first_token_ns"])
    equal(r["decode"]["wall_ns"], sum(r["latency"]["tokens_ns"]))
    close(r["decode"]["tokens_per_sec"], 11e9 / r["decode"]["wall_ns"], 1e-3)


@test
def calls_are_those_of_the_model():
    r = measured("--prompt-ids", ",".join(str(i) for i in range(20)), "--tokens", "7")
    equal(r["prompt"]["tokens"], 20)
    calls = {phase: {p["part"]: p["calls"] for p in r[phase]["parts"]} for phase in ("prompt", "decode")}
    equal(calls["prompt"]["scores"], LAYERS * 4 * 4)  # 20 queries in groups of 6
    equal(calls["prompt"]["qkv"], LAYERS)
    equal(calls["prompt"]["tokenizer"], 1)  # ids need no encoding
    equal(calls["decode"]["scores"], 6 * LAYERS * 4)
    equal(calls["decode"]["add"], 6 * LAYERS * 2)
    equal((calls["decode"]["head"], calls["decode"]["http"], calls["decode"]["sampling"]), (6, 6, 6))


@test
def tokens_are_those_of_generate():
    options = ["--temperature", "0.8", "--top-k", "40", "--top-p", "0.9", "--seed", "11"]
    r = measured("--prompt", "ROMEO:", "--tokens", "24", *options, model=SHAKESPEARE)
    want = json.loads(run("--prompt", "ROMEO:", "--max-tokens", "24", "--json", *options, model=SHAKESPEARE,
                          command="generate").stdout)
    equal((r["ids"], r["text"]), (want["ids"], want["text"]))
    equal(r["prompt"]["tokens"], len(want["prompt_ids"]))
    greedy = measured("--prompt", "ROMEO:", "--tokens", "24", "--temperature", "0", model=SHAKESPEARE)
    check(greedy["ids"] != r["ids"], "temperature 0 changes nothing")


@test
def latencies_are_summed_up_as_documented():
    r = measured("--prompt", "What news?", "--tokens", "40", "--temperature", "0")["latency"]
    values = sorted(r["tokens_ns"])
    equal(len(values), 39)
    equal((r["min_ns"], r["max_ns"]), (values[0], values[-1]))
    for percent in (50, 95, 99):
        equal(r["p%d_ns" % percent], values[math.ceil(percent * len(values) / 100) - 1])
    close(r["mean_ns"], sum(values) / len(values), 1e-4)


@test
def memory_has_every_stage_and_steady_decoding_allocates_nothing():
    m = measured("--prompt", "What news?", "--tokens", "30")["memory"]
    names = [s["stage"] for s in m["stages"]]
    equal(names[:3], ["load", "load tokenizer", "buffers"])
    equal(set(PARTS) - set(names) - {"yield", "other"}, set())
    for s in m["stages"]:
        check(s["looks"] > 0 and s["peak_bytes"] >= s["live_bytes"], "%r" % s)
        check(s["resident_bytes"] <= m["peak_resident_bytes"], "%r" % s)
    equal(m["steady_allocated_bytes"], 0)
    stages = {s["stage"]: s for s in m["stages"]}
    file_bytes = os.path.getsize(TINY + "/model.safetensors")
    check(stages["load"]["allocated_bytes"] > 0.5 * file_bytes, "%r for a file of %d" % (stages["load"], file_bytes))
    check(stages["buffers"]["allocated_bytes"] > 0, "buffers take no memory")
    for part in BLOCK + ["sampling"]:
        equal(stages[part]["allocated_bytes"], 0)


@test
def a_short_context_ends_it():
    r = measured("--prompt-ids", ",".join("5" * 60), "--tokens", "64")
    equal((r["prompt"]["tokens"], len(r["ids"]), r["decode"]["tokens"]), (60, 5, 4))
    r = measured("--prompt-ids", ",".join("5" * 64), "--tokens", "64")
    equal((len(r["ids"]), r["decode"]["tokens"], r["decode"]["parts"], r["latency"]["tokens_ns"]), (1, 0, [], []))
    check("Decoding" not in done_well("--prompt-ids", "5", "--tokens", "1"), "a table of nothing")


@test
def tables_say_the_same():
    text = done_well("--prompt", "What news?", "--tokens", "9", "--layers", "--cost", "2")
    lines = text.splitlines()
    check("\x1b" not in text, "colour in a pipe")
    for want in ("model ", "processor ", "probes ", "first token ", "decode ", "a token ", "cost ", "Decoding",
                 "Prompt, up to the first token", "Memory, in bytes"):
        check(any(line.startswith(want) for line in lines), "no %r in\n%s" % (want, text))
    for part in PARTS:
        least = 0 if part == "yield" else 2
        check(sum(line.split()[:1] == [part] for line in lines) >= least, "no %s in\n%s" % (part, text))
    for layer in range(LAYERS):
        for part in BLOCK:
            equal(sum(line.split()[:2] == [str(layer), part] for line in lines), 2)
    equal([line.split()[-1] for line in lines if line.startswith("sum")], ["%", "%"])
    for line in lines:
        if line.startswith("sum"):
            check(" 100.0 %" in line, line)
    check("after the first token: 0 bytes" in text, "no line of steady memory")
    without = done_well("--prompt", "What news?", "--tokens", "9")
    check(not any(re.match(r" *0 ln_1", line) for line in without.splitlines()), "layers that nobody asked for")
    check("cost" not in without, "a cost that nobody asked for")


@test
def the_cost_is_a_ratio_of_pairs():
    cost = measured("--prompt", "What news?", "--tokens", "9", "--cost", "5")["cost"]
    equal(cost["pairs"], 5)
    check(0 < cost["least"] <= cost["ratio"] <= cost["most"], "%r" % cost)


# ---- Trace ----

def trace_of(*args, model=TINY):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace.json")
        r = measured(*args, "--trace", path, model=model)
        equal(os.listdir(folder), ["trace.json"])
        with open(path, encoding="utf-8") as file:
            return r, json.load(file, parse_constant=lambda name: check(False, name))


def ns(microseconds):
    value = round(microseconds * 1000)
    check(abs(microseconds * 1000 - value) < 1e-3, "%r is no whole nanosecond" % microseconds)
    return value


@test
def the_trace_is_strictly_nested():
    r, trace = trace_of("--prompt", "What news on the Rialto? Who is he comes here?", "--tokens", "9")
    equal(sorted(trace), ["displayTimeUnit", "otherData", "traceEvents"])
    meta = [e for e in trace["traceEvents"] if e["ph"] == "M"]
    equal([(e["name"], sorted(e["args"])) for e in meta], [("process_name", ["name"]), ("thread_name", ["name"])])
    events = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    equal(len(meta) + len(events), len(trace["traceEvents"]))
    depth_of = {"request": 0, "pass": 1, "stage": 1, "block": 2}
    stack, last, request = [], 0, events[0]
    for e in events:
        check(set(e) == {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"}, "%r" % e)
        equal((e["pid"], e["tid"]), (meta[0]["pid"], meta[0]["tid"]))
        start, end = ns(e["ts"]), ns(e["ts"]) + ns(e["dur"])
        check(start >= last, "%r begins before the event in front of it" % e)
        last = start
        while stack and start >= stack[-1][1]:
            stack.pop()
        check(not stack or end <= stack[-1][1], "%r reaches out of its parent %r" % (e, stack[-1:]))
        parent = stack[-1][2] if stack else None
        depth = depth_of.get(e["cat"], 3 if e["args"].get("layer") is not None else 2)
        equal(len(stack), depth)
        if e["cat"] == "part":
            equal(parent, "block" if "layer" in e["args"] else "pass")
        stack.append((end, end, e["cat"]))
    equal((request["name"], ns(request["ts"])), ("request", 0))
    equal(request["args"], {"prompt_tokens": r["prompt"]["tokens"], "tokens": 9})
    equal(sum(e["cat"] == "pass" for e in events), 9)
    equal(sum(e["cat"] == "block" for e in events), 9 * LAYERS)


@test
def the_traces_durations_add_up():
    r, trace = trace_of("--prompt", "What news?", "--tokens", "9")
    events = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    sums = {}
    for e in events:
        sums[e["name"]] = sums.get(e["name"], 0) + ns(e["dur"])
    hook = sum(p["total_ns"] for phase in ("prompt", "decode") for p in r[phase]["parts"] if p["part"] == "yield")
    for part in PARTS[:-2]:
        want = sum(p["total_ns"] for phase in ("prompt", "decode") for p in r[phase]["parts"] if p["part"] == part)
        check(want <= sums[part] <= want + hook, "%s: %d in the trace, %d measured" % (part, sums[part], want))
    for i, e in enumerate(events):
        if e["cat"] != "block":
            continue
        inside = []
        while i + 1 < len(events) and events[i + 1]["cat"] == "part" and "layer" in events[i + 1]["args"]:
            i += 1
            inside.append(events[i])
        equal({p["args"]["layer"] for p in inside}, {e["args"]["layer"]})
        equal(sum(ns(p["dur"]) for p in inside), ns(e["dur"]))  # no gap in a block
        equal([p["name"] for p in inside][:3] + [p["name"] for p in inside][-7:],
              BLOCK[:3] + ["c_proj", "add", "ln_2", "fc", "gelu", "proj", "add"])


# ---- Page ----

class Page(html.parser.HTMLParser):
    """Well formed: every element that is opened is closed, in order."""
    VOID = {"meta", "br", "hr", "img", "link", "input", "col", "rect", "line", "circle", "path", "polyline", "polygon", "use"}

    def __init__(self):
        super().__init__()
        self.open, self.count, self.text, self.outside = [], {}, "", []

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.outside += [v for k, v in attrs if k in ("src", "href") and not (v or "").startswith("#")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            check(self.open and self.open[-1] == tag, "</%s> after %r" % (tag, self.open))
            self.open.pop()

    def handle_data(self, data):
        self.text += data


def page_of(*args):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "page.html")
        done_well(*args, "--html", path)
        equal(os.listdir(folder), ["page.html"])
        with open(path, encoding="utf-8") as file:
            page = Page()
            page.feed(file.read())
            page.close()
            equal((page.open, page.outside), ([], []))
            return page


@test
def the_page_is_well_formed_and_whole():
    page = page_of("--prompt", "What news?", "--tokens", "9")
    equal((page.count["figure"], page.count["table"]), (3, 4))
    for want in ("The request", "Tokens", "Decoding", "Layers", "Memory", "first token"):
        check(want in page.text, "no %r on the page" % want)
    for part in set(PARTS) - {"yield"}:
        check(part in page.text, "no %s on the page" % part)
    page = page_of("--prompt", "What news?", "--tokens", "1")
    equal((page.count["figure"], page.count["table"]), (1, 3))


@test
def long_runs_have_bars_of_several_tokens():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "page.html")
        done_well("--prompt", "O", "--tokens", "200", "--html", path, model=SHAKESPEARE)
        with open(path, encoding="utf-8") as file:
            check("means of 2 a bar" in file.read(), "199 bars")


# ---- Refusals ----

@test
def outputs_that_cannot_be_written_leave_nothing():
    with tempfile.TemporaryDirectory() as folder:
        missing = os.path.join(folder, "no", "file")
        taken = os.path.join(folder, "taken")
        os.mkdir(taken)
        for option in ("--html", "--trace"):
            refuses(1, folder, "--prompt", "x", "--tokens", "2", option, missing)
            refuses(1, taken, "--prompt", "x", "--tokens", "2", option, taken)
        equal((sorted(os.listdir(folder)), os.listdir(taken)), (["taken"], []))


@test
def nonsense_is_refused():
    refuses(2, "either")
    refuses(2, "either", "--prompt", "x", "--prompt-ids", "1")
    refuses(2, "must not be empty", "--prompt", "")
    refuses(2, "--prompt-ids", "--prompt-ids", "1,x")
    refuses(2, "outside the vocabulary", "--prompt-ids", "512")
    refuses(2, "at most 64 tokens", "--prompt-ids", ",".join("5" * 65))
    refuses(2, "tokens must be", "--prompt", "x", "--tokens", "0")
    refuses(2, "tokens must be", "--prompt", "x", "--tokens", "2049")
    refuses(2, "cost must be", "--prompt", "x", "--cost", "0")
    refuses(2, "temperature", "--prompt", "x", "--temperature", "3")
    refuses(2, "--kv-type", "--prompt", "x", "--kv-type", "bf16")
    refuses(2, "--type", "--prompt", "x", "--type", "q5")
    refuses(2, "--cpu", "--prompt", "x", "--cpu", "100000")
    refuses(2, "instruction set", "--prompt", "x", "--isa", "mmx")
    refuses(2, "unexpected", "--prompt", "x", "y")
    refuses(2, "unknown", "--prompt", "x", "--colour")
    refuses(2, "needs a value", "--prompt", "x", "--trace")
    refuses(1, "no/such/model", "--prompt", "x", model="no/such/model")


@test
def types_can_be_asked_for():
    r = measured("--prompt", "What news?", "--tokens", "3", "--type", "f16")
    equal(r["model"]["types"], "F16")
    head = [p for p in r["decode"]["parts"] if p["part"] == "head"][0]
    equal(head["bytes"], 2 * (512 * 48 * 2 + 4 * (512 + 48)))
    equal(head["flop"], 2 * 2 * 512 * 48)


@test
def a_prompt_can_come_from_standard_input():
    done = subprocess.run([BIN, "profile", "--model", TINY, "--prompt", "-", "--tokens", "3", "--json"],
                          input="What news?", capture_output=True, timeout=60, check=False, encoding="utf-8")
    equal((done.returncode, done.stderr), (0, ""))
    equal(json.loads(done.stdout)["ids"], measured("--prompt", "What news?", "--tokens", "3")["ids"])


@test
def interrupt_ends_it_without_a_word():
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([BIN, "profile", "--model", SHAKESPEARE, "--prompt", "O", "--tokens", "200", "--cost",
                                    "1000", "--html", os.path.join(folder, "page")], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_caught(process)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
        equal((process.returncode, out, error, os.listdir(folder)), (130, b"", b"", []))


def main():
    failed = 0
    print("1..%d" % len(TESTS))
    for number, function in enumerate(TESTS, 1):
        name = function.__name__.replace("_", " ")
        try:
            function()
            print("ok %d - %s" % (number, name))
        except (AssertionError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            failed += 1
            print("not ok %d - %s" % (number, name))
            print("# %s: %s" % (type(error).__name__, str(error).replace("\n", "\n# ")[:2000]))
        sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
