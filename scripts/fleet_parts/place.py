"""One worker's place in the fleet, and the processes that fill it one after the other."""
import asyncio
import os
import time

from fleet_parts.needs import model_name, processor_of
from fleet_parts.output import Failure, say
from fleet_parts.processes import PROBE_SECONDS, Delays, ask, end_process, first_of, how_it_ended, spawn

# The workers have flags, and whatever started the fleet waits for the fleet: these would be in their way.
NOT_FOR_WORKERS = ("CALLBACK_URL", "PORT", "WORKER_ID", "MODEL_PATH", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID",
                   "LISTEN_FDS", "LISTEN_FDNAMES")

HUNG_SECONDS = 30.0  # a worker answers within milliseconds, also while it computes, and drains for 5 s


class Place:
    """What HAProxy calls server N: a link to the socket of the process that serves now. A replacement takes over by moving
    the link once it is ready, so that HAProxy never meets a worker that is not. `lock`: one start at a time while serving, or
    all would load a model at once."""

    def __init__(self, n, folder, program, given, lock):
        self.n, self.program, self.given, self.lock = n, program, given, lock
        self.model = None  # the packed one, once it is there
        self.cpu = processor_of(n - 1)
        self.link = os.path.join(folder, str(n))
        self.generation = 0
        self.process = self.path = None  # the one that has the link, and its socket
        self.replaced = asyncio.Event()
        self.all = []  # also those that start or leave
        self.delays = Delays()
        self.environment = {k: v for k, v in os.environ.items() if k not in NOT_FOR_WORKERS}

    def command(self, path):
        command = [self.program, "--model", self.model, "--model-name", model_name(self.given.model), "--worker-id",
                   "worker-%d" % self.n, "--host", "unix:" + path, "--cpu", str(self.cpu), "--queue", "1", "--defer-headers",
                   "--log-level", self.given.log_level]
        if self.given.api_key_file:
            command += ["--api-key-file", self.given.api_key_file]
        return command + self.given.flags

    async def start(self):
        """A process that is ready and has the link; the one before it still runs. Failure: it ended first."""
        self.generation += 1
        path = "%s.%d" % (self.link, self.generation)
        self.delays.begin()
        process = await spawn(self.command(path), env=self.environment)
        self.all = [p for p in self.all if p.returncode is None] + [process]
        asked = 0
        while process.returncode is None and (await ask(path, "/ready") or (0,))[0] != 200:
            asked += 1
            if asked % 200 == 0:
                say("worker %d: still loading" % self.n)
            await asyncio.sleep(PROBE_SECONDS)
        if process.returncode is not None:
            raise Failure("worker %d %s at its start" % (self.n, how_it_ended(process.returncode)))
        await self.take_link(path, process)
        self.process, self.path = process, path
        self.replaced.set()
        say("worker %d: ready (process %d, processor %d)" % (self.n, process.pid, self.cpu))

    async def take_link(self, path, process):
        try:
            os.symlink(os.path.basename(path), path + ".link")
            os.replace(path + ".link", self.link)
        except OSError as error:
            await end_process(process)
            raise Failure("worker %d cannot be reached: %s: %s" % (self.n, self.link, error.strerror)) from error

    async def keep(self):
        """Starts it again whenever it dies, until cancelled."""
        while True:
            process, self.replaced = self.process, asyncio.Event()
            await first_of(process.wait(), self.replaced.wait())
            if process is self.process:
                await self.start_again(process)

    async def start_again(self, dead):
        status, text = dead.returncode, how_it_ended(dead.returncode)
        while True:
            delay = self.delays.take(status)
            say("worker %d: %s, starts again in %.1f s" % (self.n, text, delay))
            await asyncio.sleep(delay)
            async with self.lock:
                if self.process is not dead:
                    return
                try:
                    return await self.start()
                except Failure as error:
                    status, text = None, str(error).replace("worker %d " % self.n, "", 1)

    async def replace(self):
        """The old one leaves when it has nothing to do: twice, since a request may have been on its way. Or when it hangs."""
        async with self.lock:
            old, path = self.process, self.path
            await self.start()
        idle, heard = 0, time.monotonic()
        while old.returncode is None and idle < 2 and time.monotonic() - heard < HUNG_SECONDS:
            answer = await ask(path, "/health")
            if answer is not None:
                heard = time.monotonic()
            idle = idle + 1 if answer is not None and answer[1].get("state") == "ready" else 0
            await asyncio.sleep(PROBE_SECONDS)
        await end_process(old)
