#!/usr/bin/env python3
"""The page at GET / (docs/ui.md): what is served, and what a real Chromium makes of it."""
# Runs beside others: nothing here measures time.
import base64
import hashlib
import html.parser
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from browser import Browser, why_none
from harness import LIMIT, Skip, Suite, Worker, check, equal, free_port, has, within
from stand_in import HEALTH, StandIn, chunk

suite = Suite()
KEY = "a-key-of-the-page-0001"
FOLDER = tempfile.mkdtemp(prefix="llorch-ui-")
MAX_BYTES = 60000
SETTINGS = {"max_tokens": 40, "temperature": 0.8, "seed": 42}


# --- what is served ---


def page():
    status, headers, body = suite.real().request("GET", "/")
    equal(status, 200)
    return headers, body.decode("utf-8")


def part(tag):
    return re.search("<%s>(.*?)</%s>" % (tag, tag), page()[1], re.DOTALL).group(1)


class Tags(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@suite.test
def the_page_is_small():
    within(len(page()[1].encode("utf-8")), 1000, MAX_BYTES - 1)


@suite.test
def the_headers_forbid_what_the_page_does_not_need():
    headers, _ = page()
    equal((headers["content-type"], headers["x-content-type-options"], headers["referrer-policy"], headers["cache-control"]),
          ("text/html; charset=utf-8", "nosniff", "no-referrer", "no-cache"))
    policy = dict((rule.split() + [""])[:2] for rule in headers["content-security-policy"].split("; "))
    for tag in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(part(tag).encode("utf-8")).digest()).decode()
        equal(policy.pop(tag + "-src"), "'sha256-%s'" % digest)
    equal(policy, {"default-src": "'none'", "img-src": "data:", "connect-src": "'self'", "base-uri": "'none'",
                   "form-action": "'none'", "frame-ancestors": "'none'", "require-trusted-types-for": "'script'"})


@suite.test
def the_page_refers_to_nothing_outside():
    _, text = page()
    for pattern, where in ((r"(?i)\b(https?|wss?|ftp):|//\w+\.", text), (r"(?i)@import|url\(", part("style"))):
        found = re.search(pattern, where)
        check(not found, found and found.group())
    for tag, attributes in Tags(text).found:
        for name, value in attributes.items():
            check(not name.startswith("on") and name not in ("style", "srcset", "action"), "%s in <%s>" % (name, tag))
            if name in ("src", "href", "data"):
                check(value.startswith(("#", "data:")), value)


@suite.test
def the_script_has_no_way_to_make_markup_of_text():
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "createContextualFragment", "setHTML"):
        check(word not in part("script"), word)


@suite.test
def labels_and_descriptions_lead_somewhere():
    tags = Tags(page()[1]).found
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    equal(len(ids), len(set(ids)))
    named = {attributes["for"] for tag, attributes in tags if tag == "label" and "for" in attributes}
    for tag, attributes in tags:
        for name in ("for", "aria-describedby", "aria-labelledby", "aria-controls"):
            for one in attributes.get(name, "").split():
                check(one in ids, "%s=%s" % (name, one))
        if tag in ("input", "textarea") and attributes.get("type") != "checkbox":
            check(attributes.get("id") in named or "aria-label" in attributes, attributes)


@suite.test
def who_has_the_page_gets_304():
    tag = page()[0]["etag"]
    for value in (tag, "W/" + tag, '"other", ' + tag, "*"):
        status, headers, body = suite.real().request("GET", "/", headers={"If-None-Match": value})
        equal((status, body, headers["etag"]), (304, b"", tag))
        check("content-length" not in headers and "content-type" not in headers, headers)
    for value in ('"other"', tag.strip('"'), "x" * 5000):
        equal(suite.real().request("GET", "/", headers={"If-None-Match": value})[0], 200)
    equal(suite.real().request("GET", "/health", headers={"If-None-Match": "*"})[0], 200)


@suite.test
def HEAD_is_GET_without_the_page():
    status, headers, body = suite.real().request("HEAD", "/")
    equal((status, body), (200, b""))
    equal(int(headers["content-length"]), len(page()[1].encode("utf-8")))


@suite.test
def a_client_that_reads_slowly_gets_all_of_it():
    with socket.create_connection(("127.0.0.1", suite.real().port), timeout=LIMIT) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while True:
            piece = s.recv(1500)
            if not piece:
                break
            answer += piece
    equal(answer.split(b"\r\n\r\n", 1)[1].decode("utf-8"), page()[1])


@suite.test
def no_ui_turns_it_off():
    with Worker("--no-ui", stub=True) as w:
        for method in ("GET", "HEAD", "POST"):
            equal(w.request(method, "/")[0], 404)
        equal(w.request("GET", "/health")[0], 200)
    with Worker("--no-ui", "--api-key-file", key_file(), stub=True) as w:
        equal(w.request("GET", "/")[0], 401)


# --- what the browser makes of it ---


WHY_NONE = why_none()


def in_browser(function, *args, name=None):
    if WHY_NONE is None:
        suite.case(name or function.__name__.replace("_", " "), *args)(function)
    return function


@suite.test
def the_page_opens_in_chromium():
    if WHY_NONE is not None:
        raise Skip(WHY_NONE)
    quiet(browser())


class Shared:
    browser = None


