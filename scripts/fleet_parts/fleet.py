"""The whole fleet: what is started in which order, what signals do, how it ends."""
import asyncio
import os
import signal
import time

from fleet_parts.needs import check_port_free, find_haproxy, find_program, is_loopback, is_packed
from fleet_parts.output import Failure, complain, say
from fleet_parts.place import NOT_FOR_WORKERS, Place
from fleet_parts.processes import cancelled, end_process, first_of, send, spawn
from fleet_parts.proxy import Proxy

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Fleet:
    def __init__(self, given, folder):
        self.given, self.folder = given, folder
        self.proxy = Proxy(find_haproxy(), given, folder)
        self.program = find_program(given.program)
        starts = asyncio.Lock()
        self.places = [Place(n, folder, self.program, given, starts) for n in range(1, given.n + 1)]
        self.packing = None
        self.signals = asyncio.Queue()
        self.has_terminal = os.isatty(0)

    async def prepare(self):
        """Everything that can be wrong without a worker."""
        check_port_free(self.given.host, self.given.port, "--port")
        if self.given.metrics_port:
            check_port_free("127.0.0.1", self.given.metrics_port, "--metrics-port")
        await self.proxy.prepare([place.link for place in self.places])
        model = await self.packed()
        for place in self.places:
            place.model = model

    async def packed(self):
        """The path of a packed file with the model in it."""
        if is_packed(self.given.model):
            if self.given.type:
                raise Failure("--type: %s is packed already, and has its type" % self.given.model)
            return self.given.model
        out = os.path.join(self.folder, "model.packed")
        begin = time.monotonic()
        environment = {k: v for k, v in os.environ.items() if k not in NOT_FOR_WORKERS}
        self.packing = await spawn([self.program, "pack", "--model", self.given.model, "--out", out]
                                   + (["--type", self.given.type] if self.given.type else []), env=environment,
                                   stdout=asyncio.subprocess.DEVNULL)
        if await self.packing.wait() != 0:
            raise Failure("the model cannot be packed (the message is above); %s needs room for it, TMPDIR names another folder"
                          % os.path.dirname(self.folder))
        say("packed %s: %.1f MB in %.1f s" % (self.given.model, os.path.getsize(out) / 1e6, time.monotonic() - begin))
        return out

    async def start(self):
        await self.prepare()
        starts = [asyncio.ensure_future(place.start()) for place in self.places]
        try:
            await asyncio.gather(*starts)
        finally:
            await cancelled(*starts)  # one that fails is enough: who still loads is not waited for
        await self.proxy.start()
        address = self.proxy.address
        say("%d worker%s behind http://%s (HAProxy, process %d); at most %d requests wait\n"
            % (len(self.places), "s" * (len(self.places) > 1), address, self.proxy.process.pid, self.given.queue))
        say("  curl -N http://%s/execute -H 'Content-Type: application/json' \\\n"
            "       -d '{\"job_id\":\"1\",\"prompt\":\"ROMEO:\",\"max_tokens\":60}'\n" % address)
        if not self.given.api_key_file and not is_loopback(self.given.host):
            complain("warning: whoever reaches %s may use the workers; --api-key-file names who may" % address)
        say("Ctrl-C lets what was accepted finish and ends; SIGHUP replaces the workers one by one.")

    async def replace_all(self):
        try:
            for place in self.places:
                await place.replace()
            say("all workers are new")
        except Failure as error:
            complain("%s; the workers not yet replaced go on as they are" % error)

    async def serve(self):
        """Until the signal to end."""
        tasks = [asyncio.ensure_future(place.keep()) for place in self.places]
        proxy = asyncio.ensure_future(self.proxy.keep())
        replacement = None
        while not await self.next_signal_ends():
            if replacement is None or replacement.done():
                replacement = asyncio.ensure_future(self.replace_all())
                tasks.append(replacement)
        await cancelled(proxy)
        await self.drain()
        await cancelled(*tasks)

    async def next_signal_ends(self):
        """SIGHUP also means that the terminal is gone, if there was one."""
        return await self.signals.get() != signal.SIGHUP or (self.has_terminal and not os.isatty(0))

    async def end_asked(self):
        while not await self.next_signal_ends():
            pass

    async def drain(self):
        say("\nDraining: nothing more is accepted, what was is finished. Once more ends at once.")
        self.proxy.drain()
        await first_of(self.proxy.process.wait(), self.end_asked())

    async def end(self):
        """Whatever still runs."""
        send(self.proxy.process, signal.SIGTERM)
        processes = [p for place in self.places for p in place.all]
        processes += [p for p in (self.proxy.process, self.packing) if p is not None]
        await asyncio.gather(*(end_process(p) for p in processes))

    async def run(self):
        loop = asyncio.get_running_loop()
        for which in SIGNALS:
            loop.add_signal_handler(which, self.signals.put_nowait, which)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        starting = asyncio.ensure_future(self.start())
        stopped = asyncio.ensure_future(self.end_asked())
        try:
            await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not stopped.done():
                starting.result()
                await cancelled(stopped)
            if stopped.cancelled():  # else a signal came after all
                await self.serve()
            return 0
        finally:
            await cancelled(starting)
            await self.end()
            say("Ended.")
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # nothing is left to be interrupted
