#!/usr/bin/env python3
"""GET /metrics: every line by a strict reader (exposition.py), every count against what was done, the documents and files in
deploy/ against the page, and real programs of Prometheus, which scrape a worker and answer questions about it."""
# Runs beside others: nothing here measures time.
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from exposition import FormatError, Scrape
from harness import LIMIT, ROOT, STUB, JSON, Suite, Skip, Worker, body_of, check, clean_environment, equal, free_port, \
    sanitized, small_pipe, within

suite = Suite()
FOLDER = tempfile.mkdtemp(prefix="llorch-metrics-")
KEY = "metrics-key-0123456789"
BEARER = {"Authorization": "Bearer " + KEY}
PROMETHEUS = os.path.join(ROOT, "deploy", "prometheus")
DASHBOARD = os.path.join(ROOT, "deploy", "grafana", "llorch-cpud.json")


def key_file():
    path = os.path.join(FOLDER, "key")
    if not os.path.exists(path):
        with open(path, "w", encoding="ascii") as file:
            file.write(KEY + "\n")
        os.chmod(path, 0o600)
    return path


def guarded():
    return suite.worker("guarded", "--api-key-file", key_file(), stub=True)


def fetch(w, headers=None):
    status, answer_headers, body = w.request("GET", "/metrics", headers=headers)
    equal((status, answer_headers["content-type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
    return body


def scrape(w, headers=None):
    return Scrape(fetch(w, headers))


def wait_for(probe, what, limit=LIMIT):
    end = time.monotonic() + limit
    while True:
        value = probe()
        if value:
            return value
        check(time.monotonic() < end, "never came: %s" % what)
        time.sleep(0.02)


def settled(w):
    """The page once nothing runs or waits."""
    def probe():
        page = scrape(w)
        idle = page.value("llorch_requests_running") + page.value("llorch_requests_waiting") == 0
        return page if idle else None
    return wait_for(probe, "an idle worker")


def changes(before, after, *families):
    """{last label value: difference} of all samples of these families that changed."""
    found = {}
    for (name, labels), value in after.samples.items():
        if name in families and value != before.samples[(name, labels)]:
            found[labels[-1][1]] = value - before.samples[(name, labels)]
    return found


JOBS = ("llorch_requests_total", "llorch_requests_rejected_total")


# --- the page ---


@suite.test
def every_line_of_a_fresh_and_of_a_used_worker_is_well_formed():
    w = suite.real()
    fresh = scrape(w)
    w.run(prompt="To be", max_tokens=20)
    used = settled(w)
    equal(list(used.families), list(fresh.families))
    equal(list(used.samples), list(fresh.samples))  # no series comes later: rate() sees each first increase
    check(len(used.text) < 16384, "%d bytes" % len(used.text))


@suite.test
def every_line_is_well_formed_while_starting_busy_and_draining():
    w = Worker(stub=True, ready=False, env={"STUB_LOAD_MS": 60000})
    page = scrape(w)
    equal(page.value("llorch_state", state="starting"), 1)
    check("llorch_model_info" not in page.families, "a model that still loads is known already")
    before = page
    equal(w.request("POST", "/execute", body_of())[0], 503)
    equal(changes(before, scrape(w), *JOBS), {"starting": 1})
    equal(w.stop(), 0)
    with Worker(stub=True) as w:
        stream = w.start(prompt="tokens=1000 delay=5", max_tokens=1000)
        page = scrape(w)
        equal([page.value("llorch_state", state=s) for s in ("starting", "ready", "busy", "draining")], [0, 0, 1, 0])
        waiting = w.execute()
        waiting.wait_headers()
        equal(scrape(w).value("llorch_requests_waiting"), 1)
        w.signal(15)
        w.wait_log("Shutting down")
        page = scrape(w)
        equal([page.value("llorch_state", state=s) for s in ("starting", "ready", "busy", "draining")], [0, 0, 0, 1])
        equal(page.value("llorch_requests_total", api="execute", outcome="shutdown"), 1)  # the one that waited
        equal(page.value("llorch_requests_running"), 1)
        before = page
        equal(w.request("POST", "/execute", body_of())[0], 503)
        equal(changes(before, scrape(w), *JOBS), {"draining": 1})
        stream.close()


@suite.test
def the_strict_reader_is_strict():
    """Each of these is refused, so that the cases above mean something."""
    good = b"# HELP a_total Help.\n# TYPE a_total counter\na_total{x=\"1\"} 2\na_total{x=\"2\"} 0.5\n"
    equal(Scrape(good).value("a_total", x="2"), 0.5)
    histogram = (b"# HELP h_seconds Help.\n# TYPE h_seconds histogram\nh_seconds_bucket{le=\"1\"} 2\n"
                 b"h_seconds_bucket{le=\"+Inf\"} 3\nh_seconds_sum 4\nh_seconds_count 3\n")
    equal(Scrape(histogram).buckets("h_seconds"), [(1.0, 2.0), (float("inf"), 3.0)])
    for text, old, new in [
            (good, b" 0.5\n", b" 0.5"), (good, b" 0.5", b" NaN"), (good, b" 0.5", b" +Inf"), (good, b" 0.5", b" -1"),
            (good, b" 0.5", b" 1e3"), (good, b" 0.5", b" 0.5 123"), (good, b" 0.5", b"  0.5"),
            (good, b"{x=\"2\"}", b"{x=\"1\"}"), (good, b"{x=\"2\"}", b"{y=\"2\"}"), (good, b"{x=\"2\"}", b"{x=\"\\t\"}"),
            (good, b"{x=\"2\"}", b"{x=\"2\",}"), (good, b"{x=\"2\"}", b"{x=\"2}"), (good, b"{x=\"2\"}", b"{x=2}"),
            (good, b"a_total", b"a:total"), (good, b"a_total", b"a_ms_total"), (good, b"a_total", b"a_count"),
            (good, b"counter", b"gauge"), (good, b"counter", b"summary"), (good, b"# TYPE a_total counter\n", b""),
            (good, b"# HELP a_total Help.\n", b""), (good, b"2\na", b"2\r\na"), (good, b"2\na", b"2\n\na"), (good, b"Help.", b"Help"),
            (good, b"a_total{x=\"2\"}", b"b_total{x=\"2\"}"), (good + good, b"x", b"x"), (good, b"\"1\"", b"\"\xff\""),
            (histogram, b"} 3", b"} 4"), (histogram, b"} 2", b"} 5"), (histogram, b"_sum 4", b"_sum 0.5"),
            (histogram, b"h_seconds_sum 4\n", b""), (histogram, b"h_seconds_bucket{le=\"+Inf\"} 3\n", b"")]:
        check(old in text, old)
        changed = text.replace(old, new)  # the family given twice stays as it is
        try:
            Scrape(changed)
        except (FormatError, KeyError, UnicodeDecodeError):
            continue
        raise AssertionError("accepted: %r" % changed)


@suite.test
def HEAD_has_the_length_and_other_methods_are_405():
    w = suite.stub()
    status, headers, body = w.request("HEAD", "/metrics")
    equal((status, headers["content-type"], body), (200, "text/plain; version=0.0.4; charset=utf-8", b""))
    within(int(headers["content-length"]), 5000, 16384)
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        status, headers, _ = w.request(method, "/metrics")
        equal((status, headers["allow"]), (405, "GET, HEAD"))
    equal(w.request("GET", "/metrics?x=1", headers={"Accept": "application/openmetrics-text", "Accept-Encoding": "gzip"})[0], 200)


@suite.test
def with_keys_it_needs_one():
    w = guarded()
    equal(w.request("GET", "/metrics")[0], 401)
    equal(w.request("HEAD", "/metrics")[0], 401)
    equal(w.request("GET", "/metrics", headers={"Authorization": "Bearer x" + KEY})[0], 401)
    page = scrape(w, BEARER)
    check(KEY not in page.text, "the key is in it")
    equal(w.get("/health")[0], 200)


@suite.test
def names_of_models_and_workers_are_escaped():
    name, worker_id = 'a "b" \\c\\\n\u20ac {x="1"} \udcff', 'w"\\\n'
    with Worker("--model-name", name, "--worker-id", worker_id, stub=True) as w:
        page = scrape(w)
    equal(page.labels("llorch_model_info")["model"], name.replace("\udcff", "\ufffd"))
    equal(page.labels("llorch_worker_info"), {"worker_id": worker_id})


@suite.test
def the_model_and_the_program_are_named():
    w = suite.real()
    page, health = scrape(w), w.get("/health")[1]
    info = page.labels("llorch_model_info")
    equal((info["model"], info["type"]), (health["model"], health["quant_kind"]))
    check(info["isa"] in ("avx2", "scalar") and re.match("[0-9a-f]{16}$", info["weights"]), info)
    with open(os.path.join(ROOT, "VERSION"), encoding="ascii") as file:
        equal(info["version"], file.read().strip())
    equal(page.labels("llorch_build_info")["version"], info["version"])
    equal(page.value("llorch_context_tokens"), health["context_length"])
    equal(page.value("llorch_memory_bytes"), health["memory_bytes"])
    check(page.value("llorch_weights_bytes") < page.value("llorch_memory_bytes"), "the weights are a part of the memory")
    equal(page.value("llorch_queue_limit"), health["queue_limit"])


# --- what is counted ---


@suite.test
def a_job_counts_what_its_end_event_says():
    with Worker() as w:
        before = scrape(w)
        ends = [w.run(prompt=prompt, max_tokens=n)[-1].data for prompt, n in
                [("To be, or not", 30), ("To be, or not to be, that", 1), ("What news?", 12)]]
        page = settled(w)
    check(ends[1]["cached_tokens"] > 0, "nothing was in the cache")
    for name, field in [("llorch_prompt_tokens_total", "prompt_tokens"), ("llorch_prompt_cached_tokens_total", "cached_tokens"),
                        ("llorch_generation_tokens_total", "tokens_out")]:
        equal(page.value(name), sum(end[field] for end in ends), name)
    equal(changes(before, page, *JOBS), {"length": 3})
    for name in ("queue", "prefill", "time_to_first_token", "request"):
        equal(page.value("llorch_%s_seconds_count" % name), 3, name)
    equal(page.value("llorch_inter_token_seconds_count"), sum(end["tokens_out"] - 1 for end in ends))
    # first token - its turn, and the speed of decoding, told by two parts of the program
    within(page.value("llorch_prefill_seconds_sum") * 1000, sum(end["time_to_first_token_ms"] for end in ends) - 0.01,
           sum(end["time_to_first_token_ms"] + 1 for end in ends))
    seconds = sum((end["tokens_out"] - 1) / end["tokens_per_sec"] for end in ends if end["tokens_out"] > 1)
    within(page.value("llorch_inter_token_seconds_sum"), seconds * 0.99, seconds * 1.01)
    within(page.value("llorch_queue_seconds_sum") + page.value("llorch_prefill_seconds_sum") -
           page.value("llorch_time_to_first_token_seconds_sum"), -1e-9, 1e-9)
    check(page.value("llorch_request_seconds_sum") >= page.value("llorch_time_to_first_token_seconds_sum") +
          page.value("llorch_inter_token_seconds_sum") - 1e-9, "a request is as long as its tokens at least")


@suite.test
def durations_fall_into_their_buckets():
    """Tokens of 12 ms or more, and a prompt of 30: nothing below, all of it above."""
    with Worker(stub=True) as w:
        w.run(prompt="tokens=6 delay=12 prompt=30", max_tokens=6)
        page = settled(w)
    equal([n for bound, n in page.buckets("llorch_inter_token_seconds") if bound <= 0.01], [0] * 6)
    equal(page.buckets("llorch_inter_token_seconds")[-1][1], 5)
    for name in ("prefill", "time_to_first_token"):
        equal({n for bound, n in page.buckets("llorch_%s_seconds" % name) if bound <= 0.025}, {0.0})
        equal(page.value("llorch_%s_seconds_count" % name), 1)
    equal({n for bound, n in page.buckets("llorch_request_seconds") if bound <= 0.1}, {0.0})


@suite.test
def a_scrape_in_the_middle_of_a_job_shows_it():
    with Worker(stub=True, env={"STUB_N_CTX": 200}) as w:
        stream = w.start(prompt="tokens=150 delay=10 eins zwei", max_tokens=150)
        waiting = w.execute(prompt="tokens=1")
        waiting.wait_headers()
        first = scrape(w)
        equal((first.value("llorch_requests_running"), first.value("llorch_requests_waiting")), (1, 1))
        equal(first.value("llorch_prompt_tokens_total"), 4)
        for _ in range(3):
            stream.next_named("token")
        second = scrape(w)
        done = [page.value("llorch_generation_tokens_total") for page in (first, second)]
        within(done[1] - done[0], 3, 150)
        # the prompt's positions, and those of all tokens but the last
        equal(second.value("llorch_kv_cache_usage_ratio"), (4 + done[1] - 1) / 200)
        equal(second.value("llorch_inter_token_seconds_count"), done[1] - 1)
        equal(second.value("llorch_queue_seconds_count"), 1)
        equal(second.value("llorch_request_seconds_count"), 0)
        stream.close()
        waiting.collect()
        page = settled(w)
        equal(page.value("llorch_kv_cache_usage_ratio"), 0)
        equal(page.value("llorch_queue_seconds_count"), 2)


@suite.test
def scrapes_during_a_job_change_nothing_of_it():
    w = suite.real()
    fields = {"prompt": "Now is the winter", "max_tokens": 200, "temperature": 0.9, "seed": 7}
    want = [e.data["t"] for e in w.run(**fields) if e.name == "token"]
    stream = w.execute(**fields)
    for _ in range(10):
        scrape(w)
    equal([e.data["t"] for e in stream.collect() if e.name == "token"], want)


def stop_at_token(w):
    return w.run(prompt="tokens=2 end=stop", max_tokens=9, stop=["xyz"])


def cancel_running(w):
    stream = w.start(job_id="c", prompt="tokens=1000 delay=5", max_tokens=1000)
    w.cancel("c")
    stream.collect()


def leave(w):
    w.start(prompt="tokens=1000 delay=5", max_tokens=1000).close()


def in_line(w, act):
    """act with a job that waits; the one that runs ends by itself."""
    running = w.start(prompt="tokens=30 delay=10", max_tokens=30)
    waiting = w.execute(job_id="w", prompt="tokens=1")
    waiting.wait_headers()
    act(w, waiting)
    equal(running.collect()[-1].name, "end")


for name, act, want in [
        ("max_tokens", lambda w: w.run(prompt="tokens=9", max_tokens=3), {"length": 1}),
        ("end of text", lambda w: w.run(prompt="tokens=2 end=eos", max_tokens=9), {"stop": 1}),
        ("a stop string", stop_at_token, {"stop": 1}),
        ("POST /cancel", cancel_running, {"cancelled": 1}),
        ("POST /cancel in line", lambda w: in_line(w, lambda w, s: w.cancel("w")), {"cancelled": 1, "length": 1}),
        ("POST /cancel of no job", lambda w: w.cancel("nobody"), {}),
        ("a client that leaves", leave, {"disconnected": 1}),
        ("a client that leaves in line", lambda w: in_line(w, lambda w, s: s.close()), {"disconnected": 1, "length": 1}),
        ("the time limit", lambda w: w.run(prompt="tokens=2000 delay=50", max_tokens=2000), {"timeout": 1}),
        ("logits that are not finite", lambda w: w.run(prompt="tokens=2 fail=numeric", max_tokens=9), {"failed": 1}),
        ("no memory", lambda w: w.run(prompt="tokens=2 fail=memory", max_tokens=9), {"failed": 1}),
        ("a backend that refuses to start", lambda w: w.run(prompt="fail=start"), {"failed": 1})]:
    @suite.case("counted once: " + name, act, want)
    def check_outcome(act, want):
        w = suite.worker("limited", "--inference-timeout-sec", "1", stub=True)
        before = settled(w)
        act(w)
        after = settled(w)
        equal(changes(before, after, *JOBS), want)
        equal(after.value("llorch_request_seconds_count") - before.value("llorch_request_seconds_count"), sum(want.values()))


def of_api(page, api):
    """{outcome: count} without zeros."""
    return {dict(labels)["outcome"]: value for (name, labels), value in page.samples.items()
            if name == "llorch_requests_total" and dict(labels)["api"] == api and value}


@suite.test
def a_completion_is_one_request_whatever_number_of_texts_it_has():
    with Worker(stub=True) as w:
        for body, want in [({"prompt": "tokens=3 a", "max_tokens": 3}, 3), ({"prompt": ["tokens=2", "tokens=4 b c"], "n": 2}, 12)]:
            before = settled(w)
            status, _, answer = w.request("POST", "/v1/completions", body)
            equal(status, 200, answer)
            usage = json.loads(answer)["usage"]
            equal(usage["completion_tokens"], want)
            texts = body.get("n", 1)
            page = settled(w)
            equal(changes(before, page, *JOBS), {"length": 1})
            equal(page.value("llorch_generation_tokens_total") - before.value("llorch_generation_tokens_total"), want)
            equal(page.value("llorch_prompt_tokens_total") - before.value("llorch_prompt_tokens_total"), texts * usage["prompt_tokens"])
            for name in ("queue", "prefill", "time_to_first_token", "request"):
                equal(page.value("llorch_%s_seconds_count" % name) - before.value("llorch_%s_seconds_count" % name), 1, name)
        equal((of_api(page, "completions"), of_api(page, "execute")), ({"length": 2}, {}))
        # 2 intervals, and 1 + 1 + 3 + 3: none between two texts
        equal(page.value("llorch_inter_token_seconds_count"), 2 + 8)
        before = page
        equal(w.request("POST", "/v1/completions", {"prompt": 1.5})[0], 400)
        equal(w.request("POST", "/v1/completions", b"{}", {"Content-Type": "text/plain"})[0], 415)
        equal(w.request("POST", "/v1/completions", {"prompt": "a", "model": "another"})[0], 404)
        equal(changes(before, scrape(w), *JOBS), {"invalid": 3})


def post(w, body, headers=None):
    return w.request("POST", "/execute", body, JSON if headers is None else headers)[0]


for name, act, status, want in [
        ("no JSON", lambda w: post(w, b"{"), 400, {"invalid": 1}),
        ("wrong types", lambda w: post(w, b"{}"), 422, {"invalid": 1}),
        ("out of range", lambda w: post(w, json.dumps(body_of(max_tokens=0)).encode()), 400, {"invalid": 1}),
        ("another Content-Type", lambda w: post(w, b"{}", {"Content-Type": "text/plain"}), 415, {"invalid": 1}),
        ("too large", lambda w: post(w, b"", dict(JSON, **{"Content-Length": "99999999"})), 413, {"invalid": 1}),
        ("GET /execute", lambda w: w.request("GET", "/execute")[0], 405, {}),
        ("POST /cancel without an id", lambda w: w.request("POST", "/cancel", {})[0], 422, {}),
        ("an unknown path", lambda w: w.request("POST", "/nothing", {})[0], 404, {})]:
    @suite.case("turned away: %s: %s" % (name, want or "is no job"), act, status, want)
    def check_rejected(act, status, want):
        w = suite.stub()
        before = settled(w)
        equal(act(w), status)
        after = settled(w)
        equal(changes(before, after, *JOBS), want)
        equal(changes(before, after, "llorch_http_responses_total"), {"200": 1, str(status): 1})  # and the scrape before


@suite.test
def turned_away_with_a_full_queue():
    with Worker("--queue", "1", stub=True) as w:
        running = w.start(prompt="tokens=1000 delay=5", max_tokens=1000)
        waiting = w.execute()
        waiting.wait_headers()
        before = scrape(w)
        equal([post(w, json.dumps(body_of()).encode()) for _ in range(3)], [503] * 3)
        equal(changes(before, scrape(w), *JOBS), {"queue_full": 3})
        running.close()
        waiting.collect()


@suite.test
def turned_away_without_a_key():
    w = guarded()
    before = scrape(w, BEARER)
    for path in ("/execute", "/metrics", "/nothing"):
        equal(w.request("POST", path, {})[0], 401)
    equal(w.get("/health")[0], 200)
    after = scrape(w, BEARER)
    equal(changes(before, after, *JOBS), {"unauthorized": 3})
    equal(changes(before, after, "llorch_http_responses_total"), {"200": 2, "401": 3})


@suite.test
def no_counter_ever_goes_down():
    with Worker("--queue", "4", stub=True) as w:
        before, streams = scrape(w), []
        for i in range(12):
            streams += [w.execute(job_id="j%d" % i, prompt=["tokens=3", "tokens=2 fail=numeric", "tokens=300 delay=1"][i % 3],
                                  max_tokens=300)]
            if i % 3 == 2:
                w.cancel("j%d" % i)
            if i % 4 == 3:
                streams.pop().close()
            page = scrape(w)
            for key, value in page.counters().items():
                check(value >= before.samples[key], "%s %s fell from %s to %s" % (*key, before.samples[key], value))
            before = page
        for stream in streams:
            stream.rest()
        page = settled(w)
        total = sum(v for (name, _), v in page.samples.items() if name in JOBS)
        equal(total, 12)  # each of them counted, and once


@suite.test
def connections_and_lost_log_lines():
    port, (read, write) = free_port(), small_pipe(16384)
    process = subprocess.Popen([STUB, "--port", str(port), "--model", "m"], stderr=write, env=clean_environment())
    os.close(write)
    try:
        class Unread:  # a worker whose log nobody reads
            request, execute = Worker.request, Worker.execute
        w = Unread()
        w.port = port
        wait_for(lambda: not refused(port), "a listener")
        wait_for(lambda: scrape(w).value("llorch_state", state="ready"), "a ready worker")
        equal(scrape(w).value("llorch_log_lines_lost_total"), 0)
        for _ in range(60):
            w.execute(job_id="x" * 200, prompt="tokens=1").collect()
        check(settled(w).value("llorch_log_lines_lost_total") > 0, "no line was lost")
        kept = [http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT) for _ in range(5)]
        for connection in kept:
            connection.request("GET", "/live")
            connection.getresponse().read()
        wait_for(lambda: scrape(w).value("llorch_http_connections") == 6, "five connections and the one that asks")
        for connection in kept:
            connection.close()
    finally:
        os.close(read)
        process.terminate()
        equal(process.wait(LIMIT), 0)


def refused(port):
    try:
        http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT).connect()
    except ConnectionRefusedError:
        return True
    return False


def proc(w, path):
    with open("/proc/%s/%s" % (w.pid, path), encoding="ascii") as file:
        return file.read()


@suite.test
def the_process_is_what_the_system_says_of_it():
    with Worker() as w:
        connection = http.client.HTTPConnection("127.0.0.1", w.port, timeout=LIMIT)
        connection.request("GET", "/metrics")
        page = Scrape(connection.getresponse().read())
        fds = len(os.listdir("/proc/%d/fd" % w.pid))  # the connection is among them
        stat = proc(w, "stat").rsplit(") ", 1)[1].split()
        connection.close()
        ticks = os.sysconf("SC_CLK_TCK")
        equal(page.value("process_threads"), 1)
        some = 1 << 20  # buffers of the answer come and go, and pages while the worker is idle
        within(page.value("process_virtual_memory_bytes"), int(stat[20]) - some, int(stat[20]) + some)
        resident = int(stat[21]) * os.sysconf("SC_PAGESIZE")
        within(page.value("process_resident_memory_bytes"), resident - 8 * some, resident + some)
        within(page.value("process_cpu_seconds_total"), 0.0001, (int(stat[11]) + int(stat[12]) + 2) / ticks)
        equal(page.value("process_max_fds"), int(re.search(r"Max open files +(\d+)", proc(w, "limits")).group(1)))
        equal(page.value("process_open_fds"), fds)
        boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        within(page.value("process_start_time_seconds"), boot + int(stat[19]) / ticks - 1, time.time())
        w.run(prompt="To be", max_tokens=100)
        again = scrape(w)
    check(again.value("process_cpu_seconds_total") > page.value("process_cpu_seconds_total"), "no CPU time for 100 tokens")
    equal(again.value("process_start_time_seconds"), page.value("process_start_time_seconds"))


# --- documents ---


@suite.test
def the_table_in_docs_is_the_page():
    """Names, types, labels and help: both ways."""
    with open(os.path.join(ROOT, "docs", "metrics.md"), encoding="utf-8") as file:
        rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ?([^|]*)\| ([^|]+) \|$", file.read(), re.MULTILINE)
    page = scrape(suite.stub())
    labels = {}
    for (name, pairs), _ in page.samples.items():
        labels.setdefault(name, set()).update(key for key, _ in pairs)
    want = {(name, kind, tuple(sorted(re.findall(r"`(\w+)`", keys)))) for name, kind, keys, _ in rows}
    got = {(name, kind, tuple(sorted(labels.get(name, ())))) for name, kind in page.families.items()}
    equal(sorted(got - want), [], "on the page and not in docs/metrics.md")
    equal(sorted(want - got), [], "in docs/metrics.md and not on the page")
    equal(len(rows), len(want))
    with open(os.path.join(ROOT, "docs", "metrics.md"), encoding="utf-8") as file:
        text = file.read()
    for key, values in (("outcome", None), ("reason", None), ("api", None), ("state", None)):
        values = {dict(pairs)[key] for _, pairs in page.samples if key in dict(pairs)}
        check(values, key)
        for value in values:
            check("`%s`" % value in text, "docs/metrics.md does not say what %s %s is" % (key, value))


# --- what is in deploy/ ---


def dashboard():
    with open(DASHBOARD, encoding="utf-8") as file:
        return json.load(file)


def expressions(panels):
    """[(where, expression)], as Grafana would send them."""
    for panel in panels:
        yield from expressions(panel.get("panels", []))
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")


def rules():
    """[(alert, expression)]: this file of ours holds each expression on one line."""
    with open(os.path.join(PROMETHEUS, "alerts.yml"), encoding="utf-8") as file:
        text = file.read()
    found = re.findall(r"^      - alert: (\w+)\n        expr: (.+)$", text, re.MULTILINE)
    equal(len(found), text.count("alert:"))
    return found


@suite.test
def the_dashboard_is_one_that_grafana_10_imports():
    board = dashboard()
    within(board["schemaVersion"], 36, 39)
    check("id" not in board or board["id"] is None, "an id of some database")
    equal((board["uid"], board["title"]), ("llorch-cpud", "llorch-cpud"))
    variables = {v["name"]: v for v in board["templating"]["list"]}
    equal((variables["datasource"]["type"], variables["datasource"]["query"]), ("datasource", "prometheus"))
    equal((variables["instance"]["type"], variables["instance"]["allValue"]), ("query", ".*"))
    panels = board["panels"]
    equal(len({p["id"] for p in panels}), len(panels))
    taken = set()
    for panel in panels:
        box = panel["gridPos"]
        check(panel["title"] and box["x"] + box["w"] <= 24, panel)
        cells = {(x, y) for x in range(box["x"], box["x"] + box["w"]) for y in range(box["y"], box["y"] + box["h"])}
        check(not cells & taken, "%s lies on another panel" % panel["title"])
        taken |= cells
        if panel["type"] == "row":
            continue
        check(panel["description"] and panel["targets"] and panel["fieldConfig"]["defaults"]["unit"], panel["title"])
        check(len(panel["targets"]) == 1 or all(t["legendFormat"] for t in panel["targets"]), "%s: series without a name" % panel["title"])
        check(panel["type"] != "timeseries" or all(t["legendFormat"] for t in panel["targets"]), panel["title"])
        equal(len({t["refId"] for t in panel["targets"]}), len(panel["targets"]))
        for source in [panel["datasource"]] + [t["datasource"] for t in panel["targets"]]:
            equal(source, {"type": "prometheus", "uid": "${datasource}"})
    check({"timeseries", "stat", "heatmap", "table", "row"} == {p["type"] for p in panels}, "kinds of panels")


def named(expression):
    """Names of metrics in an expression, once what stands in quotes, braces and by (...) is gone."""
    bare = re.sub(r"\{[^}]*\}", "", expression)
    bare = re.sub(r"\b(by|on|group_left|without|ignoring) *\([^)]*\)", "", bare)
    return set(re.findall(r"\b((?:llorch|process)_\w+)", bare))


@suite.test
def every_metric_in_deploy_and_docs_exists():
    page = scrape(suite.stub())
    known = set(page.families) | {name for name, _ in page.samples}
    used = set()
    for where, expression in list(expressions(dashboard()["panels"])) + rules() + queries():
        used |= named(expression)
        check(named(expression) <= known, "%s: %s" % (where, sorted(named(expression) - known)))
    # and what is counted is shown: only what never changes may be missing
    missing = set(page.families) - {name for name in page.families if any(u.startswith(name) for u in used)}
    equal(missing, {"llorch_build_info", "llorch_context_tokens", "llorch_weights_bytes", "llorch_memory_bytes",
                    "process_virtual_memory_bytes", "process_threads"} & missing)


def queries():
    """[(where, expression)] of the code blocks in docs/metrics.md."""
    with open(os.path.join(ROOT, "docs", "metrics.md"), encoding="utf-8") as file:
        blocks = re.findall(r"^```promql\n(.*?)^```", file.read(), re.DOTALL | re.MULTILINE)
    found = []
    for block in blocks:
        for query in block.strip().split("\n\n"):
            found.append(("docs/metrics.md", " ".join(line for line in query.splitlines() if not line.startswith("#"))))
    check(len(found) >= 8, "%d queries" % len(found))
    return found


# --- the real Prometheus ---


def tool(name):
    if sanitized():
        raise Skip("%s: a program of others, which sees the same page without sanitizers" % name)
    path = shutil.which(name)
    if path is None:
        raise Skip("%s is not installed (Debian: prometheus)" % name)
    return path


def promtool(*args, data=b"", cwd=PROMETHEUS):
    done = subprocess.run([tool("promtool"), *args], input=data, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=LIMIT, check=False)
    return done.returncode, done.stdout.decode("utf-8", "replace")


@suite.test
def promtool_check_metrics_has_no_complaint():
    tool("promtool")
    w = suite.real()
    w.run(prompt="To be", max_tokens=5)
    odd = Worker("--model-name", 'a "b" \\c\n\u20ac\udcff', stub=True)
    pages = [fetch(w), fetch(odd)]
    odd.stop()
    with Worker(stub=True, ready=False, env={"STUB_LOAD_MS": 60000}) as starting:
        pages.append(fetch(starting))
    for page in pages:
        equal(promtool("check", "metrics", data=page), (0, ""))
    check(promtool("check", "metrics", data=b"# TYPE a counter\na 1\n")[0] != 0, "it has no complaint about anything")


@suite.test
def promtool_accepts_configuration_and_rules():
    status, text = promtool("check", "config", "prometheus.yml")
    equal(status, 0, text)
    status, text = promtool("check", "rules", "alerts.yml")
    equal(status, 0, text)
    check("%d rules found" % len(rules()) in text, text)
    status, text = promtool("test", "rules", "alerts_test.yml")
    equal(status, 0, text)


@suite.test
def every_alert_is_tested():
    with open(os.path.join(PROMETHEUS, "alerts_test.yml"), encoding="utf-8") as file:
        quiet, loud = file.read().split("everything fires")
    equal(sorted(re.findall(r"alertname: (\w+)\}", quiet)), sorted(alert for alert, _ in rules()))
    # all fire at once there, and promtool counts them
    check("count(ALERTS{alertstate=\"firing\"})\n" in loud and "            value: %d\n" % len(rules()) in loud, "the count")


class Prometheus:
    """The program itself with the configuration of deploy/, but for ports, key and seconds."""

    def __init__(self, open_worker, closed_worker):
        self.folder = tempfile.mkdtemp(prefix="prometheus-", dir=FOLDER)
        shutil.copy(os.path.join(PROMETHEUS, "alerts.yml"), self.folder)
        with open(os.path.join(PROMETHEUS, "prometheus.yml"), encoding="utf-8") as file:
            text = file.read()
        for old, new in [("scrape_interval: 5s", "scrape_interval: 500ms"), ("scrape_timeout: 4s", "scrape_timeout: 500ms"),
                         ("evaluation_interval: 15s", "evaluation_interval: 500ms"),
                         ("127.0.0.1:3000", "127.0.0.1:%d" % open_worker.port)]:
            check(old in text, old)
            text = text.replace(old, new)
        # the lines on keys that the example has as a comment, for a second group of workers
        lines = [line.replace("    # ", "    ", 1) for line in text.splitlines() if re.match(r"    # +credentials_file|    # auth", line)]
        equal(len(lines), 2)
        text += "  - job_name: guarded\n    static_configs:\n      - targets: [\"127.0.0.1:%d\"]\n%s\n" % (
            closed_worker.port, "\n".join(lines).replace("/etc/prometheus/llorch-api-key", key_file()))
        with open(os.path.join(self.folder, "prometheus.yml"), "w", encoding="utf-8") as file:
            file.write(text)
        self.port = free_port()
        self.log = open(os.path.join(self.folder, "log"), "wb")  # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            [tool("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=" + os.path.join(self.folder, "data"),
             "--web.listen-address=127.0.0.1:%d" % self.port],
            cwd=self.folder, stdout=self.log, stderr=self.log, env=clean_environment())

    def api(self, path, **parameters):
        url = "http://127.0.0.1:%d/api/v1/%s?%s" % (self.port, path, urllib.parse.urlencode(parameters))
        try:
            with urllib.request.urlopen(url, timeout=LIMIT) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError("%s: %s" % (parameters, error.read().decode())) from error
        equal(answer["status"], "success", answer)
        return answer["data"]

    def query(self, expression):
        """[(labels, value)]"""
        return [(r["metric"], float(r["value"][1])) for r in self.api("query", query=expression)["result"]]

    def value(self, expression):
        found = self.query(expression)
        return found[0][1] if len(found) == 1 else None

    def up(self):
        check(self.process.poll() is None, "Prometheus ended")
        try:
            return self.value("sum(up)") == 2
        except (OSError, AssertionError):
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait(LIMIT)
        self.log.close()


