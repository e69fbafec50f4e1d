#!/usr/bin/env python3
"""What an attacker who found a hole would meet: how the program was built, what its core files and its log hold."""
# Runs beside others: nothing here measures time.
import os
import re
import shutil
import subprocess
import sys
import tempfile

from harness import BIN, TINY, Skip, Stream, Suite, Worker, body_of, check, equal, has, sanitized

suite = Suite()
SECRET = "the heron crosses Zanzibar at dusk"
JOB = "job-of-the-heron"


def readelf(*options):
    if not shutil.which("readelf"):
        raise Skip("readelf (binutils) is not installed")
    return subprocess.run(["readelf", "-W", *options, BIN], stdout=subprocess.PIPE, check=True).stdout.decode()


# ---- The binary ----

@suite.test
def the_program_is_position_independent():
    has(readelf("-h"), "DYN (Position-Independent Executable file)")


@suite.test
def every_symbol_is_bound_before_the_table_becomes_read_only():
    has(readelf("-l"), "GNU_RELRO")
    check(re.search(r"\(FLAGS_1\).*\bNOW\b", readelf("-d")), "bound lazily")


@suite.test
def no_segment_can_be_written_and_run():
    for line in readelf("-l").splitlines():
        if re.match(r"\s+(LOAD|GNU_STACK)\s", line):
            check("RWE" not in line, line)
    check(re.search(r"GNU_STACK.*\sRW\s", readelf("-l")), "no GNU_STACK: the stack may be run")
    check("TEXTREL" not in readelf("-d"), "text relocations")


@suite.test
def libraries_come_from_the_system_alone():
    dynamic = readelf("-d")
    check("RPATH" not in dynamic and "RUNPATH" not in dynamic, dynamic)


@suite.test
def functions_with_arrays_guard_their_stack():
    has(readelf("--dyn-syms"), "__stack_chk_fail")


@suite.test
def calls_of_the_c_library_know_the_size_of_their_buffers():
    if sanitized():
        raise Skip("a sanitizer replaces these functions")
    checked = re.findall(r"__(\w+)_chk@", readelf("--dyn-syms"))
    check("snprintf" in checked and "memcpy" in checked, checked)


# ---- Core files ----

def core_with_a_job(*args):
    """The core file of a worker in a job, made by a debugger, which follows the same rules as the system's own."""
    if sanitized():
        raise Skip("a sanitizer's memory is too large for a core file")
    if not shutil.which("gcore"):
        raise Skip("gcore (gdb) is not installed")
    with tempfile.TemporaryDirectory() as folder, Worker(*args, model=TINY) as w:
        stream = w.start(prompt=SECRET, job_id=JOB, max_tokens=900)
        done = subprocess.run(["gcore", "-o", os.path.join(folder, "core"), str(w.pid)], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60, check=False)
        stream.close()
        names = os.listdir(folder)
        if not names:
            raise Skip("gcore made no file: " + done.stdout.decode("utf-8", "replace").strip().splitlines()[-1])
        with open(os.path.join(folder, names[0]), "rb") as file:
            return file.read()


@suite.test
def no_core_file_is_written():
    with open("/proc/%d/limits" % suite.real().pid, encoding="ascii") as file:
        line = next(l for l in file if l.startswith("Max core file size"))
    check(re.search(r"\s0\s+0\s", line), line)
    with open("/proc/%d/coredump_filter" % suite.real().pid, encoding="ascii") as file:
        equal(int(file.read(), 16), 0)


@suite.test
def a_core_file_that_a_debugger_makes_holds_no_prompt():
    core = core_with_a_job()
    check(SECRET.encode() not in core and JOB.encode() not in core, "text of a request is in the core file")


@suite.test
def core_dumps_on_request_are_complete():
    # The prompt's bytes may be overwritten once it is tokens; the job's name stays with the job.
    check(JOB.encode() in core_with_a_job("--core-dumps"), "--core-dumps left the memory out")


# ---- The log ----

def bad_bodies():
    body = body_of(prompt=SECRET)
    yield body_of(prompt=SECRET, temperature=9)
    yield body_of(prompt=SECRET, max_tokens=0)
    yield body_of(prompt=SECRET, stop=[1])
    yield body_of(prompt=SECRET * 40000)
    yield str(body).encode()  # not JSON: wrong quotes
    yield (b'{"prompt": "' + SECRET.encode() + b'"')
    yield (b'{"job_id": "' + SECRET.encode() + b'"}')


@suite.test
def no_prompt_is_in_the_log_at_any_level():
    with Worker("--log-level", "debug", model=TINY) as w:
        events = w.run(prompt=SECRET, max_tokens=3, stop=[SECRET])
        equal(events[-1].name, "end")
        for body in bad_bodies():
            s = Stream(w.port, body)
            s.wait_headers()
            check(s.status in (400, 413, 422), (s.status, body))
            s.close()
        running = w.start(prompt=SECRET, max_tokens=500, job_id="gone")
        running.reset()
        w.job_line("gone", message="")
        w.wait_state("ready")
        equal(w.stop(), 0)
        log = "\n".join(w.raw_log)
    has(log, "gone")
    for word in SECRET.split()[1:]:
        check(word == "at" or word not in log, "%r is in the log" % word)


sys.exit(suite.run())
