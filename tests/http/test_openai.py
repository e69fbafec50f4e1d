#!/usr/bin/env python3
"""OpenAI's completions and models, llama.cpp's tokenize, over raw HTTP (docs/openai.md): every member honoured or refused,
streams and whole answers alike, errors in the shape of their API, cancelling, limits of time and size."""
import http.client
import json
import math
import random
import select
import signal
import socket
import sys
import tempfile
import time

from harness import (JSON, LIMIT, SHAKESPEARE, SLOW, Suite, UUID4, Worker, check, equal, has, raw_exchange, run_program, text_of,
                     timely, within)

suite = Suite()
PATH = "/v1/completions"


def complete(worker, headers=None, **fields):
    """The answer in one piece; raises unless the status is 200."""
    status, got, body = worker.request("POST", PATH, fields, headers)
    equal((status, got["content-type"]), (200, "application/json"), body[:500])
    return json.loads(body)


def refused(worker, status, param, code, headers=None, **fields):
    """The message of the error in OpenAI's shape."""
    got, _, body = worker.request("POST", PATH, fields, headers)
    return error_of(got, body, status, param, code)


def error_of(got, body, status, param, code, kind="invalid_request_error"):
    equal(got, status, body[:300])
    answer = json.loads(body)
    equal(sorted(answer), ["error"])
    error = answer["error"]
    equal(sorted(error), ["code", "message", "param", "type"])
    equal((error["type"], error["param"], error["code"]), (kind, param, code), error["message"])
    check(error["message"])
    return error["message"]


class Chunks:
    """A streamed completion, read as it comes."""

    def __init__(self, worker, headers=None, **fields):
        self.connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=LIMIT)
        self.connection.request("POST", PATH, json.dumps(dict(fields, stream=True)), dict(JSON, **(headers or {})))
        self.response = self.connection.getresponse()
        self.headers = {k.lower(): v for k, v in self.response.getheaders()}
        equal((self.response.status, self.headers["content-type"]), (200, "text/event-stream"))

    def next(self):
        """The data of the next event; None at the end of the stream."""
        line = self.response.readline()
        while line.startswith(b":"):
            equal(self.response.readline(), b"\n")
            line = self.response.readline()
        if line == b"":
            self.connection.close()
            return None
        check(line.startswith(b"data: "), line)
        equal(self.response.readline(), b"\n")
        return line[6:].decode().strip()

    def rest(self):
        found = []
        while True:
            data = self.next()
            if data is None:
                return found
            found.append(data)


def stream(worker, **fields):
    """The chunks of a stream that ends well."""
    data = Chunks(worker, **fields).rest()
    equal(data[-1], "[DONE]")
    return [json.loads(d) for d in data[:-1]]


LISTS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


def joined(chunks):
    """The choices that a stream's chunks amount to."""
    choices = {}
    for chunk in chunks:
        for c in chunk["choices"]:
            whole = choices.setdefault(c["index"], {"text": "", "index": c["index"], "logprobs": None, "finish_reason": None})
            equal(whole["finish_reason"], None, "a chunk after the reason")
            whole["text"] += c["text"]
            whole["finish_reason"] = c["finish_reason"]
            if c["logprobs"] is not None:
                if whole["logprobs"] is None:
                    whole["logprobs"] = {name: [] for name in LISTS}
                for name in LISTS:
                    whole["logprobs"][name] += c["logprobs"][name]
    return [choices[i] for i in sorted(choices)]


# --- the shape of the answers ---


@suite.test
def an_answer_has_the_members_of_openais():
    worker = suite.real()
    status, headers, body = worker.request("POST", PATH, {"prompt": "ROMEO:", "max_tokens": 5, "temperature": 0},
                                           {"X-Correlation-ID": "my-id.1"})
    answer = json.loads(body)
    equal(status, 200)
    equal((headers["x-correlation-id"], headers["x-request-id"], headers["connection"]), ("my-id.1", "my-id.1", "keep-alive"))
    equal(list(answer), ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"])
    equal((answer["id"], answer["object"], answer["model"]), ("cmpl-my-id.1", "text_completion", "shakespeare"))
    within(answer["created"], time.time() - 60, time.time() + 1)
    version = run_program("--version")[1].split()[1]
    weights, build = answer["system_fingerprint"][3:].split("_")
    check(len(weights) == 16 and int(weights, 16) >= 0 and answer["system_fingerprint"].startswith("fp_"))
    equal(build, version)
    equal([list(c) for c in answer["choices"]], [["text", "index", "logprobs", "finish_reason"]])
    equal((answer["choices"][0]["index"], answer["choices"][0]["logprobs"]), (0, None))
    usage = answer["usage"]
    equal((usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]), (2, 5, 7))
    within(usage["prompt_tokens_details"]["cached_tokens"], 0, 1)
    check(UUID4.match(complete(worker, prompt="x", max_tokens=1)["id"][5:]))


