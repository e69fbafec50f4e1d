#!/usr/bin/env python3
"""Every file of the table tests/hostile, given to the program: one line that names it, exit status 1, nothing else.

LLORCH_TEST_QUICK  every fifth file only, for builds that are slow
LLORCH_TEST_HEAVY  also those that cost seconds and hundreds of megabytes, and each to two commands
"""
# Runs beside others: nothing here measures time.
import mmap
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from random import Random

from harness import BIN, ROOT, SLOW, Suite, Worker, check, clean_environment, equal, tokens_of

sys.path.insert(0, os.path.join(ROOT, "tests", "hostile"))
import table  # noqa: E402  pylint: disable=wrong-import-position
import values  # noqa: E402  pylint: disable=wrong-import-position
from forms import gguf, model, packed, tokenizer_json  # noqa: E402  pylint: disable=wrong-import-position

suite = Suite()
FOLDER = os.path.realpath(tempfile.mkdtemp(prefix="llorch-hostile-"))
QUICK = "LLORCH_TEST_QUICK" in os.environ
HEAVY = "LLORCH_TEST_HEAVY" in os.environ
OTHERS_EVERY = 1 if HEAVY else 4  # file is also given to another command than generate
SECONDS = 5 * SLOW  # of the processor; somebody else may be using it
WAIT = int(60 * SLOW)  # then it hangs
# A sanitizer keeps freed memory back and shadows all of it.
MEGABYTES = (1000 if HEAVY else 200) * (1 if SLOW == 1 else 6)
LINE_BYTES = 512

OUT = os.path.join(FOLDER, "out")
GENERATE = ("generate", "--prompt", "abc", "--max-tokens", "2", "--model")
# What reads a model beside generate, one after the other.
MODEL = (("info", "--model"), ("serve", "--port", "0", "--model"), ("verify", "--model"), ("eval", "--text", __file__, "--model"),
         ("quantize", "--type", "f32", "--out", OUT, "--model"), ("pack", "--out", OUT, "--model"),
         ("capture", "--ids", "1", "--out", OUT, "--model"), ("explain", "--prompt", "a", "--model"),
         ("profile", "--prompt", "a", "--model"), ("verify", "--determinism", "2", "--model"))
TOKENIZER = (("tokenize", "--model"), ("serve", "--port", "0", "--model"), ("info", "--model"), ("eval", "--text", __file__, "--model"),
             ("pack", "--out", OUT, "--model"), ("explain", "--prompt", "a", "--model"))


class Ended:
    """A command run to its end, with what it took."""

    files = [tempfile.TemporaryFile() for _ in range(2)]
    environment = clean_environment()

    def __init__(self, command, folder):
        for file in self.files:
            file.seek(0)
            file.truncate()
        process = subprocess.Popen([BIN, *command], cwd=folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=self.files[0],
                                   stderr=self.files[1])
        signal.signal(signal.SIGALRM, lambda *_: process.kill())
        signal.alarm(WAIT)
        _, status, usage = os.wait4(process.pid, 0)
        signal.alarm(0)
        self.status = process.returncode = os.waitstatus_to_exitcode(status)
        self.seconds = usage.ru_utime + usage.ru_stime
        self.megabytes = usage.ru_maxrss / 1024
        self.out, self.error = (os.pread(file.fileno(), 1 << 20, 0) for file in self.files)


def names_below(folder):
    return sorted(os.path.join(os.fsencode(at), name) for at, _, files in os.walk(os.fsencode(folder)) for name in files)


def check_line(command, line):
    """The one line of an error; the daemon's is a line of JSON with the same text."""
    check(len(line) <= LINE_BYTES or command[0] == "serve", "%d bytes: %r" % (len(line), line))
    text = line.decode("utf-8")  # or it fails here
    check(all(c >= " " and not "\x7f" <= c <= "\x9f" for c in text), "control characters: %r" % text)


def error_of(command, ended):
    """The text of the problem."""
    lines = ended.error.split(b"\n")
    equal(lines.pop(), b"")
    if command[0] == "serve":
        failed = [line for line in lines if b'"level":"error"' in line]
        equal(len(failed), 1, "lines of level error in %r" % ended.error[-2000:])
        for line in lines:
            check_line(command, line)
        return failed[0].decode("utf-8")
    equal(len(lines), 1, "lines in %r" % ended.error[-2000:])
    check_line(command, lines[0])
    check(lines[0].startswith(b"llorch-cpud: "), lines[0])
    return lines[0].decode("utf-8")


