"""Scenes in which something happens to clients that hear each other."""

import asyncio
import copy
import os
import random
import signal

from . import hubs as binaries
from .children import Failed, now
from .proxy import Proxy
from .room import met
from .silences import again, lost_links, open_links, silences

SETTLE = 3.0  # seconds from when all heard all, until anything happens, at least
CYCLE = 4.0  # seconds after which a client looks again whether it has enough connections

AFTER = 5.0  # seconds from an event in which what follows from it has the machine for itself
CALM = 12.0  # seconds from then until a call begins


class Event:
    """Four clients hear each other; then something happens, and they are watched.

    `happen` does it. Whom it is done to is in `touched`: to those the others are
    parted anyway, so they are no pair whose silence counts; it counts instead how
    long it took from `calm` until all heard each other again.
    """

    hubs = ("js", "one", "three")
    count, chat, alone, tabs, video = 4, 250, (), False, False

    def __init__(self, name, what):
        self.name, self.what = name, what

    async def play(self, room, options):
        clients = await self.gather(room)
        seen = await met(room, clients)
        # What follows depends on where in its cycle each client is, which no user chooses.
        await asyncio.sleep(SETTLE + random.uniform(0, CYCLE))
        if self.video:
            await call(clients)
        play = Play(room, clients)
        await self.prepare(play)
        play.began = now()
        await self.happen(play)
        if not self.video:
            # From here on the room needs little of the machine.
            await asyncio.sleep(min(AFTER, options.watch))
            room.turn.pass_on()
        await asyncio.sleep(max(0, play.began + options.watch - now()))
        self.look_back(play)
        return seen | await play.result()

    def in_a_call(self):
        """The same with a video call of three tabs, which is as much as two cores bear."""
        scene = copy.copy(self)
        scene.count, scene.tabs, scene.video = 3, True, True
        scene.name, scene.what = f"{self.name}-video", f"{self.what}, in a video call"
        return scene

    async def gather(self, room):
        return await room.fill(self.count, tabs=self.tabs, alone=self.alone)

    async def prepare(self, play):
        pass

    async def happen(self, play):
        pass

    def look_back(self, play):
        pass


async def call(clients):
    """All film, and see each other as far as they are connected."""
    # A client replaces some of its first connections 10 s later, and puts no video into new ones.
    await asyncio.sleep(CALM)
    for client in clients:
        await client.script.ask("film", "films", client.name)
        await asyncio.sleep(1)
    await asyncio.sleep(SETTLE)


class Play:
    """One round of an event."""

    def __init__(self, room, clients):
        self.room, self.clients = room, clients
        self.began = self.calm = None
        self.touched, self.fresh = set(), []  # whom it is done to, and who came for them
        self.blind = set()  # who shows no video to its user
        self.gone = None  # a client whose end the others are to notice
        self.hub_lost, self.hub_back = [], None  # whose hub was away, and since when it is back
        self.notes = {}

    async def result(self):
        ended = now()
        kept = [client for client in self.clients if client not in self.touched]
        present = [client for client in self.clients if not client.gone] + self.fresh
        told = await asyncio.gather(*(client.hearing() for client in present))
        hearing = {client: heard for client, (heard, _, _) in zip(present, told)}
        seeing = {client: frames for client, (_, _, frames) in zip(present, told)}
        kept = [client for client in kept if client in hearing]
        watched = [(a, b) for a, b in self.room.pairs(kept) if a not in self.blind]
        links = open_links(kept, self.began)
        lost = lost_links(kept, links, self.began)
        seen = {"silences": silences(hearing, self.room.pairs(kept), self.began, ended),
                "video": silences(seeing, watched, self.began, ended),
                "links": len(links), "lost": sorted(lost.values()), **self.notes}
        if self.calm is not None:
            back = self.fresh or list(self.touched)
            pairs = [pair for client in back for other in kept for pair in ((client, other), (other, client))
                     if client in hearing and client.network == other.network]
            seen["again"] = again(hearing, pairs, self.calm)
        if self.gone is not None:
            its = open_links(self.clients, self.began)
            seen["noticed"] = [self.closed_at(client) for client in kept if frozenset((client.id, self.gone.id)) in its]
        if self.hub_back is not None:
            seen["hub_again"] = [self.connected_at(client) for client in self.hub_lost]
        return seen

    def closed_at(self, client):
        times = [when for when, peer, opened, _ in client.links
                 if peer == self.gone.id and not opened and when >= self.began]
        return times[0] - self.began if times else None

    def connected_at(self, client):
        """Seconds until it was back at a hub."""
        times = [when for when, has_hub in client.signaling if has_hub and when >= self.began]
        return max(0.0, times[-1] - self.hub_back) if times and client.has_hub else None


class Quiet(Event):
    """Nothing happens: what the rig itself shows."""


class HubAway(Event):
    """The first hub ends, and is started again after a while, or never."""

    def __init__(self, name, what, how, away):
        super().__init__(name, what)
        self.how, self.away = how, away

    async def happen(self, play):
        hubs = play.room.hubs
        play.hub_lost = play.clients[::len(hubs)]
        await self.end(hubs)
        if self.away is None:
            return
        await asyncio.sleep(self.away)
        await hubs.up(0)
        play.hub_back = now()

    async def end(self, hubs):
        await hubs.down(0, self.how)


