#!/usr/bin/env python3
"""Texts that are JSON and texts that are none, as request bodies: tests/data/json_cases.txt says which is which."""
# Runs beside others: nothing here measures time.
import http.client
import json
import os
import re
import sys

from harness import JSON, ROOT, Suite, Worker, body_of, check, equal, text_of

suite = Suite()
LIMIT = 2 * 1024 * 1024  # bytes of a body


def unescaped(text):
    return re.sub(rb"%([0-9a-f]{2})", lambda m: bytes([int(m.group(1), 16)]), text)


def cases():
    """(line, verdict, bytes) of each case."""
    with open(os.path.join(ROOT, "tests", "data", "json_cases.txt"), "rb") as f:
        for number, line in enumerate(f.read().split(b"\n"), 1):
            if line and not line.startswith(b"#"):
                yield number, chr(line[0]), unescaped(line[2:])


CASES = list(cases())


class Client:
    """Many bodies over one connection, which every refusal must leave open."""

    def __init__(self, path):
        self.path = path
        self.connection = http.client.HTTPConnection("127.0.0.1", suite.real().port, timeout=20)

    def post(self, body):
        self.connection.request("POST", self.path, body=body, headers=JSON)
        response = self.connection.getresponse()
        return response.status, response.getheader("content-type"), response.read()

    def __enter__(self):
        self.connection.connect()
        self.connection.auto_open = 0
        return self

    def __exit__(self, *_):
        self.connection.close()


def check_answer(what, got, status):
    """An error of the contract's form, in one line."""
    equal(got[:2], (status, "application/json"), what)
    answer = json.loads(got[2])
    equal(list(answer), ["code", "message", "retriable"], what)
    equal((answer["code"], answer["retriable"]), ("INVALID_REQUEST", False), what)
    check(all(ord(c) >= 32 for c in answer["message"]) and len(answer["message"].encode()) < 600, (what, answer))


def has_long_number(text):
    """A request may not write a number in more than 128 characters (docs/contract.md); files may."""
    return re.search(rb"[0-9.eE+-]{129}", text) is not None


def check_refused(path, verdict, status):
    """No case is a whole request, so what is JSON is refused for its fields, with 422."""
    with Client(path) as client:
        for line, _, body in [c for c in CASES if c[1] == verdict]:
            if b"\\uffff" in body and verdict == "r":
                continue  # two keys that are one to a file, and both unknown to a request
            check_answer("json_cases.txt:%d" % line, client.post(body), 400 if has_long_number(body) else status)


for path in ("/execute", "/cancel"):
    suite.case(path + ": 400 for what is no JSON", path, "n", 400)(check_refused)
    suite.case(path + ": 400 for JSON beyond the limits", path, "r", 400)(check_refused)
    suite.case(path + ": 422 for JSON that is no request", path, "y", 422)(check_refused)
    suite.case(path + ": integers of any size are JSON", path, "i", 422)(check_refused)


def in_a_field(text):
    return json.dumps(body_of(max_tokens=1, job_id="")).encode()[:-1] + b',"more":' + text + b"}"


@suite.case("what is JSON is so in an unknown field too, and what is none is none")
def unknown_field():
    with Client("/execute") as client:
        for line, verdict, text in CASES:
            # Inside the request one level less is left; a cut-off string may find its end behind itself.
            if has_long_number(text):
                check_answer("json_cases.txt:%d" % line, client.post(in_a_field(text)), 400)
            elif verdict in "yi" and text.count(b"[") + text.count(b"{") < 31:
                status, _, answer = client.post(in_a_field(text))
                equal(status, 400, "json_cases.txt:%d" % line)
                equal([e["field"] for e in json.loads(answer)["errors"]], ["job_id"], "json_cases.txt:%d" % line)
            elif verdict == "n" and b'"' not in text and b"," not in text:
                check_answer("json_cases.txt:%d" % line, client.post(in_a_field(text)), 400)


DEEP_AND_LONG = [
    ("100,000 brackets", b"[" * 100000),
    ("100,000 brackets and as many to close them", b"[" * 100000 + b"]" * 100000),
    ("2 MiB of brackets", b"[" * LIMIT),
    ("2 MiB of objects in objects", b'{"":' * (LIMIT // 4)),
    ("50,000 arrays in objects", b'[{"":' * 50000),
    ("2 MiB of closing brackets", b"]" * LIMIT),
    ("2 MiB of commas", b"," * LIMIT),
    ("2 MiB of NUL", b"\0" * LIMIT),
    ("2 MiB of backslashes in a string", b'"' + b"\\" * (LIMIT - 1)),
    ("2 MiB of quotes", b'"' * LIMIT),
    ("a million empty arrays", b"[" + b"[]," * 600000 + b"[]]"),
    ("100,000 keys that are all the same", b'{"a":1' + b',"a":1' * 100000 + b"}"),
    ("an exponent of 2 million digits", b'{"a":1e' + b"9" * (LIMIT - 8) + b"}"),
    ("2 MiB that are one word too long", b"true" * (LIMIT // 4)),
    ("a cut string of 2 MiB", b'{"prompt":"' + b"x" * (LIMIT - 11)),
]


def check_long(body):
    with Client("/execute") as client:
        check_answer("long", client.post(body), 400)


for name, body in DEEP_AND_LONG:
    suite.case("400 for " + name, body)(check_long)

LONG_BUT_JSON = [
    ("an integer of 2 million digits is out of every range", b'{"job_id":"","seed":' + b"9" * (LIMIT - 30) + b"}", 400),
    ("a fraction of 2 million digits is too long", b'{"job_id":1,"more":0.' + b"3" * (LIMIT - 30) + b"}", 400),
    ("a key of 2 MiB is ignored", b'{"' + b"k" * (LIMIT - 30) + b'":1}', 422),
    ("2 MiB of white space", b"[" + b" " * (LIMIT - 2) + b"]", 422),
    ("a string of a million escapes", b'"' + b"\\n" * (LIMIT // 2 - 1) + b'"', 422),
]


def check_long_json(body, status):
    with Client("/execute") as client:
        check_answer("long", client.post(body), status)


for name, body, status in LONG_BUT_JSON:
    suite.case(name, body, status)(check_long_json)


@suite.case("a job after all of this gives what a new worker gives")
def next_job():
    after = suite.real().run(prompt="ROMEO:", max_tokens=16, temperature=0.8, seed=7)
    with Worker() as fresh:
        equal(text_of(after), text_of(fresh.run(prompt="ROMEO:", max_tokens=16, temperature=0.8, seed=7)))


sys.exit(suite.run())
