#!/usr/bin/env python3
"""Arguments, start, ready callback, shutdown, exit statuses, log (contract 2, 3, 3.1, 4, 11a)."""
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

from harness import (BIN, LIMIT, SHAKESPEARE, SLOW, STUB, TINY, Stream, Suite, Worker, body_of, check, check_order,
                     check_unavailable, clean_environment, cpu_seconds, equal, free_port, persist, run_program, timely, tokens_of,
                     within)

suite = Suite()


class PoolManager:
    """A fake pool manager. answers: statuses in turn, the last one repeated; reach: try the worker's uri meanwhile."""

    def __init__(self, *answers, reach=False, delay=0, raw=None):
        manager = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):  # pylint: disable=invalid-name
                body = self.rfile.read(int(self.headers["Content-Length"]))
                manager.calls.append((time.monotonic(), self.path, dict(self.headers.items()), body))
                if reach:
                    manager.reached.append(manager.reach(json.loads(body)["uri"]))
                time.sleep(delay)
                if raw is not None:
                    self.wfile.write(raw)
                    return
                index = min(len(manager.calls), len(answers)) - 1
                self.send_response(answers[index])
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.calls = []
        self.reached = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def reach(uri):
        """What a pool manager must check before it answers: /health and /ready at this address."""
        found = []
        address = uri.replace("localhost", "127.0.0.1")  # not every bare system can look the name up
        for path in ("/health", "/ready"):
            with urllib.request.urlopen(address + path, timeout=3) as answer:
                found.append((answer.status, json.loads(answer.read()).get("state")))
        return found

    def wait_calls(self, n, limit=10):
        end = time.monotonic() + limit
        while len(self.calls) < n:
            check(time.monotonic() < end, "%d calls, expected %d" % (len(self.calls), n))
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


# --- start ---


@suite.case("start: the log messages come in order, with worker_id, model and port")
def start_log():
    with Worker("--worker-id", "w-1", "--callback-url", "http://localhost:9999") as w:
        w.wait_log("Test mode: skipping pool manager callback")
        messages = w.log_messages()
        order = [messages.index(m) for m in ("CPU worker starting", "Loading model...", "Worker ready, starting HTTP server",
                                             "Test mode: skipping pool manager callback")]
        equal(order, sorted(order))
        ready = w.wait_log("Worker ready")
        equal((ready["worker_id"], ready["model"], ready["port"], ready["level"]), ("w-1", "shakespeare", w.port, "info"))


@suite.case("start: every log line is one JSON object with level and message")
def log_is_json():
    with Worker() as w:
        w.run()
        w.request("GET", "/nothing")
    check(len(w.lines) >= 5, w.raw_log)
    for _, line in w.lines:
        check(isinstance(line, dict) and isinstance(line["message"], str), line)
        check(line["level"] in ("debug", "info", "warn", "error"), line)


@suite.case("start: the shipped model is ready in under a second, HTTP before that")
def start_time():
    with Worker() as w:
        at = {line["message"]: t - w.started for t, line in w.lines if isinstance(line, dict)}
        timely(at["Loading model..."], 0, 1 * SLOW)
        timely(at["Worker ready, starting HTTP server"], 0, 1.5 * SLOW)


@suite.case("start: nothing is printed on standard output")
def silent_stdout():
    w = Worker()
    w.run()
    w.signal(signal.SIGTERM)
    equal(w.process.stdout.read(), b"")
    equal(w.wait(), 0)


@suite.case("start: the sub-command may be named")
def named_serve():
    with Worker("serve", model=None, env={"MODEL_PATH": SHAKESPEARE, "PORT": 0}) as w:
        equal(w.run()[-1].name, "end")


@suite.case("start: load progress is logged")
def load_progress():
    with Worker(stub=True, env={"STUB_LOAD_MS": 200}) as w:
        seen = [line["percent"] for _, line in w.lines if isinstance(line, dict) and line["message"] == "Loading model"]
        equal(seen, [25, 50, 75])


# --- arguments ---

