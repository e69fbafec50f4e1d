#!/usr/bin/env python3
"""The command line of the real program: generate, info, --version, --help and what they say when something is wrong.

usage: tests/http/test_cli.py      (LLORCH_BIN: the program, build/llorch-cpud; from the root of the repository)
"""
# Runs beside others: nothing here measures time.
import base64
import ctypes
import json
import os
import pty
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import BIN, SLOW, Skip, Suite, Worker, clean_environment, equal, has, run_program, sanitized, wait_caught

SHIPPED = "models/shakespeare"
TINY = "tests/data/tiny-gpt2"
suite = Suite()


def run(*args, data=b"", env=None, cwd=None, binary=BIN):
    return subprocess.run([binary, *args], input=data, capture_output=True, timeout=60, env=clean_environment(env),
                          cwd=cwd, check=False)


def text(data):
    return data.decode("utf-8")


def fails(status, message, *args, **more):
    """The program ends with status, one line on standard error, nothing on standard output."""
    done = run(*args, **more)
    error = text(done.stderr)
    equal(done.returncode, status, "exit status of %s (%s)" % (" ".join(args), error))
    equal(done.stdout, b"", "standard output")
    equal(error.count("\n"), 1, "lines on standard error")
    if not error.startswith("llorch-cpud: ") or not error.endswith("\n"):
        raise AssertionError("not a line of this program: %r" % error)
    if len(error.encode()) > 512 + len("llorch-cpud: \n"):
        raise AssertionError("line of %d bytes" % len(error))
    has(error, message)


def generate(*args, model=SHIPPED, **more):
    done = run("generate", "--model", model, *args, **more)
    equal(text(done.stderr), "", "standard error")
    equal(done.returncode, 0, "exit status")
    return done.stdout


def generate_json(*args, model=SHIPPED, **more):
    out = generate("--json", *args, model=model, **more)
    equal(out.count(b"\n"), 1, "lines of the JSON output")
    return json.loads(out)


def recorded(model):
    with open(model + "/reference/checkpoint_12.json", encoding="utf-8") as file:
        return json.load(file)


# --- generate ---

@suite.test
def greedy_text_is_the_recorded_one():
    for model in (SHIPPED, TINY):
        want = recorded(model)
        args = ["--max-tokens", str(want["max_tokens"]), "--temperature", "0"]
        for isa in ("scalar", None):
            more = ["--isa", isa] if isa else []
            equal(text(generate("--prompt", want["prompt"], *args, *more, model=model)), want["text"])
        got = generate_json("--prompt", want["prompt"], *args, model=model)
        equal(got["ids"], want["ids"])
        equal(got["text"], want["text"])
        equal(got["prompt_ids"], want["prompt_ids"])


@suite.test
def json_has_exactly_the_promised_keys():
    got = generate_json("--prompt", "ROMEO:", "--max-tokens", "7", "--seed", "18446744073709551615")
    equal(list(got), ["prompt_ids", "ids", "text", "stop_reason", "seed", "timings"])
    equal(got["seed"], 18446744073709551615)
    equal(len(got["ids"]), 7)
    equal(got["stop_reason"], "MAX_TOKENS")
    for name in ("load_ms", "prompt_ms", "decode_ms", "time_to_first_token_ms", "prompt_tokens_per_sec",
                 "tokens_per_sec"):
        if not isinstance(got["timings"][name], (int, float)) or got["timings"][name] < 0:
            raise AssertionError("timings.%s is %r" % (name, got["timings"][name]))


@suite.test
def text_and_json_agree():
    args = ["--prompt", "JULIET:\n", "--max-tokens", "40", "--temperature", "1.3", "--seed", "5"]
    equal(text(generate(*args)), generate_json(*args)["text"])


