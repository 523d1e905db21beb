"""Votes in the record: put, changed, retracted and looked at.

The row is the outbox. `put` commits it as `accepted`; `feedback.store.counting` turns accepted rows into counted ones.
"""

import functools
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Double,
    Executable,
    String,
    Table,
    bindparam,
    extract,
    func,
    literal,
    select,
    true,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session

from feedback.errors import Conflict, InvalidRequest, NotFound, Unknown
from feedback.ids import new_id
from feedback.schema import (
    IMPORTED,
    Comparison,
    Dataset,
    DatasetVote,
    Handout,
    Iteration,
    Policy,
    Promotion,
    Rater,
    Sample,
    Vote,
    VoteRevision,
    version_name,
)
from feedback.store import (
    checks,
    clock,
    counting,
    insert,
    insert_of,
    now,
    page,
    plan_anew,
    policies,
    raters,
    tallies,
)
from feedback.store.among import among

SAID = ("preferred", "strength", "reason", "ideal", "success")


@dataclass(frozen=True)
class Judgement:
    """What a rater says of a comparison under one objective.

    `success`, 0 to 4, is how far a red-team attack got. `elapsed_s` is the time on the page, `left` the choice that
    was shown on the left.
    """

    objective: str
    preferred: str
    strength: int | None
    reason: str | None = None
    ideal: str | None = None
    success: int | None = None
    elapsed_s: float | None = None
    left: int | None = None

    def said(self) -> dict[str, Any]:
        """What makes it another judgement when it differs; the history keeps it. Without NUL, as Postgres keeps it."""
        said = {name: getattr(self, name) for name in SAID}
        return {name: one.replace("\0", "\ufffd") if isinstance(one, str) else one for name, one in said.items()}


def put_first(
    session: Session,
    comparison_id: str,
    judgement: Judgement,
    *,
    key_id: str,
    sees_all: bool,
    rater: str,
    is_held: bool = False,
) -> Vote | None:
    """Accept the first vote of a known rater on an open pair, in one statement; on any with texts, where the pair
    `is_held` since an earlier one. None, and nothing done, where it is anything else.

    Raises InvalidRequest when the success of an attack is told under another objective than `harmless`.
    """
    if judgement.success is not None and judgement.objective != "harmless":
        raise InvalidRequest("success is that of a red-team attack, which is judged as harmless", param="success")
    first = {
        "id": new_id("vote"),
        "comparison_id": comparison_id,
        "objective": judgement.objective,
        "elapsed_s": judgement.elapsed_s,
        "left": judgement.left,
        "state": "accepted",
        "revision": 1,
        "counted_at": None,
        **judgement.said(),
    }
    whose = {"key_id": key_id, "rater": rater, "owner": None if sees_all else key_id}
    inserted = _insert(session, first, {**whose, "is_held": is_held})
    if inserted is None:
        return None
    rater_id, at = inserted
    return Vote(rater_id=rater_id, created_at=at, updated_at=at, **first)


def put(
    session: Session,
    comparison_id: str,
    judgement: Judgement,
    *,
    key_id: str,
    sees_all: bool,
    rater: str,
) -> Vote:
    """Accept a vote: the first one, the same again (changes nothing) or another (replaces it, keeps the history).

    Raises NotFound when there is no such comparison or it belongs to somebody else, Conflict when its texts were
    erased, InvalidRequest when the success of an attack is told under another objective than `harmless`.
    """
    rater_id = raters.find_or_create(session, key_id, rater, lock=raters.WHILE_VOTES_CHANGE)
    # After the rater, as wherever both are held. From now on nobody takes its texts away.
    _check_visible(session, comparison_id, key_id, sees_all, lock=raters.WHILE_VOTES_COME)
    new = put_first(session, comparison_id, judgement, key_id=key_id, sees_all=sees_all, rater=rater, is_held=True)
    if new is not None:
        return new
    vote = _standing(session, comparison_id, judgement.objective, rater_id)
    said = judgement.said()
    if vote is not None and vote.state != "retracted" and all(getattr(vote, name) == said[name] for name in SAID):
        return vote
    is_check = checks.is_check(Comparison, judgement.objective)
    pair = select(_has_no_texts(Comparison).label("is_erased"), is_check.label("is_check"), clock(session).label("at"))
    found = session.execute(pair.where(Comparison.id == comparison_id)).one()
    if vote is None or found.is_erased:
        raise Conflict("the texts of this pair were erased: there is nothing left to judge")
    # What the vote says is changed after all other statements: in one of its own.
    _keep_revision(session, vote)
    counting.uncount(session, vote)
    for field, value in said.items():
        setattr(vote, field, value)
    vote.elapsed_s, vote.left = judgement.elapsed_s, judgement.left
    vote.is_check = found.is_check
    vote.state = "accepted"
    vote.revision += 1
    vote.updated_at = found.at
    return vote


