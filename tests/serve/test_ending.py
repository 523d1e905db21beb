"""SIGTERM in the midst of a promotion's drain: nobody's chat fails while there is time, what serves afterwards is what
the record says, and the record says what became of the promotion.
"""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from feedback.settings import load_settings
from feedback.store import Store, policies
from tests.serve.api_process import Process
from tests.serve.chats import chat
from tests.serve.conftest import LauncherProcess, make_home

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

CLIENTS = 4
# Nearly all that the built-in policy can write.
LENGTH = 460
# For those chats on any machine.
ENOUGH_S = "100"


class Home:
    """A home whose API process the test ends and starts again."""

    def __init__(self, folder: Path, policy_folders: Path, slots: int) -> None:
        self.store, secrets = make_home(folder, policy_folders)
        settings = load_settings(home=folder, engine={"slots": slots})
        self.launcher = LauncherProcess(settings)
        self.process = Process(settings, secrets["operate"], slots)
        self.client = self.process.client()

    def stop(self) -> None:
        self.client.close()
        self.process.end()
        self.launcher.stop()
        self.store.close()

    def all_ready(self) -> bool:
        """Whether every engine takes chats."""
        lines = self.client.get("/metrics").text.splitlines()
        return all(line.endswith(" 1.0") for line in lines if line.startswith("tandem_engine_ready{"))

    def restart(self, **variables: str) -> None:
        self.process.variables |= variables
        self.end()
        self.process.start()
        self.process.wait_until_ready(120)
        while not self.all_ready():
            time.sleep(0.1)

    def end(self) -> None:
        self.process.process.send_signal(signal.SIGTERM)
        assert self.process.process.wait(timeout=150) in (0, -signal.SIGTERM)


@pytest.fixture(scope="module", params=[1, 2], ids=["in place", "by flip"])
def home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, policy_folders: Path
) -> Iterator[Home]:
    running = Home(tmp_path_factory.mktemp("ending") / "home", policy_folders, request.param)
    try:
        running.process.wait_until_ready(300)
        yield running
    finally:
        running.stop()


class Client(threading.Thread):
    """Chats on until the process takes no more. `ends` are the last lines of the answers."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self.writing = threading.Event()
        self.ends: list[str] = []

    def run(self) -> None:
        with self.process.client() as client:
            while self.chat(client):
                pass

    def chat(self, client: httpx.Client) -> bool:
        body = chat(stream=True, max_tokens=LENGTH, ignore_eos=True)
        last = ""
        try:
            with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                for line in filter(None, answer.iter_lines()):
                    self.writing.set()
                    last = line
        except httpx.TransportError:
            if not last:
                return False
        self.ends.append(last)
        return True


def promote_and_end(home: Home, version: str) -> tuple[httpx.Response, set[str]]:
    """SIGTERM while an engine lets nobody in for a promotion: what that is answered with, and how chats ended."""
    clients, answers = [Client(home.process) for _ in range(CLIENTS)], list[httpx.Response]()

    def promote() -> None:
        with home.process.client() as client:
            answers.append(client.post(f"/v1/policies/{version}/promote", json={"reason": "test"}))

    promoting = threading.Thread(target=promote)
    for client in clients:
        client.start()
    for client in clients:
        assert client.writing.wait(60)
    promoting.start()
    while home.all_ready():
        assert promoting.is_alive(), "it was over before it was seen"
        time.sleep(0.02)
    home.end()
    for thread in (promoting, *clients):
        thread.join()
    return answers[0], {end for client in clients for end in client.ends}


def serving(store: Store) -> str:
    policy = store.read(policies.serving)
    assert policy is not None
    return f"v{policy.version}"


@pytest.mark.parametrize("drain_timeout_s", [ENOUGH_S, "1"])
def test_sigterm_while_an_engine_is_drained_for_a_promotion(home: Home, drain_timeout_s: str) -> None:
    home.restart(TANDEM_SERVE__DRAIN_TIMEOUT_S=drain_timeout_s)
    before = serving(home.store)
    version = "v2" if before == "v1" else "v1"
    answer, ends = promote_and_end(home, version)
    attempt = home.store.read(policies.promotions, int(version[1:]))[-1]
    if drain_timeout_s == ENOUGH_S:
        assert ends == {"data: [DONE]"} and answer.status_code == 200
    assert (answer.status_code, attempt.outcome, serving(home.store)) in (
        (200, "succeeded", version), (503, "failed", before),
    )  # fmt: skip
    home.process.start()
    home.process.wait_until_ready(120)
    said = home.client.post("/v1/chat/completions", json=chat()).json()
    assert said["system_fingerprint"] == serving(home.store)
