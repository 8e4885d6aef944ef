"""The scenes. Each plays one round in a room and returns what was seen, as plain data."""

import asyncio

from .children import now

PATIENCE = 20.0  # seconds that clients get to hear each other
IN_TIME = 10.0
LARGE = 8  # clients from which on it matters whether the room is one piece
SIZES = (2, 3, 4, 5, 6, 8, 12, 16, 24, 32)


def pace(count):
    """Milliseconds between two messages of a client: all of a large room speak as much as the machine bears."""
    return 250 if count <= 6 else 500 if count <= 8 else 1000


class Scene:
    hubs = ("js", "one", "three")

    def __init__(self, name, count, what):
        self.name, self.count, self.what = name, count, what

    @property
    def chat(self):
        return pace(self.count)


class Meeting(Scene):
    """So many clients, at once or one after another."""

    def __init__(self, count, apart):
        name = f"{count}-apart" if apart else f"{count}-at-once"
        super().__init__(name, count, f"{count} clients, {'300 ms apart' if apart else 'at once'}")
        self.apart = 0.3 if apart else 0.0

    async def play(self, room, options):
        clients = await room.fill(self.count, self.apart)
        pieces = {}
        if self.count >= LARGE:
            looks = asyncio.create_task(look(room, clients, pieces))
            met = await room.all_hear_all(clients, 62)
            await looks
        else:
            met = await room.all_hear_all(clients, PATIENCE)
        seen = {"met": met and met - room.joined_at, "pairs": len(room.pairs(clients)),
                "never_heard": len(room.unheard(clients))}
        if pieces:
            seen |= {"pieces": pieces, "delivered": await delivered(room, clients)}
        return seen


async def look(room, clients, pieces):
    for after in (10, 60):
        await asyncio.sleep(room.joined_at + after - now())
        pieces[after] = await room.pieces(clients)


async def delivered(room, clients, last=20.0):
    """The share of the messages of the last seconds that arrived at each other client."""
    told = await asyncio.gather(*(client.hearing() for client in clients))
    end = now() - 2
    during = lambda times: sum(end - last < at < end for at in times)
    by_id = {client.id: said for client, (_, said) in zip(clients, told)}
    said = sum(during(by_id[b.id]) for _, b in room.pairs(clients))
    arrived = sum(during(heard.get(b.id, [])) for a, (heard, _) in zip(clients, told)
                  for b in clients if b is not a and b.network == a.network)
    return arrived / said if said else 0.0


SCENES = {scene.name: scene for scene in [
    *(Meeting(count, apart) for count in SIZES for apart in (False, True)),
]}
