#!/usr/bin/env python3
"""The sub-command pull against a hub on this machine that does what the real one does, and what a broken or hostile one might:
what is in the cache afterwards, resuming, checks of size and checksum, the token, limits, signals; and --model ORG/NAME.

usage: tests/http/test_pull.py [CASE...]
"""
# Runs beside others: nothing here measures time.
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pty
import random
import re
import resource
import shutil
import signal
import ssl
import struct
import subprocess
import sys
import tempfile
import termios
import time

import npm_package
from harness import BIN, LIMIT, ROOT, SLOW, TINY, Skip, Suite, Worker, check, clean_environment, equal, has, run_program
from hub_rig import REPO, Hub, git_sha1, tiny_files

suite = Suite()
PULL = os.path.join(os.path.dirname(BIN), "llorch-cpud-pull")
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


# --- what is there afterwards ---

@suite.test
def the_cache_has_the_layout_of_the_other_programs():
    with hub_and_home(tiny_files()) as (hub, home):
        status, out, error = home.run("pull", REPO)
        equal((status, out), (0, home.snapshot() + "\n"), error)
        check_whole(hub, home)
        equal(read(os.path.join(home.repo, "refs", "main"), "r"), hub.commit)
        folder = "models--someone--tiny-gpt2/"
        absent = ("added_tokens.json", "generation_config.json", "special_tokens_map.json", "tokenizer_config.json")
        equal(home.tree(), sorted([".locks/%s%s.lock" % (folder, hub.etag(name)) for name in hub.files] +
                                  ["%sblobs/%s" % (folder, hub.etag(name)) for name in hub.files] +
                                  ["%ssnapshots/%s/%s" % (folder, hub.commit, name) for name in hub.files] +
                                  ["%s.no_exist/%s/%s" % (folder, hub.commit, name) for name in absent] +
                                  [folder + "refs/main"]))
        equal([read(os.path.join(home.cache, path)) for path in home.tree() if "no_exist" in path or "lock" in path],
              [b""] * (len(absent) + len(hub.files)))


@suite.test
def what_is_there_is_not_fetched_again_unless_forced():
    with hub_and_home() as (hub, home):
        home.pull()
        hub.requests.clear()
        equal(home.pull(), "")
        equal([r for r in hub.requests if r.method == "GET"], [])
        os.truncate(home.blob(WEIGHTS), 1000)
        home.pull()
        equal([r.name for r in hub.requests if r.method == "GET"], [WEIGHTS] * 2, "a blob of another size")
        hub.requests.clear()
        equal(home.pull(REPO, "--force", "--quiet"), "")
        equal(sorted(r.name for r in hub.requests if r.method == "GET"), sorted(list(FEW) + [WEIGHTS]))
        check_whole(hub, home)


@suite.test
def what_is_complete_need_not_be_writable():
    def state(home):
        found = {}
        for folder, folders, files in os.walk(home.cache):
            for name in [".", *folders, *files]:
                st = os.lstat(os.path.join(folder, name))
                found[os.path.join(folder, name)] = (st.st_ino, st.st_mtime_ns)
        return found
    with hub_and_home() as (_, home):
        home.pull()
        shutil.rmtree(home.cache + "/.locks")
        with open(home.cache + "/.locks", "w", encoding="ascii"):  # no lock can be taken, not even by root
            pass
        before = state(home)
        equal(home.pull(), "")
        equal(state(home), before)
        os.unlink(home.blob("tokenizer.json"))
        home.fail("/.locks", "Not a directory")


@suite.test
def a_commit_that_is_there_asks_nobody():
    with hub_and_home() as (hub, home):
        home.pull(REPO + "@" + hub.commit)
        check(not os.path.exists(os.path.join(home.repo, "refs")), "a commit has no reference")
        hub.requests.clear()
        home.pull(REPO, "--revision", hub.commit)
        equal(hub.requests, [])


@suite.test
def a_branch_that_moved_is_fetched_beside_the_old_one():
    with hub_and_home() as (hub, home):
        home.pull()
        before = home.snapshot()
        hub.files["tokenizer.json"] += b"\n"
        hub.commit = "b" * 40
        hub.refs["main"] = hub.commit
        hub.requests.clear()
        home.pull()
        equal([r.name for r in hub.requests if r.method == "GET"], ["tokenizer.json"])
        check_whole(hub, home)
        check(os.path.isdir(before), "the old snapshot is gone")
        equal(read(os.path.join(home.repo, "refs", "main"), "r"), hub.commit)


@suite.test
def branches_and_tags_with_slashes_are_kept_as_references():
    with hub_and_home() as (hub, home):
        home.pull(REPO + "@refs/pr/1")
        equal(read(os.path.join(home.repo, "refs", "refs", "pr", "1"), "r"), hub.commit)
        has(hub.requests[0].path, "/resolve/refs%2Fpr%2F1/config.json")
        home.pull(REPO, "--revision", "v1.0")
        equal(sorted(os.listdir(os.path.join(home.repo, "refs"))), ["refs", "v1.0"])


@suite.test
def the_cache_is_where_the_environment_says():
    with Hub(dict(FEW)) as hub, home_of(hub) as home:
        places = [(["--cache-dir", home.root + "/a"], {"HF_HUB_CACHE": home.root + "/no"}, "/a"),
                  ([], {"HF_HOME": "", "XDG_CACHE_HOME": "", "HOME": home.root + "/d"}, "/d/.cache/huggingface/hub")]
        for args, env, place in places:
            status, out, error = home.run("pull", REPO, "--quiet", *args, env=env)
            equal((status, error), (0, ""))
            check(out.startswith(home.root + place + "/models--someone--tiny-gpt2/snapshots/"), out)