class HubDrained(HubAway):
    """As an administrator upgrades who has clients leave first."""

    hubs = ("one", "three")

    async def end(self, hubs):
        pigeonctl = binaries.BINARY.parent / "pigeonctl"
        if not os.access(pigeonctl, os.X_OK):
            raise Failed(f"there is no program {pigeonctl}")
        child = await asyncio.create_subprocess_exec(
            pigeonctl, "--socket", hubs.folder / f"run-{hubs.ports[0]}/control.sock", "drain", env=hubs.env,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)
        _, said = await child.communicate()
        if child.returncode:
            raise Failed(f"pigeonctl drain: {said.decode().strip()}")
        await asyncio.sleep(2)
        await hubs.down(0)


class WebSocket(Event):
    """The connection of one client to its hub, through a proxy, breaks or falls silent."""

    def __init__(self, name, what, silent=False):
        super().__init__(name, what)
        self.silent = silent

    async def gather(self, room):
        proxy = await Proxy(room.hubs.ports[0]).open()
        room.proxies.append(proxy)
        urls = [room.hubs.urls[i % len(room.hubs)] for i in range(self.count)]
        return await room.fill(self.count, tabs=self.tabs, urls=[proxy.url, *urls[1:]])

    async def happen(self, play):
        [proxy] = play.room.proxies
        if self.silent:
            proxy.silence()
            return
        proxy.cut()
        play.hub_lost, play.hub_back = play.clients[:1], now()


class Gone(Event):
    """The process of one client is killed: nobody says a word."""

    alone = (0,)

    async def happen(self, play):
        play.gone = client = play.clients[0]
        play.touched = {client}
        await client.kill()


class Leaving(Event):
    """One client disconnects."""

    async def happen(self, play):
        play.gone = client = play.clients[0]
        play.touched = {client}
        client.gone = True
        client.script.tell("close", client=client.name)


class Back(Gone):
    """… and a new process brings it back at once, under its id, which an application keeps with the option `peerId`."""

    elsewhere = False

    async def prepare(self, play):
        [play.spare] = await play.room.places(1, self.tabs)

    async def happen(self, play):
        await super().happen(play)
        play.gone, play.calm = None, now()
        urls = play.room.hubs.urls
        play.fresh = [play.room.join(play.spare, urls[1 if self.elsewhere else 0], peer_id=play.clients[0].id)]


class BackElsewhere(Back):
    hubs = ("three",)
    elsewhere = True


class Moving(Event):
    """One client disconnects, and connects to another hub under its id, which an application keeps with `peerId`."""

    async def happen(self, play):
        client, urls = play.clients[0], play.room.hubs.urls
        play.touched = {client}
        client.gone = True
        await client.script.ask("close", "closed", client.name)
        play.calm = now()
        [place] = await play.room.places(1, True) if self.tabs else [client.script]
        play.fresh = [play.room.join(place, urls[1 % len(urls)], peer_id=client.id)]


class Blocked(Event):
    """The thread of one client does something else for two seconds."""

    alone = (0,)

    async def happen(self, play):
        client = play.clients[0]
        play.touched, play.calm = {client}, now() + 2
        client.script.tell("block", client=client.name, ms=2000)


class TwoNetworks(Event):
    """Clients of two networks at the same hubs: each hears its own, and nobody of the other."""

    count, networks = 6, ("room", "other room")

    async def gather(self, room):
        return await room.fill(self.count, tabs=self.tabs, networks=self.networks)

    def look_back(self, play):
        pairs = [(a, b) for a in play.clients for b in play.clients if a.network != b.network]
        play.notes["across"] = sum(b.id in a.heard or b.id in a.discovered for a, b in pairs)


EVENTS = [
    Quiet("quiet", "nothing happens"),
    WebSocket("websocket-broken", "one client's WebSocket breaks"),
    WebSocket("websocket-silent", "one client's WebSocket falls silent, and stays open", silent=True),
    HubAway("hub-drained", "hub ended by SIGTERM, started again after 1 s", signal.SIGTERM, 1.0),
    HubAway("hub-killed", "hub killed, started again after 1 s", signal.SIGKILL, 1.0),
    HubAway("hub-upgraded", "hub ended by SIGTERM, started again at once", signal.SIGTERM, 0.0),
    HubDrained("hub-drained-first", "hub drained with pigeonctl, then upgraded", signal.SIGTERM, 0.0),
    HubAway("hub-away", "hub killed, started again after 10 s", signal.SIGKILL, 10.0),
    HubAway("hub-away-for-good", "hub killed for good", signal.SIGKILL, None),
    Gone("client-gone", "a client is killed"),
    Leaving("client-leaving", "a client disconnects"),
    Back("client-back", "a client is killed, and back under its id at once"),
    BackElsewhere("client-back-elsewhere", "… at another hub"),
    Moving("client-moving", "a client moves to another hub under its id"),
    Blocked("client-blocked", "a client's thread is blocked for 2 s"),
    TwoNetworks("two-networks", "two networks of three clients"),
]
