#!/usr/bin/env python3
"""What the system does to the program: files that shrink or go away, full disks, log readers that stop, too few descriptors,
little memory or stack, missing /proc and /dev, clocks that jump, a port that is taken.

LLORCH_TEST_ALL=1 tries every limit instead of a few.
"""
import json
import mmap
import os
import pty
import resource
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from harness import (BIN, ROOT, SHAKESPEARE, SLOW, STUB, TINY, Skip, Stream, Suite, Worker, body_of, check, clean_environment,
                     cpu_seconds, equal, free_port, has, sanitized, small_pipe, text_of, timely, within, write_zeros)
from test_lifecycle import PoolManager

suite = Suite()
ALL = os.environ.get("LLORCH_TEST_ALL") == "1"
FOLDER = tempfile.mkdtemp(prefix="llorch-faults-")
SHRANK = "the file became shorter while it was in use"


def in_folder(name):
    return os.path.join(FOLDER, name)


def run(*args, prepare=None, stdout=subprocess.PIPE, data=b"", env=None, limit=60):
    """The finished process, with signals as a shell would give them to it."""
    return subprocess.run([BIN, *args], cwd=ROOT, env=clean_environment(env), input=data, stdout=stdout,
                          stderr=subprocess.PIPE, timeout=limit, check=False, preexec_fn=prepare)


def fails(done, *parts):
    """Status 1, nothing but one line, which names these."""
    error = done.stderr.decode()
    equal((done.returncode, error.count("\n")), (1, 1), error)
    for part in ("llorch-cpud: ",) + parts:
        has(error, part)


def limited(which, value, hard=None):
    return lambda: resource.setrlimit(which, (value, value if hard is None else hard))


def wait_ready(port, process=None, limit=20):
    end = time.monotonic() + limit * SLOW
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
                s.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                if s.recv(4096).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            pass
        check(time.monotonic() < end, "never ready")
        check(process is None or process.poll() is None, "the worker ended")
        time.sleep(0.01)


def stop(process):
    process.send_signal(signal.SIGTERM)
    equal(process.wait(10 * SLOW), 0)


# --- model files that change under the process ---

def packed(name):
    path = in_folder(name)
    equal(run("pack", "--model", SHAKESPEARE, "--out", path).returncode, 0)
    return path


def copied(name):
    shutil.copytree(SHAKESPEARE, in_folder(name))
    return in_folder(name)


GREEDY = {"prompt": "ROMEO:", "max_tokens": 12, "temperature": 0}


@suite.case("a packed file that shrinks while it is served: one JSON line that names it, exit 1")
def packed_shrinks():
    for running in (False, True):
        path = packed("shrinks.packed")
        w = Worker(model=path)
        stream = w.start(prompt="A", max_tokens=200) if running else None
        os.truncate(path, 4096)
        if stream is None:
            stream = w.execute(**GREEDY)
        try:
            stream.rest()
        except ConnectionResetError:
            pass
        equal(w.wait(), 1)
        line = w.lines[-1][1]
        equal((line["level"], line["message"]), ("error", "%s: %s" % (path, SHRANK)))
        equal(len(line["time"]), 20)


@suite.case("a packed file that is deleted, or replaced by renaming, is served on")
def packed_replaced():
    path, other = packed("stays.packed"), packed("other.packed")
    with Worker(model=path) as w:
        want = text_of(w.run(**GREEDY))
        os.truncate(other, 4096)
        os.rename(other, path)
        equal(text_of(w.run(**dict(GREEDY, prompt="ROMEO: "))) == "", False)
        equal(text_of(w.run(**GREEDY)), want)
        os.remove(path)
        equal(text_of(w.run(**GREEDY)), want)


@suite.case("weights that were copied at load outlive their file, however it ends")
def copied_weights():
    folder = copied("outlived")
    with Worker(model=folder) as w:
        want = text_of(w.run(**GREEDY))
        for entry in os.scandir(folder):
            if entry.is_file():
                os.truncate(entry.path, 0)
        equal(text_of(w.run(**GREEDY)), want)
        shutil.rmtree(folder)
        equal(text_of(w.run(**GREEDY)), want)


