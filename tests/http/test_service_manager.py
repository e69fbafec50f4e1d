#!/usr/bin/env python3
"""What a service manager is told and what it passes (contract 2.2), without one: a datagram socket of this test is NOTIFY_SOCKET,
and a listening socket is passed as descriptor 3. tests/http/test_systemd.py has the real one.
"""
# Runs beside others: nothing here measures time.
import errno
import itertools
import os
import signal
import socket
import sys
import tempfile
import time

from harness import (BIN, LIMIT, SLOW, TINY, Skip, Stream, Suite, Worker, body_of, check, check_order, equal, has, run_program,
                     sanitized, text_of)
import test_faults

suite = Suite()


class OwnSocket:
    """self.socket, with a folder for its path; both are gone in the end."""

    def close(self):
        self.socket.close()
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Manager(OwnSocket):
    """A NOTIFY_SOCKET; datagrams as lists of their lines, in order."""

    def __init__(self, abstract=False):
        self.folder = tempfile.TemporaryDirectory()
        self.name = "@llorch-test-%d" % os.getpid() if abstract else os.path.join(self.folder.name, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.name.replace("@", "\0", 1) if abstract else self.name)
        self.seen = []

    def next(self, limit=LIMIT):
        """The next datagram, or None."""
        self.socket.settimeout(limit)
        try:
            self.seen.append(self.socket.recv(4096).decode().splitlines())
        except (socket.timeout, BlockingIOError):
            return None
        return self.seen[-1]

    def wait(self, line, limit=LIMIT):
        """The first datagram, of those not yet looked at, with a line that begins so."""
        end = time.monotonic() + limit * SLOW
        while True:
            message = self.next(max(0.01, end - time.monotonic()))
            check(message is not None, "no %s in %s" % (line, self.seen))
            if any(part.startswith(line) for part in message):
                return message

    def drain(self):
        while self.next(0.001) is not None:
            pass


def managed(manager, **more):
    return dict({"NOTIFY_SOCKET": manager.name}, **more)


@suite.test
def it_tells_when_it_loads_is_ready_busy_drains_and_ends():
    with Manager() as m, Worker(stub=True, env=managed(m, STUB_LOAD_MS=1300), ready=False) as w:
        first = m.wait("STATUS=")
        equal(first, ["EXTEND_TIMEOUT_USEC=60000000", "STATUS=Loading shakespeare: 0 %"])
        second = m.wait("STATUS=")
        has(second, "EXTEND_TIMEOUT_USEC=60000000")
        check(0 < int(second[-1].split()[-2]) < 100, second)
        ready = m.wait("READY=1")
        equal(ready, ["READY=1", "STATUS=Ready: shakespeare"])
        equal(w.get("/ready")[0], 200)
        job = w.start(prompt="tokens=15 delay=100", max_tokens=15)
        waiting = w.execute(prompt="x")
        equal(m.wait("STATUS=")[0].split(",")[0], "STATUS=Busy: shakespeare")
        w.signal(signal.SIGTERM)
        equal(m.wait("STOPPING=1"), ["STOPPING=1", "STATUS=Draining: 1 job left"])
        equal(waiting.collect()[-1].name, "error")
        equal(job.collect()[-1].name, "end")
        equal(w.wait(), 0)
        m.drain()
        lines = [line for message in m.seen for line in message]
        equal((lines.count("READY=1"), lines.count("STOPPING=1"), lines.count("WATCHDOG=1")), (1, 1, 0))
        check(not any(line.startswith("MAINPID") for line in lines), lines)
        # One line of status a second, but for ready and draining: a flood of jobs is no flood of messages.
        check(sum(line.startswith("STATUS") for line in lines) <= 12, lines)


@suite.test
def many_short_jobs_are_few_messages():
    with Manager() as m, Worker(stub=True, env=managed(m)) as w:
        begin = time.monotonic()
        for _ in range(50):
            w.run(prompt="tokens=2")
        w.wait_state("ready")
        seconds = time.monotonic() - begin
        m.drain()
        check(len(m.seen) <= 4 + seconds, m.seen)
        time.sleep(0.1)
        # What it is told in the end is how things are.
        last = m.seen[-1] if m.seen[-1][-1].endswith("Ready: shakespeare") else m.wait("STATUS=Ready")
        equal(last[-1], "STATUS=Ready: shakespeare")