@suite.test
def chunks_have_the_members_of_openais():
    worker = suite.real()
    chunks = Chunks(worker, {"X-Correlation-ID": "s1"}, prompt="ROMEO:", max_tokens=3, temperature=0,
                    stream_options={"include_usage": True})
    equal((chunks.headers["x-request-id"], chunks.headers["cache-control"]), ("s1", "no-cache"))
    data = chunks.rest()
    equal(data.pop(), "[DONE]")
    data = [json.loads(d) for d in data]
    for d in data:
        equal(list(d), ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"])
        equal((d["id"], d["object"], d["created"]), ("cmpl-s1", "text_completion", data[0]["created"]))
    equal([d["usage"] for d in data[:-1]], [None] * (len(data) - 1))
    equal([d["choices"][0]["finish_reason"] for d in data[:-1]], [None] * (len(data) - 2) + ["length"])
    equal((data[-1]["choices"], data[-1]["usage"]["total_tokens"]), ([], 5))
    without = stream(worker, prompt="ROMEO:", max_tokens=3, temperature=0)
    check(all("usage" not in c for c in without))
    equal(joined(without), joined(data[:-1]))


@suite.test
def the_defaults_are_openais_and_null_asks_for_them():
    worker = suite.real()
    plain = complete(worker, prompt="ROMEO:")
    equal(plain["usage"]["completion_tokens"], 16)
    nulls = {name: None for name in ("suffix", "max_tokens", "temperature", "top_p", "n", "best_of", "stream", "stream_options",
                                     "logprobs", "echo", "stop", "presence_penalty", "frequency_penalty", "logit_bias", "seed",
                                     "top_k", "min_p", "repetition_penalty", "user")}
    equal(complete(worker, prompt="ROMEO:", **nulls)["choices"], plain["choices"])
    equal(complete(worker, prompt="ROMEO:", suffix="", user="someone", model="shakespeare")["choices"], plain["choices"])


@suite.test
def no_prompt_is_the_end_of_text():
    worker = suite.real()
    empty = complete(worker, max_tokens=4, temperature=0, echo=True)
    check(empty["choices"][0]["text"].startswith("<|endoftext|>"), empty)
    equal(empty["usage"]["prompt_tokens"], 1)
    for prompt in (None, "", [1023], ["", "A"], "<|endoftext|>", ["<|endoftext|>", "A"]):
        equal(complete(worker, prompt=prompt, max_tokens=4, temperature=0, echo=True)["choices"][0], empty["choices"][0])
    plain = complete(worker, prompt="<|endoftext|>\n", max_tokens=0, echo=True)
    check(plain["usage"]["prompt_tokens"] > 5, plain)


# --- the same as /execute, the same as a stream ---

EXECUTE_CASES = [{}, {"max_tokens": 30}, {"stop": ["\n"]}, {"stop": ["th", "ou"], "max_tokens": 40},
                 {"repetition_penalty": 1.3, "max_tokens": 30}, {"temperature": 0.8, "seed": 7, "max_tokens": 30},
                 {"temperature": 1.4, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "seed": 2 ** 64 - 1, "max_tokens": 30}]


@suite.test
def the_text_is_that_of_execute():
    worker = suite.real()
    for i, fields in enumerate(EXECUTE_CASES):
        asked = dict({"prompt": "JULIET:\nO", "max_tokens": 16, "temperature": 0.0}, **fields)
        events = worker.run(**asked)
        choice = complete(worker, **asked)["choices"][0]
        equal(choice["text"], text_of(events), "case %d" % i)
        reason = events[-1].data["stop_reason"]
        equal(choice["finish_reason"], "length" if reason == "MAX_TOKENS" else "stop")


def random_request(r):
    texts = ["ROMEO:", "To be", "é…\U0001f600 x", "", "A\n\nB", "the the the", "\u2026"]
    ids = [[r.randrange(1024) for _ in range(r.randrange(1, 20))] for _ in range(3)]
    prompt = r.choice([r.choice(texts), [r.choice(texts) for _ in range(r.randrange(1, 4))], ids[0], ids[:r.randrange(1, 4)]])
    fields = {"prompt": prompt, "echo": r.random() < 0.5, "temperature": r.choice([0, 0.7, 1.0, 2.0]), "seed": r.randrange(100)}
    fields["max_tokens"] = r.choice([1, 5, 12, 40] + [0] * fields["echo"])
    if r.random() < 0.7:
        fields["logprobs"] = r.randrange(6)
    if r.random() < 0.4:
        fields["stop"] = r.choice(["e", ["\n", "th"], ["zzz"], [".", ",", ":", "!"]])
    for name, values in (("presence_penalty", [-2, 0.5, 2]), ("frequency_penalty", [-1, 1.5]), ("top_k", [1, 5, -1]),
                         ("logit_bias", [{"11": -100, "198": 5}, {"13": 100}, {"1023": 9}]), ("top_p", [0.1, 0.9]), ("min_p", [0.2]),
                         ("repetition_penalty", [1.2])):
        if r.random() < 0.25:
            fields[name] = r.choice(values)
    return fields


@suite.test
def a_stream_says_what_a_whole_answer_says():
    worker = suite.real()
    for seed in range(60 if SLOW == 1 else 15):
        fields = random_request(random.Random(seed))
        whole = complete(worker, **fields)
        chunks = stream(worker, stream_options={"include_usage": True}, **fields)
        equal(joined(chunks[:-1]), whole["choices"], "%d: %r" % (seed, fields))
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            equal(chunks[-1]["usage"][name], whole["usage"][name])
        if "logprobs" in fields:
            check_logprobs(worker, fields, whole)


def tokens_as_text(worker, choice, fields):
    """The tokens joined as bytes, decoded; special ones are in the text only where they were in the prompt."""
    joined_bytes = b""
    for token in choice["logprobs"]["tokens"]:
        if token.startswith("bytes:"):
            joined_bytes += bytes(int(h, 16) for h in token[6:].split("\\x")[1:])
        else:
            joined_bytes += token.encode()
    return joined_bytes.decode("utf-8", "replace")


def check_logprobs(worker, fields, answer):
    n_tokens = 0
    for choice in answer["choices"]:
        lists = choice["logprobs"]
        equal(sorted(lists), sorted(LISTS))
        equal(len({len(lists[name]) for name in LISTS}), 1, fields)
        n_tokens += len(lists["tokens"])
        equal(lists["text_offset"], sorted(lists["text_offset"]))
        for i, (token, logprob, top) in enumerate(zip(lists["tokens"], lists["token_logprobs"], lists["top_logprobs"])):
            if fields["echo"] and i == 0:
                equal((logprob, top), (None, None))
                equal(lists["text_offset"][0], 0)
                continue
            check(logprob <= 0 and math.isfinite(logprob))
            within(len(top), max(1, fields["logprobs"]), fields["logprobs"] + 1)
            equal(top[token], logprob)
            check(sum(math.exp(x) for x in top.values()) < 1 + 1e-9)
        if fields["echo"] and "stop" not in fields and "<|" not in choice["text"]:
            equal(tokens_as_text(worker, choice, fields)[:20], choice["text"][:20])
    if not fields["echo"]:
        equal(n_tokens, answer["usage"]["completion_tokens"])
    else:
        equal(n_tokens, answer["usage"]["total_tokens"])


@suite.test
def offsets_count_the_characters_before_a_token():
    worker = suite.real()
    prompt = "é…\U0001f600 To be"
    echoed = complete(worker, prompt=prompt, max_tokens=6, temperature=0, echo=True, logprobs=0)["choices"][0]
    alone = complete(worker, prompt=prompt, max_tokens=6, temperature=0, logprobs=0)["choices"][0]
    equal(echoed["text"], prompt + alone["text"])
    tokens, offsets = echoed["logprobs"]["tokens"], echoed["logprobs"]["text_offset"]
    equal(tokens[:4], ["bytes:\\xc3", "bytes:\\xa9", "bytes:\\xe2", "bytes:\\x80"])
    equal(offsets[:6], [0, 0, 1, 1, 1, 2])
    equal(alone["logprobs"]["text_offset"], offsets[-6:])
    equal(offsets[-6], len(prompt))
    for token, at in zip(tokens, offsets):
        if not token.startswith("bytes:"):
            equal(echoed["text"][at:at + len(token)], token)
    ids = [1023, 158, 222]  # <|endoftext|> and the beginning of a character that does not end
    cut = complete(worker, prompt=ids, max_tokens=2, temperature=0, logprobs=0, echo=True)["choices"][0]
    equal(cut["logprobs"]["text_offset"][:4], [0, 13, 13, 14])
    check(cut["text"].startswith("<|endoftext|>\ufffd"), cut["text"])
    equal(cut["text"][14:], complete(worker, prompt=ids, max_tokens=2, temperature=0)["choices"][0]["text"])


@suite.test
def echo_without_tokens_scores_the_prompt():
    worker = suite.real()
    answer = complete(worker, prompt="ROMEO:\nIf I profane", max_tokens=0, echo=True, logprobs=1)
    choice = answer["choices"][0]
    equal((choice["text"], choice["finish_reason"]), ("ROMEO:\nIf I profane", "length"))
    equal(answer["usage"]["completion_tokens"], 0)
    equal(len(choice["logprobs"]["tokens"]), answer["usage"]["prompt_tokens"])
    # What a harness does with it: the tokens of a continuation, and whether each was the most likely one.
    one_more = complete(worker, prompt="ROMEO:\nIf I profane", max_tokens=1, echo=True, logprobs=1)["choices"][0]
    equal(one_more["logprobs"]["token_logprobs"][:-1], choice["logprobs"]["token_logprobs"])
    for logprob, top in list(zip(choice["logprobs"]["token_logprobs"], choice["logprobs"]["top_logprobs"]))[1:]:
        check((logprob == max(top.values())) == (len(top) == 1))


@suite.test
def an_end_of_text_is_a_token_of_the_lists():
    worker = suite.real()
    # lm-evaluation-harness asks for one token behind what it scores, and drops the last of the list, whatever it is.
    fields = {"prompt": ["ROMEO:\nIf I profane", "To be"], "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    scored = complete(worker, **dict(fields, max_tokens=0))["choices"]
    ended = complete(worker, logit_bias={"1023": 100}, **fields)
    for choice, want in zip(ended["choices"], scored):
        lists = choice["logprobs"]
        equal((choice["text"], choice["finish_reason"]), (want["text"], "stop"))
        equal({name: lists[name][:-1] for name in LISTS}, want["logprobs"])
        equal((lists["tokens"][-1], lists["text_offset"][-1]), ("<|endoftext|>", len(choice["text"])))
        equal(lists["top_logprobs"][-1]["<|endoftext|>"], lists["token_logprobs"][-1])
        check(lists["token_logprobs"][-1] < -1)
    equal(ended["usage"]["completion_tokens"], 2)
    chunks = stream(worker, logit_bias={"1023": 100}, **fields)
    equal(joined(chunks), ended["choices"])
    # The bits are those that an echo gives.
    ids = json.loads(worker.request("POST", "/tokenize", {"content": "To be"})[2])["tokens"] + [1023]
    echoed = complete(worker, prompt=ids, max_tokens=0, echo=True, logprobs=1)["choices"][0]["logprobs"]
    equal(echoed["token_logprobs"], ended["choices"][1]["logprobs"]["token_logprobs"])


@suite.test
def echo_sums_to_what_eval_says():
    worker = suite.real()
    text = "ROMEO:\nIf I profane with my unworthiest hand\nThis holy shrine, the gentle fine is this"
    lists = complete(worker, prompt=text, max_tokens=0, echo=True, logprobs=0)["choices"][0]["logprobs"]
    status, out, err = run_program("eval", "--model", SHAKESPEARE, "--text", "-", "--json", data=text.encode())
    equal(status, 0, err)
    equal(-sum(lists["token_logprobs"][1:]) / (len(lists["tokens"]) - 1), json.loads(out)["model"]["nats_per_token"])


# --- members ---


@suite.test
def lists_of_prompts_give_what_each_gives_alone():
    worker = suite.real()
    fields = {"max_tokens": 6, "temperature": 0.9, "seed": 3, "logprobs": 2}
    prompts = ["ROMEO:", "JULIET:\nO", "To be"]
    together = complete(worker, prompt=prompts, n=2, **fields)
    equal([c["index"] for c in together["choices"]], list(range(6)))
    for i, prompt in enumerate(prompts):
        alone = complete(worker, prompt=prompt, n=2, **fields)
        for k in range(2):
            equal(dict(together["choices"][2 * i + k], index=k), alone["choices"][k])
    ids = [json.loads(worker.request("POST", "/tokenize", {"content": p})[2])["tokens"] for p in prompts]
    equal(complete(worker, prompt=ids, n=2, **fields)["choices"], together["choices"])
    equal(complete(worker, prompt=ids[0], n=2, **fields)["choices"], together["choices"][:2])
    usage = together["usage"]
    equal((usage["prompt_tokens"], usage["completion_tokens"]), (sum(map(len, ids)), 36))


@suite.test
def choice_i_draws_with_seed_plus_i():
    worker = suite.real()
    fields = {"prompt": "JULIET:", "max_tokens": 12, "temperature": 1.2}
    many = [c["text"] for c in complete(worker, n=4, seed=10, **fields)["choices"]]
    equal(many, [complete(worker, seed=10 + i, **fields)["choices"][0]["text"] for i in range(4)])
    equal(len(set(many)), 4)
    equal(complete(worker, **fields)["choices"], complete(worker, seed=42, **fields)["choices"])
    equal(complete(worker, seed=-1, **fields)["choices"], complete(worker, seed=2 ** 64 - 1, **fields)["choices"])


@suite.test
def best_of_gives_the_most_likely():
    worker = suite.real()
    fields = {"prompt": ["JULIET:", "To be"], "max_tokens": 8, "temperature": 1.3, "logprobs": 0, "seed": 5}
    every = complete(worker, n=6, **fields)["choices"]
    best = complete(worker, n=2, best_of=6, **fields)
    for prompt in range(2):
        mine = every[6 * prompt:6 * prompt + 6]
        mean = [sum(c["logprobs"]["token_logprobs"]) / len(c["logprobs"]["tokens"]) for c in mine]
        order = sorted(range(6), key=lambda i, mean=mean: (-mean[i], i))
        for k in range(2):
            equal(dict(mine[order[k]], index=2 * prompt + k), best["choices"][2 * prompt + k])
    equal(best["usage"]["completion_tokens"], sum(len(c["logprobs"]["tokens"]) for c in every))
    fields.pop("logprobs")
    without = complete(worker, n=2, best_of=6, **fields)["choices"]
    equal([c["text"] for c in without], [c["text"] for c in best["choices"]])
    equal({c["logprobs"] for c in without}, {None})


@suite.test
def biases_and_penalties_change_what_is_generated():
    worker = suite.real()
    fields = {"prompt": "ROMEO:", "max_tokens": 24, "temperature": 0, "logprobs": 0}
    plain = complete(worker, **fields)["choices"][0]["logprobs"]["tokens"]
    newline = json.loads(worker.request("POST", "/tokenize", {"content": "\n"})[2])["tokens"]
    equal(plain[0], "\n")
    banned = complete(worker, logit_bias={str(newline[0]): -100}, **fields)["choices"][0]["logprobs"]["tokens"]
    check("\n" not in banned, banned)
    forced = complete(worker, logit_bias={str(newline[0]): 100}, **fields)["choices"][0]["logprobs"]["tokens"]
    equal(set(forced), {"\n"})
    for name in ("presence_penalty", "frequency_penalty"):
        unlike = complete(worker, **dict(fields, **{name: 2.0}))["choices"][0]["logprobs"]["tokens"]
        check(len(set(unlike)) > len(set(plain)), (name, unlike))


@suite.test
def a_stop_string_is_not_sent():
    worker = suite.real()
    plain = complete(worker, prompt="ROMEO:", max_tokens=30, temperature=0)["choices"][0]["text"]
    at = plain.index("tell")
    choice = complete(worker, prompt="ROMEO:", max_tokens=30, temperature=0, stop="tell")["choices"][0]
    equal((choice["text"], choice["finish_reason"]), (plain[:at], "stop"))
    for stop in (["zzz", "tell"], ["tell", " yo", "sir", "\n\n\n"]):
        equal(complete(worker, prompt="ROMEO:", max_tokens=30, temperature=0, stop=stop)["choices"][0], choice)
    equal(complete(worker, prompt="ROMEO:", max_tokens=30, temperature=0, stop=[])["choices"][0]["text"], plain)


@suite.test
def the_context_ends_a_completion():
    worker = suite.real()
    choice = complete(worker, prompt=[5] * 250, max_tokens=100, temperature=0)
    equal((choice["usage"]["completion_tokens"], choice["choices"][0]["finish_reason"]), (7, "length"))
    full = complete(worker, prompt=[5] * 256, max_tokens=100, temperature=0)
    equal(full["usage"]["completion_tokens"], 1)
    message = refused(worker, 400, "prompt", "context_length_exceeded", prompt=[5] * 257)
    has(message, "maximum context length is 256 tokens")
    has(refused(worker, 400, "prompt", "context_length_exceeded", prompt="a b " * 1000), "256 tokens")


@suite.test
def a_prompt_that_is_counted_late_is_refused_before_any_is_computed():
    worker = suite.stub()
    fits = "delay=5000 tokens=1 " + "y" * 1500  # more text than is counted while a request waits, in few tokens
    begin = time.monotonic()
    message = refused(worker, 400, None, "context_length_exceeded", prompt=[fits] * 126 + ["a " * 1025])
    has(message, "1024")
    data = Chunks(worker, prompt=[fits] * 126 + ["a " * 1025]).rest()
    equal([json.loads(d)["error"]["code"] for d in data], ["context_length_exceeded"])
    timely(time.monotonic() - begin, 0, 4)
    refused(worker, 400, "prompt", "context_length_exceeded", prompt=["a " * 1025] + [fits] * 126)


# --- refusals ---

BIG_BIAS = {str(i): 1 for i in range(1025)}
REFUSED = [
    ("unknown_parameter", "foo", {"foo": 1}),
    ("unknown_parameter", "messages", {"messages": []}),
    ("unsupported_parameter", "suffix", {"suffix": "x"}),
    ("invalid_type", "model", {"model": 3}),
    ("invalid_type", "model", {"model": None}),
    ("invalid_type", "model", {"model": [1, 2]}),
    ("invalid_type", "prompt", {"prompt": 5}),
    ("invalid_type", "prompt", {"prompt": {"a": 1}}),
    ("invalid_type", "prompt", {"prompt": ["a", 1]}),
    ("invalid_type", "prompt", {"prompt": ["a", [1]]}),
    ("invalid_type", "prompt", {"prompt": [[1], "a"]}),
    ("invalid_type", "prompt", {"prompt": [[1, "a"]]}),
    ("invalid_type", "prompt", {"prompt": [1.5]}),
    ("invalid_type", "prompt", {"prompt": [None]}),
    ("empty_array", "prompt", {"prompt": [[]]}),
    ("empty_array", "prompt", {"prompt": []}),
    ("invalid_value", "prompt", {"prompt": [1024]}),
    ("invalid_value", "prompt", {"prompt": [[1], [-1]]}),
    ("array_above_max_length", "prompt", {"prompt": ["x"] * 129}),
    ("array_above_max_length", "prompt", {"prompt": ["x"] * 65, "n": 2}),
    ("string_above_max_length", "prompt", {"prompt": "x" * 32769}),
    ("integer_below_min_value", "max_tokens", {"max_tokens": 0}),
    ("integer_below_min_value", "max_tokens", {"max_tokens": -1, "echo": True}),
    ("integer_above_max_value", "max_tokens", {"max_tokens": 2049}),
    ("invalid_type", "max_tokens", {"max_tokens": 1.0}),
    ("invalid_type", "max_tokens", {"max_tokens": "16"}),
    ("decimal_below_min_value", "temperature", {"temperature": -0.01}),
    ("decimal_above_max_value", "temperature", {"temperature": 2.01}),
    ("invalid_type", "temperature", {"temperature": "1"}),
    ("decimal_above_max_value", "top_p", {"top_p": 1.01}),
    ("decimal_below_min_value", "top_p", {"top_p": -1}),
    ("integer_below_min_value", "n", {"n": 0}),
    ("integer_above_max_value", "n", {"n": 9}),
    ("integer_above_max_value", "best_of", {"best_of": 9}),
    ("invalid_value", "best_of", {"n": 3, "best_of": 2}),
    ("invalid_value", "n", {"n": 2, "stream": True}),
    ("invalid_value", "best_of", {"best_of": 2, "stream": True}),
    ("invalid_type", "stream", {"stream": 1}),
    ("invalid_value", "stream_options", {"stream_options": {"include_usage": True}}),
    ("invalid_type", "stream_options", {"stream": True, "stream_options": True}),
    ("invalid_type", "stream_options", {"stream": True, "stream_options": {"include_usage": 1}}),
    ("unknown_parameter", "stream_options", {"stream": True, "stream_options": {"x": 1}}),
    ("unsupported_parameter", "stream_options", {"stream": True, "stream_options": {"include_obfuscation": True}}),
    ("integer_above_max_value", "logprobs", {"logprobs": 6}),
    ("integer_below_min_value", "logprobs", {"logprobs": -1}),
    ("invalid_type", "logprobs", {"logprobs": True}),
    ("invalid_type", "echo", {"echo": "yes"}),
    ("invalid_type", "stop", {"stop": 1}),
    ("invalid_type", "stop", {"stop": [1, 2]}),
    ("invalid_type", "stop", {"stop": ["a", None]}),
    ("string_below_min_length", "stop", {"stop": ""}),
    ("string_above_max_length", "stop", {"stop": ["a", "x" * 101]}),
    ("array_above_max_length", "stop", {"stop": list("abcde")}),
    ("decimal_above_max_value", "presence_penalty", {"presence_penalty": 2.1}),
    ("decimal_below_min_value", "frequency_penalty", {"frequency_penalty": -2.1}),
    ("invalid_type", "logit_bias", {"logit_bias": [1]}),
    ("invalid_value", "logit_bias", {"logit_bias": {"1024": 1}}),
    ("invalid_value", "logit_bias", {"logit_bias": {"-1": 1}}),
    ("invalid_value", "logit_bias", {"logit_bias": {"01": 1}}),
    ("invalid_value", "logit_bias", {"logit_bias": {"": 1}}),
    ("invalid_value", "logit_bias", {"logit_bias": {"99999999999999999999": 1}}),
    ("invalid_value", "logit_bias", {"logit_bias": {"x": 1}}),
    ("invalid_value", "logit_bias", {"logit_bias": {"1": 100.5}}),
    ("invalid_value", "logit_bias", {"logit_bias": {"1": "5"}}),
    ("object_above_max_properties", "logit_bias", {"logit_bias": BIG_BIAS}),
    ("invalid_type", "seed", {"seed": 1.5}),
    ("invalid_value", "seed", {"seed": 2 ** 64}),
    ("invalid_value", "seed", {"seed": -2 ** 63 - 1}),
    ("integer_above_max_value", "max_tokens", {"max_tokens": 2 ** 64}),
    ("invalid_type", "seed", {"seed": "1"}),
    ("invalid_type", "user", {"user": 5}),
    ("integer_below_min_value", "top_k", {"top_k": -2}),
    ("integer_above_max_value", "top_k", {"top_k": 2 ** 32}),
    ("decimal_above_max_value", "min_p", {"min_p": 1.5}),
    ("decimal_below_min_value", "repetition_penalty", {"repetition_penalty": -0.5}),
]


@suite.test
def everything_else_is_refused_by_name():
    worker = suite.real()
    for code, param, fields in REFUSED:
        refused(worker, 400, param, code, **dict({"prompt": "x", "max_tokens": 1}, **fields))
    has(refused(worker, 400, "foo", "unknown_parameter", prompt="x", foo=1), "Unrecognized request argument supplied: foo")
    has(refused(worker, 404, "model", "model_not_found", prompt="x", model="gpt-4"), "gpt-4")


@suite.test
def what_is_wrong_with_a_prompt_is_said():
    worker = suite.real()
    for prompt, part in (([[1], []], "element 1 is an empty array"), ([1, 2.5], "element 1 is a decimal number"),
                         ([1] * 200 + ["a"], "element 200 is a string"), (["a", [1]], "element 1 is an array of integers"),
                         ([[1], [2, None]], "element 1 holds null"), ([["a"], 1], "element 0 holds a string"),
                         ([5, 2 ** 31], "token id 2147483648 is outside the vocabulary (0 to 1023)"),
                         ([[5], [6] * 200 + [-2 ** 40]], "token id -1099511627776 is outside"), ([1e30], "token id 1e+30 is outside")):
        status, _, body = worker.request("POST", PATH, {"prompt": prompt})
        equal((status, json.loads(body)["error"]["param"]), (400, "prompt"))
        has(json.loads(body)["error"]["message"], part)
    has(refused(worker, 400, "seed", "invalid_value", seed=2 ** 64), "from -2^63 to 2^64 - 1")
    has(refused(worker, 400, "stop", "invalid_type", stop=[1]), "an array of integers")


@suite.test
def a_body_that_is_no_object_is_refused():
    worker = suite.real()
    for body, code in ((b"", None), (b"{", None), (b"[]", "invalid_type"), (b"[1,2]", "invalid_type"), (b"5", "invalid_type"),
                       (b'{"prompt":"a","prompt":"b"}', None), (b'{"prompt":"\xff"}', None), (b'{[1]:2}', None),
                       (b'{"prompt":[1,2}', None), (b'{"prompt":' + b"[1]," * 5000 + b'1}', None),
                       (b'{"prompt":[' + b"1," * 300000 + b'1]}', None)):
        status, _, answer = worker.request("POST", PATH, body, JSON)
        error_of(status, answer, 400, None, code)


@suite.test
def errors_of_http_have_openais_shape_below_v1():
    worker = suite.real()
    status, _, body = worker.request("POST", "/v1/chat/completions", {"messages": []})
    has(error_of(status, body, 404, None, "unknown_url"), "/v1/chat/completions")
    error_of(*_answer(worker, "GET", "/v1"), 404, None, "unknown_url")
    for method, path, allow in (("GET", PATH, "POST"), ("POST", "/v1/models", "GET, HEAD"), ("DELETE", "/v1/models/x", "GET, HEAD"),
                                ("OPTIONS", PATH, "POST")):
        status, headers, body = worker.request(method, path)
        error_of(status, body, 405, None, "method_not_supported")
        equal((headers["allow"], headers["x-request-id"]), (allow, headers["x-correlation-id"]))
    status, _, body = worker.request("POST", PATH, b"{}", {"Content-Type": "text/plain"})
    error_of(status, body, 415, None, "unsupported_content_type")
    asked = {"Origin": "http://elsewhere", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    status, headers, _ = worker.request("OPTIONS", PATH, None, asked)  # what a browser asks before a page of elsewhere may send JSON
    equal((status, [name for name in headers if name.startswith("access-control")]), (405, []))
    status, _, body = worker.request("POST", PATH, b"{}", dict(JSON, **{"Content-Encoding": "gzip"}))
    error_of(status, body, 415, None, "unsupported_content_type")
    for raw, want in ((b"Content-Length: 9999999\r\n\r\n", 413), (b"Content-Length: 1, 2\r\n\r\n", 400),
                      (b"X: " + b"y" * 40000 + b"\r\n\r\n", 431), (b"Expect: wonders\r\n\r\n", 417)):
        answer = raw_exchange(worker.port, b"POST /v1/completions?x HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n" + raw)
        head, body = answer.split(b"\r\n\r\n", 1)
        error_of(int(head.split()[1]), body, want, None, "request_too_large" if want == 413 else None)
        has(head, b"X-Request-ID: ")
    for path in ("/execute", "/v1x", "/health"):
        check("x-request-id" not in worker.request("DELETE", path)[1])


def _answer(worker, method, path):
    status, _, body = worker.request(method, path)
    return status, body


@suite.test
def keys_guard_the_new_paths():
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("a-key-of-enough-bytes\n")
        file.flush()
        with Worker("--api-key-file", file.name, stub=True) as worker:
            for method, path in (("POST", PATH), ("GET", "/v1/models"), ("GET", "/v1/models/x"), ("GET", "/v1/nothing")):
                status, headers, body = worker.request(method, path)
                error_of(status, body, 401, None, "invalid_api_key")
                has(headers["www-authenticate"], "Bearer")
                check(UUID4.match(headers["x-request-id"]))
            for path in ("/tokenize", "/detokenize"):
                status, _, body = worker.request("POST", path, {"content": "a"})
                equal((status, json.loads(body)["error"]["type"]), (401, "authentication_error"))
            key = {"Authorization": "Bearer a-key-of-enough-bytes"}
            equal(worker.request("GET", "/v1/models", None, key)[0], 200)
            complete(worker, key, prompt="x", max_tokens=1)


# --- life of a job ---


@suite.test
def waiting_for_an_answer_ends_with_the_client():
    worker = suite.stub()
    with socket.create_connection(("127.0.0.1", worker.port)) as s:
        body = json.dumps({"prompt": "tokens=1000 delay=20", "max_tokens": 1000, "n": 8}).encode()
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Correlation-ID: gone-1\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(body) + body)
        worker.wait_state("busy")
    gone = time.monotonic()
    worker.wait_state("ready")
    timely(time.monotonic() - gone, 0, 0.1 * SLOW + 0.2)
    equal(worker.job_line("cmpl-gone-1")["detail"], "Client disconnected")


@suite.test
def a_stream_that_is_closed_frees_the_worker():
    worker = suite.stub()
    chunks = Chunks(worker, prompt="tokens=1000 delay=5", max_tokens=1000)
    check(chunks.next())
    chunks.response.close()
    chunks.connection.close()
    gone = time.monotonic()
    worker.wait_state("ready")
    timely(time.monotonic() - gone, 0, 0.1 * SLOW + 0.2)


@suite.test
def cancel_takes_the_id_of_a_completion():
    worker = suite.stub()
    chunks = Chunks(worker, {"X-Correlation-ID": "c-1"}, prompt="tokens=1000 delay=5", max_tokens=1000)
    equal(json.loads(chunks.next())["id"], "cmpl-c-1")
    waiting = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=LIMIT)
    waiting.request("POST", PATH, json.dumps({"prompt": "x"}), dict(JSON, **{"X-Correlation-ID": "c-2"}))
    worker.wait_health("jobs_waiting", 1)
    other = worker.execute(prompt="x")
    equal(worker.cancel("cmpl-c-2")[0], 202)
    answer = waiting.getresponse()
    error_of(answer.status, answer.read(), 499, None, "cancelled")
    equal(worker.cancel("cmpl-c-1")[0], 202)
    data = chunks.rest()
    error = json.loads(data[-1])["error"]
    equal((error["code"], error["type"]), ("cancelled", "invalid_request_error"))
    check("[DONE]" not in data)
    equal(other.collect()[-1].name, "end")
    waiting.close()


@suite.test
def time_is_up_for_the_whole_request():
    with Worker("--inference-timeout-sec", "1", stub=True) as worker:
        status, headers, body = worker.request("POST", PATH, {"prompt": "tokens=10 delay=30", "max_tokens": 10, "n": 8})
        has(error_of(status, body, 408, None, "timeout", "server_error"), "1 s")
        equal(headers["x-should-retry"], "false")
        data = Chunks(worker, prompt=["tokens=10 delay=30"] * 8, max_tokens=10).rest()
        equal(json.loads(data[-1])["error"]["code"], "timeout")
        complete(worker, prompt="x")


@suite.test
def a_failure_becomes_an_error_of_the_server():
    worker = suite.stub()
    status, _, body = worker.request("POST", PATH, {"prompt": "tokens=2 fail=numeric", "max_tokens": 5})
    error_of(status, body, 500, None, None, "server_error")
    status, _, body = worker.request("POST", PATH, {"prompt": ["x", "tokens=2 fail=memory"], "max_tokens": 5})
    has(error_of(status, body, 500, None, None, "server_error"), "memory")
    data = Chunks(worker, prompt="tokens=2 fail=numeric", max_tokens=5).rest()
    equal(len(data), 3)
    equal(json.loads(data[-1])["error"]["type"], "server_error")
    refused(worker, 400, None, "context_length_exceeded", prompt="fail=start")


@suite.test
def an_answer_that_becomes_too_large_is_refused():
    worker = suite.stub()
    fields = {"echo": True, "max_tokens": 63}
    large = ["size=1048576 tokens=63"] + ['"' * 32768] * 15  # 63 MiB, and 64 KiB each, half of which is in the escapes
    status, _, body = worker.request("POST", PATH, dict(fields, prompt=large))
    equal((status, body.count(b'"index":')), (200, 16))
    within(len(body), 63 << 20, 64 << 20)
    # The last one takes it beyond the limit only when its choice is written.
    has(refused(worker, 400, None, "answer_too_large", prompt=large + large[-1:], **fields), "fewer")


@suite.test
def a_full_queue_and_the_end_are_503():
    with Worker("--queue", "1", stub=True) as worker:
        running = Chunks(worker, prompt="tokens=100 delay=10", max_tokens=100)
        check(running.next())
        waiting = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=LIMIT)
        waiting.request("POST", PATH, json.dumps({"prompt": "x"}), JSON)
        worker.wait_health("jobs_waiting", 1)
        status, headers, body = worker.request("POST", PATH, {"prompt": "x"})
        has(error_of(status, body, 503, None, "service_unavailable", "server_error"), "queue is full")
        equal(headers["retry-after"], "1")
        refused(worker, 400, "n", "integer_below_min_value", n=0)  # what is wrong in itself comes first
        worker.signal(signal.SIGTERM)
        answer = waiting.getresponse()
        equal(answer.headers["retry-after"], "1")
        error_of(answer.status, answer.read(), 503, None, "service_unavailable", "server_error")
        status, _, body = worker.request("POST", PATH, {"prompt": "x"})
        error_of(status, body, 503, None, "service_unavailable", "server_error")
        equal(running.rest()[-1], "[DONE]")
        equal(worker.wait(), 0)
        waiting.close()


