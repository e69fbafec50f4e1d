#!/usr/bin/env python3
"""`diff` on the command line: what it prints, its JSON, its page, its exit statuses. No server is started."""
# Runs beside others: nothing here measures time.
import json
import math
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile

from harness import BIN, SHAKESPEARE, SLOW, TINY, Suite, check, clean_environment, equal, run_program
from pages import read_page

suite = Suite()
FOLDER = tempfile.mkdtemp(prefix="llorch-diff-")
NAN = float("nan")


def npy(name, shape, values, descr="<f4"):
    """A version 1.0 file, by the format's definition."""
    shape = "(%s)" % ", ".join([str(n) for n in shape] + ([""] if len(shape) == 1 else []))
    header = ("{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (descr, shape)).encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    path = os.path.join(FOLDER, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        file.write(struct.pack("<%d%s" % (len(values), {"<f4": "f", "<f8": "d", "<i4": "i"}[descr]), *values))
    return path


def diff(*args, status=0, **more):
    got, out, error = run_program("diff", *args, limit=60 * SLOW, **more)
    check(got == status, "exit %d, expected %d\n%s%s" % (got, status, out, error))
    return out, error


def refused(status, *parts_and_args):
    """No output, and one line with all these parts."""
    parts, args = parts_and_args
    out, error = diff(*args, status=status)
    equal((out, error.count("\n")), ("", 1))
    check(error.startswith("llorch-cpud: ") and len(error) <= 540, error)
    for part in parts:
        check(part in error, "%r is not in %r" % (part, error))


def tensor(*args, status=0):
    result = json.loads(diff("--json", *args, status=status)[0])
    equal(len(result["tensors"]), 1)
    return result["tensors"][0]


def near(got, want):
    check(got is not None and abs(got - want) <= 1e-6 * max(1.0, abs(want)), "got %r, expected %r" % (got, want))


A = npy("a.npy", (2, 3), [1.0, 2.0, -3.0, 4.0, 0.5, 8.0])
B = npy("b.npy", (2, 3), [1.0, 2.5, -3.0, 4.0, 0.25, 10.0])


@suite.case("every statistic is the one of the definition")
def statistics():
    a, b = [1.0, 2.0, -3.0, 4.0, 0.5, 8.0], [1.0, 2.5, -3.0, 4.0, 0.25, 10.0]
    t = tensor(A, B, status=1)
    errors = [abs(x - y) for x, y in zip(a, b)]
    equal((t["name"], t["verdict"], t["shape"], t["n"], t["n_beyond"]), ("a", "differ", [2, 3], 6, 3))
    near(t["max_abs"], 2.0)
    equal(t["max_abs_at"], [1, 2])
    near(t["worst"], 0.25)  # 0.5 / 2.5 and 2 / 10 are less
    equal(t["worst_at"], [1, 1])
    near(t["max_rel"], 1.0)
    near(t["mean_abs"], sum(errors) / 6)
    near(t["rms"], math.sqrt(sum(e * e for e in errors) / 6))
    near(t["cosine"], sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b)))
    for side, values in (("a", a), ("b", b)):
        mean = sum(values) / 6
        near(t[side]["mean"], mean)
        near(t[side]["variance"], sum((x - mean) ** 2 for x in values) / 6)
        equal((t[side]["min"], t[side]["max"], t[side]["nan"], t[side]["inf"]), (min(values), max(values), 0, 0))
    equal(sum(t["decades"]), 6)
    equal((t["decades"][0], t["decades"][12], t["decades"][13]), (3, 2, 1))
    equal([e["at"] for e in t["worst_elements"]], [[1, 1], [0, 1], [1, 2]])
    equal([(e["a"], e["b"], e["error"]) for e in t["worst_elements"]], [(0.5, 0.25, 0.25), (2, 2.5, 0.5), (8, 10, 2)])


@suite.case("the exit status follows the tolerance, which is a closed bound")
def tolerance():
    diff("--tolerance", "0.25", A, B)
    x, y = npy("x.npy", (1,), [8.0]), npy("y.npy", (1,), [10.0])
    diff("--tolerance", "2e-1", x, y)  # of B's size: 2 / 10
    diff("--tolerance", "2e-1", y, x, status=1)  # 2 / 8
    diff("--tolerance", "0.2499", A, B, status=1)
    diff(A, A)
    equal(tensor(A, A)["n_bits_differ"], 0)