@suite.test
def shards_come_with_their_index():
    weights = FEW[WEIGHTS]
    index = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors",
                                       "c": "model-00001-of-00002.safetensors"}}).encode()
    files = {"config.json": FEW["config.json"], "tokenizer.json": FEW["tokenizer.json"],
             "model.safetensors.index.json": index, "model-00001-of-00002.safetensors": weights[:5000],
             "model-00002-of-00002.safetensors": weights[5000:]}
    with hub_and_home(files, {"large": list(files)[3:]}) as (hub, home):
        home.pull()
        check_whole(hub, home)
        os.unlink(home.snapshot("model-00002-of-00002.safetensors"))
        status, _, error = home.run("info", "--model", REPO)
        equal(status, 1)
        has(error, "model-00002-of-00002.safetensors is missing in " + home.snapshot())


@suite.test
def the_client_of_hugging_face_reads_the_cache_and_is_read():
    folder = npm_package.installed("hub")

    def client(*args):
        done = subprocess.run(["node", npm_package.source("hub", "hub.mjs"), *args], capture_output=True, text=True,
                              env=dict(os.environ, LLORCH_HUB_CLIENT=folder), timeout=LIMIT * SLOW, check=False)
        equal((done.returncode, done.stderr), (0, ""))
        return done.stdout
    with hub_and_home() as (hub, home):
        home.pull()
        found = json.loads(client("scan", home.cache))
        equal(found["warnings"], [])
        equal([(r["id"], r["filesCount"]) for r in found["repos"]], [({"name": REPO, "type": "model"}, 3)])
        revision, = found["repos"][0]["revisions"]
        equal((revision["commitOid"], revision["refs"], revision["path"]), (hub.commit, ["main"], home.snapshot()))
        equal(sorted((f["path"], f["blob"]["path"]) for f in revision["files"]),
              sorted((home.snapshot(name), home.blob(name)) for name in FEW))
        with home_of(hub) as other:
            equal(client("get", other.cache, hub.url, REPO, *FEW).split(), [other.snapshot(name) for name in FEW])
            check_whole(hub, other)
            both = [[path for path in h.tree() if "/blobs/" in path or "/snapshots/" in path] for h in (home, other)]
            equal(both[0], both[1])
            status, _, error = other.run("info", "--model", REPO + "@" + hub.commit, env={"HF_HUB_CACHE": other.cache})
            equal((status, error), (0, ""))
            hub.requests.clear()
            other.pull()
            equal([r for r in hub.requests if r.method == "GET"], [])


@suite.test
def blobs_may_be_links_to_a_store_of_all_repositories():
    """What newer versions of Hugging Face's own client make of large files, read-only."""
    with hub_and_home() as (hub, home):
        home.pull()
        store = os.path.join(home.cache, "blobs", "ab", "ab" * 32)
        os.makedirs(os.path.dirname(store))
        os.rename(home.blob(WEIGHTS), store)
        os.chmod(store, 0o444)
        os.symlink("../../blobs/ab/" + "ab" * 32, home.blob(WEIGHTS))
        hub.requests.clear()
        equal(home.pull(), "")
        equal([r for r in hub.requests if r.method == "GET"], [])
        status, _, error = home.run("info", "--model", REPO)
        equal((status, error), (0, ""))
        before = os.stat(store)
        home.pull(REPO, "--force")
        check(not os.path.islink(home.blob(WEIGHTS)), "what is forced comes through the link")
        equal((os.stat(store).st_mtime_ns, read(store)), (before.st_mtime_ns, FEW[WEIGHTS]))
        check_whole(hub, home)


# --- finding it ---

@suite.test
def a_pulled_model_is_served_under_its_name():
    with hub_and_home() as (hub, home):
        home.pull()
        for model in (REPO, home.snapshot(), REPO + "@" + hub.commit):
            with Worker(model=model, env=home.env) as worker:
                equal(worker.get("/health")[1]["model"], "tiny-gpt2")
        status, out, error = home.run("verify", "--model", REPO)
        equal((status, error), (0, ""))
        has(out, " pass\n")


@suite.test
def a_local_path_always_wins():
    with hub_and_home() as (_, home):
        home.pull()
        os.makedirs(os.path.join(home.root, REPO))
        done = subprocess.run([BIN, "info", "--model", REPO], cwd=home.root, env=home.env, capture_output=True, text=True,
                              check=False)
        equal(done.returncode, 1)
        has(done.stderr, REPO + "/config.json: No such file")


@suite.test
def what_is_missing_is_named_with_the_command_that_gets_it():
    with hub_and_home() as (_, home):
        status, _, error = home.run("info", "--model", REPO + "@v1.0")
        equal(status, 1)
        has(error, "to download it: llorch-cpud pull %s@v1.0" % REPO)
        home.pull()
        for name in (WEIGHTS, "tokenizer.json", "config.json"):
            os.unlink(home.snapshot(name))
            status, _, error = home.run("info", "--model", REPO)
            equal(status, 1)
            has(error, "%s: %s" % (REPO, name))
            has(error, "missing in %s; to download it: llorch-cpud pull %s" % (home.snapshot(), REPO))
        worker = Worker("--log-level", "error", model=REPO, env=home.env, ready=False)
        equal(worker.wait(), 1)
        has(worker.raw_log[0], "to download it: llorch-cpud pull " + REPO)


