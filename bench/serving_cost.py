#!/usr/bin/env python3
"""What serving costs: the CPU time of a prompt of about 900 tokens computed by a worker, against that of the same prompt computed
by `generate`, which serves nobody. Both have the same packed model and one processor, and take turns.

usage: bench/serving_cost.py [--pairs N] [--bound RATIO] [--cpu N] [MODEL]

  --pairs N      pairs of prompts, one of each side                                                     (30)
  --bound RATIO  exit status 1 with a median of served / not served above this                          (1.03)
  --cpu N        the processor of both; not its speed but its time is measured                          (the last allowed one)
  MODEL          a packed file   (random weights of GPT-2's shape, F16, made under build/ by build/make-model and pack)

Served: what /proc/PID/schedstat says after the job less what it said before, without the prefix cache. Not served: what the
kernel says that the process used, less its start. The start is twice a run with a prompt and an answer of one token, less a run
with an answer of two: so the one token's computing drops out. LLORCH_BIN names another program.

generate meets each page of its cache for the first time, the worker does not: below 1 % of the prompt, in serving's favour.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "http"))
import harness  # noqa: E402

FOLDER, PACKED = (os.path.join(harness.ROOT, "build", name) for name in ("gpt2-random", "gpt2-random.packed"))
PROMPT_TOKENS = 900
WORDS = "it was the best of times, it was the worst of times, "


def random_model():
    """Packed anew each time: the file must be of this program's version."""
    maker = os.path.join(harness.ROOT, "build", "make-model")
    if not os.path.exists(os.path.join(FOLDER, "model.safetensors")):
        if not os.path.exists(maker):
            raise SystemExit("serving_cost: %s is missing: make build/make-model" % maker)
        subprocess.run([maker, "--shape", "gpt2", "--dtype", "f16", "--seed", "1", "--out", FOLDER], check=True)
    subprocess.run([harness.BIN, "pack", "--model", FOLDER, "--out", PACKED], check=True, stdout=subprocess.DEVNULL)
    return PACKED


def count_tokens(model, text):
    return harness.run_program("tokenize", "--model", model, data=text.encode())[1].count(",") + 1


def long_prompt(model):
    return WORDS * round(PROMPT_TOKENS / (count_tokens(model, WORDS * 10) / 10))


def used_ns(pid):
    """CPU time of an idle process: a figure that no longer changes."""
    last = -1
    while True:
        now = harness.scheduled_ns(pid)
        if now == last:
            return now
        last = now
        time.sleep(0.1)


def served_s(worker, prompt):
    before = used_ns(worker.pid)
    events = worker.run(prompt=prompt, max_tokens=1, temperature=0)
    if events[-1].name != "end":
        raise SystemExit("serving_cost: the job failed: %s" % events[-1])
    return (used_ns(worker.pid) - before) / 1e9


def process_s(options, prompt, max_tokens):
    args = [harness.BIN, "generate", *options, "--prompt", prompt, "--max-tokens", str(max_tokens), "--temperature", "0"]
    process = subprocess.Popen(args, env=harness.clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit("serving_cost: generate failed")
    return usage.ru_utime + usage.ru_stime


def alone_s(options, prompt):
    start = 2 * process_s(options, "a", 1) - process_s(options, "a", 2)
    return process_s(options, prompt, 1) - start


def arguments():
    parser = argparse.ArgumentParser(usage="bench/serving_cost.py [--pairs N] [--bound RATIO] [--cpu N] [MODEL]")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--bound", type=float, default=1.03)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("model", nargs="?")
    given = parser.parse_args()
    if given.pairs < 1:
        parser.error("--pairs: at least one")
    return given


def main():
    given = arguments()
    model = os.path.abspath(given.model) if given.model else random_model()
    prompt = long_prompt(model)
    options = ("--model", model, "--cpu", str(given.cpu))
    harness.LIMIT = 120
    pairs = []
    with harness.Worker("--host", "127.0.0.1", "--no-prefix-cache", *options) as worker:
        served_s(worker, prompt)  # both sides find the file's pages in memory
        for i in range(given.pairs):
            sides = [lambda: served_s(worker, prompt), lambda: alone_s(options, prompt)]
            times = [sides[(i + k) % 2]() for k in (0, 1)]  # who begins changes, too
            pairs.append((times[i % 2], times[1 - i % 2]))
    ratios = [served / alone for served, alone in pairs]
    n_tokens, middle = count_tokens(model, prompt), statistics.median(ratios)
    print("prompt of %d tokens, %d pairs, tokens per second of CPU time: served %.1f, not served %.1f"
          % (n_tokens, given.pairs, *(n_tokens / statistics.median(times) for times in zip(*pairs))))
    print("served / not served: median %.4f [%.4f..%.4f]" % (middle, min(ratios), max(ratios)))
    if middle > given.bound:
        print("serving_cost: the median is above %.4f" % given.bound, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