def wide_model():
    """All zero, so without room on the disk; its loading takes long enough to be stopped in the middle."""
    folder = in_folder("wide")
    shutil.copytree(TINY, folder)
    for name in os.listdir(folder):
        if name.endswith((".safetensors", ".npy")):
            os.remove(os.path.join(folder, name))
    config = json.loads(open(folder + "/config.json", encoding="utf-8").read())
    config.update(n_layer=6, n_embd=512, n_head=8, n_inner=None)
    with open(folder + "/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    return folder, write_zeros(folder + "/model.safetensors", config, "F32", 4)


def stopped_while_mapped(*args):
    """A process that was stopped with the model's weights mapped, or None when it was over too soon."""
    process = subprocess.Popen([BIN, *args], cwd=ROOT, env=clean_environment(), stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE)
    maps = "/proc/%d/maps" % process.pid
    while process.poll() is None:
        with open(maps, encoding="utf-8") as file:
            if "model.safetensors" in file.read():
                break
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.02)
    with open(maps, encoding="utf-8") as file:
        if "model.safetensors" in file.read():
            return process
    process.kill()
    process.communicate()
    return None


@suite.case("a model file that shrinks while it is loaded: one line that names it, exit 1")
def shrinks_in_load():
    folder, header = wide_model()
    path = folder + "/model.safetensors"
    full = os.stat(path).st_size
    for args in (("--port", "0"), ("pack", "--out", in_folder("never"))):
        process = next(filter(None, (stopped_while_mapped(*args, "--model", folder) for _ in range(5))), None)
        if process is None:
            raise Skip("loading was over too soon to be stopped")
        os.truncate(path, header)
        process.send_signal(signal.SIGCONT)
        error = process.communicate(timeout=60)[1].decode()
        equal(process.returncode, 1, error)
        last = error.strip().splitlines()[-1]
        has(json.loads(last)["message"] if args[0] == "--port" else last, "%s: %s" % (path, SHRANK))
        equal([n for n in os.listdir(FOLDER) if "never" in n], [])
        os.truncate(path, full)


# --- disks and outputs that are full ---

def writers(out):
    """Every command that writes a file or a folder, with the name of what it writes; a few where programs are slow."""
    return [(["pack", "--model", TINY, "--out", out], out), (["quantize", "--model", TINY, "--type", "q8_0", "--out", out], out),
            (["verify", "--model", TINY, "--reference", "self", "--html", out], out),
            (["verify", "--model", TINY, "--reference", "self", "--save", out], out),
            (["capture", "--model", TINY, "--ids", "1,2,3,4,5,6,7,8", "--out", out], out + "/"),
            (["diff", in_folder("one.npy"), in_folder("two.npy"), "--html", out], out),
            (["profile", "--model", TINY, "--prompt", "a", "--tokens", "2", "--html", out], out),
            (["profile", "--model", TINY, "--prompt", "a", "--tokens", "2", "--trace", out], out),
            (["bench", "--model", TINY, "--cases", "load", "--rounds", "1", "--save", out], out)][::4 if SLOW > 1 else 1]


def two_tensors():
    for name, value in (("one", 1.0), ("two", 2.0)):
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (64,), }".ljust(117) + "\n"
        with open(in_folder(name + ".npy"), "wb") as file:
            file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
            file.write(struct.pack("<64f", *[value] * 64))


def nothing_left(folder, before):
    """No temporary file, and no file that is not whole: the limit is a round number of bytes."""
    for path, _, names in os.walk(folder):
        for name in names:
            full = os.path.join(path, name)
            check(full in before or (not name.endswith(".tmp") and os.stat(full).st_size not in (0, 256)), full)


@suite.case("ulimit -f, every command that writes: a line that names the file, nothing left, an older file as it was")
def file_size_limit():
    two_tensors()
    folder = in_folder("limited")
    os.mkdir(folder)
    for args, name in writers(folder + "/out"):
        older = not name.endswith("/")
        if older:
            with open(name, "wb") as file:
                file.write(b"older")
        fails(run(*args, prepare=limited(resource.RLIMIT_FSIZE, 256)), name, "File too large")
        nothing_left(folder, {name})
        if older:
            with open(name, "rb") as file:
                equal(file.read(), b"older")
            os.remove(name)
        else:
            shutil.rmtree(name)