@suite.test
def one_gguf_file_can_be_pulled_and_found():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tiny.q8.gguf")
        equal(run_program("quantize", "--model", TINY, "--type", "f16", "--out", path, limit=LIMIT * SLOW)[0], 0)
        files = {"tiny.q8.gguf": read(path)}
        files["other.gguf"] = files["tiny.q8.gguf"].replace(b"gpt2", b"mamb", 1) + bytes(1 << 20)
    with hub_and_home(files, {"large": list(files)}) as (hub, home):
        status, out, error = home.run("pull", REPO, "--file", "tiny.q8.gguf")
        equal((status, out), (0, home.snapshot("tiny.q8.gguf") + "\n"), error)
        status, out, error = home.run("info", "--model", REPO)
        equal((status, error), (0, ""))
        has(out, "tiny.q8")
        for _ in range(2):  # what the first run has seen must not make the second one trust the rest
            home.fail("other.gguf: its architecture is \"mamb\", expected \"gpt2\"", args=(REPO, "--file", "other.gguf"))
            equal([path for path in home.tree() if path.endswith(".incomplete")], [])
        other = home.blob("other.gguf") + ".incomplete"  # another program's
        with open(other, "wb") as file:
            file.write(files["other.gguf"][:100])
        home.fail("other.gguf: its architecture is \"mamb\", expected \"gpt2\"", args=(REPO, "--file", "other.gguf"))
        home.fail("has no absent.gguf", args=(REPO, "--file", "absent.gguf"))
        home.fail("no config.json", "--file NAME.gguf")
        os.symlink(os.readlink(home.snapshot("tiny.q8.gguf")), home.snapshot("second.gguf"))
        has(home.run("info", "--model", REPO)[2], "there are 2 .gguf files")


@suite.test
def a_mirror_may_lead_to_the_hub_and_the_hub_to_itself():
    """HF_ENDPOINT may be a host that knows nothing and leads to the hub; the hub leads small files to an address of a commit."""
    with Hub(dict(FEW), token=TOKEN) as hub, Hub({}) as mirror, home_of(mirror, HF_TOKEN=TOKEN) as home:
        mirror.tricks.append(lambda h, r: h.reply(308, Location=hub.url + r.path) or True)
        home.fail("someone/tiny-gpt2: the host that %s leads to refuses access (status 401), and no token is sent there; "
                  "if HF_ENDPOINT is a mirror, name the hub itself" % mirror.url)
        check(not any(r.headers.get("Authorization") for r in hub.requests), "the mirror's token went to another host")
        hub.token = None
        home.fail("someone/else: %s has no such repository" % mirror.url, args=("someone/else", "--retries", "0"))
        cached = "/api/resolve-cache/models/%s/%s/" % (REPO, hub.commit)

        def leads(handler, request):
            if request.name in hub.large or "/resolve/" not in request.path or request.name not in hub.files:
                return False
            handler.reply(307, Location=cached + request.name + "?etag=%22x%22", X_Repo_Commit=hub.commit, ETag='"of the address"',
                          X_Linked_Etag='"%s"' % hub.etag(request.name), X_Linked_Size=len(hub.files[request.name]))
            return True

        def answers(handler, request):
            if not request.path.startswith(cached):
                return False
            hub.store(handler, request, etag='"%s"' % hub.etag(request.name), X_Repo_Commit=hub.commit)
            return True
        hub.tricks[:] = [leads, answers]
        for cache, endpoint in (("/hub", mirror.url), ("/direct", hub.url)):
            home.pull(REPO, "--cache-dir", home.root + cache, env={"HF_ENDPOINT": endpoint})
            home.repo = "%s%s/models--someone--tiny-gpt2" % (home.root, cache)
            home.hub = hub
            check_whole(hub, home)


# --- the token ---

@suite.test
def the_token_goes_to_the_hub_and_nowhere_else():
    with hub_and_home(hub_options={"token": TOKEN}, HF_TOKEN=TOKEN) as (hub, home):
        # The other host leads back once: an address that it chose is not the hub's own word.
        hub.trick(WEIGHTS, lambda h, r: h.reply(302, Location=hub.url + "/back/" + WEIGHTS), times=1)
        hub.trick(WEIGHTS, lambda h, r: hub.store(h, r), host="hub", times=None)
        hub.tricks.insert(0, lambda h, r: False)
        back = hub.tricks.pop()
        hub.tricks.append(lambda h, r: r.path.startswith("/back/") and back(h, r))
        said = home.pull()
        check_whole(hub, home)
        for r in hub.requests:
            wanted = "Bearer " + TOKEN if r.host == "hub" and not r.path.startswith("/back/") else None
            equal(r.headers.get("Authorization"), wanted, repr(r))
        equal(len([r for r in hub.requests if r.path.startswith("/back/")]), 1)
        check(TOKEN not in said, "the token is printed")


@suite.test
def a_token_is_read_from_its_file():
    with hub_and_home(hub_options={"token": TOKEN}) as (hub, home):
        for path, env in (("token", {}), ("elsewhere", {"HF_TOKEN_PATH": home.root + "/elsewhere"})):
            with open(os.path.join(home.root, path), "w", encoding="ascii") as file:
                file.write(TOKEN + "\n")
            home.pull(REPO, "--force", env=env)
            os.unlink(os.path.join(home.root, path))
        home.fail("/elsewhere: the token cannot be read: No such file",
                  env={"HF_TOKEN_PATH": home.root + "/elsewhere"})
        hub.requests.clear()
        for bad in ("a\x01b", "two words", "x\r\nInjected: y", "\xe9", "x" * 2000):
            error = home.fail("HF_TOKEN: ", env={"HF_TOKEN": bad})
            check(bad not in error, "the token is printed")
        equal(hub.requests, [])


@suite.test
def a_token_never_travels_in_the_clear():
    with hub_and_home(HF_TOKEN=TOKEN) as (hub, home):
        # A name for this machine that does not look like it: through a proxy, which is the hub itself.
        seen = []
        hub.tricks.append(lambda h, r: seen.append(r.headers.get("Authorization")) or h.reply(404) or True)
        home.fail("status 404", "", env={"HF_ENDPOINT": "http://hub.example", "http_proxy": hub.url})
        equal(seen, [None])


