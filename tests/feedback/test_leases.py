"""Who lost a lease changes nothing any more, and frees it for nobody."""

import pytest

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


def test_renewed_it_runs_for_as_long_as_was_asked_then(store: Store) -> None:
    epoch = store.write(leases.acquire, NAME, "one", 60.0)
    other = store.write(leases.acquire, leases.SCHEDULER, "other", 60.0)
    store.write(leases.renew, NAME, epoch, 600.0)
    assert store.read(leases.held, NAME, epoch) and store.read(leases.holder, leases.SCHEDULER) == "other"
    store.write(leases.renew, leases.SCHEDULER, other, -1.0)
    assert store.read(leases.holder, leases.SCHEDULER) is None
    assert store.write(leases.acquire, leases.SCHEDULER, "third", 60.0) is not None
