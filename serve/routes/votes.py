"""Votes: put, retracted, looked at."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from sqlalchemy.orm import Session

from feedback.errors import NotAllowed
from feedback.schema import Vote, VoteRevision, version_number
from feedback.store import finding, raters, votes
from feedback.store.finding import Wanted
from feedback.store.votes import Judgement
from serve.auth import guarded
from serve.routes.dependencies import ByKey, Parts
from serve.routes.lists import After, Limit, Order, Page, page_of
from serve.routes.versions import VersionName

router = APIRouter(route_class=guarded("vote"))

Objective = Literal["helpful", "harmless"]
MAX_TEXT = 100_000
Id = Annotated[str | None, Query(max_length=200)]
At = Annotated[float | None, Query(ge=0, allow_inf_nan=False, description="Seconds since the epoch.")]
RaterName = Annotated[str, Query(max_length=200, description="Who votes, where one key votes for several people.")]


def _no_flag(said: Any) -> Any:
    # To Python true is 1, and it is not a side.
    if isinstance(said, bool):
        raise ValueError("a side is 0 or 1, not true or false")
    return said


OneSide = Annotated[Literal[0, 1], BeforeValidator(_no_flag)]


class VoteBody(BaseModel):
    """One rater's judgement. `strength` runs from 1 (slightly better) to 4 (much better)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    objective: Objective
    preferred: Annotated[Literal[0, 1, "tie", "both_bad"], BeforeValidator(_no_flag)]
    strength: int | None = Field(None, ge=1, le=4, validate_default=True)
    reason: str | None = Field(None, max_length=MAX_TEXT)
    ideal: str | None = Field(None, max_length=MAX_TEXT)
    success: int | None = Field(None, ge=0, le=4)
    elapsed_s: float | None = Field(None, ge=0, le=86_400, allow_inf_nan=False)
    left: OneSide | None = None
    rater: str = Field("", max_length=200)

    @field_validator("strength")
    @classmethod
    def _strength_of_a_preference(cls, strength: int | None, others: ValidationInfo) -> int | None:
        if strength is None and others.data.get("preferred") in (0, 1):
            raise ValueError("needed when one reply is preferred")
        return strength


class VoteAccepted(BaseModel):
    """A vote that is durable."""

    id: str
    status: str


class VoteView(BaseModel):
    """A vote as it stands."""

    id: str
    object: Literal["vote"] = "vote"
    comparison: str
    rater: str
    objective: str
    preferred: Literal[0, 1, "tie", "both_bad"]
    strength: int | None
    reason: str | None
    ideal: str | None
    success: int | None
    status: str
    revision: int
    created: int


class VersionFromVote(BaseModel):
    """A version whose votes this one was among: to learn from (`train`) or to measure on. `promoted`: when, if ever."""

    version: str
    state: str
    split: str
    promoted: float | None


class VoteWithVersions(VoteView):
    """A vote with the versions that came of it."""

    versions: list[VersionFromVote]


class RevisionView(BaseModel):
    """What a vote said at one revision; `preferred` is null where it was taken back."""

    revision: int
    preferred: Literal[0, 1, "tie", "both_bad"] | None
    strength: int | None
    reason: str | None
    ideal: str | None
    success: int | None
    created: int


class VoteWithUse(VoteWithVersions):
    """A vote with what it changed: the iterations that used it too. `compared` are the versions that wrote choice 0 and
    choice 1, null while the vote is taken back; `history` is what it said at each revision, the present one last."""

    iterations: list[dict[str, Any]]
    compared: list[str | None] | None
    history: list[RevisionView]


class VotesRetracted(BaseModel):
    status: Literal["retracted"] = "retracted"
    ids: list[str]


@router.put("/v1/comparisons/{comparison_id}/vote")
async def put_vote(comparison_id: str, body: VoteBody, parts: Parts, caller: ByKey) -> VoteAccepted:
    """Vote, or change a vote. The same again answers the same. When this answers, the vote is durable."""
    judgement = Judgement(
        objective=body.objective,
        preferred=str(body.preferred),
        strength=body.strength,
        reason=body.reason,
        ideal=body.ideal,
        success=body.success,
        elapsed_s=body.elapsed_s,
        left=body.left,
    )
    key_id, sees_all, rater = caller.key_id, caller.sees_all, body.rater
    if rater and not (sees_all or parts.settings.feedback.rater_names):
        raise NotAllowed("keys with the role 'vote' vote for one person each here: leave 'rater' out", param="rater")
    record = parts.record
    # Nearly all votes are first ones, which are one statement.
    vote = await record.write_once(
        votes.put_first, comparison_id, judgement, key_id=key_id, sees_all=sees_all, rater=rater
    )
    if vote is None:
        vote = await record.write(votes.put, comparison_id, judgement, key_id=key_id, sees_all=sees_all, rater=rater)
    parts.vote_is_durable()
    return VoteAccepted(id=vote.id, status="accepted")


