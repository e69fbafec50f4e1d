#!/usr/bin/env python3
"""Hostile clients, many at a time, in a process of their own: one loop over all their sockets, so that the attacker is faster
than what it attacks.

usage: tests/http/attack.py PORT KIND [COUNT]

  idle     COUNT connections that say nothing
  drip     COUNT connections that send their request one byte a second
  health   COUNT kept connections, each asking again when it was answered
  bad      the same with requests that are refused
  big      the same with bodies of 2 MiB
  pipeline COUNT connections with 64 requests on the way at any time
  deaf     COUNT connections that ask without end and never read
  churn    COUNT connections at a time, opened, asked once, and closed
  leave    the same with jobs, left by FIN or RST when they are accepted

A connection that is closed is opened again, but for idle and drip. Says "begins", runs until its standard input
ends, then prints what it counted as a JSON line: connections made, closed by the other side, answers.
"""
import errno
import json
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import time

BODY_BYTES = 2 * 1024 * 1024
PIPELINED = 64
RECEIVE = 65536


def get(path):
    return b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path


def post(body, path=b"/execute"):
    return (b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % (path, len(body))) + body


def job(prompt, max_tokens=0):
    """Never accepted, unless max_tokens says so."""
    return b'{"job_id":"a","max_tokens":%d,"prompt":"' % max_tokens + prompt + b'"}'


def bad_requests():
    """Refused by each station: the parser, the routes, JSON, types, ranges."""
    return [b"GET / HTTP/9.9\r\n\r\n", b"\r\n\0\r\n\r\n", get(b"/nothing"), get(b"/execute"), post(b"{"), post(b"[]"),
            post(b'{"job_id":1}'), post(job(b"x")), post(job(b"the cat " * 4096)), post(b"[" * 5000), post(b"{}", b"/cancel"),
            b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n"]


def big_requests():
    """As large as may be, and slow to read for a parser that looks at each byte."""
    room = BODY_BYTES - 200
    return [post(text) for text in (
        job(b"x" * room), job(b"\\u0041" * (room // 6)), job(b"\\ud83d\\ude00" * (room // 12)), job("é".encode() * (room // 2)),
        job(b"\\u0041" * (room // 6)) + b"x", b" " * room + b"{}", b'{"n":' + b"1" * room + b"}",
        b"a" * BODY_BYTES, b":" * BODY_BYTES, b"{" + b",".join(b'"k%06d":"%s"' % (i, b"x" * 480) for i in range(4000)) + b"}",
        b'{"seed":123456789012345678901234,"a":"' + b"\\u0041" * (room // 6) + b'"}')]


class Client:
    """One connection: what it sends next, and what it has been sent."""

    def __init__(self, attack, number):
        self.attack, self.number = attack, number
        self.turn = number
        self.socket = None

    def open(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        if self.attack.kind == "deaf":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.out, self.answers_left, self.tail = b"", 0, b""
        status = self.socket.connect_ex(("127.0.0.1", self.attack.port))
        if status not in (0, errno.EINPROGRESS):
            self.socket.close()
            self.socket = None
            return
        self.attack.counts["opened"] += 1
        self.attack.clients[self.socket.fileno()] = self
        events = select.EPOLLIN | select.EPOLLRDHUP
        if self.attack.requests and self.attack.kind != "drip":
            self.ask()
            events |= select.EPOLLOUT
        self.attack.poll.register(self.socket.fileno(), events | select.EPOLLET)

    def ask(self):
        requests = self.attack.requests
        many = PIPELINED if self.attack.kind in ("pipeline", "deaf") else 1
        self.out += requests[self.turn % len(requests)] * many
        self.answers_left += many
        self.turn += 1

    def close(self):
        if self.attack.kind == "leave" and self.turn % 2:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.attack.clients.pop(self.socket.fileno(), None)
        self.socket.close()
        self.socket = None

    def write(self):
        while self.out:
            try:
                self.out = self.out[self.socket.send(self.out[:RECEIVE * 4]):]
            except BlockingIOError:
                return
            if self.attack.kind == "deaf" and not self.out:
                self.ask()

    def read(self):
        """False: the other side has closed."""
        while True:
            try:
                data = self.socket.recv(RECEIVE)
            except BlockingIOError:
                return True
            if not data:
                return False
            seen = self.tail + data
            n = seen.count(b"HTTP/1.1 ")
            self.tail = seen[-8:]
            self.attack.counts["answers"] += n
            self.answers_left -= n
            if self.answers_left <= (PIPELINED // 2 if self.attack.kind == "pipeline" else 0):
                if self.attack.kind in ("churn", "leave"):
                    return False
                self.ask()
                self.write()

    def ready(self, events):
        try:
            if events & select.EPOLLOUT:
                self.write()
            open_still = self.attack.kind == "deaf" or not events & ~select.EPOLLOUT or self.read()
            if open_still and not events & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
                return
        except OSError:
            pass
        self.attack.counts["closed"] += 1
        self.close()
        if self.attack.kind not in ("idle", "drip"):
            self.open()


class Attack:
    def __init__(self, port, kind, count):
        self.port, self.kind = port, kind
        self.requests = {"idle": [], "drip": [post(job(b"x" * 1000))], "bad": bad_requests(), "big": big_requests(),
                         "leave": [post(job(b"the king", 5))]}.get(kind, [get(b"/health")])
        self.counts = {"opened": 0, "closed": 0, "answers": 0}
        self.poll = select.epoll()
        self.poll.register(sys.stdin.fileno(), select.EPOLLIN)
        self.clients = {}
        self.waiting = [Client(self, i) for i in range(count)]

    def drip(self, n_sent):
        for client in list(self.clients.values()):
            try:
                client.socket.send(self.requests[0][n_sent:n_sent + 1])
            except OSError:
                pass

    def run(self):
        n_sent, next_drip = 0, time.monotonic() + 1
        print("begins", flush=True)
        while True:
            for _ in range(min(64, len(self.waiting))):
                self.waiting.pop().open()
            for fd, events in self.poll.poll(0.002 if self.waiting else 0.1):
                if fd == sys.stdin.fileno():
                    print(json.dumps(self.counts), flush=True)
                    return
                if fd in self.clients:
                    self.clients[fd].ready(events)
            if self.kind == "drip" and time.monotonic() >= next_drip:
                self.drip(n_sent)
                n_sent, next_drip = n_sent + 1, next_drip + 1


class Attacker:
    """A process of this file; stop() returns what it counted."""

    def __init__(self, port, kind, count):
        args = [sys.executable, os.path.abspath(__file__), str(port), kind, str(count)]
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process.stdout.readline()

    def stop(self):
        return json.loads(self.process.communicate(timeout=60)[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def main():
    if len(sys.argv) not in (3, 4) or not sys.argv[1].isdigit():
        print(__doc__.strip(), file=sys.stderr)
        return 2
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    Attack(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 8).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