USAGE = [
    ("no model", [], "--model"),
    ("unknown flag", ["--model", "m", "--frobnicate"], "--frobnicate"),
    ("--threads does not exist", ["--model", "m", "--threads", "2"], "--threads"),
    ("--type unknown", ["--model", "m", "--type", "q4_k"], "--type: q4_k: expected f32, f16, bf16, q8_0 or q4_0"),
    ("--kv-type unknown", ["--model", "m", "--kv-type", "q8_0"], "--kv-type: q8_0: expected f32 or f16"),
    ("--cpu -1", ["--model", "m", "--cpu", "-1"], "--cpu"),
    ("--mlock takes no value", ["--model", "m", "--mlock=yes"], "--mlock"),
    ("argument left over", ["--model", "m", "extra"], "extra"),
    ("value missing", ["--model", "m", "--port"], "--port"),
    ("--port not a number", ["--model", "m", "--port", "http"], "--port"),
    ("--port empty", ["--model", "m", "--port", ""], "--port"),
    ("--port 65536", ["--model", "m", "--port", "65536"], "--port"),
    ("--port -1", ["--model", "m", "--port", "-1"], "--port"),
    ("--port with text behind", ["--model", "m", "--port", "80x"], "--port"),
    ("--worker-id empty", ["--model", "m", "--worker-id", ""], "--worker-id"),
    ("--model empty", ["--model", ""], "--model"),
    ("--callback-url https", ["--model", "m", "--callback-url", "https://pool/ready"], "https"),
    ("--callback-url without scheme", ["--model", "m", "--callback-url", "pool:9200/ready"], "--callback-url"),
    ("--callback-url with a bad port", ["--model", "m", "--callback-url", "http://pool:99999/"], "--callback-url"),
    ("--callback-retries -1", ["--model", "m", "--callback-retries", "-1"], "--callback-retries"),
    ("--uri without scheme", ["--model", "m", "--uri", "localhost:1"], "--uri"),
    ("--uri with a line break", ["--model", "m", "--uri", "http://a\nb"], "--uri"),
    ("--max-context 0", ["--model", "m", "--max-context", "0"], "--max-context"),
    ("--queue -1", ["--model", "m", "--queue", "-1"], "--queue"),
    ("--queue 1025", ["--model", "m", "--queue", "1025"], "--queue"),
    ("--inference-timeout-sec 0", ["--model", "m", "--inference-timeout-sec", "0"], "--inference-timeout-sec"),
    ("--log-level loud", ["--model", "m", "--log-level", "loud"], "--log-level"),
    ("--model-name empty", ["--model", "m", "--model-name", ""], "--model-name"),
    ("--max-context above the model's", ["--port", "0", "--model", SHAKESPEARE, "--max-context", "257"], "257"),
    ("--isa unknown", ["--port", "0", "--model", SHAKESPEARE, "--isa", "quantum"], "quantum"),
]


def check_usage(args, named, env=None):
    status, out, err = run_program(*args, env=env)
    equal((status, out), (2, ""))
    check(named in err, err)
    last = err.strip().splitlines()[-1]
    check(len(last.encode()) <= 1024, last)


for name, arguments, named_text in USAGE:
    suite.case("exit 2: " + name, arguments, named_text)(check_usage)
for name, variables, named_text in [("PORT", {"PORT": "x"}, "PORT"), ("PORT 65536", {"PORT": "65536"}, "PORT"),
                                    ("CALLBACK_URL https", {"CALLBACK_URL": "https://x"}, "CALLBACK_URL")]:
    suite.case("exit 2: variable " + name, ["--model", "m"], named_text, variables)(check_usage)


@suite.case("--help: every flag is named, exit 0")
def help_text():
    for args in (["serve", "--help"], ["serve", "-h"]):
        status, out, err = run_program(*args)
        equal((status, err), (0, ""))
        for flag in ("worker-id", "model", "port", "callback-url", "callback-minimal", "callback-retries", "host", "uri",
                     "unix-mode", "api-key-file", "model-name", "max-context", "queue", "inference-timeout-sec", "defer-headers", "enable-shutdown", "isa",
                     "type", "kv-type", "no-prefix-cache", "cpu", "mlock", "log-level", "help", "version"):
            check("--" + flag in out, flag)


@suite.case("--version: exit 0")
def version_text():
    with open("VERSION", encoding="ascii") as file:
        version = file.read().strip()
    for args in (["--version"], ["serve", "--version"]):
        status, out, _ = run_program(*args)
        equal(status, 0)
        check(version in out, out)


@suite.case("environment: WORKER_ID, MODEL_PATH, PORT and CALLBACK_URL")
def environment():
    port = free_port()
    with Worker(model=None, env={"WORKER_ID": "env-id", "MODEL_PATH": TINY, "PORT": port,
                                 "CALLBACK_URL": "http://localhost:9999"}) as w:
        w.wait_log("Test mode")
        equal(w.port, port)
        health = w.get("/health")[1]
        equal((health["worker_id"], health["model"]), ("env-id", "tiny-gpt2"))


@suite.case("environment: flags win")
def flags_win():
    with Worker("--worker-id", "flag-id", "--model", SHAKESPEARE, "--port", "0", "--callback-url", "http://localhost:9999",
                env={"WORKER_ID": "env-id", "MODEL_PATH": TINY, "PORT": "x", "CALLBACK_URL": "https://x"}) as w:
        health = w.get("/health")[1]
        equal((health["worker_id"], health["model"]), ("flag-id", "shakespeare"))