@suite.test
def an_abstract_name_is_a_name():
    with Manager(abstract=True) as m, Worker(stub=True, env=managed(m)):
        m.wait("READY=1")


@suite.test
def the_status_says_why_the_start_failed():
    with Manager() as m:
        with Worker("--model", "/nowhere\nREADY=1", env=managed(m), ready=False, model=None) as w:
            equal(w.wait(), 1)
            failed = m.wait("STATUS=Failed")
            has(failed[-1], "/nowhere\\nREADY=1")
            check(not any("READY=1" in message for message in m.seen), m.seen)


@suite.test
def a_name_adds_no_line_to_the_status():
    with Manager() as m, Worker("--model-name", "a\nSTOPPING=1", stub=True, env=managed(m)):
        equal(m.wait("READY=1"), ["READY=1", "STATUS=Ready: a\\nSTOPPING=1"])


@suite.test
def a_signal_while_loading_is_a_stop():
    with Manager() as m, Worker(stub=True, env=managed(m, STUB_LOAD_MS=20000), ready=False) as w:
        m.wait("STATUS=Loading")
        w.signal(signal.SIGTERM)
        m.wait("STOPPING=1")
        equal(w.wait(), 0)


def beats(manager, seconds):
    """Signs of life in so many seconds."""
    manager.drain()
    del manager.seen[:]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        manager.next(max(0.001, end - time.monotonic()))
    return sum("WATCHDOG=1" in message for message in manager.seen)


@suite.test
def signs_of_life_come_while_loading_idle_and_in_a_long_prompt_and_stop_when_the_loop_does():
    with Manager() as m, Worker(stub=True, env=managed(m, WATCHDOG_USEC=100000, STUB_LOAD_MS=700), ready=False) as w:
        check(beats(m, 0.4) >= 3, "loading: %s" % m.seen)
        w.wait_log("Worker ready")
        check(beats(m, 0.4) >= 3, "idle: %s" % m.seen)
        check(beats(m, 0.3) <= 9, "too many: %s" % m.seen)
        with_prompt = w.execute(prompt="prompt=700 tokens=1")
        with_prompt.next_named("started")
        check(beats(m, 0.4) >= 3, "prompt: %s" % m.seen)
        with_prompt.collect()
        deaf = w.execute(prompt="deaf=1200 tokens=1")
        deaf.next_named("started")
        time.sleep(0.1)
        equal(beats(m, 0.3), 0, "a stuck loop")
        deaf.collect()
        m.wait("WATCHDOG=1")
        w.signal(signal.SIGSTOP)
        time.sleep(0.1)
        equal(beats(m, 0.3), 0, "stopped")
        w.signal(signal.SIGCONT)
        m.wait("WATCHDOG=1")


@suite.test
def a_client_that_does_not_read_stops_no_sign_of_life():
    with Manager() as m, Worker(stub=True, env=managed(m, WATCHDOG_USEC=100000)) as w:
        stream = Stream(w.port, body_of(prompt="tokens=400 size=4000", max_tokens=400), receive_buffer=4096)
        stream.next_named("token")
        check(beats(m, 0.4) >= 3, m.seen)
        stream.reset()


@suite.case("a watchdog for another process is none", {"WATCHDOG_PID": "1"})
@suite.case("a watchdog of no time is none, with a warning", {"WATCHDOG_USEC": "0"})
@suite.case("a watchdog of half a number is none, with a warning", {"WATCHDOG_USEC": "2e5"})
def no_watchdog(env):
    with Manager() as m, Worker(stub=True, env=dict(managed(m, WATCHDOG_USEC=100000), **env)) as w:
        m.wait("READY=1")
        equal(beats(m, 0.2), 0)
        warned = [line for line in w.log_messages() if "service manager" in line]
        equal(len(warned), 0 if "WATCHDOG_PID" in env else 1)


