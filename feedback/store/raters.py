"""Raters in the record: found or made when they first vote, set apart and released again."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import ColumnElement, Table, bindparam, case, func, select, update
from sqlalchemy.orm import Session

from feedback.errors import NotFound, Unknown
from feedback.ids import new_id
from feedback.objectives import OBJECTIVES
from feedback.schema import IMPORTED, Comparison, Rater, Sample, Vote
from feedback.store import READ_BATCH, audit, checks, clock, counting, insert, keys, now, page, samples, tallies
from feedback.store.among import among

# How a rater's row is held until the transaction ends, the weakest way first: by who brings new votes of theirs, by who
# changes votes that are there, and by who erases them. Each waits for the last one; those who change votes also wait
# for each other.
WHILE_VOTES_COME: dict[str, Any] = {"read": True, "key_share": True}
WHILE_VOTES_CHANGE: dict[str, Any] = {"key_share": True}
WHILE_ERASED: dict[str, Any] = {"key_share": False}


def find(session: Session, key_id: str, name: str, *, lock: dict[str, Any] | None = None) -> str | None:
    """The id of the rater known under this key by this name, or None. With `lock` their row is held until the
    transaction ends."""
    statement = select(Rater.id).where(Rater.key_id == key_id, Rater.name == name)
    if lock is not None:
        statement = statement.with_for_update(**lock)
    return session.scalars(statement).one_or_none()


def nobody(session: Session) -> str | None:
    """The rater whom all imported votes are kept under, which many people cast; None where none were imported."""
    return find(session, IMPORTED, "")


def find_or_create(session: Session, key_id: str, name: str, *, lock: dict[str, Any] | None = None) -> str:
    """`find`, made when they are not there yet."""
    # More than once where somebody else makes them, and they are erased, at this moment.
    while (known := find(session, key_id, name, lock=lock)) is None:
        session.execute(
            insert(session, Rater)
            .values(id=new_id("rtr"), key_id=key_id, name=name, created_at=clock(session))
            .on_conflict_do_nothing(index_elements=["key_id", "name"])
        )
    return known


def find_person(session: Session, key_id: str, name: str) -> str:
    """The id of whoever votes or chats under the key of this id or prefix by this name; a person who only chats is made
    a rater by it.

    Raises NotFound when nothing is known of such a person.
    """
    key = keys.by_id(session, key_id)
    key_id = key_id if key is None else key.id
    known = find(session, key_id, name)
    if known is not None:
        return known
    chats = select(Sample.id).where(samples.are_of(key_id, name), Sample.status != "erased").limit(1)
    if session.scalars(chats).one_or_none() is None:
        raise NotFound(
            f"nobody votes or chats under the key {key_id!r} by the name {name!r}; `tandem keys list` shows keys"
        )
    return find_or_create(session, key_id, name)


def get(session: Session, rater_id: str) -> Rater | None:
    return session.get(Rater, rater_id)


def sides_picked(session: Session) -> dict[str, dict[tuple[int, int], int]]:
    """By objective, how many pairs that several raters decided have so many counted votes for the one and for the other
    side."""
    on_left, on_right = (func.sum(case((Vote.preferred == side, 1), else_=0)) for side in ("0", "1"))
    by_pair = (
        select(Vote.objective, on_left.label("on_left"), on_right.label("on_right"))
        .select_from(Comparison)
        .join(Vote, Vote.comparison_id == Comparison.id)
        .join(Rater, Rater.id == Vote.rater_id)
        # Pairs that one has voted on are most of them, and are not read.
        .where(Comparison.votes_counted > 1, Vote.preferred.in_(("0", "1")), *counting.COUNTS)
        .group_by(Vote.comparison_id, Vote.objective)
        .having(func.count() > 1)
        .subquery()
    )
    columns = (by_pair.c.objective, by_pair.c.on_left, by_pair.c.on_right)
    found: dict[str, dict[tuple[int, int], int]] = {objective: {} for objective in OBJECTIVES}
    for objective, left, right, pairs in session.execute(select(*columns, func.count()).group_by(*columns)):
        found[objective][int(left), int(right)] = pairs
    return found


@dataclass(frozen=True, slots=True)
class Seen:
    """A vote that counts, as far as it tells something about its rater.

    `pair` is the comparison, or for a repeat the original; `answer` is the known one, as this comparison shows it.
    """

    rater_id: str
    pair: str
    is_repeat: bool
    objective: str
    preferred: str
    answer: str | None
    elapsed_s: float | None
    left: int | None
    may_be_quarantined: bool


def seen(session: Session) -> Iterator[Seen]:
    """All counted votes that decide for a side, oldest first, of raters released from quarantine the later ones."""
    # By the connection: the session's own way to a row costs as much as all else that is done with it.
    rows = session.connection().execute(
        select(
            Vote.rater_id,
            Vote.comparison_id,
            Comparison.repeat_of,
            Vote.objective,
            Vote.preferred,
            Vote.elapsed_s,
            Vote.left,
            Rater.key_id,
        )
        .join(Comparison, Comparison.id == Vote.comparison_id)
        .join(Rater, Rater.id == Vote.rater_id)
        .where(
            Vote.state == "counted",
            Vote.preferred.in_(("0", "1")),
            Rater.quarantined_at.is_(None),
            Rater.released_at.is_(None) | (Vote.updated_at > Rater.released_at),
        )
        .order_by(Vote.id)
        .execution_options(yield_per=READ_BATCH)
    )
    answers = checks.answers(session)
    for rater_id, comparison_id, repeat_of, objective, preferred, elapsed_s, left, key_id in rows:
        pair = repeat_of or comparison_id
        answer = answers.get((pair, objective))
        # The same few texts in each row: of a million votes each would be held as often.
        yield Seen(
            sys.intern(rater_id),
            sys.intern(pair),
            repeat_of is not None,
            sys.intern(objective),
            sys.intern(preferred),
            checks.OTHER_SIDE[answer] if answer and repeat_of else answer,
            elapsed_s,
            left,
            key_id != IMPORTED,
        )


def list_page(session: Session, *, limit: int, after: str | None = None) -> tuple[list[tuple[Rater, int]], bool]:
    """Raters who have voted, or were set apart, and were not erased, the oldest first, each with the number of their
    votes that count, soon will, or would if they were not set apart; and whether more follow. One vote at most of each
    is read for it of those that count."""
    # Who was only handed pairs is in the record too. A subquery that Postgres cannot answer from a hash of all votes.
    first_vote = select(Vote.id).where(Vote.rater_id == Rater.id).order_by(Vote.id).limit(1).scalar_subquery()
    take_part = (Rater.votes_counted > 0) | Rater.quarantined_at.is_not(None) | first_vote.is_not(None)
    statement = select(Rater).where(Rater.erased_at.is_(None), take_part)
    known, more = page(session, statement, Rater.id, limit=limit, after=after, order="asc")
    apart = [rater.id for rater in known if rater.quarantined_at is not None]
    others: Counter[str] = Counter()
    # An expression: by the column itself SQLite would walk through all votes in the order of its index.
    by_rater = Vote.rater_id.concat("")
    for which in (
        tallies.IS_ACCEPTED,
        tallies.IS_APART & (Vote.state == "quarantined") & Vote.rater_id.in_(apart),
    ):
        rows = session.execute(select(by_rater, func.count()).where(which).group_by(by_rater))
        others.update(dict(rows.all()))
    return [(rater, rater.votes_counted + others[rater.id]) for rater in known], more


def list_all(session: Session) -> list[tuple[Rater, int]]:
    """The same of everybody."""
    return list_page(session, limit=sys.maxsize - 1)[0]


def known(session: Session, rater_id: str, *, lock: dict[str, Any] | None = None) -> Rater:
    """The rater, held by `lock` till the transaction ends. Raises NotFound when there is none, or they were erased."""
    rater = session.get(Rater, rater_id, with_for_update=lock)
    if rater is None or rater.erased_at is not None:
        raise Unknown("rater", rater_id, "`tandem raters list`", "GET /v1/raters")
    return rater


def note(session: Session, figures: Mapping[str, dict[str, Any]]) -> None:
    """Keep what is known of how raters vote, but for who was erased meanwhile; `figures` hold at least their
    `reliability`."""
    if figures:
        table = cast(Table, Rater.__table__)
        session.connection().execute(
            update(table)
            .where(table.c.id == bindparam("rater"), table.c.erased_at.is_(None))
            .values(figures=bindparam("found"), reliability=bindparam("reliable")),
            [
                {"rater": rater_id, "found": found, "reliable": found["reliability"]}
                for rater_id, found in sorted(figures.items())
            ],
        )


def quarantine(session: Session, rater_id: str, reason: str, *, actor: str = audit.AT_THE_MACHINE) -> int:
    """Say that a rater is set apart: what comes of them is not counted. Their votes are to be moved.

    Returns how many. Raises NotFound.
    """
    rater = known(session, rater_id, lock=WHILE_VOTES_CHANGE)
    if rater.quarantined_at is None:
        rater.quarantined_at = now(session)
    rater.quarantine_reason = reason
    accepted = select(func.count()).select_from(Vote).where(tallies.IS_ACCEPTED, Vote.rater_id == rater_id)
    votes = rater.votes_counted + session.scalars(accepted).one()
    audit.add(session, actor, "rater.quarantine", rater_id, reason, votes=votes)
    return votes


def release(session: Session, rater_id: str, *, actor: str = audit.AT_THE_MACHINE) -> int:
    """Say that a rater is not set apart any more; the outlier test begins anew. Their votes are to be moved.

    Returns how many. Raises NotFound.
    """
    rater = known(session, rater_id, lock=WHILE_VOTES_CHANGE)
    votes = session.scalars(select(func.count()).select_from(Vote).where(*_is_apart(rater_id))).one()
    if rater.quarantined_at is not None:
        rater.quarantined_at = None
        rater.quarantine_reason = None
        rater.released_at = now(session)
        audit.add(session, actor, "rater.release", rater_id, votes=votes)
    return votes


def to_move(session: Session, rater_id: str) -> list[str]:
    """The votes that are not yet where their rater is: that may count of one who is set apart, that are set apart of
    another. Raises NotFound."""
    rater = known(session, rater_id)
    which = _is_apart(rater_id) if rater.quarantined_at is None else (Vote.rater_id == rater_id, counting.MAY_COUNT)
    return list(session.scalars(select(Vote.id).where(*which).order_by(Vote.id)))


def move(session: Session, rater_id: str, ids: Sequence[str]) -> None:
    """Move those of these votes that are not yet where their rater is. Raises NotFound."""
    rater = known(session, rater_id, lock=WHILE_VOTES_CHANGE)
    which = among(Vote.id, ids)
    if rater.quarantined_at is not None:
        counting.set_apart(session, which)
    elif rater.released_at is not None:
        # Not later: they are not to set their rater apart once more.
        counting.take_back(session, which, rater.released_at)


def half_moved(session: Session) -> list[str]:
    """The raters who were set apart or released, and have votes that are to be moved."""
    has_apart = select(Vote.id).where(*_is_apart(Rater.id)).exists()
    is_left = case((Rater.quarantined_at.is_not(None), Rater.votes_counted > 0), else_=has_apart)
    moving = Rater.quarantined_at.is_not(None) | Rater.released_at.is_not(None)
    return list(session.scalars(select(Rater.id).where(Rater.erased_at.is_(None), moving, is_left)))


def _is_apart(rater_id: Any) -> tuple[ColumnElement[bool], ...]:
    # With the states of their index: only so is it used.
    return tallies.IS_APART, Vote.state == "quarantined", Vote.rater_id == rater_id
