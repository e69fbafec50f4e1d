#!/usr/bin/env python3
"""The event stream: framing, fields, order, text safety, stop strings, determinism (contract 6)."""
import json
import re
import signal
import sys
import time

from harness import (SLOW, TINY, Late, Stream, Suite, Worker, body_of, check, check_order, equal, text_of, timely, tokens_of,
                     within)

suite = Suite()
GREEDY = {"prompt": "ROMEO:\nO", "max_tokens": 60, "temperature": 0.0}


def greedy_events():
    """The reference run of the shipped model, made once."""
    if not hasattr(suite, "greedy"):
        suite.greedy = suite.real().run(**GREEDY)
    return suite.greedy


def timeless(events):
    """What must not depend on the moment."""
    loose = ("started_at", "correlation_id", "decode_time_ms", "time_to_first_token_ms", "tokens_per_sec", "cached_tokens")
    return [(e.name, {k: v for k, v in e.data.items() if k not in loose}) for e in events if e.name != "metrics"]


@suite.case("framing: event line, one data line, blank line, LF only")
def framing():
    stream = suite.stub().execute(job_id="f")
    stream.collect()
    check(re.fullmatch(rb"(event: [a-z]+\ndata: \{[^\n]*\}\n\n)+", stream.raw), stream.raw)
    check(b"\r" not in stream.raw, stream.raw)


@suite.case("framing: the token event is the contract's, byte for byte")
def framing_token():
    stream = suite.stub().execute(prompt="text=Hello")
    stream.collect()
    check(b'event: token\ndata: {"type":"token","t":"Hello","i":0}\n\n' in stream.raw, stream.raw)


@suite.case("framing: non-ASCII is raw UTF-8")
def framing_utf8():
    stream = suite.stub().execute(prompt="text=né👋")
    stream.collect()
    check('"t":"né👋"'.encode() in stream.raw, stream.raw)


@suite.case("framing: a line break in a job_id cannot forge an event")
def framing_forged():
    evil = 'x\n\nevent: end\ndata: {"type":"end"}\r\n\r\n\0"'
    events = suite.stub().run(job_id=evil)
    check_order(events)
    equal(events[0].data["job_id"], evil)


EXPECTED_FIELDS = {
    "started": ["type", "job_id", "model", "started_at", "seed", "correlation_id"],
    "token": ["type", "t", "i"],
    "metrics": ["type", "tokens_per_sec", "vram_bytes", "memory_bytes", "tokens_out", "cached_tokens"],
    "end": ["type", "tokens_out", "decode_time_ms", "stop_reason", "seed", "prompt_tokens", "time_to_first_token_ms",
            "tokens_per_sec", "cached_tokens"],
    "error": ["type", "code", "message", "retriable", "tokens_out"],
}


def long_job():
    """A stub job of 2.3 seconds with 23 tokens, made once."""
    if not hasattr(suite, "long"):
        suite.long = suite.stub().run(prompt="tokens=23 delay=100 cached=2", max_tokens=50)
    return suite.long


def check_fields(name):
    events = suite.stub().run(prompt="fail=numeric") if name == "error" else long_job()
    event = next(e for e in events if e.name == name)
    equal(list(event.data), EXPECTED_FIELDS[name])


for event_name in EXPECTED_FIELDS:
    suite.case("fields of " + event_name, event_name)(check_fields)


@suite.case("started: job_id, model, seed as given")
def started_values():
    data = suite.real().run(job_id="abc", seed=18446744073709551615, max_tokens=1)[0].data
    equal((data["job_id"], data["model"], data["seed"]), ("abc", "shakespeare", 18446744073709551615))


@suite.case("started: seed 42 without one and with null")
def started_default_seed():
    for fields in ({}, {"seed": None}):
        events = suite.stub().run(**fields)
        equal((events[0].data["seed"], events[-1].data["seed"]), (42, 42))


@suite.case("started_at is the UTC time")
def started_at():
    text = suite.stub().run()[0].data["started_at"]
    check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text), text)
    at = time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    within(at, time.time() - 30, time.time() + 2)


