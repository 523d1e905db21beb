"""Which API processes serve, and when a promotion may be made."""

from collections.abc import Callable

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.orm import Session

from feedback.errors import LeaseLost
from feedback.schema import ApiProcess
from feedback.store import Store, leases, policies, presence
from feedback.store.presence import Asked, Here


@pytest.fixture
def serving(store: Store) -> Store:
    """A record in which v0 serves."""
    store.write(policies.register_start, "policies/v0", "digest_0", {})
    return store


def here(name: str, version: int = 0) -> Here:
    return Here(name, f"host-{name}", f"engines-{name}", version, [[version], []])


def epoch(store: Store) -> int:
    taken = store.write(leases.acquire, leases.ENGINES, "leader", 600.0)
    assert taken is not None
    return taken


def shift(name: str, seconds: float) -> Callable[[Session], None]:
    """Its lease ends that much later."""

    def shifted(session: Session) -> None:
        later = ApiProcess.expires_at + seconds
        session.execute(update(ApiProcess).where(ApiProcess.id == name).values(expires_at=later))

    return shifted


def test_who_serves_something_else_than_the_record_says_may_not_begin(serving: Store) -> None:
    assert serving.write(presence.enter, here("a", 1)) is None
    assert serving.read(presence.behind, "leader", 7) == []
    assert serving.write(presence.enter, here("a")) == 0
    assert serving.write(presence.enter, here("b")) == 1
    assert serving.read(presence.behind, "leader", 7) == ["host-a", "host-b"]
    serving.write(presence.leave, "a")
    assert serving.write(presence.renew, here("b")) == 0


def test_it_is_renewed_in_one_statement_by_who_holds_it_and_nobody_else(serving: Store) -> None:
    """Each round trip to a database that is far away would take from the lease's time."""
    for name in ("a", "b", "c"):
        serving.write(presence.enter, here(name))
    serving.write(shift("a", 3.0 - presence.TTL_S))
    serving.write(shift("c", -presence.TTL_S - presence.GRACE_S))
    said: list[str] = []
    event.listen(serving.engine, "before_cursor_execute", lambda _conn, _cursor, statement, *_: said.append(statement))
    assert serving.write_once(presence.renew, here("a", 1)) == 1
    assert len(said) == 1
    assert [(row.id, row.serving) for row in serving.read(presence.who_serves)] == [("a", 1), ("b", 0)]
    serving.write(shift("a", 3.0 - presence.TTL_S))
    assert serving.read(presence.behind, "leader", 7) == ["host-a", "host-b"], "it did not run for its whole time"


def test_who_has_been_gone_for_long_is_forgotten(serving: Store) -> None:
    for name, ended_s in (("a", presence.FORGOTTEN_AFTER_S + 1), ("b", presence.FORGOTTEN_AFTER_S - 60)):
        serving.write(presence.enter, here(name))
        serving.write(shift(name, -presence.TTL_S - ended_s))
    serving.write(presence.enter, here("c"))
    assert serving.read(lambda session: sorted(session.scalars(select(ApiProcess.id)))) == ["b", "c"]


def test_a_lease_that_ran_out_is_not_renewed_but_taken_anew(serving: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "GRACE_S", 60.0)
    serving.write(presence.enter, here("a"))
    serving.write(shift("a", -presence.TTL_S - 0.1))
    assert serving.write(presence.renew, here("a")) is None
    # It may not have noticed yet, and is waited for a little longer.
    assert serving.read(presence.behind, "leader", 1) == ["host-a"]
    serving.write(shift("a", -presence.GRACE_S))
    assert serving.read(presence.behind, "leader", 1) == []
    assert serving.write(presence.enter, here("a")) == 0
    # After the clock was turned back nobody is waited for until a lease by the new clock would have ended.
    serving.write(shift("a", 3600.0))
    assert serving.read(presence.behind, "leader", 1) == []
    serving.write(presence.renew, here("a"))
    assert serving.read(presence.behind, "leader", 1) == ["host-a"]


def test_everybody_who_serves_has_to_have_come_as_far(serving: Store) -> None:
    for name in ("a", "b"):
        serving.write(presence.enter, here(name))
    number = epoch(serving)
    serving.write(presence.ask, Asked(number, 1, "fetch", "leader", "engines-leader"))

    def said(stage: str) -> presence.Reported:
        return serving.read(presence.reported, "leader", number, stage)

    serving.write(presence.answer, "a", number, "load")
    assert said("fetch") == presence.Reported(["host-b"], [], 1)
    serving.write(presence.answer, "b", number, "fetch")
    assert said("fetch") == presence.Reported([], [], 2) and said("load") == presence.Reported(["host-b"], [], 1)
    serving.write(presence.answer, "b", number, "load", "its disk is full")
    assert said("load") == presence.Reported([], [("host-b", "its disk is full")], 1)
    # What was said of an earlier promotion counts for nothing, and who leads does not wait for itself.
    assert serving.read(presence.reported, "leader", number + 1, "fetch").waiting == ["host-a", "host-b"]
    assert serving.read(presence.reported, "a", number + 1, "fetch").waiting == ["host-b"]


def test_what_is_asked_for_counts_while_whoever_asks_holds_the_lease(serving: Store) -> None:
    number = epoch(serving)
    asked = Asked(number, 1, "fetch", "leader", "engines-leader")
    serving.write(presence.ask, asked)
    assert serving.read(presence.asked_for) == asked
    serving.write(presence.withdraw, number - 1)
    assert serving.read(presence.asked_for) == asked
    serving.write(leases.release, leases.ENGINES, number)
    assert serving.read(presence.asked_for) is None
    later = epoch(serving)
    assert serving.read(presence.asked_for) is None
    with pytest.raises(LeaseLost):
        serving.write(presence.ask, asked)
    serving.write(presence.ask, Asked(later, 2, "load", "leader", "engines-leader"))
    serving.write(presence.withdraw, later)
    assert serving.read(presence.asked_for) is None
