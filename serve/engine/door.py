"""In the engine's process, before everything of vLLM's: a chat is let in only while the engine holds the weights that
it was routed for, and weights change only when every chat that was let in has ended.

So however many API processes drive one engine, and however late one of them hears of a change, no reply is written by
other weights than those it is recorded under. vLLM's own pause does not give this: a chat that it has read but not
queued yet would wait through the change and then be answered by the new weights.
"""

import asyncio
from contextvars import ContextVar

from serve.asgi import App, Receive, Scope, Send, disconnected, header

# On a chat: the weights it was routed for. On NAMING: what the engine holds from now on. On what changes the weights:
# that they are a version's no more.
WEIGHTS_HEADER = "x-tandem-weights"
NAMING = "/update_weight_version"
PAUSING = "/pause"
OTHER_WEIGHTS = 412
# On a chat whose reply is to have a form: the key that asks for it. It is known wherever that chat is dealt with.
KEY_HEADER = "x-tandem-key"
ASKED_BY: ContextVar[bytes] = ContextVar("asked_by", default=b"")


class Door:
    """ASGI middleware; `holds` is the name of the weights, None until it has been said."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.holds: bytes | None = None
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        named = header(scope, WEIGHTS_HEADER) if scope["type"] == "http" else None
        if named is None:
            if scope.get("path") != PAUSING or await self._is_empty_in_time(receive):
                await self.app(scope, receive, send)
        elif scope["path"] == NAMING:
            self.holds = named
            await self.app(scope, receive, send)
        elif named != self.holds:
            await _refuse(send)
        else:
            await self._let_in(scope, receive, send)

    async def _is_empty_in_time(self, receive: Receive) -> bool:
        """False when whoever asked has given up: paused then, the engine would stay so."""
        given_up, empty = asyncio.ensure_future(disconnected(receive)), asyncio.ensure_future(self._empty.wait())
        try:
            await asyncio.wait({given_up, empty}, return_when=asyncio.FIRST_COMPLETED)
            return not given_up.done()
        finally:
            given_up.cancel()
            empty.cancel()

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        ASKED_BY.set(header(scope, KEY_HEADER) or b"")
        self._inside += 1
        self._empty.clear()
        try:
            await self.app(scope, receive, send)
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()


async def _refuse(send: Send) -> None:
    await send({"type": "http.response.start", "status": OTHER_WEIGHTS, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