def mounted(kind):
    """The command line of a shell that has a small file system of its own, made by a line to put in front, and its place."""
    unshare, place = shutil.which("unshare"), in_folder("disk")
    os.makedirs(place, exist_ok=True)
    prefix = [unshare or "unshare", "--mount", "sh", "-c"]
    mount = "mount -t tmpfs -o size=%s none %s && " % ("16k" if kind == "full" else "1m", place)
    if kind == "full":
        mount += "head -c 12288 /dev/zero > %s/other && " % place
    else:
        mount += "mkdir %s/folder && mount -o remount,ro %s && " % (place, place)
    if unshare is None or subprocess.run([*prefix, mount + "true"], capture_output=True, check=False).returncode != 0:
        raise Skip("nothing can be mounted here")
    return prefix, mount, place


@suite.case("a full disk: a line that names the file, nothing left")
def full_disk():
    two_tensors()
    prefix, mount, place = mounted("full")
    for args, name in writers(place + "/out"):
        if args[0] not in ("capture",) and "--save" not in args and args[0] != "diff":  # which would fit
            line = mount + "%s %s > /dev/null; status=$?; ls %s; exit $status" % (BIN, shlex.join(args), place)
            done = subprocess.run([*prefix, line], cwd=ROOT, env=clean_environment(), capture_output=True, check=False)
            fails(done, name, "No space left on device")
            equal(done.stdout, b"other\n")


@suite.case("a folder that is read-only or missing, or a file in its place: a line that names what was asked for")
def read_only():
    two_tensors()
    prefix, mount, place = mounted("read-only")
    for args, name in writers(place + "/folder/out"):
        line = mount + "exec %s %s > /dev/null" % (BIN, shlex.join(args))
        fails(subprocess.run([*prefix, line], cwd=ROOT, env=clean_environment(), capture_output=True, check=False),
              name.rstrip("/"), "Read-only file system")
    some = slice(None) if ALL else slice(0, 6, 2)
    for args, name in writers(in_folder("one.npy/out"))[some]:
        fails(run(*args), name.rstrip("/"), "Not a directory")
    for args, name in writers(in_folder("missing/out"))[some]:
        if args[0] != "capture":  # which makes the folder
            fails(run(*args), name, "No such file or directory")


READERS = [["explain", "--model", TINY, "--prompt", "a"], ["explain", "--model", TINY, "--prompt", "a", "--json"],
           ["tokenize", "--model", TINY], ["tokenize", "--model", TINY, "--jsonl"], ["info", "--model", TINY, "--json"],
           ["verify", "--model", TINY, "--reference", "self"], ["verify", "--model", TINY, "--reference", "self", "--json"],
           ["eval", "--model", TINY, "--text", "-"], ["eval", "--model", TINY, "--text", "-", "--json"],
           ["profile", "--model", TINY, "--prompt", "a", "--tokens", "2"], ["capture", "--help"],
           ["bench", "--model", TINY, "--cases", "load", "--rounds", "1"], ["serve", "--help"], ["serve", "--version"]]


@suite.case("standard output full or closed: status 1 and a line that says so, whatever the command")
def full_output():
    two_tensors()
    for args in READERS[::3 if SLOW > 1 else 1] + [["diff", in_folder("one.npy"), in_folder("two.npy")],
                           ["diff", "--json", in_folder("one.npy"), in_folder("two.npy")],
                           ["pack", "--model", TINY, "--out", in_folder("x")]]:
        data = b'{"text":"abc abc abc"}\n'
        with open("/dev/full", "wb") as full:
            fails(run(*args, stdout=full, data=data), "standard output: No space left on device")
        if args[-1] == "--json" or ALL:
            fails(run(*args, prepare=lambda: os.close(1), stdout=None, data=data), "standard output: ")


# --- standard streams ---

CLOSED = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)]


