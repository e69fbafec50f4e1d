#!/usr/bin/env python3
"""`verify --html`: a page with every chart, for models that pass and that fail. No server is started."""
# Runs beside others: nothing here measures time.
import os
import shutil
import struct
import sys
import tempfile

from harness import SHAKESPEARE, SLOW, TINY, Suite, check, equal, run_program
from pages import read_page

suite = Suite()
FOLDER = tempfile.mkdtemp(prefix="llorch-page-")
PAGE = os.path.join(FOLDER, "page.html")


def page_of(*args, status=0):
    got, out, error = run_program("verify", "--html", PAGE, *args, limit=120 * SLOW)
    check(got == status, "exit %d, expected %d\n%s%s" % (got, status, out, error))
    return out, read_page(PAGE)


def broken_reference(**changes):
    """The shipped model's reference folder with single values changed: name=(index from the end, value)."""
    path = tempfile.mkdtemp(dir=FOLDER)
    folder = os.path.join(path, "reference")
    shutil.copytree(os.path.join(SHAKESPEARE, "reference"), folder)
    for name, (at, value) in changes.items():
        with open("%s/%s.npy" % (folder, name), "r+b") as file:
            file.seek(-4 * at, os.SEEK_END)
            file.write(struct.pack("<f", value))
    return folder


def options(page):
    """Captions of the figures that a script offers besides the first of each choice."""
    return sum(t == "figure" and n == "hidden" for t, n, _ in page.attributes)


@suite.case("of a reference folder the page has every row, every chart and stays small")
def folder_page():
    out, page = page_of("--model", SHAKESPEARE)
    names = {line.split("  ")[0].strip() for line in (l[4:] for l in out.splitlines()[1:38])}
    for name in names:
        check(name in page.texts, "no row %r" % name)
    for heading in ("Errors by layer", "Checks", "Sizes of the errors", "Where the errors are", "Attention", "Both sides"):
        check(heading in page.texts, heading)
    for part in ("shakespeare: pass", "First Citizen:\\nBefore we proceed any further, hear me speak.", "Error by layer",
                 "Checkpoint 1: embeddings, LayerNorm", "Checkpoint 11: probabilities"):
        check(part in page.texts, part)
    equal([t.split(": ")[0] for t in page.texts if t.startswith("tolerance, ")], ["tolerance, %d" % n for n in range(4)])
    equal([page.texts.count("head %d" % h) for h in range(4)], [4, 4, 4, 0])  # 4 layers, 3 heads
    equal([page.texts.count("Layer %d" % n) for n in range(5)], [1, 1, 1, 1, 0])
    tensors = [f for f in os.listdir(SHAKESPEARE + "/reference") if f.endswith(".npy")]
    check(options(page) >= 3 + len(tensors) - 3, "a map of each tensor: %d" % options(page))
    check(page.size < 1.5e6, "%d bytes" % page.size)


@suite.case("with --reference self it has all stages of all layers and what each may err")
def self_page():
    _, page = page_of("--model", SHAKESPEARE, "--reference", "self", "--prompt", "To be, or not to be")
    for layer in range(4):
        for stage in ("ln_1", "queries", "scores", "probabilities", "attention output", "feed-forward output", "block output"):
            # in both tables and above its map
            check(page.texts.count("h.%d %s" % (layer, stage)) >= 3, "h.%d %s" % (layer, stage))
    check("own share" in page.texts and "queries, keys, values" in page.texts, "the shares of the stages")
    check("To be, or not to be" in page.texts, "the prompt")
    check(page.size < 1.5e6, "%d bytes" % page.size)


@suite.case("a prompt with markup and control characters stays text")
def hostile_prompt():
    _, page = page_of("--model", SHAKESPEARE, "--reference", "self", "--prompt", "<script>x</script>\x1b[2J & \"'")
    check("<script>x</script>\\x1b[2J & \"'" in page.texts, [t for t in page.texts if "script" in t])
    equal(page.tags.count("script"), 2)  # of the two choices


@suite.case("what failed first is said on top, and its map is the first one")
def failures():
    out, page = page_of("--model", SHAKESPEARE, "--reference", broken_reference(checkpoint_07_block_01=(200, 3.0)), status=1)
    check("FAIL" in out and "shakespeare: FAIL" in page.texts, "verdict")
    check("checkpoint_07_block_01: 1 of 3840 differ" in page.texts, "first failure")
    equal(page.texts[page.texts.index("Where the errors are") + 2], "checkpoint_07_block_01")


@suite.case("values that are not numbers are drawn at the edge and counted")
def not_finite():
    folder = broken_reference(checkpoint_07_block_02=(5, float("nan")), checkpoint_08_logits=(7, float("inf")))
    _, page = page_of("--model", SHAKESPEARE, "--reference", folder, status=1)
    check(any("not finite" in t for t in page.texts), "no note")
    titles = [t for t in page.texts if t.startswith("largest error of the block's output, 2: ")]
    equal(titles, ["largest error of the block's output, 2: inf"])


@suite.case("a model without reference tensors, and one token, make a page")
def little():
    _, page = page_of("--model", TINY, "--reference", "self", "--prompt-ids", "1")
    check("Attention" in page.texts, "attention of one token")
    empty = os.path.join(FOLDER, "empty")
    os.mkdir(empty)
    _, page = page_of("--model", TINY, "--reference", empty, status=3)
    check("Checks" in page.texts and "Errors by layer" not in page.texts, "no errors are known")


@suite.case("--html goes with --json, and an unwritable page is one line")
def outputs():
    got, out, error = run_program("verify", "--model", TINY, "--json", "--html", PAGE, limit=60 * SLOW)
    equal((got, error, out[:1]), (0, "", "{"))
    os.remove(PAGE)
    before = sorted(os.listdir(FOLDER))
    for path in (FOLDER, FOLDER + "/none/page.html"):
        got, out, error = run_program("verify", "--model", TINY, "--html", path, limit=60 * SLOW)
        equal((got, out, error.count("\n")), (1, "", 1))
        check(path in error, error)
    equal(sorted(os.listdir(FOLDER)), before)


status = suite.run()
shutil.rmtree(FOLDER)
sys.exit(status)
