"""Red-team transcripts in the record, written and read in bulk."""

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from feedback.formats.red_team import Attack
from feedback.ids import new_id
from feedback.schema import IMPORTED, Comparison, Rater, Sample, Transcript, Vote
from feedback.store import READ_BATCH, counting, insert, leases, now, raters
from feedback.store.among import among


def add(session: Session, attacks: list[tuple[str, Attack]]) -> dict[str, int]:
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


def everything(session: Session) -> Iterator[Attack]:
    """The imported transcripts, then those of votes that say how far an attack got, each with the preferred reply."""
    imported = select(Transcript).order_by(Transcript.id).execution_options(yield_per=READ_BATCH)
    for row in session.scalars(imported):
        yield Attack(row.messages, row.success, row.task, row.origin)
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
        .execution_options(yield_per=READ_BATCH)
    )
    for vote, *samples in rows:
        reply = samples[1 if vote.preferred == "1" else 0]
        message = reply.message or {"role": "assistant", "content": reply.text}
        yield Attack([*reply.messages, message], vote.success, None, {})