@router.delete("/v1/comparisons/{comparison_id}/vote")
async def delete_vote(
    comparison_id: str,
    parts: Parts,
    caller: ByKey,
    objective: Annotated[Objective | None, Query(description="Under which; without it, under all.")] = None,
    rater: RaterName = "",
) -> VotesRetracted:
    """Take back this rater's vote. Again changes nothing."""
    retracted = await parts.record.write(
        votes.retract, comparison_id, objective, key_id=caller.key_id, sees_all=caller.sees_all, rater=rater
    )
    return VotesRetracted(ids=[vote.id for vote in retracted])


async def wanted_of(
    rater_id: Id = None,
    comparison: Id = None,
    objective: Objective | None = None,
    preferred: Literal["0", "1", "tie", "both_bad"] | None = None,
    status: Literal["accepted", "counted", "quarantined", "retracted"] | None = None,
    version: Annotated[VersionName | None, Query(description="Wrote one of the two replies.")] = None,
    since: At = None,
    until: At = None,
    text: Annotated[
        str | None,
        Query(
            min_length=1, max_length=1000, description="Stands in the conversation, a reply or what the rater wrote."
        ),
    ] = None,
    disputed: Annotated[
        bool, Query(description="Only where another rater picked the other side; for operators.")
    ] = False,
) -> Wanted:
    """Which votes are looked for."""
    return Wanted(
        rater_id=rater_id,
        comparison_id=comparison,
        objective=objective,
        preferred=preferred,
        state=status,
        version=None if version is None else version_number(version),
        since=since,
        until=until,
        text=text,
        disputed=disputed,
    )


@router.get("/v1/votes")
async def list_votes(
    parts: Parts,
    caller: ByKey,
    wanted: Annotated[Wanted, Depends(wanted_of)],
    whose: Annotated[
        Literal["own", "all"],
        Query(description="`own`: this rater's; `all`: everybody's, for operators."),
    ] = "own",
    limit: Limit = 20,
    after: After = None,
    order: Order = "desc",
    rater: RaterName = "",
) -> Page[VoteWithVersions]:
    """Votes that are looked for, the newest first, each with the versions that came of it."""
    if (whose == "all" or wanted.disputed) and not caller.sees_all:
        # What others say of a pair is not for those who judge it.
        raise NotAllowed("'whose=all' and 'disputed' need a key with the role 'operate'")

    def find(session: Session) -> Page[VoteWithVersions]:
        asked = wanted
        if whose == "own":
            own = raters.find(session, caller.key_id, rater)
            if own is None or wanted.rater_id not in (None, own):
                return page_of([], [], has_more=False)
            asked = replace(wanted, rater_id=own)
        found, more = finding.find(session, asked, limit=limit, after=after, order=order)
        views = _with_versions(session, found)
        return page_of(views, [view.id for view in views], more)

    # One's own are found by an index.
    reads_all = wanted.reads_all if whose == "all" else replace(wanted, rater_id=wanted.rater_id or "own").reads_all
    return await (parts.record.search if reads_all else parts.record.read)(find)


@router.get("/v1/votes/{vote_id}")
async def get_vote(vote_id: str, parts: Parts, caller: ByKey) -> VoteWithUse:
    """One vote: accepted, counted, quarantined or retracted; and what it changed."""

    def look(session: Session) -> VoteWithUse:
        vote = votes.get(session, vote_id, key_id=caller.key_id, sees_all=caller.sees_all)
        return VoteWithUse(
            **_with_versions(session, [vote])[0].model_dump(),
            iterations=votes.used_by(session, vote_id),
            # A pair that is to be judged anew is blind again.
            compared=None if vote.state == "retracted" else votes.compared(session, vote_id),
            history=[RevisionView(**_said(revision)) for revision in votes.history(session, vote_id)],
        )

    return await parts.record.read(look)


def _with_versions(session: Session, found: list[Vote]) -> list[VoteWithVersions]:
    versions = votes.versions_from(session, [vote.id for vote in found])
    return [
        VoteWithVersions(**view_vote(vote).model_dump(), versions=[VersionFromVote(**one) for one in versions[vote.id]])
        for vote in found
    ]


def view_vote(vote: Vote) -> VoteView:
    return VoteView(
        id=vote.id,
        comparison=vote.comparison_id,
        rater=vote.rater_id,
        objective=vote.objective,
        status=vote.state,
        **_said(vote),
    )


def _said(one: Vote | VoteRevision) -> dict[str, Any]:
    """What a vote says, now or at an earlier revision, and when it was said."""
    return {
        "revision": one.revision,
        "preferred": int(one.preferred) if one.preferred in ("0", "1") else one.preferred,
        "strength": one.strength,
        "reason": one.reason,
        "ideal": one.ideal,
        "success": one.success,
        "created": int(one.created_at),
    }