def browser(worker=None, state="ready", path="/", **look):
    """The window, as new, at the page of this worker (the shared real one)."""
    if Shared.browser is None:
        Shared.browser = Browser()
    b = Shared.browser
    b.look(**look)
    address = "http://127.0.0.1:%d" % (worker or suite.real()).port
    b.js("try { localStorage.clear(); sessionStorage.clear(); } catch (error) { return; }")  # of the page that is left
    b.open("about:blank")
    b.messages()
    b.open(address + path)
    b.wait("document.getElementById('state').dataset.state === arguments[0]", state)
    return b


def quiet(b, *expected):
    """Nothing in the console but failed requests that are expected: statuses, or the name of a network error."""
    for level, message in b.messages():
        check(any(str(part) in message for part in expected) and "Content Security" not in message, "%s: %s" % (level, message))


def key_file():
    path = os.path.join(FOLDER, "keys")
    with open(path, "w", encoding="ascii") as file:
        file.write(KEY + "\n")
    os.chmod(path, 0o600)
    return path


def fill(b, prompt, **settings):
    """As typing would (which other cases do), in one step."""
    b.js("for (const [id, value] of Object.entries(arguments[0])) {"
         "  const field = document.getElementById(id);"
         "  field.value = value;"
         "  field.dispatchEvent(new Event('input')); }", {"prompt": prompt, **{k: str(v) for k, v in settings.items()}})


ENDED = "!running"
DONE = "!running && document.getElementById('summary').textContent.includes('·')"


def generate(b, prompt, **settings):
    """Types it all in, clicks and waits for the end; returns the text that is shown after the prompt."""
    fill(b, prompt, **settings)
    b.click("#generate")
    b.wait(ENDED)
    equal(b.text("#problem-title"), "")
    return result(b)


def result(b):
    given, whole = b.text("#output .given"), b.text("#output")
    check(whole.startswith(given), whole)
    return whole[len(given):]


def answer_to(worker, **fields):
    status, _, body = worker.request("POST", "/v1/completions", fields)
    equal(status, 200, body)
    return json.loads(body)["choices"][0]


@in_browser
def the_page_says_what_model_this_is():
    b = browser()
    facts = b.js("return [...document.querySelectorAll('.facts > div:not([hidden])')].map(d => [d.firstChild.textContent, d.lastChild.textContent])")
    shown = dict(facts)
    equal([shown[name] for name in ("Weights", "Context", "Vocabulary", "Worker", "Fingerprint")],
          ["F16", "256 tokens", "1,024 tokens", "llorch-cpud-0", suite.real().get("/health")[1]["weights_hash"]])
    check(shown["Memory"].endswith(" MB"), shown)
    equal((b.text("h1"), b.text("#state-text"), b.js("return document.title")), ("shakespeare", "Ready", "shakespeare · llorch-cpud"))
    quiet(b)


@in_browser
def queue_and_speed_are_shown():
    b = browser()
    height = "return document.querySelector('header').offsetHeight"
    before = b.js(height)
    b.js("const f = fetch; window.fetch = async (path, options) => {"
         "  const answer = await f(path, options);"
         "  return path.endsWith('/health') ? new Response(JSON.stringify({...await answer.json(), ...arguments[0]})) : answer; }",
         {"state": "busy", "jobs_running": 1, "jobs_waiting": 3, "queue_limit": 16, "tokens_per_sec": 812.44})
    b.wait("document.getElementById('state-text').textContent === 'Busy, 3 waiting'")
    equal([b.text("#fact-" + name) for name in ("queue", "speed")], ["3 of 16 waiting", "812 tokens/s"])
    equal(b.js(height), before)  # what is below does not jump with each job
    quiet(b)


@in_browser
def the_text_is_what_the_interface_gives_for_the_same_seed():
    b = browser()
    shown = generate(b, "ROMEO:", **SETTINGS)
    want = answer_to(suite.real(), prompt="ROMEO:", **SETTINGS)
    equal(shown, want["text"])
    has(b.text("#summary"), "40 tokens after a prompt of ")
    has(b.text("#summary"), "tokens/s · ended by the limit of tokens")
    equal(b.js("return document.querySelectorAll('.t').length"), 40)
    check(generate(b, "ROMEO:", seed=43) != shown, "the seed is not sent")
    shown = generate(b, "ROMEO:", seed=18446744073709551615, temperature=1.3, top_k=50, top_p=0.9, min_p=0.02)
    want = answer_to(suite.real(), prompt="ROMEO:", max_tokens=40, seed=18446744073709551615, temperature=1.3, top_k=50, top_p=0.9, min_p=0.02)
    equal(shown, want["text"])
    quiet(b)


def tokens_page():
    """A page with the tokens of one generation, and what the interface says of them."""
    b = browser()
    generate(b, "ROMEO:", **SETTINGS)
    return b, answer_to(suite.real(), prompt="ROMEO:", logprobs=5, **SETTINGS)["logprobs"]


@in_browser
def tokens_are_shaded_by_their_probability():
    b, want = tokens_page()
    shown = b.js("return [...document.querySelectorAll('.t')].map(t => t.className)")
    steps = (0.01, 0.05, 0.2, 0.5, 0.9)
    equal([re.search(r"\bp(\d)", name).group(1) for name in shown], [str(sum(math.exp(p) >= s for s in steps)) for p in want["token_logprobs"]])
    check(len(set(shown)) > 2, shown)
    colour = "return getComputedStyle(document.querySelector('.t')).backgroundColor"
    shaded = b.js(colour)
    b.click("#shade")
    check(b.js(colour) != shaded and not b.seen("#legend"), "still shaded")