@suite.case("environment: empty variables count as absent")
def empty_variables():
    with Worker(env={"WORKER_ID": "", "CALLBACK_URL": "", "LLORCH_ISA": ""}) as w:
        equal(w.get("/health")[1]["worker_id"], "llorch-cpud-0")
        check("callback" not in " ".join(w.log_messages()), w.raw_log)


@suite.case("environment: LLORCH_ISA chooses, --isa wins, an unknown one is refused")
def environment_isa():
    with Worker(env={"LLORCH_ISA": "scalar"}) as w:
        scalar = tokens_of(w.run(temperature=0, max_tokens=20))
    equal([e.data for e in tokens_of(suite.real().run(temperature=0, max_tokens=20))], [e.data for e in scalar])
    with Worker("--isa", "scalar", env={"LLORCH_ISA": "quantum"}):
        pass
    check_usage(["--model", SHAKESPEARE, "--port", "0"], "quantum", {"LLORCH_ISA": "quantum"})


@suite.case("environment: no other variable is looked at")
def other_variables():
    with Worker(stub=True, env={"MAX_CONTEXT": "1", "QUEUE": "0", "HOST": "nowhere", "MODEL_NAME": "x",
                                 "EVENT_SHOW_METHOD": "1", "EVENT_NOEPOLL": "1", "EVENT_NOPOLL": "1",
                                 "EVENT_NOSELECT": "1"}) as w:
        health = w.get("/health")[1]
        equal((health["context_length"], health["model"]), (1024, "shakespeare"))
        check(all(isinstance(line, dict) for _, line in w.lines), "a log line is not JSON: %s" % w.raw_log)


@suite.case("worker ids of every shape are accepted")
def worker_ids():
    for worker_id in ("worker-1", "gpu-0-replica-2", "1b4e28ba-2fa1-41d2-883f-0016d3cca427", "имя \"x\""):
        with Worker("--worker-id", worker_id, stub=True) as w:
            equal(w.get("/health")[1]["worker_id"], worker_id)
            equal(w.wait_log("CPU worker starting")["worker_id"], worker_id)


@suite.case("--host: listens only there")
def host():
    with Worker("--host", "127.0.0.2", stub=True) as w:
        with socket.create_connection(("127.0.0.2", w.port), timeout=5):
            pass
        try:
            socket.create_connection(("127.0.0.1", w.port), timeout=5).close()
        except ConnectionRefusedError:
            pass
        else:
            raise AssertionError("listens on 127.0.0.1 as well")


@suite.case("--log-level: error is silent, debug says more, off says nothing")
def log_level():
    for level, present, absent in (("error", "", "Worker ready"), ("debug", "Job started", "\0"), ("off", "", "\"")):
        port = free_port()
        w = Worker("--log-level", level, "--port", str(port), stub=True, ready=False)
        w._port = port  # pylint: disable=protected-access
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                w.run()
                break
            except ConnectionRefusedError:
                time.sleep(0.02)
        equal(w.stop(), 0)
        text = "\n".join(w.raw_log)
        check(present in text and absent not in text, text)


# --- failures of the start ---


@suite.case("exit 1: port in use: Failed to bind to <addr>: <os error>")
def bind_failure():
    port = suite.stub().port
    w = Worker("--port", str(port), ready=False)
    equal(w.wait(), 1)
    line = w.wait_log("Failed to bind")
    equal(line["message"], "Failed to bind to 127.0.0.1:%d: Address already in use" % port)
    equal((line["level"], line["code"], line["model"]), ("error", "BIND_FAILED", SHAKESPEARE))


@suite.case("exit 1: an address that is not ours")
def bind_foreign():
    w = Worker("--host", "192.0.2.1", ready=False)
    equal(w.wait(), 1)
    check(w.wait_log("Failed to bind to 192.0.2.1:0: ")["level"] == "error", w.raw_log)


@suite.case("exit 1: model missing: code, message and path in the log")
def model_missing():
    w = Worker(model="/nonexistent/model", ready=False)
    equal(w.wait(), 1)
    lines = [line for _, line in w.lines if isinstance(line, dict) and line["level"] == "error"]
    equal(len(lines), 1)
    equal((lines[0]["code"], lines[0]["model"]), ("MODEL_LOAD_FAILED", "/nonexistent/model"))
    check("/nonexistent/model" in lines[0]["message"], lines)


@suite.case("exit 1: loading fails late: no callback, no request was served")
def load_fails():
    with PoolManager(200) as pool:
        w = Worker("--callback-url", pool.url, stub=True, ready=False, env={"STUB_LOAD_MS": 200, "STUB_LOAD_FAIL": "it broke"})
        equal(w.wait(), 1)
        equal(w.wait_log("it broke")["code"], "MODEL_LOAD_FAILED")
        equal(pool.calls, [])


# --- preparation after the start ---


