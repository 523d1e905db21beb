"""Writes of several threads at once: each as if it were alone, and all durable when they return."""

import contextlib
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from feedback.store import Store
from tests.waiting import wait_for


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path / 'record.db'}")
    store.write(lambda session: session.execute(text("CREATE TABLE said (word TEXT PRIMARY KEY)")))
    return store


def say(session: Session, word: str, commits: list[int]) -> str:
    # In one transaction all see the same one.
    commits.append(id(session.connection()))
    session.execute(text("INSERT INTO said VALUES (:word)"), {"word": word})
    if word.startswith("no"):
        raise ValueError(word)
    return word.upper()


def said(store: Store) -> set[str]:
    with sqlite3.connect(store.engine.url.database) as connection:
        return {word for (word,) in connection.execute("SELECT word FROM said")}


def all_at_once(store: Store, words: list[str]) -> tuple[list[object], list[int]]:
    """Write all while the record is locked, so that they gather. Returns what each returned or raised."""
    commits: list[int] = []
    gathered = store._together
    assert gathered is not None
    holding = sqlite3.connect(store.engine.url.database, isolation_level=None)
    holding.execute("BEGIN IMMEDIATE")

    def write(word: str) -> object:
        try:
            return store.write(say, word, commits)
        except (ValueError, IntegrityError) as error:
            return type(error)

    with ThreadPoolExecutor(len(words)) as threads:
        first = threads.submit(write, words[0])
        # It has taken its turn and waits for the lock; the others come while it does.
        wait_for(lambda: gathered._turn.locked() and not gathered._waiting, 60, "the first", pause_s=0.001)
        rest = [threads.submit(write, word) for word in words[1:]]
        wait_for(lambda: len(gathered._waiting) == len(rest), 60, "the others", pause_s=0.001)
        holding.execute("ROLLBACK")
        answers = [future.result() for future in (first, *rest)]
    holding.close()
    return answers, commits


def test_those_that_wait_share_a_commit(store: Store) -> None:
    words = [f"word {number}" for number in range(6)]
    answers, commits = all_at_once(store, words)
    assert answers == [word.upper() for word in words]
    assert said(store) == set(words)
    assert len(commits) == 6, "each was run once"
    assert len(set(commits[1:])) == 1, "and those that came while the first one waited in one transaction"


def test_one_that_fails_takes_no_other_along(store: Store) -> None:
    words = ["first", "a", "no b", "a", "c"]
    answers, _ = all_at_once(store, words)
    assert answers[0] == "FIRST"
    assert answers[2] is ValueError
    assert {str(answer) for answer in (answers[1], answers[3])} == {"A", str(IntegrityError)}, "whoever came first"
    assert answers[4] == "C"
    assert said(store) == {"first", "a", "c"}


def test_many_writers_lose_nothing(store: Store) -> None:
    words = [[f"{thread} {number}" for number in range(50)] for thread in range(8)]
    threads = [threading.Thread(target=lambda own=own: [store.write(say, word, []) for word in own]) for own in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said(store) == {word for own in words for word in own}


def test_what_the_driver_can_do_waits_for_another_processs_turn_and_shares_a_commit_with_others(store: Store) -> None:
    ways: list[str] = []

    def swiftly(word: str) -> None:
        def by_driver(driver: sqlite3.Connection) -> None:
            ways.append("driver")
            driver.execute("INSERT INTO said VALUES (?)", [word])

        def ordinary(session: Session) -> None:
            ways.append("ordinary")
            say(session, word, commits)

        store.write_swiftly(ordinary, by_driver)

    commits: list[int] = []
    gathered = store._together
    assert gathered is not None
    swiftly("alone")
    assert ways == ["driver"]
    kept = gathered._kept
    holding = sqlite3.connect(store.engine.url.database, isolation_level=None)
    holding.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(swiftly, "first")
        wait_for(lambda: gathered._turn.locked() and not gathered._waiting, 60, "the first", pause_s=0.001)
        rest = [threads.submit(swiftly, "second"), threads.submit(store.write, say, "third", commits)]
        wait_for(lambda: len(gathered._waiting) == len(rest), 60, "the others", pause_s=0.001)
        holding.execute("ROLLBACK")
        assert [future.result() for future in (first, *rest)] == [None, None, "THIRD"]
    holding.close()
    assert said(store) == {"alone", "first", "second", "third"}
    assert ways == ["driver", "ordinary", "ordinary"]
    assert len(set(commits[1:])) == 1
    assert gathered._kept is kept, "nothing is wrong with it"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), sqlite3.OperationalError("database is locked")])
def test_what_the_driver_had_begun_keeps_nobody_from_writing(store: Store, error: BaseException) -> None:
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY

    def ordinary(session: Session) -> None:
        say(session, "begun", [])

    def break_off(driver: sqlite3.Connection) -> None:
        driver.execute("INSERT INTO said VALUES ('begun')")
        raise error

    with contextlib.suppress(KeyboardInterrupt):
        store.write_swiftly(ordinary, break_off)
    store.write(say, "after", [])
    assert said(store) == {"begun", "after"}


def test_a_kept_connection_that_only_reads_is_replaced(store: Store) -> None:
    ways: list[str] = []
    for word in ("before", "then", "after"):
        store.write_swiftly(
            lambda session, word=word: ways.append(say(session, word, [])),  # type: ignore[misc]
            lambda driver, word=word: (
                ways.append(word) if driver.execute("INSERT INTO said VALUES (?)", [word]) else None
            ),
        )
        if word == "before":
            # As it would be, opened while nothing could be written.
            store._together._kept.execute("PRAGMA query_only=ON")
    assert ways == ["before", "THEN", "after"]
