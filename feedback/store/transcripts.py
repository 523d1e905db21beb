"""Red-team transcripts in the record, written and read in bulk."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from feedback.ids import new_id
from feedback.schema import Comparison, Rater, Sample, Transcript, Vote
from feedback.store import counting, insert, leases, now, raters
from feedback.store.among import among
from feedback.store.comparisons import IMPORTED

READ_BATCH = 1000


@dataclass(frozen=True)
class Attacked:
    """A conversation with an attack in it, how far it got, and what else is known."""

    messages: list[dict[str, Any]]
    success: int | None
    task: str | None
    rest: dict[str, Any]


def add(session: Session, attacks: list[tuple[str, Attacked]]) -> dict[str, int]:
    """Record the attacks, each with its digest, that are not known yet. Returns counts: `imported` and `known`."""
    leases.lock(session, leases.IMPORTS)
    digests = [digest for digest, _ in attacks]
    known = set(session.scalars(select(Transcript.origin_digest).where(among(Transcript.origin_digest, digests))))
    at, rater_id = now(session), raters.find_or_create(session, IMPORTED, "", lock=raters.WHILE_VOTES_COME)
    rows = [
        {
            "id": new_id("trn"),
            "rater_id": rater_id,
            "messages": attack.messages,
            "success": attack.success,
            "task": attack.task,
            "origin": attack.rest,
            "origin_digest": digest,
            "created_at": at,
        }
        for digest, attack in attacks
        if digest not in known
    ]
    if rows:
        session.execute(insert(session, Transcript), rows)
    return {"imported": len(rows), "known": len(attacks) - len(rows)}


def everything(session: Session) -> Iterator[Attacked]:
    """The imported transcripts, then those of votes that say how far an attack got, each with the preferred reply."""
    after = ""
    while batch := list(
        session.scalars(select(Transcript).where(Transcript.id > after).order_by(Transcript.id).limit(READ_BATCH))
    ):
        for row in batch:
            yield Attacked(row.messages, row.success, row.task, row.origin)
        after = batch[-1].id
        session.expunge_all()
    first, second = aliased(Sample), aliased(Sample)
    rows = session.execute(
        select(Vote, first, second)
        .join(Comparison, Comparison.id == Vote.comparison_id)
        .join(first, first.id == Comparison.sample_0)
        .join(second, second.id == Comparison.sample_1)
        .join(Rater, Rater.id == Vote.rater_id)
        .where(Vote.success.is_not(None), counting.MAY_COUNT, first.status != "erased")
        # Whose votes are being set apart.
        .where(Rater.quarantined_at.is_(None))
        .order_by(Vote.id)
    )
    for vote, *samples in rows:
        reply = samples[1 if vote.preferred == "1" else 0]
        message = reply.message or {"role": "assistant", "content": reply.text}
        yield Attacked([*reply.messages, message], vote.success, None, {})