@suite.case("no socket is there", "/nowhere/notify")
@suite.case("a relative path", "notify")
@suite.case("a name that is too long", "/" + "x" * 5000)
@suite.case("an abstract name that is too long", "@" + "x" * 108)
@suite.case("a socket of another kind", "vsock:2:1234")
@suite.case("a name that is not UTF-8", b"/\xff\xfe")
def a_socket_that_cannot_be(name):
    name = os.fsdecode(name) if isinstance(name, bytes) else name
    with Worker(stub=True, env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": 100000}) as w:
        equal(w.get("/ready")[0], 200)
        check_order(w.run(prompt="tokens=3"))
        time.sleep(0.15)  # three signs of life would have been due
        warned = [line for line in w.log_messages() if "service manager" in line]
        equal(len(warned), 1, "\n".join(w.raw_log))
        equal(w.stop(), 0)


def fill(name):
    """How many datagrams a new sender gets rid of: it has a bound of its own, below that of a queue as long as systemd makes it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for n in itertools.count():
            try:
                sender.sendto(b"X=1", name)
            except BlockingIOError:
                return n


@suite.test
def a_manager_that_does_not_read_stops_nothing_and_learns_all_when_it_does():
    with Manager() as m:
        while fill(m.name) > 0:  # its queue is full before the worker starts
            pass
        with Worker(stub=True, env=managed(m)) as w:
            check_order(w.run(prompt="tokens=3"))
            has(" ".join(w.log_messages()), "cannot be told")
            m.wait("READY=1")


@suite.test
def a_manager_that_comes_back_is_told_again():
    with Manager() as m, Worker(stub=True, env=managed(m, WATCHDOG_USEC=200000)) as w:
        m.wait("READY=1")
        m.socket.close()
        os.unlink(m.name)
        w.wait_log("cannot be told")
        check_order(w.run(prompt="tokens=3"))
        m.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        m.socket.bind(m.name)
        m.wait("WATCHDOG=1")
        equal(w.stop(), 0)


@suite.test
def the_variables_are_not_passed_on():
    with Manager() as m, Inherited() as i, i.worker(env=managed(m, WATCHDOG_USEC=200000)) as w:
        m.wait("READY=1")
        equal(w.threads(), [str(w.pid)])
        equal(os.readlink("/proc/%d/fd/3" % w.pid).split(":")[0], "socket")
        with open("/proc/%d/fdinfo/3" % w.pid, encoding="ascii") as file:
            flags = int(file.read().split("flags:")[1].split()[0], 8)
        equal((flags & os.O_CLOEXEC, flags & os.O_NONBLOCK), (os.O_CLOEXEC, os.O_NONBLOCK))


class Inherited(OwnSocket):
    """A listening socket to pass; a Unix socket's path is self.path."""

    def __init__(self, family=socket.AF_UNIX, kind=socket.SOCK_STREAM, listen=True, host="127.0.0.1"):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "s") if family == socket.AF_UNIX else None
        self.socket = socket.socket(family, kind)
        self.socket.bind(self.path or (host, 0))
        if listen:
            self.socket.listen(64)
        self.address = self.socket.getsockname()

    def worker(self, *args, env=None, fds=1, **more):
        """A shell becomes the worker, so that it can say its own number."""
        script = 'exec 3<&%d; LISTEN_PID=$$ LD_PRELOAD=$PRELOAD exec "$@"' % self.socket.fileno()
        variables = dict({"LISTEN_FDS": fds, "PORT": "none"}, **(env or {}))  # PORT is not looked at
        variables["PRELOAD"] = variables.pop("LD_PRELOAD", "")  # not into the shell
        return Worker(*args, env=variables, wrap=["/bin/sh", "-c", script, "sh"], pass_fds=[self.socket.fileno()],
                      **dict({"stub": True}, **more))

    def connect(self):
        s = socket.socket(self.socket.family, socket.SOCK_STREAM)
        s.settimeout(LIMIT)
        s.connect(self.address)
        return s


def send(s, path="/health"):
    s.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode())
    return s


def answer(s):
    data = b""
    while True:
        piece = s.recv(65536)
        if not piece:
            s.close()
            return data
        data += piece


@suite.test
def a_passed_unix_socket_is_served_and_stays():
    with Inherited() as i:
        os.chmod(i.path, 0o640)
        with i.worker(env={"LISTEN_FDNAMES": "llorch.socket"}) as w:
            line = w.wait_log("Listening on a socket of the service manager")
            equal((line["address"], line["name"]), ("unix:" + i.path, "llorch.socket"))
            equal((w.wait_log("Worker ready")["host"], w.port), ("fd:3", 0))
            has(answer(send(i.connect())), b'"port":null')
            check(not any("public" in m for m in w.log_messages()), w.raw_log)
            equal(w.stop(), 0)
        equal(os.stat(i.path).st_mode & 0o777, 0o640)
        equal(os.listdir(i.folder.name), ["s"])
        with i.worker():  # and the next one serves it as well
            has(answer(send(i.connect())), b"200 OK")


