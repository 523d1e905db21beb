"""A TCP port before a unix socket: for peers that cannot speak to one, and as the least that a gateway in Python can
do, which is to pass bytes on. `python -m benchmarks.relay SOCKET PORT`.
"""

import asyncio
import sys
from typing import cast


class Side(asyncio.Protocol):
    """One end of a connection; `other` is None until the other end is there."""

    def __init__(self, other: "Side | None" = None) -> None:
        self.other = other
        self.early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport without being any.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early += data
        else:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()


class Client(Side):
    """Whoever connects: the engine is called for them."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.calling = asyncio.ensure_future(self._call())

    async def _call(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, engine = await loop.create_unix_connection(lambda: Side(self), sys.argv[1])
        except OSError:
            self.transport.close()
            return
        self.other = engine
        engine.transport.write(self.early)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Client, "127.0.0.1", int(sys.argv[2]))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
