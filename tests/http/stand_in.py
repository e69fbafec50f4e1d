"""A stand-in for what may stand between the page and its worker: a proxy below a path, with answers that no worker gives."""
import http.server
import json
import socketserver
import threading

HEALTH = {"worker_id": "w", "model": "m", "state": "ready", "uptime_seconds": 5, "jobs_running": 0, "jobs_waiting": 0,
          "queue_limit": 16, "tokens_per_sec": None}


def chunk(text, finish=None, words=()):
    """One event of a completion's stream."""
    logprobs = {"tokens": list(words), "token_logprobs": [-1] * len(words), "top_logprobs": [{w: -1} for w in words]} if words else None
    return ("data: %s\n\n" % json.dumps({"choices": [{"text": text, "index": 0, "logprobs": logprobs, "finish_reason": finish}]})).encode()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        return

    def do_GET(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.path, dict(self.headers)))
        prefix = next((p for p in self.server.pages if self.path.startswith(p)), "")
        answer = self.server.answers.get(self.path[len(prefix):], (404, "text/html", b"<h1>Not found</h1>")) if prefix else (404, "text/html", b"")
        if callable(answer):
            self.close_connection = True
            answer(self)
        else:
            self.answer(*answer)

    do_POST = do_GET

    def answer(self, status, kind, body, **headers):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def begin(self):
        """The head of a stream, whose end is that of the connection."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()


class StandIn(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves the page at each of the paths; answers maps a path below them to (status, type, body) or to a function of the
    handler."""
    daemon_threads = True

    def __init__(self, page, *pages):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port = self.server_address[1]
        self.pages = pages
        self.seen = []  # (path, headers)
        self.answers = {}
        self.json("health", HEALTH)
        self.json("v1/models", {"object": "list", "data": []})
        self.answers[""] = (200, "text/html; charset=utf-8", page)
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def json(self, path, value, status=200):
        self.answers[path] = (status, "application/json", json.dumps(value).encode())

    def __exit__(self, *_):
        self.shutdown()
        self.thread.join()
        self.server_close()