@suite.test
def defaults_are_those_of_the_contract():
    args = ["--prompt", "KING:"]
    want = generate_json(*args, "--max-tokens", "100", "--temperature", "1", "--top-k", "0", "--top-p", "1", "--min-p",
                         "0", "--repetition-penalty", "1", "--seed", "42")
    got = generate_json(*args)
    equal(got["ids"], want["ids"])
    equal(got["seed"], 42)
    equal(len(got["ids"]), 100)


@suite.test
def seeds_decide_and_repeat():
    args = ["--prompt", "KING:", "--max-tokens", "30"]
    first = generate(*args, "--seed", "1")
    equal(generate(*args, "--seed", "1"), first)
    equal(generate(*args, "--seed", "1", "--isa", "scalar"), first)
    if generate(*args, "--seed", "2") == first:
        raise AssertionError("another seed, the same text")


@suite.test
def filters_reach_the_sampler():
    args = ["--prompt", "KING:", "--max-tokens", "30"]
    greedy = generate(*args, "--temperature", "0")
    for one in (["--top-k", "1"], ["--top-p", "0"], ["--min-p", "1"]):
        equal(generate(*args, *one), greedy, " ".join(one))
    if generate(*args, "--temperature", "0", "--repetition-penalty", "2") == greedy:
        raise AssertionError("the repetition penalty changes nothing")


@suite.test
def prompt_comes_from_standard_input_byte_for_byte():
    want = generate_json("--prompt", "ROMEO:\n", "--max-tokens", "5")
    got = generate_json("--prompt", "-", "--max-tokens", "5", data=b"ROMEO:\n")
    equal(got["prompt_ids"], want["prompt_ids"])
    equal(got["ids"], want["ids"])
    shorter = generate_json("--prompt", "-", "--max-tokens", "5", data=b"ROMEO:")
    equal(len(shorter["prompt_ids"]) < len(want["prompt_ids"]), True, "the line feed counts")


@suite.test
def any_bytes_are_a_prompt():
    data = bytes(range(256))
    got = generate_json("--prompt", "-", "--max-tokens", "1", data=data[:200])
    equal(len(got["prompt_ids"]) > 100, True)
    got = generate_json("--prompt", "-", "--max-tokens", "1", data=b"a\0b\xff\xfe")
    equal(len(got["prompt_ids"]), 5)


@suite.test
def ids_instead_of_a_prompt():
    want = generate_json("--prompt", "First Citizen:", "--max-tokens", "8")
    got = generate_json("--ids", ",".join(map(str, want["prompt_ids"])), "--max-tokens", "8")
    equal(got["prompt_ids"], want["prompt_ids"])
    equal(got["ids"], want["ids"])


@suite.test
def stop_strings_end_the_text():
    args = ["--prompt", recorded(SHIPPED)["prompt"], "--temperature", "0", "--max-tokens", "40"]
    whole = recorded(SHIPPED)["text"]
    got = generate_json(*args, "--stop", "tell", "--stop", "man; but")
    equal(got["stop_reason"], "STOP_SEQUENCE")
    equal(got["text"], whole[:whole.index("man; but")])
    # The token that completes the stop string is among the ids.
    ids = recorded(SHIPPED)["ids"]
    equal(got["ids"], ids[:len(got["ids"])])
    before = generate_json(*args[:-1], str(len(got["ids"]) - 1))
    equal("man; but" in before["text"], False)
    equal("man; but" in generate_json(*args[:-1], str(len(got["ids"])))["text"], True)
    equal(text(generate(*args, "--stop", "tell", "--stop", "man; but")), got["text"])


@suite.test
def the_end_of_the_context_ends_the_text():
    ids = ",".join(["65"] * 250)
    got = generate_json("--ids", ids, "--max-tokens", "100", "--seed", "3")
    equal(len(got["ids"]), 7)
    equal(got["stop_reason"], "MAX_TOKENS")
    got = generate_json("--ids", "65,66,67", "--max-context", "5")
    equal(len(got["ids"]), 3)


