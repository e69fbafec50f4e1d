#!/usr/bin/env python3
"""scripts/fleet and deploy/haproxy: a real HAProxy before 2 and 4 workers (docs/fleet.md). Most cases use the stub worker, whose
timing does not depend on a model; answers are compared with the real one.
"""
import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
import types
import urllib.parse
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from harness import (BIN, LIMIT, ROOT, SHAKESPEARE, STUB, TINY, Skip, Stream, Suite, Worker, body_of, check, check_order,
                     clean_environment, equal, free_port, has, run_program, sanitized, timely, tokens_of, within)

sys.dont_write_bytecode = True
sys.path.append(os.path.join(ROOT, "scripts"))
from fleet_parts import needs, place, processes  # noqa: E402
from fleet_parts.output import Failure  # noqa: E402
from fleet_parts.proxy import write_config  # noqa: E402

suite = Suite()
FLEET = os.path.join(ROOT, "scripts", "fleet")
CONFIG = os.path.join(ROOT, "deploy", "haproxy", "haproxy.cfg")
HAPROXY = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
FOLDER = tempfile.mkdtemp(prefix="llorch-test-")
PACKED = os.path.join(FOLDER, "shakespeare.packed")
ENDLESS = {"prompt": "tokens=2000 delay=5", "max_tokens": 2000}
LEFT_SECONDS = 0.1  # within which a client that left has freed its worker
KEY = "a-key-of-this-test"
METRICS_PORT = free_port()
watching = None  # a Prometheus in front of real()
COMPLETION = {"prompt": ["ROMEO:", "O"], "max_tokens": 8, "n": 2, "seed": 5, "logprobs": 1}


class Fleet:
    """One scripts/fleet; what it prints is kept."""

    def __init__(self, n, *args, program=STUB, model=PACKED, prefix=(), ready=True, env=None, stdin=subprocess.DEVNULL,
                 prepare=None):
        self.port = free_port()
        self.temporary = tempfile.mkdtemp(dir=FOLDER)
        self.lines, self.errors = [], []
        self._changed = threading.Condition()
        command = [*prefix, FLEET, str(n), "--program", program, "--model", model, "--port", str(self.port), *args]
        self.process = subprocess.Popen(command, env=clean_environment(dict({"TMPDIR": self.temporary}, **(env or {}))), cwd=ROOT,
                                        stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=prepare)
        self._readers = [threading.Thread(target=self._read, args=pair, daemon=True)
                         for pair in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))]
        for reader in self._readers:
            reader.start()
        if ready:
            self.wait_line("Ctrl-C lets")

    def _read(self, file, lines):
        for raw in file:
            with self._changed:
                lines.append(raw.decode("utf-8", "replace").rstrip("\n"))
                self._changed.notify_all()

    def wait_line(self, pattern, count=1, limit=LIMIT):
        """The match of the count-th line like this on standard output."""
        end = time.monotonic() + limit
        with self._changed:
            while True:
                found = [m for m in (re.search(pattern, line) for line in self.lines) if m]
                if len(found) >= count:
                    return found[count - 1]
                left = end - time.monotonic()
                check(left > 0 and self.process.poll() is None, "no line %r in\n%s" % (pattern, self.said()))
                self._changed.wait(min(left, 0.2))

    def said(self):
        return "\n".join(self.lines + self.errors)

    def complaints(self):
        """What it said on standard error, but for HAProxy's own look for dead loops, which a sandbox may forbid."""
        return [line for line in list(self.errors) if "Failed to setup watchdog timer" not in line]

    def starts(self, n):
        """The processes that worker n had so far."""
        pattern = r"worker %d: ready \(process (\d+)" % n
        return [int(m.group(1)) for m in (re.search(pattern, line) for line in list(self.lines)) if m]

    def pid(self, n):
        return self.starts(n)[-1]

    def haproxy(self):
        """The master's process."""
        return [int(m.group(1)) for m in (re.search(r"(?:HAProxy, |haproxy: ready \()process (\d+)", line)
                                          for line in list(self.lines)) if m][-1]

    def execute(self, headers=None, **fields):
        """Connections end with the answer: the harness reads to the end."""
        return Stream(self.port, body_of(**fields), dict({"Connection": "close"}, **(headers or {})))

    def start(self, **fields):
        stream = self.execute(**fields)
        stream.next_named("token")
        return stream

    request = Worker.request
    get = Worker.get

    def kill(self, n):
        """A worker's end, and its next process, which gets requests soon after it is ready."""
        count = len(self.starts(n))
        os.kill(self.pid(n), signal.SIGKILL)
        self.wait_line(r"worker %d: ready" % n, count + 1)
        begin = time.monotonic()
        self.wait_up()
        timely(time.monotonic() - begin, 0, 1.5)

    def wait_up(self):
        """Until HAProxy knows that all workers are there."""
        end = time.monotonic() + LIMIT
        while self.servers_up() != self.n_workers():
            check(time.monotonic() < end, "HAProxy never saw all workers")
            time.sleep(0.02)

    def n_workers(self):
        return len({re.match(r"worker (\d+)", line).group(1) for line in list(self.lines) if line.startswith("worker ")})

    def folder(self):
        return os.path.join(self.temporary, os.listdir(self.temporary)[0])

    def metrics(self):
        """HAProxy's own."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(LIMIT)
            s.connect(os.path.join(self.folder(), "metrics"))
            s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
        return {m.group(1): float(m.group(2)) for m in re.finditer(r"^(haproxy_\S+) (\S+)$", text, re.MULTILINE)}

    def servers_up(self):
        found = self.metrics()
        return sum(found.get('haproxy_server_status{proxy="workers",server="%d",state="UP"}' % n, 0) for n in range(1, 9))

    def waiting(self):
        return int(self.metrics()['haproxy_backend_current_queue{proxy="workers"}'])

    def wait_waiting(self, n):
        end = time.monotonic() + LIMIT
        while self.waiting() != n:
            check(time.monotonic() < end, "%d wait, expected %d" % (self.waiting(), n))
            time.sleep(0.005)

    def processes(self):
        return processes_with(self.temporary)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, limit=LIMIT):
        """The exit status; nothing may be left."""
        status = self.process.wait(limit)
        for reader in self._readers:
            reader.join(limit)
        self.process.stdout.close()
        self.process.stderr.close()
        equal(self.processes(), [])
        equal(os.listdir(self.temporary), [])
        return status

    def stop(self):
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            equal(self.stop(), 0, self.said())
        else:  # the case has failed already
            self.process.terminate()
            self.process.wait(LIMIT)


def processes_with(text):
    """Those that have this in their command line or environment's TMPDIR."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as file:
                if text.encode() in file.read() and int(pid) != os.getpid():
                    found.append(int(pid))
        except OSError:
            pass
    return found


