#!/usr/bin/env python3
"""Requests that must be refused, over the wire: contract 5.2, 5.3, 7 and 8. test_request.c has the finer grid."""
# Runs beside others: nothing here measures time.
import json
import re
import sys

from harness import (JSON, SHAKESPEARE, Stream, Suite, Worker, body_of, check, equal, raw_exchange, run_program)

suite = Suite()


def entry(field, constraint, message, value=None):
    e = {"field": field, "constraint": constraint, "message": message}
    if value is not None:
        e["value"] = value
    return e


def count_tokens(text):
    status, out, err = run_program("tokenize", "--model", SHAKESPEARE, data=text.encode())
    check(status == 0, err)
    return len(json.loads(out))


RANGE2 = "range(0.0..=2.0)"
RANGE1 = "range(0.0..=1.0)"
ROWS = [
    ("1 empty job_id", {"job_id": ""}, [entry("job_id", "non_empty", "job_id must not be empty", "")]),
    ("2 empty prompt", {"prompt": ""}, [entry("prompt", "length(1..=32768)", "prompt must not be empty")]),
    ("3 prompt of 32769 characters", {"prompt": "é" * 32769},
     [entry("prompt", "length(1..=32768)", "prompt must be at most 32768 characters (got 32769)")]),
    ("4 max_tokens 0", {"max_tokens": 0}, [entry("max_tokens", "range(1..=2048)", "max_tokens must be at least 1", "0")]),
    ("5 max_tokens 2049", {"max_tokens": 2049},
     [entry("max_tokens", "range(1..=2048)", "max_tokens must be at most 2048 (got 2049)", "2049")]),
    ("6 temperature -0.5", {"temperature": -0.5},
     [entry("temperature", RANGE2, "temperature must be at least 0.0 (got -0.5)", "-0.5")]),
    ("7 temperature 2.1", {"temperature": 2.1},
     [entry("temperature", RANGE2, "temperature must be at most 2.0 (got 2.1)", "2.1")]),
    ("7 temperature 3.0 is printed 3", {"temperature": 3.0},
     [entry("temperature", RANGE2, "temperature must be at most 2.0 (got 3)", "3")]),
    ("7 temperature 1e39 is printed inf", {"temperature": 1e39},
     [entry("temperature", RANGE2, "temperature must be at most 2.0 (got inf)", "inf")]),
    ("8 top_p -0.1", {"top_p": -0.1}, [entry("top_p", RANGE1, "top_p must be at least 0.0 (got -0.1)", "-0.1")]),
    ("8 top_p 1.1", {"top_p": 1.1}, [entry("top_p", RANGE1, "top_p must be at most 1.0 (got 1.1)", "1.1")]),
    ("9 repetition_penalty -1", {"repetition_penalty": -1},
     [entry("repetition_penalty", RANGE2, "repetition_penalty must be at least 0.0 (got -1)", "-1")]),
    ("9 repetition_penalty 2.5", {"repetition_penalty": 2.5},
     [entry("repetition_penalty", RANGE2, "repetition_penalty must be at most 2.0 (got 2.5)", "2.5")]),
    ("10 five stops", {"stop": ["a", "b", "c", "d", "e"]},
     [entry("stop", "max_count(4)", "stop must have at most 4 sequences (got 5)", "5")]),
    ("11 empty stops", {"stop": ["", "b", ""]},
     [entry("stop", "non_empty", "stop sequence 0 must not be empty"),
      entry("stop", "non_empty", "stop sequence 2 must not be empty")]),
    ("12 stop of 101 characters", {"stop": ["b", "é" * 101]},
     [entry("stop", "max_length(100)", "stop sequence 1 must be at most 100 characters (got 101)")]),
    ("13 min_p -0.1", {"min_p": -0.1}, [entry("min_p", RANGE1, "min_p must be at least 0.0 (got -0.1)", "-0.1")]),
    ("13 min_p 1.1", {"min_p": 1.1}, [entry("min_p", RANGE1, "min_p must be at most 1.0 (got 1.1)", "1.1")]),
    ("example: four at once", {"job_id": "", "prompt": "", "max_tokens": 0, "temperature": 3.0},
     [entry("job_id", "non_empty", "job_id must not be empty", ""),
      entry("prompt", "length(1..=32768)", "prompt must not be empty"),
      entry("max_tokens", "range(1..=2048)", "max_tokens must be at least 1", "0"),
      entry("temperature", RANGE2, "temperature must be at most 2.0 (got 3)", "3")]),
]


def check_list(fields, entries):
    status, headers, body = suite.real().request("POST", "/execute", body_of(**fields))
    equal(status, 400)
    equal(headers["content-type"], "application/json")
    # Byte for byte: the order of keys and entries is part of the contract.
    equal(body.decode(), json.dumps({"errors": entries}, separators=(",", ":")))


for name, fields, entries in ROWS:
    suite.case("400 row " + name, fields, entries)(check_list)


