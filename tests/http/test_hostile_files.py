#!/usr/bin/env python3
"""Every file of the table tests/hostile, given to the program: one line that names it, exit status 1, nothing else.

LLORCH_TEST_QUICK  every fifth file only, for builds that are slow
LLORCH_TEST_HEAVY  also those that cost seconds and hundreds of megabytes
"""
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import BIN, ROOT, SLOW, Suite, check, clean_environment, equal

sys.path.insert(0, os.path.join(ROOT, "tests", "hostile"))
import table  # noqa: E402  pylint: disable=wrong-import-position

suite = Suite()
FOLDER = os.path.realpath(tempfile.mkdtemp(prefix="llorch-hostile-"))
QUICK = "LLORCH_TEST_QUICK" in os.environ
HEAVY = "LLORCH_TEST_HEAVY" in os.environ
SECONDS = 5 * SLOW  # of the processor; somebody else may be using it
WAIT = 60 * SLOW  # then it hangs
# A sanitizer keeps freed memory back and shadows all of it.
MEGABYTES = (1000 if HEAVY else 200) * (1 if SLOW == 1 else 6)
LINE_BYTES = 512

OUT = os.path.join(FOLDER, "out")
GENERATE = ("generate", "--prompt", "abc", "--max-tokens", "2", "--model")
# What reads a model beside generate, one after the other.
MODEL = (("info", "--model"), ("serve", "--port", "0", "--model"), ("verify", "--model"), ("eval", "--text", __file__, "--model"),
         ("quantize", "--type", "q8_0", "--out", OUT, "--model"), ("pack", "--out", OUT, "--model"),
         ("capture", "--ids", "1", "--out", OUT, "--model"), ("explain", "--prompt", "a", "--model"),
         ("profile", "--prompt", "a", "--model"), ("verify", "--determinism", "2", "--model"))
TOKENIZER = (("tokenize", "--model"), ("serve", "--port", "0", "--model"), ("info", "--model"), ("eval", "--text", __file__, "--model"),
             ("pack", "--out", OUT, "--model"), ("explain", "--prompt", "a", "--model"))


class Ended:
    """A command run to its end, with what it took."""

    def __init__(self, command, folder):
        started = time.monotonic()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
            process = subprocess.Popen([BIN, *command], cwd=folder, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=error)
            self.status, usage = self._wait(process, started)
            self.seconds = usage.ru_utime + usage.ru_stime
            self.megabytes = usage.ru_maxrss / 1024
            for file in (out, error):
                file.seek(0)
            self.out, self.error = out.read(), error.read()

    @staticmethod
    def _wait(process, started):
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid != 0:
                process.returncode = os.waitstatus_to_exitcode(status)
                return process.returncode, usage
            if time.monotonic() - started > WAIT:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.0005)


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
    equal(ended.status, 1, what)
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
    yield [*others[number % len(others)], target]


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

status = suite.run()
shutil.rmtree(FOLDER, ignore_errors=True)
sys.exit(status)
