#!/usr/bin/env python3
"""make install and make uninstall, the manual pages and the completion: what they say is what the program has, and what is
installed works from where it is.
"""
# Runs beside others: nothing here measures time.
import atexit
import functools
import glob
import hashlib
import os
import pty
import re
import runpy
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from hub_rig import REPO, Hub
from harness import BIN, BUILD, LIMIT, ROOT, SLOW, Skip, Suite, check, clean_environment, equal, free_port, has, sanitized

MANUAL = os.path.join(ROOT, "docs", "man")
# Programs that the program starts; what a build without libcurl leaves out is not there.
HELPERS = next(iter(glob.glob(os.path.join(os.path.dirname(BIN), "llorch-cpud-pull"))), "")
COMPLETION = os.path.join(ROOT, "packaging", "llorch-cpud.bash")
SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO"]
OPTIONAL = {"ENVIRONMENT", "FILES"}  # of commands that look at none
suite = Suite()


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def output(*args, **more):
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=3 * LIMIT * SLOW,
                          check=False, **more)
    text = done.stdout.decode("utf-8", "replace")
    equal(done.returncode, 0, "exit status of %s\n%s" % (" ".join(args), text))
    return text


def help_of(*command):
    return output(BIN, *command, "--help", env=clean_environment())


def commands():
    return re.findall(r"^  ([a-z]+)  ", help_of().split("\ncommands")[1].split("\n\n")[0], re.MULTILINE)


def defined(text):
    """{option: whether a value must follow} of a --help text; the lines that define options begin with one."""
    found = {}
    for line in re.findall(r"^  (--.*)$", text, re.MULTILINE):
        for option, value in re.findall(r"(--[a-z][a-z-]*)(?: (\[?[A-Za-z0-9]+))?", re.split(r"\s{2,}", line)[0]):
            found[option] = bool(value) and not value.startswith("[")
    return found


def mentioned(text):
    return set(re.findall(r"--[a-z][a-z-]*", text))


def page_of(command):
    return os.path.join(MANUAL, "llorch-cpud%s.1" % (command and "-" + command))


def page_options(page):
    return {"--" + name for line in re.findall(r"^\.It (Fl -.*)$", read(page), re.MULTILINE)
            for name in re.findall(r"Fl -([a-z-]+)", line)}


def completion_table():
    """{command: {option: kind}}; what has no kind is an operand."""
    table = {}
    for line in re.search(r"_llorch_cpud_table='([^']*)'", read(COMPLETION)).group(1).splitlines():
        words = line.split()
        table.setdefault(words[0], {})[words[1]] = words[2] if len(words) > 2 else None
    return table


def none(problems):
    check(not problems, "\n".join(sorted(problems)))


# --- what is written against what the program has ---

@suite.test
def every_command_has_a_page_and_every_page_a_command():
    have = {os.path.basename(path) for path in glob.glob(MANUAL + "/*")}
    want = {os.path.basename(page_of(command)) for command in ["", *commands()]}
    none(["docs/man/%s is missing" % name for name in want - have]
         + ["docs/man/%s is the page of no command" % name for name in have - want])
    listed = set(re.findall(r"^\.It Xr llorch-cpud-(\w+) 1", read(page_of("")), re.MULTILINE))
    none(["llorch-cpud.1 does not list " + name for name in set(commands()) - listed]
         + ["llorch-cpud.1 lists %s, which is no command" % name for name in listed - set(commands())])


@suite.test
def pages_list_exactly_the_options_of_the_program():
    problems = []
    for command in ["", *commands()]:
        text = help_of(*command.split())
        want = set(defined(text)) if command else {"--version", "--help"}
        if os.path.exists(page_of(command)):
            have = page_options(page_of(command))
            name = os.path.basename(page_of(command))
            problems += ["%s lacks %s (.It Fl -%s)" % (name, option, option[2:]) for option in want - have]
            problems += ["%s has %s, which --help does not know" % (name, option) for option in have - mentioned(text)]
    none(problems)


@suite.test
def pages_have_their_sections_in_order():
    problems = []
    for path in glob.glob(MANUAL + "/*.1"):
        text = read(path)
        titles = re.findall(r"^\.Sh (.*)$", text, re.MULTILINE)
        if [t for t in SECTIONS if t in titles or t not in OPTIONAL] != titles:
            problems.append("%s: sections are %s" % (os.path.basename(path), titles))
        for name in re.findall(r"^\.(?:Xr|It Xr) (llorch-cpud\S*) 1", text, re.MULTILINE):
            if not os.path.exists(os.path.join(MANUAL, name + ".1")):
                problems.append("%s: refers to %s, which has no page" % (os.path.basename(path), name))
    none(problems)