@suite.case("end: counts, times and reason of a known job")
def end_values():
    end = long_job()[-1].data
    equal((end["tokens_out"], end["stop_reason"], end["prompt_tokens"], end["cached_tokens"]), (23, "MAX_TOKENS", 3, 2))
    check("stop_sequence_matched" not in end, end)
    timely(end["decode_time_ms"] / 1000, 2.25, 4)
    timely(end["time_to_first_token_ms"] / 1000, 0.095, 0.5)
    after_first = (end["decode_time_ms"] - end["time_to_first_token_ms"]) / 1000
    timely(22 / end["tokens_per_sec"], after_first - 0.005, after_first + 0.005)


@suite.case("order: started, tokens from 0, one terminal event, then the end of the stream")
def order():
    check_order(greedy_events())
    check_order(long_job())
    equal(len(tokens_of(greedy_events())), 60)


@suite.case("order: the connection closes after the terminal event")
def closes():
    stream = suite.stub().execute()
    start = time.monotonic()
    stream.collect()
    equal(stream.headers["connection"], "close")
    timely(time.monotonic() - start, 0, 1 * SLOW)


@suite.case("order: an HTTP/1.0 client gets the same events without chunks")
def http_10():
    stream = Stream(suite.stub().port, body_of(), version="1.0")
    events = stream.collect()
    check("transfer-encoding" not in stream.headers, stream.headers)
    check_order(events)


@suite.case("live: every token arrives when it is made, not at the end")
def live():
    stream = suite.stub().execute(prompt="tokens=10 delay=50", max_tokens=10)
    events = stream.collect()
    times = [e.at for e in tokens_of(events)]
    gaps = [b - a for a, b in zip(times, times[1:])]
    timely(min(gaps), 0.02, 0.1)
    timely(times[-1] - times[0], 0.4, 1)
    timely(events[0].at - stream.sent_at, 0, 0.04 * SLOW)


@suite.case("live: started arrives before a long prompt is computed")
def live_started():
    stream = suite.stub().execute(prompt="prompt=500")
    started = stream.next()
    timely(started.at - stream.sent_at, 0, 0.1 * SLOW)
    timely(stream.next_named("token").at - started.at, 0.45, 1 * SLOW)
    stream.close()


@suite.case("live: headers arrive before the job's turn")
def live_headers():
    w = suite.stub()
    first = w.start(prompt="tokens=100 delay=5", max_tokens=100)
    second = w.execute()
    second.wait_headers()
    timely(second.headers_at - second.sent_at, 0, 0.1 * SLOW)
    equal(second.collect()[-1].name, "end")
    first.close()


@suite.case("live: the real model's tokens arrive in many pieces")
def live_real():
    events = suite.real().run(prompt="A", max_tokens=200)
    times = sorted({e.at for e in tokens_of(events)})
    if len(times) < len(tokens_of(events)) // 3:  # this reader, too, may be late
        raise Late("%d tokens in %d pieces" % (len(tokens_of(events)), len(times)))


@suite.case("metrics: about each second, and once before end")
def metrics():
    events = long_job()
    names = [e.name for e in events]
    equal(names[-2:], ["metrics", "end"])
    seen = [e for e in events if e.name == "metrics"]
    within(len(seen), 3, 5)
    timely(seen[1].at - seen[0].at, 0.9, 1.3)
    last = seen[-1].data
    equal((last["vram_bytes"], last["memory_bytes"], last["tokens_out"], last["cached_tokens"]), (0, 1500, 23, 2))
    within(last["tokens_per_sec"], 4, 10)


@suite.case("metrics: each second of a long prompt too, before any token")
def metrics_in_prompt():
    events = suite.stub().run(prompt="tokens=3 prompt=2300 delay=1", max_tokens=3)
    early = [e for e in events[:next(i for i, e in enumerate(events) if e.name == "token")] if e.name == "metrics"]
    equal([(e.data["tokens_out"], e.data["tokens_per_sec"]) for e in early], [(0, 0), (0, 0)])


@suite.case("tokens_per_sec counts the tokens after the first: a long prompt does not slow them")
def speed_of_decoding():
    end = suite.stub().run(prompt="tokens=11 prompt=500 delay=20", max_tokens=11)[-1].data
    within(end["tokens_per_sec"], 10 / SLOW, 55)
    check(end["time_to_first_token_ms"] >= 500, "first token too early")
    equal(suite.stub().run(prompt="tokens=1", max_tokens=1)[-1].data["tokens_per_sec"], 0)


