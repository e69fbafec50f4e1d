#!/usr/bin/env python3
"""The sub-command explain: its figures against the recorded reference, its tokens against generate's, its table, its
refusals.

usage: tests/http/test_explain.py [CASE...]
"""
# Runs beside others: nothing here measures time.
import json
import math
import os
import pty
import signal
import subprocess
import sys

from harness import BIN, ROOT, SHAKESPEARE, SLOW, TINY, Suite, check, clean_environment, equal, run_program, wait_caught
from reference import Logits, entropy_bits, order, probabilities

suite = Suite()
LIMIT = 60 * SLOW


def explain(*args, model=SHAKESPEARE, env=None, data=b""):
    status, out, error = run_program("explain", "--model", model, *args, env=env, limit=LIMIT, data=data)
    equal((status, error), (0, ""))
    return out


def explain_json(*args, **more):
    out = explain("--json", *args, **more)
    equal(out.count("\n"), 1)
    return json.loads(out)


def refuses(wanted_status, part, *args, model=SHAKESPEARE, data=b""):
    status, out, error = run_program("explain", "--model", model, *args, limit=LIMIT, data=data)
    equal((status, out, error.count("\n")), (wanted_status, "", 1))
    check(part in error, "%r is not in %r" % (part, error))


def recorded():
    with open(os.path.join(SHAKESPEARE, "reference", "checkpoint_12.json"), encoding="utf-8") as file:
        return json.load(file)


@suite.case("greedy tokens and text are the recorded ones")
def greedy():
    want = recorded()
    got = explain_json("--prompt", want["prompt"], "--max-tokens", str(want["max_tokens"]))
    equal(got["prompt_ids"], want["prompt_ids"])
    equal([row["id"] for row in got["tokens"]], want["ids"])
    equal(got["text"], want["text"])
    equal([row["position"] for row in got["tokens"]],
          list(range(len(want["prompt_ids"]), len(want["prompt_ids"]) + len(want["ids"]))))
    check(all(row["rank"] == 1 and row["drawn"] == 1 and row["best"][0]["id"] == row["id"] for row in got["tokens"]))
    equal(got["stop_reason"], "MAX_TOKENS")
    by_ids = explain_json("--prompt-ids", ",".join(map(str, want["prompt_ids"])), "--tokens", "40")
    equal(by_ids, got)
    equal(explain_json("--prompt", "-", "--tokens", "40", data=want["prompt"].encode()), got)


@suite.case("drawn tokens are those of generate with the same seed")
def drawn():
    options = ["--prompt", "ROMEO:", "--temperature", "0.9", "--top-k", "50", "--top-p", "0.95", "--min-p", "0.01",
               "--repetition-penalty", "1.1", "--seed", "7", "--max-tokens", "30"]
    status, out, _ = run_program("generate", "--model", SHAKESPEARE, "--json", *options, limit=LIMIT)
    equal(status, 0)
    want, got = json.loads(out), explain_json(*options)
    equal([row["id"] for row in got["tokens"]], want["ids"])
    equal(got["text"], want["text"])
    check(any(row["rank"] > 1 for row in got["tokens"]) and all(row["rank"] <= 50 for row in got["tokens"]))
    check(all(0 < row["drawn"] <= 1 and row["drawn"] != row["probability"] for row in got["tokens"]))


@suite.case("the prompt's figures are those of the reference logits")
def prompt_tokens():
    logits = Logits(SHAKESPEARE)
    rows = explain_json("--prompt", logits.prompt, "--prompt-tokens", "--tokens", "1", "--top", "7")["prompt_tokens"]
    equal([row["id"] for row in rows], logits.ids[1:])
    for row, wanted in zip(rows, logits.rows):
        p, ranked = probabilities(wanted), order(wanted)
        equal(row["rank"], ranked.index(row["id"]) + 1)
        equal([best["id"] for best in row["best"]], ranked[:7])
        for got, want in [(row["probability"], p[row["id"]]), (row["entropy_bits"], entropy_bits(p)),
                          (row["surprise_bits"], -math.log2(p[row["id"]]))] + \
                         [(best["probability"], p[best["id"]]) for best in row["best"]]:
            check(abs(got - want) <= 1e-4 * max(abs(want), 1e-3), "%r, expected %r" % (got, want))
        check("drawn" not in row)


@suite.case("the table says the same")
def table():
    options = ["--prompt", "ROMEO:", "--tokens", "6"]
    rows = explain_json(*options)["tokens"]
    lines = explain(*options, env={"COLUMNS": "200"}).splitlines()
    equal(lines[0], "generated after 2 tokens of prompt")
    equal(lines[1].split(), ["#", "token", "p", "rank", "entropy", "1", "2", "3", "4", "5"])
    for row, line in zip(rows, lines[2:8]):
        check(line.startswith("%d  %s" % (row["position"], json.dumps(row["text"]))), line)
        check("  %.1f%%  " % (100 * row["probability"]) in line and "  %.2f  " % row["entropy_bits"] in line, line)
        for best in row["best"]:
            check(json.dumps(best["text"]) in line, "%r is not in %r" % (best["text"], line))
    mean = sum(row["surprise_bits"] for row in rows) / len(rows)
    check("generated: 6 tokens, mean surprise %.2f bits" % mean in "\n".join(lines[8:]), lines)
    check("temperature 1" in lines[-1], lines[-1])


