"""Erasure in the record: what a person has written and voted, taken out in parts, and then the person.

    for part in store.read(erasure.rest, rater_id).parts():
        store.write(erasure.take, rater_id, part)
    seen = store.read(erasure.traces, rater_id)
    store.write(erasure.erase, rater_id, seen)

Each part holds up others for a moment only. Until `erase` has been, the person is there and can be asked for again:
who is cut off goes on with what is left.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Select, delete, func, or_, select, union, update
from sqlalchemy.orm import Session

from feedback.schema import (
    Comparison,
    Dataset,
    DatasetVote,
    Iteration,
    Policy,
    Rater,
    RehearsedSample,
    Sample,
    Transcript,
    Vote,
    VoteRevision,
    version_name,
)
from feedback.store import audit, counting, iterations, leases, now, parts, policies, raters, samples
from feedback.store.among import among

WORDLESS: dict[str, Any] = {"reason": None, "ideal": None}

_IS_ACTIVE = Iteration.state.in_(iterations.ACTIVE)


class Use(NamedTuple):
    """What had learnt from a person, or rehearsed what they asked: policy versions, and an iteration under way, whose
    version is still to come."""

    versions: list[int]
    iterations: list[str]


@dataclass(frozen=True)
class Traces:
    """Where there is something of a person outside their own rows: the votes that hold it, by the path of each frozen
    dataset they are in, and who used it. It is so while `stamp` is the same."""

    datasets: dict[str, set[str]]
    use: Use
    stamp: tuple[Any, ...]


@dataclass(frozen=True)
class Rest:
    """What is still there of a person: the ids of their votes, of the replies to their chats, and of the votes in which
    others say something about these."""

    votes: list[str]
    chats: list[str]
    others: list[str]

    def parts(self) -> Iterator["Rest"]:
        """Each of one kind: pairs, or raters, are held in one order within it."""
        yield from (Rest(votes, [], []) for votes in parts.cut(self.votes))
        yield from (Rest([], chats, []) for chats in parts.cut(self.chats))
        yield from (Rest([], [], others) for others in parts.cut(self.others))


def traces(session: Session, rater_id: str) -> Traces:
    """Raises NotFound."""
    return _traces(session, raters.known(session, rater_id))


def _traces(session: Session, rater: Rater) -> Traces:
    own_samples = _own_samples(rater)
    theirs = union(select(Vote.id).where(Vote.rater_id == rater.id), *_on_own_chats(rater))
    rows = session.execute(
        select(DatasetVote.dataset_digest, Dataset.path, DatasetVote.vote_id)
        .join(Dataset, Dataset.digest == DatasetVote.dataset_digest)
        .where(DatasetVote.vote_id.in_(theirs))
    )
    digests, datasets = set(), dict[str, set[str]]()
    for digest, path, vote_id in rows:
        digests.add(digest)
        datasets.setdefault(path, set()).add(vote_id)
    of_own_chats = RehearsedSample.sample_id.in_(own_samples)
    rehearsed = list(session.scalars(select(RehearsedSample.iteration_id).where(of_own_chats).distinct()))
    of_version = Policy.dataset_digest.in_(digests) | Policy.iteration_id.in_(rehearsed)
    versions = sorted(session.scalars(select(Policy.version).where(of_version)))
    published = select(Policy.iteration_id).where(Policy.iteration_id.is_not(None))
    of_iteration = Iteration.dataset_digest.in_(digests) | Iteration.id.in_(rehearsed)
    under_way = select(Iteration.id).where(_IS_ACTIVE, Iteration.id.not_in(published), of_iteration)
    return Traces(datasets, Use(versions, list(session.scalars(under_way))), stamp(session))


def stamp(session: Session) -> tuple[Any, ...]:
    """Another one when a version was published since, or an iteration recorded what it learns from."""
    rehearses = select(func.count()).where(RehearsedSample.iteration_id == Iteration.id).scalar_subquery()
    active = select(Iteration.id, Iteration.dataset_digest, rehearses).where(_IS_ACTIVE).order_by(Iteration.id)
    return policies.next_version(session), [tuple(row) for row in session.execute(active)]


def rest(session: Session, rater_id: str) -> Rest:
    """Raises NotFound."""
    rater = raters.known(session, rater_id)
    votes = select(Vote.id).where(
        Vote.rater_id == rater_id,
        or_(
            Vote.state != "retracted",
            Vote.reason.is_not(None),
            Vote.ideal.is_not(None),
            select(VoteRevision.vote_id).where(VoteRevision.vote_id == Vote.id).exists(),
        ),
    )
    chats = select(Sample.id).where(samples.are_of(rater.key_id, rater.name))
    said = Vote.reason.is_not(None) | Vote.ideal.is_not(None)
    before = VoteRevision.reason.is_not(None) | VoteRevision.ideal.is_not(None)
    said_before = select(VoteRevision.vote_id).where(VoteRevision.vote_id == Vote.id, before).exists()
    others = union(*(on.where(Vote.rater_id != rater_id, said | said_before) for on in _on_own_chats(rater)))
    return Rest(*(list(session.scalars(ids)) for ids in (votes, chats, others)))


def take(session: Session, rater_id: str, part: Rest) -> None:
    """Take a part out: votes are taken back and lose their words, chats stay as rows without texts and without the name
    a client gave, which may itself say who it was. So what was counted still adds up; a pair that lost a side is in no
    later dataset. Votes of others on it stay, without reasons and rewritten replies, which may quote it.

    Raises NotFound.
    """
    others = select(Vote.rater_id).where(among(Vote.id, part.others)).distinct()
    # All in one order, as whoever counts votes holds them.
    counting.hold_raters(session, {rater_id, *session.scalars(others)})
    rater = raters.known(session, rater_id)
    if part.chats:
        samples.close(session, part.chats)
        texts = samples.ERASED | {"user": _nameless(rater), "request_id": None}
        _set(session, Sample.id, part.chats, texts)
    if part.others:
        _set(session, Vote.id, part.others, WORDLESS)
        _set(session, VoteRevision.vote_id, part.others, WORDLESS)
    if part.votes:
        counting.uncount_all(session, among(Vote.id, part.votes))
        session.execute(
            delete(VoteRevision)
            .where(among(VoteRevision.vote_id, part.votes))
            .execution_options(synchronize_session=False)
        )
        _set(session, Vote.id, part.votes, WORDLESS | {"state": "retracted", "counted_at": None})


def _set(session: Session, column: Any, ids: list[str], values: dict[str, Any]) -> None:
    statement = update(column.class_).where(among(column, ids)).values(values)
    session.execute(statement.execution_options(synchronize_session=False))


def erase(session: Session, rater_id: str, seen: Traces | None = None, *, actor: str = audit.AT_THE_MACHINE) -> Use:
    """Take out what came since the last part, and all else of a person. From now on the same person can begin anew.

    An iteration under way that has any of it is told. `seen` saves looking for what has, unless more may have since.
    Raises NotFound.
    """
    # Before anything is asked: an iteration that has it is under way, or its version is there. None publishes now.
    leases.lock(session, leases.LEARNER)
    rater = raters.known(session, rater_id, lock=raters.WHILE_ERASED)
    left = rest(session, rater_id)
    judged = select(Vote.comparison_id).where(among(Vote.id, left.votes))
    pairs = session.scalars(union(*samples.pairs_of(left.chats), judged))
    counting.hold_pairs(session, pairs, votes_wait=True)
    for part in left.parts():
        take(session, rater_id, part)
    session.execute(delete(Transcript).where(Transcript.rater_id == rater_id))
    rater.name = _nameless(rater)
    rater.erased_at = now(session)
    rater.reliability, rater.figures = None, None
    session.flush()
    if seen is None or seen.stamp != stamp(session):
        seen = _traces(session, rater)
    for version in seen.use.versions:
        policies.forget_erased(session, version)
    for iteration_id in seen.use.iterations:
        iterations.tell_erased(session, iteration_id, rater_id)
    names = [version_name(version) for version in seen.use.versions]
    audit.add(session, actor, "rater.erase", rater_id, used_by=names, used_in=seen.use.iterations)
    return seen.use


def count_erased(session: Session) -> int:
    return session.execute(select(func.count()).where(Rater.erased_at.is_not(None))).scalar_one()


def _on_own_chats(rater: Rater) -> list[Select[str]]:
    """The ids of the votes on pairs with a reply to this person's chats on the one side, and on the other. Each by its
    index: asked for as one or the other, Postgres looks through all such votes once for every vote."""
    on_pairs, own = select(Vote.id).join(Comparison, Comparison.id == Vote.comparison_id), _own_samples(rater)
    return [on_pairs.where(side.in_(own)) for side in (Comparison.sample_0, Comparison.sample_1)]


def _own_samples(rater: Rater) -> Select[str]:
    """The ids of the replies to this person's chats, those too that were taken out already."""
    return select(Sample.id).where(
        samples.are_of(rater.key_id, rater.name) | samples.are_of(rater.key_id, _nameless(rater))
    )


def _nameless(rater: Rater) -> str:
    return f"erased:{rater.id}"