@suite.case("a passed TCP socket is served", socket.AF_INET, "127.0.0.1", 0)
@suite.case("a passed TCP socket for everybody is warned of", socket.AF_INET, "0.0.0.0", 1)
@suite.case("a passed IPv6 socket is served", socket.AF_INET6, "::1", 0)
def a_passed_tcp_socket(family, host, n_warnings):
    try:
        passed = Inherited(family, host=host)
    except OSError as error:
        raise Skip("no such address here: %s" % error) from error
    with passed as i, i.worker() as w:
        equal(w.port, i.address[1])
        has(answer(send(i.connect())), b'"port":%d' % i.address[1])
        equal(sum("public" in m for m in w.log_messages()), n_warnings)


@suite.test
def the_callback_carries_the_address_of_a_passed_socket():
    with socket.create_server(("127.0.0.1", 0)) as pool, Inherited(socket.AF_INET) as i:
        with i.worker("--callback-url", "http://127.0.0.1:%d/ready" % pool.getsockname()[1]):
            visitor = pool.accept()[0]
            has(visitor.recv(65536), b'"uri":"http://localhost:%d"' % i.address[1])
            visitor.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            visitor.close()


@suite.test
def requests_that_come_while_it_loads_are_answered_when_it_is_ready():
    with Inherited() as i:
        early = send(i.connect(), "/ready")  # before there is a process
        with i.worker(env={"STUB_LOAD_MS": 600}, ready=False) as w:
            w.wait_log("Loading model...")
            later = send(i.connect(), "/ready")
            has(answer(early), b"200 OK")
            has(answer(later), b"200 OK")
            w.wait_log("Worker ready")


@suite.test
def requests_that_come_while_it_drains_wait_for_the_next_worker():
    with Inherited() as i:
        with i.worker() as w:
            job = send_job(i, "tokens=10 delay=100")
            while b"event: token" not in job.recv(4096):
                pass
            w.signal(signal.SIGTERM)
            w.wait_log("Shutting down")
            waiting = [send(i.connect()) for _ in range(5)]
            has(answer(job), b"event: end")
            equal(w.wait(), 0)
        with i.worker(env={"WORKER_ID": "next"}):
            for s in waiting:
                has(answer(s), b'"worker_id":"next"')


def send_job(inherited, prompt):
    body = b'{"job_id":"j","prompt":"%s","max_tokens":10}' % prompt.encode()
    s = inherited.connect()
    s.sendall(b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
              % (len(body), body))
    return s


@suite.case("requests that come with the signal are answered, by this worker or the next", 0, 8)
@suite.case("so are those on connections that it had taken in", 3, 0)
def requests_with_the_signal(n_known, n_new):
    with Inherited() as i:
        with i.worker() as w:
            known = [i.connect() for _ in range(n_known)]
            answer(send(i.connect()))  # the others were taken in before that
            w.signal(signal.SIGSTOP)
            waiting = [send(s) for s in known] + [send(i.connect()) for _ in range(n_new)]
            w.signal(signal.SIGTERM)
            w.signal(signal.SIGCONT)
            equal(w.wait(), 0)
        with i.worker():
            for s in waiting:
                has(answer(s), b"200 OK")


# What is wrong, the exit status, and part of the message.
REFUSED = [
    ("two sockets", {"fds": 2}, 2, "LISTEN_FDS: 2 sockets were passed (a:b), expected 1"),
    ("a number of sockets that is none", {"fds": "1x"}, 2, "LISTEN_FDS: 1x: expected the number of sockets"),
    ("a negative number", {"fds": "-1"}, 2, "LISTEN_FDS: -1: expected"),
    ("a number beyond all bounds", {"fds": "9" * 400}, 2, "LISTEN_FDS: 99"),
    ("--port beside the socket", {"args": ("--port", "3000")}, 2, "--port: the service manager passed a listening socket"),
    ("--host beside the socket", {"args": ("--host", "127.0.0.1")}, 2, "--host: the service manager passed a listening"),
    ("--unix-mode beside the socket", {"args": ("--unix-mode", "0600")}, 2, "--unix-mode: needs --host unix:PATH"),
    ("a callback without an address", {"args": ("--callback-url", "http://127.0.0.1:1/x")}, 2, "add --uri"),
    ("a datagram socket", {"kind": socket.SOCK_DGRAM, "listen": False}, 1, "descriptor 3: it is neither a TCP nor a Unix stream"),
    ("a socket that does not listen", {"listen": False}, 1, "descriptor 3: the socket does not listen"),
    ("a file", {"file": os.devnull}, 1, "descriptor 3: it is not a socket"),
    ("nothing", {"file": None}, 1, "Failed to listen on descriptor 3: "),
]