def idle_steps(worker):
    """How many idle steps the stub has done, as a job sees it that takes the given time."""
    events = worker.run(prompt="idle=1 tokens=2 delay=50")
    equal(events[-1].name, "end")
    return int(tokens_of(events)[0].data["t"])


@suite.case("idle: the backend prepares in the background, jobs and probes come first")
def idle_work():
    with Worker(stub=True, env={"STUB_IDLE_STEPS": 1500}) as w:
        begin = time.monotonic()
        first = idle_steps(w)
        check(first < 1000, "the job waited for %d steps" % first)
        second = idle_steps(w)  # none while the job before ran, which took 100 ms
        within(second - first, 0, 60 * SLOW)
        times = []
        for _ in range(50):
            at = time.monotonic()
            equal(w.get("/health")[1]["state"], "ready")
            times.append(time.monotonic() - at)
        timely(time.monotonic() - begin, 0, 1.3)  # else there may be nothing left to prepare
        timely(sorted(times)[len(times) // 2], 0, 0.010 * SLOW)  # the median
        check(idle_steps(w) > second, "nothing is prepared between jobs")


@suite.case("idle: all of it is done, once, and then the worker sleeps")
def idle_ends():
    with Worker(stub=True, env={"STUB_IDLE_STEPS": 100}) as w:
        time.sleep(0.5 * SLOW)
        equal(idle_steps(w), 100)
        time.sleep(0.1)
        equal(idle_steps(w), 100)
        before = cpu_seconds(w.pid)
        time.sleep(0.5)
        within(cpu_seconds(w.pid) - before, 0, 0.03)
    with Worker() as w:  # the real one
        time.sleep(0.3)
        before = cpu_seconds(w.pid)
        time.sleep(0.5)
        within(cpu_seconds(w.pid) - before, 0, 0.03)


@suite.case("idle: a signal in the middle ends the worker at once")
def idle_signal():
    w = Worker(stub=True, env={"STUB_IDLE_STEPS": 100000})
    time.sleep(0.05)
    begin = time.monotonic()
    equal(w.stop(), 0)
    timely(time.monotonic() - begin, 0, 0.5 * SLOW)


# --- callback ---


def model_bytes():
    """Resident weights: what the callback says must be what the log of the same worker can be checked against."""
    return os.path.getsize(os.path.join(SHAKESPEARE, "model.safetensors"))


@suite.case("callback: nine fields, JSON, the URL verbatim")
def callback_fields():
    with PoolManager(200) as pool:
        with Worker("--worker-id", "w-9", "--callback-url", pool.url + "/v2/internal/workers/ready?x=%20y") as w:
            w.wait_log("Pool manager notified")
            _, path, headers, body = pool.calls[0]
            equal(path, "/v2/internal/workers/ready?x=%20y")
            equal(headers["Content-Type"], "application/json")
            equal(headers["Host"], pool.url[len("http://"):])
            payload = json.loads(body)
            equal(sorted(payload), sorted(["worker_id", "vram_bytes", "uri", "model_ref", "memory_bytes", "memory_architecture",
                                           "worker_type", "capabilities", "protocol"]))
            check(isinstance(payload["vram_bytes"], int) and payload["vram_bytes"] >= model_bytes(), payload)
            equal(payload["memory_bytes"], payload["vram_bytes"])
            del payload["vram_bytes"], payload["memory_bytes"]
            equal(payload, {"worker_id": "w-9", "uri": "http://localhost:%d" % w.port, "model_ref": "shakespeare",
                            "memory_architecture": "cpu", "worker_type": "cpu", "capabilities": ["text-gen"],
                            "protocol": "sse"})
            equal(len(pool.calls), 1)


@suite.case("callback: --callback-minimal sends exactly three fields")
def callback_minimal():
    with PoolManager(200) as pool:
        with Worker("--worker-id", "w-3", "--callback-minimal", "--callback-url", pool.url + "/ready", stub=True) as w:
            w.wait_log("Pool manager notified")
            equal(pool.calls[0][3].decode(), '{"worker_id":"w-3","vram_bytes":1000,"uri":"http://localhost:%d"}' % w.port)


@suite.case("callback: --uri replaces the address")
def callback_uri():
    with PoolManager(200) as pool:
        with Worker("--uri", "http://worker-7.pool:8000", "--callback-url", pool.url, stub=True) as w:
            w.wait_log("Pool manager notified")
            equal(json.loads(pool.calls[0][3])["uri"], "http://worker-7.pool:8000")
            equal(pool.calls[0][1], "/")


@suite.case("callback: the worker is reachable and ready while the pool manager handles it")
def callback_reachable():
    with PoolManager(200, reach=True) as pool:
        with Worker("--callback-url", pool.url) as w:
            w.wait_log("Pool manager notified")
            equal(pool.reached, [[(200, "ready"), (200, "ready")]])


@suite.case("callback: comes after the model is loaded, not before")
def callback_after_load():
    with PoolManager(200) as pool:
        with Worker("--callback-url", pool.url, stub=True, ready=False, env={"STUB_LOAD_MS": 500}) as w:
            equal(w.get("/ready")[0], 503)
            equal(pool.calls, [])
            w.wait_log("Pool manager notified")
            equal(len(pool.calls), 1)


@suite.case("callback: any 2xx is a success")
def callback_2xx():
    for status in (201, 202, 204, 299):
        with PoolManager(status) as pool, Worker("--callback-url", pool.url, stub=True) as w:
            w.wait_log("Pool manager notified")
            equal(w.stop(), 0)


def check_callback_failure(args, answers, calls, text):
    with PoolManager(*answers) as pool:
        w = Worker("--callback-url", pool.url, *args, stub=True, ready=False)
        equal(w.wait(), 1)
        line = w.wait_log("Pool manager callback failed")
        equal((line["level"], line["code"]), ("error", "CALLBACK_FAILED"))
        check(text in line["message"], line)
        equal(len(pool.calls), calls)


for name, arguments, statuses, n_calls, text_part in [
        ("500", [], [500], 1, "500"), ("503 without a retry", [], [503], 1, "503"), ("404", [], [404], 1, "404"),
        ("302 is not followed", [], [302], 1, "302"), ("404 is not retried", ["--callback-retries", "3"], [404], 1, "404"),
        ("400 after a 503", ["--callback-retries", "3"], [503, 400], 2, "400"),
        ("retries are used up", ["--callback-retries", "1"], [500, 429], 2, "429")]:
    suite.case("callback: exit 1: " + name, arguments, statuses, n_calls, text_part)(check_callback_failure)


@suite.case("callback: retried after 5xx, 408 and 429 with 0.5, 1 and 2 s")
def callback_retries():
    with PoolManager(503, 408, 429, 200) as pool:
        with Worker("--callback-url", pool.url, "--callback-retries", "3", stub=True) as w:
            w.wait_log("Pool manager notified")
            times = [c[0] for c in pool.calls]
            gaps = [b - a for a, b in zip(times, times[1:])]
            for gap, want in zip(gaps, (0.5, 1, 2)):
                timely(gap, want - 0.02, want + 0.3)
            equal(len({c[3] for c in pool.calls}), 1)
            equal(w.get("/ready")[0], 200)


@suite.case("callback: refused connection: exit 1")
def callback_refused():
    w = Worker("--callback-url", "http://127.0.0.1:%d/ready" % free_port(), stub=True, ready=False)
    equal(w.wait(), 1)
    w.wait_log("Pool manager callback failed")


@suite.case("callback: refused connection is retried")
def callback_refused_retry():
    port = free_port()
    w = Worker("--callback-url", "http://127.0.0.1:%d/ready" % port, "--callback-retries", "2", stub=True)
    begin = time.monotonic()
    equal(w.get("/health")[0], 200)
    equal(w.wait(), 1)
    timely(time.monotonic() - begin, 1.2, 2.5)
    w.wait_log("Pool manager callback failed")


@suite.case("callback: an unknown host name: exit 1")
def callback_unknown_host():
    w = Worker("--callback-url", "http://no-such-host.invalid/ready", stub=True, ready=False)
    equal(w.wait(), 1)
    w.wait_log("Pool manager callback failed")


@suite.case("callback: garbage as an answer: exit 1")
def callback_garbage():
    with PoolManager(200, raw=b"garbage\r\n\r\n") as pool:
        w = Worker("--callback-url", pool.url, stub=True, ready=False)
        equal(w.wait(), 1)
        w.wait_log("Pool manager callback failed")


@suite.case("callback: jobs are served while it is under way, also a slow one")
def callback_slow():
    with PoolManager(200, delay=1) as pool:
        with Worker("--callback-url", pool.url, stub=True) as w:
            pool.wait_calls(1)
            equal(w.run()[-1].name, "end")
            check("Pool manager notified" not in w.log_messages(), "the callback was not slow")
            w.wait_log("Pool manager notified")


@suite.case("callback: its failure ends a running job with an error event")
def callback_failure_with_job():
    with PoolManager(500, delay=0.5) as pool:
        w = Worker("--callback-url", pool.url, stub=True)
        stream = w.execute(prompt="tokens=1000 delay=10", max_tokens=1000)
        events = stream.collect()
        check_order(events)
        equal(events[-1].data["code"], "CANCELLED")
        equal(w.wait(), 1)


class Background(threading.Thread):
    """A case that waits for seconds, run beside the others; join it with result()."""

    def __init__(self, function):
        super().__init__(daemon=True)
        self.function, self.problem = function, None
        self.start()

    def run(self):
        try:
            persist(self.function)
        except Exception as error:  # pylint: disable=broad-except
            self.problem = error

    def result(self):
        self.join(40)
        check(not self.is_alive(), "did not end")
        if self.problem:
            raise self.problem


def callback_timeout():
    with PoolManager(200, delay=7) as pool:
        w = Worker("--callback-url", pool.url, stub=True)
        begin = time.monotonic()
        equal(w.wait(), 1)
        timely(time.monotonic() - begin, 4.7, 6)
        w.wait_log("Pool manager callback failed")


# --- shutdown ---


def running(worker, **fields):
    return worker.start(**dict({"prompt": "tokens=2000 delay=10", "max_tokens": 2000}, **fields))


def check_idle_stop(number):
    for stub in (True, False):
        w = Worker(stub=stub)
        begin = time.monotonic()
        w.signal(number)
        equal(w.wait(), 0)
        timely(time.monotonic() - begin, 0, 0.5 * SLOW)


for number in (signal.SIGTERM, signal.SIGINT):
    suite.case("%s, idle: exit 0 at once" % number.name, number)(check_idle_stop)


def check_graceful(number):
    w = Worker(stub=True)
    stream = running(w, prompt="tokens=100 delay=10", max_tokens=100)
    w.signal(number)
    events = stream.collect()
    equal((events[-1].name, events[-1].data["stop_reason"], events[-1].data["tokens_out"]), ("end", "MAX_TOKENS", 100))
    equal(w.wait(), 0)


for number in (signal.SIGTERM, signal.SIGINT):
    suite.case("%s: the running job finishes, exit 0" % number.name, number)(check_graceful)


@suite.case("SIGTERM: the real model's job finishes")
def graceful_real():
    w = Worker()
    stream = w.start(prompt="A", max_tokens=120 if SLOW <= 1 else 30, temperature=0.0)
    begin = time.monotonic()
    w.signal(signal.SIGTERM)
    last = stream.collect()[-1]
    equal(w.wait(), 0)
    timely(last.at - begin, 0, 3.9)  # then it may be cancelled
    equal(last.name, "end")


@suite.case("SIGTERM: waiting jobs get started and error CANCELLED at once, new ones 503")
def graceful_queue():
    w = Worker(stub=True)
    first = running(w, prompt="tokens=100 delay=10", max_tokens=100)
    waiting = [w.execute(job_id=str(i)) for i in range(3)]
    for s in waiting:
        s.wait_headers()
    w.signal(signal.SIGTERM)
    for i, s in enumerate(waiting):
        events = s.collect()
        equal([e.name for e in events], ["started", "error"])
        error = events[1].data
        equal((events[0].data["job_id"], error["code"], error["retriable"]), (str(i), "CANCELLED", False))
        check("shutting down" in error["message"], error)
    check_unavailable(w, False)
    equal(first.collect()[-1].name, "end")
    equal(w.wait(), 0)


def deadline():
    w = Worker(stub=True)
    stream = running(w)
    begin = time.monotonic()
    w.signal(signal.SIGTERM)
    events = stream.collect()
    timely(events[-1].at - begin, 3.9, 4.4)
    error = events[-1].data
    equal(error["code"], "CANCELLED")
    check("shutting down" in error["message"], error)
    equal(w.wait(), 0)
    timely(time.monotonic() - begin, 3.9, 4.8)


def deadline_unread():
    w = Worker(stub=True)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", w.port))
    body = json.dumps(body_of(prompt="tokens=2000 size=60000", max_tokens=2000)).encode()
    s.sendall(b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    time.sleep(0.5)
    begin = time.monotonic()
    w.signal(signal.SIGTERM)
    equal(w.wait(), 0)
    timely(time.monotonic() - begin, 4.5, 5.4)
    w.wait_log("Shutdown error: ")
    s.close()


@suite.case("second signal: exit 1 at once")
def second_signal():
    for first, second in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGINT)):
        w = Worker(stub=True)
        stream = running(w)
        w.signal(first)
        w.wait_log("Shutting down")
        begin = time.monotonic()
        w.signal(second)
        equal(w.wait(), 1)
        stream.close()
        timely(time.monotonic() - begin, 0, 0.3 * SLOW)


@suite.case("SIGTERM while loading: exit 0 at once")
def stop_while_loading():
    w = Worker(stub=True, ready=False, env={"STUB_LOAD_MS": 20000})
    w.wait_log("Loading model...")
    time.sleep(0.1)
    begin = time.monotonic()
    w.signal(signal.SIGTERM)
    equal(w.wait(), 0)
    check("Worker ready, starting HTTP server" not in w.log_messages(), w.raw_log)
    timely(time.monotonic() - begin, 0, 0.3 * SLOW)


@suite.case("SIGTERM at any moment of a real start: exit 0")
def stop_at_any_moment():
    for delay in (0.03, 0.06, 0.1, 0.15, 0.2):
        w = Worker(ready=False)
        w.wait_log("Loading model...")
        time.sleep(delay - 0.03)
        w.signal(signal.SIGTERM)
        equal(w.wait(), 0)


@suite.case("SIGHUP and SIGPIPE do not end the worker")
def hangup():
    w = suite.stub()
    w.signal(signal.SIGHUP)
    w.signal(signal.SIGPIPE)
    time.sleep(0.1)
    equal(w.run()[-1].name, "end")


@suite.case("POST /shutdown: 202, draining, the running job finishes, exit 0")
def shutdown_route():
    w = Worker("--enable-shutdown", stub=True)
    stream = running(w, prompt="tokens=50 delay=10", max_tokens=50)
    equal(w.request("GET", "/health")[1]["connection"], "keep-alive")
    status, headers, body = w.request("POST", "/shutdown")
    equal((status, json.loads(body), headers["connection"]), (202, {"state": "draining"}, "close"))
    equal(w.request("GET", "/health")[1]["connection"], "close")  # nobody's next request meets a closed door
    equal(w.request("POST", "/shutdown")[0], 202)
    equal(w.request("POST", "/execute", body_of())[0], 503)
    equal(stream.collect()[-1].name, "end")
    equal(w.wait(), 0)


@suite.case("POST /shutdown: idle, the answer arrives before the end")
def shutdown_route_idle():
    w = Worker("--enable-shutdown", stub=True)
    equal(w.request("GET", "/shutdown")[0], 405)
    equal(w.request("POST", "/shutdown")[0], 202)
    equal(w.wait(), 0)


@suite.case("POST /shutdown while loading: exit 0")
def shutdown_route_loading():
    w = Worker("--enable-shutdown", stub=True, ready=False, env={"STUB_LOAD_MS": 20000})
    status, headers, _ = w.request("POST", "/shutdown")
    equal((status, headers["connection"]), (202, "close"))
    equal(w.wait(), 0)
    equal(w.wait_log("Stopped while loading")["reason"], "POST /shutdown")


@suite.case("stopped or failed while loading: what was answered leaves whole, but waits for no reader")
def loading_ends_with_answers():
    for fails, reads in ((False, True), (False, False), (True, True)):
        load = {"STUB_LOAD_MS": 500 * SLOW, "STUB_LOAD_FAIL": "it broke"} if fails else {"STUB_LOAD_MS": 20000}
        w = Worker("--enable-shutdown", stub=True, ready=False, env=load)
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", w.port))
            slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 8)
            time.sleep(0.2 * SLOW)  # more than the kernel takes is answered now
            if fails:
                w.wait_log("it broke")
            else:
                equal(w.request("POST", "/shutdown")[0], 202)
            slow.settimeout(LIMIT)
            answers = b"".join(iter(lambda: slow.recv(65536), b"")).split(b"HTTP/1.1 200 OK\r\n")[1:] if reads else []
            check(len(answers) > 1 or not reads, len(answers))
            for answer in answers:
                head, _, body = answer.partition(b"\r\n\r\n")
                equal(len(body), int(re.search(rb"Content-Length: (\d+)", head, re.IGNORECASE).group(1)))
            equal(w.wait(), 1 if fails else 0)


