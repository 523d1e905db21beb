"""The votes that a dataset is frozen from, as the record holds them."""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, case, func, null, select, true
from sqlalchemy.orm import Session, aliased

from feedback.errors import NotFound
from feedback.schema import (
    Comparison,
    Dataset,
    DatasetVote,
    Iteration,
    Rater,
    Sample,
    Vote,
    VoteRevision,
    has_ended,
)
from feedback.store import READ_BATCH, counting, now
from feedback.store.among import among

LOOKED_BACK = 100
ALL_ALIKE: Mapping[tuple[str, str], float] = {}
# Whether a longer text is nothing but space is not asked.
MAYBE_BLANK = 20


class Counted(NamedTuple):
    """One counted vote with the pair it judges. `ended` is False of a reply that was cut off at a limit of tokens."""

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
    ended: tuple[bool, bool]
    reliability: float | None


class Learnt(NamedTuple):
    """What a dataset holds of a vote: under which label, with which weight. `rewrite_label` is that of its rewritten
    reply; None where the vote compares nothing, or has no rewritten reply."""

    vote_id: str
    revision: int
    split: str
    label: float | None
    rewrite_label: float | None
    weight: float


@dataclass(frozen=True)
class Drawn:
    """All votes counted after `since`, and some of those counted by then: their ids in order, and how many were `old`
    and how many of these were `kept`."""

    ids: list[str]
    since: float
    old: int
    kept: int


def counts(session: Session, digest: str | None) -> dict[str, int]:
    """How many examples a dataset was frozen with, by split, objective and tranche; empty where there is none."""
    dataset = None if digest is None else session.get(Dataset, digest)
    found: dict[str, int] = {} if dataset is None else dataset.summary.get("counts", {})
    return found


def learnt_until(session: Session) -> float | None:
    """When the votes of the last iteration that succeeded were frozen; None when there is none.

    One that froze them in the future did so before the clock was turned back, and says nothing of votes since.
    """
    at = now(session)
    newest = (
        select(Dataset)
        .join(Iteration, Iteration.dataset_digest == Dataset.digest)
        .where(Iteration.state == "succeeded")
        .order_by(Iteration.created_at.desc())
        .limit(LOOKED_BACK)
    )
    return next((frozen_at(dataset) for dataset in session.scalars(newest) if frozen_at(dataset) <= at), None)


def frozen_at(dataset: Dataset) -> float:
    """When its votes were read; of one from before that was noted, when it was recorded."""
    noted: float = dataset.summary.get("frozen_at", dataset.created_at)
    return noted


def old_by_rater(session: Session, since: float) -> dict[str, dict[str, int]]:
    """How many of the votes counted by `since` each rater has, by objective."""
    is_old = Vote.counted_at.is_(None) | (Vote.counted_at <= since)
    rows = session.execute(
        select(Vote.objective, Vote.rater_id, func.count())
        .join(Rater, Rater.id == Vote.rater_id)
        .where(is_old, *counting.COUNTS)
        .group_by(Vote.objective, Vote.rater_id)
    )
    found: dict[str, dict[str, int]] = {}
    for objective, rater_id, count in rows:
        found.setdefault(objective, {})[rater_id] = count
    return found


def draw(session: Session, old_votes: int, since: float, odds: Mapping[tuple[str, str], float] = ALL_ALIKE) -> Drawn:
    """Every vote counted after `since`, and `old_votes` of the others: each as likely as another but for those of whom
    `odds` speaks, by objective and rater, which are by so much less likely, and more where there are too few others.

    Which ones follows from `since` and their ids, so that the draw can be made again, and is another one next time.
    Those of the smallest u / odds, u uniform, are drawn (Ohlsson 1998, "Sequential Poisson sampling").
    """
    recent: list[str] = []
    old = 0

    def olds() -> Iterator[tuple[float, str]]:
        nonlocal old
        rows = session.execute(
            select(Vote.id, Vote.counted_at, Vote.objective, Vote.rater_id)
            .join(Rater, Rater.id == Vote.rater_id)
            .where(*counting.COUNTS)
            .execution_options(yield_per=READ_BATCH)
        )
        for vote_id, counted_at, objective, rater_id in rows:
            if counted_at is not None and counted_at > since:
                recent.append(vote_id)
            else:
                old += 1
                digest = hashlib.blake2b(f"{since!r} {vote_id}".encode(), digest_size=8).digest()
                yield int.from_bytes(digest) / odds.get((objective, rater_id), 1.0), vote_id

    # Of no smallest one it would look at none, and find no recent ones.
    kept = [vote_id for _, vote_id in heapq.nsmallest(max(1, old_votes), olds())][:old_votes]
    return Drawn(sorted(recent + kept), since, old, len(kept))