@suite.test
def whoever_may_not_read_it_is_told_what_to_do():
    with hub_and_home(hub_options={"token": TOKEN}) as (hub, home):
        home.fail("status 401", "check the name, or set HF_TOKEN")
        error = home.fail("refuses this token (status 401)", env={"HF_TOKEN": "hf_wrong"})
        check("hf_wrong" not in error, "the token is printed")
        hub.trick("config.json", lambda h, r: h.reply(403, X_Error_Code="GatedRepo"), host="hub", method="HEAD")
        home.fail("access has to be asked for at %s/%s" % (hub.url, REPO), "set HF_TOKEN")
        hub.tricks.clear()
        hub.trick("config.json", lambda h, r: h.reply(403), host="hub", method="HEAD")
        home.fail("everybody may read (status 403)", "or set HF_TOKEN")
    with hub_and_home(HF_TOKEN=TOKEN) as (hub, home):
        # Nobody refuses a token that he was not sent.
        hub.tricks.append(lambda h, r: h.reply(401) or True)
        home.fail("refuses access (status 401), and the token is not sent there without TLS; set HF_ENDPOINT to an https:// address",
                  env={"HF_ENDPOINT": "http://hub.example", "http_proxy": hub.url})
        hub.tricks.clear()
        hub.trick(WEIGHTS, lambda h, r: h.reply(403))
        home.fail("the host that %s leads to refuses access (status 403), and no token is sent there" % hub.url)
        hub.tricks.clear()
        hub.trick(WEIGHTS, lambda h, r: h.reply(404))
        home.fail("the server answers for model.safetensors with status 404")


# --- what is not there, or not now ---

@suite.test
def what_the_hub_does_not_have_is_named():
    with hub_and_home() as (hub, home):
        home.fail("has no revision \"gone\"", args=(REPO + "@gone",))
        home.fail("someone/else: %s has no such repository (status 404)" % hub.url, args=("someone/else",))
        del hub.files[WEIGHTS]
        home.fail("has neither model.safetensors nor model.safetensors.index.json\n".strip())
        hub.files["pytorch_model.bin"] = b"pickle"
        home.fail("(pytorch_model.bin is not read: convert it to safetensors)")
        del hub.files["config.json"]
        home.fail("has no config.json")


@suite.test
def another_kind_of_model_is_refused_before_its_weights():
    configs = [(b'{"model_type":"llama"}', "model_type is \"llama\", expected \"gpt2\""),
               (FEW["config.json"].replace(b"{", b'{"auto_map":{"x":"y"},', 1), "auto_map"), (b"<html>", "config.json"),
               (b"[" * 5000, "config.json")]
    for config, part in configs:
        with hub_and_home(dict(FEW, **{"config.json": config})) as (hub, home):
            home.fail("so it is not downloaded: %s: config.json" % REPO, part)
            equal([(r.method, r.name) for r in hub.requests], [("HEAD", "config.json"), ("GET", "config.json")])
    with hub_and_home(dict(FEW, **{"config.json": b" " * (2 << 20)})) as (hub, home):
        home.fail("config.json has 2097152 bytes, expected at most 1048576")
        equal(len(hub.requests), 1)


@suite.test
def a_server_in_trouble_is_asked_again():
    with hub_and_home() as (hub, home):
        hub.trick(WEIGHTS, lambda h, r: h.reply(500), times=1)
        hub.trick("config.json", lambda h, r: h.reply(429, Retry_After=1), host="hub", method="HEAD", times=1)
        before = time.monotonic()
        said = home.pull()
        check(time.monotonic() - before >= 1.2, "the pauses were too short")
        has(said, "status 500; attempt 2 of 6 in 0.2 s")
        has(said, "it asks to come back in 1 s")
        check_whole(hub, home)


@suite.test
def trouble_that_stays_is_told():
    with hub_and_home() as (hub, home):
        hub.trick("config.json", lambda h, r: h.reply(429, Retry_After=7200), host="hub", method="HEAD")
        home.fail("status 429", "come back in 7200 s", "HF_TOKEN", args=(REPO,))
        equal(len(hub.requests), 1, "nobody waits that long")
        hub.tricks.clear()
        hub.trick(WEIGHTS, lambda h, r: h.reply(503, b"x" * 200000))
        home.fail("status 503", args=(REPO, "--retries", "1"))
        equal(len(hub.of(WEIGHTS, "storage")), 2)


@suite.test
def offline_only_the_cache_counts():
    with hub_and_home(HF_HUB_OFFLINE="YES") as (hub, home):
        home.fail("HF_HUB_OFFLINE is set", "nor is revision main in the Hugging Face cache")
        equal(hub.requests, [])
        home.pull(REPO, env={"HF_HUB_OFFLINE": "0"})
        hub.requests.clear()
        equal(home.pull(), "")
        home.fail("--force: HF_HUB_OFFLINE is set", args=(REPO, "--force"), status=2)
        equal(hub.requests, [])


@suite.test
def a_hub_that_cannot_be_reached_is_no_reason_without_need():
    with hub_and_home() as (_, home):
        home.pull()
        gone = {"HF_ENDPOINT": "http://127.0.0.1:9"}
        has(home.pull(REPO, "--retries", "0", env=gone), "going by what the cache has of " + REPO)
        home.fail("127.0.0.1: Failed to connect", args=(REPO + "@v1.0", "--retries", "0"), env=gone)


# --- resuming ---

def half(hub):
    return len(hub.files[WEIGHTS]) // 2


@suite.test
def a_cut_connection_goes_on_where_it_was():
    with hub_and_home() as (hub, home):
        hub.trick(WEIGHTS, lambda h, r: hub.store(h, r, cut=100000), times=2)
        home.pull(REPO, "--retries", "1")  # an attempt that brought something is none that failed
        check_whole(hub, home)
        equal([r.headers.get("Range") for r in hub.of(WEIGHTS, "storage")], [None, "bytes=100000-", "bytes=200000-"])
        etag = '"storage-%s"' % hashlib.md5(FEW[WEIGHTS]).hexdigest()
        equal([r.headers.get("If-Range") for r in hub.of(WEIGHTS, "storage")], [None, etag, etag])


