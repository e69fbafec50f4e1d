#!/usr/bin/env python3
"""What the marks of the profile cost: while nobody looks (off), and while profile does (on).

usage: bench/profile_cost.py [--without BIN] [--pairs N] [--model PATH] [--cpu N]

on   300 pairs of runs with and without the profile, in turns, in one process: llorch-cpud profile --cost. Median of their
     ratios of the middle token's latency; bound 1.03.
off  needs --without BIN: the program built from a commit without marks. Instructions of all passes of a prompt and 64
     tokens, counted by valgrind --tool=callgrind, and N pairs (60) of runs of the two programs in turns: median of the ratios of
     the time to decode. Bound of the instructions' ratio: 1.005; that of the times is told, and too noisy for a bound.

LLORCH_BIN: the program, build/llorch-cpud. Exit status 1 when a bound is exceeded.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys

BIN = os.environ.get("LLORCH_BIN", "build/llorch-cpud")
PROMPT = "ROMEO: But soft, what light through yonder window breaks?"
ON_BOUND, OFF_BOUND = 1.03, 1.005
ON_PAIRS = 300  # of some 10 ms each


def output(command):
    done = subprocess.run(command, capture_output=True, check=False, encoding="utf-8")
    if done.returncode:
        sys.exit("%s: status %d: %s" % (command[0], done.returncode, done.stderr.strip()))
    return done


def cost_on(args):
    command = [BIN, "profile", "--model", args.model, "--prompt", PROMPT, "--cost", str(ON_PAIRS), "--json"]
    cost = json.loads(output(command + (["--cpu", str(args.cpu)] if args.cpu is not None else [])).stdout)["cost"]
    print("on   time of a token           %.4f (median of %d pairs, %.4f to %.4f; bound %.3f)" %
          (cost["ratio"], cost["pairs"], cost["least"], cost["most"], ON_BOUND))
    return cost["ratio"] <= ON_BOUND


def generate(program, args, tokens):
    command = [program, "generate", "--model", args.model, "--prompt", PROMPT, "--max-tokens", str(tokens),
               "--temperature", "0", "--json"]
    return command + (["--cpu", str(args.cpu)] if args.cpu is not None else [])


def instructions(program, args):
    """Of gpt2_forward and all that it calls."""
    done = output(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=gpt2_forward"] +
                  generate(program, args, 64))
    return int(re.search(r"Collected : (\d+)", done.stderr).group(1))


def cost_off(args):
    with_marks, without = instructions(BIN, args), instructions(args.without, args)
    ratio = with_marks / without
    print("off  instructions of the passes %.6f (%d and %d; bound %.3f)" % (ratio, with_marks, without, OFF_BOUND))
    ratios = []
    for i in range(args.pairs):
        ms = {}
        for program in ((BIN, args.without), (args.without, BIN))[i % 2]:
            ms[program] = json.loads(output(generate(program, args, 200)).stdout)["timings"]["decode_ms"]
        ratios.append(ms[BIN] / ms[args.without])
    print("off  time of 200 tokens        %.4f (median of %d pairs, %.4f to %.4f)" %
          (statistics.median(ratios), args.pairs, min(ratios), max(ratios)))
    return ratio <= OFF_BOUND


def main():
    parser = argparse.ArgumentParser(description="What the marks of the profile cost.")
    parser.add_argument("--without", metavar="BIN")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--model", default="models/shakespeare")
    parser.add_argument("--cpu", type=int)
    args = parser.parse_args()
    good = cost_on(args)
    if args.without:
        good = cost_off(args) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