@suite.case("a table is as wide as the terminal allows")
def narrow():
    for width in (60, 80, 120):
        lines = explain("--prompt", "ROMEO:", "--tokens", "4", "--top", "12", "--prompt-tokens", "--temperature", "1",
                        env={"COLUMNS": str(width)}).splitlines()
        table_lines = [line for line in lines if "%" in line]
        check(max(map(len, table_lines)) <= width, table_lines)
        # 5 rows, 12 candidates each, and p (twice where it was drawn)
        equal(sum(line.count("%") for line in table_lines), 5 * 12 + 1 + 4 * 2)


@suite.case("quotes, backslashes and bytes that are no character are visible")
def escapes():
    ids = explain_json("--prompt", "say \"\\\n\t\u00e9", "--prompt-tokens", "--tokens", "1")["prompt_ids"]
    check(len(ids) > 6)
    out = explain("--prompt", "say \"\\\n\t\u00e9\x1b[31m", "--prompt-tokens", "--tokens", "1")
    for shown in (r'"\""', r'"\\"', r'"\n"', r'"\t"', r'"\xc3"', r'"\xa9"', r'"\x1b"'):
        check("  %s  " % shown in out, "%s is not in\n%s" % (shown, out))
    check("\x1b" not in out and "\t" not in out, "a control character went to the terminal")


@suite.case("a terminal gets colour, unless NO_COLOR says otherwise")
def colour():
    for extra, wanted in (({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False)):
        ours, theirs = pty.openpty()
        process = subprocess.Popen([BIN, "explain", "--model", SHAKESPEARE, "--prompt", "ROMEO:", "--tokens", "2"], cwd=ROOT,
                                   env=clean_environment(extra), stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
        os.close(theirs)
        seen = b""
        try:
            while piece := os.read(ours, 4096):
                seen += piece
        except OSError:  # the other end was closed
            pass
        equal(process.wait(LIMIT), 0)
        os.close(ours)
        check(b"generated" in seen)
        equal(b"\x1b[" in seen, wanted)


@suite.case("other types and instruction sets")
def variants():
    options = ["--prompt", "ROMEO:", "--tokens", "5"]
    want = explain_json(*options)
    equal(explain_json(*options, "--isa", "scalar"), want)
    small = explain_json(*options, "--type", "q8_0", "--kv-type", "f16")
    equal(small["types"], "Q8_0")
    off = [abs(a["probability"] - b["probability"]) for a, b in zip(small["tokens"], want["tokens"])]
    check(0 < max(off) < 0.05, off)


@suite.case("wrong usage")
def usage():
    refuses(2, "either --prompt or --prompt-ids")
    refuses(2, "either --prompt or --prompt-ids", "--prompt", "x", "--prompt-ids", "1")
    refuses(2, "must not be empty", "--prompt", "")
    refuses(2, "must not be empty", "--prompt", "-")
    refuses(2, "tokens must be at least 1", "--prompt", "x", "--tokens", "0")
    refuses(2, "top must be at most 50", "--prompt", "x", "--top", "51")
    refuses(2, "top must be at least 1", "--prompt", "x", "--top", "0")
    refuses(2, "temperature", "--prompt", "x", "--temperature", "3")
    refuses(2, "not a token id", "--prompt-ids", "1,1024")
    refuses(2, "at most 256 tokens", "--prompt", "x y " * 200)
    refuses(2, "--type", "--prompt", "x", "--type", "q5")
    refuses(2, "unexpected", "--prompt", "x", "more")
    refuses(2, "unknown", "--prompt", "x", "--html", "y")


@suite.case("a model that cannot be explained is a failure")
def failures():
    refuses(1, "no/such/model", "--prompt", "x", model="no/such/model")
    status, out, error = run_program("explain", "--model", TINY, "--prompt", "x", "--tokens", "1", limit=LIMIT)
    equal((status, error), (0, ""))
    check("tiny-gpt2 (F32)" in out, out)


@suite.case("Ctrl-C ends it without a word")
def interrupt():
    process = subprocess.Popen([BIN, "explain", "--model", SHAKESPEARE, "--prompt", "-"], cwd=ROOT,
                               env=clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    wait_caught(process, asleep=True)  # for its text
    process.send_signal(signal.SIGINT)
    equal(process.wait(LIMIT), 130)
    equal((process.stdout.read(), process.stderr.read()), (b"", b""))
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


if __name__ == "__main__":
    sys.exit(suite.run())