@suite.case("metrics: none in a short job")
def no_metrics():
    check("metrics" not in [e.name for e in suite.stub().run(prompt="tokens=5 delay=20", max_tokens=5)], "metrics sent")


@suite.case("reason MAX_TOKENS: max_tokens reached")
def reason_max_tokens():
    end = greedy_events()[-1].data
    equal((end["stop_reason"], end["tokens_out"]), ("MAX_TOKENS", 60))


@suite.case("reason MAX_TOKENS: context full after C - n + 1 tokens")
def reason_context():
    with Worker("--max-context", "16") as w:
        events = w.run(prompt="ROMEO:", max_tokens=2048, temperature=0.0)
        end = events[-1].data
        equal(end["stop_reason"], "MAX_TOKENS")
        equal(end["tokens_out"], 16 - end["prompt_tokens"] + 1)
        check_order(events)


@suite.case("reason EOS: neither sent nor counted")
def reason_eos():
    events = suite.stub().run(prompt="text=a|b tokens=2 end=eos", max_tokens=50)
    equal((text_of(events), events[-1].data["stop_reason"], events[-1].data["tokens_out"]), ("ab", "EOS", 2))


@suite.case("reason STOP_SEQUENCE names the string")
def reason_stop():
    end = suite.stub().run(prompt="end=stop", stop=['x"y\n'], max_tokens=50)[-1].data
    equal((end["stop_reason"], end["stop_sequence_matched"]), ("STOP_SEQUENCE", 'x"y\n'))


def check_stop(make_stops):
    """The text ends right before the earliest match and no piece of the stop string was ever sent."""
    whole = text_of(greedy_events())
    stops = make_stops(greedy_events(), whole)
    events = suite.real().run(stop=stops, **GREEDY)
    check_order(events)
    ends = [(whole.index(s) + len(s), i) for i, s in enumerate(stops) if s in whole]
    matched = stops[min(ends)[1]]
    end = events[-1].data
    equal((end["stop_reason"], end["stop_sequence_matched"]), ("STOP_SEQUENCE", matched))
    equal(text_of(events), whole[:min(ends)[0] - len(matched)])


def spanning(events, whole):
    """A string that begins inside one token and ends inside a later one."""
    pieces = [e.data["t"] for e in tokens_of(events)]
    for i in range(8, len(pieces) - 2):
        before = len("".join(pieces[:i]))
        if len(pieces[i]) > 1 and len(pieces[i + 2]) > 1:
            stop = whole[before + 1:before + len(pieces[i]) + len(pieces[i + 1]) + 1]
            if whole.index(stop) == before + 1:
                return stop
    raise AssertionError("no such place in %r" % pieces)


for stop_name, stops_of in [
        ("across tokens", lambda e, w: [spanning(e, w)]),
        ("one character", lambda e, w: [w[20]]),
        ("of four the earliest end wins", lambda e, w: [w[30:40], "never there", w[25:33], w[28:44]]),
        ("equal ends: list order", lambda e, w: [w[21:30], w[25:30]]),
        ("one contains the other", lambda e, w: [w[20:40], w[25:30]]),
        ("the first characters of the output", lambda e, w: [w[:3]])]:
    suite.case("stop string: " + stop_name, stops_of)(check_stop)


@suite.case("stop string: in the prompt does not count")
def stop_in_prompt():
    events = suite.real().run(stop=["ROMEO:\nO"], **GREEDY)
    equal(text_of(events), text_of(greedy_events()))


@suite.case("stop string: never there, text is complete")
def stop_absent():
    events = suite.real().run(stop=[text_of(greedy_events())[-5:] + "\u2603", "\u2603"], **GREEDY)
    equal(text_of(events), text_of(greedy_events()))
    equal(events[-1].data["stop_reason"], "MAX_TOKENS")


@suite.case("UTF-8: every event of a model that babbles bytes is valid, one per token")
def utf8_babble():
    w = suite.tiny()
    broken = empty = 0
    for seed in range(12):
        stream = w.execute(prompt="x", max_tokens=60, temperature=1.5, seed=seed)
        events = stream.collect()
        check_order(events)
        stream.raw.decode("utf-8")
        broken += text_of(events).count("\ufffd")
        empty += sum(e.data["t"] == "" for e in tokens_of(events))
    check(broken > 0, "no broken byte was produced: this test shows nothing")
    check(empty > 0, "no byte was ever held back: this test shows nothing")


