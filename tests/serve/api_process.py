"""The API process as one of its own, what is asked of it, and which engines are there."""

import json
import os
import socket
import subprocess
import sys
import time
from typing import Any, Protocol

import httpx

from feedback.settings import Settings
from tests.clients import client_of
from tests.ports import free_port
from tests.serve.chats import Served
from tests.serve.conftest import ROOT


class Process:
    """`python -m serve` on a home."""

    def __init__(self, settings: Settings, secret: str, slots: int = 1, **variables: str) -> None:
        self.settings = settings
        self.secret = secret
        self.variables = {"TANDEM_ENGINE__SLOTS": str(slots)} | variables
        self.port = free_port()
        self.start()

    def start(self) -> None:
        environment = os.environ | {
            "TANDEM_HOME": str(self.settings.home), "TANDEM_SERVE__PORT": str(self.port), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        environment |= self.variables
        with (self.settings.home / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serve"], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    def client(self) -> httpx.Client:
        return client_of(f"http://127.0.0.1:{self.port}", self.secret)

    def wait_until_ready(self, timeout_s: float) -> float:
        began = time.monotonic()
        with self.client() as client:
            while time.monotonic() < began + timeout_s:
                try:
                    if client.get("/readyz").status_code == 200:
                        return time.monotonic() - began
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
        raise TimeoutError("not ready")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        return (self.settings.home / "serve.log").read_text()


class WithEngines(Protocol):
    @property
    def settings(self) -> Settings: ...


def engine_pid(running: WithEngines, slot: int = 0) -> int:
    """Of the server in the slot, as the launcher says."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(running.settings.run_dir / "engines.sock"))
        connection.sendall(b'{"do": "status"}\n')
        return int(json.loads(connection.makefile().readline())["slots"][slot]["pid"])


def promote(served: Served, version: str, **body: Any) -> httpx.Response:
    with served.client() as client:
        return client.post(f"/v1/policies/{version}/promote", json={"reason": "test"} | body)
