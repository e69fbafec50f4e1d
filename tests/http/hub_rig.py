"""A Hugging Face hub on this machine, and the host that keeps its large files: another port, so another origin, as with the
real one. What a test wants to go wrong is a function in Hub.tricks, asked before anything else."""
import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from harness import TINY

REPO = "someone/tiny-gpt2"
TEXTS = ("config.json", "tokenizer.json", "vocab.json", "merges.txt")


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def tiny_files():
    files = {}
    for name in TEXTS + ("model.safetensors",):
        with open(os.path.join(TINY, name), "rb") as file:
            files[name] = file.read()
    return files


class Request:
    def __init__(self, host, method, path, headers):
        self.host, self.method, self.path, self.headers = host, method, path, headers
        self.name = unquote(urlsplit(path).path).rsplit("/", 1)[-1]

    def __repr__(self):
        return "%s %s %s" % (self.host, self.method, self.path)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.serve("HEAD")

    def do_GET(self):
        self.serve("GET")

    def do_POST(self):
        self.serve("POST")

    def serve(self, method):
        hub = self.server.hub
        request = Request(self.server.kind, method, self.path, self.headers)
        with hub.lock:
            hub.requests.append(request)
        try:
            for trick in hub.tricks:
                if trick(self, request):
                    return
            if self.server.kind == "hub":
                hub.answer(self, request)
            else:
                hub.store(self, request)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def reply(self, status, body=b"", **headers):
        """Names of headers are written with "_" for "-"."""
        self.send_response(status)
        headers.setdefault("Content_Length", len(body))
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def raw(self, data):
        self.wfile.write(data)
        self.wfile.flush()
        self.close_connection = True


class Sink:
    """In place of a connection: what would be sent."""

    def __init__(self):
        self.data = bytearray()

    def write(self, data):
        self.data += data

    def flush(self):
        pass


