"""What the HTTP tests share: a worker process, a streaming client with time stamps, and TAP output.

Workers are the real program (LLORCH_BIN, else build/llorch-cpud) or, where timing must not depend on a model,
tests/stub_worker (LLORCH_STUB, else beside the binary's variant); see tests/stub_backend.h for the words that a prompt to
the stub may hold.
"""
import contextlib
import fcntl
import http.client
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build/release"))


def _program(variable, *places):
    given = os.environ.get(variable)
    if given:
        return os.path.abspath(given)
    return next((p for p in places if os.path.exists(p)), places[0])


BIN = _program("LLORCH_BIN", os.path.join(BUILD, "llorch-cpud"), os.path.join(ROOT, "build", "llorch-cpud"))
STUB = _program("LLORCH_STUB", os.path.join(os.path.dirname(BIN), "tests", "stub_worker"),
                os.path.join(BUILD, "tests", "stub_worker"))
SHAKESPEARE = os.path.join(ROOT, "models", "shakespeare")
TINY = os.path.join(ROOT, "tests", "data", "tiny-gpt2")
JSON = {"Content-Type": "application/json"}
LIMIT = 20  # seconds after which a wait has failed
# Sanitizers and emulators make everything slower; limits that are about speed are stretched by this.
SLOW = float(os.environ.get("LLORCH_TEST_SLOW", "1"))


def clean_environment(extra=None):
    env = {k: v for k, v in os.environ.items()
           if k not in ("WORKER_ID", "MODEL_PATH", "PORT", "CALLBACK_URL", "LLORCH_ISA", "NOTIFY_SOCKET")
           and not k.startswith(("STUB_", "WATCHDOG_", "LISTEN_"))}
    env.update({k: str(v) for k, v in (extra or {}).items()})
    return env


def small_pipe(n_bytes):
    """(reader, writer). Where a user's pipes are too large together, new ones have less already, and may not grow."""
    ends = os.pipe()
    with contextlib.suppress(PermissionError):
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, n_bytes)
    return ends


def body_of(**fields):
    body = {"job_id": "job", "prompt": "x", "max_tokens": 4}
    body.update(fields)
    return body


class Worker:
    """One worker process. args replaces nothing: --port 0 (not with a Unix socket) and --model are put in front unless given.
    wrap is a command that becomes the worker; pass_fds are descriptors that it gets."""

    def __init__(self, *args, stub=False, env=None, model=SHAKESPEARE, ready=True, stdin=subprocess.DEVNULL, wrap=(),
                 pass_fds=()):
        self.args = [STUB if stub else BIN]
        if "--port" not in args and "PORT" not in (env or {}) and not any(a.startswith("unix:") for a in args):
            self.args += ["--port", "0"]
        if model and "--model" not in args and "MODEL_PATH" not in (env or {}):
            self.args += ["--model", model]
        self.args += args
        self.lines = []  # (time, object or text)
        self.raw_log = []
        self._changed = threading.Condition()
        self._log_ended = False
        self.started = time.monotonic()
        self.process = subprocess.Popen([*wrap, *self.args], cwd=ROOT, env=clean_environment(env), stdin=stdin,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=pass_fds)
        self.pid = self.process.pid
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self._port = None
        if ready:
            self.wait_log("Worker ready, starting HTTP server")

    def _read_log(self):
        for raw in self.process.stderr:
            text = raw.decode("utf-8", "replace").rstrip("\n")
            try:
                line = json.loads(text)
            except ValueError:
                line = text
            with self._changed:
                self.raw_log.append(text)
                self.lines.append((time.monotonic(), line))
                self._changed.notify_all()
        with self._changed:
            self._log_ended = True
            self._changed.notify_all()

    def wait_log(self, message, limit=LIMIT):
        """The first log line whose message holds this text; raises when it does not come."""
        end = time.monotonic() + limit
        with self._changed:
            while True:
                for _, line in self.lines:
                    if isinstance(line, dict) and message in line.get("message", ""):
                        return line
                left = end - time.monotonic()
                if left <= 0 or self._log_ended:
                    raise AssertionError("no log line %r in:\n%s" % (message, "\n".join(self.raw_log)))
                self._changed.wait(left)

    def job_line(self, job_id, message="Job finished", limit=LIMIT):
        """The log line of a job; it may come a moment after the stream's end."""
        end = time.monotonic() + limit
        while True:
            with self._changed:
                for _, line in self.lines:
                    if isinstance(line, dict) and line.get("job_id") == job_id and message in line["message"]:
                        return line
                check(time.monotonic() < end, "no line %r of job %r" % (message, job_id))
                self._changed.wait(0.05)

    def log_messages(self):
        with self._changed:
            return [line["message"] for _, line in self.lines if isinstance(line, dict)]

    @property
    def port(self):
        if self._port is None:
            self._port = self.wait_log("Loading model...")["port"]
        return self._port

    def request(self, method, path, body=None, headers=None, timeout=LIMIT):
        """(status, headers, body bytes); headers with lower-case names."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers = dict(JSON, **(headers or {}))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return (response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path):
        status, _, body = self.request("GET", path)
        return status, json.loads(body)

    def cancel(self, job_id):
        return self.request("POST", "/cancel", {"job_id": job_id})

    def execute(self, headers=None, **fields):
        return Stream(self.port, body_of(**fields), headers)

    def start(self, **fields):
        """The stream of a job whose first token has come."""
        stream = self.execute(**fields)
        stream.next_named("token")
        return stream

    def run(self, **fields):
        """All events of one job."""
        return self.execute(**fields).collect()

    def wait_health(self, key, value, limit=LIMIT):
        end = time.monotonic() + limit
        while self.get("/health")[1][key] != value:
            check(time.monotonic() < end, "%s %s not reached" % (key, value))
            time.sleep(0.005)

    def wait_state(self, state, limit=LIMIT):
        self.wait_health("state", state, limit)

    def threads(self):
        return os.listdir("/proc/%d/task" % self.pid)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, limit=LIMIT):
        """The exit status."""
        status = self.process.wait(limit)
        self._reader.join(limit)
        self.process.stdout.close()
        return status

    def stop(self):
        """Ends the worker if it still runs; returns its exit status."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Event:
    def __init__(self, at, name, data, raw):
        self.at, self.name, self.data, self.raw = at, name, data, raw

    def __repr__(self):
        return "%s %s" % (self.name, self.data)


