"""Three engine replicas: a promotion brings them over one after the other while chats go on, and the last one keeps
what served before.
"""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.api_process import promote
from tests.serve.chats import chatting
from tests.serve.conftest import Tandem, serving
from tests.waiting import wait_for

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, policy_folders: Path) -> Iterator[Tandem]:
    with serving(tmp_path_factory.mktemp("replicas") / "home", policy_folders, slots=3) as running:
        yield running


def test_they_change_one_after_the_other_and_nobody_fails(replicas: Tandem) -> None:
    ready, changed = list[int](), threading.Event()

    def count() -> None:
        while not changed.is_set():
            ready.append(sum(slot.state == "ready" for slot in replicas.gateway.pool.slots))
            time.sleep(0.002)

    counting = threading.Thread(target=count)
    counting.start()
    try:
        with chatting(replicas, people=6) as chats:
            for version in (1, 2, 0):
                before = replicas.gateway.pool.serving
                assert promote(replicas, f"v{version}").status_code == 200
                held = sorted(slot.version for slot in replicas.gateway.pool.slots)
                assert held == sorted([version] * 2 + [before])
                answered = len(chats.ids) + 12
                wait_for(lambda answered=answered: len(chats.ids) >= answered, 60, "chats after the promotion")
    finally:
        changed.set()
        counting.join()
    assert chats.failures == [] and chats.versions(replicas.store) >= {0, 1, 2}
    assert min(ready) == 2, "more than one engine was away at once, or none ever was"