@suite.test
def the_end_token_is_not_an_id():
    with tempfile.TemporaryDirectory() as folder:
        for name in ("config.json", "vocab.json", "merges.txt", "model.safetensors"):
            os.symlink(os.path.abspath(os.path.join(SHIPPED, name)), os.path.join(folder, name))
        want = recorded(SHIPPED)
        end = want["ids"][4]
        with open(os.path.join(folder, "generation_config.json"), "w", encoding="utf-8") as file:
            json.dump({"eos_token_id": end}, file)
        got = generate_json("--prompt", want["prompt"], "--temperature", "0", model=folder)
        stop = want["ids"].index(end)
        equal(got["ids"], want["ids"][:stop])
        equal(got["stop_reason"], "EOS")


@suite.test
def text_is_streamed_as_it_is_produced():
    read, write = os.pipe()
    process = subprocess.Popen([BIN, "generate", "--model", SHIPPED, "--prompt", "KING:", "--isa", "scalar",
                                "--max-tokens", "200"], stdout=write, stdin=subprocess.DEVNULL)
    os.close(write)
    pieces = []
    while True:
        piece = os.read(read, 65536)
        if not piece:
            break
        pieces.append(piece)
    os.close(read)
    equal(process.wait(timeout=60), 0, "exit status")
    if len(pieces) < 5:
        raise AssertionError("the text came in %d pieces" % len(pieces))


# --- arguments ---

@suite.test
def ranges_and_messages_of_the_contract():
    prompt = ["generate", "--model", TINY, "--prompt", "a"]
    for args, message in ((["--max-tokens", "0"], "max_tokens must be at least 1"),
                          (["--max-tokens", "-5"], "max_tokens must be at least 1"),
                          (["--max-tokens", "2049"], "max_tokens must be at most 2048 (got 2049)"),
                          (["--max-tokens", "99999999999999999999"],
                           "max_tokens must be at most 2048 (got 99999999999999999999)"),
                          (["--temperature", "-0.5"], "temperature must be at least 0.0 (got -0.5)"),
                          (["--temperature", "2.1"], "temperature must be at most 2.0 (got 2.1)"),
                          (["--temperature", "1e400"], "temperature must be at most 2.0 (got inf)"),
                          (["--top-p", "1.5"], "top_p must be at most 1.0 (got 1.5)"),
                          (["--top-p", "-1"], "top_p must be at least 0.0 (got -1)"),
                          (["--min-p", "2"], "min_p must be at most 1.0 (got 2)"),
                          (["--repetition-penalty", "3"], "repetition_penalty must be at most 2.0 (got 3)"),
                          (["--top-k", "4294967296"], "top_k must be at most 4294967295 (got 4294967296)"),
                          (["--seed", "18446744073709551616"], "seed must be at most 18446744073709551615"),
                          (["--seed", "-1"], "seed must be at least 0"),
                          (["--stop", ""], "stop sequence 0 must not be empty"),
                          (["--stop", "x" * 101], "stop sequence 0 must be at most 100 characters (got 101)"),
                          (["--stop", "a"] * 5, "stop must have at most 4 sequences"),
                          (["--max-context", "0"], "max_context must be at least 1"),
                          (["--max-context", "65"], "64")):
        fails(2, message, *prompt, *args)
    for good in (["--temperature", "2"], ["--temperature", "2.00000001"], ["--top-k", "4294967295"], ["--stop", "é" * 100],
                 ["--seed", "18446744073709551615"], ["--max-tokens", "2048"], ["--top-p", ".5"], ["--min-p", "1e-3"]):
        equal(run(*prompt, *good).returncode, 0, " ".join(good))


@suite.test
def numbers_are_read_strictly():
    prompt = ["generate", "--model", TINY, "--prompt", "a"]
    for option in ("--max-tokens", "--top-k", "--seed", "--max-context"):
        for value in ("", "x", "1.0", " 1", "1 ", "+1", "0x10", "1e2", "--", "1,2"):
            fails(2, "is not an integer", *prompt, option, value)
    for option in ("--temperature", "--top-p", "--min-p", "--repetition-penalty"):
        for value in ("", "x", "nan", "inf", "0x1p0", " 1", "1 ", "+1", "1e", ".", "1,5", "1.2.3"):
            fails(2, "is not a decimal number", *prompt, option, value)