@in_browser
def the_mouse_and_keys_show_alternatives():
    b, want = tokens_page()
    b.point("[data-i='3']")
    b.wait("!document.getElementById('why').hidden")
    shares = b.js("return [...document.querySelectorAll('.why > .same, .why > button')].map(n => parseFloat(n.lastChild.textContent))")
    logprobs = sorted(set(want["top_logprobs"][3].values()) | {want["token_logprobs"][3]}, reverse=True)
    equal(len(shares), len(logprobs))
    for share, logprob in zip(shares, logprobs):
        within(share, 100 * math.exp(logprob) - 0.06, 100 * math.exp(logprob) + 0.06)
    equal(b.js("return document.querySelectorAll('.why .same').length"), 1)
    for i in (next(i for i, best in enumerate(want["top_logprobs"]) if len(best) > 5), 0):
        b.js("showWhy(arguments[0], true)", i)
        likely = sorted(want["top_logprobs"][i].values(), reverse=True).index(want["token_logprobs"][i])
        has(b.text(".why p"), "number %d of the likeliest" % (likely + 1) if likely < 5 else "not among the likeliest 5")
    b.js("showWhy(3, false)")
    b.point("h1")
    b.wait("document.getElementById('why').hidden")
    focus = "return document.activeElement.dataset.i"
    b.js("document.getElementById('shade').focus()")
    b.press("Tab")
    equal(b.js(focus), "3")  # the one that was looked at last
    b.press("Right")
    b.press("Right")
    equal((b.js(focus), b.seen("#why")), ("5", True))
    has(b.text("#say"), "Alternatives: ")
    b.press("End")
    equal(b.js(focus), "39")
    b.press("Left")
    equal(b.js(focus), "38")
    b.press("Down")
    check(b.js("return document.activeElement.closest('.why') !== null"), "not in the list")
    b.press("Escape")
    equal((b.js(focus), b.seen("#why")), ("38", False))
    equal(b.js("return document.querySelectorAll('.t[tabindex=\"0\"]').length"), 1)
    quiet(b)


@in_browser
def a_tap_shows_alternatives_and_a_tap_elsewhere_closes_them():
    b = browser(width=390, height=844)
    generate(b, "ROMEO:", **SETTINGS)
    b.tap("[data-i='5']")
    b.wait("!document.getElementById('why').hidden")
    box = b.js("const r = document.getElementById('why').getBoundingClientRect(); return [r.left, r.right]")
    check(box[0] >= 0 and box[1] <= 390, box)
    b.tap("h1")
    b.wait("document.getElementById('why').hidden")


@in_browser
def another_token_can_be_chosen():
    b = browser()
    before = generate(b, "ROMEO:", **SETTINGS)
    b.point("[data-i='3']")
    b.wait("!document.getElementById('why').hidden")
    start = b.js("return tokens.slice(0, 3).map(t => t.node.textContent).join('')")
    word = b.js("return tokens[3].best.filter(([w]) => w !== tokens[3].word && !isPart(w)).sort((x, y) => y[1] - x[1])[0][0]")
    b.click(".why button:enabled")
    b.wait(DONE)
    shown = result(b)
    check(shown.startswith(start + word) and shown != before, shown)
    equal(shown, start + word + answer_to(suite.real(), prompt="ROMEO:" + start + word, **SETTINGS)["text"])
    has(b.js("return document.querySelector('[data-i=\"3\"]').className"), "picked")


@in_browser
def continue_goes_on_where_the_text_ended():
    b = browser()
    first = generate(b, "ROMEO:", **SETTINGS)
    b.click("#continue")
    b.wait("document.querySelectorAll('.t').length === 80 && " + DONE)
    equal(result(b), first + answer_to(suite.real(), prompt="ROMEO:" + first, **SETTINGS)["text"])


@in_browser
def continue_keeps_tokens_and_text_together():
    b = browser()
    whole = generate(b, "ROMEO:", **SETTINGS)
    word = next(w for w in b.js("return tokens.map(t => t.word)") if len(w) > 3 and w.strip().isalpha() and w[-2:] not in whole[:whole.index(w)])
    b.write("#stop-text", word[-2:])  # a part of this token is text then, the rest is not
    b.click("#stop-add")
    equal(generate(b, "ROMEO:", **SETTINGS), whole[:whole.index(word) + len(word) - 2])
    b.click("#stops button")
    at = b.js("return tokens.length") - 1
    b.click("#continue")
    b.wait("tokens.length > arguments[0] && " + DONE, at + 1)
    shown, words = b.js("return [tokens.map(t => t.node.textContent), tokens.map(t => t.word)]")
    equal((words[at], shown[:at + 1]), (word, words[:at] + [word[:-2]]))
    check(len(words) > at + 5 and not any(w.startswith("bytes:") for w in words), words)
    equal(shown[at + 1:], words[at + 1:])