@suite.test
def another_run_goes_on_where_the_last_one_stopped():
    with hub_and_home() as (hub, home):
        hub.trick(WEIGHTS, lambda h, r: hub.store(h, r, cut=half(hub)), times=1)
        home.fail("127.0.0.1: ")
        equal(os.path.getsize(home.blob(WEIGHTS, ".incomplete")), half(hub))
        home.pull()
        check_whole(hub, home)
        equal([r.headers.get("Range") for r in hub.of(WEIGHTS, "storage")], [None, "bytes=%d-" % half(hub)])
        check(hub.of(WEIGHTS, "storage")[1].headers.get("If-Range"), "no If-Range")


@suite.test
def what_another_program_left_incomplete_is_used():
    with hub_and_home() as (hub, home):
        os.makedirs(os.path.join(home.repo, "blobs"))
        with open(home.blob(WEIGHTS, ".incomplete"), "wb") as file:
            file.write(FEW[WEIGHTS][:1000])
        home.pull()
        check_whole(hub, home)
        request = hub.of(WEIGHTS, "storage")[0]
        equal((request.headers.get("Range"), request.headers.get("If-Range")), ("bytes=1000-", None))


@suite.test
def a_file_that_changed_between_runs_is_fetched_whole():
    other = bytes(len(FEW[WEIGHTS]))
    with hub_and_home() as (hub, home):
        hub.trick(WEIGHTS, lambda h, r: hub.store(h, r, data=other, cut=half(hub)), times=1)
        home.fail("127.0.0.1: ")
        home.pull()  # the ETag differs, so the server sends all of it
        check_whole(hub, home)
        equal(len(hub.of(WEIGHTS, "storage")), 2)
    with hub_and_home() as (hub, home):  # a server that does not know If-Range: the checksum notices
        hub.trick(WEIGHTS, lambda h, r: hub.store(h, r, data=other, etag='"same"', cut=half(hub)), times=1)
        hub.trick(WEIGHTS, lambda h, r: hub.store(h, r, etag='"same"'))
        home.fail("127.0.0.1: ")
        has(home.pull(), "what was there before does not fit; from the beginning")
        check_whole(hub, home)
        equal([r.headers.get("Range") for r in hub.of(WEIGHTS, "storage")], [None, "bytes=%d-" % half(hub), None])


@suite.test
def ranges_that_nobody_asked_for_do_no_harm():
    def ignores(handler, request):
        handler.reply(200, hub.files[WEIGHTS])

    def shifts(handler, request):
        handler.reply(206, hub.files[WEIGHTS][5:], Content_Range="bytes 5-%d/%d" % (len(FEW[WEIGHTS]) - 1, len(FEW[WEIGHTS])))

    def runs_out(handler, request):
        handler.reply(416, Content_Range="bytes */7")

    for answer in (ignores, shifts, runs_out):
        with hub_and_home() as (hub, home):
            hub.trick(WEIGHTS, lambda h, r: hub.store(h, r, cut=half(hub)), times=1)
            hub.trick(WEIGHTS, answer, times=1)
            home.pull()
            check_whole(hub, home)


# --- lies ---

def lie(hub, name=WEIGHTS, **headers):
    """The hub says something else about a file."""
    said = {"X_Repo_Commit": hub.commit, "X_Linked_Etag": '"%s"' % hub.etag(name), "X_Linked_Size": len(hub.files[name]),
            "Location": "%s/%s" % (hub.storage, name)}
    said.update(headers)
    hub.trick(name, lambda h, r: h.reply(302, **said), host="hub", method="HEAD")


@suite.test
def sizes_that_do_not_agree_are_refused():
    size = len(FEW[WEIGHTS])
    with hub_and_home() as (hub, home):
        lie(hub, X_Linked_Size=size - 1)
        home.fail("the server has %d bytes, the hub said %d" % (size, size - 1))
        hub.tricks.clear()
        lie(hub, X_Linked_Size=size + 1)
        home.fail("the server has %d bytes, the hub said %d" % (size, size + 1))
        hub.tricks.clear()
        # More comes than was announced: without a length it shows only when it comes.
        hub.trick(WEIGHTS, lambda h, r: h.raw(b"HTTP/1.1 200 OK\r\n\r\n" + FEW[WEIGHTS] + b"more"))
        home.fail("more than %d bytes came" % size)
        hub.tricks.clear()
        hub.trick(WEIGHTS, lambda h, r: h.raw(b"HTTP/1.1 200 OK\r\n\r\n" + FEW[WEIGHTS][:-1]))
        home.fail("the answer ended after %d of %d bytes" % (size - 1, size))
        hub.tricks.clear()
        lie(hub, X_Linked_Size=10 ** 17)
        home.fail("100000.0 TB are to be downloaded, but the disk has only", "--cache-dir")
        check(not os.path.lexists(home.snapshot(WEIGHTS)), "it is linked")


