#!/usr/bin/env python3
"""One job at a time: order, queue, cancel, disconnect, slow readers, keep-alive, /health under load (contract 1, 7)."""
import json
import select
import socket
import sys
import threading
import time

from harness import (JSON, SHAKESPEARE, SLOW, Stream, Suite, Worker, body_of, check, check_order, check_unavailable, descriptors,
                     equal, run_program, text_of, timely, tokens_of)

suite = Suite()
ENDLESS = {"prompt": "tokens=2000 delay=5", "max_tokens": 2000}


def start(worker, **fields):
    """A running job: its first token has come."""
    return worker.start(**dict(ENDLESS, **fields))


def collect_together(streams):
    """The events of all streams; one thread reads, so that no scheduler can change the order of arrival."""
    while not all(s.ended for s in streams):
        ready = select.select([s.socket for s in streams if not s.ended], [], [], 20)[0]
        check(ready, "no event")
        for s in streams:  # of two that are ready at once the older one has written first
            if s.socket in ready:
                s._feed()  # pylint: disable=protected-access
    return [s.collect() for s in streams]


@suite.case("FIFO: two clients at once, their streams are disjoint in time")
def disjoint():
    for worker, fields in ((suite.stub(), {"prompt": "tokens=20 delay=5", "max_tokens": 20}),
                           (suite.real(), {"prompt": "A", "max_tokens": 100})):
        first, second = collect_together([worker.execute(job_id=str(i), **fields) for i in range(2)])
        for events in (first, second):
            check_order(events)
            equal(events[-1].name, "end")
        check(second[0].at >= first[-1].at, "the second job started before the first had ended")


@suite.case("FIFO: ten jobs run in the order of arrival")
def fifo():
    w = suite.stub()
    first = start(w, job_id="first")
    streams = []
    for i in range(10):
        streams.append(w.execute(job_id="q%d" % i))
        streams[-1].wait_headers()
    w.cancel("first")
    first.collect()
    started = [s.collect()[0].at for s in streams]
    equal(started, sorted(started))
    w.job_line("q9")
    log = [line["job_id"] for _, line in w.lines if isinstance(line, dict) and line.get("message") == "Job finished"]
    equal(log[-10:], ["q%d" % i for i in range(10)])


@suite.case("queue: --queue 2 takes one running and two waiting jobs, then 503")
def queue_limit():
    with Worker("--queue", "2", stub=True) as w:
        streams = [start(w, job_id="0")] + [w.execute(job_id=str(i)) for i in (1, 2)]
        for s in streams[1:]:
            equal(s.wait_headers(), 200)
        check_unavailable(w, True)
        w.cancel("1")
        again = w.execute(job_id="3")
        equal(again.wait_headers(), 200)
        for s in streams + [again]:
            s.close()


@suite.case("queue: --queue 0 takes only the running job")
def queue_zero():
    with Worker("--queue", "0", stub=True) as w:
        stream = start(w)
        equal(w.request("POST", "/execute", body_of())[0], 503)
        stream.close()
        w.wait_state("ready")
        equal(w.run()[-1].name, "end")


@suite.case("queue: 16 may wait by default, the 17th may not")
def queue_default():
    with Worker(stub=True) as w:
        streams = [start(w)] + [w.execute(job_id=str(i)) for i in range(16)]
        equal([s.wait_headers() for s in streams], [200] * 17)
        equal(w.request("POST", "/execute", body_of())[0], 503)
        for s in streams:
            s.close()


def check_cancelled(events, tokens=None):
    check_order(events)
    error = events[-1].data
    equal((events[-1].name, error["code"], error["retriable"]), ("error", "CANCELLED", False))
    equal(error["message"], "Request cancelled by client")
    if tokens is not None:
        equal(error["tokens_out"], tokens)


def cancel_now(worker, stream, job_id):
    """Cancels and returns (events, seconds until the terminal event)."""
    begin = time.monotonic()
    status, _, body = worker.cancel(job_id)
    equal((status, json.loads(body)), (202, {"job_id": job_id}))
    events = stream.collect()
    return events, events[-1].at - begin