@suite.test
def variables_of_the_environment_are_in_the_pages():
    sources = "".join(read(path) for path in glob.glob(os.path.join(ROOT, "src", "**", "*.c"), recursive=True))
    used = set(re.findall(r'(?:getenv|environment|environment_is_true|take)\("([A-Z_]+)"\)', sources))
    named = {name for path in glob.glob(MANUAL + "/*.1") for line in re.findall(r"^\.(?:It )?Ev (.*)$", read(path), re.MULTILINE)
             for name in re.findall(r"[A-Z_]{2,}", line)}
    none(["no page names %s, which the program reads (.It Ev %s)" % (name, name) for name in used - named]
         + ["a page names %s, which the program does not read" % name for name in named - used])


@suite.test
def formatters_find_nothing_to_warn_of():
    pages = sorted(glob.glob(MANUAL + "/*.1"))
    if not shutil.which("mandoc"):
        raise Skip("mandoc is not installed")
    equal(output("mandoc", "-Tlint", "-W", "warning", *pages), "")
    if not shutil.which("groff"):
        raise Skip("groff is not installed (mandoc found nothing)")
    equal(output("groff", "-mandoc", "-ww", "-Tutf8", "-z", *pages), "")


@suite.test
def completion_has_exactly_the_options_of_the_program():
    table = completion_table()
    problems = ["packaging/llorch-cpud.bash: no rows of " + name for name in set(commands()) - set(table)]
    problems += ["packaging/llorch-cpud.bash: %s is no command" % name for name in set(table) - set(commands())]
    for command in set(commands()) & set(table):
        want = defined(help_of(command))
        have = {option: kind != "-" for option, kind in table[command].items() if option.startswith("-")}
        for option in want.keys() - have.keys():
            problems.append("packaging/llorch-cpud.bash lacks the row \"%s %s %s\"" % (
                command, option, "text" if want[option] else "-"))
        problems += ["packaging/llorch-cpud.bash: %s has no %s" % (command, option) for option in have.keys() - want.keys()]
        problems += ["packaging/llorch-cpud.bash: %s %s: a value %s" % (command, option,
                                                                        "follows" if want[option] else "does not follow")
                     for option in want.keys() & have.keys() if want[option] != have[option]]
    none(problems)


# --- make install ---

def tree(folder):
    """{path: hash of its contents, or None for a folder}"""
    found = {}
    for at, folders, files in os.walk(folder):
        for name in folders:
            found[os.path.relpath(os.path.join(at, name), folder)] = None
        for name in files:
            with open(os.path.join(at, name), "rb") as file:
                found[os.path.relpath(os.path.join(at, name), folder)] = hashlib.sha256(file.read()).hexdigest()[:8]
    return found


def make(target, destination, prefix="/usr/local"):
    """With the program as it was built for this test."""
    return output("packaging/install", target, cwd=ROOT, env=dict(os.environ, PREFIX=prefix, DESTDIR=destination, BIN=BIN, HELPERS=HELPERS))


class Installed:
    """A folder into which everything was installed, until this test ends."""

    def __init__(self):
        self.folder = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, self.folder)
        self.prefix = self.folder + "/usr/local"
        make("install", self.folder)
        self.env = clean_environment({"PATH": self.prefix + "/bin:" + os.environ["PATH"]})


installed = functools.lru_cache(Installed)  # one is enough for those that only look


@suite.test
def make_calls_the_script_with_what_it_was_given():
    said = output("make", "-n", "install", "uninstall", "PREFIX=/opt/x", "DESTDIR=/stage", "VARIANT=" + os.path.basename(BUILD), cwd=ROOT)
    for target in ("install", "uninstall"):
        has(said, "PREFIX='/opt/x' DESTDIR='/stage' BIN='build/%s/llorch-cpud' HELPERS='%s' packaging/install %s\n" % (
            os.path.basename(BUILD), os.path.relpath(HELPERS, ROOT) if HELPERS else "", target))


