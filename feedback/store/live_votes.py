"""The counted votes that compare two given versions, by rater, read from the record."""

from typing import Any

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from feedback.live_votes import RaterTally
from feedback.schema import Comparison, Rater, Tally, Vote
from feedback.store import counting

OUTCOME_ON_LEFT = {"0": "won", "1": "lost", "tie": "tied"}
OUTCOME_ON_RIGHT = {"0": "lost", "1": "won", "tie": "tied"}


def between(session: Session, version: int, other: int) -> list[RaterTally]:
    """What each rater said of `version` against `other`. Votes that called both bad compare nothing."""
    if version == other or not _any(session, version, other):
        return []
    rows = session.execute(
        select(Vote.rater_id, Vote.objective, Comparison.version_0, Vote.preferred, func.count())
        .join(Comparison, Comparison.id == Vote.comparison_id)
        .join(Rater, Rater.id == Vote.rater_id)
        .where(
            *counting.COUNTS,
            Vote.preferred.in_(tuple(OUTCOME_ON_LEFT)),
            or_(
                and_(Comparison.version_0 == version, Comparison.version_1 == other),
                and_(Comparison.version_0 == other, Comparison.version_1 == version),
            ),
        )
        .group_by(Vote.rater_id, Vote.objective, Comparison.version_0, Vote.preferred)
    )
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for rater_id, objective, left, preferred, votes in rows:
        outcome = (OUTCOME_ON_LEFT if left == version else OUTCOME_ON_RIGHT)[preferred]
        own = counts.setdefault((rater_id, objective), {"won": 0, "tied": 0, "lost": 0})
        own[outcome] += votes
    return [RaterTally(rater_id, objective, **own) for (rater_id, objective), own in sorted(counts.items())]


def tallied(session: Session, version: int) -> frozenset[tuple[Any, ...]]:
    """Another one whenever `between` may say something else of `version`, but for a vote in whose place another rater's
    came that says the same, and for who is set apart: the votes of all pairs are in the tallies, which are few."""
    columns = Tally.objective, Tally.version_0, Tally.version_1, Tally.preferred, Tally.cluster, Tally.votes
    rows = session.execute(select(*columns).where(or_(Tally.version_0 == version, Tally.version_1 == version)))
    return frozenset(tuple(row) for row in rows)


def _any(session: Session, version: int, other: int) -> bool:
    """By the tallies: without any such vote there is no need to look through all of them."""
    pairs = ((version, other), (other, version))
    statement = select(func.coalesce(func.sum(Tally.votes), 0)).where(
        or_(*(and_(Tally.version_0 == left, Tally.version_1 == right) for left, right in pairs))
    )
    return session.scalars(statement).one() > 0