@suite.case("a file named for a checkpoint has its tolerance, any other must be equal")
def default_tolerance():
    x = npy("named/checkpoint_08_logits.npy", (2,), [1.0, 2.0])
    y = npy("named/other.npy", (2,), [1.0005, 2.0])
    equal(tensor(x, y)["tolerance"], 1e-3)
    equal(tensor(y, x)["tolerance"], 1e-3)
    equal(tensor(y, A.replace("a.npy", "named/other.npy"))["tolerance"], 0)
    check("tolerance 0.001" in diff(x, y)[0], diff(x, y)[0])
    check("demanded: equal values" in diff(y, y)[0], diff(y, y)[0])
    diff("--tolerance", "0", x, y, status=1)


@suite.case("--worst K lists K elements")
def worst():
    x = npy("x.npy", (20,), list(range(20)))
    y = npy("y.npy", (20,), [0.0] * 20)
    for k, want in ((0, 0), (3, 3), (1000, 19)):
        t = tensor("--worst", str(k), x, y, status=1)
        equal([e["at"] for e in t["worst_elements"]], [[19 - i] for i in range(want)])
    equal(len(tensor(x, y, status=1)["worst_elements"]), 10)
    out = diff("--worst", "2", x, y, status=1)[0]
    check(re.search(r"^\[19\] +19 +0 +1\.90e\+01$", out, re.MULTILINE) and not re.search(r"^\[17\]", out, re.MULTILINE), out)
    check("worst elements" not in diff("--worst", "0", x, y, status=1)[0], "a list of none")


@suite.case("--bits shows the first value whose bits differ, in hexadecimal")
def bits():
    x = npy("x.npy", (3,), [1.0, 0.0, 3.0])
    y = npy("y.npy", (3,), [1.0, -0.0, 4.0])
    diff("--tolerance", "1", x, y)
    out = diff("--bits", x, y, status=1)[0]
    check("[1]: 0x00000000 (0) in A, 0x80000000 (-0) in B" in out and "2 of 3" in out, out)
    t = tensor("--bits", x, y, status=1)
    equal((t["n_bits_differ"], t["first_bits_at"], t["first_bits"]), (2, [1], ["0x00000000", "0x80000000"]))
    check("every bit of 3 values" in diff("--bits", x, x)[0], "verdict")
    z = npy("z.npy", (2,), [NAN, 1.0])
    diff("--bits", z, z)


@suite.case("the report draws histogram and map with blocks")
def blocks():
    out = diff(A, B, status=1)[0]
    check(re.search(r"^ +equal +3  █{40}$", out, re.MULTILINE), out)
    check(re.search(r"^ +0\.1 +2  █{26}▋?▊?$", out, re.MULTILINE), out)
    framed = [line[1:-1] for line in out.splitlines() if line[:1] == "│"]
    equal(len(framed), 2)
    equal([cell == " " for cell in framed[0]], [True, False, True])
    equal([cell == " " for cell in framed[1]], [True, False, False])
    equal(framed[1][2], "█")
    check("\x1b" not in out, "colour without a terminal")


@suite.case("a terminal gets colour, unless it asked for none")
def colour():
    for extra, wanted in ({"TERM": "xterm", "NO_COLOR": ""}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False):
        master, slave = pty.openpty()
        with subprocess.Popen([BIN, "diff", A, B], stdout=slave, stderr=slave, stdin=subprocess.DEVNULL,
                              env=clean_environment(extra)) as process:
            os.close(slave)
            seen = b""
            while True:
                try:
                    part = os.read(master, 65536)
                except OSError:
                    break
                if not part:
                    break
                seen += part
            equal(process.wait(60 * SLOW), 1)
        os.close(master)
        equal(b"\x1b[" in seen, wanted)


# --- bad input ---

suite.case("a missing file is named", 1, ("none.npy: No such file",), (A, FOLDER + "/none.npy"))(refused)
suite.case("another shape is named", 1, ("a.npy (A)", "flat.npy (B)", "shape [2,3] in A, [6] in B"),
           (A, npy("flat.npy", (6,), [0.0] * 6)))(refused)
