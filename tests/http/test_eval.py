#!/usr/bin/env python3
"""The sub-command eval: perplexity against the recorded logits and the shipped model's card, divergence between types, its
table, its refusals.

usage: tests/http/test_eval.py [CASE...]      (LLORCH_TEST_QUICK: without the long texts)
"""
# Runs beside others: nothing here measures time.
import json
import math
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time

from harness import BIN, ROOT, SHAKESPEARE, SLOW, TINY, Skip, Suite, check, clean_environment, equal, run_program
from reference import Logits, nats

suite = Suite()
LIMIT = 120 * SLOW
SPEECH = os.path.join(ROOT, "tests", "data", "hamlet.txt")
CORPUS = os.path.join(ROOT, "..", "shared", "data", "tinyshakespeare.txt")
SHARE = 0.95  # of the corpus, seen in training
QUICK = "LLORCH_TEST_QUICK" in os.environ
CUT = ["--limit", "150" if QUICK else "600"]
SHORT = ["--limit", "60" if QUICK else "200"]


def evaluate(*args, model=SHAKESPEARE, data=b"", text=SPEECH):
    status, out, error = run_program("eval", "--model", model, "--text", text, *args, limit=LIMIT, data=data)
    equal((status, error), (0, ""))
    return out


def evaluate_json(*args, **more):
    out = evaluate("--json", *args, **more)
    equal(out.count("\n"), 1)
    return json.loads(out)


def refuses(wanted_status, part, *args, model=SHAKESPEARE, data=b""):
    status, out, error = run_program("eval", "--model", model, *args, limit=LIMIT, data=data)
    equal((status, out, error.count("\n")), (wanted_status, "", 1))
    check(part in error, "%r is not in %r" % (part, error))


@suite.case("the likelihood of a prompt is that of the reference logits")
def reference():
    logits = Logits(SHAKESPEARE)
    want = nats(logits.rows, logits.ids)
    got = evaluate_json(text="-", data=logits.prompt.encode())
    equal((got["tokens"], got["windows"]), (len(logits.ids) - 1, 1))
    check(abs(got["model"]["nats_per_token"] - want) < 1e-5, "%r, expected %r" % (got["model"], want))
    check(abs(got["model"]["perplexity"] - math.exp(want)) < 1e-5 * math.exp(want))
    bits = got["model"]["nats_per_token"] * got["tokens"] / math.log(2) / got["bytes"]
    check(abs(got["model"]["bits_per_byte"] - bits) < 1e-12)
    equal(got["model"]["nats_per_token_error"], None)


@suite.case("the held-out part of the corpus costs what the shipped model's card says")
def card():
    if not os.path.exists(CORPUS):
        raise Skip("no ../shared")
    if QUICK:
        raise Skip("slow")
    with open(CORPUS, "rb") as file:
        text = file.read()
    got = evaluate_json("--stride", "256", "--limit", str(96 * 256 + 1), text="-", data=text[int(len(text) * SHARE):])
    equal((got["windows"], got["tokens"], got["context"]), (96, 96 * 256, 256))
    # 3.5695 nats and 2.281 bits, computed in float64.
    check(abs(got["model"]["nats_per_token"] - 3.5695) < 1e-4, got)
    check(abs(got["model"]["bits_per_byte"] - 2.281) < 1e-3, got)


@suite.case("windows and their stride")
def windows():
    whole = evaluate_json(*CUT)
    equal((whole["context"], whole["stride"]), (256, 128))
    n = whole["tokens"]
    for context, stride in ((64, 32), (64, 64), (33, 17)):
        # 17: half of 33, rounded up, when no stride is given
        got = evaluate_json("--context", str(context), *(["--stride", str(stride)] if stride != 17 else []), *CUT)
        equal((got["context"], got["stride"], got["tokens"]), (context, stride, n))
        equal(got["windows"], 1 + math.ceil((n - context) / stride))
        check(got["model"]["nats_per_token_error"] > 0)
    # Tokens with four before them are easier than those with one to four.
    whole, fine = (evaluate_json("--context", "4", "--stride", stride, *CUT) for stride in "41")
    equal((whole["windows"], fine["windows"]), (math.ceil(n / 4), n - 3))
    check(fine["model"]["nats_per_token"] < whole["model"]["nats_per_token"] - 0.1)


