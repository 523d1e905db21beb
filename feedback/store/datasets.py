"""The votes that a dataset is frozen from, as the record holds them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from feedback.schema import Comparison, Sample, Vote

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


def counted(session: Session) -> Iterator[Counted]:
    """Every counted vote whose two replies are whole and each of one version, by vote id."""
    first, second = aliased(Sample), aliased(Sample)
    whole = [
        (sample.status == "complete") & (sample.version_first.is_not_distinct_from(sample.version_last))
        for sample in (first, second)
    ]
    after = ""
    while True:
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
            )
            .join(Comparison, Comparison.id == Vote.comparison_id)
            .join(first, first.id == Comparison.sample_0)
            .join(second, second.id == Comparison.sample_1)
            .where(Vote.state == "counted", Vote.id > after, *whole)
            .order_by(Vote.id)
            .limit(READ_BATCH)
        ).all()
        for row in rows:
            *fields, reply_0, reply_1, version_0, version_1 = row
            yield Counted(*fields, (reply_0, reply_1), (version_0, version_1))  # type: ignore[call-arg]
            after = row[0]
        if len(rows) < READ_BATCH:
            return