def check_numbers(p, ends):
    """What was done stands in the database."""
    wait_for(lambda: p.value('sum(llorch_requests_total{job="llorch"})') == len(ends) + 1, "all jobs counted")
    for expression, want in [
            ("sum(llorch_generation_tokens_total)", sum(end["tokens_out"] for end in ends) + p.cancelled_tokens),
            ('sum(llorch_requests_total{outcome="length"})', len(ends)),
            ('sum by (outcome) (llorch_requests_total) == 1', 1),
            ('llorch_requests_rejected_total{reason="invalid"} > 0', 1),
            ('count(llorch_state == 1)', 2), ("sum(llorch_requests_running)", 0),
            ('llorch_time_to_first_token_seconds_count{job="llorch"}', len(ends) + 1),
            ('llorch_inter_token_seconds_bucket{job="llorch", le="+Inf"} - '
             'on (instance) llorch_inter_token_seconds_count{job="llorch"}', 0),
            ('count(count by (model) (llorch_model_info{version!=""}))', 2)]:
        wait_for(lambda e=expression, w=want: p.value(e) == w, "%s == %s" % (expression, want))
    within(p.value('histogram_quantile(0.5, llorch_inter_token_seconds_bucket{job="llorch"})'), 0.005, 1)  # 5 or 12 ms a token
    within(p.value('sum(increase(llorch_generation_tokens_total{job="llorch"}[1m]))'), 1, 1e4)


