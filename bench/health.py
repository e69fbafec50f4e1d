#!/usr/bin/env python3
"""How long GET /health waits while a model of a given folder computes: one poller, one request every 10 ms, on a kept
connection; during a long prompt and during decoding. One line per phase: median, p99 and longest answer in ms.

usage: bench/health.py [--bound MS] [MODEL]

  --bound MS  exit status 1 with a p99 above this during the prompt           (10)
  MODEL       any form of model                                               (build/gpt2-medium-random)

LLORCH_BIN names another program.
"""
import argparse
import http.client
import os
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "http"))
import harness  # noqa: E402

WAIT_S = 0.010


def poll(port, stop):
    """Milliseconds of each answer until stop() is true."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    times = []
    while not stop():
        begin = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        times.append((time.perf_counter() - begin) * 1000)
        time.sleep(WAIT_S)
    return times


def show(phase, times):
    """Prints a line; the 99th percentile."""
    if not times:
        raise SystemExit("health: no answer during the %s: it was too short" % phase)
    times.sort()
    p99 = times[int(len(times) * 0.99)]
    print("%-8s %5d answers   median %6.2f ms   p99 %6.2f ms   longest %6.2f ms"
          % (phase, len(times), statistics.median(times), p99, times[-1]))
    return p99


def longest_prompt(worker):
    """As many words as the context takes, less some for the answer. max_tokens is wrong on purpose: nothing is computed."""
    words = "it was the best of times, it was the worst of times, "
    for n in range(80, 2, -1):
        answer = worker.request("POST", "/execute", harness.body_of(prompt=words * n, max_tokens=0))[2]
        if b'"prompt"' not in answer:
            return words * (n - 2)
    raise SystemExit("health: the context is too short")


def main():
    parser = argparse.ArgumentParser(usage="bench/health.py [--bound MS] [MODEL]")
    parser.add_argument("--bound", type=float, default=10.0)
    parser.add_argument("model", nargs="?", default="build/gpt2-medium-random")
    given = parser.parse_args()
    harness.LIMIT = 120
    with harness.Worker("--host", "127.0.0.1", model=given.model) as worker:
        stream = worker.execute(prompt=longest_prompt(worker), max_tokens=40)
        events = []

        def read():
            while True:
                event = stream.next()
                if event is None:
                    return
                events.append(event)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        p99 = show("prompt", poll(worker.port, lambda: any(e.name == "token" for e in events)))
        show("decode", poll(worker.port, lambda: not reader.is_alive()))
        end = events[-1].data
        print("prompt of %d tokens, first token after %d ms, %d tokens"
              % (end["prompt_tokens"], end["time_to_first_token_ms"], end["tokens_out"]))
    if p99 > given.bound:
        print("health: p99 during the prompt is %.2f ms, above %g ms" % (p99, given.bound), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
