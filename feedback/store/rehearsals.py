"""The chats whose prompts an iteration has the policy rehearse, beside those that were voted on."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from feedback.schema import RehearsedSample, Sample
from feedback.store import bulk, leases

PLAIN_ROLES = {"system", "developer", "user", "assistant"}


class Chat(NamedTuple):
    """What somebody asked: the conversation up to the reply, and the sample that is the reply."""

    sample_id: str
    messages: list[dict[str, Any]]


def newest_chats(session: Session, until: float, limit: int) -> list[Chat]:
    """Of the newest `limit` chats begun by that time the distinct ones, newest first, that can be rehearsed: people's
    own (none that was imported, none that asked for a version by name, as evaluations do), in text alone."""
    rows = session.execute(
        select(Sample.id, Sample.prompt_digest, Sample.messages, Sample.sampling)
        .where(Sample.created_at <= until, Sample.version_first.is_not(None), Sample.status == "complete")
        .order_by(Sample.id.desc())
        .limit(limit)
    )
    found: dict[str, Chat] = {}
    for sample_id, digest, messages, sampling in rows:
        if "model" not in sampling and _is_plain(messages):
            found.setdefault(digest, Chat(sample_id, messages))
    return list(found.values())


def _is_plain(messages: Sequence[dict[str, Any]]) -> bool:
    said = all(one.get("role") in PLAIN_ROLES and isinstance(one.get("content"), str) for one in messages)
    return said and bool(messages) and messages[-1]["role"] == "user"


def keep(session: Session, epoch: int, iteration_id: str, sample_ids: Sequence[str]) -> None:
    """Record what it rehearses. Raises LeaseLost."""
    leases.check(session, leases.LEARNER, epoch)
    rows = [{"iteration_id": iteration_id, "sample_id": sample_id} for sample_id in sample_ids]
    bulk.insert_all(session, RehearsedSample, rows, known_stay=True)


def of_iteration(session: Session, iteration_id: str) -> list[Chat]:
    """The chats that were recorded for it, but for what was erased since."""
    rows = session.execute(
        select(Sample.id, Sample.messages)
        .join(RehearsedSample, RehearsedSample.sample_id == Sample.id)
        .where(RehearsedSample.iteration_id == iteration_id, Sample.status != "erased")
        .order_by(Sample.id)
    )
    return [Chat._make(row) for row in rows]
