"""Who lost a lease changes nothing any more, and frees it for nobody."""

from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from feedback.errors import LeaseLost
from feedback.store import Store, leases

NAME = leases.LEARNER


def test_who_lost_it_neither_renews_nor_frees_nor_acts(store: Store) -> None:
    first = store.write(leases.acquire, NAME, "one", 60.0)
    assert first is not None
    assert store.write(leases.acquire, NAME, "other", 60.0) is None
    # As an operator takes it from who hangs.
    store.write(lambda session: leases.revoke(leases.lock(session, NAME), first))
    assert not store.read(leases.held, NAME)
    second = store.write(leases.acquire, NAME, "other", 60.0)
    assert second is not None and second > first
    done: list[int] = []
    for late in (
        lambda: store.write(leases.renew, NAME, first, 60.0),
        lambda: store.write(leases.check, NAME, first),
        lambda: store.write(leases.check, "nobody's", 0),
        lambda: store.write(leases.during, NAME, first, lambda: done.append(first)),
    ):
        with pytest.raises(LeaseLost):
            late()
    store.write(leases.release, NAME, first)
    store.write(leases.release, "nobody's", 1)
    store.write(lambda session: leases.revoke(leases.lock(session, NAME), first))
    assert store.read(leases.held, NAME, second) and not store.read(leases.held, NAME, first)
    assert store.read(leases.holder, NAME) == "other"
    store.write(leases.during, NAME, second, lambda: done.append(second))
    assert done == [second]
    store.write(leases.release, NAME, second)
    assert not store.read(leases.held, NAME) and store.read(leases.holder, NAME) is None


def test_who_frees_it_while_another_takes_it_frees_nothing(store: Store) -> None:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    first = store.write(leases.acquire, NAME, "one", -1.0)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    def take(session: Session) -> tuple[int | None, Future[None]]:
        second = leases.acquire(session, NAME, "other", 60.0)
        session.flush()
        freeing = threads.submit(store.write, leases.release, NAME, first)
        while not store.read(lambda other: other.scalar(text(waits))):
            assert not freeing.done()
        return second, freeing

    with ThreadPoolExecutor(1) as threads:
        second, freeing = store.write(take)
        freeing.result()
    assert store.read(leases.held, NAME, second)


def test_what_a_process_that_is_gone_held_is_free_and_nothing_else(store: Store) -> None:
    holders = {"a": "one@api_1", "b": "two@api_1", "c": "one@api-1", "d": "one@api_12", "e": "api_1"}
    held = {name: store.write(leases.acquire, name, holder, 60.0) for name, holder in holders.items()}
    store.write(leases.revoke_those_of, "api_1")
    assert [name for name, epoch in held.items() if store.read(leases.held, name, epoch)] == ["c", "d", "e"]
    with pytest.raises(LeaseLost):
        store.write(leases.check, "a", held["a"])


def test_renewed_it_runs_for_as_long_as_was_asked_then(store: Store) -> None:
    epoch = store.write(leases.acquire, NAME, "one", -1.0)
    other = store.write(leases.acquire, leases.SCHEDULER, "other", 60.0)
    store.write(leases.renew, NAME, epoch, 600.0)
    assert store.read(leases.held, NAME, epoch) and store.read(leases.holder, leases.SCHEDULER) == "other"
    store.write(leases.renew, leases.SCHEDULER, other, -1.0)
    assert store.read(leases.holder, leases.SCHEDULER) is None
    # Who lets it run out is told so as well when it comes back.
    assert store.write(leases.acquire, leases.SCHEDULER, "third", 60.0) != other
    with pytest.raises(LeaseLost):
        store.write(leases.renew, leases.SCHEDULER, other, 60.0)