@suite.case("--bos has the first token predicted too, --limit cuts the text")
def cuts():
    all_tokens, front = evaluate_json("--stride", "256"), evaluate_json("--stride", "256", "--bos")
    equal(front["tokens"], all_tokens["tokens"] + 1)
    equal(front["bytes"], os.path.getsize(SPEECH))
    check(0 < front["bytes"] - all_tokens["bytes"] < 10)
    equal((front["bos"], all_tokens["bos"]), (True, False))
    equal(evaluate_json("--limit", "100")["tokens"], 99)
    equal(evaluate_json("--limit", "100", "--bos")["tokens"], 100)
    equal(evaluate_json("--limit", "1", "--bos")["tokens"], 1)
    with open(SPEECH, "rb") as file:
        piped = evaluate_json("--stride", "256", text="-", data=file.read())
    equal(piped["model"], all_tokens["model"])


@suite.case("every instruction set gives the same figures")
def instruction_sets():
    want = evaluate_json("--limit", "100")
    got = evaluate_json("--limit", "100", "--isa", "scalar")
    equal(got["isa"], "scalar")
    equal(got["model"], want["model"])


@suite.case("a model is not at all apart from itself")
def itself():
    got = evaluate_json("--against", SHAKESPEARE, "--limit", "100", "--context", "64")
    other = got["against"]
    equal(other, got["model"])
    equal(set(got["kl"].values()), {"nats", 0})
    equal((got["perplexity_ratio"], got["loss"], got["same_top"], got["largest_logit_difference"]), (1, 0, 99, 0))


@suite.case("fewer bits cost more")
def price():
    losses = []
    for name in ("f32", "bf16", "q8_0", "q4_0"):
        got = evaluate_json("--against-type", name, *CUT)
        kl = got["kl"]
        check(0 <= kl["p50"] <= kl["p99"] <= kl["max"] and kl["mean"] <= kl["max"], got)
        check(abs(math.log(got["perplexity_ratio"]) - got["loss"]) < 1e-12)
        check(abs(got["against"]["nats_per_token"] - got["model"]["nats_per_token"] - got["loss"]) < 1e-12)
        check(abs(got["same_top_share"] - got["same_top"] / got["tokens"]) < 1e-12)
        losses.append(kl["mean"])
    check(losses[0] == 0, "F16 weights lose nothing as F32")
    check(0 < losses[1] < losses[3] and 0 < losses[2] < losses[3], losses)
    check(losses[3] < 0.1, losses)


@suite.case("a type is one of the model's or the other one's")
def types():
    one = evaluate_json("--type", "q8_0", *SHORT)
    two = evaluate_json("--against-type", "q8_0", *SHORT)
    equal((one["model"]["types"], two["model"]["types"], two["against"]["types"]), ("Q8_0", "F16", "Q8_0"))
    equal(one["model"], two["against"])
    both = evaluate_json("--type", "q8_0", "--against", SHAKESPEARE, *SHORT)
    equal((both["model"], both["against"]), (two["against"], two["model"]))
    check(both["loss"] == -two["loss"] and both["kl"]["mean"] != two["kl"]["mean"])
    f16 = evaluate_json("--kv-type", "f16", *SHORT)
    equal(f16["kv_type"], "F16")
    check(0 < abs(f16["model"]["nats_per_token"] - two["model"]["nats_per_token"]) < 1e-3)


