"""Policy versions: what there are, with lineage and evidence; promotion and rollback."""

import hashlib
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Session

from feedback import gatekeeper
from feedback.errors import InvalidRequest
from feedback.schema import Policy, Promotion, version_name, version_number
from feedback.store import datasets, policies, votes
from serve.auth import guarded
from serve.engine.swap import Change, Outcome
from serve.routes.dependencies import ByKey, Parts
from serve.routes.lists import After, Limit, Order, Page, page_of
from serve.routes.versions import VersionName
from serve.routes.votes import VoteView, view_vote

router = APIRouter(route_class=guarded("operate"))


def _keepable(evidence: dict[str, Any]) -> dict[str, Any]:
    """The record keeps JSON: a figure that is none would come back as null, and other things not at all."""
    try:
        kept = orjson.loads(orjson.dumps(evidence))
    except orjson.JSONEncodeError:
        kept = None
    if kept != evidence:
        raise PydanticCustomError("evidence", "numbers must be finite, and all of it what JSON can hold")
    return evidence


Version = Annotated[VersionName, Path(description="A policy version, such as `v3`.")]
EvidenceName = Annotated[str, Path(pattern="^[a-z][a-z0-9_]{0,39}$", description="What was measured, such as `tax`.")]
Evidence = Annotated[dict[str, Any], AfterValidator(_keepable)]
AfterVersion = Annotated[VersionName | None, Query(description="The last version of the page before.")]


class PolicyView(BaseModel):
    """A policy version: its state, where it comes from, what it was made of, and what speaks for it."""

    version: str
    object: Literal["policy"] = "policy"
    state: str
    parent: str | None
    digest: str
    iteration: str | None
    dataset: str | None
    settings: dict[str, Any]
    seed: int | None
    evidence: dict[str, Any]
    loaded: bool
    created: int


class PromotionView(BaseModel):
    """One attempt to change what serves."""

    id: str
    kind: str
    version: str
    previous: str | None
    reason: str
    force: bool
    actor: str
    outcome: str
    detail: str | None
    created: int


class RuleView(BaseModel):
    """A rule of the gate, the figure it is held against with its interval, and its verdict."""

    rule: str
    verdict: Literal["pass", "fail", "not_measured"]
    blocks: bool
    value: float | None
    interval: tuple[float, float] | None
    bound: float | None
    note: str | None


class WinRateView(BaseModel):
    """A share with its interval."""

    value: float
    interval: tuple[float, float] | None


class LiveView(BaseModel):
    """What live votes say of a version against another one; a win rate is null where there are too few of them."""

    against: str
    votes: int
    raters: int
    win_rate: WinRateView | None
    objectives: dict[str, WinRateView | None]


class GateView(BaseModel):
    """Whether the gate lets a version be promoted in place of the one that serves, rule by rule; `live` has the live
    votes against that one and against the starting policy."""

    against: str | None
    passes: bool
    rules: list[RuleView]
    live: list[LiveView]


class PolicyWithHistory(PolicyView):
    """A version with everything about it. `dataset_counts` says how many examples its dataset holds: by split, by split
    and objective (`train.helpful`), and by tranche (`tranche.online`). `rollback_to` says, of the version that serves,
    which one a rollback goes back to."""

    rollback_to: str | None
    dataset_counts: dict[str, int]
    gate: GateView
    promotions: list[PromotionView]


class VoteOfVersion(VoteView):
    """A vote as it stands now, with the revision that a version's dataset holds and the split it is in."""

    used_revision: int
    split: str