@suite.test
def wrong_arguments_are_named():
    model = ["--model", TINY]
    fails(2, "either --prompt or --ids", "generate", *model)
    fails(2, "either --prompt or --ids", "generate", *model, "--prompt", "a", "--ids", "1")
    fails(2, "--promt", "generate", *model, "--promt", "a")
    fails(2, "-x", "generate", *model, "-x")
    fails(2, "--prompt needs a value", "generate", *model, "--prompt")
    fails(2, "--json takes no value", "generate", *model, "--json=yes")
    fails(2, '"more"', "generate", *model, "--prompt", "a", "more")
    fails(2, "prompt must not be empty", "generate", *model, "--prompt", "")
    fails(2, "prompt must not be empty", "generate", *model, "--prompt", "-")
    fails(2, "the path is empty", "generate", "--model", "", "--prompt", "a")
    fails(2, "mmx", "generate", *model, "--prompt", "a", "--isa", "mmx")
    fails(2, "mmx", "generate", *model, "--prompt", "a", env={"LLORCH_ISA": "mmx"})
    fails(2, "unexpected argument", "info", "x")
    for ids in ("", ",", "1,", "x", "1, 2", "-1", "1.5", "99999999999"):
        fails(2, "not a token id", "generate", *model, "--ids", ids)
    fails(2, "prompt id 512 is outside the vocabulary (0..=511)", "generate", *model, "--ids", "1,512")


@suite.test
def long_prompts_are_refused():
    fails(2, "prompt must be at most 64 tokens (got 65)", "generate", "--model", TINY, "--ids", ",".join(["1"] * 65))
    fails(2, "prompt must be at most 256 tokens (got ", "generate", "--prompt", "-", "--model", SHIPPED,
          data=os.urandom(2000))
    fails(2, "prompt must be at most 32768 characters (got 32769)", "generate", "--model", TINY, "--prompt", "-",
          data=b"a" * 32769)
    fails(2, "at most 32768 characters", "generate", "--model", TINY, "--prompt", "-", data=b"a" * 131073)
    fails(2, "tokens", "generate", "--model", TINY, "--prompt", "-", data="é".encode() * 32768)


@suite.test
def names_in_messages_are_escaped():
    fails(1, "\\x1b[31mno\\nmodel", "generate", "--model", "\x1b[31mno\nmodel", "--prompt", "a")
    fails(2, "\\x1b[2J", "\x1b[2Jgenerate")
    fails(1, "...", "info", "--model", "x" * 3000)


# --- types, processor, memory ---

@suite.test
def types_are_checked():
    prompt = ["generate", "--model", TINY, "--prompt", "a", "--max-tokens", "1"]
    for value in ("", "q4_k", "int8", "f32 ", "F", "q8"):
        fails(2, "expected f32, f16, bf16, q8_0 or q4_0", *prompt, "--type", value)
        fails(2, "expected f32 or f16", *prompt, "--kv-type", value)
    for value in ("bf16", "q8_0", "q4_0"):
        fails(2, "--kv-type: %s: expected f32 or f16" % value, *prompt, "--kv-type", value)


@suite.test
def wider_types_change_no_bit():
    args = ["--prompt", "KING:", "--max-tokens", "20"]
    want = generate_json(*args)["ids"]
    for more in (["--type", "f32"], ["--type", "F16"], ["--kv-type", "f32"]):
        equal(generate_json(*args, *more)["ids"], want, " ".join(more))


