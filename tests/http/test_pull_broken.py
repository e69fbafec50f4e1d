#!/usr/bin/env python3
"""The sub-command pull where something breaks: connections, answers, sizes and checksums of a hub that lies, signals, disks.

usage: tests/http/test_pull_broken.py [CASE...]
"""
# Runs beside others: nothing here measures time.
import errno
import hashlib
import os
import random
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import time

from harness import BIN, LIMIT, SLOW, Skip, Suite, check, equal, has
from hub_rig import REPO, Hub, git_sha1
from pull_rig import FEW, TOKEN, WEIGHTS, check_whole, home_of, hub_and_home, read

suite = Suite()


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


if __name__ == "__main__":
    sys.exit(suite.run())