@suite.test
def uninstall_leaves_everything_as_it_was():
    with tempfile.TemporaryDirectory() as folder:
        for path in ("usr/local/bin", "usr/local/share/man/man1", "usr/local/share/llorch-cpud/models/mine"):
            os.makedirs(os.path.join(folder, path))
        for path in ("usr/local/bin/other", "usr/local/share/llorch-cpud/models/mine/config.json"):
            with open(os.path.join(folder, path), "w", encoding="utf-8") as file:
                file.write("not ours\n")
        before = tree(folder)
        old = os.umask(0o077)
        try:
            make("install", folder)
        finally:
            os.umask(old)
        installed = tree(folder)
        for path in set(installed) - set(before):
            mode = os.stat(os.path.join(folder, path)).st_mode & 0o777
            equal(mode, 0o755 if installed[path] is None or mode & 0o100 else 0o644, path)
        # As if an older version had had a page more, in a folder that it made.
        gone = "usr/local/share/llorch-cpud/gone/page"
        os.mkdir(os.path.dirname(os.path.join(folder, gone)))
        shutil.copy(os.path.join(ROOT, "LICENSE"), os.path.join(folder, gone))
        listed = os.path.join(folder, "usr/local/share/llorch-cpud/installed-files")
        with open(listed, "a", encoding="utf-8") as file:
            file.write("/%s\n/%s/\n" % (gone, os.path.dirname(gone)))
        make("install", folder)
        check(gone not in tree(folder), "a file of the version before is left")
        equal({path for path in tree(folder) if tree(folder)[path] is not None},
              {path for path in installed if installed[path] is not None}, "after the second install")
        make("uninstall", folder)
        equal(tree(folder), before)
        has(make("uninstall", folder), "nothing is installed under")
        equal(tree(folder), before)


@suite.test
def an_empty_destination_is_empty_again():
    with tempfile.TemporaryDirectory() as folder:
        make("install", folder + "/stage", "/opt/llorch")
        unit = read(folder + "/stage/opt/llorch/lib/systemd/system/llorch-cpud@.service")
        has(unit, "ExecStart=/opt/llorch/bin/llorch-cpud")
        check("/usr/local/" not in unit, unit)
        has(read(folder + "/stage/opt/llorch/share/man/man1/llorch-cpud.1"), "/opt/llorch/share/llorch-cpud/models/shakespeare")
        make("uninstall", folder + "/stage", "/opt/llorch")
        equal(tree(folder + "/stage"), {})


@suite.test
def a_prefix_that_would_break_unit_files_is_refused():
    for prefix in ("relative", "/with blank", "/usr/../etc", "/a#b"):
        done = subprocess.run(["packaging/install", "install"], cwd=ROOT, env=dict(os.environ, PREFIX=prefix, DESTDIR="/nowhere"),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        equal(done.returncode, 1, prefix)
        has(done.stdout.decode(), 'install: PREFIX is "%s": expected ' % prefix)
    check(not os.path.exists("/nowhere"), "something was made")


@suite.test
def what_is_installed_is_found():
    it = installed()
    has(output("llorch-cpud", "info", env=it.env, cwd="/"), "shakespeare")
    if HELPERS:
        has(output("llorch-cpud", "pull", "--help", env=it.env, cwd="/"), "usage: llorch-cpud pull")
    docs = os.path.join(it.prefix, "share/doc/llorch-cpud")
    for path in ("README.md", "LICENSE", "docs/contract.md", "docs/install.md", "examples/deploy/systemd/worker.env"):
        check(os.path.exists(os.path.join(docs, path)), path)
    check(not os.path.exists(docs + "/docs/man"), "sources of the pages among the documents")
    for folder in os.listdir(os.path.join(ROOT, "deploy")):
        check(os.path.isdir(os.path.join(docs, "examples", "deploy", folder)), "deploy/%s is no example" % folder)
    fleet = docs + "/examples/scripts/fleet"
    has(output(fleet, "--help"), "usage: ")
    equal([os.path.exists(path) for path in runpy.run_path(fleet)["MODELS"]], [False, True])
    if not shutil.which("man"):
        raise Skip("man is not installed")
    pages = [os.path.basename(page_of(command))[:-2] for command in ["", *commands()]]
    equal(output("man", "-M", it.prefix + "/share/man", "-w", *pages).split(),
          [it.prefix + "/share/man/man1/%s.1" % page for page in pages])


# --- examples of the pages ---

def examples(path):
    """The commands of a page that a user may run: lines behind "$ ", with those that continue them."""
    text = read(path).split(".Sh EXAMPLES")[1].split("\n.Sh ")[0]
    found = []
    for block in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", text, re.DOTALL | re.MULTILINE):
        block = re.sub(r"\\e$\n", "\\\\\n", block, flags=re.MULTILINE)
        found += re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE)
    return [command.replace("\\e", "\\") for command in found]


def wait_ready(port, limit=LIMIT * SLOW):
    end = time.monotonic() + limit
    while True:
        try:
            with urllib.request.urlopen("http://127.0.0.1:%d/ready" % port, timeout=LIMIT):
                return
        except OSError:
            check(time.monotonic() < end, "the worker of the example does not become ready")
            time.sleep(0.02)