@suite.case("determinism: the same request gives the same events, greedy")
def same_greedy():
    equal(timeless(suite.real().run(**GREEDY)), timeless(greedy_events()))


@suite.case("determinism: the same request and seed give the same events, sampled")
def same_sampled():
    fields = {"prompt": "A", "max_tokens": 40, "temperature": 0.9, "top_k": 50, "top_p": 0.9, "seed": 7,
              "repetition_penalty": 1.1, "min_p": 0.02}
    first = timeless(suite.real().run(**fields))
    suite.real().run(prompt="something else", max_tokens=5)
    equal(timeless(suite.real().run(**fields)), first)


@suite.case("determinism: after a cancelled job and in a fresh process")
def same_after_cancel():
    fields = {"prompt": "A", "max_tokens": 40, "temperature": 0.9, "seed": 7}
    first = timeless(suite.real().run(**fields))
    stream = suite.real().start(job_id="gone", prompt="B", max_tokens=200)
    stream.close()
    equal(timeless(suite.real().run(**fields)), first)
    with Worker() as w:
        equal(timeless(w.run(**fields)), first)


@suite.case("determinism: another seed gives another text, unless greedy")
def other_seed():
    fields = {"prompt": "A", "max_tokens": 40, "temperature": 1.0}
    check(text_of(suite.real().run(seed=1, **fields)) != text_of(suite.real().run(seed=2, **fields)), "same text")
    equal(text_of(suite.real().run(seed=99, **GREEDY)), text_of(greedy_events()))


@suite.case("determinism: a worker that answers other requests meanwhile gives the same text")
def same_under_load():
    stream = suite.real().start(**GREEDY)
    for _ in range(20):
        suite.real().get("/health")
    check(text_of(greedy_events()).endswith(text_of(stream.collect())), "text differs")


def conversation(worker):
    """Three jobs, each prompt beginning like the one before: (texts, prompt tokens, cached tokens of end and log)."""
    prompt, texts, sizes, cached = "First Citizen:\nBefore we proceed any further, hear me", [], [], []
    for i in range(3):
        events = worker.run(job_id="turn-%d" % i, prompt=prompt, max_tokens=20, temperature=0.7)
        check_order(events)
        end = events[-1].data
        texts.append(text_of(events))
        sizes.append(end["prompt_tokens"])
        cached.append(end["cached_tokens"])
        line = worker.job_line("turn-%d" % i)
        equal((line["prompt_tokens"], line["cached_tokens"]), (sizes[-1], cached[-1]))
        prompt += texts[-1] + "\n" if i > 0 else ""
    return texts, sizes, cached


@suite.case("prefix reuse: cached_tokens says how much, the text is the same without it")
def prefix_reuse():
    with Worker() as w:
        texts, sizes, cached = conversation(w)
    equal(cached[:2], [0, sizes[0] - 1])  # the same prompt again: its last token is computed
    within(cached[2], sizes[0], sizes[2] - 1)
    with Worker("--no-prefix-cache") as w:
        equal(conversation(w), (texts, sizes, [0, 0, 0]))


@suite.case("prefix reuse: after a cancelled job, and only from the job just before")
def prefix_after_cancel():
    long_prompt = "the king and the queen and " * 4
    with Worker() as w:
        stream = w.start(job_id="gone", prompt=long_prompt, max_tokens=200)
        w.cancel("gone")
        equal(stream.collect()[-1].name, "error")
        end = w.run(prompt=long_prompt, max_tokens=5)[-1].data
        equal(end["cached_tokens"], end["prompt_tokens"] - 1)
        equal(w.run(prompt="Zounds", max_tokens=5)[-1].data["cached_tokens"], 0)
        equal(w.run(prompt=long_prompt, max_tokens=5)[-1].data["cached_tokens"], 0)


@suite.case("prefix reuse: a job that was stopped before its start logs no tokens of the one before")
def prefix_waiting():
    w = suite.stub()
    first = w.start(job_id="first", prompt="tokens=2000 delay=5 cached=3", max_tokens=2000)
    second = w.execute(job_id="second", prompt="a b c")
    second.wait_headers()
    w.cancel("second")
    w.cancel("first")
    equal([e[-1].name for e in (first.collect(), second.collect())], ["error", "error"])
    equal([(w.job_line(j)["prompt_tokens"], w.job_line(j)["cached_tokens"]) for j in ("first", "second")], [(3, 3), (0, 0)])


