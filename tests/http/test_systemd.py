#!/usr/bin/env python3
"""The unit in deploy/systemd, run by a real systemd: in a container over a throw-away copy of this system (systemd-nspawn,
overlay). LLORCH_TEST_ALL=1 runs all other HTTP tests inside the unit's sandbox, too (make check-unit).
"""
# Runs beside others: nothing here measures time.
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from harness import BIN, BUILD, ROOT, Skip, Suite, check, equal, has, sanitized

suite = Suite()
UNIT = os.path.join(ROOT, "deploy", "systemd", "llorch-cpud@.service")
MOST_EXPOSURE = 2.0  # systemd-analyze's scale goes from 0 to 10; a unit without any protection has 9.6
INSIDE = "/srv/llorch"
# What a unit needs to be started without the rest of the system.
ALONE = "[Unit]\nDefaultDependencies=no\n"
# What the tests need that the worker does not: processes of their own, a user who may write to the build folder, time.
NOT_FOR_TESTS = ("Type", "EnvironmentFile", "ExecStart", "Restart", "RestartSec", "TimeoutStopSec", "TasksMax",
                 "MemoryMax", "DynamicUser")

# Runs inside, as root: starts the worker as its unit says, uses it, looks at the process, stops it.
USE_IT = r"""
exec >/result 2>&1
say() { printf '%s=%s\n' "$1" "$2"; }
systemctl start llorch-cpud@check.service || { journalctl -u llorch-cpud@check --no-pager; cat /log; }
for _ in $(seq 100); do
    curl -s -o /dev/null -f http://127.0.0.1:3999/ready && break
    sleep 0.1
done
pid=$(systemctl show -P MainPID llorch-cpud@check.service)
say user "$(stat -c %u /proc/$pid)"
say tasks "$(ls /proc/$pid/task | wc -l)"
for field in NoNewPrivs Seccomp CapEff CapBnd; do
    say $field "$(sed -n "s/^$field:[[:space:]]*//p" /proc/$pid/status)"
done
say writable "$(nsenter -t $pid -m sh -c 'for d in / /etc /usr /var /srv /opt; do touch $d/x 2>/dev/null && printf "%s " $d; done')"
say homes "$(nsenter -t $pid -m sh -c 'ls -A /root /home 2>/dev/null | grep -v : | tr "\n" " "')"
say memory "$(systemctl show -P MemoryMax llorch-cpud@check.service)"
say text "$(curl -sN -H 'Content-Type: application/json' -d '{"job_id":"j","prompt":"What","max_tokens":8,"temperature":0}' \
    http://127.0.0.1:3999/execute | grep -c '^event: token')"
curl -sN -o /stream -H 'Content-Type: application/json' -d '{"job_id":"long","prompt":"What","max_tokens":250}' \
    http://127.0.0.1:3999/execute &
for _ in $(seq 100); do grep -q '^event: token' /stream 2>/dev/null && break; sleep 0.01; done
systemctl stop llorch-cpud@check.service
wait
say last "$(grep '^event: ' /stream | tail -n 1)"
say result "$(systemctl show -P Result llorch-cpud@check.service)"
say status "$(systemctl show -P ExecMainStatus llorch-cpud@check.service)"
"""


def options():
    """(name, value) of the unit's [Service] section, in order."""
    with open(UNIT, encoding="utf-8") as file:
        section = file.read().split("[Service]")[1].split("\n[")[0]
    return [tuple(line.split("=", 1)) for line in section.splitlines() if line and not line.startswith("#")]


