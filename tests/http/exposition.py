"""A strict reader of Prometheus' text format, version 0.0.4: everything that a real scraper might let pass but good manners
forbid is an error. Written from the format's description, not from the writer."""
import math
import re

FAMILY = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*\Z")  # no colons: those are of recording rules
LABEL = re.compile(r"[a-z][a-z0-9_]*\Z")
NUMBER = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?\Z")
# The last part of a name, or the last before _total, in other units than the base ones.
BAD_UNITS = {"ms", "us", "ns", "milliseconds", "microseconds", "minutes", "hours", "kb", "mb", "kilobytes", "megabytes", "mib",
             "percent", "pct"}


class FormatError(Exception):
    pass


def need(condition, *what):
    if not condition:
        raise FormatError(" ".join(str(w) for w in what))


def read_labels(text, line):
    """The labels of a{...} as a dictionary, and what follows the brace."""
    labels = {}
    at = 1
    while True:
        equals = text.find('="', at)
        need(equals > at, "no label here:", line)
        name = text[at:equals]
        need(LABEL.match(name), "label name", name)
        need(name not in labels, "label twice:", line)
        value, at = "", equals + 2
        while True:
            need(at < len(text), "label value without an end:", line)
            if text[at] == '"':
                break
            if text[at] == "\\":
                at += 1
                need(at < len(text) and text[at] in '\\"n', "unknown escape:", line)
                value += "\n" if text[at] == "n" else text[at]
            else:
                value += text[at]
            at += 1
        labels[name] = value
        at += 1
        need(at < len(text) and text[at] in ",}", "neither comma nor brace:", line)
        if text[at] == "}":
            return labels, text[at + 1:]
        at += 1


class Scrape:
    """families: name -> type, in order; samples: (name, sorted labels) -> value; texts: name -> help."""

    def __init__(self, data):
        self.families, self.texts, self.samples, self.text = {}, {}, {}, data.decode("utf-8")
        self.label_names = {}
        self._open = None  # the family whose samples come
        need(self.text.endswith("\n"), "no line feed at the end")
        need("\r" not in self.text, "a carriage return")
        expected = "HELP"
        for line in self.text[:-1].split("\n"):
            need(line == line.strip(" \t") and line != "", "blank line or blanks around:", repr(line))
            if line.startswith("#"):
                expected = self._take_comment(line, expected)
            else:
                need(expected != "TYPE", "a sample before its TYPE:", line)
                self._take_sample(line)
                expected = "HELP or sample"
        self._close()

    def _take_comment(self, line, expected):
        parts = line.split(" ", 3)
        need(len(parts) == 4 and parts[0] == "#" and parts[1] in ("HELP", "TYPE"), "neither HELP nor TYPE:", line)
        _, kind, name, rest = parts
        if kind == "HELP":
            need("HELP" in expected, "HELP where TYPE was due:", line)
            self._close()
            need(FAMILY.match(name) and name not in self.texts, "bad name, or HELP twice:", line)
            need(rest.endswith(".") and "\\" not in rest, "help is a sentence:", line)
            self.texts[name] = rest
            return "TYPE"
        need(expected == "TYPE" and list(self.texts)[-1] == name, "TYPE without its HELP:", line)
        need(rest in ("counter", "gauge", "histogram"), "unknown type:", line)
        words = name.split("_")
        need((words[-1] == "total") == (rest == "counter"), "counters, and only they, end in _total:", line)
        need(not BAD_UNITS & {words[-1], words[-2]}, "not a base unit:", line)
        need(words[-1] not in ("count", "sum", "bucket") and rest not in words, "reserved ending, or type in the name:", line)
        self.families[name] = rest
        self._open = name
        return "sample"

    def _take_sample(self, line):
        end = re.match(r"[^{ ]*", line).end()
        name, rest, labels = line[:end], line[end:], {}
        if rest.startswith("{"):
            labels, rest = read_labels(rest, line)
        need(rest.startswith(" ") and NUMBER.match(rest[1:]), "no plain number, or a time stamp:", line)
        need(math.isfinite(float(rest)), "not finite:", line)
        kind = self.families.get(self._open)
        names = [self._open + ending for ending in ("_bucket", "_sum", "_count")] if kind == "histogram" else [self._open]
        need(name in names, "a sample of another family than", self._open, ":", line)
        keys = sorted(labels)
        need(self.label_names.setdefault(name, keys) == keys, "other labels than its neighbours:", line)
        key = (name, tuple(sorted(labels.items())))
        need(key not in self.samples, "sample twice:", line)
        self.samples[key] = float(rest)

    def _close(self):
        name = self._open
        if name is None:
            return
        own = [key for key in self.samples if key[0] == name or key[0].startswith(name + "_")]
        need(own, "a family without samples:", name)
        if self.families[name] == "histogram":
            self._check_histogram(name)

    def _check_histogram(self, name):
        buckets = self.buckets(name)
        bounds = [bound for bound, _ in buckets]
        need(len(bounds) > 1 and bounds == sorted(set(bounds)) and bounds[-1] == math.inf, "bounds of", name, bounds)
        counts = [count for _, count in buckets]
        need(counts == sorted(counts), "buckets are cumulative:", name, counts)
        need(counts[-1] == self.value(name + "_count"), "the last bucket is the count:", name)
        low = sum((n - before) * bound for (_, before), (_, n), bound in
                  zip([(0, 0)] + buckets, buckets, [0] + bounds))
        need(self.value(name + "_sum") >= low * (1 - 1e-9), "a sum below what its buckets hold:", name)

    def buckets(self, name):
        """[(bound, cumulative count)] in the order of the text."""
        return [(float(dict(labels)["le"]), value) for (n, labels), value in self.samples.items() if n == name + "_bucket"]

    def value(self, name, **labels):
        return self.samples[(name, tuple(sorted(labels.items())))]

    def labels(self, name):
        """Of a family with one sample."""
        found = [dict(labels) for n, labels in self.samples if n == name]
        need(len(found) == 1, name, "has", len(found), "samples")
        return found[0]

    def counters(self):
        """Every sample that may never go down."""
        return {key: value for key, value in self.samples.items()
                if any(kind == "counter" and key[0] == name or kind == "histogram" and key[0].startswith(name + "_")
                       for name, kind in self.families.items())}
