#!/usr/bin/env python3
"""The Debian package in a fresh Debian 12: a root that debootstrap makes from the mirror of this machine's own apt sources.
The package is installed with apt, used, upgraded, removed, installed again and purged.

The root is kept in build/debian-root for the next run, for a week.
"""
# Runs beside others: nothing here measures time.
import atexit
import glob
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from harness import BIN, BUILD, ROOT, SLOW, Skip, Stream, Suite, body_of, check, check_order, equal, free_port, has, sanitized, text_of

SUITE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
LIMIT = 300 * SLOW
KEPT_SECONDS = 7 * 24 * 3600
# What debootstrap --variant=minbase resolves to in Debian 12, told to it because resolving takes as long as all else together.
PACKAGES = """adduser base-files base-passwd bash bsdutils coreutils dash debconf debian-archive-keyring debianutils diffutils dpkg
 e2fsprogs findutils gcc-12-base gpgv grep gzip hostname init-system-helpers libacl1 libattr1 libaudit-common libaudit1 libblkid1
 libbz2-1.0 libc-bin libc6 libcap-ng0 libcap2 libcom-err2 libcrypt1 libdb5.3 libdebconfclient0 libext2fs2 libffi8 libgcc-s1
 libgcrypt20 libgmp10 libgnutls30 libgpg-error0 libhogweed6 libidn2-0 liblz4-1 liblzma5 libmd0 libmount1 libnettle8 libp11-kit0
 libpam-modules libpam-modules-bin libpam-runtime libpam0g libpcre2-8-0 libseccomp2 libselinux1 libsemanage-common libsemanage2
 libsepol2 libsmartcols1 libss2 libstdc++6 libsystemd0 libtasn1-6 libtinfo6 libudev1 libunistring2 libuuid1 libxxhash0 libzstd1
 login logsave mawk mount ncurses-base ncurses-bin passwd perl-base sed sysvinit-utils tar tzdata usr-is-merged util-linux
 util-linux-extra zlib1g"""
# A systemctl of a machine with three running workers, the second of which does not start again; writes down what it is told.
SYSTEMCTL = """#!/bin/sh
echo "$*" >>/tmp/systemctl.log
case "$*" in
list-units*) for i in 0 1 2; do echo "llorch-cpud@$i.service loaded active running worker"; done ;;
*is-enabled*) echo enabled ;;
*" restart llorch-cpud@1.service") exit 1 ;;
esac
"""
# What apt and dpkg keep for themselves.
BOOKS = ("var/lib/dpkg", "var/lib/apt", "var/cache", "var/log", "proc", "tmp")
HELPER = next(iter(glob.glob(os.path.join(os.path.dirname(BIN), "llorch-cpud-pull"))), "")  # a build may leave it out
suite = Suite()


# --- a mirror ---

def stanzas(text):
    """The paragraphs of a deb822 file as {field in lower case: value}."""
    text = re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)
    for part in re.split(r"\n\s*\n", text):
        fields = {name.lower(): " ".join(value.split())
                  for name, value in re.findall(r"^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", part, re.MULTILINE)}
        if fields:
            yield fields


def parse_deb822(text):
    """(address, suite, components) of each binary source of a .sources file."""
    for fields in stanzas(text):
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() not in ("no", "false", "0"):
            for address in fields.get("uris", "").split():
                for name in fields.get("suites", "").split():
                    yield address.rstrip("/"), name, fields.get("components", "").split()