@suite.test
def wrong_bytes_are_refused_and_not_kept():
    wrong = bytearray(FEW[WEIGHTS])
    wrong[-1] ^= 1
    with hub_and_home() as (hub, home):
        hub.trick("tokenizer.json", lambda h, r: h.reply(200, FEW["tokenizer.json"][::-1]), host="hub")
        home.fail("tokenizer.json: what came has the checksum", "the hub said " + git_sha1(FEW["tokenizer.json"]))
        hub.tricks.clear()
        hub.trick(WEIGHTS, lambda h, r: hub.store(h, r, data=bytes(wrong)))
        home.fail("has the checksum " + hashlib.sha256(wrong).hexdigest(), "the hub said " + hub.etag(WEIGHTS),
                  "nothing of it is kept")
        equal(len(hub.of(WEIGHTS, "storage")), 1)
        check(not [p for p in home.tree() if hub.etag(WEIGHTS) in p and "locks" not in p], home.tree())
        check(not os.path.exists(os.path.join(home.repo, "refs")), "the branch was written")
        # Whole and wrong in spite of a range that was asked for: nothing is left to blame it on.
        hub.tricks.clear()
        hub.trick(WEIGHTS, lambda h, r: h.reply(200, bytes(wrong)))
        with open(home.blob(WEIGHTS, ".incomplete"), "wb") as file:
            file.write(wrong[:1000])
        home.fail("nothing of it is kept")
        equal([r.headers.get("Range") for r in hub.of(WEIGHTS, "storage")], [None, "bytes=1000-"])
        hub.tricks.clear()
        home.pull()
        check_whole(hub, home)


@suite.test
def names_from_the_server_stay_in_their_folder():
    with hub_and_home() as (hub, home):
        for etag in ('"../../../../evil"', '".hidden"', '"%s"' % ("x" * 200)):
            hub.tricks.clear()
            lie(hub, X_Linked_Etag=etag, ETag=None)
            home.fail("ETag of model.safetensors cannot be a file's name")
        hub.tricks.clear()
        lie(hub, X_Repo_Commit="../" * 13 + "x")
        home.fail("has a bad X-Repo-Commit")
        hub.tricks.clear()
        lie(hub, X_Repo_Commit="f" * 40)
        home.fail("the hub answers for commit ffff")
        hub.tricks.clear()
        del hub.files[WEIGHTS]
        for name in ("../evil", ".evil", "x\\u0000y"):
            hub.files["model.safetensors.index.json"] = ('{"weight_map":{"t":"%s"}}' % name).encode()
            home.fail("plain file name")
        equal(sorted(os.listdir(home.root)), ["hub"])
        equal(sorted(os.listdir(home.cache)), [".locks", "models--someone--tiny-gpt2"])


@suite.test
def redirections_are_bounded_and_only_to_web_addresses():
    with hub_and_home() as (hub, home):
        def leads_to(place, status=302):
            hub.tricks.clear()
            hub.trick(WEIGHTS, lambda h, r: h.reply(status, Location=place))
        leads_to(hub.storage + "/" + WEIGHTS)
        home.fail("more than 8 redirections")
        for place in ("file:///etc/passwd", "ftp://127.0.0.1/x", "http://user:word@127.0.0.1/x", "http://[", "gopher://x"):
            leads_to(place)
            home.fail("leads to an address that is not followed")
        leads_to("", 300)
        home.fail("status 300")
        # A repository that was renamed: to another path of the same host, for questions as well.
        hub.tricks[:] = [lambda h, r: r.path.startswith("/old/name/") and
                         (h.reply(307, Location=r.path.replace("/old/name", "/" + REPO)) or True)]
        home.pull("old/name")
        check(os.path.isdir(os.path.join(home.cache, "models--old--name", "snapshots", hub.commit)), home.tree())


@suite.test
def an_answer_without_end_is_ended():
    with hub_and_home() as (hub, home):
        endless = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 1000) for i in range(200))
        hub.trick("config.json", lambda h, r: h.raw(endless), host="hub", method="HEAD")
        home.fail("more than 65536 bytes of headers")
        for line in (b"Content-Length: -1", b"X-Linked-Size: 1e9", b"X-Linked-Size: 1\r\nX-Linked-Size: 2",
                     b"Content-Length: 99999999999999999999"):
            hub.tricks.clear()
            answer = b"HTTP/1.1 200 OK\r\nETag: \"abc\"\r\nX-Repo-Commit: %s\r\n%s\r\n\r\n" % (hub.commit.encode(), line)
            hub.trick("config.json", lambda h, r, a=answer: h.raw(a), host="hub", method="HEAD")
            home.fail("")
        hub.tricks.clear()
        hub.trick("config.json", lambda h, r: h.raw(b"SSH-2.0-OpenSSH\r\n"), host="hub", method="HEAD")
        home.fail("127.0.0.1: ")


@suite.test
def damaged_answers_bring_one_line_and_never_wrong_bytes():
    for seed in range(8):
        numbers = random.Random(seed)
        with hub_and_home(HF_HUB_DOWNLOAD_TIMEOUT="2") as (hub, home):
            hub.tricks.append(lambda h, r, hub=hub, numbers=numbers: numbers.random() < 0.25 and hub.damaged(h, r, numbers))
            status, out, error = home.run("pull", REPO, "--retries", "1")
            check(status in (0, 1) and (status == 1) == (out == ""), "status %d: %s" % (status, error))
            check(status == 0 or error.splitlines()[-1].startswith("llorch-cpud: "), error)
            hub.tricks.clear()
            home.pull()
            check_whole(hub, home)
            equal(os.listdir(home.root), ["hub"])


@suite.test
def a_file_without_a_length_is_checked_by_its_checksum():
    text = FEW["tokenizer.json"]

    def chunked(handler, request):
        body = b"" if handler.command == "HEAD" else b"%x\r\n%s\r\n0\r\n\r\n" % (len(text), text)
        handler.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nETag: W/\"%s\"\r\n\r\n%s" % (
            git_sha1(text).encode(), body))

    with hub_and_home() as (hub, home):
        for method in ("HEAD", "GET"):
            hub.trick("tokenizer.json", chunked, host="hub", method=method)
        home.pull()
        check_whole(hub, home)
        lie(hub, X_Linked_Size=None)
        home.fail("does not tell the size of model.safetensors", args=(REPO, "--force", "--retries", "0"))


