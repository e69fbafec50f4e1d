"""Hostile places in the file system, and files that are something else."""
import os
import pickle
import zipfile
from io import BytesIO

from forms import Case, Fifo, Folder, Link, Socket, Sparse, Unreadable, dumps, gguf, model, npy, safetensors

GENERATE = ["generate", "--prompt", "x", "--max-tokens", "1", "--model"]


def archive():
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", "x")
    return out.getvalue()


KINDS = (("a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 548105171\n" % (b"0" * 64), "this is a Git LFS pointer"),
         ("an HTML page", b"<!doctype html>\n<html><body>404</body></html>", "this is an HTML or XML page"),
         ("an HTML page behind blanks", b"\r\n\t <HTML>", "this is an HTML or XML page"),
         ("an XML answer", b'<?xml version="1.0"?><Error>AccessDenied</Error>', "this is an HTML or XML page"),
         ("a gzip archive", b"\x1f\x8b\x08" + bytes(64), "this is a gzip archive"),
         ("a bzip2 archive", b"BZh91AY&SY" + bytes(64), "this is a bzip2 archive"),
         ("an xz archive", b"\xfd7zXZ\0" + bytes(64), "this is an xz archive"),
         ("a zstd archive", b"\x28\xb5\x2f\xfd" + bytes(64), "this is a zstd archive"),
         ("a PyTorch file", archive(), "this is a zip archive (PyTorch's .bin and .pt files are)"),
         ("a pickle", pickle.dumps({"a": 1}, 2), "this is a Python pickle"),
         ("an HDF5 file", b"\x89HDF\r\n\x1a\n" + bytes(64), "this is an HDF5 file"),
         ("a NumPy file", npy(), "this is a NumPy .npy file"),
         ("a JSON file", dumps({"a": 1}), "this is a JSON file"),
         ("a text", b"Hello, world, this is a text.\n", "header of"),
         ("a program", b"\x7fELF\2\1\1" + bytes(64), "header of"),
         ("zeros", bytes(4096), "the header does not start with '{'"))

THINGS = (("a folder", Folder(), "is a directory, expected a regular file"), ("a FIFO", Fifo(), "not a regular file"),
          ("a socket", Socket(), "No such device or address"), ("empty", b"", "the file is empty"),
          ("a link to nothing", Link("nowhere"), "No such file or directory"),
          ("a link to /dev/zero", Link("/dev/zero"), "not a regular file"), ("a link to /dev/full", Link("/dev/full"), "not a regular file"),
          ("a link to /dev/null", Link("/dev/null"), "not a regular file"), ("a link to a terminal", Link("/dev/tty"), ": "),
          ("a link to /proc/self/mem", Link("/proc/self/mem"), ": "),
          ("a link through a file", Link("/proc/self/stat/x"), "Not a directory"))


def kinds():
    """By name as the model's weights, and given as the model itself."""
    for name, content, part in KINDS:
        yield Case("model.safetensors: " + name, model(model_safetensors=content), "model.safetensors: ", part)
    for name, content, part in KINDS:
        if name != "a GGUF model":
            yield Case("m.gguf: " + name, {"m.gguf": content}, "m.gguf: ", "" if name in ("a text", "a program", "zeros") else part, target="m.gguf")
    for name, content, part in KINDS[:3]:
        yield Case("config.json: " + name, model(config_json=content), "config.json: ", part)
    yield Case("pytorch_model.bin alone", model(model_safetensors=None, **{"pytorch_model.bin": archive()}),
               "pytorch_model.bin is not read: convert it to safetensors")
    yield Case("nothing but a configuration", model(model_safetensors=None), "has neither model.safetensors nor")
    yield Case("a GGUF file without its folder's name", {"model.gguf": gguf()}, "config.json: No such file")
    yield Case("a safetensors file in a folder of its own", {"x.safetensors": safetensors()}, "config.json: No such file", target="x.safetensors")


