#!/usr/bin/env python3
"""The image of deploy/container: its Containerfile against this tree; with LLORCH_TEST_ALL=1 (make check-container, as root) built by
buildah over a system that debootstrap makes, and run as process 1 on a read-only root by a user without a name or rights.
"""
# Runs beside others: nothing here measures time.
import fnmatch
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

from harness import BIN, ROOT, SHAKESPEARE, Skip, Suite, Worker, body_of, check, equal, free_port, has, sanitized, text_of

suite = Suite()
CONTAINERFILE = os.path.join(ROOT, "deploy", "container", "Containerfile")
MINUTES = 60
# As podman run --read-only --cap-drop=all --security-opt=no-new-privileges would.
RUN = ["setpriv", "--no-new-privs", "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c",
       'mount --bind "$0" "$0" && mount -t proc proc "$0/proc" && mount -o remount,bind,ro "$0" && '
       'exec chroot --userspec=65532:65532 --groups= "$0" "$@"']


def instructions():
    """[(instruction, rest)] with continued lines joined."""
    with open(CONTAINERFILE, encoding="utf-8") as file:
        text = re.sub(r"^#.*\n", "", file.read(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def last(name):
    return [rest for instruction, rest in instructions() if instruction == name][-1]


@suite.test
def the_image_runs_what_the_program_takes():
    equal(json.loads(last("ENTRYPOINT")), ["llorch-cpud"])
    args = json.loads(last("CMD"))
    equal(args[0], "serve")
    equal(args[args.index("--port") + 1], last("EXPOSE"))
    equal(args[args.index("--model") + 1], "/usr/share/llorch-cpud/models/shakespeare")
    args[args.index("--port") + 1] = str(free_port())
    args[args.index("--model") + 1] = SHAKESPEARE
    with Worker(*args[1:]) as w:
        equal(w.get("/ready")[0], 200)
    equal((last("USER"), last("STOPSIGNAL")), ("65532:65532", "SIGTERM"))


@suite.test
def it_has_the_libraries_that_the_program_needs_and_no_compiler():
    if sanitized():
        raise Skip("sanitizers bring libraries of their own")
    if not shutil.which("dpkg-query"):
        raise Skip("dpkg is not installed")
    named = re.search(r"install +(.*?) +&&", last("RUN")).group(1).split()
    linked = subprocess.run(["ldd", BIN], stdout=subprocess.PIPE, check=True).stdout.decode()
    needed = set()
    for path in re.findall(r"=> (\S+)", linked):
        found = subprocess.run(["dpkg-query", "-S", "*" + os.path.realpath(path).split("/usr", 1)[-1]], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, check=False).stdout.decode()
        needed.add(found.split(":", 1)[0])
    check("libc6" in needed and len(needed) > 2, needed)
    equal(sorted(needed - {"libc6"} - set(named)), [])
    check(not any(word in ("gcc", "make") or word.endswith("-dev") for word in named), named)


@suite.test
def nothing_that_make_install_needs_is_left_out():
    with open(os.path.join(ROOT, ".dockerignore"), encoding="utf-8") as file:
        ignored = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    for name in ("src", "models", "scripts", "docs", "deploy", "packaging", "tools", "Makefile", "VERSION", "packages.txt", "README.md"):
        check(os.path.exists(os.path.join(ROOT, name)), name)
        check(not any(fnmatch.fnmatch(name, pattern) for pattern in ignored), name)
    has(ignored, ".git")
    has(ignored, "build")


def run(*args, **more):
    done = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30 * MINUTES,
                          check=False, **more)
    text = done.stdout.decode("utf-8", "replace")
    check(done.returncode == 0, "%s: status %d\n%s" % (" ".join(args[:4]), done.returncode, text[-2000:]))
    return text


def debian(root):
    """A small Debian 12 that knows the sources of this machine's apt."""
    sources = sorted(set(run("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages").splitlines()))
    sources = [line for line in sources if line.split()[1].startswith("bookworm")]
    if not sources:
        raise Skip("no apt source of Debian 12 is known")
    address = [line.split()[0] for line in sources if line.endswith(" bookworm")][0]
    run("debootstrap", "--variant=minbase", "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg", "bookworm", root, address)
    with open(root + "/etc/apt/sources.list", "w", encoding="ascii") as file:
        file.write("".join("deb %s main\n" % line for line in sources))
    with open(root + "/etc/apt/apt.conf.d/99acquire", "w", encoding="utf-8") as file:
        file.write(run("apt-config", "dump", "Acquire"))


def build_image(folder):
    """The root of the image."""
    store = ["buildah", "--root", folder + "/store", "--runroot", folder + "/run", "--storage-driver", "vfs"]
    env = dict(os.environ, BUILDAH_ISOLATION="chroot")
    debian(folder + "/debian")
    base = run(*store, "from", "scratch", env=env).split()[-1]
    run(*store, "add", "-q", base, folder + "/debian", "/", env=env)
    run(*store, "commit", "-q", base, "localhost/debian:12-slim", env=env)
    run(*store, "bud", "--pull-never", "--build-arg", "BASE=localhost/debian:12-slim", "-t", "llorch-cpud", "-f", CONTAINERFILE, ROOT,
        env=env)
    made = run(*store, "from", "--pull-never", "localhost/llorch-cpud", env=env).split()[-1]
    root = folder + "/image"
    run("cp", "-a", run(*store, "mount", made, env=env).strip(), root)  # devices as devices
    run(*store, "umount", made, env=env)
    return root


@suite.test
def the_image_is_built_and_its_worker_serves_as_process_1_on_a_read_only_root():
    if not os.environ.get("LLORCH_TEST_ALL"):
        raise Skip("minutes: make check-container")
    if os.geteuid() != 0:
        raise Skip("only root may make a system")
    for program in ("buildah", "debootstrap", "setpriv"):
        if not shutil.which(program):
            raise Skip("%s is not installed" % program)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        root = build_image(folder)
        check(not os.path.exists(root + "/usr/bin/gcc"), "the compiler is in the image")
        os.chmod(root, 0o777)  # so that only the mount says no
        tried = run(*RUN, root, "sh", "-c", "id -u; echo $$; touch /x /tmp/x /usr/x 2>&1 | grep -c Read-only")
        equal(tried.split(), ["65532", "1", "3"])
        has(run(*RUN, root, "llorch-cpud", "pull", "--help"), "usage: llorch-cpud pull")
        args = json.loads(last("CMD"))
        args[args.index("--port") + 1] = str(free_port())
        with Worker(*args[1:], model=None, wrap=[*RUN, root, "sh", "-c", 'exec llorch-cpud serve "$@"']) as w:
            check(text_of(w.run(prompt="ROMEO:", max_tokens=3)) != "", "no text")
            with open("/proc/%d/task/%d/children" % (w.pid, w.pid), encoding="ascii") as file:
                os.kill(int(file.read()), signal.SIGTERM)
            equal(w.wait(), 0)


sys.exit(suite.run())