def closed_streams_of(closed, shell=None, stand_in="/dev/null"):
    """Starts the daemon with these descriptors closed; no socket or file of its own may take their places."""
    port = free_port()
    command = list(shell or ["sh", "-c", ""])
    command[-1] += " exec %s --model %s --port %d %s" % (BIN, TINY, port, " ".join("%d>&-" % fd for fd in closed))
    with open(in_folder("log"), "wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=clean_environment(), stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        wait_ready(port, process)
        equal(Stream(port, body_of(prompt="A")).collect()[-1].name, "end")
        for fd in (0, 1, 2):
            target = os.readlink("/proc/%d/fd/%d" % (process.pid, fd))
            check(target == stand_in if fd in closed else target.startswith("pipe:") or target == in_folder("log"),
                  "%d of %s: %s" % (fd, closed, target))
    finally:
        stop(process)
        process.stdin.close()


for descriptors in CLOSED:
    suite.case("started with %s closed: no socket and no file takes their places" % (descriptors,),
               descriptors)(closed_streams_of)


@suite.case("without /proc and /dev: it starts and serves, also with its streams closed")
def bare_system():
    if sanitized():
        raise Skip("a sanitizer looks into /proc")
    prefix = mounted("full")[0]
    prefix.append("mount -t tmpfs none /dev && mount -t tmpfs none /proc &&")
    closed_streams_of((), prefix, "/")
    closed_streams_of((0, 1, 2), prefix, "/")


# --- the log ---

class LoggedTo:
    """A stub worker with this standard error."""

    def __init__(self, fd, *args, prepare=None):
        self.port = free_port()
        self.process = subprocess.Popen([STUB, "--model", "m", "--port", str(self.port), *args], cwd=ROOT,
                                        env=clean_environment(), stdout=subprocess.DEVNULL, stderr=fd, preexec_fn=prepare)
        wait_ready(self.port, self.process)

    def jobs(self, n):
        for i in range(n):
            equal(Stream(self.port, body_of(job_id="%d-" % i + "x" * 200)).collect(5)[-1].name, "end")


def lines_of(data):
    """Whole JSON lines; those that were cut by a full terminal or disk are left out."""
    found = []
    for line in data.replace(b"\r\n", b"\n").split(b"\n"):
        try:
            found.append(json.loads(line))
        except ValueError:
            pass
    return found


class Drain(threading.Thread):
    """Reads a descriptor to its end, from now on."""

    def __init__(self, fd):
        super().__init__(daemon=True)
        self.fd, self.data = fd, b""
        self.start()

    def run(self):
        try:
            while True:
                piece = os.read(self.fd, 65536)
                if not piece:
                    return
                self.data += piece
        except OSError:  # a terminal without writers
            pass


def log_stalls(ours, theirs, n_jobs):
    """Its reader stops, comes back, and learns how much is missing."""
    w = LoggedTo(theirs)
    w.jobs(n_jobs)
    reader = Drain(ours)
    time.sleep(0.2)
    w.jobs(3)
    stop(w.process)
    os.close(theirs)
    reader.join(5)
    os.close(ours)
    lines = lines_of(reader.data)
    lost = [line for line in lines if line["message"] == "Log lines were lost"]
    equal(len(lost), 1)
    check(lost[0]["log_lines_lost"] > 0 and lost[0]["level"] == "warn", lost)
    equal((lines[-1]["message"], lines[-1]["log_lines_lost"]), ("Worker stopped", lost[0]["log_lines_lost"]))
    ids = [line["job_id"].split("-")[0] for line in lines if line["message"] == "Job finished"]
    equal(ids[-3:], ["0", "1", "2"])
    check(len(ids) < n_jobs, "nothing was lost: %d jobs" % len(ids))


@suite.case("log: a pipe whose reader stops and comes back: serving never waits, the lost lines are counted")
def log_pipe_stalls():
    ours, theirs = small_pipe(32768)
    log_stalls(ours, theirs, 60)


@suite.case("log: a terminal whose reader stops and comes back: the same")
def log_terminal_stalls():
    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        raise Skip("no terminal can be opened here (%s)" % error) from error
    log_stalls(ours, theirs, 60)


@suite.case("log: two workers share a pipe that nobody reads, and its flags stay as they were")
def log_shared():
    ours, theirs = os.pipe()
    one, two = LoggedTo(theirs), LoggedTo(theirs)
    for _ in range(8):
        one.jobs(10)
        two.jobs(10)
    check(os.get_blocking(theirs), "the pipe of others does not wait any more")
    stop(one.process)
    stop(two.process)
    os.close(ours)
    os.close(theirs)


@suite.case("log: a file that may not grow, or a full disk: serving goes on")
def log_file_full():
    with open(in_folder("small.log"), "wb") as log:
        w = LoggedTo(log, prepare=limited(resource.RLIMIT_FSIZE, 2000))
        w.jobs(10)
        stop(w.process)
    equal(os.stat(in_folder("small.log")).st_size, 2000)
    with open("/dev/full", "wb") as log:
        w = LoggedTo(log)
        w.jobs(3)
        stop(w.process)


# --- descriptors ---

def job_among_few(port):
    """The events of a job; a newcomer is turned away while the connection before it still has the only descriptor: it sees
    a reset, or a plain end if the worker closed before the request was there."""
    for _ in range(50):
        try:
            stream = Stream(port, body_of())
            if stream.wait_headers() is not None:
                return stream.collect()
            stream.close()
        except (ConnectionResetError, BrokenPipeError):
            pass
        time.sleep(0.05)
    raise AssertionError("turned away for 2.5 s")


@suite.case("RLIMIT_NOFILE: the start fails with a message, or it serves")
def few_descriptors():
    for n in range(3, 41) if ALL else (3, 5, 6, 7, 8, 9, 10, 11, 14, 33, 40):
        port = free_port()
        process = subprocess.Popen([BIN, "--model", TINY, "--port", str(port)], cwd=ROOT, env=clean_environment(),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   preexec_fn=limited(resource.RLIMIT_NOFILE, n))
        try:
            ready = any(b"Worker ready" in line for line in process.stderr)
            if ready:
                wait_ready(port, process)
                equal(job_among_few(port)[-1].name, "end")
                stop(process)
            else:
                check(process.wait(10) in (1, 127), process.returncode)  # 127: not even the libraries could be opened
        finally:
            process.kill()
            process.communicate()
        check(ready or n < 12 or SLOW > 1, "%d descriptors are not enough" % n)


def leaky(limit, taken):
    """A parent that leaves descriptors open: the limit is met before the number of connections that it allows."""
    def prepare():
        for fd in range(3, 3 + taken):
            os.dup2(0, fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    return prepare


@suite.case("descriptors exhausted: newcomers are closed at once, no spinning, and all is well afterwards")
def exhausted():
    port = free_port()
    process = subprocess.Popen([STUB, "--model", "m", "--port", str(port)], cwd=ROOT, env=clean_environment(),
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               close_fds=False, preexec_fn=leaky(80, 60))
    try:
        wait_ready(port, process)
        for _ in range(20 if ALL else 1):
            stream = Stream(port, body_of(prompt="tokens=150 delay=5", max_tokens=150))
            stream.next_named("token")
            clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(60)]
            open_ones, end = set(clients), time.monotonic() + 5 * SLOW
            while len(open_ones) > 20 and time.monotonic() < end:
                for s in select.select(list(open_ones), [], [], 0.1)[0]:
                    open_ones.remove(s)  # nobody asked anything, so it is the end
            within(len(open_ones), 1, 20)
            before = cpu_seconds(process.pid)
            time.sleep(0.3)
            within(cpu_seconds(process.pid) - before, 0, 0.1 * SLOW)
            for s in clients:
                s.close()
            equal(stream.collect()[-1].name, "end")
            wait_ready(port, process, 2)
        stop(process)
    finally:
        process.kill()
        process.wait()


@suite.case("more connections than the limit allows: the others wait without spinning, then have their turn")
def too_many_connections():
    port = free_port()
    process = subprocess.Popen([STUB, "--model", "m", "--port", str(port)], cwd=ROOT, env=clean_environment(),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               preexec_fn=limited(resource.RLIMIT_NOFILE, 40))
    try:
        wait_ready(port, process)
        clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(30)]
        last = clients[-1]
        last.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        before = cpu_seconds(process.pid)
        time.sleep(0.3)
        within(cpu_seconds(process.pid) - before, 0, 0.1 * SLOW)
        for s in clients[:-1]:
            s.close()
        has(last.recv(4096), b"200 OK")
        last.close()
        stop(process)
    finally:
        process.kill()
        process.wait()


