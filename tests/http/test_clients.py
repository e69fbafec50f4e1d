#!/usr/bin/env python3
"""Hostile clients, many at a time: the running job goes on, probes are answered, slots become free, nothing is left behind
(robustness 9). bench/clients.py measures the same on a large model, bench/soak for long."""
import http.client
import os
import select
import socket
import subprocess
import sys
import time

import attack
from harness import (ROOT, SLOW, Late, Suite, Worker, body_of, check, check_order, descriptors, equal, level, private_kib,
                     scheduled_ns, timely, within)

suite = Suite()
ENDLESS = {"prompt": "tokens=2000 delay=5", "max_tokens": 2000}
LEVEL_KIB = 6144  # entries of libevent's table lie between the pages of a thousand connections and keep them


def check_level(worker, before):
    """As before within seconds; sanitizers keep what is freed."""
    end = time.monotonic() + 8 * SLOW
    while True:
        now = level(worker.pid)
        if now[0] <= before[0] and (now[1] <= before[1] + LEVEL_KIB or SLOW > 1):
            return
        check(time.monotonic() < end, "descriptors and KiB: %s, before %s" % (now, before))
        time.sleep(0.05)


def attacked(worker, kind, count, seconds):
    """Under attack: gaps between tokens and times of probes on new connections, in seconds; what the attacker counted."""
    stream = worker.start(**ENDLESS)
    gaps, probes = [], []
    with attack.Attacker(worker.port, kind, count) as attacker:
        first = stream.next_named("token").at
        end = first + seconds
        while first < end:
            begin = time.monotonic()
            equal(worker.get("/health")[1]["state"], "busy")
            probes.append(time.monotonic() - begin)
            at = stream.next_named("token").at
            gaps.append(at - first)
            first = at
        counts = attacker.stop()
    stream.close()
    worker.wait_state("ready")
    return sorted(gaps), sorted(probes), counts


