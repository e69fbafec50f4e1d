#!/usr/bin/env python3
"""The sub-command pull against a hub on this machine that does what the real one does: what is in the cache afterwards, the token,
what is not there, what is shown; and --model ORG/NAME. A hub that breaks or lies: test_pull_broken.py.

usage: tests/http/test_pull.py [CASE...]
"""
# Runs beside others: nothing here measures time.
import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time

import npm_package
from harness import BIN, LIMIT, ROOT, SLOW, TINY, Suite, Worker, check, equal, has, run_program
from hub_rig import REPO, Hub, tiny_files
from pull_rig import FEW, TOKEN, WEIGHTS, check_whole, home_of, hub_and_home, read

suite = Suite()
PULL = os.path.join(os.path.dirname(BIN), "llorch-cpud-pull")


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
                                (20, br" *\d+ %$")):
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