def refused(case, command, folder):
    before = names_below(FOLDER)
    ended = Ended(command, folder)
    what = "%s: %s" % (command[0], ended.error[-1000:])
    equal(ended.status, case.status, what)
    text = error_of(command, ended)
    for part in case.says:
        check(part in text or (command[0] == "serve" and table.in_json(part) in text), "%s: %r is not in %r" % (command[0], part, text))
    equal(ended.out, b"", what)
    equal(names_below(FOLDER), before, "%s: files left" % command[0])
    check(ended.seconds < SECONDS, "%s: %.1f s" % (command[0], ended.seconds))
    check(ended.megabytes < MEGABYTES, "%s: %.0f MB" % (command[0], ended.megabytes))


def commands(case, number, folder):
    target = os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(case.target)).rstrip(b"/"))
    if case.runs == "model":
        others = MODEL
    elif case.runs == "tokenizer":
        others = TOKENIZER
    else:
        yield [word.replace("{}", folder) for word in case.runs]
        return
    yield [*GENERATE, target]
    if number % OTHERS_EVERY == 0:
        yield [*others[number // OTHERS_EVERY % len(others)], target]


def run_group(cases):
    """All files of a group; what fails is collected, so that one run shows everything."""
    problems = []
    count = 0
    for number, case in enumerate(cases):
        if (QUICK and number % 5 != 0) or (case.heavy and not HEAVY):
            continue
        count += 1
        folder = os.path.join(FOLDER, "m%d" % number)
        try:
            table.lay_out(folder, case.files)
            for command in commands(case, number, folder):
                refused(case, command, folder)
        except (AssertionError, UnicodeDecodeError) as error:
            problems.append("%s: %s" % (case.name, error))
        finally:
            shutil.rmtree(os.fsencode(folder), ignore_errors=True)
            shutil.rmtree(OUT, ignore_errors=True)
    print("# %d files" % count)
    check(not problems, "%d of %d:\n%s" % (len(problems), count, "\n".join(problems)))


for group, listed in table.groups(BIN):
    suite.case("hostile files: " + group, listed)(run_group)


# --- numbers that overflow ---

def served(name, files):
    """The terminal event of a job of the model, and how many tokens came before it."""
    folder = os.path.join(FOLDER, "served")
    table.lay_out(folder, files)
    try:
        with Worker(model=folder) as w:
            events = w.run(prompt="abc", max_tokens=4)
            equal(w.get("/health")[1]["state"], "ready", name)
            return events[-1], len(tokens_of(events))
    finally:
        shutil.rmtree(folder)


@suite.case("numbers that overflow end a job with an error and no token, never the worker")
def overflow():
    for name, files in list(values.overflowing())[::4 if QUICK else 1]:
        last, n_tokens = served(name, files)
        equal((name, last.name, n_tokens, last.data["tokens_out"]), (name, "error", 0, 0))
    for name, files in list(values.finite())[::3 if QUICK else 1]:
        last, n_tokens = served(name, files)
        equal((name, last.name, n_tokens), (name, "end", 4))


# --- good models, a little damaged ---

def forms():
    """(name, files, the ones to damage, what --model names)"""
    good = model()
    yield "folder", good, list(good), ""
    yield "tokenizer.json", model(vocab_json=None, merges_txt=None, tokenizer_json=tokenizer_json()), ["tokenizer.json"], ""
    yield "GGUF", {"m.gguf": gguf()}, ["m.gguf"], "m.gguf"
    yield "packed", {"m.packed": None}, ["m.packed"], "m.packed"  # made when it is wanted


def damaged(data, random, n):
    """n prefixes and n copies with one byte changed; most of them in the first kilobytes, where the structure is."""
    for _ in range(n):
        yield data[:random.randrange(min(len(data), random.choice((64, 2048, len(data)))))]
        at = random.randrange(min(len(data), random.choice((64, 2048, len(data)))))
        byte = random.choice((0, 255, data[at] ^ 1 << random.randrange(8), (data[at] + 1) % 256, (data[at] - 1) % 256))
        yield data[:at] + bytes([byte]) + data[at + 1:]


def survives(command, folder, what):
    """Whatever it thinks of the file: it says so in one line, or works."""
    ended = Ended(command, folder)
    check(ended.status in (0, 1), "%s: status %d: %r" % (what, ended.status, ended.error[-1000:]))
    if ended.status == 1:
        error_of(command, ended)
        equal(ended.out, b"", what)
    check(ended.seconds < SECONDS and ended.megabytes < MEGABYTES, "%s: %.1f s, %.0f MB" % (what, ended.seconds, ended.megabytes))


def damage(name, files, victims, target):
    random = Random(name)
    files = {file: data if data is not None else packed(BIN) for file, data in files.items()}
    for victim in victims:
        for number, data in enumerate(damaged(files[victim], random, 3 if QUICK else 16)):
            folder = os.path.join(FOLDER, "damaged")
            table.lay_out(folder, dict(files, **{victim: data}))
            survives([*GENERATE, os.path.join(folder, target)], folder, "%s, damage %d of %s" % (name, number, victim))
            shutil.rmtree(folder)


for form in forms():
    suite.case("every prefix and damaged byte that was drawn is survived: " + form[0], *form)(damage)


# --- somebody writes to the file meanwhile ---

def meanwhile(act, path, *args):
    """A process that does this to the file again and again."""
    pid = os.fork()
    if pid != 0:
        return pid
    parent = os.getppid()
    with open(path, "r+b") as file:
        while os.getppid() == parent:
            act(file, *args)
    os._exit(0)


def flip(file, offset, first, second):
    with mmap.mmap(file.fileno(), 0) as view:
        for _ in range(100000):
            view[offset:offset + len(first)] = first
            view[offset:offset + len(first)] = second


def grow(file, size):
    """Up to a megabyte more, then as it was."""
    for n in range(256):
        file.truncate(size + 4096 * n)
    file.truncate(size)


def under_change(target, folder, file, act, *args):
    writer = meanwhile(act, os.path.join(folder, file), *args)
    try:
        for number in range(3 if QUICK else 10):
            survives([*GENERATE, target], folder, "%s, %s %r, run %d" % (file, act.__name__, args, number))
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)


@suite.case("a file that changes while it is read leads to an error, never further")
def changing():
    files = {"m.gguf": gguf(), "config.json": model()["config.json"], "m.safetensors": model()["model.safetensors"],
             "vocab.json": model()["vocab.json"], "merges.txt": model()["merges.txt"]}
    folder = os.path.join(FOLDER, "changing")
    table.lay_out(folder, files)
    name = b"output_norm.bias"
    places = (("m.gguf", files["m.gguf"].index(name) - 8, b"\x00", b"\x10"),  # the length of a tensor's name
              ("m.gguf", files["m.gguf"].index(b"the") - 8, (1 << 40).to_bytes(8, "little"), (3).to_bytes(8, "little")),  # that of a token
              ("m.safetensors", 0, files["m.safetensors"][:8], b"\xff" * 8),
              ("m.safetensors", 9, b"wte", b'x":'),
              ("vocab.json", 1, files["vocab.json"][1:4], b"[[["))
    for file, offset, first, second in places:
        target = os.path.join(folder, "m.safetensors" if file == "vocab.json" else file)
        under_change(target, folder, file, flip, offset, first, second)
        table.lay_out(folder, files)
    for file in ("m.gguf", "m.safetensors"):
        under_change(os.path.join(folder, file), folder, file, grow, len(files[file]))


@suite.case("what is wrong with a reference is said in whole characters, however long its path is")
def long_notes():
    for name in ("\u00e9" * 120, "x" + "\u00e9" * 120):  # cut at the same byte, one of them would break
        folder = os.path.join(FOLDER, name)
        table.lay_out(folder, dict(model(), **{"metadata.json": b'{"tokens": [1]}', "checkpoint_01.npy": b"x"}))
        ended = Ended(["verify", "--model", folder, "--reference", folder], folder)
        check(b"not a NumPy .npy file" in ended.out, ended.out)
        ended.out.decode("utf-8")
        shutil.rmtree(folder)


status = suite.run()
shutil.rmtree(FOLDER, ignore_errors=True)
sys.exit(status)
