"""Samples and the comparisons made of them: written once, when the reply has ended."""

import hashlib
from typing import Any

import orjson
from sqlalchemy.orm import Session

from feedback.ids import new_id
from feedback.schema import Comparison, Sample


def prompt_digest(messages: list[dict[str, Any]]) -> str:
    """SHA-256 of the conversation that a reply answers; datasets are split by it."""
    return hashlib.sha256(orjson.dumps(messages, option=orjson.OPT_SORT_KEYS)).hexdigest()


def add(session: Session, samples: list[Sample]) -> None:
    session.add_all(samples)


def add_comparison(session: Session, comparison: Comparison, samples: tuple[Sample, Sample]) -> None:
    """Record a comparison together with its two samples."""
    session.add_all(samples)
    session.flush()
    session.add(comparison)


def compare(
    samples: tuple[Sample, Sample], *, key_id: str, tranche: str, comparison_id: str | None = None
) -> Comparison:
    """A comparison of two samples, in the order in which they were shown. Not yet recorded."""
    return Comparison(
        id=comparison_id or new_id("cmp"),
        key_id=key_id,
        sample_0=samples[0].id,
        sample_1=samples[1].id,
        prompt_digest=samples[0].prompt_digest,
        tranche=tranche,
        origin=None,
        origin_digest=None,
        votes_counted=0,
        created_at=samples[0].created_at,
    )


def get(session: Session, sample_id: str) -> Sample | None:
    return session.get(Sample, sample_id)