@suite.test
def types_reach_the_model():
    seen = []
    for more in ((), ("--type", "q8_0"), ("--type", "q4_0"), ("--kv-type", "f16")):
        with Worker("--host", "127.0.0.1", *more) as worker:
            health = worker.get("/health")[1]
            seen.append((health["quant_kind"], health["memory_bytes"]))
            equal(worker.run(max_tokens=5)[-1].name, "end")
    has(seen[1][0], "Q8_0")
    has(seen[2][0], "Q4_0")
    equal(seen[0][1] > seen[1][1] > seen[2][1], True, "less memory for narrower weights: %r" % seen)
    equal(seen[0][1] > seen[3][1], True, "less memory for a narrower cache: %r" % seen)


def cpu_list(cpus):
    """As the kernel writes it: 0-3,8."""
    ranges = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join("%d-%d" % (a, b) if b > a else str(a) for a, b in ranges)


def status_line(pid, key):
    with open("/proc/%d/status" % pid, encoding="ascii") as file:
        return next(line for line in file if line.startswith(key + ":")).split(":")[1].strip()


@suite.test
def a_processor_is_chosen():
    allowed = os.sched_getaffinity(0)
    for cpu in (min(allowed), max(allowed)):
        with Worker("--host", "127.0.0.1", "--cpu", str(cpu), model=TINY) as worker:
            equal(status_line(worker.pid, "Cpus_allowed_list"), str(cpu))
            equal(len(worker.threads()), 1)
            equal(worker.run(max_tokens=3)[-1].name, "end")
        with subprocess.Popen([BIN, "generate", "--model", TINY, "--cpu", str(cpu), "--max-tokens", "1", "--prompt", "-"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            end = time.monotonic() + 10
            while status_line(process.pid, "Cpus_allowed_list") != str(cpu):
                equal(time.monotonic() < end, True, "pinned within 10 s")
                time.sleep(0.01)
            process.communicate(b"a", timeout=60)
            equal(process.returncode, 0)
    with Worker("--host", "127.0.0.1", model=TINY) as worker:
        equal(status_line(worker.pid, "Cpus_allowed_list"), cpu_list(allowed), "without --cpu")


@suite.test
def a_processor_that_cannot_be_had_is_named():
    allowed = os.sched_getaffinity(0)
    message = "--cpu: %d is not available, allowed: " + cpu_list(allowed)
    for cpu in (max(allowed) + 1, 1023, 1024, 1000000):
        for command in (["serve", "--port", "0", "--model", TINY], ["generate", "--model", TINY, "--prompt", "a"]):
            fails(2, message % cpu, *command, "--cpu", str(cpu))
    for value in ("-1", "", "x", "0-1", "0x0"):
        fails(2, "--cpu", "generate", "--model", TINY, "--prompt", "a", "--cpu", value)
    if len(allowed) > 1:  # what the process was started with is what it may use
        done = subprocess.run([BIN, "generate", "--model", TINY, "--prompt", "a", "--cpu", str(max(allowed))],
                              capture_output=True, timeout=60, check=False,
                              preexec_fn=lambda: os.sched_setaffinity(0, {min(allowed)}))
        equal(done.returncode, 2)
        has(text(done.stderr), "--cpu: %d is not available, allowed: %d\n" % (max(allowed), min(allowed)))


CAP_IPC_LOCK = 14


def may_lock_anything():
    capable = int(status_line(os.getpid(), "CapEff"), 16) >> CAP_IPC_LOCK & 1
    return capable or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY


@suite.test
def memory_is_locked():
    if sanitized():
        raise Skip("the sanitizer makes mlockall do nothing")
    if not may_lock_anything():
        raise Skip("this user may not lock memory")
    with Worker("--host", "127.0.0.1", "--mlock") as worker:
        locked = int(status_line(worker.pid, "VmLck").split()[0]) * 1024
        memory = worker.get("/health")[1]["memory_bytes"]
        equal(locked >= memory, True, "%d bytes locked of %d" % (locked, memory))
        equal(worker.run(max_tokens=3)[-1].name, "end")
    with Worker("--host", "127.0.0.1") as worker:
        equal(status_line(worker.pid, "VmLck"), "0 kB", "without --mlock")


@suite.test
def memory_that_may_not_be_locked_is_an_error():
    if sanitized():
        raise Skip("the sanitizer makes mlockall do nothing")

    def limit():
        ctypes.CDLL(None).prctl(24, CAP_IPC_LOCK, 0, 0, 0)  # PR_CAPBSET_DROP: root too keeps to the limit after exec
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 20, 1 << 20))

    done = subprocess.run([BIN, "serve", "--port", "0", "--model", TINY, "--mlock"], capture_output=True, timeout=60,
                          check=False, preexec_fn=limit, stdin=subprocess.DEVNULL)
    equal(done.returncode, 1, "exit status (%s)" % text(done.stderr))
    lines = [json.loads(line) for line in text(done.stderr).splitlines()]
    errors = [line["message"] for line in lines if line["level"].lower() == "error"]
    equal(len(errors), 1, "error lines of %r" % lines)
    for part in ("--mlock: cannot lock ", "RLIMIT_MEMLOCK is 1024 KiB", "ulimit -l", "CAP_IPC_LOCK"):
        has(errors[0], part)
    equal(any("Worker ready" in line["message"] for line in lines), False, "ready in spite of it")