def damage(numbers, answer):
    """One answer with something wrong with it."""
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    names = [b"Content-Length", b"X-Linked-Size", b"ETag", b"Location", b"X-Repo-Commit", b"Content-Range", b"Content-Encoding",
             b"Connection"]
    values = [b"", b"\0", b"-1", b"0", b"18446744073709551616", b"bytes 0-1/2", b"bytes */5", b"../..", b"\xff", b"x" * 9000,
              b"//", b"http://[::1]:0/"]
    at = numbers.randrange(len(lines))
    kind = numbers.randrange(7)
    if kind == 0:
        lines[0] = b"HTTP/1.1 " + numbers.choice([b"99", b"206", b"301", b"304", b"404", b"416", b"500", b"2000"])
    elif kind == 1:
        del lines[at]
    elif kind == 2:
        lines.insert(at + 1, numbers.choice(names) + b": " + numbers.choice(values))
    elif kind == 3:
        lines[at] = lines[at].split(b":")[0] + b": " + numbers.choice(values)
    elif kind == 4:
        body = body[:numbers.randrange(len(body) + 1)]
    elif kind == 5:
        body += bytes(numbers.randrange(1, 3000))
    elif body:
        body = bytes(numbers.randrange(256) if numbers.random() < 0.01 else byte for byte in body)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Clients leave in the middle here."""


class Hub:
    def __init__(self, files=None, token=None, large=("model.safetensors",)):
        self.files = tiny_files() if files is None else files
        self.large = set(large)
        self.token = token
        self.commit = hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()
        self.refs = {"main": self.commit, "v1.0": self.commit, "refs/pr/1": self.commit}
        self.requests, self.tricks, self.lock = [], [], threading.Lock()
        self.servers = []
        for kind in ("hub", "storage"):
            server = Server(("127.0.0.1", 0), Handler)
            server.kind, server.hub = kind, self
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            self.servers.append(server)
        self.url, self.storage = ("http://127.0.0.1:%d" % s.server_address[1] for s in self.servers)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def etag(self, name):
        data = self.files[name]
        return hashlib.sha256(data).hexdigest() if name in self.large else git_sha1(data)

    def answer(self, handler, request):
        """As the hub does: https://ENDPOINT/ORG/NAME/resolve/REVISION/FILE."""
        if self.token and request.headers.get("Authorization") != "Bearer " + self.token:
            handler.reply(401, b"Invalid username or password.", X_Error_Code="RepoNotFound")
            return
        if request.method == "POST" and request.path == "/api/models/%s/paths-info/main" % REPO:
            self.paths_info(handler)
            return
        parts = request.path[1:].split("/")
        if "/".join(parts[:2]) != REPO or parts[2] != "resolve":
            handler.reply(404, b"Repository not found", X_Error_Code="RepoNotFound")
            return
        revision, name = unquote(parts[3]), unquote("/".join(parts[4:]))
        commit = revision if revision == self.commit else self.refs.get(revision)
        if commit is None:
            handler.reply(404, b"Invalid rev id", X_Error_Code="RevisionNotFound")
        elif name not in self.files:
            handler.reply(404, b"Entry not found", X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        elif name in self.large:
            handler.reply(302, b"Found. Redirecting", X_Repo_Commit=commit, X_Linked_Etag='"%s"' % self.etag(name),
                          X_Linked_Size=len(self.files[name]), ETag='"of the redirection"',
                          Location="%s/%s?signature=secret" % (self.storage, name))
        else:
            self.store(handler, request, etag='"%s"' % self.etag(name), X_Repo_Commit=commit)

    def paths_info(self, handler):
        """What the client for JavaScript asks before it downloads."""
        asked = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))["paths"]
        answer = []
        for name in asked:
            size = len(self.files[name])
            answer.append({"type": "file", "path": name, "size": size, "oid": git_sha1(self.files[name]),
                           "lastCommit": {"id": self.commit, "title": "first", "date": "2026-01-01T00:00:00.000Z"}})
            if name in self.large:
                answer[-1]["lfs"] = {"oid": self.etag(name), "size": size, "pointerSize": 134}
        handler.reply(200, json.dumps(answer).encode(), Content_Type="application/json")

    def store(self, handler, request, data=None, etag=None, cut=None, **headers):
        """A file, or the range of it that is asked for. cut: the connection ends after so many bytes of the body."""
        data = self.files[request.name] if data is None else data
        etag = etag or '"storage-%s"' % hashlib.md5(data).hexdigest()
        wanted, start, end = request.headers.get("Range"), 0, len(data)
        if wanted and request.headers.get("If-Range") in (None, etag):
            first, last = wanted[len("bytes="):].split("-")
            start, end = int(first), int(last) + 1 if last else end
            if start >= len(data):
                handler.reply(416, Content_Range="bytes */%d" % len(data))
                return
            headers["Content_Range"] = "bytes %d-%d/%d" % (start, end - 1, len(data))
        if cut is None:
            handler.reply(206 if "Content_Range" in headers else 200, data[start:end], ETag=etag, **headers)
        else:
            handler.send_response(206 if "Content_Range" in headers else 200)
            for name, value in dict(headers, ETag=etag, Content_Length=end - start).items():
                handler.send_header(name.replace("_", "-"), str(value))
            handler.end_headers()
            handler.wfile.write(data[start:start + cut])
            handler.wfile.flush()
            handler.close_connection = True

    def damaged(self, handler, request, numbers):
        """The usual answer, with something wrong with it."""
        whole, handler.wfile = handler.wfile, Sink()
        try:
            (self.answer if handler.server.kind == "hub" else self.store)(handler, request)
        finally:
            sent, handler.wfile = handler.wfile.data, whole
        handler.raw(damage(numbers, sent))
        return True

    def of(self, name, host=None, method="GET"):
        """The requests for a file."""
        return [r for r in self.requests if r.name == name and r.method == method and host in (None, r.host)]

    def trick(self, name, action, host="storage", method="GET", times=None):
        """action(handler, request) instead of the usual answer, the first so many times."""
        left = [times]

        def run(handler, request):
            if (request.name, request.host, request.method) != (name, host, method) or left[0] == 0:
                return False
            if left[0] is not None:
                left[0] -= 1
            action(handler, request)
            return True
        self.tricks.append(run)