@suite.case("cancel: a running job stops within 100 ms")
def cancel_running():
    stream = start(suite.stub(), job_id="c1", prompt="tokens=2000 delay=300")
    events, seconds = cancel_now(suite.stub(), stream, "c1")
    timely(seconds, 0, 0.1 * SLOW)
    equal((events[-1].name, events[-1].data["code"]), ("error", "CANCELLED"))


@suite.case("cancel: in a long prompt within 100 ms")
def cancel_prompt():
    stream = suite.stub().execute(job_id="c2", prompt="prompt=10000")
    started = stream.next()
    equal(started.name, "started")
    events, seconds = cancel_now(suite.stub(), stream, "c2")
    timely(seconds, 0, 0.1 * SLOW)
    check_cancelled([started] + events, 0)


@suite.case("cancel: the real model in its longest prompt within 100 ms")
def cancel_real_prompt():
    out = run_program("tokenize", "--model", SHAKESPEARE, data=b"the ")[1]
    n = len(json.loads(out))
    stream = suite.real().execute(job_id="c3", prompt="the " * (250 // n), max_tokens=2048)
    started = stream.next()
    events, seconds = cancel_now(suite.real(), stream, "c3")
    timely(seconds, 0, 0.1 * SLOW)
    if events[-1].name == "error":  # a fast machine may have filled the context before
        check_cancelled([started] + events)


@suite.case("cancel: a waiting job gets started and error at once, the running one goes on")
def cancel_queued():
    w = suite.stub()
    running = start(w, job_id="run")
    waiting = w.execute(job_id="wait")
    waiting.wait_headers()
    events, seconds = cancel_now(w, waiting, "wait")
    timely(seconds, 0, 0.1 * SLOW)
    equal([e.name for e in events], ["started", "error"])
    check_cancelled(events, 0)
    equal(running.next().name, "token")
    running.close()


@suite.case("cancel: repeated calls are answered alike")
def cancel_again():
    w = suite.stub()
    stream = start(w, job_id="twice")
    for _ in range(3):
        equal(w.cancel("twice")[0], 202)
    equal(stream.collect()[-1].data["code"], "CANCELLED")
    equal(w.cancel("twice")[0], 202)
    equal(w.run()[-1].name, "end")


@suite.case("cancel: unknown and finished jobs: 202, nothing else happens")
def cancel_unknown():
    w = suite.stub()
    w.run(job_id="done")
    stream = start(w, job_id="other")
    for job_id in ("done", "never there", "x" * 1000):
        equal(w.cancel(job_id)[0], 202)
    equal(stream.next().name, "token")
    stream.close()


@suite.case("cancel: every job with this id stops")
def cancel_all_matches():
    w = suite.stub()
    streams = [start(w, job_id="same")] + [w.execute(job_id="same") for _ in range(2)]
    other = w.execute(job_id="other")
    for s in streams + [other]:
        s.wait_headers()
    equal(w.cancel("same")[0], 202)
    for s in streams:
        equal(s.collect()[-1].data["code"], "CANCELLED")
    equal(other.collect()[-1].name, "end")


@suite.case("cancel: ids are compared whole, also behind a NUL")
def cancel_nul():
    w = suite.stub()
    stream = start(w, job_id="a\0b")
    w.cancel("a")
    w.cancel("a\0c")
    equal(stream.next().name, "token")
    w.cancel("a\0b")
    equal(stream.collect()[-1].data["code"], "CANCELLED")


@suite.case("cancel: held text is dropped, what was sent stays valid")
def cancel_held():
    w = suite.real()
    whole = text_of(w.run(prompt="ROMEO:", max_tokens=200, temperature=0.0))
    stream = w.execute(job_id="held", prompt="ROMEO:", max_tokens=200, temperature=0.0, stop=[whole[:80]])
    stream.next()
    w.cancel("held")
    events = stream.collect()
    check(whole.startswith(text_of(events)), "not a prefix")
    if events[-1].name == "error":
        equal(text_of(events), "")


def leave(stream, how):
    if how == "FIN":
        stream.close()
    elif how == "RST":
        stream.reset()
    else:
        stream.socket.shutdown(socket.SHUT_WR)


def check_disconnect(how, fields):
    w = suite.stub()
    job_id = "leave-%s-%s" % (how, fields["prompt"])
    stream = w.execute(job_id=job_id, **fields)
    stream.next()
    begin = time.monotonic()
    leave(stream, how)
    w.wait_state("ready")
    timely(time.monotonic() - begin, 0, 0.1 * SLOW)
    line = w.job_line(job_id)
    equal((line["outcome"], line["detail"]), ("CANCELLED", "Client disconnected"))
    stream.close()


for way in ("FIN", "RST", "half close"):
    suite.case("disconnect by %s while tokens come: free within 100 ms" % way, way, ENDLESS)(check_disconnect)
    suite.case("disconnect by %s in a silent prompt: free within 100 ms" % way, way, {"prompt": "prompt=10000"})(check_disconnect)


def check_queued_disconnect(how):
    w = suite.stub()
    running = start(w, job_id="stays")
    gone = w.execute(job_id="goes-" + how)
    gone.wait_headers()
    next_one = w.execute(job_id="after-" + how)
    next_one.wait_headers()
    begin = time.monotonic()
    leave(gone, how)
    equal(w.job_line("goes-" + how)["detail"], "Client disconnected")
    timely(time.monotonic() - begin, 0, 0.1 * SLOW + 0.1)
    equal(running.next().name, "token")
    w.cancel("stays")
    equal(next_one.collect()[-1].name, "end")
    running.close()
    gone.close()


for way in ("FIN", "RST", "half close"):
    suite.case("disconnect by %s of a waiting client leaves the others alone" % way, way)(check_queued_disconnect)


@suite.case("disconnect: a real job of the shipped model is dropped")
def disconnect_real():
    w = suite.real()
    stream = w.start(job_id="real-gone", prompt="A", max_tokens=2048)
    stream.close()
    begin = time.monotonic()
    w.wait_state("ready")
    timely(time.monotonic() - begin, 0, 0.1 * SLOW)


@suite.case("disconnect: a client that talks during its own stream is still noticed")
def talker():
    w = suite.stub()
    stream = start(w)
    stream.socket.settimeout(0.2)
    try:
        for _ in range(64):
            stream.socket.send(b"x" * 4096)
    except socket.timeout:
        pass  # its window is full: the worker does not read on
    end, n = time.monotonic() + 0.5, 0
    while time.monotonic() < end:
        n += stream.next(5).name == "token"
    timely(0.5 / max(n, 1), 0, 0.5 * SLOW / 30)  # a token: its talk does not slow the worker
    equal(w.get("/health")[1]["state"], "busy")
    begin = time.monotonic()
    stream.reset()
    w.wait_state("ready")
    timely(time.monotonic() - begin, 0, 0.2 * SLOW)


@suite.case("slow reader: the job pauses, holds its slot, and goes on when it reads")
def slow_reader_resumes():
    with Worker(stub=True, env={"STUB_WRITE_TIMEOUT_MS": 10000}) as w:
        stream = Stream(w.port, body_of(prompt="tokens=40 size=60000", max_tokens=40), receive_buffer=4096)
        time.sleep(0.7)
        equal(w.get("/health")[1]["state"], "busy")
        waiting = w.execute(job_id="next")
        waiting.wait_headers()
        check(waiting.silent_for(0.3), "the next job started although the paused one holds the slot")
        events = stream.collect()
        check_order(events)
        equal((events[-1].name, len(tokens_of(events))), ("end", 40))
        equal(waiting.collect()[-1].name, "end")


@suite.case("slow reader: ended after the write time-out, the slot is free")
def slow_reader_ends():
    with Worker(stub=True, env={"STUB_WRITE_TIMEOUT_MS": 800}) as w:
        stream = Stream(w.port, body_of(prompt="tokens=2000 size=60000", max_tokens=2000), receive_buffer=4096)
        waiting = w.execute(job_id="next")
        begin = time.monotonic()
        equal(waiting.collect()[-1].name, "end")
        timely(time.monotonic() - begin, 0.5, 4)
        stream.close()


@suite.case("slow reader: a paused job can be cancelled")
def slow_reader_cancel():
    with Worker(stub=True) as w:
        stream = Stream(w.port, body_of(job_id="p", prompt="tokens=2000 size=60000", max_tokens=2000), receive_buffer=4096)
        time.sleep(0.5)
        equal(w.get("/health")[1]["state"], "busy")
        w.cancel("p")
        w.wait_state("ready")
        stream.close()


def check_comments(fields, queued):
    with Worker(stub=True, env={"STUB_KEEP_ALIVE_MS": 200}) as w:
        running = w.execute(**dict(ENDLESS, prompt="prompt=1200")) if queued else None
        if queued:
            running.next()
        stream = w.execute(job_id="k", **fields)
        events = stream.collect()
        check_order(events)
        timely(0.2 * len(stream.comments), 0.6, 1.4)
        equal({text for _, text in stream.comments}, {": keep-alive"})
        gaps = [b - a for (a, _), (b, _) in zip(stream.comments, stream.comments[1:])]
        timely(min(gaps), 0.15, 0.4)
        if queued:
            check(stream.comments[0][0] < events[0].at, "no comment while it waited")
            running.close()


suite.case("keep-alive: comments while a job waits", {"prompt": "x"}, True)(check_comments)
suite.case("keep-alive: comments in a long prompt", {"prompt": "prompt=1200"}, False)(check_comments)
suite.case("keep-alive: comments between slow tokens", {"prompt": "tokens=2 delay=700"}, False)(check_comments)


@suite.case("keep-alive: none while events come")
def no_comments():
    with Worker(stub=True, env={"STUB_KEEP_ALIVE_MS": 200}) as w:
        stream = w.execute(prompt="tokens=30 delay=20", max_tokens=30)
        stream.collect()
        timely(0.2 * len(stream.comments), 0, 0.1)  # a worker that gets no processor for so long is silent, too


class Background(threading.Thread):
    """The default of ten seconds is waited for beside the other cases."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stream = None
        self.problem = None

    def run(self):
        try:
            with Worker(stub=True) as w:
                self.stream = w.execute(prompt="prompt=11000")
                self.stream.collect(LONG)
        except Exception as error:  # pylint: disable=broad-except
            self.problem = error


LONG = 30
background = Background()


@suite.case("/health: p99 under 10 ms while the stub computes")
def health_stub():
    check_health(suite.stub(), **ENDLESS)


@suite.case("/health: p99 under 10 ms while the real model computes")
def health_real():
    check_health(suite.real(), prompt="A", max_tokens=2048)


def keep_busy(worker, fields, done, problems):
    """One job after the other until done is set."""
    try:
        while not done.is_set():
            stream = worker.execute(**fields)
            while not done.is_set() and stream.next() is not None:
                pass
            stream.close()
    except Exception as error:  # pylint: disable=broad-except
        problems.append(error)


def poll_health(worker, fields):
    """p99 of 300 polls while jobs run."""
    done, problems = threading.Event(), []
    thread = threading.Thread(target=keep_busy, args=(worker, fields, done, problems))
    thread.start()
    times, busy = [], 0
    try:
        with socket.create_connection(("127.0.0.1", worker.port), timeout=10) as s:
            while len(times) < 300:
                begin = time.monotonic()
                s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = s.recv(65536)
                times.append(time.monotonic() - begin)
                busy += b'"state":"busy"' in answer
                time.sleep(0.003)
    finally:
        done.set()
        thread.join()
    check(not problems, problems)
    check(busy > 150, "only %d of %d polls met a running job" % (busy, len(times)))
    return sorted(times)[len(times) * 99 // 100]


def check_health(worker, **fields):
    """A worker that answers late does so in every round; a busy machine, or this client's own threads, do not."""
    timely(poll_health(worker, fields), 0, 0.010 * SLOW)


@suite.case("/health: under 50 ms in a flood of requests while a job runs, and the job goes on")
def health_flood():
    w = suite.stub()
    stream = start(w, prompt="tokens=2000 delay=5")
    stop = threading.Event()

    def flood():
        with socket.create_connection(("127.0.0.1", w.port), timeout=10) as s:
            while not stop.is_set():
                s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 8)
                s.recv(65536)

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for t in threads:
        t.start()
    times = []
    for _ in range(50):
        begin = time.monotonic()
        equal(w.get("/health")[0], 200)
        times.append(time.monotonic() - begin)
    begin, n = time.monotonic(), 0
    while time.monotonic() - begin < 0.5:
        n += stream.next().name == "token"
    stop.set()
    for t in threads:
        t.join()
    stream.close()
    timely(sorted(times)[-2], 0, 0.05 * SLOW)
    timely(0.5 / max(n, 1), 0, 0.5 * SLOW / 20)  # a token


@suite.case("bodies of half a million values are refused without holding up the running job")
def many_values():
    w = suite.stub()
    stream = start(w, prompt="tokens=2000 delay=2")
    bodies = [b'{"junk":[' + b"1," * 500000 + b"1]}", b"[" + b'{"a":{}},' * 200000 + b"1]",
              b'{"seed":18446744073709551615,"x":[' + b"123456789012345678901," * 80000 + b"1]}"]
    for body in bodies:
        for path in ("/execute", "/cancel"):
            status, _, answer = w.request("POST", path, body, JSON)
            equal(status, 400)
            check(b"more than 4096 values" in answer or b"more than 524288 bytes beside its texts" in answer, answer)
    before = stream.next_named("token").at
    longest = 0
    end = time.monotonic() + 1
    sender = threading.Thread(target=lambda: [w.request("POST", "/execute", b, JSON) for b in bodies * 2])
    sender.start()
    while time.monotonic() < end:
        at = stream.next_named("token").at
        longest, before = max(longest, at - before), at
    sender.join()
    stream.close()
    timely(longest, 0, 0.06 * SLOW)


@suite.case("one thread: idle, in a prompt, while tokens come, with clients waiting")
def one_thread():
    for w, fields in ((suite.stub(), ENDLESS), (suite.real(), {"prompt": "A", "max_tokens": 200})):
        equal(len(w.threads()), 1)
        streams = [w.execute(job_id=str(i), **fields) for i in range(3)]
        for _ in range(100):
            equal(len(w.threads()), 1)
            time.sleep(0.002)
        for s in streams:
            s.close()
        w.wait_state("ready")
        equal(len(w.threads()), 1)


@suite.case("many jobs: descriptors stay level")
def descriptors_stay_level():
    w = suite.stub()
    w.run()
    w.wait_state("ready")
    time.sleep(0.1)
    before = descriptors(w.pid)
    for i in range(100):
        stream = w.execute(job_id=str(i))
        if i % 3 == 0:
            stream.reset()
        else:
            stream.collect()
    w.wait_state("ready")
    end = time.monotonic() + 3
    while descriptors(w.pid) > before and time.monotonic() < end:
        time.sleep(0.05)
    now = descriptors(w.pid)
    check(now <= before, "%d descriptors, %d before" % (now, before))


@suite.case("keep-alive: ten seconds by default")
def default_keep_alive():
    background.join(LONG)
    check(background.problem is None, background.problem)
    equal(len(background.stream.comments), 1)
    timely(background.stream.comments[0][0] - background.stream.sent_at, 9.8, 10.7)


if __name__ == "__main__":
    background.start()
    sys.exit(suite.run())