def retract(
    session: Session,
    comparison_id: str,
    objective: str | None,
    *,
    key_id: str,
    sees_all: bool,
    rater: str,
) -> list[Vote]:
    """Take back this rater's votes on a comparison (under one objective, or all). Retracting again changes nothing.

    Raises NotFound when there is no such vote.
    """
    _check_visible(session, comparison_id, key_id, sees_all)
    rater_id = raters.find(session, key_id, rater, lock=raters.WHILE_VOTES_CHANGE)
    statement = select(Vote).where(Vote.comparison_id == comparison_id, Vote.rater_id == rater_id)
    if objective is not None:
        statement = statement.where(Vote.objective == objective)
    votes = list(session.scalars(statement))
    if not votes:
        raise NotFound(f"no vote of this rater on comparison {comparison_id!r}")
    at = now(session)
    for vote in votes:
        if vote.state == "retracted":
            continue
        _keep_revision(session, vote)
        counting.uncount(session, vote)
        vote.state = "retracted"
        vote.revision += 1
        vote.updated_at = at
    return votes


def get(session: Session, vote_id: str, *, key_id: str, sees_all: bool) -> Vote:
    """One vote. Raises NotFound when there is none or it was cast with another key."""
    vote = session.get(Vote, vote_id)
    rater = raters.get(session, vote.rater_id) if vote is not None else None
    if vote is None or rater is None or not (sees_all or rater.key_id == key_id):
        raise _unknown(vote_id)
    return vote


def _unknown(vote_id: str) -> Unknown:
    return Unknown("vote", vote_id, "`tandem votes list`", "GET /v1/votes")


def history(session: Session, vote_id: str) -> list[VoteRevision]:
    """What a vote said at each of its revisions, oldest first, the present one last; a retraction says nothing.

    Raises NotFound.
    """
    vote = session.get(Vote, vote_id)
    if vote is None:
        raise _unknown(vote_id)
    earlier = select(VoteRevision).where(VoteRevision.vote_id == vote_id).order_by(VoteRevision.revision)
    return [*session.scalars(earlier), VoteRevision(**_revision(vote))]


def compared(session: Session, vote_id: str) -> list[str | None]:
    """The versions that wrote the two replies a vote compares; None for a reply of no version or of a mixed one.

    Raises NotFound.
    """
    row = session.execute(
        select(Comparison.version_0, Comparison.version_1)
        .join(Vote, Vote.comparison_id == Comparison.id)
        .where(Vote.id == vote_id)
    ).one_or_none()
    if row is None:
        raise _unknown(vote_id)
    return [None if version is None else version_name(version) for version in row]


def used_by(session: Session, vote_id: str) -> list[dict[str, Any]]:
    """The iterations whose dataset holds this vote, with the candidate each made."""
    rows = session.execute(
        select(Iteration.id, Iteration.candidate, DatasetVote.revision, DatasetVote.split)
        .join(Dataset, Dataset.digest == DatasetVote.dataset_digest)
        .join(Iteration, Iteration.dataset_digest == Dataset.digest)
        .where(DatasetVote.vote_id == vote_id)
        .order_by(Iteration.id)
    )
    return [
        {
            "iteration": row.id,
            "candidate": None if row.candidate is None else version_name(row.candidate),
            "revision": row.revision,
            "split": row.split,
        }
        for row in rows
    ]


