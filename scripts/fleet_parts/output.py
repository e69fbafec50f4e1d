"""What the fleet says: lines for people on standard output, complaints on standard error."""
import sys


class Failure(Exception):
    """What, where, and what to do, in one line."""


def write(file, text):
    """A reader that went away, or was never there (None), must not take the workers with it."""
    if file is None:
        return
    try:
        file.write(text + "\n")
        file.flush()
    except OSError:
        pass


def say(text):
    write(sys.stdout, text)


def complain(text):
    write(sys.stderr, "fleet: " + text)
