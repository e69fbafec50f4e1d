"""Recorded logits of a model, and what a row of them says, in plain Python: nothing of the program is used."""
import array
import json
import math
import os
import struct


def read_npy(path):
    """(shape, values) of a float32 .npy file of version 1."""
    with open(path, "rb") as file:
        data = file.read()
    (n_header,) = struct.unpack("<H", data[8:10])
    header = data[10:10 + n_header].decode("latin-1")
    if data[:8] != b"\x93NUMPY\x01\x00" or "'<f4'" not in header or "'fortran_order': False" not in header:
        raise ValueError("%s is not float32 in C order" % path)
    shape = [int(n) for n in header.split("(")[1].split(")")[0].split(",") if n.strip()]
    values = array.array("f")
    values.frombytes(data[10 + n_header:])
    return shape, values


class Logits:
    """prompt, ids, and rows[i]: the logits after ids[0..i]."""

    def __init__(self, model):
        folder = os.path.join(model, "reference")
        with open(os.path.join(folder, "metadata.json"), encoding="utf-8") as file:
            metadata = json.load(file)
        (n, vocab), values = read_npy(os.path.join(folder, "checkpoint_08_logits.npy"))
        self.prompt, self.ids = metadata["prompt"], metadata["tokens"]
        self.rows = [list(values[i * vocab:(i + 1) * vocab]) for i in range(n)]


def probabilities(row):
    top = max(row)
    weights = [math.exp(value - top) for value in row]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def entropy_bits(p):
    return -math.fsum(x * math.log2(x) for x in p if x > 0)


def order(row):
    """Ids from the most likely to the least, equal ones by id."""
    return sorted(range(len(row)), key=lambda i: (-row[i], i))


def nats(rows, ids):
    """Mean negative log-likelihood of ids[1:]."""
    return math.fsum(-math.log(probabilities(row)[i]) for row, i in zip(rows, ids[1:])) / (len(ids) - 1)
