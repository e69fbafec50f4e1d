"""Foreign programs that come from npm, for the tests that drive them: tests/npm/NAME/ has the lock file and the program."""
import hashlib
import os
import shutil
import subprocess
import tempfile

from harness import ROOT, Skip, sanitized

LIMIT = 240


def source(name, *path):
    return os.path.join(ROOT, "tests", "npm", name, *path)


def installed(name):
    """The folder that has node_modules; installed once for each lock file. Skips with the name when it cannot be had."""
    if sanitized():
        raise Skip("the npm package adds nothing under sanitizers that other tests do not do: %s" % name)
    for program in ("node", "npm"):
        if not shutil.which(program):
            raise Skip("%s is not installed, which the client %s needs" % (program, name))
    # It writes and runs code of its own, which the sandbox of make check-unit forbids.
    if subprocess.run(["node", "-e", "0"], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode != 0:
        raise Skip("node cannot run here")
    with open(source(name, "package-lock.json"), "rb") as file:
        folder = os.path.join(ROOT, "build", "npm", "%s-%s" % (name, hashlib.sha256(file.read()).hexdigest()[:16]))
    if os.path.isdir(folder):
        return folder
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as making:
        for file in ("package.json", "package-lock.json"):
            shutil.copy(source(name, file), making)
        try:
            done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=making, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT, check=False)
        except subprocess.TimeoutExpired:
            raise Skip("npm ci took longer than %d s for %s" % (LIMIT, name)) from None
        if done.returncode != 0:
            raise Skip("npm cannot install %s: %s" % (name, done.stdout.decode("utf-8", "replace").strip()[-200:]))
        os.rename(making, folder)
        os.makedirs(making)  # for the end of the block
    return folder
