"""Child processes: each is ended by its own id, and none outlives the rig."""

import asyncio
import ctypes
import json
import random
import signal
import socket
import sys
import time

CLIENTS = None  # the folder of the Node scripts; set by the program
PATIENCE = 30.0
LINE = 1 << 26  # bytes; what a client heard in a round is one line
_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """The rig itself could not go on."""


def now():
    """Seconds since 1970, as the clients have it."""
    return time.time()


def free_port():
    """One that no connection of another program takes meanwhile: the kernel chooses those from 32768 on."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


async def until(what, is_so, patience=PATIENCE, pace=0.02):
    end = time.monotonic() + patience
    while not await is_so():
        if time.monotonic() > end:
            raise Failed(f"waited in vain for {what}")
        await asyncio.sleep(pace)


class Child:
    """A running process, and whether it ended though nobody ended it."""

    def __init__(self, name):
        self.name, self.process, self.wanted_end = name, None, False
        self.last_words = []

    async def start(self, command, env, **pipes):
        self.wanted_end = False
        # It dies with the rig even if that is killed.
        die = lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # In a group of its own: Ctrl-C is for the rig, which ends its children in order.
        self.process = await asyncio.create_subprocess_exec(
            *map(str, command), env=env, stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            limit=LINE, preexec_fn=die, start_new_session=True, **pipes)
        self.listener = asyncio.create_task(self.listen(self.process.stderr))

    async def listen(self, stderr):
        """Keeps the last lines that it said, for when it dies."""
        while line := await stderr.readline():
            self.last_words = [*self.last_words[-19:], line.decode(errors="replace").rstrip()]

    @property
    def runs(self):
        return self.process is not None and self.process.returncode is None

    def fault(self):
        """How it died, if nobody wanted that."""
        if self.process is None or self.wanted_end or self.runs:
            return None
        return f"{self.name} ended by itself with status {self.process.returncode}: {' / '.join(self.last_words[-3:])}"

    async def signal(self, number):
        """Sends a signal that ends it, and waits for the end."""
        self.wanted_end = True
        if self.runs:
            self.process.send_signal(number)
        try:
            await asyncio.wait_for(self.process.wait(), PATIENCE)
        except asyncio.TimeoutError:
            raise Failed(f"{self.name} did not end within {PATIENCE:.0f} s of a signal") from None

    async def end(self):
        """Whatever runs is asked to end, and killed if it does not."""
        if self.process is None:
            return
        self.wanted_end = self.wanted_end or self.runs
        if self.runs:
            self.process.stdin.close()
            self.ask_to_end()
            try:
                await asyncio.wait_for(self.process.wait(), 5)
            except (asyncio.TimeoutError, asyncio.CancelledError):
                if self.runs:
                    self.process.kill()
                await self.process.wait()
        self.listener.cancel()

    def ask_to_end(self):
        self.process.terminate()


class Script(Child):
    """A Node script of tests/clients: commands in, events out, one JSON object a line."""

    def __init__(self, name, file, arguments=()):
        super().__init__(name)
        self.file, self.arguments = file, arguments
        self.hears, self.answers, self.complaints = [], {}, []

    async def open(self, env):
        self.ready = asyncio.get_running_loop().create_future()
        await self.start(["node", CLIENTS / self.file, *self.arguments], env, stdout=asyncio.subprocess.PIPE)
        self.reader = asyncio.create_task(self.read())
        try:
            await asyncio.wait_for(asyncio.shield(self.ready), PATIENCE)
        except asyncio.TimeoutError:
            raise Failed(f"{self.name} did not get ready: {self.last_words}") from None
        return self

    async def read(self):
        while line := await self.process.stdout.readline():
            try:
                event = json.loads(line)
                kind = event["event"]
            except (ValueError, TypeError, KeyError):
                self.complaints.append(f"{self.name} printed {line[:200]}")
                continue
            self.take(kind, event)
        await self.process.wait()
        for waiting in [self.ready, *self.answers.values()]:
            settle(waiting, Failed(f"{self.name} ended: {' / '.join(self.last_words[-5:])}"))

    def take(self, kind, event):
        client = event.get("client")
        if kind == "ready":
            settle(self.ready, event)
        elif kind in ("fault", "failed"):
            self.complaints.append(f"{self.name}: {event.get('cmd') or kind}: {event['text'].splitlines()[0]}")
        for hear in self.hears:
            hear(event)
        if waiting := self.answers.pop((kind, client), None):
            settle(waiting, event)
        elif kind == "failed":
            for key in [key for key in self.answers if key[1] == client]:
                settle(self.answers.pop(key), Failed(self.complaints[-1]))

    def tell(self, cmd, **more):
        if self.runs:
            self.process.stdin.write(json.dumps({"cmd": cmd, **more}).encode() + b"\n")

    async def ask(self, cmd, answer, client, patience=PATIENCE, **more):
        """The one event that answers; None if it does not come."""
        if not self.runs:
            return None
        waiting = self.answers[answer, client] = asyncio.get_running_loop().create_future()
        self.tell(cmd, client=client, **more)
        try:
            return await asyncio.wait_for(waiting, patience)
        except asyncio.TimeoutError:
            self.answers.pop((answer, client), None)
            return None

    def ask_to_end(self):
        """Scripts end with their standard input."""


def settle(waiting, outcome):
    """Answers whoever waits, if anybody still does."""
    if waiting.done():
        return
    if isinstance(outcome, Exception):
        waiting.set_exception(outcome)
        waiting.exception()  # it was looked at, even if nobody waits
    else:
        waiting.set_result(outcome)


def say(*words):
    print(*words, file=sys.stderr, flush=True)
