"""Checks of raters: pairs whose answer an operator knows, and pairs shown again with their sides swapped.

One vote per rater, comparison and objective holds for a repeat too: it is a comparison of its own that says which one
it repeats, so the second judgement stands beside the first. Votes on checks tell of their raters, and train and rate
nothing.
"""

import random
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session, aliased

from feedback.errors import InvalidRequest, NotFound, Unknown
from feedback.ids import new_id_beside
from feedback.schema import Comparison, KnownAnswer, Vote
from feedback.store import audit, counting, insert, now

OTHER_SIDE = {"0": "1", "1": "0"}
REPEATED_AFTER_VOTES = 10
"""A pair comes again only when its rater has judged this many others since, so that nobody votes by memory."""
DRAWN_FROM = 200


@dataclass(frozen=True)
class Shares:
    """The share of places that goes to pairs which their rater judged before, and to pairs with a known answer."""

    repeats: float = 0.0
    known_answers: float = 0.0


@dataclass(frozen=True)
class Who:
    """A rater who is about to judge under `objective`, and the keys whose pairs they see (None alone: of all)."""

    rater_id: str
    objective: str
    owners: tuple[str | None, ...]


def set_answer(
    session: Session, comparison_id: str, objective: str, preferred: str, *, actor: str = audit.AT_THE_MACHINE
) -> None:
    """Make the pair one with a known answer ("0" or "1"). Votes cast on it from now on are checks, those before stay
    what they were. Raises NotFound, and InvalidRequest for a pair that nobody is shown to be checked by."""
    comparison = session.get(Comparison, comparison_id)
    if comparison is None:
        raise Unknown("comparison", comparison_id, "GET /v1/comparisons")
    if comparison.repeat_of is not None:
        raise InvalidRequest(f"{comparison_id} repeats {comparison.repeat_of}; name that one")
    if not comparison.is_open:
        raise InvalidRequest(f"nobody is shown {comparison_id}: its replies are the same, or were erased")
    statement = insert(session, KnownAnswer).values(
        comparison_id=comparison_id, objective=objective, preferred=preferred, created_at=now(session)
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["comparison_id", "objective"], set_={"preferred": statement.excluded.preferred}
        )
    )
    audit.add(session, actor, "answer.set", comparison_id, objective=objective, preferred=preferred)


def remove_answer(session: Session, comparison_id: str, objective: str, *, actor: str = audit.AT_THE_MACHINE) -> None:
    """Votes on the pair count as any others again, from now on. Raises NotFound when no answer was known."""
    known = session.get(KnownAnswer, (comparison_id, objective))
    if known is None:
        raise NotFound(f"no known answer of {comparison_id!r} under {objective}")
    session.delete(known)
    audit.add(session, actor, "answer.remove", comparison_id, objective=objective)


def answers(session: Session) -> dict[tuple[str, str], str]:
    """The known answers, by comparison and objective."""
    rows = session.execute(
        select(KnownAnswer.comparison_id, KnownAnswer.objective, KnownAnswer.preferred).order_by(
            KnownAnswer.comparison_id, KnownAnswer.objective
        )
    )
    return {(comparison_id, objective): preferred for comparison_id, objective, preferred in rows}


def is_check(comparison: Any, objective: Any) -> ColumnElement[bool]:
    """Whether a vote on this comparison (its columns) is a check."""
    known = select(KnownAnswer.comparison_id).where(
        KnownAnswer.comparison_id == comparison.id, KnownAnswer.objective == objective
    )
    found: ColumnElement[bool] = comparison.repeat_of.is_not(None) | known.exists()
    return found


def repeat_of(session: Session, comparison_id: str) -> Comparison:
    """The same pair with its sides swapped, made when it is not there yet: whoever judges both shows how steady they
    are. Raises NotFound."""
    first = session.get(Comparison, comparison_id)
    if first is None:
        raise Unknown("comparison", comparison_id, "GET /v1/comparisons")
    session.execute(
        insert(session, Comparison)
        .values(
            # A rater must not see by its age, which its id says too, which of two pairs is the repeat.
            id=new_id_beside(first.id),
            key_id=first.key_id,
            sample_0=first.sample_1,
            sample_1=first.sample_0,
            version_0=first.version_1,
            version_1=first.version_0,
            prompt_digest=first.prompt_digest,
            tranche=first.tranche,
            origin=None,
            origin_digest=None,
            votes_counted=0,
            disagreement=0.0,
            repeat_of=first.id,
            is_open=False,
            created_at=first.created_at,
        )
        .on_conflict_do_nothing(index_elements=["repeat_of"])
    )
    return session.scalars(select(Comparison).where(Comparison.repeat_of == first.id)).one()


def draw(session: Session, who: Who, places: int, shares: Shares, rng: random.Random) -> list[Comparison]:
    """The checks for so many places: none for most of them, and none where there is nothing to check by."""
    drawn: dict[str, Comparison] = {}
    for _ in range(places):
        point = rng.random()
        if point < shares.repeats:
            candidates = list(session.scalars(_repeatable(who)))
        elif point < shares.repeats + shares.known_answers:
            candidates = list(session.scalars(_with_known_answer(who)))
        else:
            continue
        if candidates:
            found = rng.choice(candidates)
            drawn[found] = repeat_of(session, found) if point < shares.repeats else session.get_one(Comparison, found)
    return list(drawn.values())


def _repeatable(who: Who) -> Select[str]:
    """Pairs that this rater decided, not lately, and has not judged again."""
    repeat, again = aliased(Comparison), aliased(Vote)
    latest = (
        select(Vote.comparison_id, Vote.preferred, Vote.is_check)
        .where(
            Vote.rater_id == who.rater_id,
            Vote.objective == who.objective,
            counting.MAY_COUNT,
        )
        .order_by(Vote.id.desc())
        .offset(REPEATED_AFTER_VOTES)
        .limit(DRAWN_FROM)
        .subquery()
    )
    judged_again = (
        select(again.id)
        .join(repeat, repeat.id == again.comparison_id)
        .where(
            repeat.repeat_of == latest.c.comparison_id,
            again.rater_id == who.rater_id,
            again.objective == who.objective,
            again.state != "retracted",
        )
    )
    return (
        select(latest.c.comparison_id)
        .join(Comparison, Comparison.id == latest.c.comparison_id)
        .where(
            latest.c.preferred.in_(("0", "1")),
            latest.c.is_check.is_(False),
            Comparison.is_open.is_(True),
            ~judged_again.exists(),
        )
        .order_by(latest.c.comparison_id)
    )


def _with_known_answer(who: Who) -> Select[str]:
    judged = select(Vote.id).where(
        Vote.comparison_id == KnownAnswer.comparison_id,
        Vote.rater_id == who.rater_id,
        Vote.objective == who.objective,
        Vote.state != "retracted",
    )
    statement = (
        select(KnownAnswer.comparison_id)
        .join(Comparison, Comparison.id == KnownAnswer.comparison_id)
        .where(KnownAnswer.objective == who.objective, Comparison.is_open.is_(True), ~judged.exists())
        .order_by(KnownAnswer.comparison_id)
        .limit(DRAWN_FROM)
    )
    if who.owners != (None,):
        statement = statement.where(Comparison.key_id.in_(who.owners))
    return statement
