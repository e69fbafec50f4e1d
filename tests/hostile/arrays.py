"""Hostile NumPy files, and folders of them."""
import struct

from forms import Case, Fifo, Link, Long, Sparse, dumps, floats, model, npy

GOOD = npy()


def one(name, content, *says):
    return Case("NPY: " + name, {"a.npy": content, "b.npy": GOOD}, "a.npy: ", *says, runs=["diff", "{}/a.npy", "{}/b.npy"])


def head(name, text, *says):
    return one(name, npy(text), *(says or ("header, character",)))


def shape(name, text, *says, data=b""):
    return one(name, npy("{'descr': '<f4', 'fortran_order': False, 'shape': %s, }" % text, data), *says)


def frame():
    yield one("empty", b"", "the file is empty")
    for n in (1, 5):
        yield one("its first %d bytes" % n, GOOD[:n], "not a NumPy .npy file")
    yield one("its magic", GOOD[:6], "ends inside the version")
    yield one("its first 8 bytes", GOOD[:8], "ends inside the header length")
    yield one("without data", GOOD[:128], "0 bytes of data for a shape of 6 values of 4 bytes")
    yield one("a byte missing", GOOD[:-1], "23 bytes of data")
    yield one("a byte more", GOOD + b"x", "25 bytes of data")
    yield one("length 0", npy(length=0), "header, character 0: expected '{'")
    yield one("length beyond the file", npy(length=65535), "header of 65535 bytes, but only")
    yield one("length 2^32 - 1", npy(version=(2, 0), length=2 ** 32 - 1), "header of 4294967295 bytes, expected at most 65536")
    yield one("length above the cap", npy(version=(3, 0), length=65537), "header of 65537 bytes, expected at most 65536")
    for version in ((0, 0), (4, 0), (255, 0), (1, 1), (2, 9)):
        yield one("version %d.%d" % version, npy(version=version), "version %d.%d, expected 1.0, 2.0 or 3.0" % version)
    yield one("npz", b"PK\3\4" + bytes(60), "this is a zip archive")
    yield one("a pickle", b"\x80\x04\x95", "this is a Python pickle")
    yield one("safetensors", struct.pack("<Q", 8) + b"{      }", "this is a safetensors model")
    yield one("a link to itself", Link("a.npy"), "Too many levels")
    yield one("a FIFO", Fifo(), "not a regular file")
    yield one("1 TB behind its end", Sparse(GOOD, 1 << 40), "bytes of data for a shape of 6 values")


def headers():
    for name, text in (("a list", "[]"), ("nothing", ""), ("a text", "'x'"), ("no end", "{'descr': '<f4', "), ("empty", "{}"),
                       ("no colon", "{'descr' '<f4'}"), ("a key without quotes", "{descr: '<f4'}"), ("two commas", "{'descr': '<f4',, }"),
                       ("a call", "{'descr': __import__('os').system('id')}"), ("a format", "{'%s%n': 1}"),
                       ("a key twice", "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,)}"),
                       ("an unknown key", "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'x': 1}"),
                       ("a key missing", "{'descr': '<f4', 'fortran_order': False}"),
                       ("nested 60,000 deep", "{" * 60000), ("brackets 60,000 deep", "{'shape': " + "(" * 60000),
                       ("a key that never ends", "{'" + "x" * 60000), ("an escape in a key", "{'desc\\x72': '<f4'}"),
                       ("a comment", "{'descr': '<f4', # x\n}"), ("text behind it", "{'descr': '<f4', 'fortran_order': False, 'shape': (6,)} x"),
                       ("a second line", "{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}\n\n"),
                       ("order 0", "{'descr': '<f4', 'fortran_order': 0, 'shape': (6,)}")):
        yield head(name, text)
    yield head("control characters", b"\x1b[2J\x07\0", "header, character 0: expected '{'")
    for descr in (">f4", "<f2", "<i4", "|O", "<f16", "|S4", "<c8", "=f4", "f4", "<f4,", "", "%s%n", "<f4<f4<f4"):
        yield one("descr " + descr, npy("{'descr': '%s', 'fortran_order': False, 'shape': (2, 3), }" % descr), "descr is '%s', expected" % descr)
    yield head("descr of fields", "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,), }")
    yield head("descr of 60,000 characters", "{'descr': '" + "f" * 60000 + "', }")
    yield one("columns first", npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }"), "fortran_order is True, expected False")