@suite.case("never exits after one job")
def stays():
    w = suite.real()
    for _ in range(5):
        equal(w.run()[-1].name, "end")
    equal(w.process.poll(), None)


# --- log and process ---


@suite.case("log: no prompt, no output, one line per job with its ids and outcome")
def log_content():
    secret, stop = "correcthorsebatterystaple", "staplerstring"
    with Worker("--log-level", "debug") as w:
        for fields in ({"prompt": secret + " ROMEO:", "max_tokens": 20, "stop": [stop]}, {"prompt": secret, "max_tokens": 0},
                       {"prompt": [secret]}, {"prompt": secret * 200}):
            status, _, _ = w.request("POST", "/execute", body_of(job_id="the-job", **fields))
            check(status in (200, 400, 422), status)
        w.request("POST", "/execute", ('{"prompt":"%s' % secret).encode(), {"Content-Type": "application/json"})
        events = w.run(job_id="second", prompt=secret, max_tokens=30, temperature=0.0)
        text = "".join(e.data["t"] for e in tokens_of(events))
    log = "\n".join(w.raw_log)
    check(secret not in log, "the prompt is in the log")
    check(text.strip()[:20] not in log, "the output is in the log")
    ends = [line for _, line in w.lines if isinstance(line, dict) and line["message"] == "Job finished"]
    equal([line["job_id"] for line in ends], ["the-job", "second"])
    equal((ends[1]["outcome"], ends[1]["tokens_out"], ends[1]["sampling"]), ("MAX_TOKENS", 30, "greedy"))
    equal(ends[1]["correlation_id"], events[0].data["correlation_id"])