# --- models ---

@suite.test
def missing_models_are_named():
    fails(1, "nowhere", "generate", "--model", "nowhere", "--prompt", "a")
    fails(1, "nowhere", "info", "--model", "nowhere")
    with tempfile.TemporaryDirectory() as folder:
        fails(1, "config.json", "generate", "--model", folder, "--prompt", "a")


@suite.test
def a_path_to_the_weights_is_a_model():
    want = generate("--prompt", "a", "--max-tokens", "5", model=TINY)
    equal(generate("--prompt", "a", "--max-tokens", "5", model=TINY + "/model.safetensors"), want)


@suite.test
def the_shipped_model_is_found():
    model = os.path.abspath(SHIPPED)
    with tempfile.TemporaryDirectory() as folder:
        binary = os.path.join(folder, "bin", "llorch-cpud")
        os.mkdir(os.path.join(folder, "bin"))
        shutil.copy(BIN, binary)
        places = [os.path.join(folder, "share", "llorch-cpud", "models"), os.path.join(folder, "models")]
        fails(1, os.path.join(places[0], "shakespeare"), "info", binary=binary)
        fails(1, os.path.join(places[1], "shakespeare"), "info", binary=binary)
        for place in places:
            os.makedirs(place)
            os.symlink(model, os.path.join(place, "shakespeare"))
            done = run("generate", "--prompt", "KING:", "--max-tokens", "9", binary=binary, cwd="/")
            equal(done.stdout, generate("--prompt", "KING:", "--max-tokens", "9"))
            os.unlink(os.path.join(place, "shakespeare"))


# --- info, version, help ---

@suite.test
def info_as_a_table():
    done = run("info", "--model", SHIPPED)
    equal(done.returncode, 0)
    out = text(done.stdout)
    for part in ("gpt2: 4 layers, 3 heads of 64, width 192", "2025600", "F16", "1024 tokens", "256 positions", "gelu_new"):
        has(out, part)


@suite.test
def info_as_json():
    got = json.loads(run("info", "--model", SHIPPED, "--json").stdout)
    equal(got["parameters"], 2025600)
    equal(got["file_types"], "F16")
    equal(got["types"], "F16")
    equal(got["architecture"]["layers"], 4)
    equal(got["architecture"]["dim"], 192)
    equal(got["architecture"]["context"], 256)
    equal(got["tokenizer"]["vocab_size"], 1024)
    equal(got["tokenizer"]["end_of_text"], 1023)
    memory = got["memory"]
    equal(memory["context"], 256)
    equal(memory["kv_cache_bytes"], 4 * 2 * 192 * 4 * 256)
    equal(memory["weights_bytes"] >= 2 * 2025600, True)
    equal(memory["total_bytes"], sum(memory[name] for name in ("weights_bytes", "kv_cache_bytes", "work_bytes",
                                                              "tokenizer_bytes")))


