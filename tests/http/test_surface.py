#!/usr/bin/env python3
"""Routes, methods, probes, headers: contract 5, 5.1, 8."""
# Runs beside others: nothing here measures time.
import http.client
import json
import sys
import time

from harness import SHAKESPEARE, UUID4, Suite, Worker, body_of, check, check_unavailable, equal, raw_exchange, timely, within

suite = Suite()


def check_error(method, path, status, allow=None):
    got, headers, body = suite.real().request(method, path)
    equal(got, status)
    equal(headers.get("allow"), allow)
    answer = json.loads(body)
    equal(list(answer), ["code", "message", "retriable"])
    equal((answer["code"], answer["retriable"]), ("INVALID_REQUEST", False))
    check(answer["message"].startswith("Invalid request: "), answer)


@suite.case("505 is the request's fault and not to be tried again")
def version():
    answer = raw_exchange(suite.real().port, b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n")
    check(answer.startswith(b"HTTP/1.1 505 "), answer)
    body = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    equal((body["code"], body["retriable"]), ("INVALID_REQUEST", False))


for path in ("/nothing", "/health/", "/Health", "/execute/x", "/shutdown", "/metrics/", "/%68ealth"):
    suite.case("404 " + path, "POST", path, 404)(check_error)
for path in ("/", "/health", "/live", "/ready", "/metrics"):
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        suite.case("405 %s %s" % (method, path), method, path, 405, "GET, HEAD")(check_error)
for path in ("/execute", "/cancel"):
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH"):
        suite.case("405 %s %s" % (method, path), method, path, 405, "POST")(check_error)


@suite.case("404: the path in the message is escaped and short")
def hostile_path():
    status, _, body = suite.real().request("GET", "/" + "a" * 5000)
    equal(status, 404)
    check(len(json.loads(body)["message"]) < 300, body)


@suite.case("a query is ignored")
def query():
    equal(suite.real().request("GET", "/health?x=1")[0], 200)


def check_head(path):
    connection = http.client.HTTPConnection("127.0.0.1", suite.real().port, timeout=10)
    connection.request("HEAD", path)
    response = connection.getresponse()
    equal(response.status, 200)
    check(int(response.getheader("Content-Length")) > 0, "no length")
    equal(response.read(), b"")
    connection.request("GET", path)  # on the same connection: nothing was left over
    equal(connection.getresponse().status, 200)
    connection.close()


for path in ("/", "/health", "/live", "/ready", "/metrics"):
    suite.case("HEAD %s: headers of GET, no body" % path, path)(check_head)


@suite.case("HEAD /execute is 405 without a body")
def head_execute():
    answer = raw_exchange(suite.real().port, b"HEAD /execute HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    check(answer.startswith(b"HTTP/1.1 405 ") and answer.endswith(b"\r\n\r\n"), answer)


HEALTH = {"status": "healthy", "vram_bytes": 0, "vram_bytes_used": 0, "model_loaded": True, "resident": True,
          "memory_type": "cpu", "memory_architecture": "cpu", "worker_type": "cpu", "capabilities": ["text-gen"],
          "protocol": "sse", "model": "shakespeare", "quant_kind": "F16", "weights_hash": "531a1742d2f483aa",
          "tokenizer_kind": "hf-json", "vocab_size": 1024, "context_length": 256, "worker_id": "llorch-cpud-0", "state": "ready"}


def check_health_field(field):
    status, health = suite.real().get("/health")
    equal(status, 200)
    equal(health[field], HEALTH[field])


for field in HEALTH:
    suite.case("/health: %s is %s" % (field, json.dumps(HEALTH[field])), field)(check_health_field)


@suite.case("/health: memory_bytes is at least the weights")
def health_memory():
    within(suite.real().get("/health")[1]["memory_bytes"], 4 * 1024 * 1024, 200 * 1024 * 1024)


@suite.case("/health: uptime_seconds counts")
def health_uptime():
    with Worker(stub=True) as w:
        first = w.get("/health")[1]["uptime_seconds"]
        check(isinstance(first, int) and first <= 1, first)
        time.sleep(1.1)
        timely(w.get("/health")[1]["uptime_seconds"], first + 1, first + 2)


@suite.case("/health: port is the real one")
def health_port():
    equal(suite.real().get("/health")[1]["port"], suite.real().port)


@suite.case("/health: busy while a job runs, ready after it")
def health_busy():
    w = suite.stub()
    stream = w.start(prompt="tokens=100 delay=10", max_tokens=100)
    equal(w.get("/health")[1]["state"], "busy")
    equal(w.get("/ready"), (200, {"state": "busy"}))
    stream.close()
    w.wait_state("ready")


@suite.case("/health: how many jobs run and wait, and how fast")
def health_load():
    names = ("jobs_running", "jobs_waiting", "queue_limit", "tokens_per_sec")
    with Worker("--queue", "3", stub=True) as w:
        def load():
            health = w.get("/health")[1]
            return [health[name] for name in names]

        equal(load(), [0, 0, 3, None])
        one = w.start(prompt="tokens=1", max_tokens=1)
        one.collect()
        equal(load(), [0, 0, 3, None])  # one token has no speed
        first = w.start(prompt="tokens=500 delay=10", max_tokens=500)
        second = w.execute(prompt="tokens=1 prompt=300", max_tokens=1)
        second.wait_headers()
        first.next_named("token")
        first.next_named("token")
        *jobs, speed = load()
        equal(jobs, [1, 1, 3])
        within(speed, 0.1, 100)  # at least 10 ms a token
        first.close()
        second.next_named("started")
        before = load()  # the job that runs has no speed yet, the last one's stays
        equal(before[:3], [1, 0, 3])
        within(before[3], 0.1, 100)
        second.collect()
        w.wait_state("ready")
        equal(load(), [0, 0, 3, before[3]])


@suite.case("/health: draining while the last job ends")
def health_draining():
    w = Worker(stub=True)
    stream = w.start(prompt="tokens=50 delay=10", max_tokens=50)
    w.signal(15)
    w.wait_log("Shutting down")
    equal(w.get("/health")[0], 200)
    equal(w.get("/health")[1]["state"], "draining")
    equal(w.get("/ready"), (503, {"state": "draining"}))
    equal(w.get("/live")[0], 200)
    equal(stream.collect()[-1].name, "end")
    equal(w.wait(), 0)


@suite.case("/health, /ready, /live, /execute while the model loads")
def starting():
    w = Worker(stub=True, ready=False, env={"STUB_LOAD_MS": 1500})
    status, health = w.get("/health")
    equal((status, health["status"], health["state"], health["model_loaded"]), (200, "healthy", "starting", False))
    equal((health["context_length"], health["model"]), (None, "shakespeare"))
    seen = []
    for _ in range(5):
        status, ready = w.get("/ready")
        equal((status, ready["state"]), (503, "starting"))
        seen.append(ready["progress"])
        time.sleep(0.1)
    check(seen == sorted(seen) and 0 <= seen[0] < seen[-1] < 1, seen)
    equal(w.get("/live")[0], 200)
    check_unavailable(w, True)
    w.wait_log("Worker ready, starting HTTP server")
    equal(w.get("/ready"), (200, {"state": "ready"}))
    equal(w.stop(), 0)


VALID_IDS = ["a", "A-b_c.9", "x" * 128]
INVALID_IDS = ["", "x" * 129, "a b", "a/b", "é", "a\"b"]


def check_id(value, kept):
    headers = {"X-Correlation-ID": value.encode()}
    _, answer, _ = suite.real().request("GET", "/health", headers=headers)
    if kept:
        equal(answer["x-correlation-id"], value)
    else:
        check(UUID4.match(answer["x-correlation-id"]), answer)


for value in VALID_IDS:
    suite.case("correlation id %.12s of %d is taken" % (value, len(value)), value, True)(check_id)
for value in INVALID_IDS:
    suite.case("correlation id %.12s of %d is replaced" % (json.dumps(value), len(value)), value, False)(check_id)


@suite.case("correlation id: the header's name in any case")
def id_case():
    equal(suite.real().request("GET", "/live", headers={"x-cOrrelation-id": "abc"})[1]["x-correlation-id"], "abc")


def check_id_everywhere(method, path, body, status):
    got, headers, _ = suite.real().request(method, path, body, {"X-Correlation-ID": "my-id", "Content-Type": "application/json"})
    equal(got, status)
    equal(headers["x-correlation-id"], "my-id")


for method, path, body, status in [
        ("GET", "/health", None, 200), ("GET", "/ready", None, 200), ("GET", "/nothing", None, 404),
        ("PUT", "/execute", None, 405), ("POST", "/cancel", b'{"job_id":"x"}', 202), ("POST", "/execute", b"x", 400),
        ("POST", "/execute", b"{}", 422), ("POST", "/execute", json.dumps(body_of(job_id="")).encode(), 400)]:
    suite.case("correlation id on %d of %s" % (status, path), method, path, body, status)(check_id_everywhere)


@suite.case("correlation id on a refused head")
def id_on_bad_request():
    answer = raw_exchange(suite.real().port, b"GET /health HTTP/1.1\r\nHost: x\r\nX-Correlation-ID: abc\r\nBad Header\r\n\r\n")
    check(answer.startswith(b"HTTP/1.1 400 ") and b"X-Correlation-ID: " in answer, answer)


@suite.case("correlation id in the stream's header, in started and in the log")
def id_of_job():
    w = suite.stub()
    stream = w.execute(headers={"X-Correlation-ID": "trace-77"}, job_id="with-id")
    events = stream.collect()
    equal(stream.headers["x-correlation-id"], "trace-77")
    equal(events[0].data["correlation_id"], "trace-77")
    equal(w.job_line("with-id")["correlation_id"], "trace-77")


@suite.case("correlation id generated for a job is a UUID and differs")
def id_generated():
    streams = [suite.stub().execute() for _ in range(2)]
    started = [s.collect()[0].data["correlation_id"] for s in streams]
    check(all(UUID4.match(i) for i in started) and started[0] != started[1], started)
    equal([s.headers["x-correlation-id"] for s in streams], started)


@suite.case("stream headers: event-stream, no-cache")
def stream_headers():
    stream = suite.stub().execute()
    stream.collect()
    equal((stream.status, stream.headers["content-type"], stream.headers["cache-control"]),
          (200, "text/event-stream", "no-cache"))


@suite.case("--model-name names the model everywhere")
def model_name():
    with Worker("--model-name", "other", stub=True) as w:
        equal(w.get("/health")[1]["model"], "other")
        equal(w.run()[0].data["model"], "other")


@suite.case("a .safetensors path is named for its stem")
def model_stem():
    with Worker(model=SHAKESPEARE + "/model.safetensors") as w:
        equal(w.get("/health")[1]["model"], "model")


@suite.case("GET /health answers on HTTP/1.0")
def http_10():
    answer = raw_exchange(suite.real().port, b"GET /health HTTP/1.0\r\n\r\n")
    check(answer.startswith(b"HTTP/1.") and b" 200 " in answer.split(b"\r\n")[0], answer)


sys.exit(suite.run())
