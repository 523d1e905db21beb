"""The API process of one home, from its settings until its last reply has ended."""

import asyncio
import gc
import resource
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from types import FrameType

import uvicorn
import uvloop
from uvicorn.server import ServerState

from feedback import logs, tracing
from feedback.settings import Settings
from serve.app import create_app
from serve.connection import Connection

# Little of what a chat leaves behind is cyclic: Python's own 700 has it searched every few dozen tokens.
GARBAGE_THRESHOLDS = (20_000, 20, 20)
# The 1,024 open files that a process begins with are soon taken by clients that ask for nothing.
CONNECTIONS = 65_536


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    logs.configure(settings)
    allow_connections()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    tracing.configure(settings.tracing, "api")
    try:
        uvloop.run(serve(settings))
    finally:
        tracing.stop()


def allow_connections() -> None:
    """Have as many at a time as the system lets this process have."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(allowed, min(most, CONNECTIONS)), most))


class Dated(ServerState):
    """Looks at the clock when an answer needs a date, and not again and again."""

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        super().__init__()
        self._headers = headers
        self._second = 0

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._dated = [(b"date", formatdate(second, usegmt=True).encode()), *self._headers]
        return self._dated

    @default_headers.setter
    def default_headers(self, _: list[tuple[bytes, bytes]]) -> None:
        """Uvicorn's own, without a date."""


class Server(uvicorn.Server):
    """Sleeps until there is something to do, and says that the end has begun: streams that would go on for ever end by
    themselves then.
    """

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.server_state = Dated(self.config.encoded_headers)
        await super().startup(sockets)
        # What is there by now stays: it need not be searched for garbage again and again.
        gc.collect()
        gc.freeze()

    async def main_loop(self) -> None:
        """Uvicorn's looks ten times a second whether it is to end."""
        await self._ending.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._ending.set()
        self._on_exit()


async def serve(settings: Settings) -> None:
    """Listen until SIGTERM or SIGINT, then let the replies in flight end."""
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.serve.host,
        port=settings.serve.port,
        http=Connection,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.serve.drain_timeout_s)),
    )
    await Server(config, app.state.gateway.stopping.set).serve()
