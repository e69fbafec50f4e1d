"""What must be there before anything is started: programs, free ports, a model, a folder that HAProxy can name."""
import errno
import json
import os
import re
import shutil
import socket
import tempfile

from fleet_parts.output import Failure

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
CONFIG = os.path.join(ROOT, "deploy", "haproxy", "haproxy.cfg")
# The shipped model: in the source tree, or where an installed copy of this file finds it.
MODELS = [os.path.join(ROOT, "models", "shakespeare"), os.path.normpath(os.path.join(ROOT, "..", "..", "..", "llorch-cpud", "models", "shakespeare"))]
MORE_PATH = ":/usr/sbin:/usr/local/sbin"  # not every user has them in PATH
SOCKET_PATH_BYTES = 107
NO_HOST = "--host: %s: %s; expected an address of this machine, such as 0.0.0.0 or ::1"
LONGEST_NAME = "/1024.1000000.lock"  # of what lies beside a worker's socket


def make_folder():
    """An empty one for sockets and the packed model. Python itself would take another place than the one that was asked for."""
    place = os.environ.get("TMPDIR") or tempfile.gettempdir()
    try:
        folder = tempfile.mkdtemp(prefix="llorch-fleet-", dir=os.path.abspath(place))
    except OSError as error:
        raise Failure("%s: %s; TMPDIR names another folder" % (place, error.strerror)) from error
    try:
        check_folder(folder)
    except Failure:
        os.rmdir(folder)
        raise
    return folder


def check_folder(folder):
    if len(os.fsencode(folder + LONGEST_NAME)) > SOCKET_PATH_BYTES:
        raise Failure("%s: too long for a Unix socket, set TMPDIR to a shorter folder" % folder)
    if any(c in "$,\n\r" for c in folder):
        raise Failure("%s: HAProxy takes no socket whose name has a dollar sign, a comma or a line break, set TMPDIR to another folder" % folder)


def find_haproxy():
    found = shutil.which("haproxy", path=os.environ.get("PATH", os.defpath) + MORE_PATH)
    if not found:
        raise Failure("haproxy is not installed; as root: apt-get install --no-install-recommends haproxy")
    return found


def is_program(path):
    return os.path.isfile(path) and os.access(path, os.X_OK)


def find_program(given):
    if given:
        if not is_program(given):
            raise Failure("--program: %s cannot be run" % given)
        return os.path.abspath(given)
    built = os.path.join(ROOT, "build", "llorch-cpud")
    found = built if is_program(built) else shutil.which("llorch-cpud")
    if not found:
        raise Failure("%s is not there and no llorch-cpud is in PATH; run make, or name one with --program" % built)
    return found


def check_port_free(host, port, flag):
    """HAProxy would share a port with another HAProxy of the same user, and each would get half of the requests."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise Failure(NO_HOST % (host, getattr(error, "strerror", error))) from error
    try:
        with socket.socket(family, kind) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(address)
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise Failure(NO_HOST % (host, error.strerror)) from error
        raise Failure("%s:%d: %s; another %s may help" % (host, port, error.strerror, flag)) from error


def is_loopback(host):
    return host == "localhost" or host == "::1" or host.startswith("127.")


def is_packed(path):
    """Whether this is a packed file: safetensors with a mark in its metadata."""
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            return size < 1 << 28 and json.loads(file.read(size))["__metadata__"]["format"] == "llorch-packed"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def model_name(path):
    """As the worker would name it: a file without its ending; of what came from the hub NAME alone, also of its folder there."""
    if not os.path.exists(path):
        return os.path.basename(path.split("@")[0])
    if os.path.basename(path.rstrip("/")) in ("", ".", ".."):
        path = os.path.realpath(path)
    name = os.path.basename(path.rstrip("/"))
    snapshot = re.search(r"(?:^|/)models--(?:[^/]+--)?([^/]+)/snapshots/[0-9a-f]{40}/*$", path)
    if snapshot:
        return snapshot[1]
    return os.path.splitext(name)[0] if os.path.isfile(path) else name


def processor_of(i):
    mine = sorted(os.sched_getaffinity(0))
    return mine[i % len(mine)]