def check_attack(kind, count, least):
    """A worker that is late is so in every round; a busy machine, on which the attacker takes a processor, is not."""
    worker, done, rounds = suite.stub(), 0, []
    before = level(worker.pid)
    while len(rounds) < 5 and not (done >= least and any(g < 0.03 * SLOW and p < 0.05 * SLOW for g, p in rounds)):
        gaps, probes, counts = attacked(worker, kind, count, 0.25)
        done += counts["opened"] + counts["answers"]
        rounds.append((gaps[len(gaps) // 2], probes[len(probes) // 2]))
    check_level(worker, before)
    if done < least:
        raise Late("the attack made %d connections and answers" % done)
    timely(min(g for g, _ in rounds), 0, 0.03 * SLOW)
    timely(min(p for _, p in rounds), 0, 0.05 * SLOW)


for title, *arguments in (("1100 connections that say nothing: newcomers take their places", "idle", 1100, 1100),
                          ("300 that send a byte a second", "drip", 300, 300),
                          ("a flood of /health", "health", 16, 50), ("64 requests on the way on each connection", "pipeline", 4, 100),
                          ("a connection for each request", "churn", 8, 30), ("a flood of bad requests", "bad", 8, 20),
                          ("a flood of bodies of 2 MiB", "big", 2, 2), ("clients that ask and never read", "deaf", 8, 8),
                          ("jobs that leave while they wait", "leave", 8, 20)):
    suite.case("attack: " + title, *arguments)(check_attack)


def cpu_per_token(worker):
    """Nanoseconds of the processor from the first token to the end: what others take of it does not count."""
    stream = worker.execute(prompt="A", max_tokens=240, seed=3, temperature=0)
    stream.next_named("token")
    before = scheduled_ns(worker.pid)
    n = stream.next_named("end").data["tokens_out"]
    spent = scheduled_ns(worker.pid) - before
    stream.close()
    return spent / n


@suite.case("a flood of pipelined requests leaves the processor to the running job")
def share():
    w, alone, attacked_ns = suite.real(), [], []
    while len(alone) < 3 or (len(alone) < 6 and min(attacked_ns) > 1.3 * min(alone)):
        alone.append(cpu_per_token(w))
        with attack.Attacker(w.port, "pipeline", 8) as attacker:
            attacked_ns.append(cpu_per_token(w))
            check(attacker.stop()["answers"] > 0, "no request was answered")
    timely(min(attacked_ns) / min(alone), 0, 1.3 if SLOW <= 1 else 2)  # sanitizers cost requests more than arithmetic


@suite.case("1100 connections: the oldest idle ones went, a poller that asks is kept")
def poller_is_kept():
    with Worker(stub=True) as w:
        before = level(w.pid)
        poller = http.client.HTTPConnection("127.0.0.1", w.port, timeout=20)
        poller.connect()
        own = poller.sock
        with attack.Attacker(w.port, "idle", 1100) as attacker:
            begin, full_at = time.monotonic(), None
            while full_at is None or time.monotonic() < full_at + 0.3:
                poller.request("GET", "/health")
                equal(poller.getresponse().read()[:1], b"{")
                check(poller.sock is own, "the poller was closed")
                check(time.monotonic() < begin + 20, "the attacker did not get far")
                if full_at is None and descriptors(w.pid) - before[0] == 1024:
                    full_at = time.monotonic()
            equal(w.get("/health")[0], 200)
            within(descriptors(w.pid) - before[0], 1020, 1024)
            equal(attacker.stop()["opened"], 1100)
        poller.close()
        check_level(w, before)


def was_refused(s):
    try:
        return s.recv(64).startswith(b"HTTP/1.1 503")
    except ConnectionResetError:  # while it was still sending
        return True


@suite.case("bodies held back: small requests are answered, large ones get 503")
def held_bodies():
    with Worker(stub=True) as w:
        body = b" " * (2 * 1024 * 1024 - 1)
        head = attack.post(body + b"x")[:-len(body) - 1]
        held = []
        for _ in range(36):
            s = socket.create_connection(("127.0.0.1", w.port), timeout=20)
            try:
                s.sendall(head + body)
            except OSError:
                pass  # refused while it was sending
            held.append(s)
        refused = select.select(held, [], [], 8)[0]  # the time limit of a request is 10 s
        check(refused and all(was_refused(s) for s in refused), "no 503")
        time.sleep(0.2)
        equal(w.run()[-1].name, "end")
        for s in held:
            s.close()


@suite.case("an id of 4096 bytes is echoed, a longer one refused: it would fill the output of each connection")
def long_ids():
    w = suite.stub()
    equal(w.run(job_id="é" * 2048)[0].data["job_id"], "é" * 2048)
    for path in ("/execute", "/cancel"):
        status, _, answer = w.request("POST", path, body_of(job_id="x" * 4097))
        equal(status, 400)
        check(b"job_id must be at most 4096 bytes (got 4097)" in answer, answer)


@suite.case("waiting jobs keep nothing of what is ignored")
def ignored_fields():
    with Worker(stub=True) as w:
        running = w.start(**ENDLESS)
        waiting = [w.execute(prompt="x", junk="y" * 1900000) for _ in range(2)]
        for s in waiting:
            s.wait_headers()
        before = private_kib(w.pid)
        waiting += [w.execute(prompt="x", junk="y" * 1900000) for _ in range(12)]
        for s in waiting:
            s.wait_headers()
        end = time.monotonic() + 5 * SLOW  # the last bodies are on their way out of the buffers
        while private_kib(w.pid) - before > 2048 and SLOW <= 1:  # all of them have 22 MiB
            check(time.monotonic() < end, "%d KiB more for 12 waiting jobs" % (private_kib(w.pid) - before))
            time.sleep(0.02)
        for s in waiting + [running]:
            s.close()


@suite.case("a slot is free within 100 ms of its client's leaving: streaming, in a prompt, waiting, by FIN and RST")
def slots():
    with Worker("--queue", "2", stub=True) as w:
        for how in ("close", "reset"):
            for prompt, event in (("tokens=2000 delay=5", "token"), ("prompt=5000", "started")):
                first = w.execute(prompt=prompt, max_tokens=2000)
                first.next_named(event)
                second = w.execute()
                second.wait_headers()
                begin = time.monotonic()
                getattr(first, how)()
                events = second.collect()
                check_order(events)
                timely(events[0].at - begin, 0, 0.1 * SLOW)
            streams = [w.start(**ENDLESS)] + [w.execute() for _ in range(2)]
            equal([s.wait_headers() for s in streams], [200] * 3)
            begin = time.monotonic()
            getattr(streams.pop(), how)()
            while not accepted(w, streams):
                timely(time.monotonic() - begin, 0, 0.1 * SLOW)
            for s in reversed(streams):
                s.close()
            w.wait_state("ready")


def accepted(worker, streams):
    streams.append(worker.execute())
    return streams[-1].wait_headers() == 200


@suite.case("bench/soak: a thousand jobs")
def short_soak():
    if SLOW > 1:
        args = ["--jobs", "100", "--distinct", "5", "--growth", "1000000"]
    else:
        args = ["--jobs", "1000", "--distinct", "10", "--growth", "2048"]
    done = subprocess.run([os.path.join(ROOT, "bench", "soak"), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    check(done.returncode == 0, done.stderr.decode("utf-8", "replace"))
    check(done.stdout.count(b"\n") == 11, done.stdout)


if __name__ == "__main__":
    sys.exit(suite.run())
