"""One request to an engine over its unix socket, and its answer as it comes.

A connection carries one request: closing it is how a reply is stopped. A whole one is ended by its id before
(`serve.engine.client`), since what was written of it comes with its answer only. The parser is the one that uvicorn
runs on; a general HTTP client costs several times as much for each streamed chunk.
"""

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from feedback.errors import TandemError


class EngineLost(TandemError):
    """The engine did not answer, or its answer broke off."""

    code = "engine_unavailable"
    status = 503


class GaveUp(EngineLost):
    """The engine gave up on this reply, and lives: what was asked for may be more than it can do."""


class OtherWeights(EngineLost):
    """The engine does not hold, or not any more, what the chat was routed for."""


def data_of(block: bytes) -> list[bytes]:
    """Of whole server-sent events."""
    # A line at a time: a single byte is found much faster than two.
    return [line[6:] for line in block.split(b"\n") if line.startswith(b"data: ")]


def nothing() -> None:
    """For who does not want to be told."""


class Transfer(asyncio.Protocol):
    """One request to an engine and the answer as far as it has come.

    `on_progress` is called for each read that brought some of the body, `on_end` once, when nothing more will come.
    Both are there from the beginning: an answer may be whole before whoever asked runs again. `on_news` is called after
    either, and may be set later.
    """

    def __init__(self, request: bytes, on_progress: Callable[[], None], on_end: Callable[[], None]) -> None:
        self.status = 0
        self.ended = False
        self.lost = False
        self.on_news = nothing
        self._pieces: list[bytes] = []
        # The parser calls it for each token: nothing of ours lies between.
        self.on_body = self._pieces.append
        self._is_whole = False
        self._on_progress = on_progress
        self._on_end = on_end
        self._request = request
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Until something has come since the last look, or the end."""
        if self.ended:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    async def wait_for_status(self) -> int:
        """The status of the answer. Raises EngineLost when there is none."""
        while not self.status and not self.ended:
            await self.wait()
        if not self.status:
            raise EngineLost("the engine closed the connection without an answer")
        return self.status

    async def wait_for_end(self) -> bytes:
        """The whole body. Raises EngineLost when it broke off."""
        while not self.ended:
            await self.wait()
        if self.lost:
            raise EngineLost("the engine's answer broke off")
        return b"".join(self._pieces)

    def take_events(self) -> list[bytes]:
        """The data of the server-sent events that are complete by now, each taken once."""
        if not self._pieces:
            return []
        block = b"".join(self._pieces)
        self._pieces.clear()
        # Nearly always they are: an engine sends whole events.
        if not block.endswith(b"\n\n"):
            block, _, rest = block.rpartition(b"\n\n")
            self._pieces.append(rest)
        return data_of(block)

    def close(self) -> None:
        """Stop the request: the engine gives up on a reply that nobody reads."""
        if self._transport is not None:
            self._transport.abort()
        self._end(lost=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport without being any.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if not self._is_whole:
                self.close()
                return
        if self._pieces:
            self._on_progress()
        if self._is_whole:
            self._end(lost=False)
        elif self._waiter is not None:
            self._tell()
        else:
            self.on_news()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(lost=True)

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self.status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        self._is_whole = True

    def _end(self, *, lost: bool) -> None:
        if self.ended:
            return
        self.ended, self.lost = True, lost
        if self._transport is not None:
            self._transport.close()
        self._on_end()
        self._tell()
        # They hold this one, too: together they would stay, with all that the request holds, until garbage is searched
        # for, which every stream waits for.
        self._parser, self._on_progress, self._on_end, self.on_news = None, nothing, nothing, nothing

    def _tell(self) -> None:
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None
        self.on_news()