@suite.test
def examples_of_the_pages_run():
    ran = 0
    it = installed()
    with tempfile.TemporaryDirectory() as folder, Hub() as hub:
        env = dict(it.env, HF_HOME=folder + "/hub", HF_ENDPOINT=hub.url)
        shutil.copy(os.path.join(ROOT, "tests", "data", "hamlet.txt"), os.path.join(folder, "play.txt"))
        for path in sorted(glob.glob(MANUAL + "/*.1")):
            port = free_port()
            found = examples(path)
            check(found, os.path.basename(path) + " has no example that runs")
            servers = []
            try:
                for command in found:
                    command = command.replace("/usr/local/", it.prefix + "/").replace("3000", str(port))
                    command = command.replace("openai-community/gpt2", REPO)
                    if command.startswith("llorch-cpud serve "):
                        servers.append(subprocess.Popen(["sh", "-c", "exec " + command], cwd=folder, env=env,
                                                        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
                        wait_ready(port)
                    elif command.startswith("curl ") and not shutil.which("curl") or REPO in command and not HELPERS:
                        continue
                    else:
                        there = set(os.listdir(folder))
                        said = output("sh", "-c", command.replace("curl ", "curl -sSf "), cwd=folder, env=env)
                        check(said.strip() or set(os.listdir(folder)) != there, command + " does nothing that can be seen")
                    ran += 1
            finally:
                for server in servers:
                    server.send_signal(signal.SIGTERM)
                    equal(server.wait(LIMIT), 0, "exit status of the worker of the example")
    check(ran > 25, "only %d examples" % ran)


# --- completion ---

DRIVE = r"""
while IFS= read -r COMP_LINE && IFS= read -r -d '' words; do
    mapfile -t COMP_WORDS <<<"$words"
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_POINT=${#COMP_LINE}
    _llorch_cpud || exit 1
    wait $! # for the list of candidates, so that nothing is left behind
    printf '%s\n' "${COMPREPLY[@]}"
    printf '\0'
done
"""


def words_of(line):
    """As readline cuts: at blanks, and at "=" and ":", which are words of their own."""
    return re.findall(r"[=:]+|[^\s=:]+", line) + ([""] if line.endswith(" ") else [])


def complete(lines, before="", env=None, cwd=ROOT):
    """The candidates for each line, by a bash that has sourced the file."""
    given = "".join("%s\n%s\0" % (line, "\n".join(words_of(line))) for line in lines)
    done = subprocess.run(["bash", "--norc", "-c", (before or "source '%s'" % COMPLETION) + "\n" + DRIVE], input=given.encode(), cwd=cwd,
                          env=dict(os.environ, **(env or {})), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=3 * LIMIT * SLOW,
                          check=False)
    equal((done.returncode, done.stderr.decode()), (0, ""))
    answers = done.stdout.decode().split("\0")[:-1]
    equal(len(answers), len(lines))
    return [sorted(answer.split()) for answer in answers]


@suite.test
def bash_completes_commands_options_and_values():
    cases = [("llorch-cpud ", sorted(commands() + ["--help", "--version"])),
             ("llorch-cpud gen", ["generate"]),
             ("llorch-cpud nothing-like-that", []),
             ("llorch-cpud --kv", ["--kv-type"]),  # options alone mean serve
             ("llorch-cpud generate --top", ["--top-k", "--top-p"]),
             ("llorch-cpud generate ", sorted(completion_table()["generate"])),
             ("llorch-cpud generate --type ", ["bf16", "f16", "f32", "q4_0", "q8_0"]),
             ("llorch-cpud generate --type q", ["q4_0", "q8_0"]),
             ("llorch-cpud generate --type=q", ["q4_0", "q8_0"]),
             ("llorch-cpud generate --type=", ["bf16", "f16", "f32", "q4_0", "q8_0"]),
             ("llorch-cpud pack --embedding-type f", ["f16", "f32"]),
             ("llorch-cpud serve --kv-type ", ["f16", "f32"]),
             ("llorch-cpud serve --log-level ", ["debug", "error", "info", "off", "warn"]),
             ("llorch-cpud serve --port ", []),
             ("llorch-cpud serve --host l", ["localhost"]),
             ("llorch-cpud serve --host unix:/et", ["/etc"]),
             ("llorch-cpud verify --isa ", ["avx2", "scalar"]),
             ("llorch-cpud verify --expect ", ["gpt2", "gpt2-medium"]),
             ("llorch-cpud verify --reference sel", ["self"]),
             ("llorch-cpud bench --shape gpt2-", ["gpt2-large", "gpt2-medium", "gpt2-xl"]),
             ("llorch-cpud bench --cases decode,st", ["decode,step"]),
             ("llorch-cpud generate --prompt KING: --max-t", ["--max-tokens"]),
             ("llorch-cpud generate --prompt ", []),
             ("llorch-cpud generate --model LIC", ["LICENSE"]),
             ("llorch-cpud generate --model=LIC", ["LICENSE"]),
             ("llorch-cpud capture --out doc", ["docs"]),
             ("llorch-cpud capture --out LIC", []),  # a folder is wanted
             ("llorch-cpud diff REA", ["README.md"]),
             ("llorch-cpud diff --b", ["--bits"]),
             ("llorch-cpud pull --fo", ["--force"]),
             ("llorch-cpud serve --cpu 0", ["0"])]
    for (line, want), got in zip(cases, complete([line for line, _ in cases])):
        equal(got, want, line)


@suite.test
def fixed_values_of_the_completion_are_those_of_the_program():
    table = completion_table()
    kinds = {"type": "f32, f16, bf16, q8_0 or q4_0", "kv_type": "f32 or f16", "log_level": "debug, info, warn, error or off",
             "expect": "gpt2, gpt2-medium", "shape": "gpt2, gpt2-medium, gpt2-large, gpt2-xl",
             "cases": "decode,step,cache,batch,prompt,load,memory"}
    values = dict(re.findall(r"^    (\w+)\) echo (.*) ;;$", read(COMPLETION), re.MULTILINE))
    equal(set(values), set(kinds) | {"isa"})
    for kind, said in kinds.items():
        equal(values[kind].split(), re.split(r", | or |,", said), kind)
        for command in table:
            if kind in table[command].values():
                has(" ".join(help_of(command).split()), said)
    has(output(BIN, "--version"), "instruction sets  " + values["isa"].split()[0])
    for isa in values["isa"].split():
        has(help_of("generate"), isa)


@suite.test
def models_of_the_cache_are_offered():
    with tempfile.TemporaryDirectory() as hub:
        # A shared cache may hold anything; nothing of it may be run by whoever presses Tab.
        for name in ("models--openai--$(touch expanded)", "models--openai--`touch expanded`", "models--openai-community--gpt2", "models--distilgpt2", "datasets--openai--x", "models--openai--torn"):
            os.makedirs(os.path.join(hub, name, "snapshots" if "torn" not in name else "blobs"))
        equal(complete(["llorch-cpud generate --model openai", "llorch-cpud serve --model d", "llorch-cpud pull d"],
                       env={"HF_HUB_CACHE": hub}, cwd=hub),
              [["openai-community/gpt2"], ["datasets--openai--x", "distilgpt2"], ["distilgpt2"]])
        check(not os.path.exists(os.path.join(hub, "expanded")), "a folder's name was run")


@suite.test
def the_bash_completion_package_loads_the_file():
    loader = "/usr/share/bash-completion/bash_completion"
    if not os.path.exists(loader):
        raise Skip("bash-completion is not installed")
    load = "export XDG_DATA_DIRS='%s/share'\nsource %s\n_completion_loader llorch-cpud" % (installed().prefix, loader)
    equal(complete(["llorch-cpud tok"], before=load), [["tokenize"]])


@suite.test
def tab_completes_in_a_terminal():
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(folder + "/a model")
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(folder)
            os.environ.update(TERM="dumb", INPUTRC="/dev/null", PS1="")
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        try:
            def until(text):
                seen = b""
                end = time.monotonic() + LIMIT * SLOW
                while text.encode() not in seen:
                    check(time.monotonic() < end, "no %r in %r" % (text, seen))
                    if select.select([terminal], [], [], 1)[0]:
                        seen += os.read(terminal, 65536)
            os.write(terminal, b"source '%s'; PS1='> '; printf 'begin %%s\\n' now\n" % COMPLETION.encode())
            until("begin now")
            for typed, shown in (("llorch-cpud gen\t", "generate "), ("--ty\t", "--type "), ("bf\t", "bf16 "), ("--model=a\t", "a\\ model/"),
                                 (" --kv-type=f1\t", "--kv-type=f16 ")):
                os.write(terminal, typed.encode())
                until(shown)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(terminal)


if sanitized():
    print("nothing here runs code of this program that other tests do not: it is about files, pages and a shell")
    sys.exit(77)
sys.exit(suite.run())
