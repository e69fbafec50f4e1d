#!/usr/bin/env python3
"""The n-th call of a system function fails, or moves one byte, in the real program (tests/fault_shim.c, preloaded).

A counting run says how often a scenario calls each function: start, a job, probes, a bad request, a cancel, a client that
leaves, one more job, SIGTERM. Then call number n fails, for every n with LLORCH_TEST_ALL=1 (make faults), else for a
spread sample. A start that fails says why, once, and exits 1; whatever goes on serves the last job as a fresh process
does and exits 0. EINTR and short transfers change nothing at all. Commands that write files leave a whole file or none.
"""
import errno
import filecmp
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import harness
from harness import LIMIT, SLOW, TINY, Stream, Suite, body_of, check, clean_environment, equal, text_of

suite = Suite()
SHIM = os.path.join(os.path.dirname(harness.BIN), "tests", "fault_shim.so")
ALL = os.environ.get("LLORCH_TEST_ALL") is not None
VERBOSE = os.environ.get("LLORCH_TEST_VERBOSE") is not None
EXIT_LIMIT = 8 * SLOW  # seconds from SIGTERM to the end; the contract says 5
PROMPT = "What news of the day?"
SHORT = "short"

# What a function may answer, and nothing else: an error that the kernel never gives proves nothing.
HARD = {
    "open": [errno.EMFILE, errno.EACCES, errno.EIO], "fstat": [errno.EIO, errno.ENOMEM], "stat": [errno.EACCES],
    "lstat": [errno.EACCES], "mmap": [errno.ENOMEM], "munmap": [errno.ENOMEM], "madvise": [errno.EINVAL],
    "mlockall": [errno.ENOMEM], "read": [errno.EIO], "readv": [errno.ECONNRESET, errno.EAGAIN, errno.ETIMEDOUT],
    "writev": [errno.EPIPE, errno.ECONNRESET, errno.EAGAIN, errno.ENOBUFS], "recv": [errno.EIO],
    "socket": [errno.EMFILE, errno.ENOBUFS], "bind": [errno.EADDRINUSE, errno.EACCES], "listen": [errno.EADDRINUSE],
    "accept4": [errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN],
    "setsockopt": [errno.ENOMEM], "getsockname": [errno.ENOBUFS], "shutdown": [errno.ENOTCONN],
    "epoll_create1": [errno.EMFILE, errno.ENOMEM], "epoll_ctl": [errno.ENOMEM, errno.ENOSPC], "pipe2": [errno.EMFILE],
    "timerfd_create": [errno.EMFILE], "eventfd": [errno.EMFILE], "fcntl": [errno.EINVAL], "ioctl": [errno.EINVAL],
    "poll": [errno.ENOMEM], "close": [errno.EIO, errno.EINTR], "getrandom": [errno.EAGAIN, errno.ENOSYS],
    "sched_getaffinity": [errno.EPERM], "sched_setaffinity": [errno.EINVAL], "sigaction": [errno.EINVAL],
    "getrlimit": [errno.EPERM], "setrlimit": [errno.EPERM], "getaddrinfo": [errno.ENOMEM], "opendir": [errno.EMFILE],
    "log_poll": [errno.ENOMEM, errno.EINTR], "log_send": [errno.EAGAIN, errno.EINTR],
    "log_write": [errno.ENOSPC, errno.EPIPE, errno.EINTR], "malloc": [errno.ENOMEM], "calloc": [errno.ENOMEM],
    "realloc": [errno.ENOMEM],
}
SOFT = {"open": [errno.EINTR], "read": [errno.EINTR, SHORT], "readv": [errno.EINTR, SHORT],
        "writev": [errno.EINTR, SHORT], "accept4": [errno.EINTR], "epoll_wait": [errno.EINTR], "poll": [errno.EINTR]}
