"""A cache of its own, the program run on it, and what must be there afterwards: what tests of pull share."""
import contextlib
import os
import shutil
import subprocess
import tempfile

from harness import BIN, LIMIT, ROOT, SLOW, check, clean_environment, equal, has
from hub_rig import REPO, Hub, tiny_files

WEIGHTS = "model.safetensors"
SETTINGS = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE",
            "HF_HUB_DOWNLOAD_TIMEOUT", "http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY", "CURL_CA_BUNDLE",
            "SSL_CERT_FILE")
TOKEN = "hf_secretSecretSecret"
# What most cases need: fewer requests than the whole.
FEW = {name: data for name, data in tiny_files().items() if name in ("config.json", "tokenizer.json", WEIGHTS)}


class Home:
    """A cache of its own, and the program run on it."""

    def __init__(self, hub, **env):
        self.hub = hub
        # In memory where that can be: every file is brought to the disk, which takes its time.
        self.root = tempfile.mkdtemp(prefix="llorch-pull-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.env = {k: v for k, v in clean_environment().items() if k not in SETTINGS}
        self.env.update({"HF_HOME": self.root, "HF_ENDPOINT": hub.url if hub else "http://127.0.0.1:9"}, **env)
        self.cache = os.path.join(self.root, "hub")
        self.repo = os.path.join(self.cache, "models--someone--tiny-gpt2")

    def start(self, *args, **more):
        return subprocess.Popen([BIN, "pull", *args], cwd=ROOT, env=self.env, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)

    def run(self, *args, env=None):
        """(status, standard output, standard error) of the program with these arguments."""
        done = subprocess.run([BIN, *args], cwd=ROOT, env=dict(self.env, **(env or {})), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LIMIT * SLOW, check=False)
        return done.returncode, done.stdout, done.stderr

    def pull(self, *args, env=None):
        """A pull that must succeed; what it said on standard error."""
        status, out, error = self.run("pull", *(args or (REPO,)), env=env)
        check(status == 0, "status %d: %s" % (status, error))
        equal(out.count("\n"), 1)
        return error

    def fail(self, *parts, args=(REPO, "--retries", "0"), status=1, env=None):
        """A pull that must fail with one error line that holds these parts."""
        got, out, error = self.run("pull", *args, env=env)
        equal((got, out), (status, ""), error)
        last = error.splitlines()[-1]
        check(last.startswith("llorch-cpud: "), error)
        for part in parts:
            has(last, part)
        return error

    def snapshot(self, *parts):
        return os.path.join(self.repo, "snapshots", self.hub.commit, *parts)

    def blob(self, name, ending=""):
        return os.path.join(self.repo, "blobs", self.hub.etag(name) + ending)

    def tree(self):
        return sorted(os.path.relpath(os.path.join(folder, name), self.cache)
                      for folder, _, files in os.walk(self.cache) for name in files)


@contextlib.contextmanager
def home_of(hub, **env):
    home = Home(hub, **env)
    try:
        yield home
    finally:
        shutil.rmtree(home.root)


@contextlib.contextmanager
def hub_and_home(files=None, hub_options=None, **env):
    with Hub(dict(FEW if files is None else files), **(hub_options or {})) as hub, home_of(hub, **env) as home:
        yield hub, home


def read(path, mode="rb"):
    with open(path, mode) as file:
        return file.read()


def check_whole(hub, home):
    """Every file of the hub is in the cache, bit for bit, and nothing is incomplete."""
    for name, data in hub.files.items():
        equal(os.readlink(home.snapshot(name)), "../../blobs/" + hub.etag(name))
        check(read(home.snapshot(name)) == data, name + " differs")
    check(not [path for path in home.tree() if path.endswith((".incomplete", ".tmp"))], home.tree())