@in_browser
def a_stop_string_ends_the_text():
    b = browser()
    b.write("#stop-text", "\\n")
    b.click("#stop-add")
    equal(b.text("#stops"), "\\n")
    shown = generate(b, "ROMEO:\n", **SETTINGS)
    equal(shown, answer_to(suite.real(), prompt="ROMEO:\n", stop=["\n"], **SETTINGS)["text"])
    check(shown and "\n" not in shown, shown)
    has(b.text("#summary"), "ended by the model or a stop string")
    b.click("#stops button")
    equal(b.text("#stops"), "")


def long_job(b, tokens=2000, delay=20):
    fill(b, "tokens=%d delay=%d text=a|b" % (tokens, delay), max_tokens=tokens)
    b.js("window.earlier = tokens")  # what is shown stays until the worker has taken the prompt
    b.press("Control", "Enter")
    b.wait("tokens !== earlier && tokens.length > 3")


@in_browser
def stop_frees_the_worker_and_keeps_the_text():
    b = browser(suite.stub())
    for press in (lambda: b.click("#stop"), lambda: b.press("Escape")):
        long_job(b)
        b.wait("document.getElementById('state').dataset.state === 'busy'")
        press()
        suite.stub().wait_state("ready")
        b.wait(DONE)
        has(b.text("#summary"), "stopped by you")
        check(result(b).startswith("aba"), result(b))
        equal((b.seen("#problem"), b.seen("#generate"), b.seen("#stop")), (False, True, False))
    quiet(b)


@in_browser
def a_worker_that_dies_is_told_and_its_return_noticed():
    port = free_port()
    with Worker("--port", str(port), stub=True) as w:
        b = browser(w)
        long_job(b)
        w.signal(signal.SIGKILL)
        w.wait()
    b.wait("document.getElementById('problem').checkVisibility()")
    has(b.text("#problem"), "The connection was cut in the middle")
    has(b.text("#summary"), "the text so far is kept")
    check(result(b).startswith("aba"), result(b))
    b.wait("document.getElementById('state-text').textContent === 'Not reachable'")
    b.click("#continue")
    b.wait("document.getElementById('problem').textContent.includes('does not answer')")
    with Worker("--port", str(port), stub=True):
        b.wait("document.getElementById('state').dataset.state === 'ready' && !document.getElementById('problem').checkVisibility()")
        check(result(b).startswith("aba"), result(b))
        n = b.js("return tokens.length")
        fill(b, b.js("return document.getElementById('prompt').value"), max_tokens=3)
        b.click("#continue")
        b.wait("tokens.length === arguments[0] && " + DONE, n + 3)
    quiet(b, "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")


@in_browser
def a_full_queue_is_told_and_can_be_tried_again():
    with Worker("--queue", "0", stub=True) as w:
        b = browser(w)
        other = w.start(prompt="tokens=2000 delay=20", max_tokens=2000)
        fill(b, "tokens=3", max_tokens=3)
        b.click("#generate")
        b.wait("document.getElementById('problem').checkVisibility()")
        has(b.text("#problem"), "the queue is full")
        check(b.seen("#empty") and not b.seen("#output"), "an empty result")
        other.close()
        w.wait_state("ready")
        b.click("#again")
        b.wait("tokens.length === 3 && " + DONE)
        equal(b.seen("#problem"), False)
        quiet(b, "503")


HTML = b"<!doctype html><title>Error</title><h1>Something</h1>"
NO_WORKER = {"code": "WORKER_UNHEALTHY", "message": "Worker unhealthy: no worker can take the request", "retriable": True}
FULL = {"error": {"message": "the queue is full (64 waiting)", "type": "server_error", "param": None, "code": "service_unavailable"}}


def told(b):
    """What the page says after a click on Generate: title, text, whether it can be tried again; nothing may be left half done."""
    fill(b, "x")
    b.click("#generate")
    b.wait(ENDED)
    return b.text("#problem-title"), b.text("#problem-text"), b.seen("#again")


@in_browser
def refusals_of_a_proxy_are_told_and_can_be_tried_again():
    """deploy/haproxy answers 429 when its queue is full; others answer in HTML, or with what is no stream at all."""
    nothing, broken = "The worker takes nothing now:", "The answer broke off before its first token."
    with StandIn(page()[1].encode("utf-8"), "/") as s:
        b = browser(s)
        for status, body, want in [
                (429, json.dumps(FULL).encode(), (nothing, "the queue is full (64 waiting). Try again in a moment.", True)),
                (429, HTML, (nothing, "status 429 without a reason. Try again in a moment.", True)),
                (503, HTML, (nothing, "status 503 without a reason. Try again in a moment.", True)),
                (502, HTML, ("The worker failed:", "status 502 without a reason", True)),
                (504, b"null", ("The worker failed:", "status 504 without a reason", True)),
                (500, b'{"error": {"message": {"a": 1}}}', ("The worker failed:", "status 500 without a reason", True)),
                (413, HTML, ("The worker refuses the request:", "status 413 without a reason", False)),
                (200, HTML, (broken, "It may have come from something between this page and the worker.", True)),
                (200, b"data: null\n\n", (broken, "It may have come from something between this page and the worker.", True)),
                (401, HTML, ("An API key is needed.", "Enter it above.", False))]:
            s.answers["v1/completions"] = (status, "text/html" if body is HTML else "application/json", body)
            equal(told(b), want, "%d %r" % (status, body))
            equal((b.seen("#output"), b.seen("#empty"), b.text("#summary"), b.seen("#generate")), (False, True, "", True))
        quiet(b, *range(401, 505))
        s.answers["v1/completions"] = lambda handler: handler.answer(429, "application/json", json.dumps(FULL).encode(), Retry_After=2)
        equal(told(b)[2], True)
        s.answers["v1/completions"] = lambda handler: (handler.begin(), handler.wfile.write(chunk("a", "length", ["a"]) + b"data: [DONE]\n\n"))
        b.click("#again")
        b.wait("tokens.length === 1 && " + DONE)
        equal((result(b), b.seen("#problem")), ("a", False))
        before = b.text("#summary")
        s.answers["v1/completions"] = (429, "text/html", HTML)
        told(b)
        equal((result(b), b.text("#summary"), b.seen("#continue")), ("a", before, True))  # a refusal costs no text
        go = threading.Event()
        s.answers["v1/completions"] = lambda handler: go.wait(LIMIT)
        b.click("#generate")
        b.wait("running && getComputedStyle(document.getElementById('output')).opacity < 1")
        b.press("Escape")
        b.wait(ENDED)
        go.set()
        equal((result(b), b.text("#summary"), b.seen("#continue")), ("a", before, True))


