"""What check_readme and check_guides share: commands in documents, what they print, and TAP."""
import os
import re
import subprocess

# What differs from run to run: times, speeds, ports, random ids.
VOLATILE = [(r'"correlation_id":"[^"]*"', '"correlation_id":"..."'),
            (r'"started_at":"[^"]*"', '"started_at":"..."'),
            (r'"((?:\w+_ms)|tokens_per_sec)":[0-9.e+-]+', r'"\1":0'),
            (r"process \d+\) is ready on http://127.0.0.1:\d+", "process N) is ready on http://127.0.0.1:N"),
            (r"after [0-9.]+ (ms|s)\b", r"after N \1")]
BINARY = "build/llorch-cpud"
PORT = "3000"  # in the examples; here the kernel chooses one


class Tap:
    def __init__(self):
        self.count = 0
        self.bad = 0

    def case(self, name, problem=None, skip=None):
        self.count += 1
        if skip:
            print("ok %d - %s # SKIP %s" % (self.count, name, skip))
            return
        print("%s %d - %s" % ("not ok" if problem else "ok", self.count, name))
        for line in (problem or "").splitlines():
            print("# " + line)
        self.bad += bool(problem)

    def end(self):
        """The plan; returns the exit status."""
        print("1..%d" % self.count)
        return 1 if self.bad else 0


def stable(text, volatile=()):
    for pattern, replacement in [*VOLATILE, *volatile]:
        text = re.sub(pattern, replacement, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def blocks(text):
    """(language, text) of each fenced block, in order."""
    found = re.findall(r"^( *)```(\w+)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [(language, "\n".join(line[len(indent):] for line in body.splitlines())) for indent, language, body in found]


def pairs(text, languages=("sh",)):
    """(language, commands, text block that follows or None) for each block that can be run."""
    all_blocks = blocks(text)
    for i, (language, body) in enumerate(all_blocks):
        if language in languages:
            follows = i + 1 < len(all_blocks) and all_blocks[i + 1][0] == "text"
            yield language, body, all_blocks[i + 1][1] if follows else None


def shell(command, extra=None):
    # A make above us must not pass its options on to one that a command calls.
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    environment.update(extra or {})
    return subprocess.run(["sh", "-c", command], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=120, check=False)


def difference(wanted, got, volatile=()):
    """The first lines that differ; "..." in the document stands for any lines."""
    wanted, got = stable(wanted, volatile), stable(got, volatile)
    parts = [re.escape(part.strip("\n")) for part in re.split(r"^\.\.\.$", wanted, flags=re.MULTILINE)]
    if re.fullmatch(r"\n?(?:.*\n)*?".join(parts), got):
        return None
    return "the document says:\n%s\nprinted:\n%s" % (wanted, got[:4000])


class Worker:
    """The program serving the shipped model on a port of the kernel's choice."""

    def __init__(self, arguments="serve --model models/shakespeare"):
        self.port = None
        self.process = subprocess.Popen("exec %s %s --port 0" % (BINARY, arguments), shell=True, stdin=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        for line in self.process.stderr:
            found = re.search(r'"port":\s*([1-9]\d*)', line)
            self.port = found.group(1) if found else self.port
            if "Worker ready" in line:
                break

    def stop(self):
        """The exit status after SIGTERM."""
        self.process.terminate()
        self.process.stderr.close()
        return self.process.wait(timeout=10)
