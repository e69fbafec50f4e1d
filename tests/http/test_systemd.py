#!/usr/bin/env python3
"""The units in deploy/systemd, run by a real systemd: in a container over a throw-away copy of this system (systemd-nspawn,
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

from harness import BIN, BUILD, ROOT, STUB, Skip, Suite, check, equal, has, sanitized

suite = Suite()
UNITS = os.path.join(ROOT, "deploy", "systemd")
UNIT = os.path.join(UNITS, "llorch-cpud@.service")
MOST_EXPOSURE = 2.0  # systemd-analyze's scale goes from 0 to 10; a unit without any protection has 9.6
INSIDE = "/srv/llorch"
# What a unit needs to be started without the rest of the system.
ALONE = "[Unit]\nDefaultDependencies=no\n"
# What the tests need that the worker does not: processes of their own, a user who may write to the build folder, time.
NOT_FOR_TESTS = ("Type", "WatchdogSec", "CPUAffinity", "Environment", "EnvironmentFile", "ExecStart", "Restart", "RestartSec",
                 "RestartPreventExitStatus", "TimeoutStopSec", "TasksMax", "MemoryMax", "DynamicUser")

# A browser writes and runs code of its own; make and dpkg change users and owners: the sandbox forbids both, and the worker does neither.
NOT_INSIDE = ("test_systemd", "test_ui", "test_deb", "test_install")

# What every script inside begins with. Requests are given up after a while, so that a worker that hangs is a failure.
SHELL = r"""
exec >/result 2>&1
say() { printf '%s=%s\n' "$1" "$2"; }
show() { systemctl show -P "$2" llorch-cpud@$1.service; }
get() { curl -s -m 20 "$@"; }
execute() { get -N -H 'Content-Type: application/json' "$@"; }
until_true() { for _ in $(seq 400); do "$@" && return; sleep 0.05; done; echo "never: $*"; }
start() { systemctl start "$@" || { journalctl --no-pager -u "$1"; cat /log; }; }
status_of() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$(show $1 MainPID)/status"; }
"""

# Starts the worker as its unit says, uses it, looks at the process, stops it. A second one runs meanwhile.
USE_IT = SHELL + r"""
start llorch-cpud@FIRST.service
say ready "$(get -o /dev/null -w '%{http_code}' http://127.0.0.1:3999/ready)"
say told "$(systemctl status llorch-cpud@FIRST.service | sed -n 's/^ *Status: //p')"
start llorch-cpud@other.service
say other "$(get http://127.0.0.1:3998/health | sed 's/.*"worker_id":"\([^"]*\)".*/\1/')"
say no_key "$(execute -d '{}' -o /dev/null -w '%{http_code}' http://127.0.0.1:3998/execute)"
say key "$(execute -d '{}' -o /dev/null -w '%{http_code}' -H 'Authorization: Bearer 0123456789abcdef' http://127.0.0.1:3998/execute)"
say others_cpus "$(status_of other Cpus_allowed_list)"
pid=$(show FIRST MainPID)
say user "$(stat -c %u /proc/$pid)"
say tasks "$(ls /proc/$pid/task | wc -l)"
for field in NoNewPrivs Seccomp CapEff CapBnd Cpus_allowed_list; do
    say $field "$(status_of FIRST $field)"
done
say writable "$(nsenter -t $pid -m sh -c 'for d in / /etc /usr /var /srv /opt; do touch $d/x 2>/dev/null && printf "%s " $d; done')"
say homes "$(nsenter -t $pid -m sh -c 'ls -A /root /home 2>/dev/null | grep -v : | tr "\n" " "')"
say memory "$(show FIRST MemoryMax)"
say text "$(execute -d '{"job_id":"j","prompt":"What","max_tokens":8,"temperature":0}' \
    http://127.0.0.1:3999/execute | grep -c '^event: token')"
execute -o /stream -d '{"job_id":"long","prompt":"What","max_tokens":250}' http://127.0.0.1:3999/execute &
for _ in $(seq 100); do grep -q '^event: token' /stream 2>/dev/null && break; sleep 0.01; done
systemctl stop llorch-cpud@FIRST.service
wait
say last "$(grep '^event: ' /stream | tail -n 1)"
say result "$(show FIRST Result)"
say status "$(show FIRST ExecMainStatus)"
systemctl start llorch-cpud@wrong.service && echo "started all the same"
say wrong "$(show wrong ExecMainStatus) $(show wrong NRestarts)"
"""

# Three workers at once, with a backend that takes as long as it is told to: one computes a prompt for longer than the watchdog
# waits, one computes and never looks at its loop, one is stopped.
HANG = SHELL + r"""
start llorch-cpud@long.service llorch-cpud@deaf.service llorch-cpud@stopped.service
long=$(show long MainPID) deaf=$(show deaf MainPID) stopped=$(show stopped MainPID)
kill -STOP $stopped
execute -o /stream -d '{"job_id":"long","prompt":"prompt=4500 tokens=1","max_tokens":1}' http://127.0.0.1:3001/execute &
execute -o /dev/null -d '{"job_id":"deaf","prompt":"deaf=9000 tokens=1","max_tokens":1}' http://127.0.0.1:3002/execute &
until_true grep -q '^event: started' /stream
say busy "$(sleep 1.2; show long StatusText)"
new() { [ "$(show $1 NRestarts)" = 1 ] && [ "$(show $1 ActiveState)" = active ]; }
for name in deaf:$deaf:3002 stopped:$stopped:3003; do
    set -- $(echo $name | tr : ' ')
    until_true new $1
    say $1 "$(get -o /dev/null -w '%{http_code}' http://127.0.0.1:$3/ready) $([ "$(show $1 MainPID)" != $2 ] && echo another)"
done
say reasons "$(journalctl --no-pager -o cat | grep -c 'Watchdog timeout')"
wait %1
say last "$(grep '^event: ' /stream | tail -n 1)"
say long "$([ "$(show long MainPID)" = $long ] && echo same) $(show long NRestarts)"
"""

# Sockets are there before workers, all of them start and stop by the target, and a restart loses nobody who waits.
SOCKETS = SHELL + r"""
systemctl enable --quiet llorch-cpud@FIRST.socket llorch-cpud@net.socket
systemctl start llorch-cpud.target
until_true test -S /run/llorch-cpud/FIRST.sock # outside the container the target is ordered after it
say mode "$(stat -c '%a %F' /run/llorch-cpud/FIRST.sock)"
say before "$(show FIRST ActiveState) $(show net ActiveState)"
one() { execute --unix-socket /run/llorch-cpud/FIRST.sock -d '{"job_id":"j","prompt":"'"$1"'","max_tokens":4}' http://x/execute; }
say first "$(one tokens=4 | grep -c '^event: token')"
say cpus "$(status_of FIRST Cpus_allowed_list)"
say net "$(get http://127.0.0.1:3004/health | grep -o '"port":[0-9]*')"
pid=$(show FIRST MainPID)
one 'tokens=4 delay=500' >/stream &
until_true grep -q '^event: token' /stream
systemctl restart --no-block llorch-cpud@FIRST.service
draining() { case "$(show FIRST StatusText)" in Draining*) ;; *) false ;; esac; }
until_true draining
say draining "$(show FIRST StatusText)"
for i in 1 2 3 4 5; do one tokens=4 >/waited$i & done
wait
say last "$(grep '^event: ' /stream | tail -n 1)"
say waited "$(cat /waited? | grep -c '^event: end')"
say pid "$([ "$(show FIRST MainPID)" != $pid ] && echo another)"
systemctl stop llorch-cpud.target
for _ in $(seq 100); do [ "$(show net ActiveState)" = inactive ] && break; sleep 0.1; done
say after "$(show FIRST ActiveState) $(show net ActiveState) $(ls /run/llorch-cpud | wc -l)"
"""


# What docs/systemd.md has, and what must be so before some of its commands.
DOCUMENT = r"""
exec >/result 2>&1
run() { printf '# %s\n' "$1"; printf '%s\n' "$1" >/line; sh /line; }
mkdir /srv/models
/usr/local/bin/llorch-cpud pack --model /srv/llorch/model --out /srv/models/shakespeare.packed >/dev/null
"""
BEFORE = {
    "systemctl start llorch-cpud@1": "printf 'MODEL_PATH=/srv/models/nothing\\nPORT=3001\\n' >/etc/llorch-cpud/1.env",
    "systemctl enable --quiet llorch-cpud.target llorch-cpud@0.socket": "systemctl stop llorch-cpud@1; rm /etc/llorch-cpud/1.env; "
        "systemctl disable --quiet --now llorch-cpud@0.service llorch-cpud.target",
    "kill -STOP": "printf '[Service]\\nWatchdogSec=2\\n' "
        ">/etc/systemd/system/llorch-cpud@.service.d/watchdog.conf; systemctl daemon-reload; systemctl restart llorch-cpud@0"}


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
def systemd_finds_nothing_wrong_with_the_units():
    if not shutil.which("systemd-analyze"):
        raise Skip("systemd-analyze is not installed")
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for path in sorted(glob.glob(os.path.join(UNITS, "llorch-cpud*.*"))):
            names.append(os.path.join(folder, os.path.basename(path).replace("@", "@0")))
            with open(path, encoding="utf-8") as file, open(names[-1], "w", encoding="utf-8") as out:
                out.write(file.read().replace("/usr/local/bin/llorch-cpud", BIN))
        equal(len(names), 3)
        done = subprocess.run(["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", *names], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        equal((done.returncode, done.stdout.decode()), (0, ""))
        done = subprocess.run(["systemd-analyze", "security", "--offline=true", names[1]], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout.decode())
        check(score and float(score.group(1)) <= MOST_EXPOSURE, done.stdout.decode()[-300:])


def in_container(script, program, environments, drop_ins=()):
    """What the script says, as a dictionary, in a container with the units and workers of these environments."""
    if sanitized():
        raise Skip("the leak check at a sanitizer's end is not allowed inside")
    with Container() as c:
        for path in sorted(glob.glob(os.path.join(UNITS, "llorch-cpud*.*"))):
            unit = "/etc/systemd/system/" + os.path.basename(path)
            c.copy(path, unit)
            c.write(unit + ".d/alone.conf", ALONE)
        c.write("/etc/systemd/system/llorch-cpud@.service.d/log.conf", "[Service]\nStandardError=append:/log\n")
        for name, text in drop_ins:
            c.write("/etc/systemd/system/%s.d/test.conf" % name, text)
        c.copy(program, "/usr/local/bin/llorch-cpud")
        c.copy(os.path.join(ROOT, "models", "shakespeare"), INSIDE + "/model")
        for name, text in environments.items():
            c.write("/etc/llorch-cpud/%s.env" % name, text)
        c.write("/use-it", script.replace("FIRST", str(min(os.sched_getaffinity(0)))))
        c.write("/etc/systemd/system/check.service", oneshot("/bin/sh /use-it", "StandardOutput=null"))
        c.write("/etc/systemd/system/check.target", ALONE + "Requires=check.service\n")
        text = c.boot("check.target", 90, "--private-network")
    return dict(line.rstrip().split("=", 1) for line in text.splitlines() if "=" in line), text


COMMON = "MODEL_PATH=%s/model\n" % INSIDE


@suite.test
def a_worker_serves_and_stops_under_the_unit():
    first = str(min(os.sched_getaffinity(0)))
    found, text = in_container(USE_IT, BIN, {
        "worker": COMMON + "PORT=3999\nLLORCH_ARGS=--log-level debug\n", "other": "PORT=3998\n", "wrong": "LLORCH_ARGS=--wrong\n",
        "keys": "0123456789abcdef\n"},
        # As docs/systemd.md says.
        [("llorch-cpud@other.service", "[Service]\nLoadCredential=keys:/etc/llorch-cpud/keys.env\nExecStart=\nExecStart="
          "/usr/local/bin/llorch-cpud --api-key-file ${CREDENTIALS_DIRECTORY}/keys $LLORCH_ARGS\n")])
    for name, value in (("ready", "200"), ("told", '"Ready: model"'), ("other", "llorch-cpud-other"), ("Cpus_allowed_list", first),
                        ("tasks", "1"), ("NoNewPrivs", "1"), ("Seccomp", "2"), ("CapEff", "0" * 16), ("CapBnd", "0" * 16),
                        ("writable", ""), ("homes", ""), ("text", "8"), ("result", "success"), ("status", "0"),
                        ("no_key", "401"), ("key", "422"), ("wrong", "2 0")):
        equal(found.get(name), value, "%s in\n%s" % (name, text))
    check(found["last"] in ("event: end", "event: error"), text)
    check(found["user"] != "0", text)
    check(found["memory"].isdigit(), text)
    if len(os.sched_getaffinity(0)) > 1:
        check(found["others_cpus"] != first, text)


@suite.test
def the_watchdog_restarts_what_hangs_and_leaves_alone_what_computes():
    found, text = in_container(
        HANG, STUB, {"worker": COMMON, "long": "PORT=3001\n", "deaf": "PORT=3002\n", "stopped": "PORT=3003\n"},
        [("llorch-cpud@.service", "[Service]\nWatchdogSec=2\nRestartSec=100ms\nTimeoutAbortSec=1\n")])
    for name, value in (("busy", "Busy: model, 0 jobs waiting"), ("deaf", "200 another"), ("stopped", "200 another"),
                        ("last", "event: end"), ("long", "same 0")):
        equal(found.get(name), value, "%s in\n%s" % (name, text))


@suite.test
def requests_wait_at_the_socket_for_a_worker_that_starts_or_restarts():
    first = str(min(os.sched_getaffinity(0)))
    found, text = in_container(SOCKETS, STUB, {"worker": COMMON}, [
        ("llorch-cpud@net.socket", "[Socket]\nListenStream=\nListenStream=127.0.0.1:3004\n")])
    for name, value in (("mode", "660 socket"), ("before", "inactive inactive"), ("first", "4"), ("cpus", first),
                        ("net", '"port":3004'), ("draining", "Draining: 1 job left"), ("last", "event: end"), ("waited", "5"),
                        ("pid", "another"), ("after", "inactive inactive 0")):
        equal(found.get(name), value, "%s in\n%s" % (name, text))


def console(page):
    """[(command, what it prints)] of the blocks in which root types."""
    for block in re.findall(r"^```text\n(# .*?)^```", page, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^# ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            yield command, printed.strip()


def steady(text):
    """Without what differs from run to run and from system to system; the units of this test have drop-ins."""
    for pattern, other in ((r"(?m)^ +Drop-In: .*\n +└─.*\n", ""), (r"(?m)^ +(Tasks|Memory|CPU): .*\n", ""),
                           (r"since .*", "since ..."), (r"(PID: |└─)\d+", r"\1N")):
        text = re.sub(pattern, other, text)
    return text.strip()


@suite.test
def the_document_shows_what_its_commands_print():
    if 0 not in os.sched_getaffinity(0):
        raise Skip("processor 0, which the document takes, is not ours")
    with open(os.path.join(ROOT, "docs", "systemd.md"), encoding="utf-8") as file:
        wanted = list(console(file.read()))
    script = DOCUMENT
    for command, _ in wanted:
        for start, preparation in BEFORE.items():
            script += preparation + "\n" if command.startswith(start) else ""
        script += "run '%s'\necho\n" % command.replace("curl ", "curl -s ").replace("'", "'\\''")
    _, text = in_container(script, BIN, {"worker": dict(wanted)["cat /etc/llorch-cpud/worker.env"] + "\n"})
    got = re.split(r"^# ", text, flags=re.MULTILINE)[1:]
    equal(len(got), len(wanted), text)
    for (command, printed), shown in zip(wanted, got):
        equal(steady(shown.partition("\n")[2]), steady(printed), command)


@suite.test
def all_http_tests_pass_inside_the_unit_s_sandbox():
    if not os.environ.get("LLORCH_TEST_ALL"):
        raise Skip("minutes: make check-unit")
    names = [os.path.basename(p)[:-3] for p in sorted(glob.glob(os.path.join(ROOT, "tests", "http", "test_*.py")))]
    for name in NOT_INSIDE:
        names.remove(name)
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
    summary = re.findall(r"^(\d+) passed, (\d+) failed", text, re.MULTILINE)  # the last one, behind those of the programs
    check(summary, "no summary")
    equal(summary[-1][1], "0")
    has(text, "test_stream")
    check(int(summary[-1][0]) > 400, summary[-1])


sys.exit(suite.run())