def refused(how, status, message):
    with Inherited(kind=how.get("kind", socket.SOCK_STREAM), listen=how.get("listen", True)) as i:
        source = "<&%d" % i.socket.fileno()
        if "file" in how:
            source = "<%s" % how["file"] if how["file"] else "<&-"
        env = dict(os.environ, LISTEN_FDS=str(how.get("fds", 1)), LISTEN_FDNAMES="a:b")
        env.pop("PORT", None)
        script = 'exec 3%s; LISTEN_PID=$$ exec "$@"' % source
        got, _, errors = run_program("-c", script, "sh", BIN, "--model", TINY, *how.get("args", ()), program="/bin/sh", env=env,
                                     pass_fds=[i.socket.fileno()])
        equal(got, status, errors)
        has(errors, message)
        check(all(len(line) < 1000 for line in errors.splitlines()), errors)
        equal(os.listdir(i.folder.name), ["s"])


for case_name, case_how, case_status, case_message in REFUSED:
    suite.case("refuses " + case_name, case_how, case_status, case_message)(refused)


@suite.case("sockets for another process are not looked at", {"LISTEN_PID": "1", "LISTEN_FDS": "7"})
@suite.case("no sockets are no sockets", {"LISTEN_FDS": "7"})
def not_ours(env):
    with Worker(stub=True, env=env) as w:
        equal(w.get("/ready")[0], 200)


@suite.test
def a_damaged_pid_is_refused():
    status, _, errors = run_program("--model", TINY, env={"LISTEN_PID": "1 1", "LISTEN_FDS": "1"})
    equal(status, 2, errors)
    has(errors, "LISTEN_PID: 1 1: expected the number of a process")


@suite.test
def every_failing_send_is_survived():
    """sendto fails once, and for good, with whatever the kernel says."""
    if sanitized():
        raise Skip("functions are made to fail by a library to preload")
    for what, count in [(e, 1) for e in (errno.EAGAIN, errno.ENOBUFS, errno.ECONNREFUSED, errno.EPIPE)] + [(errno.EPERM, 0)]:
        for at in (1, 2):
            env = test_faults.shim_environment("sendto", at, count, what)
            with Manager() as m, Worker(model=TINY, env=dict(managed(m, WATCHDOG_USEC=200000), **env)) as w:
                check(text_of(w.run(prompt="What", max_tokens=4)) != "", "no text")
                if count:
                    m.wait("READY=1")
                has(" ".join(w.log_messages()), "cannot be told, trying again")
                equal(w.stop(), 0)


@suite.case("without a socket to send with all else works", "socket", errno.EMFILE, 0)
@suite.case("a descriptor 3 that tells nothing of itself is refused", "getsockopt", errno.ENOBUFS, 3)
@suite.case("a descriptor 3 without an address is refused", "getsockname", errno.ENOBUFS, 1)
@suite.case("a descriptor 3 that cannot be set up is refused", "fcntl", errno.EINVAL, 3)
def a_failing_call(function, what, n_refused):
    """Each call in turn. n_refused: how many of them the socket to listen on depends on."""
    if sanitized():
        raise Skip("functions are made to fail by a library to preload")
    refusals = 0
    with Manager() as m, Inherited(socket.AF_INET) as i:
        for at in range(1, 9):
            env = test_faults.shim_environment(function, at, 1, what)
            with i.worker(stub=False, model=TINY, env=dict(managed(m), **env), ready=False) as w:
                try:
                    w.wait_log("Worker ready")
                except AssertionError:
                    log = "\n".join(w.raw_log)
                    equal(w.wait(), 1, log)
                    refusals += "Failed to listen on descriptor 3" in log
                    continue
                has(answer(send(i.connect())), b"200 OK")
                equal(w.stop(), 0)
    equal(refusals, n_refused)


sys.exit(suite.run())
