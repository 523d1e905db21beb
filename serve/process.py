"""The API process of one home, from its settings until its last reply has ended."""

import asyncio
import gc
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
import uvloop

from feedback import logs, tracing
from feedback.settings import Settings
from serve.app import create_app

# Little of what a chat leaves behind is cyclic: Python's own 700 has it searched every few dozen tokens.
GARBAGE_THRESHOLDS = (20_000, 20, 20)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    logs.configure(settings)
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    tracing.configure(settings.tracing, "api")
    try:
        uvloop.run(serve(settings))
    finally:
        tracing.stop()


class Server(uvicorn.Server):
    """Says that the end has begun: streams that would go on for ever end by themselves then."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is there by now stays: it need not be searched for garbage again and again.
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_exit()
        super().handle_exit(sig, frame)


async def serve(settings: Settings) -> None:
    """Listen until SIGTERM or SIGINT, then let the replies in flight end."""
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.serve.host,
        port=settings.serve.port,
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.serve.drain_timeout_s)),
    )
    loop, gateway = asyncio.get_running_loop(), app.state.gateway
    await Server(config, lambda: loop.call_soon_threadsafe(gateway.stopping.set)).serve()
