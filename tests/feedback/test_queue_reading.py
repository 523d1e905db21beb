"""What a worker makes of what comes through the queue: real ones, over a real Redis."""

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from feedback.queue import COUNT_VOTES, VOTES, make_celery, send
from feedback.settings import load_settings
from feedback.store import votes
from tests.feedback.record import add_comparison, judgement
from tests.records import empty_record_of
from tests.serve.redis_server import redis_server
from tests.vote_stack import ROOT, WORKER
from tests.waiting import wait_for

PATIENCE_S = 120.0


def message(body: Any = ((), {}, {}), **changes: Any) -> dict[str, Any]:
    """As our senders write one, but for `changes` of its headers and properties."""
    headers = {
        "task": COUNT_VOTES, "id": "a", "root_id": "a", "parent_id": None, "group": None, "lang": "py", "retries": 0,
        "timelimit": [None, None], "eta": None, "expires": None, "argsrepr": "()", "kwargsrepr": "{}", "origin": "a",
        "stamped_headers": None,
    }  # fmt: skip
    properties = {
        "correlation_id": "a", "reply_to": "a", "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
        "delivery_info": {"exchange": VOTES, "routing_key": VOTES}, "delivery_tag": "a",
    }  # fmt: skip
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers | {name: value for name, value in changes.items() if name in headers},
        "properties": properties | {name: value for name, value in changes.items() if name in properties},
    }


STRANGE: tuple[Any, ...] = (
    3, None, [], "text", {}, message() | {"headers": None}, message() | {"body": 3},
    message() | {"content-type": "application/x-python-serialize"}, message(task="none"), message(task=3),
    message(eta="soon"), message(timelimit=3), message(body_encoding="none"), message(delivery_info=3),
    message(priority="high"), message(body=[3, {}, {}]), message(id=[]), message(expires=3),
    message(stamped_headers=3),
)  # fmt: skip
NO_JSON = (b"text", b"\xff\xfe", b"[" * 100_000)


def test_a_message_that_is_none_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback.queue.SOCKET_TIMEOUT_S", PATIENCE_S)
    home = tmp_path / "home"
    with redis_server(home) as (url, _):
        settings = load_settings(home=home, redis_url=url)
        store = empty_record_of(settings)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("TANDEM_", "REDIS_"))}
        environment |= {"TANDEM_HOME": str(home), "TANDEM_REDIS_URL": url, "PYTHONPATH": str(ROOT)}
        log = tmp_path / "worker.log"
        with log.open("wb") as out:
            worker = subprocess.Popen(WORKER, env=environment, cwd=tmp_path, stdout=out, stderr=out)
        try:
            redis = Redis(unix_socket_path=url.removeprefix("redis+socket://"))
            redis.lpush(VOTES, *NO_JSON, *(json.dumps(one) for one in STRANGE))
            store.write(votes.put, add_comparison(store), judgement(), key_id="key_a", sees_all=False, rater="ann")
            celery = make_celery(settings)
            assert send(celery, COUNT_VOTES)
            celery.close()

            def all_read() -> bool:
                return not redis.llen(VOTES) and store.read(votes.count_by_state).get("counted") == 1

            wait_for(all_read, PATIENCE_S, "the queue to be read", by=worker)
            redis.close()
        finally:
            worker.terminate()
            worker.wait(PATIENCE_S)
            store.close()
    assert log.read_text().count("is dropped") == len(NO_JSON) + len(STRANGE)


def test_a_full_redis_is_told_of_by_a_line_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("feedback.queue_reading.PAUSE_S", 3600.0)
    with (
        redis_server(tmp_path) as (url, _),
        make_celery(load_settings(home=tmp_path, redis_url=url)) as celery,
        celery.connection_for_read() as connection,
        connection.channel() as channel,
        Redis(unix_socket_path=url.removeprefix("redis+socket://")) as redis,
    ):
        redis.config_set("maxmemory", 1)
        for _ in range(3):
            channel.qos.restore_visible(interval=1)
        redis.config_set("maxmemory", 0)
    (said,) = caplog.records
    assert "maxmemory" in said.message and said.exc_info is None
