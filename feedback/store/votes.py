"""Votes in the record: put, retracted, claimed and counted.

The row is the outbox. `put` commits it as `accepted`; `count_accepted` turns accepted rows into counted ones in one
transaction, so however often it is called, and whoever is killed, each revision of a vote is counted exactly once.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from feedback.errors import NotFound
from feedback.ids import new_id
from feedback.schema import Comparison, Dataset, DatasetVote, Iteration, Vote, VoteRevision
from feedback.store import comparisons, insert, now, raters

COUNT_BATCH = 500


@dataclass(frozen=True)
class Judgement:
    """What a rater says of a comparison under one objective."""

    objective: str
    preferred: str
    strength: int | None
    reason: str | None = None
    ideal: str | None = None


def put(
    session: Session,
    comparison_id: str,
    judgement: Judgement,
    *,
    key_id: str,
    sees_all: bool,
    rater: str,
) -> Vote:
    """Accept a vote: the first one, the same again (changes nothing) or another (replaces it, keeps the history).

    Raises NotFound when there is no such comparison or it belongs to somebody else.
    """
    _check_visible(session, comparison_id, key_id, sees_all)
    rater_id = raters.find_or_create(session, key_id, rater)
    at = now(session)
    said = {
        "preferred": judgement.preferred,
        "strength": judgement.strength,
        "reason": judgement.reason,
        "ideal": judgement.ideal,
    }
    first = {
        "id": new_id("vote"),
        "comparison_id": comparison_id,
        "rater_id": rater_id,
        "objective": judgement.objective,
        "state": "accepted",
        "revision": 1,
        "created_at": at,
        "updated_at": at,
        "counted_at": None,
        **said,
    }
    inserted = session.scalars(
        insert(session, Vote)
        .values(first)
        .on_conflict_do_nothing(index_elements=["comparison_id", "rater_id", "objective"])
        .returning(Vote)
    ).one_or_none()
    if inserted is not None:
        _keep_revision(session, inserted, said, at)
        return inserted
    vote = session.scalars(
        select(Vote)
        .where(
            Vote.comparison_id == comparison_id,
            Vote.rater_id == rater_id,
            Vote.objective == judgement.objective,
        )
        .with_for_update()
    ).one()
    same = all(getattr(vote, field) == value for field, value in said.items())
    if same and vote.state != "retracted":
        return vote
    _uncount(session, vote)
    for field, value in said.items():
        setattr(vote, field, value)
    vote.state = "accepted"
    vote.revision += 1
    vote.updated_at = at
    _keep_revision(session, vote, said, at)
    return vote


def retract(
    session: Session,
    comparison_id: str,
    objective: str | None,
    *,
    key_id: str,
    sees_all: bool,
    rater: str,
) -> list[Vote]:
    """Take back this rater's votes on a comparison (under one objective, or all). Retracting again changes nothing.

    Raises NotFound when there is no such vote.
    """
    _check_visible(session, comparison_id, key_id, sees_all)
    rater_id = raters.find(session, key_id, rater)
    statement = select(Vote).where(Vote.comparison_id == comparison_id, Vote.rater_id == rater_id).with_for_update()
    if objective is not None:
        statement = statement.where(Vote.objective == objective)
    votes = list(session.scalars(statement))
    if not votes:
        raise NotFound(f"no vote of this rater on comparison {comparison_id!r}")
    at = now(session)
    for vote in votes:
        if vote.state == "retracted":
            continue
        _uncount(session, vote)
        vote.state = "retracted"
        vote.revision += 1
        vote.updated_at = at
        _keep_revision(session, vote, {}, at)
    return votes


def count_accepted(session: Session, limit: int = COUNT_BATCH) -> int:
    """Claim up to `limit` accepted votes and count them, oldest first. Returns how many."""
    claimed = list(
        session.execute(
            select(Vote.id, Vote.comparison_id)
            .where(Vote.state == "accepted")
            .order_by(Vote.updated_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
    )
    if not claimed:
        return 0
    session.execute(
        update(Vote)
        .where(Vote.id.in_([row.id for row in claimed]))
        .values(state="counted", counted_at=now(session))
        .execution_options(synchronize_session=False)
    )
    votes_of: dict[str, int] = {}
    for row in claimed:
        votes_of[row.comparison_id] = votes_of.get(row.comparison_id, 0) + 1
    # Rows are taken in one order by everybody, so two workers cannot wait for each other.
    session.connection().execute(
        update(Comparison.__table__)  # type: ignore[arg-type]
        .where(Comparison.__table__.c.id == bindparam("comparison"))
        .values(votes_counted=Comparison.__table__.c.votes_counted + bindparam("votes")),
        [{"comparison": id_, "votes": votes} for id_, votes in sorted(votes_of.items())],
    )
    return len(claimed)


def get(session: Session, vote_id: str, *, key_id: str, sees_all: bool) -> Vote:
    """One vote. Raises NotFound when there is none or it was cast with another key."""
    vote = session.get(Vote, vote_id)
    rater = raters.get(session, vote.rater_id) if vote is not None else None
    if vote is None or rater is None or not (sees_all or rater.key_id == key_id):
        raise NotFound(f"no vote {vote_id!r}")
    return vote


def history(session: Session, vote_id: str) -> list[VoteRevision]:
    """What a vote said at each of its revisions, oldest first; a retraction says nothing."""
    return list(
        session.scalars(select(VoteRevision).where(VoteRevision.vote_id == vote_id).order_by(VoteRevision.revision))
    )


def used_by(session: Session, vote_id: str) -> list[dict[str, Any]]:
    """The iterations whose dataset holds this vote, with the candidate each made."""
    rows = session.execute(
        select(Iteration.id, Iteration.candidate, DatasetVote.revision, DatasetVote.split)
        .join(Dataset, Dataset.digest == DatasetVote.dataset_digest)
        .join(Iteration, Iteration.dataset_digest == Dataset.digest)
        .where(DatasetVote.vote_id == vote_id)
        .order_by(Iteration.id)
    )
    return [
        {
            "iteration": row.id,
            "candidate": None if row.candidate is None else f"v{row.candidate}",
            "revision": row.revision,
            "split": row.split,
        }
        for row in rows
    ]


def count_by_state(session: Session) -> dict[str, int]:
    """How many votes there are in each state."""
    rows = session.execute(select(Vote.state, func.count()).group_by(Vote.state))
    return {state: count for state, count in rows}  # noqa: C416


def oldest_accepted_at(session: Session) -> float | None:
    """When the oldest vote that is not counted yet was accepted; None when all are counted."""
    return session.scalars(select(func.min(Vote.updated_at)).where(Vote.state == "accepted")).one()


def first_counted_at(session: Session) -> float | None:
    """When the first vote that counts was counted; None when there is none."""
    return session.scalars(select(func.min(Vote.counted_at)).where(Vote.state == "counted")).one()


def counted_since(session: Session, at: float) -> int:
    """How many of the votes that count now were counted after `at`."""
    return session.scalars(
        select(func.count()).select_from(Vote).where(Vote.state == "counted", Vote.counted_at > at)
    ).one()


def _check_visible(session: Session, comparison_id: str, key_id: str, sees_all: bool) -> None:
    owner = session.scalars(select(Comparison.key_id).where(Comparison.id == comparison_id)).one_or_none()
    if owner is None or not (sees_all or owner in (key_id, comparisons.IMPORTED)):
        raise NotFound(f"no comparison {comparison_id!r}")


def _uncount(session: Session, vote: Vote) -> None:
    if vote.state != "counted":
        return
    vote.counted_at = None
    session.execute(
        update(Comparison)
        .where(Comparison.id == vote.comparison_id)
        .values(votes_counted=Comparison.votes_counted - 1)
        .execution_options(synchronize_session=False)
    )


def _keep_revision(session: Session, vote: Vote, said: dict[str, Any], at: float) -> None:
    session.execute(
        insert(session, VoteRevision).values(vote_id=vote.id, revision=vote.revision, created_at=at, **said)
    )
