"""What API processes keep up with: the same from one statement as from the tables, on each database."""

from pathlib import Path

import pytest
from sqlalchemy import event, update

from feedback.errors import NotFound, RecordUnavailable
from feedback.schema import Policy
from feedback.store import Store, audit, leases, policies, presence, standing, traffic
from feedback.store.presence import Asked
from feedback.store.standing import Standing
from feedback.store.traffic import Shares


def with_three_versions(store: Store) -> None:
    """v0 serves, v1 and v2 are candidates."""
    store.write(policies.register_start, "policies/v0", "digest_0", {})

    def add(session: object) -> None:
        for version in (1, 2):
            session.add(  # type: ignore[attr-defined]
                Policy(
                    version=version,
                    state="candidate",
                    parent=0,
                    path=f"policies/v{version}",
                    digest=f"d{version}",
                    settings={},
                    evidence={},
                    created_at=1.0,
                )
            )

    store.write(add)


def test_without_anything_and_with_the_start_alone(store: Store) -> None:
    assert standing.read(store) == Standing(Shares(), frozenset(), None, None)
    store.write(policies.register_start, "policies/v0", "digest_0", {})
    assert standing.read(store) == Standing(Shares(), frozenset(), 0, None)


def test_what_was_set_is_read(store: Store) -> None:
    with_three_versions(store)
    assert standing.read(store) == Standing(Shares(), frozenset({1, 2}), 0, None)
    shares = store.write(traffic.put, Shares(2, 0.25, 0.5))
    assert standing.read(store) == Standing(shares, frozenset({1, 2}), 0, None)
    store.write(traffic.put, Shares())
    assert standing.read(store).shares == Shares()
    # One after the other: at no moment two may serve.
    store.write(lambda session: session.execute(update(Policy).where(Policy.version == 0).values(state="retired")))
    store.write(lambda session: session.execute(update(Policy).where(Policy.version == 2).values(state="serving")))
    assert standing.read(store) == Standing(Shares(), frozenset({1}), 2, None)


def test_a_challenger_that_serves_is_none_any_more(store: Store) -> None:
    with_three_versions(store)
    with pytest.raises(NotFound, match="v9"):
        store.write(traffic.put, Shares(9, 0.25, 0.5))
    shares = store.write(traffic.put, Shares(2, 0.25, 0.5), actor="key_1", reason="try it")
    store.write(traffic.end_challenge, 1, actor="key_1")
    assert standing.read(store).shares == shares
    store.write(traffic.end_challenge, 2, actor="key_1")
    assert standing.read(store).shares == Shares()
    told, _ = store.read(audit.list_page, limit=9, after=None, order="asc")
    assert [(one.action, one.actor, one.subject, one.reason, one.data) for one in told] == [
        ("traffic.set", "key_1", "v2", "try it", {"chat_share": 0.25, "comparison_share": 0.5}),
        ("traffic.set", "key_1", "", "it serves", {"chat_share": 0.0, "comparison_share": 0.0}),
    ]


def test_what_is_prepared_counts_while_its_lease_does(store: Store) -> None:
    with_three_versions(store)
    epoch = store.write(leases.acquire, leases.ENGINES, "api_1", 60.0)
    assert epoch is not None
    asked = Asked(epoch, 1, "load", "api_1", "engines")
    store.write(presence.ask, asked)
    assert standing.read(store) == Standing(Shares(), frozenset({1, 2}), 0, asked)
    store.write(leases.release, leases.ENGINES, epoch)
    assert standing.read(store).asked is None
    store.write(presence.withdraw, epoch)
    assert standing.read(store) == Standing(Shares(), frozenset({1, 2}), 0, None)


def test_it_is_one_statement(store: Store) -> None:
    with_three_versions(store)
    standing.read(store)
    statements: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    standing.read(store)
    # On SQLite the driver is asked, and SQLAlchemy has nothing to do.
    assert len(statements) == (0 if store.has_one_writer else 1)


def test_a_database_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "record.db").mkdir()
    with pytest.raises(RecordUnavailable):
        standing.read(Store(f"sqlite:///{tmp_path / 'record.db'}"))