@suite.test
def a_server_that_drips_is_left():
    with hub_and_home(HF_HUB_DOWNLOAD_TIMEOUT="1") as (hub, home):
        def drip(handler, request):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(FEW[WEIGHTS])))
            handler.end_headers()
            for i in range(200):
                handler.wfile.write(FEW[WEIGHTS][i:i + 1])
                time.sleep(0.05)
        hub.trick(WEIGHTS, drip, times=1)
        home.fail("127.0.0.1: Operation too slow")
        check(os.path.getsize(home.blob(WEIGHTS, ".incomplete")) > 0, "nothing is kept")
        home.pull()
        check_whole(hub, home)


# --- this machine ---

def stall(hub):
    """The weights come half, and then nothing until the test is over."""
    def action(handler, request):
        handler.send_response(200)
        handler.send_header("ETag", '"storage-%s"' % hashlib.md5(FEW[WEIGHTS]).hexdigest())
        handler.send_header("Content-Length", str(len(FEW[WEIGHTS])))
        handler.end_headers()
        handler.wfile.write(FEW[WEIGHTS][:half(hub)])
        handler.wfile.flush()
        handler.rfile.read(1)  # until the other side has gone
        handler.close_connection = True
    hub.trick(WEIGHTS, action, times=1)


def wait_for_half(hub, home):
    end = time.monotonic() + LIMIT * SLOW
    path = home.blob(WEIGHTS, ".incomplete")
    while not os.path.exists(path) or os.path.getsize(path) < half(hub):
        check(time.monotonic() < end, "the first half did not come")
        time.sleep(0.01)


@suite.test
def whatever_signal_ends_it_the_next_run_goes_on():
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        with hub_and_home() as (hub, home):
            stall(hub)
            process = home.start(REPO)
            wait_for_half(hub, home)
            process.send_signal(number)
            _, error = process.communicate(timeout=LIMIT * SLOW)
            equal(process.returncode, status, error)
            if number != signal.SIGKILL:
                has(error, "pull: interrupted; what came is kept, and the same command goes on")
            home.pull()
            check_whole(hub, home)
            equal(hub.of(WEIGHTS, "storage")[-1].headers.get("Range"), "bytes=%d-" % half(hub))


@suite.test
def two_at_once_fetch_a_file_once():
    with hub_and_home() as (hub, home):
        stall(hub)
        first = home.start(REPO)
        wait_for_half(hub, home)
        second = home.start(REPO)
        end = time.monotonic() + LIMIT * SLOW
        while len(hub.of(WEIGHTS, "hub", "HEAD")) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        first.kill()  # the other one takes over what has come
        first.communicate(timeout=LIMIT * SLOW)
        _, error = second.communicate(timeout=LIMIT * SLOW)
        equal(second.returncode, 0, error)
        check_whole(hub, home)
        equal([r.headers.get("Range") for r in hub.of(WEIGHTS, "storage")], [None, "bytes=%d-" % half(hub)])
        hub.requests.clear()
        runs = [home.start(REPO, "--cache-dir", home.root + "/both") for _ in range(3)]
        for run in runs:
            error = run.communicate(timeout=LIMIT * SLOW)[1]
            equal(run.returncode, 0, error)
        equal(len(hub.of(WEIGHTS, "storage")), 1)