@suite.case("400 context: entry with the numbers, in its place among the others")
def context_entry():
    prompt = "the cat " * 400
    n = count_tokens(prompt)
    check(n > 256, "the prompt is too short for this test")
    check_list({"prompt": prompt, "job_id": "", "max_tokens": 0},
               [entry("job_id", "non_empty", "job_id must not be empty", ""),
                entry("prompt", "context(1..=256)", "prompt must be at most 256 tokens (got %d)" % n),
                entry("max_tokens", "range(1..=2048)", "max_tokens must be at least 1", "0")])


@suite.case("400 context: --max-context is the limit when it is smaller")
def max_context_entry():
    prompt = "one two three four five six seven eight nine ten"
    n = count_tokens(prompt)
    with Worker("--max-context", "5") as w:
        status, _, body = w.request("POST", "/execute", body_of(prompt=prompt))
        equal(status, 400)
        equal(json.loads(body), {"errors": [entry("prompt", "context(1..=5)",
                                                  "prompt must be at most 5 tokens (got %d)" % n)]})
        equal(w.get("/health")[1]["context_length"], 5)


ACCEPTED = [
    ("temperature 0 and 2", [{"temperature": 0}, {"temperature": 2.0}]),
    ("top_p 0 and 1", [{"top_p": 0.0}, {"top_p": 1}]),
    ("top_k 0 and 4294967295", [{"top_k": 0}, {"top_k": 4294967295}]),
    ("repetition_penalty 0 and 2", [{"repetition_penalty": 0.0}, {"repetition_penalty": 2}]),
    ("min_p 0 and 1", [{"min_p": 0.0}, {"min_p": 1.0}]),
    ("four stops of 100 characters", [{"stop": ["é" * 100] * 4}, {"stop": []}]),
    ("max_tokens 1 and 2048", [{"max_tokens": 1}, {"max_tokens": 2048, "prompt": "x"}]),
    ("seeds 0, 2^63 and 2^64-1", [{"seed": 0}, {"seed": 2**63}, {"seed": 2**64 - 1}]),
    ("seed null", [{"seed": None}]),
    ("NUL in a prompt", [{"prompt": "a\0b"}]),
    ("unknown fields", [{"unknown": {"x": [1, None, 99999999999999999999]}}]),
    ("a job_id of other scripts", [{"job_id": "задача/任務"}]),
]


def check_accepted(bodies):
    for fields in bodies:
        events = suite.real().run(**dict({"max_tokens": 1}, **fields))
        equal(events[0].name, "started")
        equal(events[-1].name, "end")


for name, bodies in ACCEPTED:
    suite.case("accepts " + name, bodies)(check_accepted)

FIELD_TYPES = {"job_id": 1, "prompt": 1, "max_tokens": "1", "temperature": "1", "seed": "1", "top_p": "1", "top_k": "1",
               "repetition_penalty": "1", "stop": "x", "min_p": "1"}
REFUSED_422 = [("wrong type: " + f, {f: v}, [f]) for f, v in FIELD_TYPES.items()]
REFUSED_422 += [("null: " + f, {f: None}, [f]) for f in FIELD_TYPES if f != "seed"]
REFUSED_422 += [("negative " + f, {f: -1}, [f]) for f in ("max_tokens", "top_k", "seed")]
REFUSED_422 += [("fractional " + f, {f: 1.5}, [f]) for f in ("max_tokens", "top_k", "seed")]
REFUSED_422 += [("1.0 for " + f, {f: 1.0}, [f]) for f in ("max_tokens", "top_k", "seed")]
REFUSED_422 += [("out of range: " + f, {f: 2**32}, [f]) for f in ("max_tokens", "top_k")]
REFUSED_422 += [("beyond 64 bits: " + f, {f: 2**64}, [f]) for f in ("max_tokens", "top_k", "seed")]
REFUSED_422 += [("stop with a number", {"stop": ["a", 1]}, ["stop[1]"])]
REFUSED_422 += [("all fields wrong", FIELD_TYPES, list(FIELD_TYPES))]


def check_422(fields, named):
    status, headers, body = suite.real().request("POST", "/execute", body_of(**fields))
    equal(status, 422)
    equal(headers["content-type"], "application/json")
    answer = json.loads(body)
    equal(list(answer), ["code", "message", "retriable"])
    equal((answer["code"], answer["retriable"]), ("INVALID_REQUEST", False))
    check(answer["message"].startswith("Invalid request: "), answer)
    found = re.findall(r"([a-z_]+(?:\[\d+\])?): ", answer["message"][len("Invalid request: "):])
    equal(found, named)


for name, fields, named in REFUSED_422:
    suite.case("422 " + name, fields, named)(check_422)


def check_missing(field):
    body = body_of()
    del body[field]
    status, _, answer = suite.real().request("POST", "/execute", body)
    equal(status, 422)
    equal(json.loads(answer)["message"].startswith("Invalid request: %s: missing" % field), True)


for field in ("job_id", "prompt", "max_tokens"):
    suite.case("422 missing " + field, field)(check_missing)


