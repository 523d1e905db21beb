"""The real thing for the tests of the API: vLLM behind the launcher, a record on disk, uvicorn on a free port."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from feedback import manifest
from feedback.settings import Settings, load_settings
from feedback.store import Store, keys, leases, policies
from feedback.store.policies import Provenance
from serve.app import create_app
from serve.connection import Connection
from serve.record import Record
from tests.clients import client_of
from tests.records import empty_record, empty_record_of

ROOT = Path(__file__).parents[2]
STARTING_POLICY = ROOT / "learner" / "starting_policy" / "weights"
VERSIONS = 3
READY_TIMEOUT_S, PATIENCE_S = 300.0, 60.0

# Enough for the gate.
EVIDENCE = {"evaluation": {"win_rate": {"value": 0.6, "interval": [0.51, 0.69], "count": 100}}}


@dataclass
class Tandem:
    """A running API over a home of its own."""

    settings: Settings
    store: Store
    url: str
    secrets: dict[str, str]
    app: Any

    def client(self, role: str = "operate", **options: Any) -> httpx.Client:
        return client_of(self.url, self.secrets[role], **options)

    @property
    def gateway(self) -> Any:
        return self.app.state.gateway


@pytest.fixture(scope="package", autouse=True)
def patience() -> Iterator[None]:
    """What a request may wait for in this process, of which a busy machine needs more than a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serve.redis_link.TIMEOUT_S", PATIENCE_S)
        patch.setattr("serve.engine.client.ENDING_TIMEOUT_S", PATIENCE_S)
        patch.setattr("serve.engine.admission.PATIENCE_S", READY_TIMEOUT_S)
        yield


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    """An empty one."""
    record = Record(empty_record(tmp_path / "record.db"))
    yield record
    record.close()


@pytest.fixture(scope="session")
def policy_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`v0`, the starting policy, and versions that were nudged away from it."""
    # Not above: most of the tests here need no torch.
    import torch

    from learner.policy import load_policy, save_policy

    root = tmp_path_factory.mktemp("policies")
    for version in range(VERSIONS):
        policy = load_policy(STARTING_POLICY, "cpu")
        torch.manual_seed(version)
        with torch.no_grad():
            for weight in policy.model.parameters():
                weight.add_(torch.randn_like(weight) * weight.std() * 0.03 * (version > 0))
        (root / f"v{version}").mkdir()
        save_policy(policy, root / f"v{version}")
    return root


def make_home(home: Path, folders: Path, database_url: str | None = None) -> tuple[Store, dict[str, str]]:
    """A home in which v0 serves and later versions are candidates, with a key of each role."""
    home.mkdir(parents=True)
    store = Store(load_settings(home=home, database_url=database_url).record_url)
    store.migrate()
    (home / "policies").mkdir()
    epoch = store.write(leases.acquire, leases.LEARNER, "test", 600.0)
    assert epoch is not None
    for folder in sorted(folders.iterdir()):
        version, copy = int(folder.name[1:]), home / "policies" / folder.name
        subprocess.run(["cp", "-r", folder, copy], check=True)
        digest = manifest.write(copy)
        path = f"policies/{folder.name}"
        if version == 0:
            store.write(policies.register_start, path, digest, {})
        else:
            made = Provenance(0, f"itr_{version}", f"digest_{version}", {}, version, EVIDENCE)
            store.write(policies.publish, version, path, digest, made, epoch=epoch)
    secrets = {role: store.write(keys.create, role)[1] for role in ("chat", "vote", "operate")}
    return store, secrets


WITH_TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")


class LauncherProcess:
    """The launcher of a home; ends with its engines."""

    def __init__(self, settings: Settings, extra_args: Sequence[str] = WITH_TOOLS) -> None:
        environment = os.environ | {
            "TANDEM_HOME": str(settings.home),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "TANDEM_ENGINE__SLOTS": str(settings.engine.slots),
            "TANDEM_ENGINE__ADAPTERS": str(settings.engine.adapters),
            "TANDEM_ENGINE__EXTRA_ARGS": json.dumps(extra_args),
        }
        settings.home.mkdir(parents=True, exist_ok=True)
        with (settings.home / "launcher.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serve.engine.launcher"], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class ServerThread:
    """uvicorn with the application, in a thread of this process, on a free port."""

    def __init__(self, settings: Settings) -> None:
        self.app = create_app(settings)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            self.app, http=Connection, log_config=None, access_log=False, timeout_graceful_shutdown=5
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([listener])), daemon=True)

    def start(self) -> None:
        self.thread.start()
        deadline = time.monotonic() + PATIENCE_S
        while not self.server.started:
            assert self.thread.is_alive() and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=2 * PATIENCE_S)
        assert not self.thread.is_alive()


@pytest.fixture(scope="session")
def tandem(tmp_path_factory: pytest.TempPathFactory, policy_folders: Path) -> Iterator[Tandem]:
    """One running Tandem with two real engines, shared by all tests of the session. v0 serves at first."""
    with serving(tmp_path_factory.mktemp("tandem") / "home", policy_folders) as running:
        yield running


@contextmanager
def serving(
    home: Path, policy_folders: Path, slots: int = 2, extra_args: Sequence[str] = WITH_TOOLS
) -> Iterator[Tandem]:
    """A running Tandem with real engines, which were started with `extra_args`."""
    store, secrets = make_home(home, policy_folders)
    settings = load_settings(home=home, engine={"slots": slots})
    launcher, server = LauncherProcess(settings, extra_args), ServerThread(settings)
    server.start()
    try:
        running = Tandem(settings, store, server.url, secrets, server.app)
        wait_until_ready(running, slots)
        yield running
    finally:
        server.stop()
        launcher.stop()
        store.close()


def wait_until_ready(running: Tandem, slots: int = 2) -> None:
    """Until every engine takes chats."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while sum(slot.state == "ready" for slot in running.gateway.pool.slots) < slots:
        assert time.monotonic() < deadline, "the engines did not come up"
        time.sleep(0.2)


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Tandem]:
    """A Tandem without engines: for what does not need any."""
    with without_engines(tmp_path / "home") as running:
        yield running


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tandem]:
    """One without engines for all tests of a file that ask for what is refused, and change nothing."""
    with without_engines(tmp_path_factory.mktemp("refusing") / "home") as running:
        yield running


@contextmanager
def another_process(tandem: Tandem, **serve: Any) -> Iterator[Tandem]:
    """A second API process on the same engines and record, with other settings of `serve`."""
    settings = tandem.settings.serve.model_copy(update=serve)
    server = ServerThread(tandem.settings.model_copy(update={"serve": settings}))
    server.start()
    try:
        other = replace(tandem, url=server.url, app=server.app)
        wait_until_ready(other)
        yield other
    finally:
        server.stop()


@contextmanager
def without_engines(home: Path, **changed: Any) -> Iterator[Tandem]:
    settings = load_settings(home=home, **changed)
    home.mkdir()
    store = empty_record_of(settings)
    secrets = {role: store.write(keys.create, role)[1] for role in ("chat", "vote", "operate")}
    server = ServerThread(settings)
    server.start()
    try:
        yield Tandem(settings, store, server.url, secrets, server.app)
    finally:
        server.stop()
        store.close()