# --- memory and stack ---

@suite.case("RLIMIT_AS and RLIMIT_DATA: every start and every command ends with a message, or works")
def little_memory():
    if sanitized():
        raise Skip("a sanitizer needs more address space than any of this")
    commands = (["generate", "--model", SHAKESPEARE, "--prompt", "a", "--max-tokens", "2"],
                ["pack", "--model", SHAKESPEARE, "--out", in_folder("packed")],
                ["verify", "--model", TINY, "--reference", "self"], ["tokenize", "--model", SHAKESPEARE])
    worked = 0
    for which, sizes in ((resource.RLIMIT_AS, range(4, 40, 1 if ALL else 8)),
                         (resource.RLIMIT_DATA, range(1, 24, 1 if ALL else 9))):
        for mib in sizes:
            for args in commands:
                done = run(*args, prepare=limited(which, mib << 20), data=b"abc")
                check(done.returncode in (0, 1, 127), "%s with %d MiB: status %d" % (args, mib, done.returncode))
                check(done.returncode == 0 or done.stderr.count(b"\n") == 1, done.stderr)
                worked += done.returncode == 0
            port = free_port()
            process = subprocess.Popen([BIN, "--model", SHAKESPEARE, "--port", str(port)], cwd=ROOT, env=clean_environment(),
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                       preexec_fn=limited(which, mib << 20))
            if any(b"Worker ready" in line for line in process.stderr):
                equal(Stream(port, body_of(prompt="A")).collect()[-1].name in ("end", "error"), True)
                stop(process)
            check(process.wait(10) in (0, 1, 127), "serve with %d MiB: status %d" % (mib, process.returncode))
            process.stderr.close()
    check(worked, "no limit was large enough")


