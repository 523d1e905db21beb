"""What a version's preference model makes of replies."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from feedback.schema import Policy, version_name, version_number
from feedback.store import policies
from serve.auth import guarded
from serve.chat.openapi import MESSAGE
from serve.chat.request import check_messages
from serve.gateway import Gateway
from serve.routes.dependencies import Parts
from serve.routes.versions import VersionName
from serve.routes.votes import MAX_TEXT
from serve.scorer import NoPreferenceModel

router = APIRouter(route_class=guarded("operate"))

MAX_REPLIES = 64


class ScoresBody(BaseModel):
    """Replies to one conversation. `ended` says which of them came to their end, which others did not that were cut off
    at a limit of tokens; without it all did."""

    model_config = ConfigDict(extra="forbid", strict=True)

    messages: list[Any] = Field(min_length=1, json_schema_extra={"items": MESSAGE})
    replies: list[Annotated[str, Field(max_length=MAX_TEXT)]] = Field(min_length=1, max_length=MAX_REPLIES)
    ended: list[bool] | None = None
    version: VersionName | None = Field(None, description="Whose preference model; by default what serves.")

    @model_validator(mode="after")
    def _one_end_a_reply(self) -> "ScoresBody":
        if self.ended is not None and len(self.ended) != len(self.replies):
            raise ValueError("'ended' must say it of each reply")
        return self


class ReplyScores(BaseModel):
    """What is made of one reply, by score: each objective that was voted on, and `overall`.

    `scores` are in logits of a vote; `anchored` are deviations above the mean of what the starting policy replies to
    fixed prompts, which compare between iterations. `preferred_to_first` is how probably people prefer it to the first
    reply, `spread` how far the ensemble's members disagree about that, in logits; null without an ensemble. `reward`
    is what PPO raises, before KL and bounds. Of the reply `tokens` were read; where it is `cut` there were more.
    """

    reward: float
    scores: dict[str, float]
    anchored: dict[str, float] | None
    preferred_to_first: dict[str, float]
    spread: dict[str, float] | None
    tokens: int
    cut: bool


class ScoresView(BaseModel):
    """The replies in the order in which they came. With `prompt_cut` only the end of the conversation was read."""

    object: Literal["scores"] = "scores"
    version: str
    iteration: str
    prompt_cut: bool
    replies: list[ReplyScores]


@router.post("/v1/scores")
async def score_replies(body: ScoresBody, parts: Parts) -> ScoresView:
    """What the preference model that a version was trained with makes of replies. Nothing of it is recorded."""
    messages = check_messages(body.messages)
    policy = await _policy(parts, body.version)
    name = version_name(policy.version)
    if policy.iteration_id is None:
        raise NoPreferenceModel(
            f"{name} was made by no iteration, so that it has no preference model: name another version",
            param="version",
        )
    ended = body.ended or [True] * len(body.replies)
    found = await parts.scorer.opinion(policy.version, messages, body.replies, ended)
    return ScoresView(
        version=name, iteration=policy.iteration_id, prompt_cut=found["prompt_cut"], replies=found["replies"]
    )


async def _policy(parts: Gateway, version: str | None) -> Policy:
    """Raises NotFound, NoPreferenceModel where no version is named and none serves."""
    if version is not None:
        return await parts.record.read_once(policies.get, version_number(version))
    serving = await parts.record.read_once(policies.serving)
    if serving is None:
        raise NoPreferenceModel("nothing serves yet: name a version", param="version")
    return serving