def post_raw(worker, **fields):
    """A connection on which a completion was asked for."""
    s = socket.create_connection(("127.0.0.1", worker.port), timeout=LIMIT)
    body = json.dumps(fields).encode()
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) +
              body)
    return s


@suite.test
def bodies_that_wait_have_a_limit_together():
    large = {"prompt": ["y" * 32000] * 62}
    with Worker("--queue", "100", stub=True) as worker:
        running = post_raw(worker, prompt="tokens=2000 delay=1", max_tokens=2000, n=8)
        worker.wait_state("busy")
        waiting = []
        answered = []
        while not answered:  # 64 MiB are 34 of them; one after the other, since those on their way have a limit as well
            check(len(waiting) < 37, "nothing was refused")
            waiting.append(post_raw(worker, **large))
            end = time.monotonic() + LIMIT
            while not answered and worker.get("/health")[1]["jobs_waiting"] < len(waiting):
                check(time.monotonic() < end, "neither taken nor refused")
                answered = select.select(waiting, [], [], 0.002)[0]
        answer = answered[0].recv(65536)
        check(answer.startswith(b"HTTP/1.1 503 "), answer[:100])
        has(answer, b"too large together")
        small = worker.execute(prompt="x")
        equal(small.wait_headers(), 200)  # what is small has its place
        small.close()
        for s in waiting + [running]:
            s.close()
        worker.wait_state("ready")
        equal(len(complete(worker, **large)["choices"]), 62)