class Container:
    """A copy-on-write view of this system, and what to run in it."""

    def __init__(self):
        for program in ("systemd-nspawn", "/lib/systemd/systemd"):
            if not shutil.which(program):
                raise Skip("%s is not installed" % program)
        if os.geteuid() != 0:
            raise Skip("only root may boot a container")
        self.folder = tempfile.mkdtemp(dir="/var/tmp")
        self.root = os.path.join(self.folder, "root")
        self.mounts = []
        try:
            self._mount()
        except subprocess.CalledProcessError as error:
            self.close()
            raise Skip("no overlay of this system can be mounted: %s" % error.stderr.decode().strip()) from error

    def _mount(self):
        layers = os.path.join(self.folder, "layers")
        for path in (layers, self.root):
            os.mkdir(path)
        self._run_mount("-t", "tmpfs", "tmpfs", layers)
        for name in ("upper", "work"):
            os.mkdir(os.path.join(layers, name))
        self._run_mount("-t", "overlay", "overlay", "-o",
                        "lowerdir=/,upperdir=%s/upper,workdir=%s/work" % (layers, layers), self.root)
        shutil.rmtree(os.path.join(self.root, "etc/systemd/system"), ignore_errors=True)

    def _run_mount(self, *args):
        subprocess.run(["mount", *args], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
        self.mounts.append(args[-1])

    def write(self, path, text):
        full = self.root + path
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)

    def copy(self, source, path):
        os.makedirs(os.path.dirname(self.root + path), exist_ok=True)
        if os.path.isdir(source):
            shutil.copytree(source, self.root + path)
        else:
            shutil.copy(source, self.root + path)

    def result(self):
        try:
            with open(self.root + "/result", encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def boot(self, target, limit, *args):
        """Boots until the target's units have run and powered the container off; returns /result."""
        # The rest of the system stays asleep: only this target is pulled in.
        done = subprocess.run(["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--console=pipe", *args, "-D",
                               self.root, "/lib/systemd/systemd", "--unit=" + target, "--log-target=console"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit,
                              check=False)
        text = self.result()
        if not text:
            raise Skip("systemd does not start in a container here: "
                       + done.stdout.decode("utf-8", "replace").strip().splitlines()[-1])
        return text

    def close(self):
        for mount in reversed(self.mounts):
            subprocess.run(["umount", mount], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def oneshot(command, *lines):
    """A unit that runs this and ends the container."""
    return (ALONE + "SuccessAction=exit-force\nFailureAction=exit-force\n"
            "[Service]\nType=oneshot\n" + "".join(line + "\n" for line in lines) + "ExecStart=%s\n" % command)


@suite.test
def systemd_finds_nothing_wrong_with_the_unit():
    if not shutil.which("systemd-analyze"):
        raise Skip("systemd-analyze is not installed")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "llorch-cpud@check.service")
        with open(UNIT, encoding="utf-8") as file, open(path, "w", encoding="utf-8") as out:
            out.write(file.read().replace("/usr/local/bin/llorch-cpud", BIN))
        done = subprocess.run(["systemd-analyze", "verify", "--recursive-errors=no", path], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        equal((done.returncode, done.stdout.decode()), (0, ""))
        done = subprocess.run(["systemd-analyze", "security", "--offline=true", path], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout.decode())
        check(score and float(score.group(1)) <= MOST_EXPOSURE, done.stdout.decode()[-300:])


@suite.test
def a_worker_serves_and_stops_under_the_unit():
    if sanitized():
        raise Skip("the leak check at a sanitizer's end is not allowed inside")
    with Container() as c:
        c.copy(UNIT, "/etc/systemd/system/llorch-cpud@.service")
        c.write("/etc/systemd/system/llorch-cpud@.service.d/alone.conf",
                ALONE + "[Service]\nStandardError=truncate:/log\n")
        c.copy(BIN, "/usr/local/bin/llorch-cpud")
        c.copy(os.path.join(ROOT, "models", "shakespeare"), INSIDE + "/model")
        c.write("/etc/llorch-cpud/check.env", "MODEL_PATH=%s/model\nPORT=3999\nLLORCH_ARGS=--log-level debug\n" % INSIDE)
        c.write("/use-it", USE_IT)
        c.write("/etc/systemd/system/check.service", oneshot("/bin/sh /use-it", "StandardOutput=null"))
        c.write("/etc/systemd/system/check.target", ALONE + "Requires=check.service\n")
        text = c.boot("check.target", 60, "--private-network")
    found = dict(line.rstrip().split("=", 1) for line in text.splitlines() if "=" in line)
    for name, value in (("tasks", "1"), ("NoNewPrivs", "1"), ("Seccomp", "2"), ("CapEff", "0" * 16), ("CapBnd", "0" * 16),
                        ("writable", ""), ("homes", ""), ("text", "8"), ("result", "success"),
                        ("status", "0")):
        equal(found.get(name), value, "%s in\n%s" % (name, text))
    check(found["last"] in ("event: end", "event: error"), text)
    check(found["user"] != "0", text)
    check(found["memory"].isdigit(), text)


@suite.test
def all_http_tests_pass_inside_the_unit_s_sandbox():
    if not os.environ.get("LLORCH_TEST_ALL"):
        raise Skip("minutes: make check-unit")
    names = [os.path.basename(p)[:-3] for p in sorted(glob.glob(os.path.join(ROOT, "tests", "http", "test_*.py")))]
    names.remove("test_systemd")
    service = ["%s=%s" % option for option in options() if option[0] not in NOT_FOR_TESTS]
    shared = os.path.normpath(os.path.join(ROOT, "..", "shared"))
    binds = ["--bind=%s:%s" % (ROOT, INSIDE)]
    if os.path.isdir(shared):
        binds.append("--bind-ro=%s:/srv/shared" % os.path.realpath(shared))
    with Container() as c:
        c.write("/etc/systemd/system/check.service", oneshot(
            INSIDE + "/tests/run " + " ".join(names), *service, "TimeoutStartSec=infinity", "WorkingDirectory=" + INSIDE,
            "ReadWritePaths=" + INSIDE, "Environment=LLORCH_TEST_KIND=http BUILD=" + os.path.relpath(BUILD, ROOT),
            "StandardOutput=truncate:/result", "StandardError=inherit"))
        c.write("/etc/systemd/system/check.target", ALONE + "Requires=check.service\n")
        text = c.boot("check.target", 1800, "--private-network", *binds)
    sys.stdout.write("".join("# %s\n" % line for line in text.splitlines()))
    counts = re.search(r"(\d+) passed, (\d+) failed", text)
    check(counts is not None, "no summary")
    equal(counts.group(2), "0")
    has(text, "test_stream")
    check(int(counts.group(1)) > 400, counts.group(0))


sys.exit(suite.run())
