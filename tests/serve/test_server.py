"""The server sleeps between requests, dates its answers all the same, and ends when it is told to."""

import asyncio
import os
import signal
import time
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import uvicorn

from serve.process import Server


async def hello(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def test_answers_are_dated_by_the_second_they_were_given_in() -> None:
    ended: list[str] = []
    config = uvicorn.Config(
        hello,
        port=0,
        lifespan="off",
        log_config=None,
        server_header=False,
        http="httptools",  # type: ignore[arg-type]
    )
    server = Server(config, lambda: ended.append("ended"))
    # Uvicorn raises a signal again at its end, for whoever else listens.
    before_it = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            for _ in range(2):
                before = int(time.time())
                answer = await client.get("/")
                dated = [value for name, value in answer.headers.raw if name.lower() == b"date"]
                assert len(dated) == 1
                assert before <= parsedate_to_datetime(dated[0].decode()).timestamp() <= time.time()
                await asyncio.sleep(1.05)
        assert not serving.done() and ended == []
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10):
            await serving
        assert ended == ["ended"]
    finally:
        serving.cancel()
        signal.signal(signal.SIGTERM, before_it)
