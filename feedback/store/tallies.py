"""Tallies in the record: how many counted votes say what of which versions, kept as votes are counted.

They are the ratings' only source and the count of all votes that count, so neither has to read a million rows.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, literal_column, select
from sqlalchemy.orm import Session

from feedback.schema import Comparison, Tally, Vote
from feedback.store import insert

NO_VERSION = -1

# Written out, not bound: only so does SQLite see that the index of a state is enough.
IS_ACCEPTED = Vote.state == literal_column("'accepted'")
IS_COUNTED = Vote.state == literal_column("'counted'")
IS_APART = Vote.state.in_((literal_column("'quarantined'"), literal_column("'retracted'")))


@dataclass(frozen=True, order=True)
class Entry:
    """The tally that a vote belongs to. A version is None where the reply has none or is mixed."""

    objective: str
    version_0: int | None
    version_1: int | None
    preferred: str


def of_votes(session: Session, which: Any) -> dict[tuple[str, Entry], int]:
    """The votes that satisfy `which`, by comparison and tally."""
    rows = session.execute(
        select(
            Vote.comparison_id,
            Vote.objective,
            Comparison.version_0,
            Comparison.version_1,
            Vote.preferred,
            func.count(),
        )
        .join(Comparison, Comparison.id == Vote.comparison_id)
        .where(which)
        .group_by(Vote.comparison_id, Vote.objective, Comparison.version_0, Comparison.version_1, Vote.preferred)
    )
    return {(row[0], Entry(row[1], row[2], row[3], row[4])): row[5] for row in rows}


def change(session: Session, entries: Iterable[tuple[Entry, int]]) -> None:
    """Add `votes` (which may be negative) to each entry's tally."""
    changes: Counter[tuple[str, int, int, str]] = Counter()
    for entry, votes in entries:
        changes[
            entry.objective,
            NO_VERSION if entry.version_0 is None else entry.version_0,
            NO_VERSION if entry.version_1 is None else entry.version_1,
            entry.preferred,
        ] += votes
    if not changes:
        return
    statement = insert(session, Tally)
    # Rows are taken in one order by everybody, so two workers cannot wait for each other.
    session.connection().execute(
        statement.on_conflict_do_update(
            index_elements=["objective", "version_0", "version_1", "preferred"],
            set_={"votes": Tally.votes + statement.excluded.votes},
        ),
        [
            {"objective": objective, "version_0": first, "version_1": second, "preferred": preferred, "votes": votes}
            for (objective, first, second, preferred), votes in sorted(changes.items())
        ],
    )


def counted(session: Session) -> int:
    """How many votes count."""
    return session.scalars(select(func.coalesce(func.sum(Tally.votes), 0))).one()