DETAILS = [("x", {}, "MAX_TOKENS", "Reached max_tokens limit"),
           ("end=eos", {}, "EOS", "End of sequence token generated"),
           ("end=stop", {"stop": ["END"]}, "STOP_SEQUENCE", 'Matched stop sequence: "END"')]


@suite.case("log: every end is described")
def log_details():
    w = suite.stub()
    for i, (prompt, fields, outcome, detail) in enumerate(DETAILS):
        w.run(job_id="detail-%d" % i, prompt=prompt, **fields)
        line = w.job_line("detail-%d" % i)
        equal((line["outcome"], line["detail"]), (outcome, detail))


@suite.case("log: settings that work against each other are remarked, not refused")
def log_warnings():
    w = suite.stub()
    for job_id, fields, text in (("warn-1", {"top_k": 5, "top_p": 0.3}, "restrictive"),
                                 ("warn-2", {"min_p": 0.7, "temperature": 0.2}, "conflicting")):
        equal(w.run(job_id=job_id, **fields)[-1].name, "end")
        equal(w.job_line(job_id, text)["level"], "warn")


@suite.case("log: hostile ids are escaped and bounded")
def log_hostile():
    w = suite.stub()
    before = len(w.raw_log)
    w.run(job_id="a\nb\x1b[31m\0" + "z" * 4000)
    w.run(job_id="not hostile")
    w.job_line("not hostile")
    check(len(w.raw_log) >= before + 2, w.raw_log)
    for line in w.raw_log[before:]:
        check(len(line) < 4096 and "\x1b" not in line and isinstance(json.loads(line), dict), line[:200])


