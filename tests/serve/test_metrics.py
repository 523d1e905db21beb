"""What /metrics shows of an iteration and of the disk, as it changes; the rest is held where it is counted."""

import re
import shutil
import time

import pytest

from feedback.queue import COUNT_VOTES, RUN_ITERATION, make_celery, send
from feedback.store import iterations
from tests.serve.chats import chat
from tests.serve.conftest import Tandem
from tests.serve.redis_server import redis_server


def shown(quiet: Tandem) -> dict[str, float]:
    with quiet.client() as client:
        text = client.get("/metrics").raise_for_status().text
    return {name: float(value) for name, value in re.findall(r"^(tandem_\S+) (\S+)$", text, re.MULTILINE)}


def test_an_iteration_is_shown_in_its_stage_and_gone_when_it_has_ended(quiet: Tandem) -> None:
    store = quiet.store
    assert shown(quiet)["tandem_iteration_active"] == 0
    iteration = store.write(iterations.start, trigger="operator", seed=0, settings={})
    assert shown(quiet)['tandem_iteration_progress{stage="queued"}'] == 0
    claimed = store.write(iterations.claim, iteration.id, "test", 60.0, 5)
    assert claimed is not None
    store.write(iterations.advance, iteration.id, claimed[1], stage="ppo", progress=0.25)
    during = shown(quiet)
    assert during["tandem_iteration_active"] == 1
    assert {name: value for name, value in during.items() if "progress" in name} == {
        'tandem_iteration_progress{stage="ppo"}': 0.25
    }
    store.write(iterations.fail, iteration.id, claimed[1], "enough")
    after = shown(quiet)
    assert after["tandem_iteration_active"] == 0
    assert not any("progress" in name for name in after)


def test_what_wakes_people_when_it_first_happens_is_shown_before(quiet: Tandem) -> None:
    """Prometheus knows of an increase only from a value before it."""
    before = shown(quiet)
    assert before['tandem_promotions_total{kind="promote",outcome="failed"}'] == 0
    assert before['tandem_engine_restarts_total{slot="0"}'] == 0
    with quiet.client("operate") as client:
        assert client.post("/v1/policies/rollback", json={"reason": "there is nothing else"}).is_error
        assert client.post("/v1/policies/v7/promote", json={"reason": "it is not there"}).is_error
    assert {name for name in shown(quiet) if "promotions" in name} == {name for name in before if "promotions" in name}


def test_the_free_disk_is_that_of_the_home_or_of_what_is_shared(quiet: Tandem, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(quiet.settings.home).free
    assert abs(shown(quiet)["tandem_home_free_bytes"] - free) < 0.2 * free
    usage, policies_dir = shutil.disk_usage, quiet.settings.policies_dir
    policies_dir.mkdir()
    # As where a volume is mounted there.
    monkeypatch.setattr(
        shutil, "disk_usage", lambda at: usage(at)._replace(free=5) if at == policies_dir else usage(at)
    )
    assert shown(quiet)["tandem_home_free_bytes"] == 5


def test_the_queues_are_as_deep_as_there_are_tasks(quiet: Tandem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.redis_link.PAUSE_S", 0.0)
    monkeypatch.setattr("feedback.queue.SOCKET_TIMEOUT_S", 60.0)
    silent = shown(quiet)
    assert silent["tandem_queue_answers"] == 0 and not any(name.startswith("tandem_queue_tasks") for name in silent)
    with redis_server(quiet.settings.home):
        celery = make_celery(quiet.settings)
        assert send(celery, COUNT_VOTES) and send(celery, COUNT_VOTES) and send(celery, RUN_ITERATION, "itr_1")
        celery.close()
        known = shown(quiet)
    assert known["tandem_queue_answers"] == 1
    assert (known['tandem_queue_tasks{queue="votes"}'], known['tandem_queue_tasks{queue="learner"}']) == (2, 1)


@pytest.mark.engine
def test_a_streamed_chats_first_token_is_timed(tandem: Tandem) -> None:
    before, began = shown(tandem), time.perf_counter()
    with tandem.client() as client:
        for stream in (True, False, True):
            assert client.post("/v1/chat/completions", json=chat(stream=stream, max_tokens=8)).status_code == 200
    took_s, after = time.perf_counter() - began, shown(tandem)
    name = "tandem_chat_first_token_seconds"
    assert after[f"{name}_count"] - before.get(f"{name}_count", 0) == 2
    assert 0 < after[f"{name}_sum"] - before.get(f"{name}_sum", 0) < took_s
