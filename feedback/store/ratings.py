"""How often which policy version was preferred to which, counted by the database."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from feedback.schema import Comparison, Sample, Vote


@dataclass(frozen=True)
class Tally:
    """`votes` votes under `objective` that said `preferred` of a pair shown as (`left`, `right`) versions."""

    objective: str
    left: int
    right: int
    preferred: str
    votes: int


def tallies(session: Session) -> Iterator[Tally]:
    """Of all counted votes on pairs of two different versions; mixed replies are left out."""
    left, right = aliased(Sample), aliased(Sample)
    rows = session.execute(
        select(Vote.objective, left.version_first, right.version_first, Vote.preferred, func.count())
        .join(Comparison, Comparison.id == Vote.comparison_id)
        .join(left, left.id == Comparison.sample_0)
        .join(right, right.id == Comparison.sample_1)
        .where(
            Vote.state == "counted",
            Vote.preferred.in_(("0", "1", "tie")),
            left.version_first == left.version_last,
            right.version_first == right.version_last,
            left.version_first != right.version_first,
        )
        .group_by(Vote.objective, left.version_first, right.version_first, Vote.preferred)
    )
    for objective, left_version, right_version, preferred, votes in rows:
        if left_version is not None and right_version is not None:
            yield Tally(objective, left_version, right_version, preferred, votes)