@suite.case("ulimit -s: a small limit is raised where that is allowed, else it is the reason given")
def little_stack():
    if sanitized():
        raise Skip("a sanitizer needs more stack than that to start")
    for args in (["verify", "--model", TINY, "--reference", "self"], ["info", "--model", TINY]):
        equal(run(*args, prepare=limited(resource.RLIMIT_STACK, 64 << 10, resource.RLIM_INFINITY)).returncode, 0)
        fails(run(*args, prepare=limited(resource.RLIMIT_STACK, 64 << 10)), "the stack is limited to 64 KiB")
        equal(run(*args, prepare=limited(resource.RLIMIT_STACK, 512 << 10)).returncode, 0)
    with open(in_folder("log"), "wb") as log:
        w = LoggedTo(log, prepare=limited(resource.RLIMIT_STACK, 512 << 10))
        w.jobs(1)
        stop(w.process)


# --- surroundings ---

@suite.case("a huge environment and huge arguments")
def huge_arguments():
    env = {"X%d" % i: "x" * 100000 for i in range(10)}
    equal(run("info", "--model", TINY, env=env).returncode, 0)
    for args in (["info", "--model", "x" * 100000], ["x" * 100000], ["--model", "x" * 100000, "--port", "0"],
                 ["generate", "--prompt", "x" * 100000, "--model", TINY], ["--port", "x" * 100000, "--model", "m"],
                 ["diff", "x" * 100000, "y"], ["pack", "--model", TINY, "--out", "x" * 100000]):
        done = run(*args, env=env)
        check(done.returncode in (1, 2), "%s: status %d" % (args[0][:20], done.returncode))
        check(all(len(line) <= 4096 for line in done.stderr.splitlines()), "a line of %d bytes" % len(done.stderr))
    with Worker("--worker-id", "w" * 100000, model=TINY, env=env) as w:
        equal(w.get("/health")[0], 200)


@suite.case("a working directory that was deleted, and every umask")
def surroundings():
    gone = in_folder("gone")

    def enter():
        os.chdir(gone)
        os.rmdir(gone)
        os.umask(0o777)
    os.mkdir(gone)
    equal(run("pack", "--model", TINY, "--out", in_folder("masked"), prepare=enter).returncode, 0)
    equal(os.stat(in_folder("masked")).st_mode & 0o777, 0)
    os.mkdir(gone)
    fails(run("info", "--model", "model", prepare=enter), "No such file or directory")
    os.mkdir(gone)
    with open(in_folder("log"), "wb") as log:
        w = LoggedTo(log, prepare=enter)
        w.jobs(1)
        stop(w.process)