@suite.test
def nothing_is_sent_before_the_first_token_when_headers_are_deferred():
    with Worker("--defer-headers", stub=True) as worker:
        s = socket.create_connection(("127.0.0.1", worker.port), timeout=LIMIT)
        body = json.dumps({"prompt": "prompt=400 tokens=2", "stream": True}).encode()
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                  % len(body) + body)
        s.settimeout(0.2)
        try:
            check(not s.recv(1), "a byte came before the first token")
        except socket.timeout:
            pass
        s.settimeout(LIMIT)
        answer = b""
        while b"[DONE]" not in answer:
            piece = s.recv(65536)
            check(piece, answer)
            answer += piece
        check(answer.startswith(b"HTTP/1.1 200 OK\r\n"))
        s.close()
        # An error comes with a status then.
        status, _, body = worker.request("POST", PATH, {"prompt": "fail=start", "stream": True})
        error_of(status, body, 400, None, "context_length_exceeded")


@suite.test
def silence_in_a_stream_is_broken_by_comments():
    with Worker(stub=True, env={"STUB_KEEP_ALIVE_MS": "50"}) as worker:
        chunks = Chunks(worker, prompt="prompt=400 tokens=1", max_tokens=1)
        equal(chunks.response.readline(), b": keep-alive\n")
        equal(chunks.response.readline(), b"\n")
        equal(chunks.rest()[-1], "[DONE]")