class Stream:
    """A POST /execute whose answer is read as it comes."""

    def __init__(self, port, body, headers=None, receive_buffer=None, version="1.1"):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(LIMIT)
        self.socket.connect(("127.0.0.1", port))
        data = json.dumps(body).encode() if not isinstance(body, bytes) else body
        lines = ["POST /execute HTTP/%s" % version, "Host: localhost", "Content-Length: %d" % len(data)]
        lines += ["%s: %s" % item for item in dict(JSON, **(headers or {})).items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + data)
        self.sent_at = time.monotonic()
        self.status = None
        self.headers = {}
        self.headers_at = None
        self.ended_at = None
        self.comments = []  # (time, text)
        self.raw = b""  # the body, chunks joined
        self._wire = b""
        self._pending = b""
        self._events = []
        self.ended = False

    def _feed(self):
        """Takes one piece from the socket."""
        piece = self.socket.recv(65536)
        now = time.monotonic()
        if not piece:
            self.ended = True
            self.ended_at = now
            return
        self._wire += piece
        if self.status is None:
            if b"\r\n\r\n" not in self._wire:
                return
            head, self._wire = self._wire.split(b"\r\n\r\n", 1)
            lines = head.decode("latin-1").split("\r\n")
            self.status = int(lines[0].split()[1])
            self.headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
            self.headers_at = now
        self._unchunk(now)

    def _unchunk(self, now):
        if self.headers.get("transfer-encoding") != "chunked":
            self._take(self._wire, now)
            self._wire = b""
            return
        while b"\r\n" in self._wire:
            size, rest = self._wire.split(b"\r\n", 1)
            n = int(size, 16)
            if len(rest) < n + 2:
                return
            check(rest[n:n + 2] == b"\r\n", "chunk without its line end")
            self._wire = rest[n + 2:]
            if n:
                self._take(rest[:n], now)

    def _take(self, data, now):
        self.raw += data
        self._pending += data
        while b"\n\n" in self._pending and self.status == 200:
            block, self._pending = self._pending.split(b"\n\n", 1)
            self._parse(block.decode("utf-8"), now)

    def _parse(self, block, now):
        if block.startswith(":"):
            self.comments.append((now, block))
            return
        lines = block.split("\n")
        check(len(lines) == 2 and lines[0].startswith("event: ") and lines[1].startswith("data: "),
              "an event is one event line and one data line: %r" % block)
        data = json.loads(lines[1][6:])
        check(data["type"] == lines[0][7:], "event line and type differ: %r" % block)
        self._events.append(Event(now, lines[0][7:], data, block))

    def next(self, limit=LIMIT):
        """The next event, or None at the end of the stream."""
        end = time.monotonic() + limit
        while not self._events and not self.ended:
            left = end - time.monotonic()
            check(left > 0, "no event within %s s" % limit)
            self.socket.settimeout(left)
            self._feed()
            check(self.status in (None, 200), "status %s: %r" % (self.status, self.raw))
        self.socket.settimeout(LIMIT)
        return self._events.pop(0) if self._events else None

    def next_named(self, name, limit=LIMIT):
        while True:
            event = self.next(limit)
            check(event is not None, "stream ended before %s" % name)
            if event.name == name:
                return event

    def wait_headers(self, limit=LIMIT):
        end = time.monotonic() + limit
        while self.status is None and not self.ended:
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            self._feed()
        return self.status

    def collect(self, limit=LIMIT):
        """All remaining events; the order rules of the contract are checked on the way."""
        events = []
        while True:
            event = self.next(limit)
            if event is None:
                break
            events.append(event)
        self.close()
        check(self.status == 200, "status %s: %r" % (self.status, self._wire))
        return events

    def rest(self, limit=LIMIT):
        """Reads to the end whatever comes; returns the body (also of an error answer)."""
        end = time.monotonic() + limit
        while not self.ended:
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            self._feed()
        self.close()
        return self.raw

    def silent_for(self, seconds):
        """Whether no byte comes for so long."""
        self.socket.settimeout(seconds)
        try:
            self._feed()
            return False
        except socket.timeout:
            return True

    def reset(self):
        """Closes with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()


def text_of(events):
    return "".join(e.data["t"] for e in events if e.name == "token")


def tokens_of(events):
    return [e for e in events if e.name == "token"]


def check_order(events):
    """started first, contiguous i, one terminal event last, tokens_out equal to the token events."""
    names = [e.name for e in events]
    check(names[0] == "started" and names.count("started") == 1, names)
    check(names[-1] in ("end", "error") and sum(n in ("end", "error") for n in names) == 1, names)
    tokens = tokens_of(events)
    check([e.data["i"] for e in tokens] == list(range(len(tokens))), "i is not contiguous")
    equal(events[-1].data["tokens_out"], len(tokens))


def check_unavailable(worker, retriable):
    """A job is refused for now, one that is wrong in itself for good."""
    status, headers, body = worker.request("POST", "/execute", body_of())
    equal((status, headers["retry-after"]), (503, "1"))
    answer = json.loads(body)
    equal((answer["code"], answer["retriable"]), ("WORKER_UNHEALTHY", retriable))
    check(answer["message"].startswith("Worker unhealthy: "), answer)
    equal(worker.request("POST", "/execute", body_of(job_id=""))[0], 400)


def check(condition, message="check failed"):
    if not condition:
        raise AssertionError(message)


def equal(got, want, what=""):
    if got != want:
        raise AssertionError("%sgot      %r\nexpected %r" % (what and what + ":\n", got, want))


def has(got, part):
    if part not in got:
        raise AssertionError("%r is not in %r" % (part, got))


def within(value, low, high):
    if not low <= value <= high:
        raise AssertionError("got %r, expected %r to %r" % (value, low, high))


class Late(AssertionError):
    """A bound of time was missed, by so many seconds. A busy machine does that now and then, a wrong program each time: see
    persist."""

    def __init__(self, text, seconds=0.0):
        super().__init__(text)
        self.seconds = seconds


def timely(seconds, low, high):
    """within for what was measured with a clock. Too early counts as well: it may be the first of two moments that was
    seen late."""
    if not low <= seconds <= high:
        raise Late("%.3f s, expected %g to %g" % (seconds, low, high), max(low - seconds, seconds - high))


def machine_lag():
    """Seconds for which a program that only computes goes without a processor just now: the longest time in half a second."""
    loop = ("import time\nat, longest = time.monotonic(), 0\nend = at + 0.5\nwhile at < end:\n"
            "    now = time.monotonic()\n    longest, at = max(longest, now - at), now\nprint(longest)")
    return float(subprocess.run([sys.executable, "-c", loop], stdout=subprocess.PIPE, timeout=LIMIT, check=True).stdout)


def persist(function, *args):
    """Up to three times while nothing but bounds of time are missed. A miss that a machine explains on which nobody gets a
    processor when he wants it says nothing of the program."""
    for again in (True, True, False):
        try:
            return function(*args)
        except Late as late:
            lag = 0 if again else machine_lag()
            if not again and (lag < 0.01 or late.seconds > 5 * SLOW * lag):
                raise
            text = "missed: %s" % late
            if not again:
                raise Skip("%s, on a machine that is %.0f ms late itself" % (text, 1000 * lag)) from late
            print("# %s; once more" % text, flush=True)
    return None


def descriptors(pid):
    """How many a process has open."""
    return len(os.listdir("/proc/%d/fd" % pid))


def private_kib(pid):
    """Memory that is this process's alone and no file's."""
    with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Private_Dirty"))


def level(pid):
    """What must not grow: descriptors, and KiB."""
    return descriptors(pid), private_kib(pid)


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def scheduled_ns(pid):
    """Time that a process of one thread had a processor; finer than cpu_seconds, and the kernel's part of it included."""
    with open("/proc/%d/schedstat" % pid, encoding="ascii") as file:
        return int(file.read().split()[0])