@suite.case("the table says the same")
def table():
    got = evaluate_json("--against-type", "q4_0", "--context", "64", *CUT)
    out = evaluate("--against-type", "q4_0", "--context", "64", *CUT)
    for part in ("%d tokens predicted, %d bytes" % (got["tokens"], got["bytes"]),
                 "%d of at most 64 inputs, stride 32: every token once, with 33 or more" % got["windows"],
                 "shakespeare F16", "shakespeare Q8_0+Q4_0", "%.4f" % got["model"]["perplexity"],
                 "%.5f" % got["model"]["nats_per_token"], "%.5f" % got["model"]["nats_per_token_error"],
                 "%.5f" % got["model"]["bits_per_byte"], "%.4f" % got["against"]["perplexity"],
                 "%.6f (%+.3f %%)" % (got["perplexity_ratio"], 100 * (got["perplexity_ratio"] - 1)),
                 "%.6g +- %.2g nats/token" % (got["kl"]["mean"], got["kl"]["mean_error"]),
                 "median %.3g, p99 %.3g, largest %.3g" % (got["kl"]["p50"], got["kl"]["p99"], got["kl"]["max"]),
                 "%.3f %% (%d of %d tokens)" % (100 * got["same_top_share"], got["same_top"], got["tokens"]),
                 "%.6g" % got["largest_logit_difference"]):
        check(part in out, "%r is not in\n%s" % (part, out))
    check("\x1b" not in out, "colour without a terminal")


@suite.case("wrong usage")
def usage():
    refuses(2, "--text is missing")
    refuses(2, "stride must be at least 1", "--text", SPEECH, "--stride", "0")
    refuses(2, "stride of 257 tokens", "--text", SPEECH, "--stride", "257")
    refuses(2, "stride of 17 tokens", "--text", SPEECH, "--stride", "17", "--context", "16")
    refuses(2, "context of 257 positions", "--text", SPEECH, "--context", "257")
    refuses(2, "limit", "--text", SPEECH, "--limit", "many")
    refuses(2, "--type", "--text", SPEECH, "--against-type", "q5")
    refuses(2, "--kv-type", "--text", SPEECH, "--kv-type", "q8_0")
    refuses(2, "unexpected", "--text", SPEECH, "more")
    refuses(2, "unknown", "--text", SPEECH, "--html", "x")


@suite.case("a text or a model that cannot be evaluated is a failure")
def failures():
    with tempfile.TemporaryDirectory() as folder:
        empty = os.path.join(folder, "empty")
        with open(empty, "wb"):
            pass
        refuses(1, empty, "--text", empty)
        refuses(1, folder, "--text", folder)
    refuses(1, "no/such/text", "--text", "no/such/text")
    refuses(1, "empty", "--text", "-")
    refuses(1, "at least 2", "--text", "-", data=b"a")
    refuses(1, "at least 2", "--text", SPEECH, "--limit", "1")
    refuses(1, "no/such/model", "--text", SPEECH, model="no/such/model")
    refuses(1, "no/such/model", "--text", SPEECH, "--against", "no/such/model")
    refuses(1, "has 1024 tokens", "--text", SPEECH, "--against", TINY)


@suite.case("a file of any bytes is a text")
def any_bytes():
    got = evaluate_json("--bos", text="-", data=bytes(range(256)))
    equal(got["bytes"], 256)
    check(math.isfinite(got["model"]["nats_per_token"]))


@suite.case("a terminal sees the progress, and Ctrl-C ends it without a word")
def interrupt():
    ours, theirs = pty.openpty()
    process = subprocess.Popen([BIN, "eval", "--model", SHAKESPEARE, "--text", "-", "--stride", "1"], cwd=ROOT,
                               env=clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    with open(SPEECH, "rb") as file:
        process.stdin.write(file.read() * 50)
    process.stdin.close()
    seen = b""
    while b"evaluating" not in seen or b"%" not in seen:
        seen += os.read(ours, 4096)  # the test's own limit ends a wait for nothing
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    equal(process.wait(LIMIT), 130)
    check(time.monotonic() - sent < 2 * SLOW, "it took too long to end")
    equal(process.stdout.read(), b"")
    process.stdout.close()
    os.close(ours)


if __name__ == "__main__":
    sys.exit(suite.run())