@suite.test
def info_counts_memory_for_a_context():
    got = json.loads(run("info", "--model", SHIPPED, "--json", "--context", "64").stdout)
    equal(got["memory"]["context"], 64)
    equal(got["memory"]["kv_cache_bytes"], 4 * 2 * 192 * 4 * 64)
    fails(2, "257", "info", "--model", SHIPPED, "--context", "257")
    fails(2, "context must be at least 1", "info", "--model", SHIPPED, "--context", "0")


@suite.test
def version_names_build_and_versions():
    done = run("--version")
    equal(done.returncode, 0)
    out = text(done.stdout)
    with open("VERSION", encoding="utf-8") as file:
        has(out, "llorch-cpud " + file.read().strip() + "\n")
    for part in ("scalar", "chosen: ", "Unicode", "15.0"):
        has(out, part)
    if "gcc" not in out and "clang" not in out:
        raise AssertionError("no compiler in %r" % out)
    has(text(run("--version", env={"LLORCH_ISA": "scalar"}).stdout), "chosen: scalar")
    fails(2, "mmx", "--version", env={"LLORCH_ISA": "mmx"})


@suite.test
def every_command_explains_itself():
    done = run("--help")
    equal(done.returncode, 0)
    out = text(done.stdout)
    for command in ("serve", "generate", "tokenize", "capture", "verify", "info"):
        has(out, "  " + command + " ")
        own = run(command, "--help")
        equal(own.returncode, 0, command + " --help")
        has(text(own.stdout), "usage: llorch-cpud")
        has(text(own.stdout), command)
        equal(own.stderr, b"")


@suite.test
def help_names_every_option():
    out = text(run("generate", "--help").stdout)
    for option in ("model", "prompt", "ids", "max-tokens", "temperature", "top-k", "top-p", "min-p", "repetition-penalty",
                   "seed", "stop", "max-context", "isa", "type", "kv-type", "cpu", "json", "help"):
        has(out, "--" + option)


@suite.test
def unknown_commands_get_a_hint():
    fails(2, "did you mean generate?", "genrate")
    fails(2, "did you mean serve?", "server")
    fails(2, "did you mean tokenize?", "token")
    done = run("frobnicate")
    equal(done.returncode, 2)
    equal("did you mean" in text(done.stderr), False)
    fails(2, "unknown command", "x" * 10000)


# --- standard streams and signals ---