@suite.test
def a_full_disk_keeps_what_has_come():
    with hub_and_home() as (hub, home):
        limit = half(hub)
        process = home.start(REPO, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        out, error = process.communicate(timeout=LIMIT * SLOW)
        equal((process.returncode, out), (1, ""))
        has(error, "File too large; the %.1f kB that came are kept, and the same command goes on from there" % (limit / 1000))
        equal(os.path.getsize(home.blob(WEIGHTS, ".incomplete")), limit)
        home.pull()
        check_whole(hub, home)


@suite.test
def calls_that_fail_are_told_and_the_next_run_mends_all():
    shim = os.path.join(os.path.dirname(BIN), "tests", "fault_shim.so")
    if not os.path.exists(shim):
        raise Skip("no fault_shim.so: sanitizers bring functions of their own")
    place = "keeps no cache: choose another place with --cache-dir or HF_HUB_CACHE"
    faults = [("flock:1", errno.ENOSYS, "Function not implemented; a file system without locks (flock) " + place),
              ("symlink:2", errno.EPERM, "Operation not permitted; a file system without symbolic links " + place),
              ("mkdir:3", errno.ENOSPC, "No space left on device"), ("pwrite:2", errno.ENOSPC, "came are kept"),
              ("fsync:1", errno.EIO, "Input/output error"), ("rename:3", errno.EIO, "Input/output error"),
              ("rename:7", errno.EIO, "refs/main: Input/output error"), ("pread:1", errno.EIO, "Input/output error")]
    with Hub(dict(FEW)) as hub:
        for fault, error, part in faults:
            with home_of(hub) as home:
                home.fail(part, env={"LD_PRELOAD": shim, "LLORCH_FAULT": "%s:1:%d" % (fault, error)})
                check(not os.path.exists(os.path.join(home.repo, "refs", "main")), "the branch was written")
                home.pull()
                check_whole(hub, home)


@suite.test
def a_cache_that_cannot_be_written_is_named():
    with hub_and_home() as (_, home):
        home.fail("/dev/null/x", args=(REPO, "--cache-dir", "/dev/null/x"))
        path = os.path.join(home.root, "closed")
        os.makedirs(path)
        with open(os.path.join(path, "models--someone--tiny-gpt2"), "w", encoding="ascii"):
            pass
        home.fail("models--someone--tiny-gpt2", "Not a directory", args=(REPO, "--cache-dir", path))


@suite.test
def what_is_asked_of_this_machine_in_the_clear_goes_through_no_proxy():
    with hub_and_home(hub_options={"token": TOKEN}, HF_TOKEN=TOKEN) as (hub, home), Hub({}) as proxy:
        home.pull(env={"http_proxy": proxy.url, "all_proxy": proxy.url})
        check_whole(hub, home)
        equal(proxy.requests, [])
        # Another host is reached through it, and gets no token without TLS.
        home.fail("hub.invalid", args=(REPO, "--force", "--retries", "0"), env={"http_proxy": proxy.url, "HF_ENDPOINT": "http://hub.invalid"})
        check(proxy.requests, "nobody asked the proxy")
        check(not any("authorization" in {name.lower() for name in r.headers} for r in proxy.requests), "the token went to the proxy")


@suite.test
def https_is_believed_only_with_a_certificate_and_never_left():
    if not shutil.which("openssl"):
        raise Skip("openssl is not installed")
    with hub_and_home() as (hub, home):
        pem = os.path.join(home.root, "server.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", pem, "-out", pem],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        hub.servers[0].socket = context.wrap_socket(hub.servers[0].socket, server_side=True)
        secure = {"HF_ENDPOINT": hub.url.replace("http://127.0.0.1", "https://localhost"), "HF_TOKEN": TOKEN}
        home.fail("localhost: SSL certificate problem", args=(REPO,), env=secure)
        secure["CURL_CA_BUNDLE"] = pem
        home.fail("localhost leads from https to http, which is not followed", env=secure)
        equal(hub.of(WEIGHTS, "storage"), [])
        equal(hub.requests[0].headers.get("Authorization"), "Bearer " + TOKEN)


# --- the program ---

@suite.test
def names_that_are_none_are_refused():
    bad = ["", "a/b/c", "../x", "a/b@../x", "a\n/b", "\xff/x"]  # test_hub has all of them
    with home_of(None) as home:
        for name in bad:
            status, out, error = home.run("pull", "--", name)
            equal((status, out, error.count("\n")), (2, "", 1), repr(name))
        for args, part in (((), "which model?"), ((REPO, "x"), "unexpected argument"), ((REPO, "--what"), "--what"),
                           ((REPO + "@a", "--revision", "b"), "names one already"), ((REPO, "--retries", "-1"), "at least 0"),
                           ((REPO, "--file", "../x.gguf"), "--file"), ((REPO, "--file", "model.bin"), "--file"),
                           ((REPO, "--cache-dir", ""), "must not be empty")):
            has(home.fail(part, args=args, status=2), "llorch-cpud: ")
        for address in ("huggingface.co", "ftp://x", "https://u:p@h", "http:///x"):
            home.fail("HF_ENDPOINT", env={"HF_ENDPOINT": address})
        status, out, error = home.run("pull", "--help")
        equal((status, error), (0, ""))
        has(out, "usage: llorch-cpud pull ORG/NAME[@REVISION]")


def drawings(home, columns):
    """(what was drawn of the weights, seconds, all that came) on a terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    begun = time.monotonic()
    process = subprocess.Popen([BIN, "pull", REPO, "--force"], cwd=ROOT, env=home.env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while True:
            seen += os.read(ours, 4096)
    os.close(ours)
    equal(process.wait(LIMIT), 0)
    weights = seen[seen.index(b"tokenizer.json 100 %"):]
    return [line[:-3] for line in weights.split(b"\r") if len(line) > 3 and line.endswith(b"\x1b[K")], time.monotonic() - begun, seen


@suite.test
def progress_is_lines_in_a_file_and_a_bar_on_a_terminal():
    def pieces(handler, request):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(FEW[WEIGHTS])))
        handler.end_headers()
        for i in range(0, len(FEW[WEIGHTS]), 10000):
            handler.wfile.write(FEW[WEIGHTS][i:i + 10000])
            time.sleep(0.015)

    with hub_and_home() as (hub, home):
        lines = home.pull().splitlines()
        weights = [line for line in lines if line.startswith(WEIGHTS)]
        has(weights[-1], "100 %  502.9 kB")
        check(len(weights) <= 20, weights)
        check("\r" not in "".join(lines), lines)
        hub.trick(WEIGHTS, pieces)
        # The time that is left comes after half a second.
        for columns, wanted in ((80, br"model\.safetensors \[#+\.*\] +\d+ %  .* kB of 502\.9 kB  .* kB/s  \d+:\d\d left$"),
                                (20, br" +\d+ %$")):
            drawn, seconds, seen = drawings(home, columns)
            check(2 <= len(drawn) <= 10 * seconds + 4, "drawn %d times" % len(drawn))
            check(max(map(len, drawn)) < columns, drawn)
            check(re.match(wanted, drawn[-1]), drawn)
            has(seen, b"model.safetensors 100 %  502.9 kB\r\n")


@suite.test
def only_the_program_that_downloads_knows_libcurl():
    def libraries(path):
        return subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    check("curl" not in libraries(BIN) and "libcrypto" not in libraries(BIN), libraries(BIN))
    has(libraries(PULL), "libcurl")
    check("libevent" not in libraries(PULL), libraries(PULL))
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(os.path.join(folder, "bin"))
        alone = shutil.copy(BIN, os.path.join(folder, "bin", "llorch-cpud"))
        done = subprocess.run([alone, "pull", REPO], capture_output=True, text=True, check=False)
        equal((done.returncode, done.stdout), (1, ""))
        has(done.stderr, "neither at %s/bin/llorch-cpud-pull nor at %s/libexec/llorch-cpud/llorch-cpud-pull" % (folder, folder))
        os.makedirs(os.path.join(folder, "libexec", "llorch-cpud"))
        shutil.copy(PULL, os.path.join(folder, "libexec", "llorch-cpud"))
        done = subprocess.run([alone, "pull", "--help"], capture_output=True, text=True, check=False)
        has(done.stdout, "usage: llorch-cpud pull")


if __name__ == "__main__":
    sys.exit(suite.run())