suite.case("another type is named", 1, ("int.npy: descr is '<i4', expected '<f4' or '<f8'",),
           (A, npy("int.npy", (2,), [1, 2], "<i4")))(refused)
suite.case("float64 has no bits to compare", 1, ("float64 in B",),
           ("--bits", A, npy("wide.npy", (2, 3), [0.0] * 6, "<f8")))(refused)
suite.case("a folder and a file are refused", 1, ("is a folder", "expected two of a kind"), (FOLDER, A))(refused)
suite.case("a file that is no tensor is named", 1, (os.path.basename(__file__) + ": not a NumPy",), (A, os.path.abspath(__file__)))(refused)
suite.case("one operand is too few", 2, ("expected two files or two folders",), (A,))(refused)
suite.case("three operands are too many", 2, ("expected two files or two folders",), (A, A, A))(refused)
suite.case("--bits with --tolerance is refused", 2, ("exclude each other",), ("--bits", "--tolerance", "1", A, A))(refused)
suite.case("--tolerance must not be negative", 2, ("--tolerance: tolerance must be at least 0",), ("--tolerance", "-1", A, A))(refused)
suite.case("--tolerance must be a number", 2, ('--tolerance: "nan" is not',), ("--tolerance", "nan", A, A))(refused)
suite.case("--worst has an upper end", 2, ("--worst: worst must be at most 1000",), ("--worst", "1001", A, A))(refused)
suite.case("an unknown option is refused", 2, ("--wurst",), ("--wurst", "1", A, A))(refused)


@suite.case("NaN is counted, named on standard error, and fails")
def not_a_number():
    x = npy("nan.npy", (2, 2), [1.0, 2.0, NAN, 4.0])
    y = npy("number.npy", (2, 2), [1.0, 2.0, 3.0, 4.0])
    out, error = diff("--tolerance", "1e30", x, y, status=1)
    equal(error.count("\n"), 1)
    check("nan.npy (A)" in error and "not finite at [1,0]: nan in A, 3 in B" in error, error)
    check(re.search(r"^A .* 1    0$", out, re.MULTILINE), out)
    equal(tensor(x, y, status=1)["a"]["nan"], 1)
    diff("--tolerance", "1e30", x, x, status=1)


@suite.case("float64 is compared as float32, and the report says so")
def float64():
    wide = npy("wide.npy", (2, 3), [1.0 + 1e-12, 2.0, -3.0, 4.0, 0.5, 8.0], "<f8")
    check("float64, rounded to float32" in diff(wide, A)[0], "no word about it")


# --- folders ---

def capture(name, model, *prompt):
    path = os.path.join(FOLDER, name)
    status, _, error = run_program("capture", "--model", model, *prompt, "--out", path, limit=120 * SLOW)
    equal((status, error), (0, ""))
    return path


@suite.case("two captures of one prompt are equal to the bit, in all files")
def captures():
    a, b = (capture(n, TINY, "--ids", "1,2,3") for n in ("capture-a", "capture-b"))
    files = sorted(f[:-4] for f in os.listdir(a) if f.endswith(".npy"))
    for options in ((), ("--bits",)):
        result = json.loads(diff("--json", *options, a, b)[0])
        equal([t["name"] for t in result["tensors"]], files)
        equal((result["agree"], result["n_agree"], result["n_tensors"]), (True, len(files), len(files)))
    masked = next(t for t in result["tensors"] if t["name"] == "checkpoint_04_masked")
    check(masked["a"]["inf"] > 0 and masked["verdict"] == "agree", masked)
    check("agree: all %d tensors" % len(files) in diff(a, b)[0], "verdict")