def check_status(path, body, headers, status):
    got, answer_headers, answer = suite.real().request("POST", path, body, headers)
    equal(got, status)
    if status >= 400:
        equal(answer_headers["content-type"], "application/json")
        equal(json.loads(answer)["code"], "INVALID_REQUEST")


GOOD = json.dumps(body_of(max_tokens=1)).encode()
for name, body in [("an array", b"[]"), ("a string", b'"x"'), ("a number", b"1"), ("null", b"null")]:
    suite.case("422 top level is " + name, "/execute", body, JSON, 422)(check_status)
for name, body in [("an empty body", b""), ("text", b"hello"), ("a cut object", GOOD[:-1]), ("1e400", b'{"temperature":1e400}'),
                   ("bytes behind the object", GOOD + b"x"), ("a duplicate key", b'{"job_id":"a","job_id":"b"}'),
                   ("NaN", b'{"temperature":NaN}'), ("invalid UTF-8", b'{"prompt":"\xff"}'), ("depth 33", b"[" * 33 + b"]" * 33)]:
    suite.case("400 not JSON: " + name, "/execute", body, JSON, 400)(check_status)
    suite.case("400 not JSON for /cancel: " + name, "/cancel", body, JSON, 400)(check_status)
for name, headers, status in [
        ("no Content-Type", {}, 415), ("text/plain", {"Content-Type": "text/plain"}, 415),
        ("application/jsonx", {"Content-Type": "application/jsonx"}, 415),
        ("a form", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ("Content-Encoding gzip", dict(JSON, **{"Content-Encoding": "gzip"}), 415),
        ("Content-Encoding identity", dict(JSON, **{"Content-Encoding": "identity"}), 415),
        ("with charset", {"Content-Type": "application/json; charset=utf-8"}, 200),
        ("in capitals", {"content-type": "Application/JSON"}, 200)]:
    suite.case("%d Content-Type: %s" % (status, name), "/execute", GOOD, headers, status)(check_status)


@suite.case("413 by Content-Length, before the body is sent")
def too_large():
    answer = raw_exchange(suite.real().port, b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                                             b"Content-Length: 2097153\r\n\r\n")
    check(answer.startswith(b"HTTP/1.1 413 "), answer[:200])
    equal(json.loads(answer.split(b"\r\n\r\n")[1])["code"], "INVALID_REQUEST")


@suite.case("413 of a chunked body, once it is too long")
def too_large_chunked():
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    answer = raw_exchange(suite.real().port, b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                                             b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 33)
    check(answer.startswith(b"HTTP/1.1 413 "), answer[:200])


@suite.case("a body of exactly 2 MiB is accepted")
def largest_body():
    body = GOOD + b" " * (2 * 1024 * 1024 - len(GOOD))
    events = Stream(suite.real().port, body).collect()
    equal(events[-1].name, "end")


LARGE = b"Content-Length: 2097153\r\n"
ORDER = [
    ("404 before 415", b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: 0\r\n\r\n", 404),
    ("404 before 413", b"POST /nothing HTTP/1.1\r\nHost: x\r\n" + LARGE + b"\r\n", 404),
    ("405 before 415", b"PUT /execute HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: 0\r\n\r\n", 405),
    ("405 before 413", b"PUT /execute HTTP/1.1\r\nHost: x\r\n" + LARGE + b"\r\n", 405),
    ("415 before 413", b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\n" + LARGE + b"\r\n", 415),
    ("415 before 400", b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: 1\r\n\r\nx", 415),
    ("400 before 422", b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n"
                       b'{"job_id":1}x', 400),
]


def check_first_status(request, status):
    answer = raw_exchange(suite.real().port, request.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n"))
    equal(answer[:12], b"HTTP/1.1 %d" % status)


for name, request, status in ORDER:
    suite.case("order of checks: " + name, request, status)(check_first_status)


@suite.case("order of checks: 422 before the list")
def types_before_list():
    check_422({"job_id": "", "max_tokens": "0"}, ["max_tokens"])


@suite.case("order of checks: the list before 503")
def list_before_full_queue():
    with Worker("--queue", "0", stub=True) as w:
        running = w.start(prompt="tokens=1000 delay=10", max_tokens=1000)
        equal(w.request("POST", "/execute", body_of(job_id=""))[0], 400)
        equal(w.request("POST", "/execute", body_of())[0], 503)
        running.close()


CANCELS = [("empty job_id", {"job_id": ""}, 400), ("missing job_id", {}, 422), ("job_id a number", {"job_id": 1}, 422),
           ("job_id null", {"job_id": None}, 422), ("unknown fields ignored", {"job_id": "x", "y": 1}, 202)]


def check_cancel(body, status):
    got, _, answer = suite.real().request("POST", "/cancel", body)
    equal(got, status)
    if status == 400:
        equal(json.loads(answer), {"errors": [entry("job_id", "non_empty", "job_id must not be empty", "")]})


for name, body, status in CANCELS:
    suite.case("/cancel: %s: %d" % (name, status), body, status)(check_cancel)

sys.exit(suite.run())
