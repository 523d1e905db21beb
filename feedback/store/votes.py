"""Votes in the record: put, changed, retracted and looked at.

The row is the outbox. `put` commits it as `accepted`; `feedback.store.counting` turns accepted rows into counted ones.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ScalarSelect, func, select
from sqlalchemy.orm import Session

from feedback.errors import InvalidRequest, NotFound
from feedback.ids import new_id
from feedback.schema import Comparison, Dataset, DatasetVote, Handout, Iteration, Rater, Vote, VoteRevision
from feedback.store import comparisons, counting, insert, now, raters, tallies


@dataclass(frozen=True)
class Judgement:
    """What a rater says of a comparison under one objective.

    `success`, 0 to 4, is how far a red-team attack got. `elapsed_s` is the time on the page, `left` the choice that
    was shown on the left.
    """

    objective: str
    preferred: str
    strength: int | None
    reason: str | None = None
    ideal: str | None = None
    success: int | None = None
    elapsed_s: float | None = None
    left: int | None = None

    def said(self) -> dict[str, Any]:
        """What makes it another judgement when it differs; the history keeps it."""
        return {
            "preferred": self.preferred,
            "strength": self.strength,
            "reason": self.reason,
            "ideal": self.ideal,
            "success": self.success,
        }


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

    Raises NotFound when there is no such comparison or it belongs to somebody else, InvalidRequest when the success of
    an attack is told under another objective than `harmless`.
    """
    if judgement.success is not None and judgement.objective != "harmless":
        raise InvalidRequest("success is that of a red-team attack, which is judged as harmless", param="success")
    rater_id = _rater_on(session, comparison_id, key_id, sees_all, rater)
    at = now(session)
    said = judgement.said()
    first = {
        "id": new_id("vote"),
        "comparison_id": comparison_id,
        "rater_id": rater_id,
        "objective": judgement.objective,
        "elapsed_s": judgement.elapsed_s,
        "left": judgement.left,
        "propensity": _propensity(comparison_id, rater_id),
        "state": "accepted",
        "revision": 1,
        "created_at": at,
        "updated_at": at,
        "counted_at": None,
        **said,
    }
    # Without a session's bookkeeping: this is the hot path.
    inserted = session.connection().execute(
        insert(session, Vote)
        .values(first)
        .on_conflict_do_nothing(index_elements=["comparison_id", "rater_id", "objective"])
        .returning(Vote.id)
    )
    if inserted.first() is not None:
        vote = Vote(**first)
        _keep_revision(session, vote, said, at)
        return vote
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
    counting.uncount(session, vote)
    for field, value in said.items():
        setattr(vote, field, value)
    vote.elapsed_s, vote.left = judgement.elapsed_s, judgement.left
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
        counting.uncount(session, vote)
        vote.state = "retracted"
        vote.revision += 1
        vote.updated_at = at
        _keep_revision(session, vote, {}, at)
    return votes


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
    """How many votes there are in each state. The many that count are not read for it."""
    rows = session.execute(select(Vote.state, func.count()).where(Vote.state != "counted").group_by(Vote.state))
    counts = {state: count for state, count in rows} | {"counted": tallies.counted(session)}  # noqa: C416
    return {state: count for state, count in counts.items() if count}


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


def _rater_on(session: Session, comparison_id: str, key_id: str, sees_all: bool, rater: str) -> str:
    """The id of this rater, made when it is not there yet. Raises NotFound when the comparison is not theirs to see."""
    row = (
        session.connection()
        .execute(
            select(Comparison.key_id, Rater.id)
            .outerjoin(Rater, (Rater.key_id == key_id) & (Rater.name == rater))
            .where(Comparison.id == comparison_id)
        )
        .one_or_none()
    )
    if row is None or not (sees_all or row[0] in (key_id, comparisons.IMPORTED)):
        raise NotFound(f"no comparison {comparison_id!r}")
    return row[1] or raters.find_or_create(session, key_id, rater)


def _propensity(comparison_id: str, rater_id: str) -> ScalarSelect[float]:
    return (
        select(Handout.propensity)
        .where(Handout.comparison_id == comparison_id, Handout.rater_id == rater_id)
        .scalar_subquery()
    )


def _keep_revision(session: Session, vote: Vote, said: dict[str, Any], at: float) -> None:
    session.connection().execute(
        insert(session, VoteRevision).values(vote_id=vote.id, revision=vote.revision, created_at=at, **said)
    )
