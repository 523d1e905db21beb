"""Votes counted, and taken out of what counts again.

`count_accepted` turns accepted rows into counted ones in one transaction, so however often it is called, and whoever is
killed, each revision of a vote is counted exactly once: its row, the counts of its comparison and its
rater, and its tally change together.

On Postgres a rater's row guards their votes: whoever changes one that is there holds that row first. Then come the
comparisons, then the tallies, and rows of one kind in the order of their keys: nobody waits for somebody who waits for
them. Who takes the texts of a comparison away holds it so that votes on it wait.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, select, update
from sqlalchemy.orm import Session

from feedback.schema import Comparison, Rater, Vote
from feedback.store import now, parts, tallies
from feedback.store.among import among

COUNT_BATCH = 500
MAY_COUNT = Vote.state.in_(("accepted", "counted"))
# A rater may be set apart while their votes are still being moved.
COUNTS = (Vote.state == "counted", Vote.is_check.is_(False), Rater.quarantined_at.is_(None))


def count_accepted(session: Session, limit: int = COUNT_BATCH) -> int:
    """Claim up to `limit` accepted votes and count them, oldest first; those of a quarantined rater are set apart.

    Returns how many were claimed.
    """
    oldest = select(Vote.id, Vote.rater_id).where(tallies.IS_ACCEPTED).order_by(Vote.updated_at).limit(limit)
    rater_of = {row.id: row.rater_id for row in session.execute(oldest)}
    set_apart = _set_apart_among(session, set(rater_of.values()))
    rows = session.execute(
        select(Vote.id, Vote.state, *tallies.COLUMNS)
        .join(Comparison, Comparison.id == Vote.comparison_id)
        .where(among(Vote.id, rater_of))
    )
    # Until their raters were held, somebody else may have counted them or taken them out. Asked for in the statement,
    # Postgres would read all accepted votes for it.
    claimed = [row for row in rows if row.state == "accepted"]
    apart = [row.id for row in claimed if row.rater_id in set_apart]
    counted = [row for row in claimed if row.rater_id not in set_apart]
    for state, ids in (("counted", [row.id for row in counted]), ("quarantined", apart)):
        if ids:
            session.execute(
                update(Vote)
                .where(among(Vote.id, ids))
                .values(state=state, counted_at=now(session) if state == "counted" else None)
                .execution_options(synchronize_session=False)
            )
    _change_counts(session, [tallies.entry(row) for row in counted], +1)
    return len(claimed)


def _set_apart_among(session: Session, rater_ids: Collection[str]) -> set[str]:
    """Hold these raters' rows. Returns those of them who are quarantined."""
    rows = session.execute(_in_turn(Rater, sorted(rater_ids), Rater.quarantined_at))
    return {row.id for row in rows if row.quarantined_at is not None}


def hold_raters(session: Session, ids: Iterable[str]) -> None:
    """Hold these raters' rows: their votes are about to change."""
    session.execute(_in_turn(Rater, sorted(ids)))


def set_apart(session: Session, which: ColumnElement[bool]) -> None:
    """Take those of these votes, whose rater's row is held, that may count out of what counts."""
    uncount_all(session, which)
    session.execute(
        update(Vote)
        .where(which, MAY_COUNT)
        .values(state="quarantined", counted_at=None)
        .execution_options(synchronize_session=False)
    )


def uncount_all(session: Session, which: ColumnElement[bool]) -> None:
    """Take those of these votes that count out of what counts: they are about to say so."""
    _change_counts(session, tallies.of_votes(session, which & (Vote.state == "counted")), -1)


def take_back(session: Session, which: ColumnElement[bool], at: float) -> None:
    """Accept those of these votes, whose rater's row is held, that are set apart again, as of `at`: they will be
    counted."""
    session.execute(
        update(Vote)
        .where(which, Vote.state == "quarantined")
        .values(state="accepted", updated_at=at)
        .execution_options(synchronize_session=False)
    )


def uncount(session: Session, vote: Vote) -> None:
    """Take a vote that is about to change or go, and whose rater's row is held, out of what counts."""
    if vote.state != "counted":
        return
    uncount_all(session, Vote.id == vote.id)
    vote.counted_at = None


def _change_counts(session: Session, votes: Collection[tallies.Entry], sign: int) -> None:
    """Add or take away votes, each of its comparison's count, of its rater's, whose row is held, and of its tally."""
    if not votes:
        return
    by_comparison, by_rater = Counter[str](), Counter[str]()
    for vote in votes:
        by_comparison[vote.comparison_id] += sign
        by_rater[vote.rater_id] += sign
    hold_pairs(session, by_comparison)
    for model, counts in ((Rater, by_rater), (Comparison, by_comparison)):
        _add(session, model, counts)
    tallies.change(session, votes, sign)


def hold_pairs(session: Session, ids: Iterable[str], *, votes_wait: bool = False) -> None:
    """Hold these comparisons; with `votes_wait` also against votes that come meanwhile."""
    for part in parts.cut(sorted(ids)):
        session.execute(_in_turn(Comparison, part, key_share=not votes_wait))


def _add(session: Session, model: type[Comparison] | type[Rater], counts: Mapping[str, int]) -> None:
    """Add to the counts of rows, by id: one statement for all rows that get the same, which are most."""
    for ids in parts.cut(sorted(counts)):
        same: dict[int, list[str]] = {}
        for id_ in ids:
            same.setdefault(counts[id_], []).append(id_)
        for votes, of_same in same.items():
            session.execute(
                update(model)
                .where(among(model.id, of_same))
                .values(votes_counted=model.votes_counted + votes)
                .execution_options(synchronize_session=False)
            )


def _in_turn(
    model: type[Comparison] | type[Rater], ids: Sequence[str], *columns: Any, key_share: bool = True
) -> Select[Any]:
    """Rows by id, locked until the transaction ends."""
    # With the lock of a change that leaves the key: votes that come meanwhile refer to the row and need not wait.
    locked = select(model.id, *columns).where(among(model.id, ids)).order_by(model.id)
    return locked.with_for_update(key_share=key_share)
