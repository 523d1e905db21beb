"""Tallies in the record: how many counted votes say what of which versions, kept as votes are counted.

They are the ratings' only source and the count of all votes that count, so neither has to read a million rows.
"""

import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, literal_column, select
from sqlalchemy.orm import Session

from feedback.schema import Comparison, Tally, Vote
from feedback.store import insert

NO_VERSION = -1
CLUSTERS = 64
"""Into how many clusters raters fall: enough to tell how far votes of one rater go together, and few rows."""

# Written out, not bound: only so does SQLite see that the index of a state is enough.
IS_ACCEPTED = Vote.state == literal_column("'accepted'")
IS_COUNTED = Vote.state == literal_column("'counted'")
IS_APART = Vote.state.in_((literal_column("'quarantined'"), literal_column("'retracted'")))


@dataclass(frozen=True)
class Entry:
    """What is counted of a vote together with others like it."""

    comparison_id: str
    rater_id: str
    objective: str
    version_0: int
    version_1: int
    preferred: str


def entry(row: Any) -> Entry:
    """That of a vote, from the columns `COLUMNS` of it."""
    rated = not row.is_check
    return Entry(
        row.comparison_id,
        row.rater_id,
        row.objective,
        NO_VERSION if row.version_0 is None or not rated else row.version_0,
        NO_VERSION if row.version_1 is None or not rated else row.version_1,
        row.preferred,
    )


def cluster_of(rater_id: str) -> int:
    return zlib.crc32(rater_id.encode()) % CLUSTERS


COLUMNS = (
    Vote.comparison_id,
    Vote.rater_id,
    Vote.objective,
    Comparison.version_0,
    Comparison.version_1,
    Vote.preferred,
    Vote.is_check,
)


def of_votes(session: Session, which: Any) -> list[Entry]:
    """The votes that satisfy `which`."""
    rows = session.execute(select(*COLUMNS).join(Comparison, Comparison.id == Vote.comparison_id).where(which))
    return [entry(row) for row in rows]


def change(session: Session, entries: Iterable[Entry], sign: int) -> None:
    """Add each entry to its tally, or take it away."""
    changes: Counter[tuple[str, int, int, str, int]] = Counter()
    for one in entries:
        changes[one.objective, one.version_0, one.version_1, one.preferred, cluster_of(one.rater_id)] += sign
    statement = insert(session, Tally)
    # In order: see `feedback.store.counting`.
    session.connection().execute(
        statement.on_conflict_do_update(
            index_elements=["objective", "version_0", "version_1", "preferred", "cluster"],
            set_={"votes": Tally.votes + statement.excluded.votes},
        ),
        [
            {
                "objective": objective,
                "version_0": first,
                "version_1": second,
                "preferred": preferred,
                "cluster": cluster,
                "votes": votes,
            }
            for (objective, first, second, preferred, cluster), votes in sorted(changes.items())
        ],
    )


def counted(session: Session) -> int:
    """How many votes count."""
    return session.scalars(select(func.coalesce(func.sum(Tally.votes), 0))).one()