def crowded(session: Session, votes: int, ids: list[str] | None = None) -> dict[str, int]:
    """How many counted votes, or of those with these ids, are on each prompt that has more than `votes`."""
    found = Counter[str]()
    for part in _parts(ids):
        rows = session.execute(
            select(Comparison.prompt_digest, func.count())
            .select_from(Vote)
            .join(Comparison, Comparison.id == Vote.comparison_id)
            .join(Rater, Rater.id == Vote.rater_id)
            .where(part, *counting.COUNTS)
            .group_by(Comparison.prompt_digest)
            # A part tells of a prompt only some of its votes.
            .having(func.count() > (votes if ids is None else 0))
        )
        found.update(dict(rows.all()))
    return {prompt: count for prompt, count in found.items() if count > votes}


def counted(session: Session, ids: list[str] | None = None) -> Iterator[Counted]:
    """Every counted vote, or each of those with these ids (which are in order), whose two replies are whole, in words
    and each of one version, by vote id."""
    for part in _parts(ids):
        yield from _counted(session, part)


def _parts(ids: list[str] | None) -> Iterator[ColumnElement[bool]]:
    """What to ask for all votes (`None`) or for these, as many at once as a statement takes."""
    if ids is None:
        yield true()
        return
    for first in range(0, len(ids), READ_BATCH):
        yield among(Vote.id, ids[first : first + READ_BATCH])


def _counted(session: Session, part: ColumnElement[bool]) -> Iterator[Counted]:
    first, second = aliased(Sample), aliased(Sample)
    statement = _judged(
        first,
        second,
        (
            first.version_last,
            second.version_last,
            Rater.reliability,
            *(case((func.length(side.text) <= MAYBE_BLANK, side.message), else_=null()) for side in (first, second)),
        ),
        (Vote.revision, Vote.preferred, Vote.strength, Vote.ideal),
    ).where(part, *counting.COUNTS, first.status == "complete", second.status == "complete")
    for last_0, last_1, reliability, message_0, message_1, *judged in _rows(session, statement):
        vote = _vote(judged, reliability)
        # Asked for in the statement, Postgres takes this for what one pair in thousands fulfils, and joins the
        # few that it expects in a way that takes hours where they are many.
        if vote.versions == (last_0, last_1) and not any(map(_is_elsewhere, vote.replies, (message_0, message_1))):
            yield vote


def _is_elsewhere(text: str, message: dict[str, Any] | None) -> bool:
    """Whether a reply without text said something all the same: it called a tool, refused, or came to no end of its
    reasoning. Learnt from as an empty one, it would teach to say nothing."""
    said = message or {}
    return not text.strip() and any(said.get(name) for name in ("tool_calls", "refusal", "reasoning"))


def _vote(judged: Sequence[Any], reliability: float | None) -> Counted:
    """From the columns with which a row of `_judged` ends."""
    *fields, messages, reply_0, reply_1, version_0, version_1, why_0, why_1 = judged
    ended = has_ended(why_0), has_ended(why_1)
    return Counted._make((*fields, messages, (reply_0, reply_1), (version_0, version_1), ended, reliability))


def get(session: Session, digest: str) -> Dataset:
    """Raises NotFound."""
    dataset = session.get(Dataset, digest)
    if dataset is None:
        raise NotFound(f"no dataset {digest!r}")
    return dataset


def is_held(session: Session, digest: str) -> bool:
    """Whether the record holds what the dataset said of its votes; of those from before there were labels it does
    not."""
    said = select(DatasetVote.weight).where(DatasetVote.dataset_digest == digest).limit(1)
    return session.scalars(said).one_or_none() is not None


