"""The server sleeps between requests, dates its answers all the same, and ends when it is told to."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from serve.process import Server
from tests.ports import free_port
from tests.serve.conftest import ROOT


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
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=False, trust_env=False) as client:
            for pause_s in (0, 1.05):
                await asyncio.sleep(pause_s)
                before = int(time.time())
                answer = await client.get("/")
                dated = [value for name, value in answer.headers.raw if name.lower() == b"date"]
                assert len(dated) == 1
                assert before <= parsedate_to_datetime(dated[0].decode()).timestamp() <= time.time()
        assert not serving.done() and ended == []
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(30):
            await serving
        assert ended == ["ended"]
    finally:
        serving.cancel()
        signal.signal(signal.SIGTERM, before_it)


def test_clients_that_ask_for_nothing_do_not_keep_others_out(tmp_path: Path) -> None:
    few = 128
    port = free_port()
    environment = os.environ | {
        "TANDEM_HOME": str(tmp_path / "home"), "TANDEM_SERVE__PORT": str(port), "PYTHONPATH": str(ROOT)
    }  # fmt: skip
    (tmp_path / "home").mkdir()
    command = [sys.executable, "-m", "serve"]
    # As of a shell that did not ask for more.
    limited = ["sh", "-c", f'ulimit -S -n {few}; exec "$@"', "sh", *command]
    with subprocess.Popen(limited, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
                wait_until_it_answers(client)
                with contextlib.ExitStack() as idle:
                    for _ in range(2 * few):
                        idle.enter_context(socket.create_connection(("127.0.0.1", port)))
                    fresh = httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False, timeout=30)
            assert fresh.status_code == 200
        finally:
            process.terminate()


def wait_until_it_answers(client: httpx.Client) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            assert client.get("/healthz").status_code == 200
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return
