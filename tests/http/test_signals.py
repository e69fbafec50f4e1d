#!/usr/bin/env python3
"""Signals in every phase of the daemon's life, what a parent may have done to them, suspension, kill and restart.

LLORCH_TEST_ALL=1 sends SIGTERM a hundred times to each phase instead of a few times, and takes minutes.
"""
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from harness import (BIN, LIMIT, ROOT, SHAKESPEARE, SLOW, STUB, TINY, Skip, Stream, Suite, Worker, body_of, check,
                     check_order, clean_environment, equal, free_port, has, timely, within)
from test_lifecycle import Background, PoolManager

suite = Suite()
ALL = os.environ.get("LLORCH_TEST_ALL") == "1"
ROUNDS = 100 if ALL else 1 if SLOW > 1 else 4
EXIT_LIMIT = 5 * SLOW
LONG = {"prompt": "tokens=2000 delay=2", "max_tokens": 2000}
SHORT = {"prompt": "tokens=15 delay=2", "max_tokens": 15}


def last_event(stream):
    """Of a stream that may have been read in part: exactly one terminal event, and that at the end."""
    events = stream.collect()
    ends = [e for e in events if e.name in ("end", "error")]
    check(len(ends) == 1 and events[-1] is ends[0], "%d terminal events in %d" % (len(ends), len(events)))
    return ends[0]


# --- one signal in every phase ---
# Each phase is begun with the port and ends with the worker and its streams, of which each must get its terminal event.

def phase_loading(port, _round):
    w = Worker("--port", str(port), stub=True, ready=False, env={"STUB_LOAD_MS": 20000})
    w.wait_log("Loading model...")
    return w, []


def phase_just_ready(port, n):
    w = Worker("--port", str(port), stub=True, ready=False, env={"STUB_LOAD_MS": 8})
    w.wait_log("Loading model...")
    time.sleep(0.0005 * (n % 24))
    return w, []


def phase_idle(port, _round):
    return Worker("--port", str(port), stub=True), []


def phase_preparing(port, _round):
    return Worker("--port", str(port), stub=True, env={"STUB_IDLE_STEPS": 2000}), []


def phase_prompt(port, n):
    w = Worker("--port", str(port), stub=True)
    stream = w.execute(prompt="prompt=60 tokens=3", max_tokens=3)
    stream.next_named("started")
    time.sleep(0.001 * (n % 60))
    return w, [stream]


def phase_tokens(port, n):
    w = Worker("--port", str(port), stub=True)
    stream = w.start(**SHORT)
    time.sleep(0.0005 * (n % 70))  # also behind the last token
    return w, [stream]


def phase_waiting(port, _round):
    w = Worker("--port", str(port), stub=True)
    streams = [w.start(**SHORT)] + [w.execute(job_id=str(i)) for i in range(5)]
    for stream in streams:
        stream.wait_headers()
    return w, streams


def phase_cancel(port, n):
    w = Worker("--port", str(port), stub=True)
    streams = [w.start(job_id="gone", **LONG), w.execute(job_id="next", **SHORT)]
    streams[1].wait_headers()
    with socket.create_connection(("127.0.0.1", port)) as s:  # not waited for
        s.sendall(b"POST /cancel HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n"
                  b'{"job_id":"gone"}')
        time.sleep(0.0005 * (n % 8))
    return w, streams


def phase_shutdown(port, _round):
    w = Worker("--port", str(port), "--enable-shutdown", stub=True)
    stream = w.start(**SHORT)
    equal(w.request("POST", "/shutdown")[0], 202)
    return w, [stream]


def phase_abandoned(port, _round):
    w = Worker("--port", str(port), stub=True)
    w.start(**LONG).reset()
    return w, []


PHASES = {"while loading": phase_loading, "around the end of loading": phase_just_ready, "idle": phase_idle,
          "while preparing": phase_preparing, "in a prompt": phase_prompt, "between tokens": phase_tokens,
          "with waiting jobs": phase_waiting, "during a cancel": phase_cancel, "after POST /shutdown": phase_shutdown,
          "with a client that went away": phase_abandoned}