@in_browser
def streams_that_break_keep_the_text_and_let_go_of_the_worker():
    ends = []

    def stream(*pieces):
        def answer(handler):
            handler.begin()
            for piece in pieces:
                handler.wfile.write(piece)
                time.sleep(0.02)
        return answer

    def nonsense(handler):
        """Stays open until the page closes the connection."""
        stream(chunk("ab", None, ["ab"]), b"data: {what\n\n")(handler)
        handler.connection.settimeout(LIMIT)
        ends.append(handler.connection.recv(1))

    whole = chunk("\u00e9", "length", ["\u00e9"])
    with StandIn(page()[1].encode("utf-8"), "/") as s:
        b = browser(s)
        s.answers["v1/completions"] = stream(*(whole[i:i + 9] for i in range(0, len(whole), 9)), b"data: [DONE]\n\n")
        equal((told(b)[0], result(b)), ("", "\u00e9"))
        for answer in (stream(chunk("ab", None, ["ab"])), nonsense):
            s.answers["v1/completions"] = answer
            equal(told(b), ("The connection was cut in the middle.", "The text so far is kept; Continue goes on from there.", False))
            equal(result(b), "ab")
            has(b.text("#summary"), "the text so far is kept")
        end = time.monotonic() + LIMIT
        while not ends and time.monotonic() < end:
            time.sleep(0.01)
        equal(ends, [b""])


@in_browser
def a_proxy_without_a_worker_is_no_worker():
    """The errors of deploy/haproxy are JSON, and no answer of /health."""
    with StandIn(page()[1].encode("utf-8"), "/") as s:
        b = browser(s)
        for status, value in ((503, NO_WORKER), (200, []), (200, None)):
            s.json("health", value, status)
            b.js("askHealth()")
            b.wait("document.getElementById('state-text').textContent === 'Not reachable'")
            equal((b.text("h1"), b.text("#fact-worker"), b.js("return document.title")), ("m", "w", "m \u00b7 llorch-cpud"))
            s.json("health", HEALTH)
            b.js("askHealth()")
            b.wait("document.getElementById('state-text').textContent === 'Ready'")
        quiet(b, "503")


@in_browser
def below_a_path_of_a_proxy_all_stays_there():
    with StandIn(page()[1].encode("utf-8"), "/a/b/", "/c/") as s:
        s.answers["v1/models"] = (401, "application/json", b"{}")
        b = browser(s, path="/a/b/")
        b.wait("document.getElementById('key-form').checkVisibility()")
        b.write("#key", "\u043a\u043b\u044e\u0447")
        b.press("Enter")
        has(b.text("#key-hint"), "ASCII")
        equal((b.seen("#key-form"), b.js("return sessionStorage.length")), (True, 0))
        s.json("v1/models", {"object": "list", "data": []})
        b.write("#key", KEY)
        b.press("Enter")
        b.wait("!document.getElementById('key-form').checkVisibility()")
        s.json("v1/completions", FULL, 429)
        told(b)
        has(b.text("#code"), "http://127.0.0.1:%d/a/b/v1/completions" % s.port)
        equal({path for path, _ in s.seen} - {"/favicon.ico"}, {"/a/b/" + p for p in ("", "health", "v1/models", "v1/completions")})
        equal({h.get("Authorization") for path, h in s.seen if path.endswith("completions")}, {"Bearer " + KEY})
        s.seen.clear()
        b.open("http://127.0.0.1:%d/c/" % s.port)  # another worker: the key and the prompt are not for it
        b.wait("document.getElementById('state').dataset.state === 'ready'")
        told(b)
        equal((b.text("#problem-title"), {h.get("Authorization") for _, h in s.seen}), ("The worker takes nothing now:", {None}))


@in_browser
def a_double_click_is_one():
    """Generate and Stop are at the same place in turn."""
    b = browser(suite.stub())
    fill(b, "tokens=2000 delay=20 text=a|b", max_tokens=2000)
    b.click_twice("#generate")
    b.wait("tokens.length > 40 && running")  # 0.8 s: the next click is none of the same double one
    b.click_twice("#stop")
    b.wait(DONE)
    check(result(b).startswith("aba"), result(b))
    has(b.text("#summary"), "stopped by you")
    b.click_twice("#dice")  # the same button twice is twice
    b.click_twice("#shade")
    equal(b.js("return document.getElementById('shade').checked"), True)


