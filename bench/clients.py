#!/usr/bin/env python3
"""What hostile clients can do to a running job, to the probes and to the slots of a worker. One line per case: the figure, its bound
and what was seen besides; exit status 1 when a bound is broken.

usage: bench/clients.py [--rounds N] [--tokens N] [--only WORD] [MODEL]

  --rounds N   each attack is measured so often, by turns with the job alone     (3)
  --tokens N   gaps between tokens per measurement                               (30)
  --only WORD  cases with this word in their name
  MODEL        any form of model     (build/gpt2-medium-random, packed for quick starts)

  gap       the median time between two tokens under attack, in times of the one alone (the median of the rounds): 1.3
  cpu       the worker's processor time per token in the same way, which a busy machine does not change
  /health   99th percentile of one poller, every 10 ms on a kept connection: 10 ms, and 50 ms under attack
  slot      the longest time from a client's leaving to the start of the next job, or to the acceptance of one: 100 ms
  level     private memory within 1 MiB and descriptors as before, within 5 s after the attack

The attackers (tests/http/attack.py) need a processor beside the worker's. LLORCH_BIN names another program.
"""
import argparse
import http.client
import os
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "http"))
import attack  # noqa: E402
import harness  # noqa: E402

GAP, ALONE_MS, FLOOD_MS, SLOT_MS, LEVEL_KIB = 1.3, 10, 50, 100, 1024
POLL_S = 0.010
SETTLE_S = 5
ATTACKS = [("ten thousand connections that say nothing", "idle", 10000), ("a thousand that send a byte a second", "drip", 1000),
           ("a flood of /health on 8 connections", "health", 8), ("a flood of /health on 64 connections", "health", 64),
           ("64 requests on the way on each of 8", "pipeline", 8), ("a connection for each request", "churn", 8),
           ("a flood of bad requests", "bad", 8), ("a flood of bodies of 2 MiB", "big", 4),
           ("32 that ask and never read", "deaf", 32), ("jobs that leave while they wait", "leave", 8)]
WORDS = "it was the best of times, it was the worst of times, "


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