def things():
    for file, key in (("model.safetensors", "model_safetensors"), ("config.json", "config_json")):
        for name, content, part in THINGS:
            yield Case("%s: %s" % (file, name), model(**{key: content}), file + ": ", part)
        yield Case("%s: a link to itself" % file, model(**{key: Link(file)}), file + ": Too many levels of symbolic links")
        if os.geteuid() != 0:
            yield Case("%s: unreadable" % file, model(**{key: Unreadable()}), file + ": Permission denied")
    for name, content, part in THINGS:
        if name not in ("a folder", "a link to a terminal"):
            yield Case("as the model: " + name, {"m": content, "config.json": b"{}"}, "m: ", part, target="m")
    for target in ("/dev/zero", "/dev/full", "/dev/null", "/proc/self/mem", "/proc/self/fd/0"):
        yield Case("as the model: " + target, {}, target, runs=[*GENERATE, target])


def names():
    for name, path, *says in (("line feeds", "a\nb", "a\\nb: No such file"), ("escape sequences", "\x1b[2J\x07", "\\x1b[2J\\x07: No such file"),
                              ("formats", "%s%n%n%n", "%s%n%n%n: No such file"), ("C1 controls", "\u009b2J", "\\xc2\\x9b2J: No such"),
                              ("a component too long", "x" * 256, "File name too long"),
                              ("4000 bytes", "/".join(["x" * 99] * 40), "No such file"), ("4200 bytes", "/".join(["x" * 99] * 42), "--model: path of"),
                              ("100,000 bytes", "x" * 100000, "--model: path of"), ("only slashes and dots", "././././/x", "x: No such file")):
        yield Case("a path of " + name, {}, *says, runs=[*GENERATE, "{}/" + path])
    yield Case("a path in invalid UTF-8", {}, "\\xff\\xfe: No such file", runs=[*GENERATE, "{}/" + os.fsdecode(b"\xff\xfe")])
    for name in ("a\nb", "\x1b[31mred", os.fsdecode(b"\xff\xfe"), "%s%n", "x" * 200):
        files = {os.fsencode(name).decode("utf-8", "surrogateescape") + "/" + file: content for file, content in model(config_json=b"[]").items()}
        yield Case("a folder called %r" % name[:20], files, "config.json: not a JSON object", target=name)


def inputs():
    """Files that are named beside the model."""
    def command(name, files, *says, runs, status=1):
        return Case(name, dict(model(), **files), *says, runs=runs, status=status)

    for name, content, part in THINGS:
        yield command("eval --text: " + name, {"t": content}, "t: ", part, runs=["eval", "--model", "{}", "--text", "{}/t"])
    yield command("eval --text: 1 TB", {"t": Sparse(b"x", 1 << 40)}, "t: 1099511627776 bytes, expected at most",
                  runs=["eval", "--model", "{}", "--text", "{}/t"])
    for option in ("verify", "bench"):
        more = ["--rounds", "1"] if option == "bench" else ["--reference", "self"]
        for name, content, part in THINGS + (("no JSON", b"{", "line 1"), ("a list", b"[]", "t: "), ("nested", b"[" * 100000, "nested deeper than 32"),
                                             ("an object of nothing", b"{}", "t: "), ("HTML", b"<html>", "this is an HTML"),
                                             ("a format and nothing else", b'{"format": "llorch-cpud-verify-1"}', "t: "),
                                             ("lists for everything", b'{"format": [], "model": [], "results": []}', "t: ")):
            yield command("%s --compare: %s" % (option, name), {"t": content}, part, runs=[option, "--model", "{}", *more, "--compare", "{}/t"])
    for name in ("quantize", "pack"):
        for what, content, part in (("a folder", Folder(), "t: is a directory"), ("a FIFO", Fifo(), "t: is no regular file"),
                                    ("a link to /dev/null", Link("/dev/null"), "t: is no regular file"), ("a socket", Socket(), "t: is no regular")):
            yield command("%s --out: %s" % (name, what), {"t": content}, part, runs=[name, "--model", "{}", "--type", "f16", "--out", "{}/t"],
                          status=2)
        yield command("%s --out: a folder that is absent" % name, {}, "No such file", runs=[name, "--model", "{}", "--type", "f16", "--out", "{}/a/b"])
        yield command("%s --out: a name too long" % name, {}, "File name too long",
                      runs=[name, "--model", "{}", "--type", "f16", "--out", "{}/" + "x" * 250])


def cases():
    for group in (kinds, things, names, inputs):
        yield from group()
