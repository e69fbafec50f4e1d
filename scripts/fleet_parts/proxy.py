"""HAProxy in front of the workers: its configuration and its process."""
import asyncio
import os
import re
import signal
import sys

from fleet_parts.output import Failure, complain, say, write
from fleet_parts.processes import PROBE_SECONDS, Delays, ask, how_it_ended, send, spawn

# What HAProxy says while all is well, and what it says twice.
NOT_WORTH_SAYING = re.compile(rb"^\[NOTICE\]|^\[WARNING\].* (Server|Proxy) |^Server each/|^Proxy |^$")


def quoted(address):
    """One word of HAProxy's configuration, whatever is in it."""
    return "'%s'" % address.replace("'", "'\\''")


def write_config(source, target, addresses):
    """The same configuration with one line for each worker where there are some: server N ADDRESS ..."""
    try:
        with open(source, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeError) as error:
        raise Failure("--config: %s: %s" % (source, getattr(error, "strerror", None) or error)) from error
    out, in_servers = [], False
    for line in lines:
        server = re.match(r"(\s*server )1 \S+(.*)$", line)
        if server:
            for i, address in enumerate(addresses, 1):
                out.append("%s%d %s%s" % (server.group(1), i, quoted(address), re.sub(r"/1$", "/%d" % i, server.group(2))))
        elif not re.match(r"\s*server \d+ ", line):
            out.append(line)
        in_servers = in_servers or bool(server)
    if not in_servers:
        raise Failure("%s: no line \"server 1 ADDRESS\", where the workers would go" % source)
    with open(target, "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n")


class Proxy:
    def __init__(self, program, given, folder):
        self.program, self.given, self.folder = program, given, folder
        self.config = os.path.join(folder, "haproxy.cfg")
        self.process = None

    @property
    def address(self):
        return "%s:%d" % ("[%s]" % self.given.host if ":" in self.given.host else self.given.host, self.given.port)

    def environment(self):
        metrics = self.given.metrics_port
        return dict(os.environ, LLORCH_BIND=self.address, LLORCH_QUEUE=str(self.given.queue),
                    LLORCH_METRICS="127.0.0.1:%d" % metrics if metrics else "unix@" + os.path.join(self.folder, "metrics"))

    async def prepare(self, sockets):
        """The configuration for workers on these sockets, and what HAProxy thinks of it."""
        write_config(self.given.config, self.config, ["unix@" + path for path in sockets])
        check = await spawn([self.program, "-c", "-q", "-f", self.config], env=self.environment(),
                            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        output, _ = await check.communicate()
        if check.returncode != 0:
            write(sys.stderr, output.decode("utf-8", "replace").rstrip())
            raise Failure("haproxy does not accept %s (its messages are above)" % self.given.config)

    async def start(self):
        """One process, without a master: those lose a SIGUSR1 that comes soon after their start (2.6)."""
        self.process = await spawn([self.program, "-db", "-f", self.config], env=self.environment(), stderr=asyncio.subprocess.PIPE)
        asyncio.ensure_future(self.pass_on(self.process.stderr))
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.given.host, self.given.host)
        while self.process.returncode is None and await ask((host, self.given.port), "/live") is None:
            await asyncio.sleep(PROBE_SECONDS / 5)
        if self.process.returncode is not None:
            raise Failure("haproxy %s at its start" % how_it_ended(self.process.returncode))

    @staticmethod
    async def pass_on(stream):
        async for line in stream:
            if not NOT_WORTH_SAYING.match(line.rstrip()):
                write(sys.stderr, "haproxy: " + line.decode("utf-8", "replace").rstrip())

    async def keep(self):
        """Starts it again whenever it dies, until cancelled."""
        delays = Delays()
        while True:
            status = await self.process.wait()
            text = how_it_ended(status)
            while True:
                delay = delays.take(status)
                say("haproxy: %s, starts again in %.1f s" % (text, delay))
                await asyncio.sleep(delay)
                delays.begin()
                try:
                    await self.start()
                    say("haproxy: ready (process %d)" % self.process.pid)
                    break
                except Failure as error:
                    complain(str(error))
                    status, text = None, "did not start"

    def drain(self):
        """It ends when all it has accepted is answered; its configuration says how long that may take."""
        send(self.process, signal.SIGUSR1)
