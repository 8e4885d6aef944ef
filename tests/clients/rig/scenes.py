"""The scenes. Each plays one round in a room and returns what was seen, as plain data."""

import asyncio

from .children import now
from .events import EVENTS, Event, TwoNetworks
from .room import met
from .tabs import TABS

LARGE = 8  # clients from which on it matters whether the room is one piece
LOOKS = (10, 60)  # seconds after the last one joined, at which that is looked at
SIZES = (2, 3, 4, 5, 6, 8, 12, 16, 24, 32)


def pace(count):
    """Milliseconds between two messages of a client: all of a large room speak as much as a machine bears."""
    return 250 if count <= 6 else 500 if count <= 8 else 1000


class Meeting:
    """So many clients, at once or one after another."""

    hubs = ("js", "one", "three")

    def __init__(self, count, apart):
        self.count, self.chat, self.apart = count, pace(count), 0.3 if apart else 0.0
        self.name = f"{count}-apart" if apart else f"{count}-at-once"
        self.what = f"{count} clients, {'300 ms apart' if apart else 'at once'}"

    async def play(self, room, options):
        clients = await room.fill(self.count, self.apart)
        if self.count < LARGE:
            return await met(room, clients)
        pieces = {}
        _, seen = await asyncio.gather(look(room, clients, pieces), met(room, clients, LOOKS[-1] + 2))
        return seen | {"pieces": pieces, "delivered": await delivered(room, clients)}


async def look(room, clients, pieces):
    for after in LOOKS:
        await asyncio.sleep(room.joined_at + after - now())
        pieces[after] = await room.pieces(clients)


async def delivered(room, clients, last=20.0):
    """The share of the messages of the last seconds that arrived at each other client."""
    told = await asyncio.gather(*(client.hearing() for client in clients))
    end = now() - 2
    during = lambda times: sum(end - last < at < end for at in times)
    by_id = {client.id: said for client, (_, said, _) in zip(clients, told)}
    said = sum(during(by_id[b.id]) for _, b in room.pairs(clients))
    arrived = sum(during(heard.get(b.id, [])) for a, (heard, _, _) in zip(clients, told)
                  for b in clients if b is not a and b.network == a.network)
    return arrived / said if said else 0.0


ALL = [
    *(Meeting(count, apart) for count in SIZES for apart in (False, True)),
    *EVENTS,
    *TABS,
]
SCENES = {scene.name: scene for scene in [*ALL, *(scene.in_a_call() for scene in ALL if isinstance(scene, Event)
                                                 and not isinstance(scene, TwoNetworks))]}