ERRORS = [("numeric failure", "tokens=2 fail=numeric", "INFERENCE_FAILED", True, 2),
          ("internal failure", "tokens=1 fail=internal", "INFERENCE_FAILED", True, 1),
          ("out of memory", "tokens=0 fail=memory", "INFERENCE_FAILED", True, 0),
          ("found late: invalid request", "fail=start", "INVALID_REQUEST", False, 0)]


def check_error(prompt, code, retriable, tokens):
    events = suite.stub().run(prompt=prompt)
    check_order(events)
    error = events[-1].data
    equal((error["code"], error["retriable"], error["tokens_out"]), (code, retriable, tokens))
    if "memory" in prompt:
        check("out of memory" in error["message"], error)
    equal(suite.stub().run()[-1].name, "end")  # the next job is not affected


for error_name, prompt_text, error_code, can_retry, n_tokens in ERRORS:
    suite.case("error: " + error_name, prompt_text, error_code, can_retry, n_tokens)(check_error)


@suite.case("TIMEOUT: counts from started, not while queued")
def timeout():
    with Worker("--inference-timeout-sec", "1", stub=True) as w:
        first = w.execute(job_id="1", prompt="tokens=1000 delay=20", max_tokens=1000)
        second = w.execute(job_id="2", prompt="tokens=10 delay=20", max_tokens=10)
        events = first.collect()
        check_order(events)
        error = events[-1].data
        equal((error["code"], error["retriable"]), ("TIMEOUT", True))
        timely(events[-1].at - events[0].at, 0.9, 1.3)
        equal(second.collect()[-1].name, "end")


@suite.case("TIMEOUT: also in a long prompt")
def timeout_in_prompt():
    with Worker("--inference-timeout-sec", "1", stub=True) as w:
        events = w.run(prompt="prompt=5000")
        equal((events[-1].data["code"], events[-1].data["tokens_out"]), ("TIMEOUT", 0))
        timely(events[-1].at - events[0].at, 0.9, 1.3)


@suite.case("--defer-headers: nothing before the first token, then everything")
def defer_headers():
    with Worker("--defer-headers", stub=True, env={"STUB_KEEP_ALIVE_MS": 100}) as w:
        stream = w.execute(prompt="prompt=600 tokens=3 delay=50")
        events = stream.collect()
        check_order(events)
        timely(stream.headers_at - stream.sent_at, 0.55, 1 * SLOW)  # not a byte before the first token
        timely(tokens_of(events)[0].at - stream.headers_at, 0, 0.02)


@suite.case("--defer-headers: a client that leaves before the first token is noticed")
def defer_headers_disconnect():
    with Worker("--defer-headers", stub=True) as w:
        stream = w.execute(prompt="prompt=5000")
        w.wait_state("busy")
        stream.close()
        start = time.monotonic()
        w.wait_state("ready")
        timely(time.monotonic() - start, 0, 0.15 * SLOW)


@suite.case("--defer-headers: an end without a token still is a complete stream")
def defer_headers_empty():
    with Worker("--defer-headers", stub=True) as w:
        events = w.run(prompt="tokens=0 end=eos")
        equal([e.name for e in events], ["started", "end"])


@suite.case("--defer-headers: a shutdown before the first token is a refusal, not the end of a stream")
def defer_headers_shutdown():
    with Worker("--defer-headers", stub=True) as w:
        running, waiting = w.execute(prompt="prompt=10000"), w.execute(prompt="x")
        w.wait_health("jobs_waiting", 1)
        w.signal(signal.SIGTERM)
        body = json.loads(waiting.rest())
        equal((waiting.status, waiting.headers["retry-after"]), (503, "1"))
        equal((body["code"], body["message"]), ("WORKER_UNHEALTHY", "Worker unhealthy: the worker is shutting down"))
        running.close()
        equal(w.wait(), 0)


@suite.case("tiny model: serves, and names itself")
def tiny_model():
    equal(suite.tiny().run(max_tokens=3)[0].data["model"], TINY.rsplit("/", 1)[-1])
    equal(json.loads(json.dumps(suite.tiny().get("/health")[1]))["model"], "tiny-gpt2")


sys.exit(suite.run())