def complete(session: Session) -> dict[str, str]:
    """The path of each dataset, by digest, all of whose votes are recorded."""
    rows = session.execute(
        select(Dataset.digest, Dataset.path).join(Iteration, Iteration.dataset_digest == Dataset.digest).distinct()
    )
    return {row.digest: row.path for row in rows}


def erased(session: Session, digest: str) -> set[str]:
    """The votes of a dataset whose rater, or whose pair's texts, were erased since."""
    of_it = select(DatasetVote.vote_id).where(DatasetVote.dataset_digest == digest)
    return set(session.scalars(_erased().where(Vote.id.in_(of_it))))


def erased_among(session: Session, vote_ids: Sequence[str]) -> set[str]:
    """The same of some votes."""
    return set(session.scalars(_erased().where(among(Vote.id, vote_ids))))


def _erased() -> Select[str]:
    first, second = aliased(Sample), aliased(Sample)
    return (
        select(Vote.id)
        .join(Comparison, Comparison.id == Vote.comparison_id)
        .join(first, first.id == Comparison.sample_0)
        .join(second, second.id == Comparison.sample_1)
        .join(Rater, Rater.id == Vote.rater_id)
        .where(_is_erased(first, second))
    )


def learnt(session: Session, digest: str) -> Iterator[tuple[Counted, Learnt, bool]]:
    """The votes of a recorded dataset by id, each with the pair it judges as it was learnt from then, and whether
    something of it was erased since."""
    first, second = aliased(Sample), aliased(Sample)
    then = [
        case((VoteRevision.vote_id.is_(None), present), else_=earlier)
        for present, earlier in (
            (Vote.preferred, VoteRevision.preferred),
            (Vote.strength, VoteRevision.strength),
            (Vote.ideal, VoteRevision.ideal),
        )
    ]
    of_it = (DatasetVote.split, DatasetVote.label, DatasetVote.rewrite_label, DatasetVote.weight)
    statement = (
        _judged(first, second, (_is_erased(first, second), *of_it), (DatasetVote.revision, *then))
        .join(DatasetVote, DatasetVote.vote_id == Vote.id)
        .outerjoin(
            VoteRevision,
            (VoteRevision.vote_id == DatasetVote.vote_id) & (VoteRevision.revision == DatasetVote.revision),
        )
        .where(DatasetVote.dataset_digest == digest)
    )
    for is_erased, split, label, rewrite, weight, *judged in _rows(session, statement):
        vote = _vote(judged, None)
        yield vote, Learnt(vote.vote_id, vote.revision, split, label, rewrite, weight), bool(is_erased)


def _is_erased(first: type[Sample], second: type[Sample]) -> ColumnElement[bool]:
    return Rater.erased_at.is_not(None) | (first.status == "erased") | (second.status == "erased")


def _judged(first: type[Sample], second: type[Sample], beside: Sequence[Any], said: Sequence[Any]) -> Select[Any]:
    """Votes with the pairs they judge, by vote id, after the columns that are wanted `beside`; `said` are revision,
    preferred, strength and ideal."""
    revision, *judgement = said
    return (
        select(
            *beside,
            Vote.id,
            revision,
            Vote.rater_id,
            Vote.comparison_id,
            Vote.objective,
            *judgement,
            Comparison.tranche,
            Comparison.prompt_digest,
            first.messages,
            first.text,
            second.text,
            first.version_first,
            second.version_first,
            first.finish_reason,
            second.finish_reason,
        )
        .join(Comparison, Comparison.id == Vote.comparison_id)
        .join(first, first.id == Comparison.sample_0)
        .join(second, second.id == Comparison.sample_1)
        .join(Rater, Rater.id == Vote.rater_id)
        .order_by(Vote.id)
    )


def _rows(session: Session, statement: Select[Any]) -> Iterator[Any]:
    # One statement, read as it comes: asked for page by page, Postgres joins all tables anew for each of them. By the
    # connection: the session's own way to a row costs as much as all else that is done with it.
    return iter(session.connection().execute(statement.execution_options(yield_per=READ_BATCH)))
