"""The votes that a dataset is frozen from, as the record holds them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, aliased

from feedback.schema import Comparison, Rater, Sample, Vote
from feedback.store.comparisons import IMPORTED

READ_BATCH = 2000


@dataclass(frozen=True)
class Counted:
    """One counted vote with the pair it judges."""

    vote_id: str
    revision: int
    rater_id: str
    comparison_id: str
    objective: str
    preferred: str
    strength: int | None
    ideal: str | None
    tranche: str
    prompt_digest: str
    messages: list[dict[str, Any]]
    replies: tuple[str, str]
    versions: tuple[int | None, int | None]
    reliability: float | None


@dataclass(frozen=True)
class Influence:
    """How many counted votes each rater cast, of those each could have weight with, and those of crowded prompts."""

    by_rater: dict[str, int]
    by_prompt: dict[str, int]


def influence(session: Session, crowded: int) -> Influence:
    """Counts of all counted votes by rater (imported ones aside), and by prompt where there are more than `crowded`."""
    by_rater = session.execute(
        select(Vote.rater_id, func.count())
        .join(Rater, Rater.id == Vote.rater_id)
        .where(*_counts(), Rater.key_id != IMPORTED)
        .group_by(Vote.rater_id)
    )
    by_prompt = session.execute(
        select(Comparison.prompt_digest, func.count())
        .select_from(Vote)
        .join(Comparison, Comparison.id == Vote.comparison_id)
        .join(Rater, Rater.id == Vote.rater_id)
        .where(*_counts())
        .group_by(Comparison.prompt_digest)
        .having(func.count() > crowded)
    )
    return Influence(dict(by_rater.all()), dict(by_prompt.all()))


def counted(session: Session) -> Iterator[Counted]:
    """Every counted vote whose two replies are whole and each of one version, by vote id."""
    first, second = aliased(Sample), aliased(Sample)
    whole = [
        (sample.status == "complete") & (sample.version_first.is_not_distinct_from(sample.version_last))
        for sample in (first, second)
    ]
    # One statement, read as it comes: asked for page by page, Postgres joins all tables anew for each of them.
    rows = session.execute(
        select(
            Vote.id,
            Vote.revision,
            Vote.rater_id,
            Vote.comparison_id,
            Vote.objective,
            Vote.preferred,
            Vote.strength,
            Vote.ideal,
            Comparison.tranche,
            Comparison.prompt_digest,
            first.messages,
            first.text,
            second.text,
            first.version_first,
            second.version_first,
            Rater.reliability,
        )
        .join(Comparison, Comparison.id == Vote.comparison_id)
        .join(first, first.id == Comparison.sample_0)
        .join(second, second.id == Comparison.sample_1)
        .join(Rater, Rater.id == Vote.rater_id)
        .where(*_counts(), *whole)
        .order_by(Vote.id)
        .execution_options(yield_per=READ_BATCH)
    )
    for row in rows:
        *fields, reply_0, reply_1, version_0, version_1, reliability = row
        yield Counted(*fields, (reply_0, reply_1), (version_0, version_1), reliability)  # type: ignore[call-arg]


def _counts() -> tuple[ColumnElement[bool], ...]:
    # A rater may have been quarantined while a vote of theirs was being counted.
    return Vote.state == "counted", Vote.is_check.is_(False), Rater.quarantined_at.is_(None)
