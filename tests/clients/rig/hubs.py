"""The hubs that are compared: the published JavaScript hub, and one and three of ours."""

import asyncio
import json
import os
import signal
import urllib.request
from pathlib import Path

from .children import Child, Script, free_port, until

NAMES = {"js": "JavaScript hub", "one": "pigeonhubd", "three": "three of pigeonhubd"}
BINARY = None  # of pigeonhubd; set by the program


def health(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
        return json.load(answer)


class Hubs:
    """What clients of a round connect to. Hubs are told apart by a number, from 0."""

    def __init__(self, kind, folder, env):
        self.kind, self.folder, self.env = kind, Path(folder), env
        self.ports = [free_port() for _ in range(3 if kind == "three" else 1)]
        self.children = [None for _ in self.ports]

    @property
    def urls(self):
        return [f"ws://127.0.0.1:{port}" for port in self.ports]

    def __len__(self):
        return len(self.ports)

    async def start(self):
        for number in range(len(self)):
            await self.up(number)
        if len(self) > 1:
            await until("the hubs to migrate", self.migrated)

    async def migrated(self):
        told = [await asyncio.to_thread(health, port) for port in self.ports]
        return all(it["mesh"]["p2pLinks"] == len(self) - 1 and it["mesh"]["wsLinks"] == 0 for it in told)

    async def up(self, number):
        """Starts one, and waits until it listens."""
        port = self.ports[number]
        if self.kind == "js":
            # With no bootstrap it dials port 3000, whoever is there: it names itself, which it skips.
            child = Script(f"JavaScript hub {port}", "js-hub.mjs", [port, f"ws://127.0.0.1:{port}"])
            self.children[number] = child
            await child.open(self.env)
            return
        child = Child(f"pigeonhubd {port}")
        self.children[number] = child
        command = [BINARY, "--host", "127.0.0.1", "--port", port, "--metrics-listen", "off",
                   "--runtime-dir", self.folder / f"run-{port}", "--state-dir", self.folder / f"state-{port}",
                   "--migration-delay", "500ms"]
        others = [url for url, its in zip(self.urls, self.ports) if its != port]
        for other in others:
            command += ["--bootstrap", other]
        if not others:
            command.append("--no-bootstrap")
        await child.start(command, self.env, stdout=asyncio.subprocess.DEVNULL)
        await until(f"pigeonhubd on port {port} to listen", lambda: self.listens(number), pace=0.005)

    async def listens(self, number):
        if fault := self.children[number].fault():
            raise RuntimeError(fault)
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.ports[number])
        except OSError:
            return False
        writer.close()
        return True

    async def down(self, number, how=signal.SIGTERM):
        """Ends one by a signal, and waits until it is gone."""
        await self.children[number].signal(how)

    def faults(self):
        return [fault for child in self.children if child and (fault := child.fault())]

    async def end(self):
        await asyncio.gather(*(child.end() for child in self.children if child))


def environment(folder):
    """Nothing of this machine's configuration, and nothing that stays."""
    home = str(folder)
    return {"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": home, "XDG_CONFIG_HOME": home,
            "XDG_CACHE_HOME": home, "PIGEONHUBD_CONFIG_DIR": f"{home}/etc",
            **({"CHROMIUM": os.environ["CHROMIUM"]} if "CHROMIUM" in os.environ else {})}
