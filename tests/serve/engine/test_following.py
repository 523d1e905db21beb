"""The record is followed, whatever goes wrong meanwhile."""

from typing import Any

import pytest

from feedback.errors import RecordUnavailable
from feedback.store import policies
from tests.serve.conftest import Tandem
from tests.waiting import wait_for

PATIENCE_S = 60.0


def test_the_record_is_followed_whatever_has_gone_wrong(quiet: Tandem, monkeypatch: pytest.MonkeyPatch) -> None:
    record, rounds = quiet.gateway.record, list[str]()
    read = record.read_once

    async def read_or_fail(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation.__name__ == "serving":
            rounds.append(operation.__name__)
            if len(rounds) == 1:
                raise OSError("no space left on device")
        return await read(operation, *args, **kwargs)

    monkeypatch.setattr(record, "read_once", read_or_fail)
    wait_for(lambda: len(rounds) >= 3, PATIENCE_S, "the record to be followed on")


def test_engines_are_started_though_the_record_went_away_meanwhile(
    quiet: Tandem, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record, asked = quiet.gateway.record, list[str]()
    read = record.read

    async def read_or_fail(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation is policies.rollback_target:
            asked.append(operation.__name__)
            if len(asked) <= 3:
                quiet.gateway.pool.stale.set()
                raise RecordUnavailable("the database is not there")
        return await read(operation, *args, **kwargs)

    monkeypatch.setattr(record, "read", read_or_fail)
    quiet.store.write(policies.register_start, "policies/v0", "sha256:0", {})
    wait_for(lambda: all(slot.wanted == 0 for slot in quiet.gateway.pool.slots), PATIENCE_S, "engines to be started")
    assert len(asked) == 4
    assert sum("does not answer" in said for said in caplog.messages) == 1
