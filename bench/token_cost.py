#!/usr/bin/env python3
"""What a served token costs: CPU time per token of a worker, by API, next to that of an earlier program if one is given. All take turns
with the same request on one processor.

usage: bench/token_cost.py [--before PROGRAM] [--pairs N] [--tokens N] [--cpu N] [MODEL]

  --before PROGRAM  an earlier llorch-cpud; the ratios are to its /execute         (none: to this one's)
  --pairs N         rounds                                                           (30)
  --tokens N        of each answer                                                   (200)
  --cpu N           the processor of all; not its speed but its time is measured     (the last allowed one)
  MODEL             (models/shakespeare)

LLORCH_BIN names another program than build/release's.
"""
import argparse
import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "http"))
import harness  # noqa: E402

PROMPT = "Once upon a time"


def cost(worker, path, body, n_tokens):
    before = harness.scheduled_ns(worker.pid)
    status, _, answer = worker.request("POST", path, body, timeout=600)
    if status != 200:
        raise SystemExit("token_cost: %s: status %d: %s" % (path, status, answer.decode()))
    return (harness.scheduled_ns(worker.pid) - before) / 1e3 / n_tokens


def start(program, model, cpu):
    harness.BIN = program
    return harness.Worker("--cpu", str(cpu), model=model)


def main():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--before")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("model", nargs="?", default=harness.SHAKESPEARE)
    if "--help" in sys.argv[1:] or "-h" in sys.argv[1:]:
        print(__doc__.strip())
        return
    o = parser.parse_args()
    now = start(harness.BIN, o.model, o.cpu)
    fields = {"prompt": PROMPT, "max_tokens": o.tokens, "temperature": 0.8, "seed": 1}
    rows = [("/execute", now, "/execute", dict(fields, job_id="a")),
            ("/v1/completions, streamed", now, "/v1/completions", dict(fields, stream=True)),
            ("/v1/completions, whole", now, "/v1/completions", fields),
            ("/v1/completions, logprobs 5", now, "/v1/completions", dict(fields, stream=True, logprobs=5))]
    if o.before:
        rows.insert(0, ("/execute, before", start(os.path.abspath(o.before), o.model, o.cpu), "/execute", dict(fields, job_id="a")))
    costs = [[] for _ in rows]
    for round_number in range(o.pairs + 1):
        for i, (_, worker, path, body) in enumerate(rows):
            us = cost(worker, path, body, o.tokens)
            if round_number > 0:  # the first one meets cold caches
                costs[i].append(us)
    print("%-28s %10s %10s  %s" % ("CPU time of a token, us", "median", "least", "ratio to the first row: median [least..most]"))
    for (name, *_), row in zip(rows, costs):
        ratios = sorted(a / b for a, b in zip(row, costs[0]))
        print("%-28s %10.1f %10.1f  %.3f [%.3f..%.3f]" % (name, statistics.median(row), min(row), statistics.median(ratios), ratios[0], ratios[-1]))
    for worker in {id(w): w for _, w, *_ in rows}.values():
        worker.stop()


main()