def shapes():
    for name, text in (("no tuple", "6"), ("no comma", "(6)"), ("a list", "[6]"), ("negative", "(-6,)"), ("a fraction", "(6.0,)"),
                       ("an exponent", "(6e0,)"), ("a text", "('6',)"), ("a leading zero", "(06,)"), ("hexadecimal", "(0x6,)"),
                       ("an old long", "(6L,)"), ("only a comma", "(,)"), ("two commas", "(2,,3)"), ("9 dimensions", "(1,1,1,1,1,1,1,1,6)"),
                       ("2^64", "(18446744073709551616,)"), ("400 digits", "(" + "9" * 400 + ",)"),
                       ("a product that overflows", "(4294967296, 4294967296)"), ("a product that wraps to 6", "(4611686018427387904, 4, 6)")):
        yield shape(name, text, "header, character")
    yield shape("bytes that overflow", "(4611686018427387905,)", "bytes of data for a shape of 4611686018427387905 values", data=floats(1))
    yield shape("too many by one", "(7,)", "24 bytes of data for a shape of 7 values", data=floats(6))
    yield shape("no values but some data", "(0, 3)", "24 bytes of data for a shape of 0 values", data=floats(6))
    yield Case("NPY: zero times 2^63", {"a.npy": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775808), }", b""),
                                        "b.npy": GOOD}, "shape", runs=["diff", "{}/a.npy", "{}/b.npy"])


def folders():
    """Two folders of tensors."""
    def two(name, files, *says):
        return Case("folders: " + name, files, *says, runs=["diff", "{}/a", "{}/b"])

    yield two("a file against a folder", {"a": GOOD, "b/x.npy": GOOD}, "is a folder and")
    yield two("one is missing", {"a/x.npy": GOOD}, "b: No such file")
    yield two("one has no tensors", {"a/x.npy": GOOD, "b/x.txt": b""}, "holds no .npy file")
    yield two("another prompt", {"a/x.npy": GOOD, "b/x.npy": GOOD, "a/metadata.json": dumps({"tokens": [1]}),
                                 "b/metadata.json": dumps({"tokens": [2]})}, "another prompt than")
    for name, text, part in (("no JSON", b"{", "metadata.json: line 1"), ("a FIFO", Fifo(), "metadata.json: not a regular file"),
                             ("tokens no list", b'{"tokens": 1}', "metadata.json: tokens: expected an array"),
                             ("nested", b"[" * 100000, "nested deeper than 32"), ("a link to itself", Link("metadata.json"), "Too many levels")):
        yield two("metadata.json " + name, {"a/x.npy": GOOD, "b/x.npy": GOOD, "a/metadata.json": text}, part)


def references():
    """What stands in the folder of recorded tensors that verify reads."""
    def one_reference(name, files, *says):
        whole = model()
        whole.update(("r/" + file, content) for file, content in files.items())
        return Case("reference: " + name, whole, *says, runs=["verify", "--model", "{}", "--reference", "{}/r"])

    yield Case("reference: absent", model(), "r: No such file", runs=["verify", "--model", "{}", "--reference", "{}/r"])
    yield Case("reference: a file for the folder", dict(model(), r=b"x"), "r: Not a directory",
               runs=["verify", "--model", "{}", "--reference", "{}/r"])
    for file in ("metadata.json", "checkpoint_12.json", "checkpoint_10.json"):
        for name, content, part in (("no JSON", b"{", "line 1"), ("a list", b"[]", "expected an object"), ("a FIFO", Fifo(), "not a regular file"),
                                    ("/dev/zero", Link("/dev/zero"), "not a regular file"), ("empty", b"", "the file is empty"),
                                    ("a link to itself", Link(file), "Too many levels")):
            yield one_reference("%s %s" % (file, name), {file: content}, file + ": ", part)
    for name, tokens in (("no list", 1), ("empty", []), ("too many", [0] * 17), ("a text", ["x"]), ("a fraction", [1.5]), ("-1", [-1]),
                         ("2^31", [2 ** 31]), ("2^32", [2 ** 32]), ("the size of the vocabulary", [261])):
        yield one_reference("tokens " + name, {"metadata.json": dumps({"tokens": tokens})}, "metadata.json: ", "tokens")
    yield one_reference("five million tokens", {"metadata.json": Long(b'{"tokens":[', (b"0,", 5000000), b"0]}")}, "more than 2000000 values")
    for key, bad in (("hidden_size", 9), ("n_heads", 2 ** 32 + 2), ("n_layers", "1"), ("vocab_size", None), ("temperature", 0),
                     ("temperature", -1), ("temperature", 1e300), ("temperature", "1")):
        yield one_reference("%s %s" % (key, bad), {"metadata.json": dumps({"tokens": [1], key: bad})}, "metadata.json: %s: " % key)
    yield one_reference("a continuation longer than the context", {"checkpoint_12.json": dumps({"prompt_ids": [1], "ids": [1] * 17})},
                        "checkpoint_12.json: ids: expected an array of 1 to 16")


def cases():
    for group in (frame, headers, shapes, folders, references):
        yield from group()
