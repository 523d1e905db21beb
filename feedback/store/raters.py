"""Raters in the record: found or made when they first vote; erased on request."""

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from feedback.errors import NotFound
from feedback.ids import new_id
from feedback.schema import (
    Comparison,
    DatasetVote,
    Policy,
    Rater,
    Sample,
    Transcript,
    Vote,
    VoteRevision,
)
from feedback.store import counting, insert, now


def find(session: Session, key_id: str, name: str) -> str | None:
    """The id of the rater known under this key by this name, or None."""
    return session.scalars(select(Rater.id).where(Rater.key_id == key_id, Rater.name == name)).one_or_none()


def find_or_create(session: Session, key_id: str, name: str) -> str:
    """The id of the rater known under this key by this name, made when it is not there yet."""
    known = find(session, key_id, name)
    if known is not None:
        return known
    session.execute(
        insert(session, Rater)
        .values(id=new_id("rtr"), key_id=key_id, name=name, created_at=now(session))
        .on_conflict_do_nothing(index_elements=["key_id", "name"])
    )
    return session.scalars(select(Rater.id).where(Rater.key_id == key_id, Rater.name == name)).one()


def get(session: Session, rater_id: str) -> Rater | None:
    return session.get(Rater, rater_id)


def erase(session: Session, rater_id: str) -> list[int]:
    """Remove what a person has written and voted: their votes, and the chats that were held for them.

    A chat's row stays without its texts, so that what was counted still adds up; a pair that lost a side is in no later
    dataset. Returns the policy versions that were trained on any of it. Raises NotFound.
    """
    rater = session.get(Rater, rater_id)
    if rater is None or rater.erased_at is not None:
        raise NotFound(f"no rater {rater_id!r}")
    own_votes = select(Vote.id).where(Vote.rater_id == rater_id)
    own_samples = select(Sample.id).where(
        Sample.key_id == rater.key_id,
        Sample.user.is_(None) if rater.name == "" else Sample.user == rater.name,
    )
    on_own_samples = (
        select(Vote.id)
        .join(Comparison, Comparison.id == Vote.comparison_id)
        .where(Comparison.sample_0.in_(own_samples) | Comparison.sample_1.in_(own_samples))
    )
    versions = list(
        session.scalars(
            select(Policy.version)
            .join(DatasetVote, DatasetVote.dataset_digest == Policy.dataset_digest)
            .where(DatasetVote.vote_id.in_(own_votes) | DatasetVote.vote_id.in_(on_own_samples))
            .distinct()
            .order_by(Policy.version)
        )
    )
    counting.set_apart(session, rater_id, "retracted")
    session.execute(delete(VoteRevision).where(VoteRevision.vote_id.in_(own_votes)))
    session.execute(update(Vote).where(Vote.rater_id == rater_id).values(state="retracted", reason=None, ideal=None))
    session.execute(delete(Transcript).where(Transcript.rater_id == rater_id))
    session.execute(
        update(Sample)
        .where(Sample.id.in_(own_samples))
        .values(status="erased", messages=[], text="", message=None, token_ids=None, logprobs=None)
    )
    # The name a client gave may itself say who it was; without it the same person can begin anew.
    rater.name = f"erased:{rater.id}"
    rater.erased_at = now(session)
    return versions
