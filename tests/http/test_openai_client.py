#!/usr/bin/env python3
"""OpenAI's official client for JavaScript (npm package "openai") against running workers: tests/npm/openai/client.js.

The package is installed once, by the lock file's hashes, into build/npm/. Without node, npm or the package every case is
skipped with its name.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

import npm_package
from harness import Suite, Worker, check, clean_environment

KEY = "secret-of-the-test-1"

suite = Suite()


def run_all():
    """Name of a case -> its error or None."""
    folder = npm_package.installed("openai")
    with tempfile.NamedTemporaryFile("w") as keys:
        keys.write(KEY + "\n")
        keys.flush()
        with Worker() as real, Worker(stub=True) as stub, Worker("--api-key-file", keys.name, stub=True) as guarded, \
                Worker(stub=True, env={"STUB_LOAD_MS": "3000"}, ready=False) as loading:
            bases = ["http://127.0.0.1:%d" % w.port for w in (real, stub, guarded, loading)]
            node = os.environ.get("NODE", "node")
            done = subprocess.run([node, npm_package.source("openai", "client.js"), folder] + bases, env=clean_environment(),
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, check=False)
    check(done.returncode == 0, "client.js: status %d\n%s" % (done.returncode, done.stderr.decode("utf-8", "replace")[-2000:]))
    lines = [json.loads(line) for line in done.stdout.decode().splitlines()]
    return {line["name"]: line["error"] for line in lines}


class Results:
    """The cases run once, when the first is asked for."""

    def __init__(self):
        self.found = None
        self.problem = None

    def of(self, name):
        if self.found is None and self.problem is None:
            try:
                self.found = run_all()
            except Exception as problem:  # pylint: disable=broad-except
                self.problem = problem
        if self.problem is not None:
            raise self.problem
        check(name in self.found, "client.js did not come to it")
        check(self.found[name] is None, self.found[name])


results = Results()
with open(npm_package.source("openai", "client.js"), encoding="utf-8") as source:
    for title in re.findall(r'^test\("([^"]+)"', source.read(), re.MULTILINE):
        suite.case("openai client: " + title, title)(results.of)

if __name__ == "__main__":
    sys.exit(suite.run())
