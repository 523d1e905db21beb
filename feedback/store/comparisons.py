"""Comparisons in the record: one by id, and those that want votes, most informative first."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, aliased

from feedback.errors import NotFound
from feedback.schema import Comparison, Rater, Sample, Vote

IMPORTED = "import"


@dataclass(frozen=True)
class Pair:
    """A comparison with its two samples, and the votes of the rater who looks at it."""

    comparison: Comparison
    samples: tuple[Sample, Sample]
    votes: tuple[Vote, ...]

    @property
    def revealed(self) -> bool:
        """The versions are shown to a rater who has voted, under whichever objective."""
        return any(vote.state != "retracted" for vote in self.votes)


def visible_to(key_id: str, sees_all: bool) -> ColumnElement[bool] | None:
    """A key sees the comparisons made with it and the imported ones; an operator's key sees all (None: no limit)."""
    if sees_all:
        return None
    return (Comparison.key_id == key_id) | (Comparison.key_id == IMPORTED)


def get(
    session: Session,
    comparison_id: str,
    *,
    key_id: str,
    sees_all: bool,
    rater_id: str | None = None,
) -> Pair:
    """One pair. Raises NotFound when there is none or it belongs to somebody else."""
    comparison = session.get(Comparison, comparison_id)
    if comparison is None or not (sees_all or comparison.key_id in (key_id, IMPORTED)):
        raise NotFound(f"no comparison {comparison_id!r}")
    return _pairs(session, [comparison], rater_id)[0]


def open_for(
    session: Session,
    *,
    key_id: str,
    sees_all: bool,
    rater: str,
    objective: str,
    votes_wanted: int,
    limit: int,
    after: str | None = None,
) -> tuple[list[Pair], bool]:
    """The pairs that this rater (by name) may still judge under `objective`: few votes first, then the newest.

    Returns the page and whether more follow. `after` is the id of the last comparison of the page before.
    """
    rater_id = session.scalars(select(Rater.id).where(Rater.key_id == key_id, Rater.name == rater)).one_or_none()
    statement = select(Comparison).where(Comparison.votes_counted < votes_wanted)
    limit_to_own = visible_to(key_id, sees_all)
    if limit_to_own is not None:
        statement = statement.where(limit_to_own)
    if rater_id is not None:
        own = aliased(Vote)
        statement = statement.where(
            ~select(own.id)
            .where(
                own.comparison_id == Comparison.id,
                own.rater_id == rater_id,
                own.objective == objective,
                own.state != "retracted",
            )
            .exists()
        )
    if after is not None:
        last = session.get(Comparison, after)
        if last is None:
            raise NotFound(f"no comparison {after!r} to list after")
        statement = statement.where(
            (Comparison.votes_counted > last.votes_counted)
            | ((Comparison.votes_counted == last.votes_counted) & (Comparison.id < last.id))
        )
    statement = statement.order_by(Comparison.votes_counted, Comparison.id.desc()).limit(limit + 1)
    rows = list(session.scalars(statement))
    return _pairs(session, rows[:limit], rater_id), len(rows) > limit


def list_all(
    session: Session,
    *,
    key_id: str,
    sees_all: bool,
    rater: str,
    limit: int,
    after: str | None,
    order: str,
) -> tuple[list[Pair], bool]:
    """All pairs visible to the key, by time."""
    from feedback.store import page

    statement = select(Comparison)
    limit_to_own = visible_to(key_id, sees_all)
    if limit_to_own is not None:
        statement = statement.where(limit_to_own)
    rows, more = page(session, statement, Comparison.id, limit=limit, after=after, order=order)
    rater_id = session.scalars(select(Rater.id).where(Rater.key_id == key_id, Rater.name == rater)).one_or_none()
    return _pairs(session, rows, rater_id), more


def _pairs(session: Session, comparisons: list[Comparison], rater_id: str | None) -> list[Pair]:
    sample_ids = [id_ for comparison in comparisons for id_ in (comparison.sample_0, comparison.sample_1)]
    samples = {sample.id: sample for sample in session.scalars(select(Sample).where(Sample.id.in_(sample_ids)))}
    votes: dict[str, list[Vote]] = {}
    if rater_id is not None:
        ids = [comparison.id for comparison in comparisons]
        for vote in session.scalars(select(Vote).where(Vote.rater_id == rater_id, Vote.comparison_id.in_(ids))):
            votes.setdefault(vote.comparison_id, []).append(vote)
    return [
        Pair(
            comparison,
            (samples[comparison.sample_0], samples[comparison.sample_1]),
            tuple(votes.get(comparison.id, ())),
        )
        for comparison in comparisons
    ]
