"""How often which policy version was preferred to which, from the tallies."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from feedback.schema import Tally as TallyRow


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
            TallyRow.preferred.in_(("0", "1", "tie")),
            TallyRow.version_0 >= 0,
            TallyRow.version_1 >= 0,
            TallyRow.version_0 != TallyRow.version_1,
            TallyRow.votes > 0,
        )
        .order_by(TallyRow.objective, TallyRow.version_0, TallyRow.version_1, TallyRow.preferred, TallyRow.cluster)
    )
    for row in rows:
        yield Tally(row.objective, row.version_0, row.version_1, row.preferred, row.votes, row.cluster)