@suite.test
def a_full_or_closed_output_is_an_error():
    for args in (["generate", "--model", TINY, "--prompt", "a"], ["generate", "--model", TINY, "--prompt", "a", "--json"],
                 ["info", "--model", TINY], ["--version"], ["--help"], ["generate", "--help"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([BIN, *args], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
        equal(done.returncode, 1, "exit status of %s with a full output" % args)
        has(text(done.stderr), "standard output: No space left on device")
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run([BIN, *args], stdout=write, stderr=subprocess.PIPE, timeout=60, check=False)
        os.close(write)
        equal(done.returncode, 1, "exit status of %s with a broken pipe" % args)
        has(text(done.stderr), "standard output: Broken pipe")
        done = subprocess.run(["sh", "-c", 'exec "$0" "$@" >&-', BIN, *args], stderr=subprocess.PIPE, timeout=60,
                              check=False)
        equal(done.returncode, 1, "exit status of %s with a closed output" % args)
        has(text(done.stderr), "standard output: ")


@suite.test
def a_closed_input_is_an_error():
    done = subprocess.run(["sh", "-c", 'exec "$0" "$@" <&-', BIN, "generate", "--model", TINY, "--prompt", "-"],
                          capture_output=True, timeout=60, check=False)
    equal(done.returncode, 1)
    has(text(done.stderr), "standard input: ")


def interrupt(args, wait_for_output):
    process = subprocess.Popen([BIN, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if wait_for_output:
        process.stdout.read(1)
    else:
        wait_caught(process, asleep=True)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    out, error = process.communicate(timeout=60)
    return process.returncode, out, error, time.monotonic() - start


@suite.test
def interrupt_ends_with_130():
    # Waiting for standard input.
    status, out, error, seconds = interrupt(["generate", "--model", TINY, "--prompt", "-"], False)
    equal((status, out, error), (130, b"", b""))
    # In the middle of a text: with a closed loop of many short jobs, one interrupt hits the loop of tokens.
    hits = 0
    for _ in range(5):
        status, out, error, seconds = interrupt(["generate", "--model", SHIPPED, "--isa", "scalar", "--prompt", "KING:",
                                                 "--max-tokens", "2048"], True)
        equal(error, b"")
        equal(status in (0, 130), True, "exit status %d" % status)
        equal(seconds < 2 * SLOW, True, "seconds")
        hits += status == 130
    if hits == 0:
        raise AssertionError("no interrupt came before the end of the text")


def on_terminal(args, seconds=30):
    """What the program writes to a terminal."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(BIN, [BIN, *args])
    out = b""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([fd], [], [], 0.2)[0]:
            try:
                piece = os.read(fd, 65536)
            except OSError:
                break
            if not piece:
                break
            out += piece
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out


@suite.test
def a_terminal_gets_a_line_end_and_no_early_progress():
    want = generate("--prompt", "KING:", "--max-tokens", "12", "--temperature", "0")
    try:
        status, out = on_terminal(["generate", "--model", SHIPPED, "--prompt", "KING:", "--max-tokens", "12",
                                   "--temperature", "0"])
    except OSError as error:
        raise Skip("no terminal can be opened here (%s)" % error) from error
    equal(status, 0)
    equal(out.replace(b"\r\n", b"\n"), want + b"\n")


@suite.test
def memory_that_runs_out_is_an_error():
    failures = 0
    for mebibytes in range(32, 5, -1):
        done = subprocess.run([BIN, "generate", "--model", SHIPPED, "--prompt", "a"], capture_output=True, timeout=60,
                              check=False, preexec_fn=lambda size=mebibytes << 20: resource.setrlimit(
                                  resource.RLIMIT_AS, (size, size)))
        if b"AddressSanitizer" in done.stderr or b"shadow memory" in done.stderr:
            raise Skip("the sanitizer needs the address space itself")
        if done.returncode == 0:
            continue
        if done.returncode == 127 or done.returncode < 0 and not done.stderr:
            break  # not even the program itself fits: the loader gives up
        equal(done.returncode, 1, "exit status with %d MiB (%r)" % (mebibytes, done.stderr))
        has(text(done.stderr), "llorch-cpud: ")
        equal(text(done.stderr).count("\n"), 1, "lines")
        equal(done.stdout, b"")
        failures += 1
    equal(failures > 0, True, "a limit at which memory ran out")


@suite.test
def vectors_of_the_tiny_model():
    """Prompts of the tokenizer's vectors, as bytes through standard input."""
    with open(TINY + "/reference/tokenizer_vectors.jsonl", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:40]
    checked = 0
    for row in rows:
        data = base64.b64decode(row["text"])
        if not data or not 0 < len(row["ids"]) <= 64:
            continue
        got = generate_json("--prompt", "-", "--max-tokens", "1", model=TINY, data=data)
        equal(got["prompt_ids"], row["ids"])
        checked += 1
    equal(checked > 5, True, "vectors checked")


@suite.test
def as_many_ids_as_tokenize_can_write_are_read_again():
    """Files have fewer values than this; what a user hands in is bounded by its bytes alone."""
    data = b"[" + b"1," * 1100000 + b"1]\n"
    status, out, err = run_program("tokenize", "--model", TINY, "--decode", data=data, limit=60 * SLOW)
    equal((status, err, len(out)), (0, "", 1100001))


sys.exit(suite.run())
