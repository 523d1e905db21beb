"""What each key used, by day (UTC): chats with their tokens, comparisons, votes. Read from the rows themselves, by
indices that begin with the time: a day costs what was asked for on it, however long the record is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import CompoundSelect, func, literal, select, union_all
from sqlalchemy.orm import Session

from feedback.ids import earliest
from feedback.schema import Comparison, Key, Rater, Sample, Vote
from feedback.store import clock

ONE_DAY = timedelta(days=1)
COUNTED = ("chats", "prompt_tokens", "reply_tokens", "comparisons", "votes")


@dataclass
class Used:
    """What a key used on one day. Tokens are those that its chats were answered to have used: a prompt counts once for
    both replies of a pair, and of a chat that was left before its end only what was written of the reply. Votes are
    those that were cast that day and not taken back.
    """

    key: Key
    chats: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    comparisons: int = 0
    votes: int = 0


@dataclass(frozen=True)
class Day:
    """One day, and the keys that used anything on it, the oldest key first."""

    date: date
    used: list[Used]


def described(used: Used) -> dict[str, Any]:
    """As it is shown to whoever asks."""
    key = used.key
    counts = {count.name: getattr(used, count.name) for count in fields(used) if count.name != "key"}
    return {"key_id": key.id, "prefix": key.prefix, "name": key.name, **counts}


def list_page(
    session: Session, *, limit: int, after: date | None = None, order: str = "desc", key_id: str | None = None
) -> tuple[list[Day], bool]:
    """Days from the first key's to today, of all keys or one; and whether more follow."""
    days = _days(session)
    if order == "desc":
        days.reverse()
    if after is not None:
        days = [day for day in days if (day < after if order == "desc" else day > after)]
    return list(_used(session, days[:limit], key_id)), len(days) > limit


def since(session: Session, at: float, key_id: str | None = None) -> list[Day]:
    """All days from that of this time on, the oldest first."""
    return list(_used(session, [day for day in _days(session) if day >= _date(at)], key_id))


def _days(session: Session) -> list[date]:
    """From that of the first key to today."""
    made, at = session.execute(select(func.min(Key.created_at), clock(session))).one()
    first, last = _date(at if made is None else min(at, made)), _date(at)
    return [first + n * ONE_DAY for n in range((last - first).days + 1)]


def _date(at: float) -> date:
    return datetime.fromtimestamp(at, UTC).date()


def _used(session: Session, days: list[date], key_id: str | None) -> Iterator[Day]:
    # One key's rows are not asked for by themselves: a database would rather read all there are of it, of all days.
    known = [key for key in session.scalars(select(Key).order_by(Key.id)) if key_id in (None, key.id)]
    for day in days:
        found = {key.id: Used(key) for key in known}
        for used_by, counts in _counts(session, day):
            # Imported pairs have no key, and others may not be wanted.
            if used_by in found:
                for name, count in counts.items():
                    setattr(found[used_by], name, getattr(found[used_by], name) + count)
        yield Day(day, [used for used in found.values() if used != Used(used.key)])


def _counts(session: Session, day: date) -> Iterator[tuple[str, dict[str, int]]]:
    """By the id of the key that asked: what there is of it, in parts."""
    begins = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    ends = begins + ONE_DAY.total_seconds()
    none = literal(0)
    chats = select(
        Sample.key_id,
        func.count(Sample.prompt_tokens),
        func.coalesce(func.sum(Sample.prompt_tokens), 0),
        func.coalesce(func.sum(Sample.reply_tokens), 0),
        none,
        none,
    ).where(Sample.created_at >= begins, Sample.created_at < ends)
    # Without pairs that are shown again to check their raters: nobody asked for those. As a condition it would lead
    # SQLite to the index of what they repeat, and so to all pairs there are.
    asked_for = func.count() - func.count(Comparison.repeat_of)
    comparisons = select(Comparison.key_id, none, none, none, asked_for, none).where(
        Comparison.id >= earliest("cmp", begins), Comparison.id < earliest("cmp", ends)
    )
    votes = (
        select(Rater.key_id, none, none, none, none, func.count())
        .select_from(Vote)
        .join(Rater, Rater.id == Vote.rater_id)
        .where(Vote.id >= earliest("vote", begins), Vote.id < earliest("vote", ends), Vote.state != "retracted")
    )
    of_each: CompoundSelect[Any] = union_all(
        chats.group_by(Sample.key_id), comparisons.group_by(Comparison.key_id), votes.group_by(Rater.key_id)
    )
    for used_by, *counts in session.execute(of_each):
        yield used_by, dict(zip(COUNTED, map(int, counts), strict=True))