def free_port():
    """Below those that the kernel gives to whoever asks for any: it stays free until a worker takes it."""
    end = 32768  # the kernel's default, where a sandbox hides its settings
    with contextlib.suppress(FileNotFoundError), open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        end = int(file.read().split()[0])
    while True:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", random.randrange(10000, end) if end > 12000 else 0))
            except OSError:
                continue
            return s.getsockname()[1]


def wait_caught(process, asleep=False):
    """Until Ctrl-C has a meaning for a command, and until it waits for its input."""
    end, seen = time.monotonic() + LIMIT, 0
    while seen < 3:
        with open("/proc/%d/status" % process.pid, encoding="utf-8") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        caught = int(lines["SigCgt"], 16) >> (signal.SIGINT - 1) & 1
        seen = seen + 1 if caught and (not asleep or lines["State"].split()[0] == "S") else 0
        check(time.monotonic() < end and process.poll() is None, "it does not come so far")
        time.sleep(0.02)


def raw_exchange(port, data, limit=LIMIT):
    """Sends bytes and returns everything that comes back until the peer closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=limit) as s:
        s.sendall(data)
        answer = b""
        while True:
            try:
                piece = s.recv(65536)
            except ConnectionResetError:
                return answer
            if not piece:
                return answer
            answer += piece


def run_program(*args, env=None, limit=LIMIT, program=None, data=b"", pass_fds=()):
    """(exit status, standard output, standard error) of the program run to its end."""
    done = subprocess.run([program or BIN, *args], cwd=ROOT, env=clean_environment(env), input=data,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=limit, check=False, pass_fds=pass_fds)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def sanitized():
    """Whether the program was built with the address sanitizer: it brings memory, functions and an end of its own."""
    with open(BIN, "rb") as file:
        return b"__asan_init" in file.read()


def write_zeros(path, config, dtype, width):
    """A sparse model.safetensors of zeros for this config.json; returns the bytes of its head."""
    dim = config["n_embd"]
    shapes = {"wte.weight": [config["vocab_size"], dim], "wpe.weight": [config["n_positions"], dim], "ln_f.weight": [dim],
              "ln_f.bias": [dim]}
    for i in range(config["n_layer"]):
        for name, shape in (("ln_1", [dim]), ("attn.c_attn", [dim, 3 * dim]), ("attn.c_proj", [dim, dim]), ("ln_2", [dim]),
                            ("mlp.c_fc", [dim, 4 * dim]), ("mlp.c_proj", [4 * dim, dim])):
            shapes["h.%d.%s.weight" % (i, name)], shapes["h.%d.%s.bias" % (i, name)] = shape, shape[-1:]
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + width * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name], at = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}, end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    return 8 + len(text)


class Skip(Exception):
    pass


class Suite:
    """Cases in order; shared workers are started when first asked for and stopped at the end."""

    def __init__(self):
        self.cases = []
        self.workers = {}

    def case(self, name, *args):
        def register(function):
            self.cases.append((name, function, args))
            return function
        return register

    def test(self, function):
        """A case that is called what its function is called."""
        return self.case(function.__name__.replace("_", " "))(function)

    def worker(self, key, *args, **options):
        if key not in self.workers:
            self.workers[key] = Worker(*args, **options)
        return self.workers[key]

    def stub(self):
        return self.worker("stub", stub=True)

    def real(self):
        return self.worker("real")

    def tiny(self):
        return self.worker("tiny", model=TINY)

    def run(self):
        wanted = sys.argv[1:]
        cases = [c for c in self.cases if not wanted or any(w in c[0] for w in wanted)]
        print("1..%d" % len(cases), flush=True)
        failed = 0
        for number, (name, function, args) in enumerate(cases, 1):
            try:
                persist(function, *args)
                print("ok %d - %s" % (number, name), flush=True)
            except Skip as reason:
                print("ok %d - %s # SKIP %s" % (number, name, reason), flush=True)
            except Exception as error:  # pylint: disable=broad-except
                failed += 1
                print("not ok %d - %s" % (number, name))
                last = traceback.extract_tb(error.__traceback__)
                where = " < ".join("%s:%d" % (os.path.basename(f.filename), f.lineno) for f in reversed(last))
                for line in ("%s: %s\n%s" % (type(error).__name__, error, where)).splitlines():
                    print("# " + line)
                sys.stdout.flush()
        for worker in self.workers.values():
            status = worker.stop()
            if status != 0:
                print("# a shared worker ended with status %d:\n# %s" % (status, "\n# ".join(worker.raw_log[-20:])))
                failed += 1
        return 1 if failed else 0


UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
