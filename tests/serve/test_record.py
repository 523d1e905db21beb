"""Writes from the event loop: those that come together share a commit, and each is as if it were alone."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from feedback.errors import RecordUnavailable
from feedback.store import Store
from serve.record import THREADS, Record


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    store = Store(f"sqlite:///{tmp_path / 'record.db'}")
    store.write(lambda session: session.execute(text("CREATE TABLE said (word TEXT PRIMARY KEY)")))
    record = Record(store)
    yield record
    record.close()


def say(session: Session, word: str, commits: list[int]) -> str:
    # In one transaction all see the same one.
    commits.append(id(session.connection()))
    session.execute(text("INSERT INTO said VALUES (:word)"), {"word": word})
    if word.startswith("no"):
        raise ValueError(word)
    return word.upper()


def said(record: Record) -> set[str]:
    with sqlite3.connect(record.store.engine.url.database) as connection:
        return {word for (word,) in connection.execute("SELECT word FROM said")}


async def test_writes_that_come_together_share_a_commit(record: Record) -> None:
    commits: list[int] = []
    words = [f"word {number}" for number in range(20)]
    assert await asyncio.gather(*(record.write(say, word, commits) for word in words)) == [one.upper() for one in words]
    assert said(record) == set(words)
    assert len(commits) == 20, "each was run once"
    assert len(set(commits)) == 1


async def test_one_that_fails_takes_no_other_along(record: Record) -> None:
    words = ["a", "no b", "c"]
    answers = await asyncio.gather(*(record.write(say, word, []) for word in words), return_exceptions=True)
    assert [type(answer) for answer in answers] == [str, ValueError, str]
    assert said(record) == {"a", "c"}
    assert await record.write(say, "d", []) == "D"


async def test_who_asks_a_database_that_stands_still_is_told(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr("serve.record.PATIENCE_S", 0.05)
    asked = [record.read(lambda _: goes_on.wait()) for _ in range(THREADS)]
    monkeypatch.setattr(record.store, "ping", goes_on.wait)
    found = await asyncio.gather(*asked, record.ping(), return_exceptions=True)
    assert [type(one) for one in found] == [RecordUnavailable] * (THREADS + 1)
    monkeypatch.undo()
    goes_on.set()
    assert await record.read(lambda session: session.scalar(text("SELECT 1"))) == 1


async def test_a_caller_that_leaves_takes_no_write_along(record: Record) -> None:
    holding = sqlite3.connect(record.store.engine.url.database, isolation_level=None)
    holding.execute("BEGIN IMMEDIATE")
    leaving, staying = (asyncio.create_task(record.write(say, word, [])) for word in ("left", "stayed"))
    await asyncio.sleep(0.05)
    leaving.cancel()
    later = asyncio.create_task(record.write(say, "later", []))
    await asyncio.sleep(0.05)
    holding.execute("ROLLBACK")
    holding.close()
    assert await asyncio.gather(staying, later) == ["STAYED", "LATER"]
    assert leaving.cancelled()
    assert said(record) == {"left", "stayed", "later"}