def prepare():
    """The reason not to run at all, or None."""
    if not HAPROXY:
        return "haproxy is not installed"
    if sanitized():
        return "drives HAProxy and a script: nothing here is about our C code alone"
    status, _, error = run_program("pack", "--model", SHAKESPEARE, "--out", PACKED)
    equal((status, error), (0, ""))
    return None


def shared(key, n, *args, **options):
    if key not in suite.workers:
        suite.workers[key] = Fleet(n, *args, **options)
        suite.workers[key].raw_log = suite.workers[key].errors
    return suite.workers[key]


def two():
    return shared("two", 2)


def real():
    return shared("real", 2, "--metrics-port", str(METRICS_PORT), program=BIN)


class Prometheus:
    """The real one with the configuration of docs/fleet.md, but for ports and seconds. It scrapes nothing in its first 5 s, so it is
    started early and asked late."""

    def __init__(self, fleet):
        self.folder, self.port = tempfile.mkdtemp(dir=FOLDER), free_port()
        with open(os.path.join(ROOT, "docs", "fleet.md"), encoding="utf-8") as file:
            text = re.search(r"^```yaml\n(scrape_configs:.*?)^```", file.read(), re.DOTALL | re.MULTILINE).group(1)
        text = text.replace(":8000", ":%d" % fleet.port).replace(":8405", ":%d" % METRICS_PORT)
        with open(os.path.join(self.folder, "p.yml"), "w", encoding="utf-8") as file:
            file.write("global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n" + text)
        self.process = subprocess.Popen(
            [shutil.which("prometheus"), "--config.file=p.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:%d" % self.port],
            cwd=self.folder, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def query(self, expression):
        """{labels but the name: value}"""
        url = "http://127.0.0.1:%d/api/v1/query?%s" % (self.port, urllib.parse.urlencode({"query": expression}))
        try:
            with urllib.request.urlopen(url, timeout=LIMIT) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:
            return {}
        return {tuple(sorted((k, v) for k, v in one["metric"].items() if k != "__name__")): float(one["value"][1]) for one in found}

    def stop(self):
        self.process.terminate()
        self.process.wait(LIMIT)


def essence(events):
    """What does not depend on time and place."""
    end = events[-1].data
    return ([(e.data["t"], e.data["i"]) for e in tokens_of(events)],
            [end.get(k) for k in ("type", "tokens_out", "stop_reason", "seed", "prompt_tokens")])


def check_shape(answer, openai, status, retry_after, part):
    got, headers, body = answer
    equal((got, headers["content-type"], headers.get("retry-after")), (status, "application/json", retry_after))
    check(headers["x-correlation-id"], "no id")
    body = json.loads(body)
    if openai:
        equal((sorted(body), sorted(body["error"])), (["error"], ["code", "message", "param", "type"]))
        equal((body["error"]["type"], body["error"]["code"]), ("server_error", "service_unavailable"))
        has(body["error"]["message"], part)
    else:
        equal((body["code"], body["retriable"]), ("WORKER_UNHEALTHY", True))
        has(body["message"], part)


def post(fleet, path):
    body = body_of() if path == "/execute" else {"prompt": "x"}
    return fleet.request("POST", path, body)


def spread(fleet, **fields):
    """64 requests at once, none with an error: who answered how many."""
    streams = [fleet.execute(job_id="j%d" % i, **fields) for i in range(64)]
    counts = Counter()
    for s in streams:
        events = s.collect()
        check_order(events)
        equal(events[-1].name, "end")
        counts[s.headers["x-worker"]] += 1
    return counts


def evenly(fleet, n):
    """Exactly even while nobody takes a processor away; an uneven balancer is so in every round."""
    rounds = []
    while len(rounds) < 5 and not (rounds and rounds[-1][0] >= 64 // n - 4):
        counts = spread(fleet, prompt="tokens=3 delay=%d" % (2 * n), max_tokens=3)
        equal(sorted(counts), [str(i + 1) for i in range(n)])
        rounds.append(sorted(counts.values()))
    check(rounds[-1][0] >= 64 // n - 4, "jobs of each worker, round by round: %s" % rounds)
    print("# %d workers: %s" % (n, rounds[-1]))


@contextlib.contextmanager
def haproxy(path):
    """A HAProxy of its own, as systemd runs it: a master that reloads. Yields its process and port."""
    port = free_port()
    environment = clean_environment({"LLORCH_BIND": "127.0.0.1:%d" % port, "LLORCH_METRICS": "127.0.0.1:%d" % free_port()})
    master = subprocess.Popen([HAPROXY, "-W", "-db", "-f", path], env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + LIMIT
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                check(time.monotonic() < end, "HAProxy does not listen")
                time.sleep(0.01)
        yield master, port
    finally:
        master.terminate()
        master.wait(LIMIT)


def second_haproxy(fleet):
    return haproxy(os.path.join(fleet.folder(), "haproxy.cfg"))


def deny_write_execute():
    """As MemoryDenyWriteExecute of systemd; without effect before Linux 6.3."""
    ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)


@suite.test
def haproxy_accepts_the_configuration_without_a_warning():
    done = subprocess.run([HAPROXY, "-c", "-f", CONFIG], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    equal((done.returncode, done.stdout), (0, b"Configuration file is valid\n"))
    done = subprocess.run([HAPROXY, "-c", "-f", CONFIG], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          preexec_fn=deny_write_execute)
    equal((done.returncode, done.stdout), (0, b"Configuration file is valid\n"), "in a sandbox")


@suite.case("64 requests on 2 workers: no error, 32 each, give or take 4")
def spread_2():
    evenly(two(), 2)


@suite.case("64 requests on 4 workers: no error, 16 each, give or take 4")
def spread_4():
    with Fleet(4) as f:
        evenly(f, 4)


@suite.case("64 requests to the model: the answers of one worker, bit for bit")
def same_bits():
    fields = [dict(prompt=p, seed=i, max_tokens=6 + i % 5, temperature=0.8) for i, p in
              enumerate(("ROMEO:", "What light", "O", "the king and the queen " * 6))]
    with Worker() as w:
        want = [essence(w.run(**f)) for f in fields]
        whole = json.loads(w.request("POST", "/v1/completions", COMPLETION)[2])
    for _ in range(4):
        status, headers, body = real().request("POST", "/v1/completions", COMPLETION)
        body = json.loads(body)
        equal((status, body["choices"], body["usage"]), (200, whole["choices"], whole["usage"]))
        check(headers["x-worker"] in ("1", "2"), headers)
    streams = [real().execute(**fields[i % len(fields)]) for i in range(64)]
    counts = Counter()
    for i, s in enumerate(streams):
        equal(essence(s.collect()), want[i % len(want)])
        counts[s.headers["x-worker"]] += 1
    within(min(counts.values()), 8, 32)  # jobs of a few ms: the spread is the scheduler's


@suite.test
def the_queue_is_bounded_and_answers_429_in_the_shape_of_each_api():
    f = two()
    held = [f.start(**ENDLESS) for _ in range(2)]
    waiting = [f.execute(prompt="tokens=1") for _ in range(64)]
    f.wait_waiting(64)
    check_shape(post(f, "/execute"), False, 429, "2", "the queue is full (64 waiting)")
    check_shape(post(f, "/v1/completions"), True, 429, "2", "the queue is full (64 waiting)")
    equal(f.get("/execute")[0], 405)  # takes no place, so it needs none
    for s in held:
        s.close()
    for s in waiting:
        check_order(s.collect())


@suite.test
def probes_wait_for_nothing_and_take_no_slot():
    f = two()
    held = [f.start(**ENDLESS) for _ in range(2)]
    waiting = f.execute(prompt="tokens=1")
    f.wait_waiting(1)
    times = []
    for path, status in (("/health", 200), ("/ready", 200), ("/live", 200), ("/worker/1/health", 200), ("/worker/2/health", 200),
                         ("/worker/1/ready", 200), ("/worker/2/live", 200), ("/nothing", 404), ("/worker/3/health", 503),
                         ("/worker/1/execute", 404), ("/worker/1/health/x", 404), ("/worker/01/ready", 503), ("/x/1/ready", 404), ("/shutdown", 404), ("/metrics", 404)) * 3:
        begin = time.monotonic()
        answer = f.get(path)
        times.append(time.monotonic() - begin)
        equal(answer[0], status, path)
        if path.endswith("/health") and status == 200:
            equal(answer[1]["state"], "busy")
        if path.startswith("/worker/") and path.endswith("health") and status == 200:
            equal(answer[1]["worker_id"], "worker-" + path[8])
    timely(sorted(times)[len(times) // 2], 0, 0.05)
    equal(f.waiting(), 1)
    for s in held:
        s.close()
    waiting.collect()


@suite.test
def each_token_leaves_when_it_comes():
    def close_ones():
        times = [e.at for e in tokens_of(two().execute(prompt="tokens=20 delay=15", max_tokens=20).collect())]
        return sum(b - a < 0.003 for a, b in zip(times, times[1:]))
    # A network that waits for more brings them in handfuls; so does a client that had to wait for a processor, now and then.
    within(min(close_ones() for _ in range(3)), 0, 9)


@suite.test
def a_body_that_drips_in_holds_no_slot():
    f = two()
    head = b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(socket.create_connection(("127.0.0.1", f.port))).sendall(head)
        begin = time.monotonic()
        check_order(f.execute(prompt="tokens=1").collect())
        timely(time.monotonic() - begin, 0, 2)  # the limit of a request is 10 s


def leave(stream, how):
    if how == "FIN":
        stream.socket.shutdown(socket.SHUT_WR)
    elif how == "close":
        stream.close()
    else:
        stream.reset()


@suite.test
def a_client_that_leaves_frees_its_worker():
    """Both workers are taken; who waits gets its token when one is free."""
    f, most = two(), []
    other = f.start(**ENDLESS)
    for how in ("FIN", "close", "RST"):
        for phase in ("streaming", "in the prompt"):
            tries = []
            while len(tries) < 4 and (not tries or tries[-1] > LEFT_SECONDS):
                if phase == "streaming":
                    stream = f.start(**ENDLESS)
                else:
                    stream = f.execute(prompt="prompt=4000 tokens=1")
                    check(stream.silent_for(0.05), "no headers before the first token")
                waiting = f.execute(prompt="tokens=1")
                f.wait_waiting(1)
                begin = time.monotonic()
                leave(stream, how)
                check_order(waiting.collect())
                tries.append(time.monotonic() - begin)
                stream.close()
            check(tries[-1] <= LEFT_SECONDS, "%s, %s: the worker was free after %s s" % (how, phase, tries))
            most.append(tries[-1])
    other.close()
    print("# free within %.0f ms" % (1000 * max(most)))


@suite.test
def the_same_with_workers_on_ports():
    """As the configuration stands in deploy/, but for the numbers of the ports."""
    path = os.path.join(FOLDER, "ports.cfg")
    with Worker("--queue", "1", "--defer-headers", stub=True) as w:
        write_config(CONFIG, path, ["127.0.0.1:%d" % w.port])
        with haproxy(path) as (_, port):
            check_order(Stream(port, body_of(), {"Connection": "close"}).collect())
            for how in ("FIN", "close", "RST"):
                stream = Stream(port, body_of(**ENDLESS))
                stream.next_named("token")
                waiting = Stream(port, body_of(prompt="tokens=1"), {"Connection": "close"})
                check(waiting.silent_for(0.05), "no headers before the first token")
                begin = time.monotonic()
                leave(stream, how)
                check_order(waiting.collect())
                timely(time.monotonic() - begin, 0, 3 * LEFT_SECONDS)  # one try on a busy machine
                stream.close()


@suite.test
def a_client_that_leaves_the_queue_never_reaches_a_worker():
    f = two()
    held = [f.start(**ENDLESS) for _ in range(2)]
    for how in ("FIN", "close", "RST"):
        gone = [f.execute(**ENDLESS) for _ in range(4)]
        f.wait_waiting(4)
        begin = time.monotonic()
        for s in gone:
            leave(s, how)
        f.wait_waiting(0)
        timely(time.monotonic() - begin, 0, 1)
        for s in gone:
            s.close()
    last = f.execute(prompt="tokens=1")
    begin = time.monotonic()
    held[0].close()
    check_order(last.collect())
    timely(time.monotonic() - begin, 0, 1)
    held[1].close()


def ends_without_its_terminal_event(stream):
    try:
        return b"event: end" not in stream.rest() and b"event: error" not in stream.raw
    except ConnectionResetError:
        return True


@suite.test
def a_killed_worker_cuts_only_its_own_stream():
    f = two()
    streams = {}
    while len(streams) < 2:
        stream = f.start(prompt="tokens=150 delay=4", max_tokens=150)
        streams[stream.headers["x-worker"]] = stream
    waiting = [f.execute(prompt="tokens=2 delay=2") for _ in range(8)]
    f.wait_waiting(8)
    f.kill(1)
    check(ends_without_its_terminal_event(streams["1"]), "the stream of the dead worker ended well")
    equal(len(tokens_of(streams["2"].collect())), 149)  # and the one that was read
    for s in waiting:
        check_order(s.collect())
    equal(sorted(spread(f, prompt="tokens=1 delay=4", max_tokens=1)), ["1", "2"])


@suite.test
def a_worker_killed_in_a_prompt_is_replaced_by_the_other():
    f = two()
    for n in (1, 2):  # the second prompt is longer than HAProxy's buffer would be
        stream = f.execute(prompt="prompt=300 tokens=2 " + (n - 1) * 20000 * "x")
        check(stream.silent_for(0.1), "no headers before the first token")
        count = [len(f.starts(i)) for i in (1, 2)]
        busy = [i for i in (1, 2) if f.get("/worker/%d/health" % i)[1]["state"] == "busy"]
        equal(len(busy), 1)
        os.kill(f.pid(busy[0]), signal.SIGKILL)
        check_order(stream.collect())
        equal(stream.headers["x-worker"], str(3 - busy[0]))
        f.wait_line("worker %d: ready" % busy[0], count[busy[0] - 1] + 1)
        f.wait_up()


@suite.test
def a_worker_that_gets_SIGTERM_loses_no_request():
    f = two()
    for round_ in range(6):
        n = 1 + round_ % 2
        count = len(f.starts(n))
        streams = [f.execute(prompt="tokens=6 delay=3", job_id=str(i)) for i in range(12)]
        time.sleep(0.01 * round_)
        os.kill(f.pid(n), signal.SIGTERM)
        for s in streams:
            events = s.collect()
            check_order(events)
            equal(events[-1].name, "end")
        f.wait_line("worker %d: ready" % n, count + 1)
        f.wait_up()


@suite.test
def SIGHUP_replaces_all_workers_without_an_error():
    f = two()
    before = [f.pid(1), f.pid(2)]
    done = sum("all workers are new" in line for line in f.lines)
    long = f.start(prompt="tokens=100 delay=5", max_tokens=100)
    f.signal(signal.SIGHUP)
    n = 0
    while sum("all workers are new" in line for line in list(f.lines)) == done:
        streams = [f.execute(prompt="tokens=2 delay=2") for _ in range(4)]
        for s in streams:
            check_order(s.collect())
        n += 1
    check(n > 1 and not set(before) & {f.pid(1), f.pid(2)}, "not replaced")
    equal(len(tokens_of(long.collect())), 99)
    equal([p for p in before if os.path.exists("/proc/%d" % p)], [])


@suite.test
def workers_that_die_while_an_old_one_finishes_its_job_are_started_again():
    with Fleet(2) as f:
        long = f.start(prompt="tokens=2000 delay=20", max_tokens=2000)
        n = int(long.headers["x-worker"])
        f.signal(signal.SIGHUP)
        f.wait_line("worker %d: ready" % n, 2)  # the second is not replaced before the first one is rid of its job
        if n == 1:
            os.kill(f.pid(2), signal.SIGKILL)
            f.wait_line("worker 2: ready", 2)
        os.kill(f.pid(n), signal.SIGKILL)
        f.wait_line("worker %d: ready" % n, 3)
        long.close()
        f.wait_line("all workers are new")


@suite.test
def a_SIGHUP_that_failed_can_be_tried_again():
    mark = os.path.join(FOLDER, "broken meanwhile")
    with Fleet(1, program=worker_script('[ -e "%s" ] && exit 1; run "$@"' % mark)) as f:
        old = f.pid(1)
        with open(mark, "w", encoding="ascii"):
            f.signal(signal.SIGHUP)
        end = time.monotonic() + LIMIT
        while not any("the workers not yet replaced go on as they are" in line for line in list(f.errors)):
            check(time.monotonic() < end, f.said())
            time.sleep(0.02)
        check_order(f.execute().collect())
        os.unlink(mark)
        f.signal(signal.SIGHUP)
        f.wait_line("all workers are new")
        check(not os.path.exists("/proc/%d" % old), "the old one still runs")
        check_order(f.execute().collect())


@suite.test
def a_worker_that_hangs_is_replaced_as_well():
    """One place alone, which waits a hundredth of the time."""
    given = types.SimpleNamespace(model=PACKED, log_level="warn", api_key_file=None, flags=[])

    async def replace_stopped():
        spot = place.Place(1, made_folder("hung"), STUB, given, asyncio.Lock())
        spot.model = PACKED
        await spot.start()
        old = spot.process
        old.send_signal(signal.SIGSTOP)
        await asyncio.wait_for(spot.replace(), LIMIT)
        equal((old.returncode, (await processes.ask(spot.link, "/ready"))[0]), (-signal.SIGKILL, 200))
        await processes.end_process(spot.process)

    place.HUNG_SECONDS, processes.END_SECONDS = place.HUNG_SECONDS / 100, processes.END_SECONDS / 20
    with contextlib.redirect_stdout(None):
        asyncio.run(replace_stopped())


@suite.test
def a_reload_of_HAProxy_loses_nothing():
    f = two()
    with second_haproxy(f) as (master, port):
        job = body_of(prompt="tokens=100 delay=5", max_tokens=100)
        streams = [Stream(port, job, {"Connection": "close"}) for _ in range(3)]
        streams[0].next_named("token")
        master.send_signal(signal.SIGUSR2)
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            check_order(Stream(port, body_of(prompt="tokens=1"), {"Connection": "close"}).collect())
        equal([len(tokens_of(s.collect())) for s in streams], [99, 100, 100])


@suite.test
def two_HAProxies_before_the_same_workers_cause_no_error():
    """Each sends one request at a time to each worker: with --queue 1 the second waits there. One that drains refuses it."""
    f = two()
    with second_haproxy(f) as (_, port):
        streams = [Stream(p, body_of(prompt="tokens=4 delay=3"), {"Connection": "close"}) for p in (port, f.port) * 16]
        for s in streams:
            check_order(s.collect())
        stream = Stream(port, body_of(prompt="tokens=100 delay=4", max_tokens=100), {"Connection": "close"})
        stream.next_named("token")
        n = int(stream.headers["x-worker"])
        count = len(f.starts(n))
        os.kill(f.pid(n), signal.SIGTERM)
        for _ in range(4):
            equal(essence(f.execute(prompt="tokens=1").collect())[1][0], "end")
        equal(len(tokens_of(stream.collect())), 99)
        f.wait_line("worker %d: ready" % n, count + 1)
        f.wait_up()


@suite.test
def an_HAProxy_that_is_killed_comes_back():
    f = two()
    stream = f.start(**ENDLESS)
    os.kill(f.haproxy(), signal.SIGKILL)
    check(ends_without_its_terminal_event(stream), "the stream ended well")
    f.wait_line(r"haproxy: ready")
    check_order(f.execute(prompt="tokens=1").collect())


@suite.test
def without_any_worker_the_answer_is_503_in_the_shape_of_each_api():
    f = two()
    starts = [len(f.starts(n)) for n in (1, 2)]
    f.signal(signal.SIGSTOP)  # nobody starts them again
    for n in (1, 2):
        os.kill(f.pid(n), signal.SIGKILL)
    for _ in range(2):
        check_shape(post(f, "/execute"), False, 503, "2", "no worker can take the request")
        check_shape(post(f, "/v1/completions"), True, 503, "2", "no worker can take the request")
    equal((f.get("/health")[0], f.get("/ready")[0], f.get("/live")[0], f.get("/worker/1/health")[0]), (503, 503, 200, 503))
    equal(f.get("/tokenize"), (503, {"error": {"code": 503, "message": "no worker can take the request", "type": "unavailable_error"}}))
    f.signal(signal.SIGCONT)
    for n in (1, 2):
        f.wait_line(r"worker %d: ready" % n, starts[n - 1] + 1)
    f.wait_up()
    check_order(f.execute(prompt="tokens=1").collect())


@contextlib.contextmanager
def broken_worker():
    """Its checks are good, its answers are not: a POST is never answered, another request ends without one. Yields its port."""
    def serve(connection):
        with connection, contextlib.suppress(ConnectionResetError):
            head = connection.recv(65536)
            if b"/ready" in head:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            elif head.startswith(b"POST"):
                while connection.recv(65536):  # until HAProxy has waited long enough
                    pass

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@suite.test
def an_error_of_the_proxy_has_its_own_status_in_each_shape():
    path = os.path.join(FOLDER, "broken.cfg")
    with broken_worker() as port:
        write_config(CONFIG, path, ["127.0.0.1:%d" % port])
        with open(path, encoding="utf-8") as file:
            text = file.read()
        with open(path, "w", encoding="utf-8") as file:
            file.write(re.sub(r"timeout server +\d+s", "timeout server 300ms", text))
        with haproxy(path) as (_, front):
            for method, status, message in (("GET", 502, "the worker ended before it answered"), ("POST", 504, "the worker did not answer in time")):
                got = [(answer[0], answer[1].get("retry-after"), json.loads(answer[2])) for answer in (
                    Worker.request(PortOnly(front), method, p, None if method == "GET" else {})
                    for p in ("/tokenize", "/detokenize", "/v1/models", "/health"))]
                llama = (status, "1", {"error": {"code": status, "message": message, "type": "unavailable_error"}})
                equal(got[:2], [llama, llama])
                equal((got[2][0], got[2][2]["error"]["message"], got[3][0], got[3][2]["message"]),
                      (status, message, status, "Worker unhealthy: " + message))


class PortOnly:
    """What Worker.request needs to know."""

    def __init__(self, port):
        self.port = port


@suite.test
def a_queue_of_0_takes_what_a_free_worker_takes():
    with Fleet(2, "--queue", "0") as f:
        for _ in range(4):
            check_order(f.execute(prompt="tokens=1").collect())
        held = [f.start(**ENDLESS) for _ in range(2)]
        check_shape(post(f, "/execute"), False, 429, "2", "the queue is full (0 waiting)")
        held[0].close()
        end = time.monotonic() + LIMIT
        while f.request("POST", "/execute", body_of(prompt="tokens=1"))[0] != 200:
            check(time.monotonic() < end, "no place came free")
        held[1].close()
        f.signal(signal.SIGSTOP)  # nobody starts them again
        for n in (1, 2):
            os.kill(f.pid(n), signal.SIGKILL)
        for _ in range(2):
            check_shape(post(f, "/execute"), False, 503, "2", "no worker can take the request")
        f.signal(signal.SIGCONT)


@suite.test
def a_request_is_cancelled_through_its_worker_s_path():
    f = two()
    stream = f.start(job_id="mine", **ENDLESS)
    status, _, body = f.request("POST", "/cancel", {"job_id": "mine"})
    equal(status, 404)
    has(json.loads(body)["message"], "/worker/N/cancel")
    equal(f.request("POST", "/worker/%s/cancel" % stream.headers["x-worker"], {"job_id": "mine"})[0], 202)
    equal(stream.collect()[-1].data["code"], "CANCELLED")


@suite.test
def ids_pass_and_are_made_up():
    f = two()
    stream = f.execute({"X-Correlation-ID": "my-id.1"}, prompt="tokens=1")
    equal(stream.collect()[0].data["correlation_id"], "my-id.1")
    equal(stream.headers["x-correlation-id"], "my-id.1")
    stream = f.execute({"X-Correlation-ID": "not an id"}, prompt="tokens=1")
    equal(stream.collect()[0].data["correlation_id"], stream.headers["x-correlation-id"])
    check(re.fullmatch(r"[0-9a-f-]{36}", stream.headers["x-correlation-id"]), stream.headers)


@suite.test
def API_keys_pass_and_the_checks_need_none():
    path = os.path.join(FOLDER, "keys")
    with open(path, "w", encoding="ascii", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        file.write(KEY + "\n")
    with Fleet(1, "--api-key-file", path) as f:
        equal(f.execute().wait_headers(), 401)
        check_order(f.execute({"Authorization": "Bearer " + KEY}).collect())
        equal((f.get("/ready")[0], f.get("/worker/1/ready")[0]), (200, 200))
        time.sleep(0.6)  # two checks more
        equal(f.servers_up(), 1)


@suite.test
def Ctrl_C_loses_no_request_that_was_accepted():
    f = Fleet(2)
    streams = [f.execute(prompt="tokens=10 delay=5", max_tokens=10) for _ in range(12)]
    f.wait_waiting(10)
    f.signal(signal.SIGINT)
    f.wait_line("Draining")
    for s in streams:
        events = s.collect()
        check_order(events)
        equal(events[-1].name, "end")
    equal(f.wait(), 0)
    equal(f.complaints(), [])
    try:
        socket.create_connection(("127.0.0.1", f.port)).close()
        raise AssertionError("somebody still listens")
    except ConnectionRefusedError:
        pass


@suite.test
def a_second_signal_ends_at_once():
    f = Fleet(1)
    stream = f.start(**ENDLESS)
    f.signal(signal.SIGTERM)
    f.wait_line("Draining")
    begin = time.monotonic()
    f.signal(signal.SIGTERM)
    equal(f.wait(), 0)
    timely(time.monotonic() - begin, 0, 4)
    check(ends_without_its_terminal_event(stream), "the stream ended well")


@suite.test
def killed_it_leaves_no_process():
    if not processes.guard():
        raise Skip("setpriv is not installed, or not allowed here")
    f = Fleet(2)
    stream = f.start(**ENDLESS)
    f.process.kill()
    f.process.wait(LIMIT)
    end = time.monotonic() + LIMIT
    while f.processes():
        check(time.monotonic() < end, "still there: %s" % f.processes())
        time.sleep(0.02)
    stream.close()


@suite.test
def it_works_for_an_ordinary_user():
    if os.geteuid() != 0:
        raise Skip("this is an ordinary user")
    if not shutil.which("setpriv"):
        raise Skip("setpriv is not installed")
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    if subprocess.run([*user, "cat", FLEET], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode != 0:
        raise Skip("the source tree is closed to other users")
    os.chmod(FOLDER, 0o755)
    f = Fleet(1, program=BIN, prefix=(*user, "sh", "-c", 'chmod 700 "$TMPDIR" 2>/dev/null; exec "$0" "$@"'), ready=False)
    os.chown(f.temporary, 65534, 65534)
    f.wait_line("Ctrl-C lets")
    check_order(f.execute(prompt="A").collect())
    equal(f.stop(), 0)


def take_terminal(slave):
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


@suite.test
def a_terminal_that_goes_away_ends_it():
    master, slave = pty.openpty()
    f = Fleet(1, stdin=slave, prepare=lambda: take_terminal(slave))
    os.close(slave)
    f.signal(signal.SIGHUP)  # with the terminal in its place this means something else
    f.wait_line("all workers are new")
    os.close(master)
    equal(f.wait(), 0)


def fails(status, part, *args, env=None):
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        got, out, error = run_program(*args, program=FLEET, env=dict({"TMPDIR": folder}, **(env or {})))
        equal(got, status, error + out)
        check(error.splitlines()[-1].startswith("fleet: "), error)
        has(error, part)
        equal((os.listdir(folder), processes_with(folder)), ([], []))


@suite.test
def what_is_wrong_is_said_in_a_line():
    cases = []

    def case(*args, **more):
        cases.append((args, more))

    case(2, "x: expected a number from 1 to 1024", "x")
    case(2, "--port: 0: expected a number from 1 to 65535", "--port", "0")
    case(2, "unrecognized arguments: --nothing", "--nothing")
    case(2, "--metrics-port: 8001 is the port of the requests (--port)", "--port", "8001", "--metrics-port", "8001")
    case(1, "--program: /nothing cannot be run", "--program", "/nothing")
    case(1, "--config: /nothing: No such file or directory", "--config", "/nothing", "--program", STUB, "--port", str(free_port()))
    case(1, "No such file", "--program", BIN, "--model", "/nothing", "--port", str(free_port()))
    case(1, "is packed already", "--program", BIN, "--model", PACKED, "--type", "f32", "--port", str(free_port()))
    case(1, "127.0.0.1:%d: Address already in use; another --port may help" % two().port, "--port", str(two().port),
          "--program", STUB)
    case(1, "worker 1 ended with status 2 at its start", "1", "--program", BIN, "--model", PACKED, "--port", str(free_port()),
          "--", "--no-such-flag")
    bad = os.path.join(FOLDER, "bad.cfg")
    with open(CONFIG, encoding="utf-8") as file, open(bad, "w", encoding="utf-8") as out:
        out.write(file.read().replace("balance leastconn", "balance nothing"))
    case(1, "haproxy does not accept " + bad, "--config", bad, "--program", STUB, "--model", PACKED, "--port", str(free_port()))
    case(1, "too long for a Unix socket", "--program", STUB, "--model", PACKED, env={"TMPDIR": made_folder("x" * 80)})
    case(1, "/nothing: No such file or directory; TMPDIR names another folder", "--program", STUB, env={"TMPDIR": "/nothing"})
    with ThreadPoolExecutor(4) as pool:
        for result in [pool.submit(fails, *args, **more) for args, more in cases]:
            result.result()


def refused(function, *args):
    """The words of a Failure."""
    try:
        function(*args)
    except Failure as error:
        return str(error)
    raise AssertionError("accepted: %s" % (args,))


@suite.test
def what_is_wrong_is_named_by_its_option():
    equal(refused(needs.find_program, "/tmp"), "--program: /tmp cannot be run")
    has(refused(needs.check_port_free, "[::1]", 8000, "--port"), "--host: [::1]: ")
    has(refused(needs.check_port_free, "192.0.2.1", 8000, "--port"), "--host: 192.0.2.1: Cannot assign requested address; expected an address")
    equal(refused(write_config, "/tmp", "/nothing", []), "--config: /tmp: Is a directory")
    for name in ("/tmp/a,b", "/tmp/$a", "/tmp/a\nb"):
        has(refused(needs.check_folder, name), name + ": HAProxy takes no socket whose name has a dollar sign")
    has(refused(needs.check_folder, "/tmp/" + 50 * "\u20ac"), "too long for a Unix socket")


def made_folder(name):
    path = os.path.join(FOLDER, name)
    os.makedirs(path, exist_ok=True)
    return path


def worker_script(text):
    """A worker that is a shell script: what --worker-id says is in $id, and run "$@" is the stub."""
    path = os.path.join(made_folder("a program's"), "worker")
    with open(path, "w", encoding="utf-8") as file:
        file.write('#!/bin/sh\nrun() { exec "%s" "$@"; }\nprevious=\nfor word; do [ "$previous" = --worker-id ] && id=$word; previous=$word; done\n%s\n'
                   % (STUB, text))
    os.chmod(path, 0o755)
    return path


@suite.test
def one_worker_that_cannot_start_is_enough_whoever_still_loads():
    fails(1, "worker 2 ended with status 3 at its start", "2", "--model", PACKED, "--port", str(free_port()), "--program",
          worker_script('[ "$id" = worker-2 ] && exit 3; exec sleep 100'))


@suite.test
def a_worker_that_ended_well_and_cannot_start_again_is_tried_less_and_less_often():
    mark = os.path.join(FOLDER, "no more")
    with Fleet(1, program=worker_script('[ -e "%s" ] && exit 1; run "$@"' % mark)) as f:
        with open(mark, "w", encoding="ascii"):
            os.kill(f.pid(1), signal.SIGTERM)
        for text in ("ended with status 0, starts again in 0.1 s", "ended with status 1 at its start, starts again in 0.2 s",
                     "ended with status 1 at its start, starts again in 0.4 s"):
            f.wait_line("^worker 1: " + text)
        os.unlink(mark)
        f.wait_line("worker 1: ready", 2)


@suite.test
def odd_surroundings_are_none_of_its_business():
    """Blanks and quotes in TMPDIR, a setpriv that a sandbox does not let work, and a service manager that waits for whoever started the
    fleet, not for a worker."""
    fake = os.path.join(made_folder("bin"), "setpriv")
    with open(fake, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\nexit 1\n")
    os.chmod(fake, 0o755)
    with Fleet(2, env={"TMPDIR": made_folder("a b's \"c\" #d"), "PATH": os.path.dirname(fake) + ":" + os.environ["PATH"],
                       "NOTIFY_SOCKET": "@nobody", "WATCHDOG_USEC": "1000000"}) as f:
        check_order(f.execute().collect())
        equal(f.get("/worker/2/ready")[0], 200)
        with open("/proc/%d/environ" % f.pid(1), "rb") as file:
            equal([v for v in file.read().split(b"\0") if v.startswith((b"NOTIFY_", b"WATCHDOG_"))], [])


@suite.test
def nobody_need_read_what_it_says():
    f = Fleet(1, prefix=("sh", "-c", 'exec "$0" "$@" >&- 2>&-'), ready=False)
    end = time.monotonic() + LIMIT
    while True:
        try:
            check_order(f.execute().collect())
            break
        except ConnectionRefusedError:
            check(time.monotonic() < end and f.process.poll() is None, "it does not serve")
            time.sleep(0.02)
    equal(f.stop(), 0)


@suite.test
def a_signal_leaves_nothing_behind_at_whatever_moment_it_comes():
    fleets = [Fleet(2, ready=False) for _ in range(8)]
    for f in fleets:
        time.sleep(0.06)
        f.signal(signal.SIGTERM)
    for f in fleets:
        check(f.wait() in (0, -signal.SIGTERM), f.said())
        equal(f.complaints(), [])


@suite.test
def without_haproxy_it_names_the_command_that_installs_it():
    more, needs.MORE_PATH = needs.MORE_PATH, ""
    path, os.environ["PATH"] = os.environ["PATH"], FOLDER
    try:
        needs.find_haproxy()
        raise AssertionError("found")
    except Failure as error:
        has(str(error), "apt-get install --no-install-recommends haproxy")
    finally:
        needs.MORE_PATH, os.environ["PATH"] = more, path


@suite.test
def a_model_has_the_name_that_a_worker_would_give_it():
    name = needs.model_name
    snapshot = os.path.join(FOLDER, "models--some-one--gpt2.x", "snapshots", "0123456789" * 4)
    os.makedirs(snapshot)
    for path, wanted in ((SHAKESPEARE, "shakespeare"), (SHAKESPEARE + "/", "shakespeare"), (PACKED, "shakespeare"),
                         (os.path.join(SHAKESPEARE, "reference", ".."), "shakespeare"), ("some-one/gpt2.x", "gpt2.x"),
                         ("some-one/gpt2.x@refs/pr/1", "gpt2.x"), (snapshot, "gpt2.x"), (snapshot + "/", "gpt2.x")):
        equal(name(path), wanted)


@suite.test
def a_model_that_is_not_packed_is_packed_once():
    with Fleet(2, "--type", "q8_0", "--host", "::1" if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6") else "127.0.0.1",
               "--metrics-port", str(free_port()), "--", "--max-context", "32", program=BIN, model=TINY) as f:
        equal(sum("packed" in line for line in f.lines), 1)


@suite.test
def silence_is_no_error_until_its_limit():
    """All times a hundredth: a prompt of 1.5 s stands for one of 150 s, longer than the client's limit, 60."""
    path = os.path.join(FOLDER, "hundredth.cfg")
    with open(CONFIG, encoding="utf-8") as file, open(path, "w", encoding="utf-8") as out:
        out.write(re.sub(r"^(    timeout (?:client|server|queue) +)(\d+)s", r"\g<1>\g<2>0ms", file.read(), flags=re.MULTILINE))
    with Fleet(1, "--config", path, env={"STUB_KEEP_ALIVE_MS": 100}) as f:
        streams = [f.execute(prompt="prompt=1200 tokens=1"), f.execute(prompt="tokens=2 delay=900")]
        for s in streams:
            check_order(s.collect())
        check(len(streams[1].comments) > 5, "no comments")


@suite.test
def a_real_Prometheus_tells_workers_and_HAProxy_apart_as_the_document_says():
    if not watching:
        raise Skip("prometheus is not installed")
    end = time.monotonic() + LIMIT
    up = {(("instance", "worker-1"), ("job", "llorch")): 1, (("instance", "worker-2"), ("job", "llorch")): 1,
          (("instance", "127.0.0.1:%d" % METRICS_PORT), ("job", "haproxy")): 1}
    while watching.query("up") != up:
        check(time.monotonic() < end, watching.query("up"))
        time.sleep(0.1)
    equal(watching.query('count by (instance, worker_id) (llorch_worker_info{job="llorch"})'),
          {(("instance", name), ("worker_id", name)): 1 for name in ("worker-1", "worker-2")})
    for expression, value in (('haproxy_backend_current_queue{proxy="workers"}', 0),
                              ('sum(haproxy_server_status{proxy="workers",state="UP"})', 2),
                              ('haproxy_backend_http_responses_total{proxy="workers",code="5xx"}', 0)):
        equal(list(watching.query(expression).values()), [value], expression)


reason = prepare()
if reason:
    print(reason)
    status = 77
else:
    if shutil.which("prometheus"):
        watching = Prometheus(real())
    status = suite.run()
    if watching:
        watching.stop()
shutil.rmtree(FOLDER, ignore_errors=True)
sys.exit(status)
