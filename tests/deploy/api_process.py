"""A real API process over a temporary home, without engines: enough for all that needs no reply."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from deploy.running import StackState, prepare_home, take_home, write_state
from feedback.lifeline import tied
from tests.clients import client_of
from tests.deploy.command_line import ROOT
from tests.ports import free_port
from tests.waiting import wait_for

START_TIMEOUT_S = 120


@contextmanager
def api_process(home: Path) -> Iterator[str]:
    """Its address; the process is gone afterwards."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    process = subprocess.Popen(
        # A test that runs out of time ends the whole test process, with no chance to clean up.
        tied([sys.executable, "-m", "serve", "--home", str(home)]),
        cwd=ROOT,
        env=environment | {"TANDEM_SERVE__PORT": str(port), "TANDEM_SERVE__DRAIN_TIMEOUT_S": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        with client_of(url) as asking:
            wait_for(lambda: alive(asking), START_TIMEOUT_S, "the API process", by=process, pause_s=0.1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def running_at(home: Path, url: str) -> Iterator[None]:
    """This process holds the home, as a supervisor would, and says that the API is at `url`."""
    prepare_home(home)
    with take_home(home):
        write_state(home, StackState(os.getpid(), "ready", url, time.time()))
        yield


def alive(asking: httpx.Client) -> bool:
    try:
        return asking.get("/healthz").is_success
    except httpx.TransportError:
        return False