@suite.case("a changed value, a missing file and another shape are rows of the table")
def folder_rows():
    a = capture("rows-a", TINY, "--ids", "1,2,3")
    b = capture("rows-b", TINY, "--ids", "1,2,3")
    os.remove(b + "/checkpoint_05_output.npy")
    os.remove(a + "/embeddings.npy")
    npy("rows-b/checkpoint_06_ffn.npy", (1,), [0.0])
    with open(b + "/checkpoint_02_q.npy", "r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(struct.pack("<f", 1e3))
    out, error = diff(a, b, status=1)
    for wanted in (r"^checkpoint_05_output .* not compared: only in A$", r"^embeddings .* not compared: only in B$",
                   r"^checkpoint_06_ffn .* not compared: shape \[.*\] in A, \[1\] in B$",
                   r"^checkpoint_02_q .* differ: 1 of \d+ differ$", r"^the worst: checkpoint_02_q$",
                   r"^differ: of \d+ tensors \d+ agree, 1 differ, 0 are not finite, 3 were not compared$"):
        check(re.search(wanted, out, re.MULTILINE), "%s in\n%s" % (wanted, out))
    equal(error.count("\n"), 1)
    check("checkpoint_05_output: only in A; 3 tensors in all" in error, error)


@suite.case("captures of different prompts are not compared")
def prompts():
    a, b, c = (capture("prompt-" + n.replace(",", "-"), TINY, "--ids", n) for n in ("1,2,3", "1,4,3", "1,2"))
    refused(1, ("prompt-1-2-3", "token 1 of 3 is 2, there 4"), (a, b))
    refused(1, ("a prompt of 3 tokens", "has one of 2"), (a, c))
    os.remove(b + "/metadata.json")
    check("the prompts may differ" in diff(a, b, status=1)[0], "no word about the missing metadata.json")


@suite.case("the shipped model's reference agrees with what the program computes")
def reference():
    captured = capture("shakespeare", SHAKESPEARE, "--prompt",
                       "First Citizen:\nBefore we proceed any further, hear me speak.")
    result = json.loads(diff("--json", SHAKESPEARE + "/reference", captured, status=1)[0])
    for t in result["tensors"]:
        check(t["verdict"] == "agree" or t["note"] == "only in B", t)
    equal(result["n_agree"], len([f for f in os.listdir(SHAKESPEARE + "/reference") if f.endswith(".npy")]))


# --- the page ---

def page_of(*args, status=0):
    path = os.path.join(FOLDER, "page.html")
    diff("--html", path, *args, status=status)
    return read_page(path)


@suite.case("--html of two files has charts, both sides and the worst elements")
def page_of_files():
    page = page_of(A, B, status=1)
    equal(page.tags.count("figure"), 2)
    text = " ".join(page.texts)
    for part in ("a.npy", "b.npy", "2.000e+00 at [1,2]", "0.25", "[1,1]", "Worst elements", "differ: 3 of 6 differ"):
        check(part in text, part)
    page_of(A, A)
    page_of(npy("empty.npy", (0, 3), []), npy("empty.npy", (0, 3), []))
    page_of(npy("nan.npy", (2,), [NAN, 1.0]), npy("one.npy", (2,), [1.0, 1.0]), status=1)


@suite.case("--html of two folders has all tensors in a table and a map of each")
def page_of_folders():
    a, b = (capture(n, TINY, "--ids", "1,2,3") for n in ("html-a", "html-b"))
    name = "<b>&amp;"
    npy("html-a/%s.npy" % name, (2,), [1.0, 2.0])
    npy("html-b/%s.npy" % name, (2,), [1.0, 3.0])
    page = page_of(a, b, status=1)
    files = [f[:-4] for f in os.listdir(a) if f.endswith(".npy")]
    for file in files:
        check(page.texts.count(file) >= 2, "%s: in the table and above its map" % file)
    check("b" not in page.tags, "a file name became a tag")
    equal(page.tags.count("figure"), len(files) + 1)  # and the histogram


@suite.case("an output that cannot be written is one line, and leaves nothing")
def unwritable():
    refused(1, ("page.html", "No such file"), ("--html", FOLDER + "/none/page.html", A, A))
    before = sorted(os.listdir(FOLDER))
    refused(1, (FOLDER,), ("--html", FOLDER, A, A))
    equal(sorted(os.listdir(FOLDER)), before)


@suite.case("a file name with control characters cannot move the cursor")
def hostile_names():
    for side in "ab":
        npy("evil-%s/x\x1b[2J\n.npy" % side, (1,), [1.0 if side == "a" else 2.0])
    out = diff(FOLDER + "/evil-a", FOLDER + "/evil-b", status=1)[0]
    check("\x1b" not in out and "x\\x1b[2J\\n" in out, out)


status = suite.run()
shutil.rmtree(FOLDER)
sys.exit(status)