# Without these there is nothing to serve with; getsockname is asked twice, the second time for a warning only. (A loop that cannot wait, or read its own pipe of signals, has no choice
# but to end, with a message, while it serves.)
MUST_FAIL = ("socket", "bind", "listen", "getsockname", "mmap")
MEMORY = ("malloc", "calloc", "realloc")


def shim_environment(function=None, at=0, count=1, what=None, also="", report=None):
    env = {"LD_PRELOAD": SHIM}
    if function:
        env["LLORCH_FAULT"] = "%s:%d:%d:%s" % (function, at, count, what) + (also and "," + also)
    if report:
        env["LLORCH_FAULT_REPORT"] = report
    return env


def read_report(path):
    """{function: (calls, failed)}"""
    with open(path, encoding="ascii") as f:
        return {name: (int(n), int(k)) for name, n, k in (line.split() for line in f)}


def name_of(fault):
    function, at, count, what = fault[:4]
    text = what if what == SHORT else errno.errorcode[what]
    return "%s call %d%s: %s" % (function, at, "" if count == 1 else " and on", text)


class Run:
    """One worker with a fault, and what became of it."""

    def __init__(self, fault=None, args=(), meanwhile=None):
        self.fault = fault
        self.ready = False
        self.text = None
        self.descriptors = None
        self.port = harness.free_port()
        with tempfile.TemporaryDirectory() as folder:
            report = os.path.join(folder, "report")
            env = clean_environment(shim_environment(*(fault or ()), report=report))
            self.process = subprocess.Popen(
                [harness.BIN, "--model", TINY, "--port", str(self.port), "--host", "127.0.0.1", *args],
                cwd=harness.ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                self._play()
                if meanwhile:
                    meanwhile()
            finally:
                self._end()
            self.calls = read_report(report) if os.path.exists(report) else None

    def _end(self):
        begin = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            _, log = self.process.communicate(timeout=EXIT_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise AssertionError("%s: hangs after SIGTERM" % name_of(self.fault)) from None
        self.seconds_to_end = time.monotonic() - begin
        self.status = self.process.returncode
        self.log = log.decode("utf-8", "replace").splitlines()

    def _request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        try:
            connection.request(method, path, body=body, headers=harness.JSON)
            response = connection.getresponse()
            response.read()
            return response.status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _stream(self, **fields):
        return Stream(self.port, body_of(prompt=PROMPT, **fields))

    def _job(self):
        """The text of a whole job, or None."""
        try:
            events = self._stream(job_id="whole", max_tokens=12, seed=7).collect()
        except (OSError, AssertionError, ValueError):
            return None
        return text_of(events) if events and events[-1].name == "end" else None

    def _wait_ready(self):
        end = time.monotonic() + LIMIT
        while self.process.poll() is None and time.monotonic() < end:
            if self._request("GET", "/ready") == 200:
                return True
            time.sleep(0.005)
        return False

    def _leave(self):
        try:
            stream = self._stream(job_id="left", max_tokens=200)
            stream.next_named("token")
            other = self._stream(job_id="cancelled", max_tokens=200)
            self._request("POST", "/cancel", json.dumps({"job_id": "cancelled"}))
            stream.reset()
            other.rest()
        except (OSError, AssertionError, ValueError):
            pass

    def _play(self):
        self.ready = self._wait_ready()
        if not self.ready:
            return
        self.first = self._job()
        self.statuses = [self._request("GET", "/health"), self._request("GET", "/"), self._request("POST", "/execute", "{"),
                         self._request("GET", "/nowhere")]
        self._leave()
        self.text = self._job() or self._job()  # the first of the two may be the one that is hit
        self.descriptors = self._count_descriptors()

    def _count_descriptors(self):
        """Once the connections of before are closed."""
        folder = "/proc/%d/fd" % self.process.pid
        best = None
        for _ in range(20):
            try:
                n = len(os.listdir(folder))
            except OSError:
                return best
            best = n if best is None else min(best, n)
            time.sleep(0.002)
        return best

    def errors(self):
        """The messages of the log's error lines; every line must be JSON, but for one that was cut short by a fault."""
        found = []
        for line in self.log:
            try:
                entry = json.loads(line)
            except ValueError:
                check(self.fault and self.fault[0].startswith("log_"), "%s: log line %r" % (self.fault, line))
                continue
            if entry["level"] == "error":
                found.append(entry["message"])
        return found


def baseline():
    """The run without a fault; made once."""
    if not hasattr(suite, "base"):
        suite.base = Run()
        equal((suite.base.status, suite.base.errors()), (0, []))
        equal(suite.base.statuses, [200, 200, 400, 404])
        check(suite.base.first == suite.base.text and suite.base.text, "no text without faults")
    return suite.base


def verify(fault):
    """Runs the scenario with the fault and judges it."""
    base = baseline()
    run = Run(fault)
    function, at, count, what = fault[:4]
    name = name_of(fault)
    errors = run.errors()
    if VERBOSE:
        print("# %s: status %d, %s" % (name, run.status, errors or "served"), flush=True)
    check(run.status >= 0, "%s: ended by signal %d" % (name, -run.status))
    check(function not in MUST_FAIL or (function == "getsockname" and at > 1) or run.status == 1, "%s: served all the same" % name)
    if what in SOFT.get(function, ()):
        equal((run.status, errors, run.first, run.text, run.statuses), (0, [], base.text, base.text, base.statuses), name)
    elif run.status != 0:
        equal(run.status, 1, name)
        check(not run.ready or function in ("epoll_wait", "read"), "%s: ended while serving" % name)
        check(errors or function.startswith("log_"), "%s: no message:\n%s" % (name, "\n".join(run.log)))
        check(all(0 < len(e) <= 512 for e in errors), "%s: %s" % (name, errors))
    elif count == 1 and run.ready:
        equal(run.text, base.text, name)
        check(run.descriptors <= base.descriptors, "%s: %d descriptors, %d without" % (name, run.descriptors, base.descriptors))
        check(run.first in (None, base.text), "%s: another text" % name)
    else:
        check(count != 1, "%s: never ready, exit 0:\n%s" % (name, "\n".join(run.log)))


def judge_all(faults, judge):
    """Every fault is tried; what was found wrong is told together."""
    wrong = []
    for fault in faults:
        try:
            judge(fault)
        except AssertionError as error:
            wrong.append(str(error))
    check(not wrong, "%d faults:\n%s" % (len(wrong), "\n".join(wrong[:40])))


def spread(n, some):
    """Numbers from 1 to n: all, or some of them, the ends included."""
    if ALL or n <= some:
        return range(1, n + 1)
    return sorted({1 + round(i * (n - 1) / (some - 1)) for i in range(some)}) if some > 1 else [1 + n // 2]


def each_call(functions, table, some, limit=400):
    """Faults for these functions, as many calls as the counting run saw."""
    calls = baseline().calls
    for index, function in enumerate(functions):
        n = min(calls[function][0], limit)
        for at in spread(n, some):
            whats = table[function]
            # A sample takes the errors in turns.
            for what in whats if ALL else [whats[(at + index) % len(whats)]]:
                yield (function, at, 1, what)


@suite.test
def the_counting_run_sees_what_the_worker_calls():
    calls = baseline().calls
    if VERBOSE:
        print("# " + " ".join("%s:%d" % (name, n) for name, (n, _) in calls.items() if n))
    for function in ("open", "fstat", "mmap", "read", "readv", "writev", "socket", "bind", "listen", "accept4", "epoll_ctl",
                     "epoll_wait", "sigaction", "close", "malloc"):
        check(calls[function][0] > 0, "%s is never called" % function)


@suite.test
def an_interrupted_or_short_call_changes_nothing():
    faults = list(each_call([f for f in SOFT if baseline().calls[f][0]], SOFT, 1, 60))
    faults += [(f, 1, 0, SHORT) for f in ("read", "readv", "writev")]  # never more than a byte
    judge_all(faults, verify)


@suite.test
def a_failing_call_ends_the_start_with_a_message_or_is_survived():
    functions = [f for f in HARD if f not in MEMORY and baseline().calls[f][0]]
    judge_all(each_call(functions, HARD, 1, 60), verify)


@suite.test
def a_listener_that_rests_comes_back_when_the_loop_refuses_it_first():
    """accept4 finds no memory, so the listener rests; then the call that lets it listen again fails."""
    judge_all([("accept4", 1, 1, errno.ENOMEM, "epoll_ctl:%d:1:%d" % (at, errno.ENOMEM))
               for at in (range(2, 10) if ALL else (3, 4, 5))], verify)


@suite.test
def a_callback_that_cannot_connect_is_tried_again():
    faults = [("socket", 2, 1, errno.EMFILE), ("connect", 1, 1, errno.ECONNREFUSED)]
    if ALL:
        faults += [("socket", 2, 1, errno.ENOBUFS), ("connect", 1, 1, errno.ENETUNREACH), ("connect", 1, 1, errno.EACCES)]
    base = baseline()
    for fault in faults:
        with socket.create_server(("127.0.0.1", 0)) as pool:
            calls = []

            def answer(pool=pool, calls=calls):
                with pool.accept()[0] as visitor:
                    calls.append(visitor.recv(65536))
                    visitor.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            url = "http://127.0.0.1:%d/ready" % pool.getsockname()[1]
            run = Run(fault, ("--callback-url", url, "--callback-retries", "2"), lambda t=thread: t.join(LIMIT))
        equal((run.status, run.text, run.errors(), len(calls)), (0, base.text, [], 1), name_of(fault))


@suite.test
def a_failing_allocation_in_the_real_process_does_so_too():
    calls = baseline().calls
    faults = []
    for function in MEMORY:
        n = calls[function][0]
        numbers = range(1, n + 1, max(1, n // 300)) if ALL else spread(n, 2)
        faults += [(function, at, 1, errno.ENOMEM) for at in numbers]
    judge_all(faults, verify)


# Commands that run once: (arguments, file that is written or None)
def command(*args, fault=None, report=None):
    env = clean_environment(shim_environment(*(fault or ()), report=report))
    done = subprocess.run([harness.BIN, *args], cwd=harness.ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=LIMIT * SLOW, check=False)
    return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace")


COMMAND_HARD = dict(HARD, write=[errno.ENOSPC, errno.EIO, errno.EDQUOT], fsync=[errno.EIO, errno.ENOSPC], fflush=[errno.ENOSPC],
                    rename=[errno.EACCES, errno.EXDEV], fwrite=[errno.ENOSPC, errno.EPIPE], fclose=[errno.ENOSPC],
                    fopen=[errno.EMFILE, errno.ENOENT], unlink=[errno.EACCES], mkdir=[errno.ENOSPC])
del COMMAND_HARD["stat"]  # nobody may look at a file and open it all the same
COMMAND_SOFT = dict(SOFT, write=[errno.EINTR, SHORT], fsync=[errno.EINTR], close=[errno.EINTR])


class Command:
    """A command line that is run with faults, in a folder for the file that it writes (out, or None)."""

    def __init__(self, args, out, same_output, folder, keep):
        self.folder, self.out, self.same_output = folder, out, same_output
        self.args = [a.replace("OUT", os.path.join(folder, out or "")) for a in args]
        report = os.path.join(keep, "report")
        status, self.want, message = command(*self.args, report=report)
        equal((status, message), (0, ""), " ".join(args))
        self.calls = read_report(report)
        self.reference = os.path.join(keep, "reference")
        if out:
            os.rename(os.path.join(folder, out), self.reference)

    def is_whole(self):
        return filecmp.cmp(os.path.join(self.folder, self.out), self.reference, False)

    def judge(self, fault):
        """Status 0 with the same output and file, or 1 with one line and neither a file nor a piece of one."""
        status, output, message = command(*self.args, fault=fault)
        files = sorted(os.listdir(self.folder))
        if VERBOSE:
            print("# %s, %s: status %d, %s %s" % (self.args[0], name_of(fault), status, message.strip(), files), flush=True)
        try:
            self.judge_result("%s, %s" % (self.args[0], name_of(fault)), fault, status, output, message, files)
        finally:
            for left in files:
                os.unlink(os.path.join(self.folder, left))

    def judge_result(self, name, fault, status, output, message, files):
        function, _, _, what = fault
        soft = what in COMMAND_SOFT.get(function, ())
        check(status in ((0,) if soft else (0, 1, 2)), "%s: status %d, %s" % (name, status, message))
        if status == 0:
            check(not self.same_output or output == self.want, "%s: other output" % name)
            equal(files, [self.out] if self.out else [], name)
            # verify goes on without a tokenizer, or without one checkpoint, and says so.
            told = self.args[0] == "verify" and (message or b"not validated" in output)
            check(not self.out or told or self.is_whole(), "%s: another file" % name)
            return
        if self.args[0] == "verify" and not message:  # a checkpoint that could not be read is a result: the table says so
            check(os.strerror(what).encode() in output, "%s: %r" % (name, output))
            return
        lines = [line for line in message.splitlines() if ": warn: " not in line]
        check(len(lines) == 1 and lines[0].startswith("llorch-cpud: ") and len(lines[0]) > 20, "%s: %r" % (name, message))
        if self.out in files and function not in ("open", "write", "fsync", "rename"):
            check(self.is_whole(), "%s: another file" % name)  # only what was to be said of it afterwards failed
        elif function != "unlink":  # what is to be removed cannot be
            equal(files, [], name)


def try_command(args, out=None, same_output=True, always=()):
    """args: OUT stands for the path of the file; always: functions of which no call is left out."""
    baseline()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as keep:
        tried = Command(args, out, same_output, folder, keep)
        faults = []
        for table in (COMMAND_SOFT, COMMAND_HARD):
            for index, (function, whats) in enumerate(sorted(table.items())):
                n = tried.calls[function][0]
                every = ALL or function in always
                if n and (ALL or function not in MEMORY) and (every or index % 3 == 0):
                    numbers = range(1, n + 1, max(1, n // 100)) if every else spread(n, 1)
                    faults += [(function, at, 1, what) for at in numbers
                               for what in (whats if every else [whats[(at + index) % len(whats)]])]
        judge_all(faults, tried.judge)


@suite.test
def generate_says_what_failed():
    try_command(["generate", "--model", TINY, "--prompt", PROMPT, "--max-tokens", "8"])


@suite.test
def info_says_what_failed():
    try_command(["info", "--model", TINY, "--json"])


@suite.test
def a_gguf_file_is_known_whatever_its_reads_give():
    baseline()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tiny.gguf")
        equal(command("quantize", "--model", TINY, "--type", "q8_0", "--out", path)[0], 0)
        try_command(["info", "--model", path, "--json"], always=("read",))


@suite.test
def a_packed_file_is_whole_or_absent():
    try_command(["pack", "--model", TINY, "--out", "OUT"], "tiny.packed", same_output=False, always=("fsync", "rename"))


@suite.test
def a_quantized_file_is_whole_or_absent():
    try_command(["quantize", "--model", TINY, "--type", "q8_0", "--out", "OUT"], "tiny.gguf", same_output=False, always=("fsync", "rename"))


@suite.test
def verify_says_what_failed_and_its_page_is_whole_or_absent():
    try_command(["verify", "--model", TINY, "--html", "OUT"], "page.html", same_output=False, always=("fsync",))


if __name__ == "__main__":
    if not os.path.exists(SHIM):
        print("no fault_shim.so: sanitizers bring functions of their own; tests/test_worker_faults.c runs with them")
        sys.exit(77)
    sys.exit(suite.run())