@in_browser
def a_key_that_is_held_down_is_one():
    b = browser(suite.stub())
    fill(b, "tokens=2000 delay=20 text=a|b", max_tokens=2000)
    b.js("document.getElementById('generate').focus()")
    for again in (False, True):  # Generate, then Stop has the focus
        b.cdp("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r", autoRepeat=again)
    b.wait("tokens.length > 3 && running")
    equal(b.js("return document.activeElement.id"), "stop")
    b.cdp("Input.dispatchKeyEvent", type="keyUp", key="Enter", code="Enter", windowsVirtualKeyCode=13)
    b.press("Enter")
    b.wait(DONE)
    has(b.text("#summary"), "stopped by you")


@in_browser
def loading_is_shown():
    with Worker(stub=True, ready=False, env={"STUB_LOAD_MS": 60000}) as w:
        b = browser(w, state="starting")
        b.wait(r"/^Loading the model, \d+ %$/.test(document.getElementById('state-text').textContent)")
        check(b.seen("#progress"), "no progress")
        quiet(b, "503")


@in_browser
def draining_is_shown():
    with Worker(stub=True) as w:
        b = browser(w)
        stream = w.start(prompt="tokens=2000 delay=20", max_tokens=2000)
        w.signal(signal.SIGTERM)
        b.wait("document.getElementById('state-text').textContent === 'Shutting down'")
        stream.close()
        equal(w.wait(), 0)
        b.wait("document.getElementById('state-text').textContent === 'Not reachable'")


@in_browser
def a_wrong_field_is_named_before_anything_is_sent():
    b = browser()
    for name, value, message in [("temperature", "2.5", "Temperature: a number from 0 to 2"), ("temperature", "", "Temperature: a number"),
                                 ("top_k", "1.5", "Top-k: a whole number"), ("seed", "18446744073709551616", "Seed: a whole number"),
                                 ("seed", "x", "Seed: a whole number"), ("max_tokens", "0", "Tokens at most: a whole number from 1 to 2048")]:
        b.click("#reset")
        fill(b, "ROMEO:", **{name: value})
        b.click("#generate")
        has(b.text("#%s-wrong" % name), message)
        equal((b.js("return document.activeElement.id"), b.seen("#output")), (name, False))
        equal(b.js("return document.activeElement.getAttribute('aria-invalid')"), "true")
    b.click("#reset")
    fill(b, "")
    b.click("#generate")
    equal((b.text("#prompt-wrong"), b.seen("#output")), ("Write a prompt first", False))
    quiet(b)


@in_browser
def what_the_worker_refuses_is_said_in_its_words():
    b = browser()
    fill(b, "thou art " * 200)
    b.click("#generate")
    b.wait("document.getElementById('problem').checkVisibility()")
    has(b.text("#problem"), "256")
    quiet(b, "400")


@in_browser
def a_reload_keeps_prompt_and_settings():
    b = browser()
    prompt = "Und morgen?\n  \u00e4"
    for field, text in (("prompt", prompt), ("temperature", "0.35"), ("top_k", "7"), ("seed", "9"), ("stop-text", "a\\tb")):
        b.write("#" + field, text)
    b.press("Enter")
    b.click("#tab-python")
    code = b.text("#code")
    b.reload()
    equal(b.js("return ['prompt', 'temperature', 'top_k', 'seed'].map(i => document.getElementById(i).value)"),
          [prompt, "0.35", "7", "9"])
    b.wait("document.getElementById('code').textContent === arguments[0]", code)
    equal((b.text("#stops"), b.js("return stops")), ("a\\tb", ["a\tb"]))
    fill(b, "x", temperature="9", top_p="0.5")
    b.reload()  # what cannot be sent is not kept
    equal(b.js("return ['temperature', 'top_p'].map(i => document.getElementById(i).value)"), ["0.8", "0.5"])
    has(b.text("#code"), "    temperature=0.8,\n")
    b.click("#reset")
    equal((b.js("return document.getElementById('temperature').value"), b.text("#stops")), ("0.8", ""))


@in_browser
def a_worker_with_keys_is_asked_with_one():
    with Worker("--api-key-file", key_file(), stub=True) as w:
        b = browser(w)
        b.wait("document.getElementById('key-form').checkVisibility()", what="the question for a key")
        b.write("#key", "wrong")
        b.press("Enter")
        b.wait("document.getElementById('key-hint').textContent.includes('did not accept')")
        b.write("#key", KEY)
        b.press("Enter")
        b.wait("!document.getElementById('key-form').checkVisibility()")
        equal(generate(b, "tokens=3 text=a", max_tokens=3), "aaa")
        b.reload()
        b.wait("document.getElementById('state').dataset.state === 'ready'")
        equal(generate(b, "tokens=2 text=b", max_tokens=2), "bb")
        equal(b.js("return [JSON.stringify(localStorage).includes(arguments[0]), document.body.innerText.includes(arguments[0])]", KEY), [False, False])
        has(b.text("#code"), "Bearer $LLORCH_API_KEY")
        equal(run_curl(b, LLORCH_API_KEY=KEY)["choices"][0]["text"], "bb")
        b.click("#forget")
        equal((b.seen("#key-form"), b.js("return sessionStorage.length > 0 && JSON.stringify(sessionStorage).includes(arguments[0])", KEY)), (True, False))
        quiet(b, "401")


