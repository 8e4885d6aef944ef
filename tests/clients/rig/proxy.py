"""Between a client and its hub: passes bytes on, until the connection is broken or falls silent."""

import asyncio
import socket
import struct


class Proxy:
    def __init__(self, port):
        self.hub_port, self.ends = port, set()
        self.passing = asyncio.Event()
        self.passing.set()

    async def open(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = "ws://127.0.0.1:{}".format(self.server.sockets[0].getsockname()[1])
        return self

    async def serve(self, reader, writer):
        try:
            hub_reader, hub_writer = await asyncio.open_connection("127.0.0.1", self.hub_port)
        except OSError:
            reset(writer)
            return
        both = {writer, hub_writer}
        self.ends |= both
        try:
            await asyncio.gather(self.pass_on(reader, hub_writer), self.pass_on(hub_reader, writer))
        finally:
            self.ends -= both
            for end in both:
                end.close()

    async def pass_on(self, reader, writer):
        try:
            while data := await reader.read(65536):
                await self.passing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        await self.passing.wait()
        writer.close()

    def cut(self):
        """Resets every connection, at both ends; new ones pass."""
        for end in self.ends:
            reset(end)

    def silence(self):
        """Nothing passes any more, and nobody is told."""
        self.passing.clear()

    def end(self):
        self.passing.set()
        self.cut()
        self.server.close()


def reset(writer):
    if (connection := writer.get_extra_info("socket")) is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
