#!/usr/bin/env python3
"""What a hostile client sends to the running worker: smuggled requests, other protocols, pipelines, half requests.

What the connection layer accepts is in tests/test_http_requests.c byte for byte; here it is seen from outside, with the
real routes behind it."""
# Runs beside others: nothing here measures time.
import json
import random
import socket
import struct
import sys
import time

from harness import LIMIT, Suite, body_of, check, descriptors, equal, raw_exchange

suite = Suite()
MIB2 = 2 * 1024 * 1024
HOST = b"Host: x\r\n"
JSON = b"Content-Type: application/json\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def answers(data, methods=()):
    """[(status, headers, body)] of everything that a worker sent; fails on anything that is not whole answers."""
    found = []
    while data:
        head, data = data.split(b"\r\n\r\n", 1)
        lines = head.decode("ascii").split("\r\n")
        check(lines[0].startswith("HTTP/1.1 "), lines)
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
        n = 0 if methods[len(found):len(found) + 1] == ["HEAD"] else int(headers["content-length"])
        check(len(data) >= n, "an answer was cut short: %r" % head)
        found.append((int(lines[0].split()[1]), headers, data[:n]))
        data = data[n:]
    return found


def post(path, *lines, body=b""):
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + JSON + b"".join(lines) + b"\r\n" + body


def length(n):
    return b"Content-Length: %d\r\n" % n


def check_one_answer(data, status):
    """This, and nothing of what stands behind it, is answered; then the connection ends."""
    got = answers(raw_exchange(suite.real().port, data + SMUGGLED))
    equal([a[0] for a in got], [status])
    equal(got[0][1]["connection"], "close")
    answer = json.loads(got[0][2])
    equal(answer["code"], "INVALID_REQUEST")
    check(answer["message"].startswith("Invalid request: "), answer)