# --- models and tokens ---


@suite.test
def models_are_listed():
    worker = suite.real()
    status, headers, body = worker.request("GET", "/v1/models")
    listed = json.loads(body)
    equal((status, listed["object"], len(listed["data"])), (200, "list", 1))
    check("x-request-id" in headers)
    model = listed["data"][0]
    equal({k: v for k, v in model.items() if k != "created"},
          {"id": "shakespeare", "object": "model", "owned_by": "llorch-cpud", "max_model_len": 256})
    within(model["created"], time.time() - 600, time.time() + 1)
    for path in ("/v1/models/shakespeare", "/v1/models/shakes%70eare?x=1"):
        status, _, body = worker.request("GET", path)
        equal((status, json.loads(body)), (200, model))
    for path in ("/v1/models/shakespear", "/v1/models/shakespeares", "/v1/models/x/y", "/v1/models/%00", "/v1/models/%7"):
        status, _, body = worker.request("GET", path)
        error_of(status, body, 404, "model", "model_not_found")
    error_of(*_answer(worker, "GET", "/v1/models/"), 404, None, "unknown_url")
    status, headers, body = worker.request("HEAD", "/v1/models")
    equal((status, body), (200, b""))


def tokens(worker, path="/tokenize", status=200, **fields):
    got, _, body = worker.request("POST", path, fields)
    equal(got, status, body[:300])
    return json.loads(body)