def check_log_lost(full):
    """Standard error is a pipe whose reader goes away, or stops reading until it is full."""
    port = free_port()
    reading, writing = os.pipe()
    process = subprocess.Popen([STUB, "--model", "m", "--port", str(port)], env=clean_environment(), stderr=writing)
    os.close(writing)
    try:
        check(b"CPU worker starting" in os.read(reading, 4096))
        if not full:
            os.close(reading)
        for _ in range(300):
            body = body_of(job_id="x" * 200)
            while True:
                try:
                    events = Stream(port, body).collect()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.02)
            equal(events[-1].name, "end")
        process.send_signal(signal.SIGTERM)
        equal(process.wait(10), 0)
    finally:
        process.kill()
        process.wait()
        if full:
            os.close(reading)


suite.case("log: serving goes on when its reader is gone", False)(check_log_lost)
suite.case("log: serving goes on when its pipe is full", True)(check_log_lost)


@suite.case("standard streams closed: sockets do not become standard error")
def closed_streams():
    port = free_port()
    pid = os.fork()
    if pid == 0:
        for fd in (0, 1, 2):
            os.close(fd)
        os.execve(BIN, [BIN, "--model", SHAKESPEARE, "--port", str(port)], clean_environment())
    try:
        end = time.monotonic() + 10
        while True:
            try:
                with urllib.request.urlopen("http://127.0.0.1:%d/ready" % port, timeout=5) as answer:
                    equal(answer.status, 200)
                    break
            except OSError:
                check(time.monotonic() < end, "never ready")
                time.sleep(0.02)
        for fd in (0, 1, 2):
            equal(os.readlink("/proc/%d/fd/%d" % (pid, fd)), "/dev/null")
        with urllib.request.urlopen("http://127.0.0.1:%d/health" % port, timeout=5) as answer:
            check(answer.read().startswith(b"{"), "not JSON")
    finally:
        os.kill(pid, signal.SIGTERM)
        equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)


