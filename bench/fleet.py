#!/usr/bin/env python3
"""How much N workers behind HAProxy do, next to one worker alone: requests and tokens a second, and what a client waits.

usage: bench/fleet.py [--rounds N] [--requests N] [--clients N] [--tokens N] [--model PATH] [WORKERS...]

  --rounds N     all are measured so often, by turns; the medians are shown   (3)
  --requests N   each time                                                    (24)
  --clients N    ask at the same time, each again when it was answered        (8)
  --tokens N     that each request asks for                                   (32)
  --model PATH   any form of model    (build/gpt2-random: make build/make-model, then
                 build/make-model --shape gpt2 --dtype f16 --out build/gpt2-random)
  WORKERS...     sizes of the fleet                                           (1 2)

Prompts of 20 words, all different, so that no cache helps. LLORCH_BIN names another program.
"""
import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "http"))
import harness  # noqa: E402

HEAD = "%-12s %10s %10s %18s %18s %18s" % ("", "requests/s", "tokens/s", "first token, s", "whole answer, s", "gap of tokens, ms")


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


class Load:
    """Clients in threads; each request leaves (wait for the first token, for the end, median gap)."""

    def __init__(self, given, port, salt):
        self.given, self.port, self.salt = given, port, salt
        self.left = list(range(given.requests))
        self.results, self.errors = [], []
        self.lock = threading.Lock()

    def ask(self, i):
        words = " ".join("%d" % ((self.salt * 7919 + i * 104729 + k * 31) % 997) for k in range(20))
        body = harness.body_of(prompt=words, max_tokens=self.given.tokens, seed=i)
        stream = harness.Stream(self.port, body, {"Connection": "close"})
        events = stream.collect(300)
        times = [e.at for e in events if e.name == "token"]
        harness.equal(events[-1].name, "end")
        gaps = [b - a for a, b in zip(times, times[1:])]
        return times[0] - stream.sent_at, events[-1].at - stream.sent_at, statistics.median(gaps), len(times)

    def client(self):
        while True:
            with self.lock:
                if not self.left:
                    return
                i = self.left.pop()
            try:
                result = self.ask(i)
            except (AssertionError, OSError) as error:
                self.errors.append(error)
                return
            with self.lock:
                self.results.append(result)

    def run(self):
        threads = [threading.Thread(target=self.client) for _ in range(self.given.clients)]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - begin
        if self.errors:
            raise SystemExit("fleet.py: %s" % self.errors[0])
        first, whole, gaps, tokens = zip(*self.results)
        return [len(first) / seconds, sum(tokens) / seconds, statistics.median(first), percentile(first, 0.95),
                statistics.median(whole), percentile(whole, 0.95), 1000 * statistics.median(gaps), 1000 * percentile(gaps, 0.95)]


def measure_alone(given, model, salt):
    with harness.Worker("--queue", "1024", "--log-level", "info", model=model) as worker:
        worker.run(prompt="the", max_tokens=2)
        return Load(given, worker.port, salt).run()


def measure_fleet(given, model, n, salt):
    port = harness.free_port()
    command = [os.path.join(harness.ROOT, "scripts", "fleet"), str(n), "--program", harness.BIN, "--model", model, "--port", str(port)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        for line in process.stdout:
            if line.startswith(b"Ctrl-C"):
                break
        return Load(given, port, salt).run()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def show(name, rounds):
    m = [statistics.median(column) for column in zip(*rounds)]
    print("%-12s %10.2f %10.1f %8.2f (%6.2f) %8.2f (%6.2f) %8.1f (%6.1f)" % ((name,) + tuple(m)), flush=True)


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--model", default="build/gpt2-random")
    parser.add_argument("workers", type=int, nargs="*", default=[1, 2])
    given = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, "model.packed")  # once for all, and in the page cache
        subprocess.run([harness.BIN, "pack", "--model", given.model, "--out", model], check=True, stdout=subprocess.DEVNULL)
        for i in range(given.rounds):
            results.setdefault("1 alone", []).append(measure_alone(given, model, i))
            for n in given.workers:
                results.setdefault("fleet of %d" % n, []).append(measure_fleet(given, model, n, i))
    print("%d requests of %d tokens from %d clients; median of %d rounds, in brackets the 95th percentile\n%s"
          % (given.requests, given.tokens, given.clients, given.rounds, HEAD))
    for name, rounds in results.items():
        show(name, rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