@suite.test
def text_becomes_tokens_and_text_again():
    worker = suite.real()
    text = "To be, or not… é\U0001f600\n"
    ids = tokens(worker, content=text)["tokens"]
    equal(tokens(worker, "/detokenize", tokens=ids), {"content": text})
    equal(tokens(worker, content=text, add_special=True, parse_special=False)["tokens"], ids)
    pieces = tokens(worker, content=text, with_pieces=True)["tokens"]
    equal([p["id"] for p in pieces], ids)
    raw = b"".join(bytes(p["piece"]) if isinstance(p["piece"], list) else p["piece"].encode() for p in pieces)
    equal(raw.decode(), text)
    check(any(isinstance(p["piece"], list) for p in pieces))
    equal(tokens(worker, content="<|endoftext|>"), {"tokens": [1023]})
    spelled = tokens(worker, content="<|endoftext|>", parse_special=False)["tokens"]
    check(len(spelled) > 5 and 1023 not in spelled, spelled)
    equal(tokens(worker, content="", model="is ignored"), {"tokens": []})
    equal(tokens(worker, "/detokenize", tokens=[]), {"content": ""})
    equal(tokens(worker, "/detokenize", tokens=[1023, 158]), {"content": "<|endoftext|>\ufffd"})


@suite.test
def what_tokenize_cannot_take_is_refused_as_llama_does():
    worker = suite.real()
    bad = [("/tokenize", {}), ("/tokenize", {"content": 5}), ("/tokenize", {"content": ["a"]}), ("/tokenize", {"content": None}),
           ("/tokenize", {"content": "a", "with_pieces": 1}), ("/tokenize", {"content": "a", "parse_special": "x"}),
           ("/tokenize", {"content": "x" * 32769}), ("/tokenize", {"content": "\U0001f600" * 32768, "with_pieces": True}),
           ("/detokenize", {}), ("/detokenize", {"tokens": "abc"}), ("/detokenize", {"tokens": 5}), ("/detokenize", {"tokens": ["a"]}),
           ("/detokenize", {"tokens": [1, [2]]}), ("/detokenize", {"tokens": [1024]}), ("/detokenize", {"tokens": [-1]}),
           ("/detokenize", {"tokens": [1.5]}), ("/detokenize", {"tokens": [2 ** 40]}), ("/detokenize", {"tokens": [1] * 32769}),
           ("/tokenize", [1, 2]), ("/detokenize", [1, 2])]
    for path, fields in bad:
        status, _, body = worker.request("POST", path, fields)
        error = json.loads(body)["error"]
        equal((status, error["code"], error["type"]), (400, 400, "invalid_request_error"), fields)
        equal(sorted(error), ["code", "message", "type"])
    for method, path, headers, want in (("GET", "/tokenize", {}, 405), ("POST", "/detokenize", {"Content-Type": "x"}, 415)):
        status, _, body = worker.request(method, path, b"{}" if method == "POST" else None, headers)
        equal((status, json.loads(body)["error"]["code"]), (want, want))