class Poller(threading.Thread):
    """Milliseconds of each answer to GET /health."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.done = threading.Event()
        self.times = []

    def run(self):
        while not self.done.is_set():
            begin = time.perf_counter()
            try:
                self.connection.request("GET", "/health")
                self.connection.getresponse().read()
            except (OSError, http.client.HTTPException):  # closed: it is opened again, and the time counts
                self.connection.close()
                continue
            self.times.append((time.perf_counter() - begin) * 1000)
            time.sleep(POLL_S)

    def stop(self):
        self.done.set()
        self.join()
        self.connection.close()
        return self.times


class Measured:
    def __init__(self, gaps, cpu, polls):
        self.gaps, self.cpu, self.polls = gaps, cpu, polls


class Bench:
    def __init__(self, given, worker):
        self.given, self.worker = given, worker
        self.broken = 0

    def cpu_ms(self):
        return harness.scheduled_ns(self.worker.pid) / 1e6

    def report(self, name, text, good):
        self.broken += not good
        print("%-44s %s%s" % (name, text, "" if good else "   BROKEN"), flush=True)

    def measure(self):
        """A job's gaps, and the probes meanwhile."""
        stream = self.worker.execute(prompt="the", max_tokens=self.given.tokens + 4, seed=1)
        for _ in range(3):
            stream.next_named("token", 60)
        poller = Poller(self.worker.port)
        poller.start()
        before, times = self.cpu_ms(), [stream.next_named("token", 60).at]
        for _ in range(self.given.tokens):
            times.append(stream.next_named("token", 60).at)
        cpu = (self.cpu_ms() - before) / self.given.tokens
        polls = poller.stop()
        stream.close()
        self.worker.wait_state("ready")
        return Measured([(b - a) * 1000 for a, b in zip(times, times[1:])], cpu, polls)

    def settle(self, before):
        """What is left of an attack: (descriptors, KiB) more than before."""
        end = time.monotonic() + SETTLE_S
        while True:
            now = harness.level(self.worker.pid)
            if (now[0] <= before[0] and now[1] <= before[1] + LEVEL_KIB) or time.monotonic() > end:
                return now[0] - before[0], now[1] - before[1]
            time.sleep(0.05)

    def attacked(self, kind, count):
        with attack.Attacker(self.worker.port, kind, count) as attacker:
            time.sleep(0.5)
            measured = self.measure()
            return measured, attacker.stop()

    def attack(self, name, kind, count):
        self.attacked(kind, count)  # buffers grow to what they need
        time.sleep(1)
        before, pairs = harness.level(self.worker.pid), []
        for _ in range(self.given.rounds):
            alone = self.measure()
            pairs.append((alone, *self.attacked(kind, count)))
        files, kib = self.settle(before)
        gap = statistics.median(statistics.median(a.gaps) / statistics.median(b.gaps) for b, a, _ in pairs)
        p99 = statistics.median(percentile(a.gaps, 0.99) / percentile(b.gaps, 0.99) for b, a, _ in pairs)
        cpu = statistics.median(a.cpu / b.cpu for b, a, _ in pairs)
        probe = statistics.median(percentile(a.polls, 0.99) for _, a, _ in pairs)
        counts = {key: sum(c[key] for _, _, c in pairs) for key in pairs[0][2]}
        self.report(name, "gap %.2f (p99 %.2f, cpu %.2f; %.1f)  /health %5.1f ms (%d)  level %+d, %+d KiB  %s" % (
            gap, p99, cpu, GAP, probe, FLOOD_MS, files, kib, " ".join("%s %d" % item for item in counts.items())),
                    gap <= GAP and probe <= FLOOD_MS and files <= 0 and kib <= LEVEL_KIB)

    def alone(self, name):
        rounds = [self.measure() for _ in range(self.given.rounds)]
        probe = statistics.median(percentile(m.polls, 0.99) for m in rounds)
        gaps = [g for m in rounds for g in m.gaps]
        self.report(name, "gap median %.1f ms, p99 %.1f ms, cpu %.1f ms  /health %.1f ms (%d)" % (
            statistics.median(gaps), percentile(gaps, 0.99), statistics.median(m.cpu for m in rounds), probe, ALONE_MS),
                    probe <= ALONE_MS)

    def leave(self, stream, how):
        at = time.monotonic()
        if how == "RST":
            stream.reset()
        else:
            stream.close()
        return at

    def next_started(self, how, prompt, phase):
        """Milliseconds until the waiting job begins."""
        first = self.worker.execute(prompt=prompt, max_tokens=200)
        first.next_named(phase, 60)
        time.sleep(0.1)
        second = self.worker.execute(prompt="a", max_tokens=1)
        second.wait_headers()
        at = self.leave(first, how)
        ms = (second.next_named("started").at - at) * 1000
        second.collect()
        return ms

    def next_accepted(self, how):
        """Milliseconds until a full line has room again."""
        streams = [self.worker.start(prompt="the", max_tokens=500)]
        while True:
            stream = self.worker.execute(prompt="a", max_tokens=1)
            if stream.wait_headers() != 200:
                stream.close()
                break
            streams.append(stream)
        at = self.leave(streams.pop(), how)
        while True:
            stream = self.worker.execute(prompt="a", max_tokens=1)
            ms = (time.monotonic() - at) * 1000
            streams.append(stream)
            if stream.wait_headers() == 200:
                break
        for stream in reversed(streams):  # the running one last, so that none of the others begins
            stream.close()
        self.worker.wait_state("ready")
        return ms

    def slots(self, name, function, *args):
        before = harness.level(self.worker.pid)[0]
        times = [function(how, *args) for _ in range(self.given.rounds * 2) for how in ("FIN", "RST")]
        files = self.settle((before, 1 << 40))[0]
        self.report(name, "slot median %.1f ms, longest %.1f ms (%d)  level %+d" % (
            statistics.median(times), max(times), SLOT_MS, files), max(times) <= SLOT_MS and files <= 0)

    def run(self):
        cases = [("alone", self.alone)]
        cases += [(name, self.attack, kind, count) for name, kind, count in ATTACKS]
        cases += [("a client leaves in the middle of its stream", self.slots, self.next_started, "the", "token"),
                  ("a client leaves in its prompt", self.slots, self.next_started, WORDS * 15, "started"),
                  ("a client leaves while it waits", self.slots, self.next_accepted)]
        chosen = [case for case in cases if self.given.only in case[0]]
        for name, function, *args in chosen:
            function(name, *args)
        return len(chosen)


def packed(model):
    """A random model's packed form is made once and starts at once."""
    if model != "build/gpt2-medium-random":
        return model
    path = os.path.join(harness.ROOT, model + ".packed")
    if not os.path.exists(path):
        subprocess.run([harness.BIN, "pack", "--model", os.path.join(harness.ROOT, model), "--out", path], check=True)
    return path


def main():
    parser = argparse.ArgumentParser(usage="bench/clients.py [--rounds N] [--tokens N] [--only WORD] [MODEL]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=30)
    parser.add_argument("--only", default="")
    parser.add_argument("model", nargs="?", default="build/gpt2-medium-random")
    given = parser.parse_args()
    harness.LIMIT = 120
    with harness.Worker("--host", "127.0.0.1", "--log-level", "info", model=packed(given.model)) as worker:
        worker.run(prompt="the", max_tokens=5)  # pages of the model's file
        bench = Bench(given, worker)
        if bench.run() == 0:
            print("clients: no case has \"%s\" in its name" % given.only, file=sys.stderr)
            return 2
    if bench.broken:
        print("clients: %d bounds are broken" % bench.broken, file=sys.stderr)
    return 1 if bench.broken else 0


if __name__ == "__main__":
    sys.exit(main())
