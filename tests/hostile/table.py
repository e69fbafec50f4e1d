#!/usr/bin/env python3
"""The table of hostile files: every way to be wrong that somebody thought of, each as small as it can be.

usage: tests/hostile/table.py PROGRAM FOLDER     writes them all below FOLDER, to look at

tests/http/test_hostile_files.py gives each to the program. PROGRAM is llorch-cpud: the packed files are damaged copies of
one that it wrote.
"""
import json
import os
import sys

import arrays
import configs
import ggufs
import packs
import places
import texts
import values
import weights
from forms import lay_out  # noqa: F401  pylint: disable=unused-import


def groups(program):
    """(name, cases as they are made: some are large, so none is kept)"""
    for name, module in (("safetensors and shards", weights), ("config.json", configs),
                         ("tokenizers", texts), ("GGUF", ggufs), ("NPY and references", arrays),
                         ("places and other kinds", places), ("values", values)):
        yield name, module.cases()
    yield "packed files", packs.cases(program)


def in_json(text):
    return json.dumps(text, ensure_ascii=False)[1:-1]


def main(program, folder):
    for group, cases in groups(program):
        for number, case in enumerate(cases):
            place = os.path.join(folder, "%s-%03d" % (group.split()[0], number))
            lay_out(place, case.files)
            print("%s\t%s\t%s" % (place, case.name, " | ".join(case.says)))


if __name__ == "__main__":
    main(*sys.argv[1:])
