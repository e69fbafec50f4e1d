"""Starting a process, asking it something, waiting for it, ending it."""
import asyncio
import functools
import json
import shutil
import signal
import subprocess
import time

from fleet_parts.output import Failure

FIRST_DELAY, LONGEST_DELAY = 0.1, 30.0  # seconds before a dead process is started again: doubled each time ...
GOOD_SECONDS = 10.0  # ... and forgotten when it has run so long, or has ended well
END_SECONDS = 10.0  # a worker has ended 5 s after SIGTERM
PROBE_SECONDS = 0.05


@functools.lru_cache(maxsize=None)
def guard():
    """What begins a command that the kernel ends should this script be killed; none where there is no setpriv, or where a sandbox
    forbids what it does."""
    setpriv = shutil.which("setpriv")
    words = [setpriv, "--pdeathsig", "TERM"]
    if not setpriv or subprocess.run([*words, "true"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                     check=False).returncode != 0:
        return []
    return words


async def spawn(command, **options):
    """In a session of its own: Ctrl-C reaches this script only."""
    try:
        return await asyncio.create_subprocess_exec(*guard(), *command, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
                                                    **options)
    except (OSError, ValueError) as error:
        raise Failure("%s: it cannot be started: %s" % (command[0], getattr(error, "strerror", None) or error)) from error


def send(process, number):
    if process is not None and process.returncode is None:
        try:
            process.send_signal(number)
        except ProcessLookupError:
            pass


async def end_process(process):
    send(process, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), END_SECONDS)
    except asyncio.TimeoutError:
        send(process, signal.SIGKILL)
        await process.wait()


def how_it_ended(status):
    return "ended by " + signal.Signals(-status).name if status < 0 else "ended with status %d" % status


async def ask(path, target, seconds=2.0):
    """(status, JSON) of GET target over a Unix socket or of (host, port); None without an answer."""
    writer = None

    async def exchange():
        nonlocal writer
        if isinstance(path, str):
            reader, writer = await asyncio.open_unix_connection(path)
        else:
            reader, writer = await asyncio.open_connection(*path)
        writer.write(b"GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n" % target.encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)

    try:
        return await asyncio.wait_for(exchange(), seconds)
    except (OSError, ValueError, IndexError, asyncio.TimeoutError):
        return None
    finally:
        if writer is not None:
            writer.close()


async def cancelled(*tasks):
    """When they are really over: a task that starts a process ends it as well, if it is cancelled meanwhile. Again and again, since
    wait_for (before Python 3.12) forgets a cancel that comes at the moment when it returns."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=PROBE_SECONDS)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # whoever waits for it has it already


async def first_of(*waits):
    """Until one of them is over; then none goes on."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancelled(*tasks)


class Delays:
    """How long to wait before the next start."""

    def __init__(self):
        self.next = FIRST_DELAY
        self.started = time.monotonic()

    def begin(self):
        self.started = time.monotonic()

    def take(self, status):
        if status == 0 or time.monotonic() - self.started >= GOOD_SECONDS:
            self.next = FIRST_DELAY
        delay, self.next = self.next, min(self.next * 2, LONGEST_DELAY)
        return delay