def port_is_free(port):
    """As a restart sees it."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("0.0.0.0", port))
        s.listen()


def one_end(phase, number, n):
    port = free_port()
    worker, streams = PHASES[phase](port, n)
    begin = time.monotonic()
    worker.signal(number)
    for stream in streams:
        last_event(stream)
    equal(worker.wait(), 0)
    timely(time.monotonic() - begin, 0, EXIT_LIMIT)
    port_is_free(port)
    equal(worker.lines[-1][1]["message"], "Worker stopped")


def many_ends(phase, number):
    for n in range(ROUNDS):
        one_end(phase, number, n if ALL else n * 25 + random.randrange(25))


for one in PHASES:
    suite.case("SIGTERM %s: every stream ends in order, exit 0 in time, the port is free" % one, one,
               signal.SIGTERM)(many_ends)


@suite.case("SIGINT in every phase: the same")
def interrupts():
    for phase in PHASES:
        for n in range(ROUNDS if ALL else 1):
            one_end(phase, signal.SIGINT, n)


@suite.case("SIGTERM at any moment of the shipped model's job: it ends in order, exit 0")
def real_model():
    for _ in range(50 if ALL else 3):
        w = Worker("--callback-url", "http://localhost:9999")
        stream = w.execute(prompt="ROMEO: " * 60, max_tokens=10)
        stream.wait_headers()
        time.sleep(random.random() * 0.2)
        w.signal(signal.SIGTERM)
        last_event(stream)
        equal(w.wait(), 0)


@suite.case("SIGTERM at any moment after the first line: exit 0; before it at most the default action")
def any_moment():
    for n in range(100 if ALL else 12):
        w = Worker("--callback-url", "http://localhost:9999", model=TINY, ready=False)
        time.sleep(0.001 * (n % 40) if ALL else random.random() * 0.04 * SLOW)
        w.signal(signal.SIGTERM)
        status = w.wait()
        check(status == 0 or (status == -signal.SIGTERM and not w.raw_log), (status, w.raw_log))


@suite.case("SIGTERM while the callback is under way, or waits for its next attempt: exit 0, nothing more is sent")
def in_the_callback():
    with PoolManager(200, delay=0.3) as pool:
        for n in range(20 if ALL else 2):
            w = Worker("--callback-url", pool.url, stub=True, ready=False)
            pool.wait_calls(n + 1)
            w.signal(signal.SIGTERM)
            equal(w.wait(), 0)
            check("Pool manager notified" not in w.log_messages(), w.raw_log)
    with PoolManager(503) as pool:
        for n in range(20 if ALL else 2):
            w = Worker("--callback-url", pool.url, "--callback-retries", "5", stub=True, ready=False)
            w.wait_log("trying again")
            time.sleep(0.02 * n)
            w.signal(signal.SIGTERM)
            equal(w.wait(), 0)
            equal(len(pool.calls), n + 1)
        time.sleep(0.6)  # when the next attempt would have come
        equal(len(pool.calls), n + 1)


@suite.case("SIGTERM in the same moment as the ready callback: the pool manager is answered or not called at all")
def at_the_callback():
    with PoolManager(200) as pool:
        for n in range(100 if ALL else 8):
            w = Worker("--callback-url", pool.url, stub=True, ready=False, env={"STUB_LOAD_MS": 5})
            w.wait_log("Loading model...")
            time.sleep(0.001 * (n % 12))
            w.signal(signal.SIGTERM)
            equal(w.wait(), 0)
            within(len(pool.calls), 0, n + 1)  # a call may be counted a moment after its worker has gone


@suite.case("a second signal, whenever it comes: exit 1 or, when all was over, 0; never a death by signal")
def second_at_any_moment():
    for n in range(100 if ALL else 10):
        w = Worker(stub=True)
        stream = w.start(**SHORT)
        w.signal(signal.SIGTERM)
        time.sleep(0.0005 * (n % 100) if ALL else random.random() * 0.05)
        w.signal(signal.SIGTERM)
        status = w.wait()
        check(status in (0, 1), status)
        if status == 0:
            last_event(stream)
        equal("Second signal, leaving at once" in w.log_messages(), status == 1)


# --- clients of a worker that leaves ---

@suite.case("SIGTERM with requests that came before it, behind connections that say nothing: they are answered")
def requests_in_time():
    w = Worker(stub=True)
    w.signal(signal.SIGSTOP)
    connections = [socket.create_connection(("127.0.0.1", w.port), timeout=LIMIT) for _ in range(400)]
    for s in connections[-3:]:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    w.signal(signal.SIGTERM)
    w.signal(signal.SIGCONT)
    for s in connections[-3:]:
        has(s.recv(4096), b"HTTP/1.1 200 OK")
    equal(w.wait(), 0)


@suite.case("SIGTERM with a client that talks while it reads its answer: the answer is not cut by a reset")
def talks_on():
    w = Worker(stub=True)
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(LIMIT)
        s.connect(("127.0.0.1", w.port))
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        s.recv(1, socket.MSG_PEEK)  # all of it has left the worker, and waits in the kernel
        s.sendall(b"x")
        w.signal(signal.SIGTERM)
        w.wait_log("Shutting down")
        time.sleep(0.1)  # for a worker that would leave
        s.sendall(b"x")
        answer = b"".join(iter(lambda: s.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    has(head, b"Content-Length: %d\r\n" % len(body))
    equal(w.wait(), 0)


@suite.case("SIGTERM behind the last job: who comes now is refused by the kernel, and can turn to another worker")
def nobody_else():
    w = Worker(stub=True)
    job = json.dumps({"prompt": "tokens=20 size=60000", "max_tokens": 20}).encode()
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(LIMIT)
        s.connect(("127.0.0.1", w.port))
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(job) + job)
        s.recv(1, socket.MSG_PEEK)  # all is computed, most of it waits for its reader
        w.signal(signal.SIGTERM)
        w.wait_log("Shutting down")
        end = time.monotonic() + LIMIT
        while True:  # 503 until the worker has looked whether a job is left
            try:
                equal(w.request("POST", "/execute", body_of())[0], 503)
                check(time.monotonic() < end, "still accepting")
            except ConnectionError:
                break
        check(w.process.poll() is None, "it left before its answer was read")
        answer = b"".join(iter(lambda: s.recv(65536), b""))
    equal(len(json.loads(answer.partition(b"\r\n\r\n")[2])["choices"][0]["text"]), 20 * 60000)
    equal(w.wait(), 0)


# --- suspension ---

def pause(worker, seconds):
    worker.signal(signal.SIGSTOP)
    time.sleep(seconds)
    worker.signal(signal.SIGCONT)


@suite.case("SIGSTOP and SIGCONT: idle, in a prompt and between tokens, nothing is lost")
def suspended():
    w = suite.stub()
    want = [e.data for e in w.run(prompt="prompt=50 tokens=30 delay=3", max_tokens=30) if e.name == "token"]
    pause(w, 0.3)
    for wait in (0.02, 0.08, 0.1):
        stream = w.execute(prompt="prompt=50 tokens=30 delay=3", max_tokens=30)
        time.sleep(wait)
        pause(w, 0.2)
        events = stream.collect()
        check_order(events)
        equal(([e.data for e in events if e.name == "token"], events[-1].name), (want, "end"))


def suspended_while_draining():
    """Longer than the whole of the shutdown may take: the job still gets its last event."""
    for left in (2, 1, 0):  # a reader that gets no processor for a second loses it all the same
        w = Worker(stub=True)
        stream = Stream(w.port, body_of(prompt="tokens=2000 size=60000", max_tokens=2000), receive_buffer=65536)
        time.sleep(0.3)  # the worker waits for its reader
        w.signal(signal.SIGTERM)
        w.wait_log("Shutting down")
        pause(w, 5.5)
        try:
            equal(last_event(stream).data["code"], "CANCELLED")
            break
        except (AssertionError, ConnectionResetError):
            if left == 0:
                raise
        finally:
            equal(w.wait(), 0)


def suspended_with_a_request():
    """What came in time is not late because the worker slept, longer than a request may take."""
    w = Worker(stub=True, env={"STUB_REQUEST_TIMEOUT_MS": 1000})
    data = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", w.port), timeout=20) as s:
        s.sendall(data[:20])
        time.sleep(0.1)
        w.signal(signal.SIGSTOP)
        s.sendall(data[20:])
        time.sleep(3)
        w.signal(signal.SIGCONT)
        has(s.recv(4096), b"HTTP/1.1 200 OK")
    equal(w.stop(), 0)


def suspended_in_the_callback():
    """The pool manager answers in time; the worker sleeps through that and its own time limit."""
    with PoolManager(200, delay=0.5) as pool:
        w = Worker("--callback-url", pool.url, stub=True, ready=False)
        pool.wait_calls(1)
        pause(w, 6)
        w.wait_log("Pool manager notified")
        equal(w.stop(), 0)


def never_read():
    for number in (signal.SIGTERM, signal.SIGINT) if ALL else (signal.SIGTERM,):
        w = Worker(stub=True)
        stream = Stream(w.port, body_of(prompt="tokens=2000 size=60000", max_tokens=2000), receive_buffer=4096)
        time.sleep(0.2)
        begin = time.monotonic()
        w.signal(number)
        equal(w.wait(), 0)
        timely(time.monotonic() - begin, 0, EXIT_LIMIT)
        stream.close()


def runs_out():
    w = Worker(stub=True)
    stream = w.start(**LONG)
    begin = time.monotonic()
    w.signal(signal.SIGTERM)
    equal(last_event(stream).data["code"], "CANCELLED")
    equal(w.wait(), 0)
    timely(time.monotonic() - begin, 3.9, EXIT_LIMIT)


# --- signals that mean nothing here ---

@suite.case("SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM, SIGTTOU, SIGXFSZ and SIGCHLD change nothing")
def meaningless():
    w = Worker(model=TINY)
    stream = w.start(prompt="A", max_tokens=40, temperature=0)
    for number in (signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGTTOU,
                   signal.SIGXFSZ, signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG):
        w.signal(number)
        time.sleep(0.005)
    equal(last_event(stream).name, "end")
    equal(w.stop(), 0)


@suite.case("SIGQUIT and SIGKILL end it at once, without a core file")
def emergency_exits():
    for number in (signal.SIGQUIT, signal.SIGKILL):
        w = Worker(model=TINY)
        w.signal(number)
        equal(w.process.wait(LIMIT), -number)
        w.wait()


# --- what a parent may hand down ---

def started_with(prepare, *args):
    """A worker whose process runs prepare() first."""
    port = free_port()
    process = subprocess.Popen([STUB, "--model", "m", "--port", str(port), *args], env=clean_environment(), cwd=ROOT,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=prepare)
    for line in process.stderr:
        if b"Worker ready" in line:
            return process, port
    raise AssertionError("not ready: status %s" % process.wait())


def block_all():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))


def ignore_all():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


@suite.case("started with SIGTERM and SIGINT blocked or ignored: they end it all the same")
def inherited():
    for prepare in (block_all, ignore_all):
        for number in (signal.SIGTERM, signal.SIGINT):
            process, port = started_with(prepare)
            stream = Stream(port, body_of(**SHORT))
            stream.next_named("token")
            process.send_signal(number)
            equal(last_event(stream).name, "end")
            equal(process.wait(10), 0)
            process.stderr.close()


@suite.case("Ctrl-C reaches no command that was started with it ignored, as a script's background jobs are")
def background_job():
    process = subprocess.Popen([BIN, "generate", "--model", TINY, "--prompt", "-"], cwd=ROOT, env=clean_environment(),
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=ignore_all)
    time.sleep(0.2 * SLOW)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.05)
    out, error = process.communicate(b"A", 20)
    equal((process.returncode, error), (0, b""))
    check(out)


@suite.case("SIGTERM and the loss of the terminal leave no temporary file either")
def commands_ended():
    folder = tempfile.mkdtemp(prefix="llorch-signals-")
    missed = 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        for _ in range(8):  # until one came in time
            process = subprocess.Popen([BIN, "quantize", "--model", SHAKESPEARE, "--type", "q4_0", "--out", folder + "/model"],
                                       cwd=ROOT, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            while process.poll() is None and not os.listdir(folder):
                time.sleep(0.0002)
            process.send_signal(number)
            process.communicate()
            check(process.returncode in (0, 128 + number), process.returncode)
            equal(os.listdir(folder), ["model"] if process.returncode == 0 else [])
            if process.returncode != 0:
                break
            os.remove(folder + "/model")
        missed += process.returncode == 0
    shutil.rmtree(folder)
    if missed:
        raise Skip("no signal came while the file was being written")


@suite.case("children that it inherits, as process 1 of a container does, are removed")
def no_zombies():
    port = free_port()
    process = subprocess.Popen(["sh", "-c", 'sleep 0.1 & exec "$@"', "sh", STUB, "--model", "m", "--port", str(port)],
                               env=clean_environment(), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children = "/proc/%d/task/%d/children" % (process.pid, process.pid)
    try:
        end = time.monotonic() + 10
        while True:
            with open(children, encoding="ascii") as file:
                left = file.read().split()
            if not left and os.readlink("/proc/%d/exe" % process.pid) == os.path.realpath(STUB):
                break
            check(time.monotonic() < end, "children %s stay" % left)
            time.sleep(0.02)
    finally:
        process.terminate()
        equal(process.wait(10), 0)


@suite.case("as process 1: SIGTERM, SIGINT and a second signal do what they do elsewhere")
def process_one():
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--pid", "--fork", "true"], capture_output=True, check=False).returncode != 0:
        raise Skip("no process namespace can be made here")
    for numbers, want in (((signal.SIGTERM,), 0), ((signal.SIGINT,), 0), ((signal.SIGTERM, signal.SIGTERM), 1)):
        port = free_port()
        outer = subprocess.Popen([unshare, "--pid", "--fork", "--kill-child", STUB, "--model", "m", "--port", str(port)],
                                 env=clean_environment(), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        check(any(b"Worker ready" in line for line in outer.stderr))
        with open("/proc/%d/task/%d/children" % (outer.pid, outer.pid), encoding="ascii") as file:
            inner = int(file.read())
        stream = Stream(port, body_of(**LONG if want else SHORT))
        stream.next_named("token")
        for i, number in enumerate(numbers):
            os.kill(inner, number)
            if i + 1 < len(numbers):
                check(any(b"Shutting down" in line for line in outer.stderr))
        if want == 0:
            equal(last_event(stream).name, "end")
        equal(outer.wait(10), want)
        outer.stderr.close()


# --- kill and restart ---

@suite.case("SIGKILL, and a restart on the same port at once, with connections open")
def kill_and_restart():
    port = free_port()
    previous = []
    for n in range(100 if ALL else 20):
        w = Worker("--port", str(port), stub=True)
        for old in previous:
            old.close()
        streams = [w.start(**LONG), w.execute(job_id="waits")]
        previous = [s.socket for s in streams] + [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        if n % 4 == 0:
            streams[0].reset()
        w.signal(signal.SIGKILL)
        equal(w.wait(), -signal.SIGKILL)
    with Worker("--port", str(port), stub=True) as w:
        equal(w.run()[-1].name, "end")


@suite.case("POST /shutdown, SIGTERM and a restart on the same port at once, again and again")
def stop_and_restart():
    port = free_port()
    for n in range(100 if ALL else 8):
        w = Worker("--port", str(port), "--enable-shutdown", stub=True)
        stream = w.start(**SHORT)
        if n % 2:
            w.signal(signal.SIGTERM)
        else:
            equal(w.request("POST", "/shutdown")[0], 202)
        equal(last_event(stream).name, "end")
        equal(w.wait(), 0)


slow = {}
for name, function in (("SIGSTOP in a shutdown, longer than it may take: the job still gets its last event",
                        suspended_while_draining),
                       ("SIGSTOP with a request on its way, longer than one may take: it is answered", suspended_with_a_request),
                       ("SIGSTOP in the callback, longer than it may take: an answer that came in time counts",
                        suspended_in_the_callback),
                       ("SIGTERM with a client that never reads: exit 0 within 5 s", never_read),
                       ("SIGTERM with a job that does not end: exit 0 within 5 s", runs_out)):
    suite.case(name, name)(lambda key: slow[key].result())
    slow[name] = function

if __name__ == "__main__":
    # Else the tests of inherited masks would test what this process was given.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    slow = {key: Background(function) for key, function in slow.items()}
    sys.exit(suite.run())