class ChangeBody(BaseModel):
    """Why what serves is to change; `force` promotes against the evidence. With `instead_of` nothing changes unless
    that version still serves."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=10_000)
    force: bool = False
    instead_of: VersionName | None = None


class ChangeView(BaseModel):
    """What serves now. `changed` is false when it served already; `behind` are hosts that serve nothing yet, since they
    have not come to hold it."""

    version: str
    state: Literal["serving"] = "serving"
    previous: str | None
    changed: bool
    elapsed_s: float
    behind: list[str]


@router.get(
    "/v1/policies",
    response_model=Page[PolicyView],
    responses={304: {"description": "It is still what it was when it had the `etag` that was sent."}},
)
async def list_policies(
    parts: Parts,
    response: Response,
    limit: Limit = 20,
    after: AfterVersion = None,
    order: Order = "desc",
    if_none_match: Annotated[str | None, Header(description="The `etag` of an earlier answer.")] = None,
) -> Any:
    """Every version. With its evidence that is much, and seldom another: the page that looks again and again says what
    it has."""
    stamp = await parts.record.read_once(policies.stamp)
    etag = f'W/"{hashlib.sha256(f"{stamp} {parts.pool.loaded()}".encode()).hexdigest()[:32]}"'
    if if_none_match == etag:
        return Response(status_code=304, headers={"etag": etag})
    response.headers["etag"] = etag
    last = None if after is None else version_number(after)
    rows, more = await parts.record.read_once(policies.list_page, limit=limit, after=last, order=order)
    return page_of([_view(row, parts) for row in rows], [version_name(row.version) for row in rows], more)


@router.get("/v1/policies/{version}")
async def get_policy(version: Version, parts: Parts) -> PolicyWithHistory:
    """One version, what the gate says of it, and every attempt to promote it."""
    number = version_number(version)

    def look(session: Session) -> tuple[Policy, dict[str, Any]]:
        policy = policies.get(session, number)
        before = policies.rollback_target(session) if policy.state == "serving" else None
        return policy, {
            "rollback_to": None if before is None else version_name(before),
            "dataset_counts": datasets.counts(session, policy.dataset_digest),
            "gate": GateView.model_validate(gatekeeper.described(session, number, parts.settings.gate)),
            "promotions": [_view_promotion(attempt) for attempt in policies.promotions(session, number)],
        }

    policy, history = await parts.record.read(look)
    # Not within: what engines hold changes while other threads read the record.
    return PolicyWithHistory(**_view(policy, parts).model_dump(), **history)


@router.put("/v1/policies/{version}/evidence/{name}")
async def put_evidence(version: Version, name: EvidenceName, body: Evidence, parts: Parts, caller: ByKey) -> PolicyView:
    """Keep something that was measured of a version, such as its alignment tax, in place of what was there."""
    policy = await parts.record.write(policies.add_evidence, version_number(version), name, body, actor=caller.key_id)
    return _view(policy, parts)


@router.get("/v1/policies/{version}/votes")
async def list_votes_of_version(
    version: Version, parts: Parts, limit: Limit = 20, after: After = None, order: Order = "desc"
) -> Page[VoteOfVersion]:
    """The votes in a version's dataset, down to the last one."""
    used, more = await parts.record.read(
        votes.of_version, version_number(version), limit=limit, after=after, order=order
    )
    views = [
        VoteOfVersion(**view_vote(vote).model_dump(), used_revision=row.revision, split=row.split) for vote, row in used
    ]
    return page_of(views, [view.id for view in views], more)


@router.post("/v1/policies/rollback")
async def rollback(parts: Parts, caller: ByKey, body: ChangeBody | None = None) -> ChangeView:
    """Go back to the version that served before."""
    return _view_change(await parts.promoter.rollback(_change("rollback", body, caller.key_id)))


@router.post("/v1/policies/{version}/promote")
async def promote(version: Version, parts: Parts, caller: ByKey, body: ChangeBody | None = None) -> ChangeView:
    """Have this version serve. Answers when every host does; or with what failed, and then the old one serves on.

    409 with the `rules` that speak against it where it does not pass the gate; `force` with a reason overrules them.
    """
    number = version_number(version)
    return _view_change(await parts.promoter.promote(number, _change("promote", body, caller.key_id)))


def _change(kind: str, body: ChangeBody | None, actor: str) -> Change:
    body = body or ChangeBody()
    if body.force and not body.reason:
        raise InvalidRequest("'force' needs a reason", param="reason")
    instead_of = None if body.instead_of is None else version_number(body.instead_of)
    return Change(kind, body.reason, body.force, actor, instead_of)


def _view_change(outcome: Outcome) -> ChangeView:
    return ChangeView(
        version=version_name(outcome.version),
        previous=None if outcome.previous is None else version_name(outcome.previous),
        changed=outcome.changed,
        elapsed_s=outcome.elapsed_s,
        behind=outcome.behind,
    )


def _view(policy: Policy, parts: Parts) -> PolicyView:
    return PolicyView(
        version=version_name(policy.version),
        state=policy.state,
        parent=None if policy.parent is None else version_name(policy.parent),
        digest=policy.digest,
        iteration=policy.iteration_id,
        dataset=policy.dataset_digest,
        settings=policy.settings,
        seed=policy.seed,
        evidence=policy.evidence,
        loaded=policy.version in parts.pool.loaded(),
        created=int(policy.created_at),
    )


def _view_promotion(attempt: Promotion) -> PromotionView:
    return PromotionView(
        id=attempt.id,
        kind=attempt.kind,
        version=version_name(attempt.version),
        previous=None if attempt.previous is None else version_name(attempt.previous),
        reason=attempt.reason,
        force=attempt.force,
        actor=attempt.actor,
        outcome=attempt.outcome,
        detail=attempt.detail,
        created=int(attempt.created_at),
    )
