"""Imported pairs in the record, written and read in bulk."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from feedback.ids import new_id
from feedback.schema import IMPORTED, Comparison, Rater, Sample, Vote
from feedback.store import READ_BATCH, bulk, counting, finding, leases, now, raters
from feedback.store.among import among
from feedback.store.samples import prompt_digest


@dataclass(frozen=True)
class Pair:
    """A comparison that comes with its vote. `preferred` is "0" or "1", an index into `replies`."""

    messages: list[dict[str, Any]]
    replies: tuple[dict[str, Any], dict[str, Any]]
    preferred: str
    objective: str
    tranche: str
    origin: dict[str, Any]
    origin_digest: str


@dataclass(frozen=True)
class Judged:
    """A comparison with one of its votes, as an export needs it."""

    comparison: Comparison
    samples: tuple[Sample, Sample]
    vote: Vote


def add(session: Session, pairs: list[Pair]) -> dict[str, int]:
    """Record the pairs that are not known yet. Returns how many were `imported` and how many `known`."""
    leases.lock(session, leases.IMPORTS)
    digests = [pair.origin_digest for pair in pairs]
    known = set(session.scalars(select(Comparison.origin_digest).where(among(Comparison.origin_digest, digests))))
    fresh = [pair for pair in pairs if pair.origin_digest not in known]
    if fresh:
        _insert(session, fresh, raters.find_or_create(session, IMPORTED, "", lock=raters.WHILE_VOTES_COME))
    return {"imported": len(fresh), "known": len(pairs) - len(fresh)}


def judged(session: Session, wanted: finding.Wanted) -> Iterator[Judged]:
    """Every vote that is looked for and neither retracted nor quarantined nor a check, nor on a pair whose texts were
    erased, with its pair, oldest first."""
    first, second = aliased(Sample), aliased(Sample)
    statement = (
        select(Comparison, first, second, Vote)
        .join(first, first.id == Comparison.sample_0)
        .join(second, second.id == Comparison.sample_1)
        .join(Vote, Vote.comparison_id == Comparison.id)
        .join(Rater, Rater.id == Vote.rater_id)
        .where(
            counting.MAY_COUNT,
            # Whose votes are being set apart.
            Rater.quarantined_at.is_(None),
            Vote.is_check.is_(False),
            first.status != "erased",
            second.status != "erased",
            *finding.conditions(session, wanted),
        )
        .order_by(Vote.id)
        .execution_options(yield_per=READ_BATCH)
    )
    for comparison, sample_0, sample_1, vote in session.execute(statement):
        yield Judged(comparison, (sample_0, sample_1), vote)


def _insert(session: Session, pairs: list[Pair], rater_id: str) -> None:
    at = now(session)
    samples: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    votes: list[dict[str, Any]] = []
    for pair in pairs:
        digest = prompt_digest(pair.messages)
        sides = [_sample(pair, reply, digest, at) for reply in pair.replies]
        comparison = {
            "id": new_id("cmp"),
            "key_id": IMPORTED,
            "sample_0": sides[0]["id"],
            "sample_1": sides[1]["id"],
            "prompt_digest": digest,
            "tranche": pair.tranche,
            "origin": pair.origin,
            "origin_digest": pair.origin_digest,
            "votes_counted": 0,
            "disagreement": 1.0,
            "draw": random.random(),
            "created_at": at,
        }
        vote_id = new_id("vote")
        said = {"preferred": pair.preferred, "strength": None, "reason": None, "ideal": None}
        samples += sides
        comparisons.append(comparison)
        votes.append(
            {
                "id": vote_id,
                "comparison_id": comparison["id"],
                "rater_id": rater_id,
                "objective": pair.objective,
                "state": "accepted",
                "revision": 1,
                "created_at": at,
                "updated_at": at,
                "counted_at": None,
                **said,
            }
        )
    for model, rows in ((Sample, samples), (Comparison, comparisons), (Vote, votes)):
        bulk.insert_all(session, model, rows)


def _sample(pair: Pair, reply: dict[str, Any], digest: str, at: float) -> dict[str, Any]:
    return {
        "id": new_id("smp"),
        "key_id": IMPORTED,
        "user": None,
        "request_id": None,
        "messages": pair.messages,
        "prompt_digest": digest,
        "text": reply["content"],
        "message": reply,
        "token_ids": None,
        "logprobs": None,
        "sampling": {},
        "seed": None,
        "version_first": None,
        "version_last": None,
        "status": "complete",
        "finish_reason": None,
        "usage": None,
        "created_at": at,
        "finished_at": at,
    }
