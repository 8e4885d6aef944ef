"""The clients of one round: who they are, and what they heard of each other."""

import asyncio
import itertools
import signal

from .children import Script, now

NETWORK = "room"
TABS = "browser.mjs"
PATIENCE = 20.0  # seconds that clients get to hear each other


class Client:
    """A published client. One that comes back under its id is another one of the same id."""

    def __init__(self, script, name, network, chat):
        self.script, self.name, self.network, self.chat = script, name, network, chat
        self.id, self.gone = None, False
        self.heard = {}  # the id of whom it heard -> when first
        self.links = []  # (when, the id of the other, whether it opened or closed, why)
        self.signaling = []  # (when, whether it has its hub)
        self.discovered = {}  # the id of whom it was told -> when first
        self.complaints = []  # (when, what it warned of)
        script.hears.append(self.hear)

    def hear(self, event):
        if event.get("client") != self.name:
            return
        kind, at = event["event"], event.get("at", 0) / 1000
        if kind == "named":
            self.id = event["peer"]
        elif kind == "heard":
            self.heard[event["peer"]] = at
        elif kind in ("peerConnected", "peerDisconnected"):
            self.links.append((at, event["peer"], kind == "peerConnected", event.get("reason")))
        elif kind == "discovered":
            self.discovered.setdefault(event["peer"], at)
        elif kind == "complaint":
            self.complaints.append((at, event["text"]))
        elif kind in ("connected", "disconnected"):
            self.signaling.append((at, kind == "connected"))

    @property
    def has_hub(self):
        return bool(self.signaling) and self.signaling[-1][1]

    async def kill(self):
        """Its process ends, without a word to anyone."""
        self.gone = True
        if self.script.file == TABS:
            await self.script.ask("crash", "done", self.name)
        else:
            await self.script.signal(signal.SIGKILL)

    async def hearing(self):
        """When it heard whom, when it spoke, and when it saw whom, in seconds."""
        told = await self.script.ask("hearing", "hearing", self.name)
        if told is None:
            return {}, [], {}
        seconds = lambda times: [at / 1000 for at in times]
        each = lambda of: {peer: seconds(times) for peer, times in of.items()}
        return each(told["heard"]), seconds(told["said"]), each(told["frames"])

    async def linked(self):
        """The ids of those to whom it has an open connection."""
        told = await self.script.ask("status", "status", self.name, patience=5)
        return set(told["peers"]) if told else set()


class Turn:
    """The right to start and meet: whoever does that beside others meets later, or not at all."""

    def __init__(self, lock):
        self.lock, self.mine = lock, False

    async def take(self):
        await self.lock.acquire()
        self.mine = True

    def pass_on(self):
        if self.mine:
            self.mine = False
            self.lock.release()


class Room:
    def __init__(self, hubs, env, chat, per_process, turn):
        self.turn = turn
        self.hubs, self.env, self.chat, self.per_process = hubs, env, chat, per_process
        self.scripts, self.clients, self.proxies = [], [], []
        self.joined_at = None  # when the last of the first clients was told to join

    async def processes(self, count, file="client.mjs"):
        """Starts that many processes for clients."""
        fresh = [Script(f"clients {len(self.scripts) + i}", file) for i in range(count)]
        self.scripts += fresh
        await asyncio.gather(*(script.open(self.env) for script in fresh))
        return fresh

    def next_name(self, further=0):
        return f"c{len(self.clients) + further}"

    def join(self, script, url, network=NETWORK, peer_id=None):
        """A new client, which goes its own way from here on."""
        client = Client(script, self.next_name(), network, self.chat)
        self.clients.append(client)
        more = {"peerId": peer_id} if peer_id else {}
        script.tell("connect", client=client.name, url=url, network=network, chat=self.chat, **more)
        return client

    async def places(self, count, tabs=False, alone=()):
        """Where that many clients can join next: in processes, or each in a tab of one browser."""
        if tabs:
            browser = next((script for script in self.scripts if script.file == TABS), None)
            browser = browser or (await self.processes(1, TABS))[0]
            await asyncio.gather(*(browser.ask("open", "done", self.next_name(i)) for i in range(count)))
            return [browser] * count
        shared = count - len(alone)
        scripts = await self.processes(len(alone) + -(-shared // self.per_process))
        own, others = scripts[:len(alone)], itertools.cycle(scripts[len(alone):])
        return [own[alone.index(i)] if i in alone else next(others) for i in range(count)]

    async def fill(self, count, apart=0.0, tabs=False, alone=(), urls=None, networks=(NETWORK,)):
        """`count` clients, hub by hub and network by network; those of `alone` have a process of their own."""
        places = await self.places(count, tabs, alone)
        urls = urls or self.hubs.urls
        for i, script in enumerate(places):
            if i and apart:
                await asyncio.sleep(apart)
            self.join(script, urls[i % len(urls)], networks[i % len(networks)])
        self.joined_at = now()
        return self.clients[-count:]

    @staticmethod
    def pairs(clients):
        """(who hears, whom), of those of one network."""
        return [(a, b) for a in clients for b in clients if a is not b and a.network == b.network]

    def unheard(self, clients, since=0.0):
        return [(a, b) for a, b in self.pairs(clients) if not b.id or a.heard.get(b.id, 0) <= since]

    async def all_hear_all(self, clients, patience):
        """When the last pair heard each other first; None if that takes too long."""
        end = now() + patience
        while now() < end:
            if not self.unheard(clients):
                return max((a.heard[b.id] for a, b in self.pairs(clients)), default=now())
            await asyncio.sleep(0.05)
        return None

    async def pieces(self, clients):
        """Of how many pieces the room is: an open connection is one that both ends say is open."""
        links = await asyncio.gather(*(client.linked() for client in clients))
        by_id = {client.id: i for i, client in enumerate(clients)}
        left, count = set(range(len(clients))), 0
        while left:
            count, edge = count + 1, [left.pop()]
            while edge:
                at = edge.pop()
                near = {by_id[peer] for peer in links[at] if peer in by_id} & left
                near = {other for other in near if clients[at].id in links[other]}
                left -= near
                edge += near
        return count

    def faults(self):
        died = [fault for script in self.scripts if (fault := script.fault())]
        return died + self.hubs.faults() + [text for script in self.scripts for text in script.complaints]

    def record(self):
        """What each client told, at seconds since the last of the first ones was told to join."""
        when = lambda told: [(round(at - (self.joined_at or 0), 3), *more) for at, *more in told]
        by_time = lambda times: when((at, peer) for peer, at in times.items())
        return [{"name": it.name, "id": it.id, "network": it.network, "links": when(it.links),
                 "signaling": when(it.signaling), "complaints": when(it.complaints),
                 "discovered": by_time(it.discovered), "heard": by_time(it.heard)} for it in self.clients]

    async def end(self):
        for proxy in self.proxies:
            proxy.end()
        await asyncio.gather(*(script.end() for script in self.scripts))


async def met(room, clients, patience=PATIENCE):
    """How clients found each other: after how many seconds all heard all, since the last one was told to join."""
    at = await room.all_hear_all(clients, patience)
    return {"met": at and at - room.joined_at, "pairs": len(room.pairs(clients)),
            "never_heard": len(room.unheard(clients))}