def check_everything_parses(p):
    """The dashboard's, the alerts' and the document's expressions, asked of the real thing."""
    names = set(p.api("label/__name__/values"))
    answered = 0
    for where, expression in list(expressions(dashboard()["panels"])) + rules() + queries():
        answered += bool(p.query(expression))
        check(named(expression) <= names, "%s: %s" % (where, sorted(named(expression) - names)))
    check(answered >= 35, "only %d expressions had an answer" % answered)
    groups = wait_for(lambda: [r for g in p.api("rules")["groups"] for r in g["rules"]], "rules")
    equal(len(groups), len(rules()))
    wait_for(lambda: all(r["health"] == "ok" for g in p.api("rules")["groups"] for r in g["rules"]), "rules that were evaluated")


class Scraped:
    """Two workers, one that asks for a key, and Prometheus: it scrapes nothing in its first 5 s, so it is started before all cases
    and asked in the last one."""

    def __init__(self):
        self.worker = Worker("--model-name", "m", stub=True)
        self.closed = Worker("--api-key-file", key_file(), stub=True)
        self.prometheus = Prometheus(self.worker, self.closed)

    def stop(self):
        self.prometheus.stop()
        equal((self.worker.stop(), self.closed.stop()), (0, 0))


@suite.test
def a_real_prometheus_scrapes_workers_and_answers_questions():
    tool("prometheus")
    w, p = scraped.worker, scraped.prometheus
    wait_for(p.up, "both workers scraped")
    ends = [w.run(prompt="tokens=%d delay=12" % n, max_tokens=n)[-1].data for n in (8, 5, 3)]
    stream = w.start(job_id="c", prompt="tokens=1000 delay=5", max_tokens=1000)
    wait_for(lambda: p.value("sum(llorch_requests_running)") == 1, "the running job, seen")
    wait_for(lambda: p.value('llorch_state{state="busy", job="llorch"}') == 1, "the state, seen")
    w.cancel("c")
    p.cancelled_tokens = stream.collect()[-1].data["tokens_out"]
    equal(post(w, b"{"), 400)
    wait_for(lambda: p.value('llorch_requests_rejected_total{reason="invalid", job="llorch"}') == 1, "the refusal")
    check_numbers(p, ends)
    check_everything_parses(p)
    wait_for(lambda: {t["labels"]["job"]: (t["health"], t["lastError"]) for t in p.api("targets")["activeTargets"]} ==
             {"llorch": ("up", ""), "guarded": ("up", "")}, "two healthy targets")


scraped = Scraped() if shutil.which("prometheus") and not sanitized() else None
try:
    status = suite.run()
finally:
    if scraped is not None:
        scraped.stop()
    shutil.rmtree(FOLDER)
sys.exit(status)
