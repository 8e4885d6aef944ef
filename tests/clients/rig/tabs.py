"""Scenes with tabs of Chromium, each in a window of its own."""

import asyncio

from .children import now
from .events import Event
from .room import met


class TabsMeet:
    hubs, chat = ("js", "one", "three"), 250

    def __init__(self, count):
        self.count, self.name, self.what = count, f"tabs-{count}", f"{count} tabs, at once"

    async def play(self, room, options):
        return await met(room, await room.fill(self.count, tabs=True))


class TabEvent(Event):
    tabs = True


class Reloaded(TabEvent):
    """The page says goodbye as it goes, and its next client has an id of its own."""

    async def happen(self, play):
        client, room = play.clients[0], play.room
        play.touched, client.gone, play.calm = {client}, True, now()
        await client.script.ask("reload", "done", client.name, **{"as": room.next_name()})
        play.fresh = [room.join(client.script, room.hubs.urls[0])]


class Closed(TabEvent):
    async def happen(self, play):
        play.gone = client = play.clients[0]
        play.touched, client.gone = {client}, True
        await client.script.ask("shut", "done", client.name)


class Hidden(TabEvent):
    """Another tab is in front of it to the end: its timers run once a second."""

    async def happen(self, play):
        client = play.clients[0]
        play.blind = {client}
        await client.script.ask("hide", "done", client.name)


class Frozen(TabEvent):
    """As phones do with what is in the background: nothing of the page runs."""

    async def happen(self, play):
        client = play.clients[0]
        play.touched = {client}
        for cmd in ("hide", "freeze"):
            await client.script.ask(cmd, "done", client.name)
        await asyncio.sleep(10)
        play.calm = now()
        for cmd in ("thaw", "show"):
            await client.script.ask(cmd, "done", client.name)


TABS = [
    TabsMeet(2), TabsMeet(4),
    TabEvent("tabs-quiet", "four tabs, and nothing happens"),
    Reloaded("tab-reloaded", "a tab is reloaded"),
    Closed("tab-closed", "a tab is closed"),
    Hidden("tab-hidden", "a tab is in the background"),
    Frozen("tab-frozen", "a tab is frozen for 10 s"),
]