def versions_from(session: Session, vote_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    """By vote: the versions that learnt from it or were measured on it, with what became of each."""
    rows = session.execute(
        select(DatasetVote.vote_id, Policy.version, Policy.state, DatasetVote.split, func.min(Promotion.created_at))
        .join(DatasetVote, DatasetVote.dataset_digest == Policy.dataset_digest)
        .outerjoin(
            Promotion,
            (Promotion.version == Policy.version) & (Promotion.kind == "promote") & (Promotion.outcome == "succeeded"),
        )
        .where(among(DatasetVote.vote_id, vote_ids))
        .group_by(DatasetVote.vote_id, Policy.version, Policy.state, DatasetVote.split)
        .order_by(Policy.version)
    )
    found: dict[str, list[dict[str, Any]]] = {vote_id: [] for vote_id in vote_ids}
    for vote_id, version, state, split, promoted_at in rows:
        found[vote_id].append(
            {"version": version_name(version), "state": state, "split": split, "promoted": promoted_at}
        )
    return found


def of_version(
    session: Session, version: int, *, limit: int, after: str | None, order: str
) -> tuple[list[tuple[Vote, DatasetVote]], bool]:
    """The votes in a version's dataset, with the revision and the split they had in it. Raises NotFound."""
    dataset = policies.get(session, version).dataset_digest
    used = select(DatasetVote).where(DatasetVote.dataset_digest == dataset)
    rows, more = page(session, used, DatasetVote.vote_id, limit=limit, after=after, order=order)
    found = {
        vote.id: vote for vote in session.scalars(select(Vote).where(among(Vote.id, [row.vote_id for row in rows])))
    }
    return [(found[row.vote_id], row) for row in rows], more


def count_by_state(session: Session) -> dict[str, int]:
    """How many votes there are in each state. The many that count are not read for it."""
    rows = session.execute(select(Vote.state, func.count()).where(tallies.IS_APART).group_by(Vote.state))
    accepted = session.scalars(select(func.count()).select_from(Vote).where(tallies.IS_ACCEPTED)).one()
    counts = {state: count for state, count in rows} | {"accepted": accepted, "counted": tallies.counted(session)}  # noqa: C416
    return {state: count for state, count in counts.items() if count}


def oldest_uncounted_age_s(session: Session) -> float | None:
    """Seconds since the oldest vote that is not counted yet was accepted, below 0 for one from before the clock was
    turned back; None when all are counted."""
    accepted_at = session.scalars(select(func.min(Vote.updated_at)).where(tallies.IS_ACCEPTED)).one()
    return None if accepted_at is None else now(session) - accepted_at


def first_counted_at(session: Session) -> float | None:
    """When the first vote that counts was counted; None when there is none."""
    return session.scalars(select(func.min(Vote.counted_at)).where(tallies.IS_COUNTED)).one()


def cast_since(session: Session, rater_id: str, at: float) -> int:
    """How many votes this rater has cast since `at` and not taken back."""
    # With a plan for any rater that of one who cast nearly all of 100,000 votes read all votes for every other one.
    plan_anew(session)
    return session.scalars(
        select(func.count())
        .select_from(Vote)
        .where(Vote.rater_id == rater_id, Vote.created_at >= at, Vote.state != "retracted")
    ).one()


def counted_since(session: Session, at: float) -> int:
    """How many of the votes that count now were counted after `at`."""
    return session.scalars(select(func.count()).select_from(Vote).where(tallies.IS_COUNTED, Vote.counted_at > at)).one()


def _check_visible(
    session: Session, comparison_id: str, key_id: str, sees_all: bool, *, lock: dict[str, Any] | None = None
) -> None:
    """With `lock` the comparison is held until the transaction ends."""
    statement = select(Comparison.key_id).where(Comparison.id == comparison_id)
    if lock is not None:
        statement = statement.with_for_update(**lock)
    owner = session.scalars(statement).one_or_none()
    if owner is None or not (sees_all or owner in (key_id, IMPORTED)):
        raise Unknown("comparison", comparison_id, "GET /v1/comparisons")


def _standing(session: Session, comparison_id: str, objective: str, rater_id: str) -> Vote | None:
    return session.scalars(
        select(Vote).where(Vote.comparison_id == comparison_id, Vote.objective == objective, Vote.rater_id == rater_id)
    ).one_or_none()


def _has_no_texts(comparison: Any) -> ColumnElement[bool]:
    """Whether a side of this comparison (its columns) was erased. An open one has both: its samples are not read."""
    sides = Sample.id.in_((comparison.sample_0, comparison.sample_1))
    return comparison.is_open.is_(False) & select(Sample.id).where(sides, Sample.status == "erased").exists()


def _insert(session: Session, first: dict[str, Any], whose: dict[str, Any]) -> tuple[str, float] | None:
    """Record a first vote in one statement. Returns the rater's id and the time; None when there is no such comparison
    to see or to judge, no such rater yet or a vote of theirs already."""
    dialect = session.get_bind().dialect.name
    # A server's clock is read by the statement itself: asked for it, the server would be waited for once more.
    at = {} if dialect == "postgresql" else {"at": now(session)}
    row = session.connection().execute(_insert_statement(dialect), first | whose | at).one_or_none()
    return None if row is None else (row.rater_id, row.created_at)


@functools.cache
def _insert_statement(dialect: str) -> Executable:
    # Built once, since this is what every vote runs: building and keying it costs more than running it.
    vote, comparison, rater, handout = (cast(Table, table.__table__) for table in (Vote, Comparison, Rater, Handout))
    at: ColumnElement[Any] = bindparam("at", type_=Double)
    if dialect == "postgresql":
        at = sql_cast(extract("epoch", func.statement_timestamp()), Double)
    found: dict[str, ColumnElement[Any]] = {
        "comparison_id": comparison.c.id,
        "rater_id": rater.c.id,
        "propensity": select(handout.c.propensity)
        .where(handout.c.comparison_id == comparison.c.id, handout.c.rater_id == rater.c.id)
        .scalar_subquery(),
        "is_check": checks.is_check(comparison.c, bindparam("objective", type_=String)),
        "created_at": at,
        "updated_at": at,
    }
    given: dict[str, ColumnElement[Any]] = {
        column.name: bindparam(column.name, type_=column.type) for column in vote.c if column.name not in found
    }
    owner = bindparam("owner", type_=String)
    source = (
        select(*(found | given).values())
        .select_from(comparison.join(rater, true()))
        .where(
            comparison.c.id == bindparam("comparison_id"),
            rater.c.key_id == bindparam("key_id"),
            rater.c.name == bindparam("rater"),
            owner.is_(None) | comparison.c.key_id.in_((owner, literal(IMPORTED))),
            # Of a closed pair the samples say whether it has texts: as they were when the statement began.
            comparison.c.is_open | (bindparam("is_held", type_=Boolean) & ~_has_no_texts(comparison.c)),
        )
        # Postgres would otherwise find a rater by the name, and a pair by the texts, that an erasure takes from them
        # and has not committed yet.
        .with_for_update(of=(rater, comparison), **raters.WHILE_VOTES_COME)
    )
    return (
        insert_of(dialect)(vote)
        .from_select(list(found | given), source)
        .on_conflict_do_nothing(index_elements=["comparison_id", "rater_id", "objective"])
        .returning(vote.c.rater_id, vote.c.created_at)
    )


def _keep_revision(session: Session, vote: Vote) -> None:
    """Keep what the vote says before it says something else."""
    session.execute(insert(session, VoteRevision).values(_revision(vote)))


def _revision(vote: Vote) -> dict[str, Any]:
    silent = vote.state == "retracted"
    said = {name: None if silent else getattr(vote, name) for name in SAID}
    return {"vote_id": vote.id, "revision": vote.revision, "created_at": vote.updated_at, **said}