def run_curl(b, **env):
    """What the button copies, run by a shell."""
    b.click("#tab-curl")
    done = subprocess.run(["sh", "-c", b.text("#code")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=LIMIT, check=True,
                          env=dict(os.environ, **env))
    return json.loads(done.stdout)


HARD = "It's \"$HOME\" `id` \\ !! %s\n\u00e9\U0001f600 ${x}"


@in_browser
def the_copied_curl_command_works():
    b = browser()
    settings = {"max_tokens": 20, "temperature": 0.7, "top_k": 40, "top_p": 0.95, "min_p": 0.01, "seed": 18446744073709551615}
    fill(b, HARD, **settings)
    b.write("#stop-text", "'\"\\n")
    b.press("Enter")
    want = answer_to(suite.real(), prompt=HARD, stop=["'\"\n"], **settings)["text"]
    answer = run_curl(b)
    equal((answer["model"], answer["choices"][0]["text"]), ("shakespeare", want))
    b.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    b.click("#copy-code")
    b.wait("document.getElementById('copy-code').textContent === 'Copied'")
    b.click("#generate")
    b.wait(DONE)
    equal(result(b), want)


FAKE_OPENAI = """
import json, sys, types, urllib.request
class OpenAI:
    def __init__(self, **options):
        self.options, self.completions = options, self
    def create(self, **fields):
        print(json.dumps([self.options, fields]), file=sys.stderr)
        body = {**{k: v for k, v in fields.items() if k != "extra_body"}, **fields.get("extra_body", {})}
        request = urllib.request.Request(self.options["base_url"] + "/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
        for line in urllib.request.urlopen(request):
            if line.startswith(b"data: {"):
                yield types.SimpleNamespace(choices=[types.SimpleNamespace(**c) for c in json.loads(line[6:])["choices"]])
"""


@in_browser
def the_copied_python_program_asks_for_the_same():
    b = browser()
    fill(b, HARD, top_k=40, seed=18446744073709551615)
    b.click("#tab-python")
    with open(os.path.join(FOLDER, "openai.py"), "w", encoding="utf-8") as file:
        file.write(FAKE_OPENAI)
    done = subprocess.run([sys.executable, "-c", b.text("#code")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT,
                          check=True, env=dict(os.environ, PYTHONPATH=FOLDER, PYTHONIOENCODING="utf-8"))
    options, fields = json.loads(done.stderr)
    equal(options, {"base_url": "http://127.0.0.1:%d/v1" % suite.real().port, "api_key": "none"})
    equal(fields, {"model": "shakespeare", "prompt": HARD, "max_tokens": 100, "temperature": 0.8, "seed": 18446744073709551615,
                   "extra_body": {"top_k": 40}, "stream": True})
    want = answer_to(suite.real(), prompt=HARD, max_tokens=100, temperature=0.8, top_k=40, seed=18446744073709551615)["text"]
    equal(done.stdout.decode("utf-8"), want)


@in_browser
def the_copied_javascript_program_works():
    if shutil.which("node") is None:
        raise Skip("node is not installed")
    b = browser()
    b.click("#tab-javascript")
    for seed in ("7", "18446744073709551615"):
        fill(b, HARD)
        b.write("#seed", seed)
        done = subprocess.run(["node", "--input-type=module", "-e", b.text("#code")], stdout=subprocess.PIPE, timeout=LIMIT, check=True)
        want = answer_to(suite.real(), prompt=HARD, max_tokens=100, temperature=0.8, seed=int(seed))["text"]
        equal(done.stdout.decode("utf-8"), want + "\n")


@in_browser
def names_and_texts_are_never_markup():
    name = "<img src=x onerror=alert(1)>"
    with Worker("--model-name", name, "--worker-id", "<b>w</b>", stub=True) as w:
        b = browser(w)
        equal((b.text("h1"), b.text("#fact-worker")), (name, "<b>w</b>"))
        shown = generate(b, "<script>alert(1)</script> tokens=4 text=<img|src=x>|&lt;|</p>", max_tokens=4)
        equal(shown, "<img" + "src=x>" + "&lt;" + "</p>")
        equal(b.js("return document.querySelectorAll('#output img, #output script, h1 *').length"), 0)
        quiet(b)


@in_browser
def parts_of_characters_and_invisible_ones_are_shown():
    b = browser()
    b.js("clearOutput('x'); document.getElementById('output').hidden = false;"
         "for (const [w, t] of [['bytes:\\\\xe2\\\\x80', ''], ['bytes:\\\\xa6', '\\u2026'], ['\\n\\n', '\\n\\n'], [' ', ' '], ['\\u200b', '\\u200b'], ['a', 'a']]) {"
         "  addToken(w, -1, [[w, -1], [' the', -2], ['bytes:\\\\xf0', -3]]); addText(t); } draw()")
    equal(b.js("return [...document.querySelectorAll('.t')].map(t => t.textContent)"), ["", "\u2026", "\n\n", " ", "\u200b", "a"])
    equal(b.js("return [...document.querySelectorAll('.t')].map(t => t.classList.contains('hid'))"), [True, False, False, False, True, False])
    check(b.js("return [...document.querySelectorAll('.t')].every(t => t.getBoundingClientRect().width > 2)"), "a token without width")
    for i, title in enumerate(["e2 80", "a6", "\u21b5\u21b5", "\u2423", "U+200B", "a"]):
        b.js("showWhy(arguments[0], true)", i)
        equal(b.js("return document.querySelector('.why h3 .word').textContent"), title)
    equal(b.js("return [...document.querySelectorAll('.why button')].map(n => [n.firstChild.nextSibling.textContent, n.disabled])"),
          [["\u2423the", False], ["f0", True]])
    equal(b.js("clearOutput('x'); for (const w of ['\\ufeff', 'b', '\\ufeff', 'c']) { if (tokens.length === 2) settleOutput();"
               "addToken(w, -1, [[w, -1]]); addText(w); } draw(); return tokens.map(t => t.node.textContent)"), ["\ufeff", "b", "\ufeff", "c"])


CONTRAST = """
const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
const behind = (n) => { while (getComputedStyle(n).backgroundColor === 'rgba(0, 0, 0, 0)') n = n.parentElement; return getComputedStyle(n).backgroundColor; };
const shades = [0, 1, 2, 3, 4, 5].map(i => { const s = document.createElement('span'); s.className = 't p' + i; s.textContent = 'x';
  document.getElementById('output').append(s); const style = getComputedStyle(s); return [style.color, style.backgroundColor]; });
const texts = [...document.querySelectorAll('h1, h2, dt, dd, label, .hint, button, .summary, .given, kbd, code, pre, .state span, .legend li')]
  .filter(n => n.checkVisibility() && n.textContent).map(n => [ratio(getComputedStyle(n).color, behind(n)), n.outerHTML.slice(0, 60)]);
return {shades: shades.map(([a, b]) => ratio(a, b)), steps: shades.map(([, b]) => light(b)), texts: texts.filter(([r]) => r < 4.5),
  paper: light(getComputedStyle(document.body).backgroundColor)};
"""


def check_contrast(dark):
    b = browser(dark=dark)
    generate(b, "ROMEO:", max_tokens=5)
    found = b.js(CONTRAST)
    check(min(found["shades"]) >= 4.5, found)
    check(found["steps"] == sorted(found["steps"], reverse=dark) and len(set(found["steps"])) == 6, found["steps"])
    equal(found["texts"], [])
    check((found["paper"] < 0.1) == dark, found["paper"])


for dark in (False, True):
    in_browser(check_contrast, dark, name="%s: everything can be read, and shades differ in lightness alone" % ("dark" if dark else "light"))


@in_browser
def a_phone_needs_no_sideways_scrolling():
    b = browser(width=390, height=844)
    width = "return document.documentElement.scrollWidth"
    equal(b.js(width), 390)
    equal(b.js("return document.getElementById('settings').open"), False)
    generate(b, "ROMEO:" + "x" * 100, **SETTINGS)
    for name in ("curl", "python", "javascript"):
        b.click("#tab-" + name)
        check(b.js(width) <= 390, name)
    for i in range(0, 40, 7):
        b.js("focusToken(arguments[0])", i)
        check(b.js(width) <= 390, "token %d" % i)
        box = b.js("const r = document.getElementById('why').getBoundingClientRect(); return [r.left, r.right]")
        check(box[0] >= 0 and box[1] <= 390, box)


@in_browser
def stop_is_within_reach_on_a_phone():
    b = browser(suite.stub(), width=390, height=844)
    long_job(b)
    b.js("document.getElementById('settings').open = true; scrollTo(0, document.body.scrollHeight)")
    box = b.js("const r = document.getElementById('stop').getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]")
    check(box[0] >= 0 and box[1] >= 0 and box[2] <= 390 and box[3] <= 844, box)
    b.tap("#stop")
    b.wait(DONE)


@in_browser
def each_line_runs_in_its_own_direction():
    b = browser(suite.stub())
    equal(generate(b, "tokens=1 text=a \n\u05e9\u05dc\u05d5\u05dd\n", max_tokens=1), "a")
    edges = b.js("const out = document.getElementById('output'), text = out.firstChild.firstChild, range = document.createRange();"
                 "const box = (from, to) => { range.setStart(text, from); range.setEnd(text, to); return range.getBoundingClientRect(); };"
                 "const all = out.getBoundingClientRect(); return [box(0, 5).left - all.left, all.right - box(17, 21).right]")
    check(max(edges) < 2 and min(edges) > -2, edges)


@in_browser
def nothing_moves_for_who_does_not_want_it():
    moving = "return document.getAnimations().length"
    for still in (False, True):
        b = browser(suite.stub(), still=still)
        long_job(b)
        equal(b.js(moving) > 0, not still)
        b.press("Escape")
        b.wait(DONE)


@in_browser
def a_hidden_page_asks_less_often():
    b = browser(suite.stub())
    b.js("window.asked = 0; const f = fetch; window.fetch = (...a) => { asked += a[0].endsWith('/health'); return f(...a); };"
         "Object.defineProperty(document, 'hidden', {get: () => window.away})")
    b.wait("asked >= 1")
    b.js("window.away = true; window.asked = 0")
    time.sleep(2.2)
    within(b.js("return asked"), 0, 1)
    b.js("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    b.wait("asked >= 2")


status = suite.run()
if Shared.browser is not None:
    Shared.browser.close()
shutil.rmtree(FOLDER)
sys.exit(status)