@suite.case("one thread from the first moment: while loading, in the callback, while draining")
def one_thread():
    with PoolManager(200, delay=0.3) as pool:
        w = Worker("--callback-url", pool.url.replace("127.0.0.1", "localhost"), stub=True, ready=False,
                   env={"STUB_LOAD_MS": 300})
        stop = time.monotonic() + 0.9
        while time.monotonic() < stop:
            equal(len(w.threads()), 1)
            time.sleep(0.005)
        w.wait_log("Pool manager notified")
        stream = running(w, prompt="tokens=40 delay=10", max_tokens=40)
        w.signal(signal.SIGTERM)
        w.wait_log("Shutting down")
        for _ in range(20):
            equal(len(w.threads()), 1)
            time.sleep(0.005)
        stream.collect()
        equal(w.wait(), 0)


slow = {}
for name, function in (("callback: an answer that does not come within 5 s: exit 1", callback_timeout),
                       ("SIGTERM: a job that does not end is cancelled after 4 s, exit before 5 s", deadline),
                       ("SIGTERM: a client that does not read cannot keep the worker beyond 5 s", deadline_unread)):
    suite.case(name, name)(lambda key: slow[key].result())
    slow[name] = function

if __name__ == "__main__":
    slow = {key: Background(function) for key, function in slow.items()}
    sys.exit(suite.run())
