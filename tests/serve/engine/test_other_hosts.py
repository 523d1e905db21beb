"""Waiting for other hosts when the record goes away meanwhile."""

from types import SimpleNamespace
from typing import Any

import pytest

from feedback.errors import RecordUnavailable
from feedback.settings import EngineSettings
from serve.engine import other_hosts
from serve.engine.other_hosts import OtherHosts
from serve.metrics import Metrics
from serve.record import Record


async def test_a_promotion_that_was_made_is_no_failure_when_the_record_goes_away(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_hosts, "AFTER_SILENCE_S", 0.0)
    read, asked = record.read, list[str]()

    async def away_at_first(operation: Any, *args: Any) -> Any:
        asked.append(operation.__name__)
        if len(asked) < 3:
            raise RecordUnavailable("the database is not there")
        return await read(operation, *args)

    monkeypatch.setattr(record, "read", away_at_first)
    own: Any = SimpleNamespace(id="api_1")
    bell: Any = None
    others = OtherHosts(record, own, EngineSettings(), bell, Metrics())
    assert await others.wait_until_they_serve(1) == []
    assert asked == ["behind"] * 3
