#!/usr/bin/env python3
"""OpenAI's official client for JavaScript (npm package "openai") against running workers: tests/openai/client.js.

The package is installed once, by the lock file's hashes, into build/npm/. Without node, npm or the package every case is
skipped with its name.
"""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from harness import ROOT, Skip, Suite, Worker, check, clean_environment, sanitized

HERE = os.path.join(ROOT, "tests", "openai")
KEY = "secret-of-the-test-1"

suite = Suite()


def package():
    """The folder that has the client in its node_modules."""
    for program in ("node", "npm"):
        if not shutil.which(program):
            raise Skip("%s is not installed" % program)
    with open(os.path.join(HERE, "package-lock.json"), "rb") as file:
        lock = file.read()
    folder = os.path.join(ROOT, "build", "npm", hashlib.sha256(lock).hexdigest()[:16])
    if os.path.isdir(folder):
        return folder
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as making:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(os.path.join(HERE, name), making)
        try:
            done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=making, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False)
        except subprocess.TimeoutExpired:
            raise Skip("the npm package openai cannot be had: npm ci took longer than 120 s") from None
        if done.returncode != 0:
            raise Skip("the npm package openai cannot be had: %s" % done.stdout.decode("utf-8", "replace").strip().splitlines()[-1:])
        os.rename(making, folder)
        os.makedirs(making)  # for its own end
    return folder


def run_all():
    """Name of a case -> its error or None."""
    if sanitized():
        raise Skip("the npm client adds nothing under sanitizers that test_openai.py does not do")
    folder = package()
    with tempfile.NamedTemporaryFile("w") as keys:
        keys.write(KEY + "\n")
        keys.flush()
        with Worker() as real, Worker(stub=True) as stub, Worker("--api-key-file", keys.name, stub=True) as guarded, \
                Worker(stub=True, env={"STUB_LOAD_MS": "3000"}, ready=False) as loading:
            bases = ["http://127.0.0.1:%d" % w.port for w in (real, stub, guarded, loading)]
            node = os.environ.get("NODE", "node")
            done = subprocess.run([node, os.path.join(HERE, "client.js"), folder] + bases, env=clean_environment(),
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
with open(os.path.join(HERE, "client.js"), encoding="utf-8") as source:
    for title in re.findall(r'^test\("([^"]+)"', source.read(), re.MULTILINE):
        suite.case("openai client: " + title, title)(results.of)

if __name__ == "__main__":
    sys.exit(suite.run())
