#!/usr/bin/env python3
"""Who may use a worker: the address it listens on, API keys, Unix sockets (contract 2.1)."""
# Runs beside others: nothing here measures time.
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import socket
import stat
import sys
import tempfile
import threading
import time

from harness import LIMIT, SLOW, STUB, Suite, Worker, body_of, check, equal, free_port, has, raw_exchange, run_program

suite = Suite()
FOLDER = tempfile.mkdtemp(prefix="llorch-access-")
KEY, SECOND = "first-key-0123456789", "second-key-abcdefghij"
BEARER = {"Authorization": "Bearer " + KEY}
numbers = iter(range(1000))


def key_file(text="# comment\n%s\n%s\r\n" % (KEY, SECOND), mode=0o600):
    path = os.path.join(FOLDER, "keys-%d" % next(numbers))
    with open(path, "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)
    os.chmod(path, mode)
    return path


def socket_path():
    return os.path.join(FOLDER, "socket-%d" % next(numbers))


def guarded():
    """A shared worker that asks for a key."""
    return suite.worker("guarded", "--api-key-file", key_file(), "--enable-shutdown", stub=True)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=LIMIT)
        self.path = path

    def connect(self):
        self.sock = unix_socket(self.path)


def unix_socket(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(LIMIT)
    s.connect(path)
    return s


def unix_request(path, method, target, body=None, headers=None):
    connection = UnixConnection(path)
    try:
        connection.request(method, target, body=json.dumps(body) if body else None,
                           headers=dict({"Content-Type": "application/json"} if body else {}, **(headers or {})))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def unix_get(path, target):
    status, body = unix_request(path, "GET", target)
    return status, json.loads(body)


def refuses(address, port):
    try:
        socket.create_connection((address, port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


class Pool:
    """Takes one ready callback."""

    def __init__(self):
        calls = self.calls = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                calls.append((json.loads(self.rfile.read(int(self.headers["Content-Length"]))), dict(self.headers)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d/ready" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def warnings_of(w):
    return [line["message"] for _, line in w.lines if isinstance(line, dict) and line["level"] == "warn"]


# --- the address ---


@suite.test
def a_worker_started_by_hand_listens_on_this_machine_only():
    with Worker(stub=True) as w:
        equal(w.wait_log("Worker ready")["host"], "127.0.0.1")
        equal(w.get("/health")[0], 200)
        check(refuses("127.0.0.3", w.port), "listens on more than 127.0.0.1")
        equal(warnings_of(w), [])


def check_pool_address(args, env, host):
    with Worker(*args, stub=True, env=env) as w:
        equal(w.wait_log("Worker ready")["host"], host)
        equal(refuses("127.0.0.3", w.port), host != "0.0.0.0")
        equal(w.get("/health")[0], 200)


TEST_MODE = "http://localhost:9999"
suite.case("started with --callback-url it listens on every address", ["--callback-url", TEST_MODE], None,
           "0.0.0.0")(check_pool_address)
suite.case("started with CALLBACK_URL it listens on every address", [], {"CALLBACK_URL": TEST_MODE},
           "0.0.0.0")(check_pool_address)
suite.case("--host wins over what a callback URL means", ["--callback-url", TEST_MODE, "--host", "127.0.0.1"], None,
           "127.0.0.1")(check_pool_address)
suite.case("an empty CALLBACK_URL is none", [], {"CALLBACK_URL": ""}, "127.0.0.1")(check_pool_address)


def check_uri(args, want):
    with Pool() as pool, Worker("--callback-url", pool.url, *args, stub=True) as w:
        w.wait_log("Pool manager notified")
        uri = pool.calls[0][0]["uri"]
        equal(uri, want.replace("PORT", str(w.port)))
        if "localhost" in uri or "127." in uri:  # it leads to this worker
            host, port = uri[len("http://"):].rsplit(":", 1)
            connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT)
            connection.request("GET", "/health")
            equal(json.loads(connection.getresponse().read())["port"], w.port)
            connection.close()


suite.case("the reported uri is localhost with every address", [], "http://localhost:PORT")(check_uri)
suite.case("the reported uri is localhost with 127.0.0.1", ["--host", "127.0.0.1"], "http://localhost:PORT")(check_uri)
suite.case("the reported uri is the address where localhost does not lead to it", ["--host", "127.0.0.2"],
           "http://127.0.0.2:PORT")(check_uri)
suite.case("--uri wins over the address", ["--host", "127.0.0.2", "--uri", "http://a.b:1"], "http://a.b:1")(check_uri)


def check_warning(args, wanted):
    with Worker(*[a() if callable(a) else a for a in args], stub=True) as w:
        found = [m for m in warnings_of(w) if m.startswith("Listening on a public address without an API key")]
        equal(len(found), int(wanted), w.raw_log)


for args, wanted in [(["--host", "0.0.0.0"], True), (["--callback-url", TEST_MODE], True), (["--host", "127.0.0.2"], False),
                     (["--host", "localhost"], False), (["--host", "0.0.0.0", "--api-key-file", key_file], False),
                     (["--callback-url", TEST_MODE, "--api-key-file", key_file], False)]:
    suite.case("%s about a public address: %s" % ("a warning" if wanted else "no warning",
                                                  " ".join(a if isinstance(a, str) else "KEYS" for a in args)),
               args, wanted)(check_warning)


# --- API keys ---


def check_refused(answer, message):
    status, headers, body = answer
    equal(status, 401)
    equal((headers["www-authenticate"], headers["connection"], headers["content-type"]),
          ('Bearer realm="llorch-cpud"', "close", "application/json"))
    check("x-correlation-id" in headers, headers)
    equal(json.loads(body), {"code": "INVALID_REQUEST", "message": "Invalid request: " + message, "retriable": False})


NEEDED, WRONG = "an API key is needed (Authorization: Bearer KEY)", "the API key is not valid"


def check_closed(method, path):
    check_refused(guarded().request(method, path), NEEDED)
    check_refused(guarded().request(method, path, headers={"Authorization": "Bearer " + KEY[:-1]}), WRONG)


for method, path in [("POST", "/execute"), ("POST", "/cancel"), ("POST", "/shutdown"), ("GET", "/execute"),
                     ("GET", "/nothing"), ("GET", "/health/"), ("GET", "/Health"), ("GET", "//health"), ("GET", "/%68ealth"),
                     ("GET", "/health/../execute"), ("GET", "/execute?x=/health"), ("GET", "http://x/nothing"),
                     ("OPTIONS", "*"), ("OPTIONS", "/execute"), ("PUT", "/execute"), ("DELETE", "/nothing")]:
    suite.case("401 without a key: %s %s" % (method, path), method, path)(check_closed)


def check_open(method, path, status):
    for headers in ({}, {"Authorization": "Bearer wrong"}, BEARER):
        equal(guarded().request(method, path, headers=headers)[0], status)


for method, path, status in [("GET", "/health", 200), ("HEAD", "/health", 200), ("GET", "/live", 200), ("HEAD", "/live", 200),
                             ("GET", "/ready", 200), ("HEAD", "/ready", 200), ("GET", "/health?x", 200),
                             ("GET", "http://x/health", 200), ("POST", "/health", 405), ("GET", "/", 200), ("HEAD", "/?x", 200)]:
    suite.case("open with any key and none: %s %s is %d" % (method, path, status), method, path, status)(check_open)


def check_let_in(value):
    stream = guarded().execute(headers={"Authorization": value})
    equal(stream.collect()[-1].name, "end")


for name, value in [("the first", "Bearer " + KEY), ("the second", "Bearer " + SECOND), ("a lower-case scheme", "bearer " + KEY),
                    ("several blanks", "BEARER    " + KEY), ("blanks around", "  Bearer " + KEY + " \t ")]:
    suite.case("let in with %s key" % name, value)(check_let_in)


def check_lines(*lines):
    """These Authorization lines do not open anything."""
    head = b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    answer = raw_exchange(guarded().port, head + b"".join(line + b"\r\n" for line in lines) + b"\r\n{}")
    check(answer.startswith(b"HTTP/1.1 401 "), answer)
    check(KEY.encode() not in answer, answer)


AUTHORIZATION = b"Authorization: Bearer " + KEY.encode()
for name, lines in [
        ("another scheme", [b"Authorization: Basic " + KEY.encode()]), ("no scheme", [b"Authorization: " + KEY.encode()]),
        ("a tab after the scheme", [b"Authorization: Bearer\t" + KEY.encode()]), ("no key", [b"Authorization: Bearer"]),
        ("an empty value", [b"Authorization:"]), ("quotes", [b'Authorization: Bearer "' + KEY.encode() + b'"']),
        ("the key twice in one line", [AUTHORIZATION + b", Bearer " + KEY.encode()]),
        ("the header twice", [AUTHORIZATION, AUTHORIZATION]), ("an empty one before it", [b"Authorization:", AUTHORIZATION]),
        ("a wrong one after it", [AUTHORIZATION, b"authorization: Bearer x"]),
        ("a value of 1024 bytes", [b"Authorization: Bearer " + b" " * (1024 - 7 - len(KEY)) + KEY.encode()]),
        ("a value of 20,000 bytes", [b"Authorization: Bearer " + b"k" * 20000]),
        ("the key of a comment", [b"Authorization: Bearer # comment"]), ("a question mark", [b"Authorization: ?"]),
        ("another header", [b"Proxy-Authorization: Bearer " + KEY.encode()]),
        ("a longer name", [b"Authorization-: Bearer " + KEY.encode(), b"X-Authorization: Bearer " + KEY.encode()])]:
    suite.case("401: Authorization with %s" % name, *lines)(check_lines)


@suite.test
def a_value_of_1023_bytes_is_read():
    stream = guarded().execute(headers={"Authorization": "Bearer " + " " * (1023 - 7 - len(KEY)) + KEY})
    equal(stream.collect()[-1].name, "end")


@suite.test
def a_key_in_the_target_or_the_body_opens_nothing():
    check_refused(guarded().request("POST", "/execute?key=%s&access_token=%s" % (KEY, KEY), body_of(access_token=KEY)), NEEDED)


@suite.test
def with_a_key_everything_is_answered_as_without_keys():
    for method, path, body, status in [("GET", "/nothing", None, 404), ("GET", "/execute", None, 405),
                                       ("POST", "/execute", b"x", 415), ("POST", "/execute", {}, 422),
                                       ("POST", "/execute", body_of(job_id=""), 400), ("POST", "/cancel", {"job_id": "x"}, 202)]:
        equal(guarded().request(method, path, body, dict(BEARER))[0], status, path)


@suite.test
def a_malformed_request_is_refused_as_such_before_the_key_counts():
    for request, status in [(b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
                            (b"GET /" + b"a" * 9000, 414), (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: y\r\n\r\n", 417)]:
        check(raw_exchange(guarded().port, request).startswith(b"HTTP/1.1 %d " % status), request[:40])


@suite.test
def the_body_is_neither_waited_for_nor_its_size_looked_at():
    head = b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    for more in (b"Content-Length: 100\r\n\r\n", b"Content-Length: 99999999999\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n",
                 b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", guarded().port), timeout=LIMIT) as s:
            s.sendall(head + more)
            answer = s.recv(4096)
            check(answer.startswith(b"HTTP/1.1 401 "), answer)  # and not 100 or 413


@suite.test
def a_refused_body_is_not_kept():
    before = rss(guarded())
    head = b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"
    sockets = [socket.create_connection(("127.0.0.1", guarded().port), timeout=LIMIT) for _ in range(20)]
    for s in sockets:
        s.sendall(head)
        s.setblocking(False)
    for _ in range(4):
        for s in sockets:
            try:
                s.send(b"x" * 500000)
            except (BlockingIOError, ConnectionError):
                pass
        equal(guarded().get("/health")[0], 200)
    # 40 MB were sent. Sanitizers keep what was freed for a while.
    check(rss(guarded()) - before < SLOW * (8 << 20), "kept %d bytes" % (rss(guarded()) - before))
    for s in sockets:
        s.close()


def rss(w):
    with open("/proc/%d/statm" % w.pid, encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def statuses(*requests):
    """Of pipelined requests."""
    answer = raw_exchange(guarded().port, b"".join(requests))
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d+) ", answer)]


def request_bytes(path, *lines):
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"Host: x", *lines]) + b"\r\n\r\n"


@suite.test
def a_key_counts_for_its_own_request_only():
    equal(statuses(request_bytes(b"/nothing", AUTHORIZATION), request_bytes(b"/nothing"), request_bytes(b"/health")), [404, 401])


@suite.test
def an_open_path_and_a_closed_one_on_one_connection():
    equal(statuses(request_bytes(b"/health"), request_bytes(b"/nothing", AUTHORIZATION), request_bytes(b"/live"),
                   request_bytes(b"/nothing")), [200, 404, 200, 401])


@suite.test
def a_trailer_is_too_late_for_the_key():
    answer = raw_exchange(guarded().port, b"POST /cancel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                                          b"Content-Type: application/json\r\n\r\n2\r\n{}\r\n0\r\n" + AUTHORIZATION + b"\r\n\r\n")
    check(answer.startswith(b"HTTP/1.1 401 "), answer)


@suite.test
def HEAD_gets_no_body_and_HTTP_1_0_its_401():
    answer = raw_exchange(guarded().port, b"HEAD /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
    check(answer.startswith(b"HTTP/1.1 401 ") and answer.endswith(b"\r\n\r\n"), answer)
    check(b" 401 " in raw_exchange(guarded().port, b"GET /nothing HTTP/1.0\r\n\r\n"), "1.0")


@suite.test
def a_key_byte_by_byte():
    with socket.create_connection(("127.0.0.1", guarded().port), timeout=LIMIT) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request_bytes(b"/nothing", AUTHORIZATION):
            s.send(bytes([byte]))
            time.sleep(0.0005)
        check(s.recv(4096).startswith(b"HTTP/1.1 404 "), "not let in")


@suite.test
def while_the_model_loads_keys_are_asked_for_as_well():
    w = Worker("--api-key-file", key_file(), stub=True, ready=False, env={"STUB_LOAD_MS": 800})
    equal(w.get("/ready")[0], 503)
    equal(w.request("POST", "/execute", body_of())[0], 401)
    equal(w.request("POST", "/execute", body_of(), dict(BEARER))[0], 503)
    equal(w.stop(), 0)


@suite.test
def the_key_is_in_no_log_no_argument_and_no_environment():
    with Worker("--api-key-file", key_file(), "--log-level", "debug", stub=True) as w:
        equal(w.execute(headers=BEARER, job_id="j").collect()[-1].name, "end")
        for value in ("Bearer %s!" % KEY, "Basic " + KEY, KEY):
            equal(w.request("GET", "/x", headers={"Authorization": value})[0], 401)
        for name in ("cmdline", "environ"):
            with open("/proc/%d/%s" % (w.pid, name), "rb") as file:
                check(KEY.encode() not in file.read(), name)
        equal(w.stop(), 0)
        check(KEY not in "\n".join(w.raw_log), "the key is in the log")


@suite.test
def keys_are_read_once():
    path = key_file()
    with Worker("--api-key-file", path, stub=True) as w:
        with open(path, "w", encoding="ascii") as file:
            file.write("another-key-0123456\n")
        equal(w.request("GET", "/nothing", headers=BEARER)[0], 404)
        equal(w.request("GET", "/nothing", headers={"Authorization": "Bearer another-key-0123456"})[0], 401)
        os.unlink(path)
        w.signal(signal.SIGHUP)
        equal(w.request("GET", "/nothing", headers=BEARER)[0], 404)
    check(path in w.wait_log("API keys read")["file"], w.raw_log)


def check_bad_file(content, message):
    path = content() if callable(content) else key_file(content)
    w = Worker("--api-key-file", path, stub=True, ready=False)
    equal(w.wait(), 1)
    line = w.wait_log("--api-key-file: " + path)
    equal((line["level"], line["code"]), ("error", "API_KEY_FAILED"))
    has(line["message"], message)
    check("SECRET" not in "\n".join(w.raw_log), w.raw_log)


for name, content, message in [
        ("empty", b"", "the file is empty"), ("with comments only", b"# SECRET\n\n", "holds no key"),
        ("with a blank in a key", b"SECRET SECRET\n", "line 1: byte 7 of the key is not allowed"),
        ("with a byte above 127", b"\n\xffSECRET\n", "line 2: byte 1 of the key"),
        ("with 33 keys", b"SECRET\n" * 33, "line 33: more than 32 keys"), ("of 100 KB", b"SECRET\n" * 15000, "at most 65536"),
        ("with a key of 600 bytes", b"SECRET" * 100, "a key of 600 bytes, expected at most 512"),
        ("that is a directory", lambda: FOLDER, "is a directory"),
        ("that is absent", lambda: os.path.join(FOLDER, "absent"), "No such file")]:
    suite.case("exit 1: a file of keys %s" % name, content, message)(check_bad_file)


@suite.test
def no_request_is_served_when_the_keys_cannot_be_read():
    port = free_port()
    w = Worker("--port", str(port), "--api-key-file", key_file(b"a b"), stub=True, ready=False)
    equal(w.wait(), 1)
    check(not any("Loading" in m for m in w.log_messages()), w.raw_log)


def check_file_warning(mode, text, wanted):
    with Worker("--api-key-file", key_file(text, mode), stub=True) as w:
        messages = warnings_of(w)
        equal(len(messages), len(wanted), messages)
        for message, part in zip(messages, wanted):
            has(message, part)


for mode in (0o600, 0o640, 0o400):
    suite.case("no warning about a file of keys with mode %04o" % mode, mode, KEY, [])(check_file_warning)
for mode in (0o644, 0o604, 0o602, 0o660, 0o444):
    suite.case("a warning about a file of keys with mode %04o" % mode, mode, KEY,
               ["Other users may read or write"])(check_file_warning)
suite.case("a warning about a short key", 0o600, KEY + "\nfifteen-bytes-x", ["so short that it can be guessed"])(check_file_warning)


# --- Unix sockets ---


@suite.test
def everything_works_on_a_unix_socket():
    path = socket_path()
    with Worker("--host", "unix:" + path, stub=True) as w:
        equal(stat.S_IMODE(os.lstat(path).st_mode), 0o600)
        equal((w.wait_log("Worker ready")["host"], w.port), ("unix:" + path, 0))
        status, health = unix_get(path, "/health")
        equal((status, health["state"], health["port"]), (200, "ready", None))
        equal(unix_get(path, "/ready"), (200, {"state": "ready"}))
        equal(unix_get(path, "/live")[0], 200)
        status, body = unix_request(path, "POST", "/execute", body_of(prompt="tokens=3", max_tokens=3))
        equal((status, body.count(b"event: token\n"), body.count(b"event: end\n")), (200, 3, 1))
        equal(unix_request(path, "POST", "/cancel", {"job_id": "x"})[0], 202)
        equal(unix_request(path, "GET", "/nothing")[0], 404)
        connection = UnixConnection(path)  # one connection, several requests
        for _ in range(3):
            connection.request("GET", "/live")
            equal(connection.getresponse().read(), b'{"status":"alive"}')
        connection.close()
        with open("/proc/%d/net/tcp" % w.pid, encoding="ascii") as file:
            inodes = {line.split()[9] for line in file.readlines()[1:] if line.split()[3] == "0A"}
        fds = {os.readlink("/proc/%d/fd/%s" % (w.pid, fd)) for fd in os.listdir("/proc/%d/fd" % w.pid)}
        check(not any("socket:[%s]" % inode in fds for inode in inodes), "a TCP port is open as well")
        equal(warnings_of(w), [])
    check(not os.path.exists(path) and not os.path.exists(path + ".lock"), "left behind")


@suite.test
def a_client_that_leaves_a_unix_socket_cancels_its_job():
    path = socket_path()
    with Worker("--host", "unix:" + path, stub=True) as w:
        for half in (False, True):
            s = unix_socket(path)
            data = json.dumps(body_of(job_id="gone-%d" % half, prompt="tokens=500 delay=10", max_tokens=500)).encode()
            s.sendall(b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                      % (len(data), data))
            while b"event: token" not in s.recv(4096):
                pass
            if half:
                s.shutdown(socket.SHUT_WR)
            else:
                s.close()
            w.job_line("gone-%d" % half)
            equal(unix_request(path, "POST", "/execute", body_of())[0], 200)
            s.close()


def check_mode(text, mode):
    path = socket_path()
    with Worker("--host", "unix:" + path, "--unix-mode", text, stub=True):
        equal(stat.S_IMODE(os.lstat(path).st_mode), mode)
        equal(unix_get(path, "/live")[0], 200)


for text, mode in (("0660", 0o660), ("666", 0o666), ("0700", 0o700)):
    suite.case("--unix-mode %s" % text, text, mode)(check_mode)


@suite.test
def keys_are_asked_for_on_a_unix_socket_too():
    path = socket_path()
    with Worker("--host", "unix:" + path, "--api-key-file", key_file(), stub=True):
        equal(unix_get(path, "/health")[0], 200)
        equal(unix_request(path, "POST", "/execute", body_of())[0], 401)
        equal(unix_request(path, "POST", "/execute", body_of(), BEARER)[0], 200)


@suite.test
def a_killed_workers_socket_is_taken_over():
    path = socket_path()
    w = Worker("--host", "unix:" + path, stub=True)
    w.signal(signal.SIGKILL)
    w.wait()
    check(os.path.exists(path), "SIGKILL left nothing to take over")
    with Worker("--host", "unix:" + path, stub=True):
        equal(unix_get(path, "/live")[0], 200)
    check(not os.path.exists(path), "left behind")


@suite.test
def a_second_worker_on_the_socket_fails_and_harms_nothing():
    path = socket_path()
    with Worker("--host", "unix:" + path, stub=True):
        second = Worker("--host", "unix:" + path, stub=True, ready=False)
        equal(second.wait(), 1)
        line = second.wait_log("Failed to bind")
        equal((line["message"], line["code"]), ("Failed to bind to unix:%s: Address already in use" % path, "BIND_FAILED"))
        equal(unix_get(path, "/live")[0], 200)


@suite.test
def of_workers_started_together_on_a_dead_socket_one_serves():
    path = socket_path()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    workers = [Worker("--host", "unix:" + path, "--worker-id", "w%d" % i, stub=True, ready=False) for i in range(6)]
    end = time.monotonic() + LIMIT
    while sum(w.process.poll() is not None for w in workers) < 5 and time.monotonic() < end:
        time.sleep(0.01)
    alive = [w for w in workers if w.process.poll() is None]
    equal(len(alive), 1)
    alive[0].wait_log("Worker ready")
    equal("w%d" % workers.index(alive[0]), unix_get(path, "/health")[1]["worker_id"])
    equal([w.stop() for w in workers if w is not alive[0]], [1] * 5)
    equal(alive[0].stop(), 0)


@suite.test
def a_file_that_is_no_socket_stays():
    path = socket_path()
    with open(path, "w", encoding="ascii") as file:
        file.write("data")
    w = Worker("--host", "unix:" + path, stub=True, ready=False)
    equal(w.wait(), 1)
    has(w.wait_log("Failed to bind")["message"], "what is there is not a socket")
    with open(path, encoding="ascii") as file:
        equal(file.read(), "data")


@suite.test
def the_socket_goes_when_the_start_fails_later():
    path = socket_path()
    w = Worker("--host", "unix:" + path, stub=True, ready=False, env={"STUB_LOAD_FAIL": "it broke"})
    equal(w.wait(), 1)
    check(not os.path.exists(path) and not os.path.exists(path + ".lock"), "left behind")


@suite.test
def a_callback_names_the_uri_that_was_given_with_a_unix_socket():
    with Pool() as pool, Worker("--host", "unix:" + socket_path(), "--callback-url", pool.url, "--uri", "http://proxy:80/w",
                                stub=True) as w:
        w.wait_log("Pool manager notified")
        equal(pool.calls[0][0]["uri"], "http://proxy:80/w")


@suite.test
def PORT_does_not_matter_to_a_unix_socket():
    with Worker("--host", "unix:" + socket_path(), stub=True, env={"PORT": "nonsense"}) as w:
        equal(w.port, 0)


def check_usage(args, message):
    status, _, errors = run_program("--model", "m", *args, program=STUB)
    equal((status, errors.count("\n")), (2, 1))
    has(errors, message)


for args, message in [
        (["--host", "unix:"], "--host: unix:: expected a path after unix:"),
        (["--host", "unix:@name"], "--host: unix:@name: expected a path after unix:"),
        (["--host", "unix:x", "--port", "3000"], "--port: a Unix socket (--host unix:x) has none"),
        (["--host", "unix:x", "--callback-url", TEST_MODE], "--host: unix:x: no address for the callback follows from it"),
        (["--unix-mode", "0600"], "--unix-mode: needs --host unix:PATH"),
        (["--unix-mode", "0600", "--host", "127.0.0.1"], "--unix-mode: needs --host unix:PATH"),
        (["--host", "unix:x", "--unix-mode", ""], "--unix-mode: : expected octal digits, 0000 to 0777"),
        (["--host", "unix:x", "--unix-mode", "0800"], "--unix-mode: 0800: expected octal digits"),
        (["--host", "unix:x", "--unix-mode", "1777"], "--unix-mode: 1777: expected octal digits"),
        (["--host", "unix:x", "--unix-mode", "rw"], "--unix-mode: rw: expected octal digits"),
        (["--host", "unix:x", "--unix-mode", "-660"], "--unix-mode: -660: expected octal digits"),
        (["--host", "unix:x", "--unix-mode", "00600"], "--unix-mode: 00600: expected octal digits"),
        (["--api-key-file", ""], "--api-key-file: must not be empty"), (["--api-key-file"], "--api-key-file")]:
    suite.case("exit 2: " + " ".join(args), args, message)(check_usage)


status = suite.run()
shutil.rmtree(FOLDER)
sys.exit(status)
