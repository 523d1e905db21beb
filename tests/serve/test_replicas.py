"""Three engine replicas: a promotion brings them over one after the other while chats go on, and the last one keeps
what served before.
"""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback.schema import Sample
from feedback.settings import load_settings
from tests.serve.conftest import LauncherProcess, ServerThread, Tandem, make_home, wait_until_ready
from tests.serve.test_chat import chat
from tests.serve.test_swap import promote

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, policy_folders: Path) -> Iterator[Tandem]:
    home = tmp_path_factory.mktemp("replicas") / "home"
    store, secrets = make_home(home, policy_folders)
    settings = load_settings(home=home, engine={"slots": 3})
    launcher, server = LauncherProcess(settings), ServerThread(settings)
    server.start()
    try:
        running = Tandem(settings, store, server.url, secrets, server.app)
        wait_until_ready(running, slots=3)
        yield running
    finally:
        server.stop()
        launcher.stop()
        store.close()


def test_they_change_one_after_the_other_and_nobody_fails(replicas: Tandem) -> None:
    stopping, failures, ids = threading.Event(), list[str](), list[str]()
    ready: list[int] = []

    def chat_on() -> None:
        with replicas.client("chat") as client:
            while not stopping.is_set():
                request = chat(stream=True, max_tokens=24, ignore_eos=True)
                with client.stream("POST", "/v1/chat/completions", json=request) as answer:
                    lines = [line for line in answer.iter_lines() if line]
                    ids.append(answer.headers["x-request-id"])
                chunks = [json.loads(line[6:]) for line in lines[:-1]]
                if lines[-1] != "data: [DONE]" or len({chunk["system_fingerprint"] for chunk in chunks}) != 1:
                    failures.append(lines[-1])

    def count() -> None:
        while not stopping.is_set():
            ready.append(sum(slot.state == "ready" for slot in replicas.gateway.pool.slots))
            time.sleep(0.002)

    threads = [threading.Thread(target=work) for work in (*[chat_on] * 6, count)]
    for thread in threads:
        thread.start()
    try:
        held = []
        for version in (1, 2, 0):
            before = replicas.gateway.pool.serving
            assert promote(replicas, f"v{version}").status_code == 200
            held.append(
                (sorted(slot.version for slot in replicas.gateway.pool.slots), sorted([version] * 2 + [before]))
            )
            time.sleep(0.3)
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert failures == [] and len(ids) > 10
    assert all(found == expected for found, expected in held)
    assert min(ready) == 2, "more than one engine was away at once, or none ever was"

    def mixed(session: object) -> int:
        rows = session.query(Sample).filter(Sample.request_id.in_(ids)).all()  # type: ignore[attr-defined]
        return sum(row.version_first != row.version_last for row in rows)

    assert replicas.store.read(mixed) == 0
