"""How often which policy version was preferred to which: from the tallies, or with the lengths from each vote."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from feedback.schema import Comparison, Rater, Sample, Vote
from feedback.schema import Tally as TallyRow
from feedback.store import READ_BATCH
from feedback.store.tallies import IS_COUNTED

DECIDES = ("0", "1", "tie")


@dataclass(frozen=True)
class Tally:
    """`votes` votes under `objective` that said `preferred` of a pair shown as (`left`, `right`) versions.

    All votes of one rater are in one `cluster`, which may hold other raters too.
    """

    objective: str
    left: int
    right: int
    preferred: str
    votes: int
    cluster: int = 0


def tallies(session: Session) -> Iterator[Tally]:
    """Of all counted votes on pairs of two different versions; mixed replies are left out."""
    rows = session.execute(
        select(*TallyRow.__table__.c)
        .where(
            TallyRow.preferred.in_(DECIDES),
            TallyRow.version_0 >= 0,
            TallyRow.version_1 >= 0,
            TallyRow.version_0 != TallyRow.version_1,
            TallyRow.votes > 0,
        )
        .order_by(TallyRow.objective, TallyRow.version_0, TallyRow.version_1, TallyRow.preferred, TallyRow.cluster)
    )
    for row in rows:
        yield Tally(row.objective, row.version_0, row.version_1, row.preferred, row.votes, row.cluster)


class Compared(NamedTuple):
    """A vote of the tallies, with the characters of the replies on the left and on the right."""

    objective: str
    left: int
    right: int
    preferred: str
    rater_id: str
    on_left: int
    on_right: int


def compared(session: Session) -> Iterator[Compared]:
    """The votes of the tallies, but for those on pairs whose texts were erased."""
    left, right = aliased(Sample), aliased(Sample)
    rows = session.connection().execute(
        select(
            Vote.objective,
            Comparison.version_0,
            Comparison.version_1,
            Vote.preferred,
            Vote.rater_id,
            func.length(left.text),
            func.length(right.text),
        )
        .select_from(Vote)
        .join(Comparison, Comparison.id == Vote.comparison_id)
        .join(Rater, Rater.id == Vote.rater_id)
        .join(left, left.id == Comparison.sample_0)
        .join(right, right.id == Comparison.sample_1)
        .where(
            IS_COUNTED,
            Vote.is_check.is_(False),
            Vote.preferred.in_(DECIDES),
            Rater.quarantined_at.is_(None),
            Comparison.version_0 != Comparison.version_1,
            left.status != "erased",
            right.status != "erased",
        )
        .execution_options(yield_per=READ_BATCH)
    )
    yield from map(Compared._make, rows)
