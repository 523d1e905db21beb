"""Those who vote: how they vote, for themselves and for an operator; set apart, released, forgotten."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from feedback import agreement, erasure, setting_apart
from feedback.schema import Rater, version_name
from feedback.store import comparisons, raters, votes
from serve.auth import Caller, guarded
from serve.gateway import Gateway
from serve.routes.dependencies import ByKey, Parts
from serve.routes.lists import After, Limit, Page, page_of
from serve.routes.votes import RaterName

own_router = APIRouter(route_class=guarded("vote"))
operate_router = APIRouter(route_class=guarded("operate"))

Since = Annotated[float, Query(ge=0, description="Count own votes from this time on, in seconds since the epoch.")]

KeyId = Annotated[str, Query(min_length=1, max_length=200, description="The key's id or prefix.")]
PersonName = Annotated[
    str, Query(max_length=200, description="`user` of their chats, `rater` of their votes; empty for the key itself.")
]


class Self(BaseModel):
    """How a rater is doing, the `guidelines` they are to go by, and how many pairs are `open` to them by objective.
    Agreements are shares of the votes that can be compared; null where there are none."""

    id: str | None
    votes_since: int
    open: dict[str, int]
    agreement_with_others: float | None
    agreement_with_repeats: float | None
    guidelines: str


class RaterView(BaseModel):
    """A rater; `figures` say how they vote, as far as it was looked at."""

    id: str
    object: Literal["rater"] = "rater"
    key_id: str
    name: str
    state: Literal["active", "quarantined"]
    reason: str | None
    votes: int
    reliability: float | None
    figures: dict[str, Any] | None
    created: int


class AgreementView(BaseModel):
    """Krippendorff's alpha over the `votes` on `pairs` that several raters decided: 1, all agree; 0, as by chance; null
    where there are none."""

    objective: str
    agreement: float | None
    pairs: int
    votes: int


class Agreements(BaseModel):
    object: Literal["list"] = "list"
    data: list[AgreementView]


class QuarantineBody(BaseModel):
    """Why a rater is set apart."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=10_000)


class Changed(BaseModel):
    """A rater's state now, and how many votes it concerns."""

    id: str
    state: Literal["active", "quarantined"]
    votes: int


class Erased(BaseModel):
    """`used_by` are the versions that had learnt from this person's votes: they cannot unlearn them. `used_in` is the
    iteration under way that learns from them: cancel it, or its version is going to be another one."""

    id: str
    status: Literal["erased"] = "erased"
    used_by: list[str]
    used_in: list[str]


@own_router.get("/v1/raters/me")
async def get_self(parts: Parts, caller: ByKey, rater: RaterName = "", since: Since = 0.0) -> Self:
    """How many votes this rater has cast, and how far they agree with others and with themselves."""
    feedback = parts.settings.feedback

    def look(session: Session) -> Self:
        rater_id = raters.find(session, caller.key_id, rater)
        known = None if rater_id is None else raters.known(session, rater_id)
        figures = (known and known.figures) or {}
        whose: dict[str, Any] = {"key_id": caller.key_id, "sees_all": caller.sees_all, "rater_id": rater_id}
        return Self(
            id=rater_id,
            votes_since=0 if rater_id is None else votes.cast_since(session, rater_id, since),
            open=comparisons.count_open(session, **whose, votes_wanted=feedback.votes_wanted),
            agreement_with_others=figures.get("agreement_with_others"),
            agreement_with_repeats=figures.get("agreement_with_repeats"),
            guidelines=feedback.guidelines,
        )

    return await parts.record.read(look)


@operate_router.get("/v1/raters")
async def list_raters(parts: Parts, limit: Limit = 20, after: After = None) -> Page[RaterView]:
    """Everybody who votes, the oldest first."""
    known, more = await parts.record.read(raters.list_page, limit=limit, after=after)
    shown = [_view(rater, count) for rater, count in known]
    return page_of(shown, [rater.id for rater in shown], more)


@operate_router.get("/v1/raters/agreement")
async def get_agreement(parts: Parts) -> Agreements:
    """How far raters agree with each other beyond chance, by objective."""
    by_objective = await parts.record.search(agreement.current)
    return Agreements(
        data=[AgreementView(objective=objective, **found.as_json()) for objective, found in by_objective.items()]
    )


@operate_router.post("/v1/raters/{rater_id}/quarantine")
async def quarantine_rater(rater_id: str, body: QuarantineBody, parts: Parts, caller: ByKey) -> Changed:
    """Set a rater apart: their votes, and those to come, count nowhere until they are released."""
    concerned = await asyncio.to_thread(
        setting_apart.quarantine, parts.record.store, rater_id, body.reason, actor=caller.key_id
    )
    return Changed(id=rater_id, state="quarantined", votes=concerned)


@operate_router.post("/v1/raters/{rater_id}/release")
async def release_rater(rater_id: str, parts: Parts, caller: ByKey) -> Changed:
    """Let a rater's votes count again; from now on only later votes can set them apart."""
    concerned = await asyncio.to_thread(setting_apart.release, parts.record.store, rater_id, actor=caller.key_id)
    parts.vote_is_durable()
    return Changed(id=rater_id, state="active", votes=concerned)


@operate_router.delete("/v1/raters/{rater_id}")
async def erase_rater(rater_id: str, parts: Parts, caller: ByKey) -> Erased:
    """Erase a person's data, from future training sets too."""
    return await _erase(rater_id, parts, caller)


@operate_router.delete("/v1/raters")
async def erase_person(parts: Parts, caller: ByKey, key_id: KeyId, name: PersonName = "") -> Erased:
    """Erase the data of a person who is known by a name under a key, also of one who only chats."""
    return await _erase(await parts.record.write(raters.find_person, key_id, name), parts, caller)


async def _erase(rater_id: str, parts: Gateway, caller: Caller) -> Erased:
    store, home = parts.record.store, parts.settings.home
    use = await asyncio.to_thread(erasure.forget, store, home, rater_id, actor=caller.key_id)
    return Erased(id=rater_id, used_by=[version_name(version) for version in use.versions], used_in=use.iterations)


def _view(rater: Rater, count: int) -> RaterView:
    return RaterView(
        id=rater.id,
        key_id=rater.key_id,
        name=rater.name,
        state="active" if rater.quarantined_at is None else "quarantined",
        reason=rater.quarantine_reason,
        votes=count,
        reliability=rater.reliability,
        figures=rater.figures,
        created=int(rater.created_at),
    )