@suite.case("a second daemon on the port: exit 1 with the address and what to do, no callback; the first goes on")
def port_taken():
    with PoolManager(200) as pool, Worker("--host", "127.0.0.1", stub=True) as w:
        for host in ("127.0.0.1", "0.0.0.0"):
            second = Worker("--port", str(w.port), "--host", host, "--callback-url", pool.url, ready=False)
            equal(second.wait(), 1)
            line = second.wait_log("Failed to bind to %s:%d: Address already in use" % (host, w.port))
            has(line["hint"], "see --port and --host")
            equal(line["code"], "BIND_FAILED")
            check("Loading model..." not in second.log_messages(), "the model was loaded for nothing")
        equal(pool.calls, [])
        equal(w.run()[-1].name, "end")


# --- the clock ---

def preloaded(name, source):
    """A library to be put in front of the program."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sanitized() or compiler is None:
        raise Skip("no library can be put in front of this program")
    done = subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", in_folder(name), "-x", "c", "-"], input=source.encode(),
                          check=False)
    equal(done.returncode, 0)
    return in_folder(name)


CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static const volatile long *offset;
__attribute__((constructor)) static void begin(void)
{
    offset = mmap(NULL, 4096, PROT_READ, MAP_SHARED, open(getenv("STUB_CLOCK_FILE"), O_RDONLY), 0);
}
int clock_gettime(clockid_t id, struct timespec *t)
{
    const int result = (int)syscall(SYS_clock_gettime, id, t);
    if (id == CLOCK_REALTIME && result == 0)
        t->tv_sec += *offset;
    return result;
}
time_t time(time_t *out)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out != NULL)
        *out = t.tv_sec;
    return t.tv_sec;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *t = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}
"""


@suite.case("the wall clock jumps, forward and back: time stamps follow, nothing else notices")
def clock_jumps():
    library = preloaded("clock.so", CLOCK)
    with open(in_folder("clock"), "w+b") as file:
        file.truncate(4096)
        offset = mmap.mmap(file.fileno(), 4096)
    env = {"LD_PRELOAD": library, "STUB_CLOCK_FILE": in_folder("clock"), "STUB_KEEP_ALIVE_MS": 2000}
    with Worker("--inference-timeout-sec", "5", stub=True, env=env) as w, \
            socket.create_connection(("127.0.0.1", w.port), timeout=5) as idle:
        stream = w.start(prompt="tokens=60 delay=10", max_tokens=60)
        years, seen = (0, 1, -20, 300, -56, 9000), []
        for year in years:
            offset[:8] = struct.pack("q", year * 31556952)
            for _ in range(9):
                equal(stream.next(2).name, "token")
            line = w.request("GET", "/nothing")
            equal(line[0], 404)
            seen.append(line[1]["date"])
        events = stream.collect()
        equal(events[-1].name, "end")
        equal(stream.comments, [])
        now = time.gmtime().tm_year
        got = [int(date.split()[3]) for date in seen[:4]]
        check(all(abs(a - (now + b)) <= 1 for a, b in zip(got, years)), (seen, years))
        offset[:8] = struct.pack("q", 31556952)
        within(int(w.run()[0].data["started_at"][:4]), now + 1, now + 2)
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        has(idle.recv(4096), b"200 OK")
        w.signal(signal.SIGTERM)
        equal(w.wait(), 0)


SLOW_NAMES = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <unistd.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    if (hints == NULL || (hints->ai_flags & AI_NUMERICHOST) == 0)
        for (int i = 0; i < 20; i++)
            sleep(1);
    return real(node, service, hints, found);
}
"""


@suite.case("SIGTERM while the pool manager's name is looked up, which may take long: exit 0 at once")
def slow_names():
    library = preloaded("names.so", SLOW_NAMES)
    w = Worker("--callback-url", "http://pool.invalid/ready", stub=True, ready=False, env={"LD_PRELOAD": library})
    w.wait_log("CPU worker starting")
    time.sleep(0.1)
    begin = time.monotonic()
    w.signal(signal.SIGHUP)  # means nothing from the first moment on
    time.sleep(0.05)
    w.signal(signal.SIGTERM)
    equal(w.wait(), 0)
    timely(time.monotonic() - begin, 0, 1 * SLOW)


if __name__ == "__main__":
    status = suite.run()
    shutil.rmtree(FOLDER)
    sys.exit(status)
