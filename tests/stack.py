"""A whole Tandem for a test, started as a user starts it: `tandem up` in a home of its own on a free port."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from feedback.settings import load_settings
from feedback.store import Store
from tests.clients import client_of
from tests.ports import free_port
from tests.waiting import wait_for

ROOT = Path(__file__).parents[1]
READY_TIMEOUT_S = 300
STOP_TIMEOUT_S = 120


@dataclass(frozen=True)
class Stack:
    """A running stack: where its home and its address are, and the operator's key."""

    home: Path
    url: str
    key: str
    process: subprocess.Popen[bytes]

    @property
    def secrets(self) -> dict[str, str]:
        """The keys by role."""
        return {"operate": self.key}

    @property
    def env(self) -> dict[str, str]:
        """The environment of a user who works with this stack."""
        return os.environ | {"TANDEM_HOME": str(self.home), "TANDEM_URL": self.url, "TANDEM_KEY": self.key}

    def client(self) -> httpx.Client:
        return client_of(self.url, self.key, timeout=300)

    def store(self) -> Store:
        return Store(load_settings(home=self.home).record_url)

    def tandem(self, *arguments: str) -> str:
        """What `tandem ...` prints; it must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "deploy.command", *arguments],
            env=self.env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"tandem {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def children(self) -> list[psutil.Process]:
        """All processes under it; none when it was killed."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


@contextmanager
def running_stack(home: Path, port: int | None = None, **env: str) -> Iterator[Stack]:
    """A stack that is ready; afterwards it must end by itself and leave no process behind."""
    port = port or free_port()
    log = home.parent / f"{home.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.command", "up", "--home", home, "--port", str(port)],
            env=os.environ | env, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    stack = None
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: ready(url, process, log), READY_TIMEOUT_S, "the stack to be ready", pause_s=0.2)
        stack = Stack(home, url, (home / "operator.key").read_text().strip(), process)
        children = stack.children()
        yield stack
        children += stack.children()
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    wait_for(lambda: not any(alive(child) for child in children), STOP_TIMEOUT_S, "every process to end")


def ready(url: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, f"tandem up ended with {process.returncode}:\n{log.read_text()[-3000:]}"
    with client_of(url, timeout=5) as asking:
        try:
            return asking.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