@suite.test
def tokens_are_counted_while_a_job_runs():
    worker = suite.real()
    busy = worker.start(prompt="ROMEO:", max_tokens=200)
    equal(tokens(worker, content="To be")["tokens"], [397, 304])
    equal(tokens(worker, "/detokenize", tokens=[397, 304]), {"content": "To be"})
    equal(worker.request("GET", "/v1/models")[0], 200)
    alone = text_of(worker.run(prompt="ROMEO:", max_tokens=200))
    events = busy.collect()
    check(alone.endswith(text_of(events)), "asking for tokens changed what a job generates")


@suite.test
def nothing_answers_before_the_model_is_there():
    with Worker(stub=True, env={"STUB_LOAD_MS": "1500"}, ready=False) as worker:
        check(worker.port)
        status, headers, body = worker.request("GET", "/v1/models")
        error_of(status, body, 503, None, "service_unavailable", "server_error")
        equal(headers["retry-after"], "1")
        status, _, body = worker.request("POST", PATH, {"prompt": "x"})
        error_of(status, body, 503, None, "service_unavailable", "server_error")
        status, _, body = worker.request("POST", "/tokenize", {"content": "x"})
        equal((status, json.loads(body)["error"]["type"]), (503, "unavailable_error"))


if __name__ == "__main__":
    sys.exit(suite.run())