BODY = b'{"job_id":"x"}'
WHOLE = b"e\r\n" + BODY + b"\r\n0\r\n\r\n"
for name, data, status in [
        ("Content-Length, then Transfer-Encoding", post(b"/cancel", length(14), CHUNKED, body=WHOLE), 400),
        ("Transfer-Encoding, then Content-Length", post(b"/cancel", CHUNKED, length(4), body=WHOLE), 400),
        ("two equal Content-Lengths", post(b"/cancel", length(14), length(14), body=BODY), 400),
        ("two different Content-Lengths", post(b"/cancel", length(14), length(0), body=BODY), 400),
        ("a list of lengths", post(b"/cancel", b"Content-Length: 14, 14\r\n", body=BODY), 400),
        ("a length with a sign", post(b"/cancel", b"Content-Length: +14\r\n", body=BODY), 400),
        ("a blank before the colon", post(b"/cancel", b"Content-Length : 14\r\n", body=BODY), 400),
        ("a folded length", post(b"/cancel", b"Content-Length:\r\n 14\r\n", body=BODY), 400),
        ("a length behind a bare LF", post(b"/cancel", b"A: b\nContent-Length: 14\r\n", body=BODY), 400),
        ("a coding behind a bare CR", post(b"/cancel", b"A: b\rTransfer-Encoding: chunked\r\n", body=WHOLE), 400),
        ("two codings", post(b"/cancel", b"Transfer-Encoding: gzip, chunked\r\n", body=WHOLE), 400),
        ("a coding in quotes", post(b"/cancel", b'Transfer-Encoding: "chunked"\r\n', body=WHOLE), 400),
        ("a coding after a vertical tab", post(b"/cancel", b"Transfer-Encoding: \x0bchunked\r\n", body=WHOLE), 400),
        ("a coding twice", post(b"/cancel", CHUNKED, CHUNKED, body=WHOLE), 400),
        ("chunks in HTTP/1.0, kept alive", b"POST /cancel HTTP/1.0\r\nConnection: keep-alive\r\n" + JSON + CHUNKED + b"\r\n" + WHOLE, 400),
        ("a chunk of 2^64 + 14 bytes", post(b"/cancel", CHUNKED, body=b"1000000000000000e\r\n" + BODY + b"\r\n0\r\n\r\n"), 400),
        ("a chunk of -1 bytes", post(b"/cancel", CHUNKED, body=b"-1\r\n" + WHOLE), 400),
        ("a chunk of 0xe bytes", post(b"/cancel", CHUNKED, body=b"0x" + WHOLE), 400),
        ("no line break behind a chunk", post(b"/cancel", CHUNKED, body=b"e\r\n" + BODY + b"0\r\n\r\n"), 400),
        ("a line break in a chunk extension", post(b"/cancel", CHUNKED, body=b"e;a=\nb\r\n" + BODY + b"\r\n0\r\n\r\n"), 400),
        ("a trailer without end", post(b"/cancel", CHUNKED, body=WHOLE[:-2] + b"A: b\r\n" * 200), 431),
        ("no Host", b"GET /health HTTP/1.1\r\n\r\n", 400),
        ("two Hosts", b"GET /health HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
        ("a Host that is none", b"GET /health HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("HTTP/0.9", b"GET /health\r\n", 400),
        ("HTTP/1.2", b"GET /health HTTP/1.2\r\n" + HOST + b"\r\n", 505),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("the hello of TLS", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(160), 400),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n", 400),
        ("a method of 8000 letters", b"G" * 8000 + b" /health HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        ("a method of 9000 letters", b"G" * 9000 + b" /health HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        ("a fragment", b"GET /health#x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        ("another expectation", post(b"/cancel", b"Expect: 200-ok\r\n", length(14), body=BODY), 417)]:
    suite.case("%d and close: %s" % (status, name), data, status)(check_one_answer)


def check_answered(data, status):
    """Nothing is wrong with the framing: the request behind it is answered, too."""
    equal([a[0] for a in answers(raw_exchange(suite.real().port, data + b"GET /live HTTP/1.0\r\n\r\n"))], [status, 200])


for name, data, status in [
        ("chunks", post(b"/cancel", CHUNKED, body=WHOLE), 202),
        ("chunks in capitals", post(b"/cancel", CHUNKED.upper(), body=WHOLE), 202),
        ("a trailer that names a length, a coding, a host and a type",
         post(b"/cancel", CHUNKED, body=WHOLE[:-2] + length(900) + HOST + b"Content-Type: x\r\nContent-Encoding: gzip\r\n\r\n"), 202),
        ("an upgrade", b"GET /live HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 200),
        ("an absolute target", b"GET http://elsewhere/live HTTP/1.1\r\n" + HOST + b"\r\n", 200),
        ("OPTIONS *", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        ("CONNECT", b"CONNECT x:1 HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        ("CONNECT to a path", b"CONNECT /execute HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        ("TRACE", b"TRACE /live HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        ("a body with GET", b"GET /live HTTP/1.1\r\n" + HOST + length(3) + b"\r\nabc", 200),
        ("dots and percents lead nowhere", b"GET /live/../../etc/passwd%00 HTTP/1.1\r\n" + HOST + b"\r\n", 404)]:
    suite.case("%d and on: %s" % (status, name), data, status)(check_answered)

MIXED = [("GET", b"/health", b"", 200), ("HEAD", b"/ready", b"", 200), ("GET", b"/nothing", b"", 404),
         ("DELETE", b"/execute", b"", 405), ("POST", b"/cancel", BODY, 202), ("POST", b"/cancel", b"{}", 422),
         ("POST", b"/execute", b"{", 400), ("POST", b"/execute", json.dumps(body_of(max_tokens=0)).encode(), 400)]


def check_pipeline(n):
    """Whatever stands together in one write is answered in order, each with its own id."""
    chosen = [random.Random(n + i).choice(MIXED) for i in range(n)]
    data = b""
    for i, (method, path, body, _) in enumerate(chosen):
        data += b"%s %s HTTP/1.1\r\nX-Correlation-ID: id-%d\r\n" % (method.encode(), path, i) + HOST + JSON
        data += (b"Connection: close\r\n" if i == n - 1 else b"") + length(len(body)) + b"\r\n" + body
    got = answers(raw_exchange(suite.real().port, data), [c[0] for c in chosen])
    equal([a[0] for a in got], [c[3] for c in chosen])
    equal([a[1]["x-correlation-id"] for a in got], ["id-%d" % i for i in range(n)])


for n in (1, 2, 16, 17, 50, 200):
    suite.case("%d requests in one write" % n, n)(check_pipeline)


@suite.case("what stands behind a job is never read")
def behind_a_job():
    job = json.dumps(body_of(job_id="first")).encode()
    second = post(b"/execute", length(len(job) + 1), body=job.replace(b"first", b"second"))
    got = raw_exchange(suite.stub().port, post(b"/execute", length(len(job)), body=job) + second + SMUGGLED)
    equal(got.count(b"HTTP/1.1 "), 1)
    check(got.count(b"event: end\n") == 1 and got.endswith(b"0\r\n\r\n") and b"second" not in got, got)
    suite.stub().job_line("first")
    check(not any("second" in line for line in suite.stub().raw_log), "the second job ran")


@suite.case("a job at the end of a pipeline and of its client is cancelled, the requests before it are answered")
def half_close():
    w = suite.stub()
    job = json.dumps(body_of(job_id="half", prompt="tokens=2000 delay=5", max_tokens=2000)).encode()
    with socket.create_connection(("127.0.0.1", w.port), timeout=LIMIT) as s:
        s.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n" * 5 + post(b"/execute", length(len(job)), body=job))
        s.shutdown(socket.SHUT_WR)
        got = b""
        for piece in iter(lambda: s.recv(65536), b""):
            got += piece
    equal(got.count(b'{"status":"alive"}'), 5)
    check(b"event: end" not in got, got)
    w.wait_state("ready")


@suite.case("clients that reset in the middle of a head, a body or a chunk leave nothing behind")
def resets():
    w = suite.real()
    before = descriptors(w.pid)
    for part in (b"", b"POST /exec", post(b"/execute", length(1000), body=b"x" * 10), post(b"/execute", CHUNKED, body=b"ff\r\nx"),
                 post(b"/execute", CHUNKED, body=b"1\r\nx\r\n0\r\nA: ")):
        for _ in range(10):
            s = socket.create_connection(("127.0.0.1", w.port), timeout=LIMIT)
            s.sendall(part)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
    end = time.monotonic() + LIMIT
    while descriptors(w.pid) > before:
        check(time.monotonic() < end, "%d descriptors before, %d now" % (before, descriptors(w.pid)))
        time.sleep(0.01)


def sent_in_pieces(pieces):
    with socket.create_connection(("127.0.0.1", suite.real().port), timeout=LIMIT) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            s.sendall(piece)
        got = b""
        for piece in iter(lambda: s.recv(65536), b""):
            got += piece
    return answers(got)


@suite.case("a request that comes byte by byte")
def byte_by_byte():
    data = post(b"/cancel", CHUNKED, b"Connection: close\r\n", body=WHOLE)
    equal([a[0] for a in sent_in_pieces(data[i:i + 1] for i in range(len(data)))], [202])


@suite.case("a body in chunks of one byte")
def chunks_of_one_byte():
    body = json.dumps({"job_id": "j", "ignored": "y" * 20000}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % c for c in body) + b"0\r\n\r\n"
    got = sent_in_pieces([post(b"/cancel", CHUNKED, b"Connection: close\r\n", body=chunks)])
    equal([(a[0], json.loads(a[2])) for a in got], [(202, {"job_id": "j"})])


def check_body_limit(lines, body, status):
    got = sent_in_pieces([post(b"/cancel", b"Connection: close\r\n", *lines), body])
    equal([a[0] for a in got], [status])


for extra, status in ((0, 202), (1, 413)):
    whole = b'{"job_id":"j","ignored":"%s"}' % (b"z" * (MIB2 + extra - 27))
    check(len(whole) == MIB2 + extra, len(whole))
    suite.case("a body of 2 MiB and %d bytes: %d" % (extra, status), [length(len(whole))], whole, status)(check_body_limit)
    suite.case("the same in two chunks: %d" % status, [CHUNKED],
               b"100000\r\n" + whole[:MIB2 // 2] + b"\r\n%x\r\n" % (len(whole) - MIB2 // 2) + whole[MIB2 // 2:] + b"\r\n0\r\n\r\n",
               status)(check_body_limit)


@suite.case("after all this the worker is as before")
def at_last():
    for w in (suite.real(), suite.stub()):
        w.wait_state("ready")
        equal(len(w.threads()), 1)
        equal(w.run()[-1].name, "end")


sys.exit(suite.run())