def parse_lines(text):
    """The same of a .list file: deb [options] address suite component..."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]*)", line)
        if match:
            yield match.group(1).rstrip("/"), match.group(2), match.group(3).split()


def mirror():
    """The address where this machine gets the main part of Debian 12 from."""
    found = []
    for path in ["/etc/apt/sources.list"] + sorted(glob.glob("/etc/apt/sources.list.d/*")):
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                found += (parse_deb822 if path.endswith(".sources") else parse_lines)(file.read())
    for address, name, components in found:
        if name == SUITE and "main" in components and re.match(r"https?://", address):
            return address
    raise Skip("no apt source of this machine has Debian's %s" % SUITE)


def environment():
    """With the proxy that apt is told to use."""
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/"}
    done = subprocess.run(["apt-config", "shell", "x", "Acquire::http::Proxy"], stdout=subprocess.PIPE, check=False)
    proxy = re.search(r"x='(http[^']+)'", done.stdout.decode())
    if proxy or os.environ.get("http_proxy"):
        env["http_proxy"] = proxy.group(1) if proxy else os.environ["http_proxy"]
    return env


def must_answer(address):
    try:
        with urllib.request.urlopen("%s/dists/%s/InRelease" % (address, SUITE), timeout=20) as answer:
            answer.read(1)
    except OSError as error:
        raise Skip("the mirror of this machine does not answer: %s" % type(error).__name__) from error


# --- a root ---

def run(*args, limit=LIMIT, good=(0,), **more):
    done = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit,
                          check=False, **more)
    text = done.stdout.decode("utf-8", "replace")
    check(done.returncode in good, "exit status %d of %s\n%s" % (done.returncode, " ".join(args), text[-3000:]))
    return text


def work_folder():
    """In memory where there is room: nobody needs these files to reach a disk."""
    for place in ("/dev/shm", os.path.join(ROOT, "build")):
        os.makedirs(place, exist_ok=True)
        stat = os.statvfs(place)
        if stat.f_bavail * stat.f_frsize > 2 << 30 and not stat.f_flag & (os.ST_NOEXEC | os.ST_NODEV):
            folder = tempfile.mkdtemp(prefix="llorch-deb-", dir=place)
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            return folder
    raise Skip("no room of 2 GB for a system")


def debootstrap(root, address):
    script = root + ".script"
    with open(script, "w", encoding="utf-8") as file:
        file.write('. /usr/share/debootstrap/scripts/%s\nwork_out_debs() { required="%s" base="apt libapt-pkg6.0"; }\n' % (
            SUITE, " ".join(PACKAGES.split())))
    done = subprocess.run(["debootstrap", "--variant=minbase", "--no-resolve-deps", "--keyring=" + KEYRING, SUITE, root, address, script],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(), timeout=LIMIT,
                          check=False)
    if done.returncode:
        raise Skip("debootstrap makes no system here: %s" % done.stdout.decode("utf-8", "replace").strip().splitlines()[-1])
    shutil.rmtree(root + "/var/cache/apt")
    os.makedirs(root + "/var/cache/apt/archives/partial")


class Debian:
    """A fresh Debian 12, and a look into it."""

    def __init__(self):
        if os.geteuid() != 0:
            raise Skip("only root may make a system")
        for program in ("debootstrap", "unshare", "apt-config"):
            if not shutil.which(program, path=environment()["PATH"]):
                raise Skip("%s is not installed" % program)
        # Where the root of the file system is no mount of its own (a chroot), no mount can be kept from others.
        done = subprocess.run(["unshare", "--pid", "--mount", "--fork", "true"], env=environment(), stdin=subprocess.DEVNULL,
                              capture_output=True, check=False)
        if done.returncode != 0:
            raise Skip("no mounts of its own here: %s" % done.stderr.decode("utf-8", "replace").strip())
        address = mirror()
        must_answer(address)
        folder = work_folder()
        self.root = folder + "/root"
        key = hashlib.sha256((address + PACKAGES + os.uname().machine).encode()).hexdigest()[:16]
        kept = os.path.join(ROOT, "build", "debian-root", key + ".tar")
        if os.path.exists(kept) and time.time() - os.path.getmtime(kept) < KEPT_SECONDS:
            os.mkdir(self.root)
            run("tar", "-xf", kept, "-C", self.root)
        else:
            debootstrap(self.root, address)
            os.makedirs(os.path.dirname(kept), exist_ok=True)
            run("tar", "-cf", kept + ".new", "-C", self.root, ".")
            os.rename(kept + ".new", kept)
        shutil.copy("/etc/resolv.conf", self.root + "/etc/resolv.conf")

    def command(self, *args):
        """In namespaces of its own, so that nothing survives and nothing stays mounted."""
        return ["unshare", "--fork", "--pid", "--mount", "--kill-child", "--root=" + self.root, "--mount-proc", *args]

    def run(self, *args, **more):
        return run(*self.command(*args), env=environment(), **more)

    def apt(self, *args):
        return self.run("apt-get", "-q", "-y", "-o", "APT::Sandbox::User=root", "-o", "Dpkg::Use-Pty=0", *args)

    def files(self):
        """{path: what it is} of everything but the books of apt and dpkg."""
        found = {}
        for at, folders, names in os.walk(self.root):
            here = os.path.relpath(at, self.root)
            folders[:] = [f for f in folders if os.path.normpath(os.path.join(here, f)) not in BOOKS]
            for name in folders + names:
                path = os.path.join(at, name)
                stat = os.lstat(path)
                found[os.path.normpath(os.path.join(here, name))] = (oct(stat.st_mode), stat.st_uid, stat.st_gid)
        return found

    def pretend_systemd(self):
        os.makedirs(self.path("/run/systemd/system"))
        with open(self.path("/usr/bin/systemctl"), "w", encoding="utf-8") as file:
            file.write(SYSTEMCTL)
        os.chmod(self.path("/usr/bin/systemctl"), 0o755)

    def end_systemd(self):
        """What it was told to do."""
        os.remove(self.path("/usr/bin/systemctl"))
        shutil.rmtree(self.path("/run/systemd"))
        with open(self.path("/tmp/systemctl.log"), encoding="utf-8") as file:
            said = file.read().splitlines()
        os.remove(self.path("/tmp/systemctl.log"))
        return [line.replace("--quiet ", "").replace("--system ", "") for line in said if "is-" not in line]

    def path(self, path):
        return self.root + path

    def has(self, path):
        return os.path.lexists(self.path(path))

    def status(self):
        return self.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", "llorch-cpud", good=(0, 1)).strip()


debian = []


def system():
    """The one root of this test; a reason to skip holds for all cases."""
    if not debian:
        try:
            debian.append(Debian())
        except Skip as reason:
            debian.append(reason)
    if isinstance(debian[0], Skip):
        raise debian[0]
    return debian[0]


# --- the package ---

def build(version, folder, **more):
    """The package of the program as it was built for this test, with this version, in the folder; not compressed, to save time."""
    more.setdefault("DPKG_DEB_COMPRESSOR_TYPE", "none")
    os.makedirs(folder, exist_ok=True)
    said = run("packaging/make_deb", cwd=ROOT, env=dict(os.environ, BIN=BIN, HELPERS=HELPER, VERSION=version, DEB_DIR=folder, **more))
    return said.strip().splitlines()[-1]


def packages():
    """Paths of an older version and of this one."""
    if not shutil.which("dpkg-shlibdeps"):
        raise Skip("dpkg-dev is not installed")
    if not made:
        folder = work_folder()
        made.extend([build("0.0.9-1", folder + "/old"), build(VERSION, folder + "/new")])
    return made


made = []
with open(os.path.join(ROOT, "VERSION"), encoding="utf-8") as version_file:
    VERSION = version_file.read().strip() + "-1"


def field(package, name):
    return run("dpkg-deb", "-f", package, name).strip()


@suite.test
def sources_of_both_forms_are_understood():
    equal(list(parse_lines("# deb http://no a main\ndeb http://a/debian/ bookworm main contrib # x\n"
                           "deb [arch=amd64 signed-by=/k] https://b/x stable main\ndeb-src http://a/debian bookworm main\n")),
          [("http://a/debian", "bookworm", ["main", "contrib"]), ("https://b/x", "stable", ["main"])])
    equal(list(parse_deb822("Types: deb deb-src\n# a comment\nURIs: http://a/debian/\nSuites: bookworm\n bookworm-updates\nComponents: main\n"
                            "Signed-By:\n -----BEGIN\n .\n\nTypes: deb-src\nURIs: http://b\nSuites: x\n\n"
                            "Types: deb\nEnabled: no\nURIs: http://c\nSuites: x\nComponents: main\n")),
          [("http://a/debian", "bookworm", ["main"]), ("http://a/debian", "bookworm-updates", ["main"])])


@suite.test
def make_deb_calls_the_script_with_the_version():
    said = run("make", "-n", "deb", "VARIANT=" + os.path.basename(BUILD), cwd=ROOT)
    has(said, "BIN='build/%s/llorch-cpud' HELPERS='%s' VERSION='%s' packaging/make_deb\n" % (
        os.path.basename(BUILD), HELPER and os.path.relpath(HELPER, ROOT), VERSION))


@suite.test
def two_builds_give_the_same_bytes():
    _, new = packages()
    with tempfile.TemporaryDirectory() as folder, open(new, "rb") as file:
        old = os.umask(0o077)  # nor may the umask count
        try:
            again = build(VERSION, folder, TZ="Asia/Tokyo")
        finally:
            os.umask(old)
        with open(again, "rb") as other:
            check(file.read() == other.read(), "the packages differ")


@suite.test
def the_package_says_what_it_is_and_needs():
    old, new = packages()
    equal((field(new, "Package"), field(new, "Version"), field(old, "Version")), ("llorch-cpud", VERSION, "0.0.9-1"))
    needs = re.findall(r"([\w.+-]+)(?: \([^)]*\))?", field(new, "Depends"))
    equal(sorted(needs), ["libc6", "libevent-core-2.1-7", "libjansson4"])
    if HELPER:
        recommended = field(new, "Recommends")
        check("libcurl4 " in recommended and "libc6" not in recommended, recommended)
    listing = run("dpkg-deb", "-c", new)
    for line in listing.splitlines():
        check(re.match(r"(-rw-r--r--|-rwxr-xr-x|drwxr-xr-x) root/root ", line), line)
    check(ROOT not in listing and "installed-files" not in listing, listing)
    with tempfile.TemporaryDirectory() as folder:
        run("dpkg-deb", "-R", new, folder)
        for program in glob.glob(folder + "/usr/bin/*") + glob.glob(folder + "/usr/libexec/llorch-cpud/*"):
            with open(program, "rb") as file:
                check(ROOT.encode() not in file.read(), "%s holds the path of this folder" % program)
            has(run("readelf", "-lW", program), "GNU_RELRO")
            has(run("readelf", "-dW", program), "Flags: NOW PIE")
            check(".debug_info" not in run("readelf", "-SW", program), program + " is not stripped")
        run("md5sum", "--quiet", "-c", "DEBIAN/md5sums", cwd=folder)


# --- its life in a fresh Debian; each case goes on where the one before it ended ---

@suite.test
def apt_installs_it():
    d = system()
    old, _ = packages()
    d.before = d.files()
    shutil.copy(old, d.path("/tmp/old.deb"))
    d.apt("install", "--no-install-recommends", "/tmp/old.deb")
    equal(d.status(), "ii 0.0.9-1")
    for path in d.before:
        check(d.has("/" + path), "/%s is gone" % path)
    check(not glob.glob(d.path("/etc/systemd/system/*/llorch-cpud*")), "something was enabled")


@suite.test
def it_works():
    d = system()
    equal(d.status()[:2], "ii")
    has(d.run("llorch-cpud", "--version"), "llorch-cpud ")
    want = run(BIN, "generate", "--model", os.path.join(ROOT, "models", "shakespeare"), "--prompt", "ROMEO:", "--max-tokens", "20")
    equal(d.run("llorch-cpud", "generate", "--prompt", "ROMEO:", "--max-tokens", "20"), want)
    port = free_port()
    worker = subprocess.Popen(d.command("llorch-cpud", "serve", "--model", "/usr/share/llorch-cpud/models/shakespeare", "--port", str(port)),
                              env=environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        for line in worker.stderr:
            if b"Worker ready" in line:
                break
        with urllib.request.urlopen("http://127.0.0.1:%d/health" % port, timeout=LIMIT) as answer:
            has(answer.read().decode(), '"model":"shakespeare"')
        events = Stream(port, body_of(prompt="ROMEO:", max_tokens=20)).collect()
        check_order(events)
        equal(text_of(events) , want)
    finally:
        with open("/proc/%d/task/%d/children" % (worker.pid, worker.pid), encoding="ascii") as file:
            os.kill(int(file.read()), signal.SIGTERM)  # what unshare started
        worker.stderr.close()
        equal(worker.wait(LIMIT), 0)


@suite.test
def pages_completion_and_units_are_in_their_places():
    d = system()
    equal(d.status()[:2], "ii")
    for page in sorted(os.path.basename(path) for path in glob.glob(os.path.join(ROOT, "docs", "man", "*.1"))):
        check(d.has("/usr/share/man/man1/%s.gz" % page), page)
        if shutil.which("man"):
            equal(run("man", "-M", d.path("/usr/share/man"), "-w", page[:-2]).strip(), d.path("/usr/share/man/man1/%s.gz" % page))
    said = d.run("bash", "-c", "source /usr/share/bash-completion/completions/llorch-cpud; COMP_LINE='llorch-cpud tok';"
                 " COMP_WORDS=(llorch-cpud tok) COMP_CWORD=1; _llorch_cpud; echo ${COMPREPLY[@]}")
    equal(said.strip(), "tokenize")
    for name in ("copyright", "changelog.gz", "changelog.Debian.gz", "README.md", "docs/contract.md", "docs/install.md"):
        check(d.has("/usr/share/doc/llorch-cpud/" + name), name)
    if not shutil.which("systemd-analyze"):
        raise Skip("systemd-analyze is not installed")
    units = sorted(glob.glob(d.path("/usr/lib/systemd/system/llorch-cpud*")))
    names = [os.path.basename(unit).replace("@.", "@0.") for unit in units]
    has(" ".join(names), "llorch-cpud@0.service")
    equal(run("systemd-analyze", "verify", "--root=" + d.root, "--man=no", "--recursive-errors=no", *names), "")


@suite.test
def an_upgrade_keeps_what_the_administrator_wrote():
    d = system()
    equal(d.status(), "ii 0.0.9-1")
    _, new = packages()
    with open(d.path("/etc/llorch-cpud/worker.env"), "a", encoding="utf-8") as file:
        file.write("PORT=4000\n")
    with open(d.path("/etc/llorch-cpud/0.env"), "w", encoding="utf-8") as file:
        file.write("PORT=4001\n")
    shutil.copy(new, d.path("/tmp/new.deb"))
    d.pretend_systemd()
    said = d.apt("install", "--no-install-recommends", "/tmp/new.deb")
    equal(d.status(), "ii " + VERSION)
    # One after the other, not beyond the one that does not come back.
    equal(d.end_systemd(), ["daemon-reload", "list-units --plain --no-legend --state=active llorch-cpud@*.service",
                            "restart llorch-cpud@0.service", "restart llorch-cpud@1.service"])
    has(said, "llorch-cpud: llorch-cpud@1.service did not start again, see journalctl -u llorch-cpud@1.service.")
    with open(d.path("/etc/llorch-cpud/worker.env"), encoding="utf-8") as file:
        has(file.read(), "\nPORT=4000\n")
    equal(sorted(os.listdir(d.path("/etc/llorch-cpud"))), ["0.env", "worker.env"])
    equal(d.run("dpkg", "--verify", "llorch-cpud").strip(), "??5?????? c /etc/llorch-cpud/worker.env")


@suite.test
def removed_it_leaves_its_configuration_and_nothing_else():
    d = system()
    equal(d.status()[:2], "ii")
    # What "systemctl enable llorch-cpud@0" does.
    os.makedirs(d.path("/etc/systemd/system/llorch-cpud.target.wants"))
    os.symlink("/lib/systemd/system/llorch-cpud@.service", d.path("/etc/systemd/system/llorch-cpud.target.wants/llorch-cpud@0.service"))
    d.pretend_systemd()
    d.run("dpkg", "--remove", "llorch-cpud")
    equal(d.end_systemd(), ["stop llorch-cpud@*.socket llorch-cpud@*.service", "daemon-reload"])
    equal(d.status()[:2], "rc")
    left = {path for path in d.files() if "llorch" in path}
    equal(left, {"etc/llorch-cpud", "etc/llorch-cpud/0.env", "etc/llorch-cpud/worker.env",
                 "etc/systemd/system/llorch-cpud.target.wants",
                 "etc/systemd/system/llorch-cpud.target.wants/llorch-cpud@0.service"})


@suite.test
def installed_again_it_is_configured_as_before():
    d = system()
    equal(d.status()[:2], "rc")
    d.run("dpkg", "--install", "/tmp/new.deb")
    with open(d.path("/etc/llorch-cpud/worker.env"), encoding="utf-8") as file:
        has(file.read(), "\nPORT=4000\n")
    has(d.run("llorch-cpud", "info"), "shakespeare")


@suite.test
def purged_it_leaves_only_what_is_the_administrator_s():
    d = system()
    equal(d.status()[:2], "ii")
    d.apt("purge", "--autoremove", "llorch-cpud")
    left = d.files()
    equal({path for path in left if path not in d.before}, {"etc/llorch-cpud", "etc/llorch-cpud/0.env"})
    for path in ("etc/llorch-cpud", "etc/llorch-cpud/0.env"):
        del left[path]
    equal(left, d.before)


if sanitized():
    print("a package of a build with sanitizers is nobody's")
    sys.exit(77)
sys.exit(suite.run())
