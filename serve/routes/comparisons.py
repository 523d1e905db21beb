"""Comparisons: pairs that want votes, and one pair. Blind until this rater has voted."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from feedback.schema import Sample, version_name
from feedback.store import checks, comparisons, raters
from feedback.store.checks import Shares
from feedback.store.comparisons import Pair
from serve.auth import guarded
from serve.routes.dependencies import ByKey, Parts
from serve.routes.lists import After, Limit, Order, Page, page_of
from serve.routes.votes import Objective, OneSide, RaterName, VoteView, view_vote

vote_router = APIRouter(route_class=guarded("vote"))
operate_router = APIRouter(route_class=guarded("operate"))


class Side(BaseModel):
    """One of the two replies."""

    index: Literal[0, 1]
    message: dict[str, Any]


class AnswerBody(BaseModel):
    """The better reply under an objective, as somebody knows it to be."""

    model_config = ConfigDict(extra="forbid", strict=True)

    objective: Objective
    preferred: OneSide


class Answer(AnswerBody):
    """The known answer of a comparison: votes on it check their raters."""

    comparison: str
    object: Literal["comparison.answer"] = "comparison.answer"


class AnswerRemoved(BaseModel):
    comparison: str
    status: Literal["removed"] = "removed"


class ComparisonView(BaseModel):
    """A comparison. `versions` are those of choice 0 and choice 1, once this rater has voted on it."""

    id: str
    object: Literal["comparison"] = "comparison"
    created: int
    messages: list[dict[str, Any]]
    choices: list[Side]
    votes: list[VoteView]
    versions: list[str | None] | None = None


@vote_router.get("/v1/comparisons", response_model_exclude_none=False)
async def list_comparisons(
    parts: Parts,
    caller: ByKey,
    status: Annotated[
        Literal["open", "all"],
        Query(description="`open`: those that want a vote of this rater; `all`: all of them, each once."),
    ] = "open",
    objective: Annotated[Objective, Query(description="Under which the rater is going to judge.")] = "helpful",
    rater: RaterName = "",
    limit: Limit = 20,
    after: After = None,
    order: Order = "desc",
) -> Page[ComparisonView]:
    """Pairs that want votes, the most informative first."""
    feedback = parts.settings.feedback
    by: dict[str, Any] = {"key_id": caller.key_id, "sees_all": caller.sees_all, "rater": rater, "limit": limit}
    under: dict[str, Any] = {"objective": objective, "votes_wanted": feedback.votes_wanted}
    if status == "all":
        pairs, more = await parts.record.read(comparisons.list_all, **by, after=after, order=order)
    elif after is None:
        pairs, more = await parts.record.write(
            comparisons.hand_out,
            **by,
            **under,
            uniform_share=feedback.uniform_share,
            check_shares=Shares(feedback.repeat_share, feedback.known_answer_share),
        )
    else:
        pairs, more = await parts.record.write(comparisons.hand_on, **by, **under, after=after)
    return page_of([_view(pair) for pair in pairs], [pair.comparison.id for pair in pairs], more)


@vote_router.get("/v1/comparisons/{comparison_id}")
async def get_comparison(comparison_id: str, parts: Parts, caller: ByKey, rater: RaterName = "") -> ComparisonView:
    """One pair."""

    def find(session: Session) -> Pair:
        rater_id = raters.find(session, caller.key_id, rater)
        return comparisons.get(
            session, comparison_id, key_id=caller.key_id, sees_all=caller.sees_all, rater_id=rater_id
        )

    return _view(await parts.record.read(find))


@operate_router.put("/v1/comparisons/{comparison_id}/answer")
async def put_answer(comparison_id: str, body: AnswerBody, parts: Parts, caller: ByKey) -> Answer:
    """Make the better reply of a pair known. Votes cast on it from now on tell how careful their raters are, and train
    and rate nothing."""
    await parts.record.write(checks.set_answer, comparison_id, body.objective, str(body.preferred), actor=caller.key_id)
    return Answer(comparison=comparison_id, objective=body.objective, preferred=body.preferred)


@operate_router.delete("/v1/comparisons/{comparison_id}/answer")
async def delete_answer(comparison_id: str, objective: Objective, parts: Parts, caller: ByKey) -> AnswerRemoved:
    """Votes on the pair are like any others again."""
    await parts.record.write(checks.remove_answer, comparison_id, objective, actor=caller.key_id)
    return AnswerRemoved(comparison=comparison_id)


def _view(pair: Pair) -> ComparisonView:
    return ComparisonView(
        id=pair.comparison.id,
        created=int(pair.comparison.created_at),
        messages=pair.samples[0].messages,
        choices=[Side(index=0, message=_message(pair.samples[0])), Side(index=1, message=_message(pair.samples[1]))],
        votes=[view_vote(vote) for vote in pair.votes if vote.state != "retracted"],
        versions=[_version(sample) for sample in pair.samples] if pair.revealed else None,
    )


def _message(sample: Sample) -> dict[str, Any]:
    return sample.message or {"role": "assistant", "content": sample.text}


def _version(sample: Sample) -> str | None:
    return None if sample.version_first is None else version_name(sample.version_first)
