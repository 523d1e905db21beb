"""Which share of chats and of comparisons goes to a challenger."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from feedback.schema import version_name, version_number
from feedback.store import presence, traffic
from feedback.store.traffic import Shares
from serve.auth import guarded
from serve.routes.dependencies import ByKey, Parts
from serve.routes.versions import VersionName

router = APIRouter(route_class=guarded("operate"))


class ServingProcess(BaseModel):
    """An API process, and whether its engines hold the challenger. Where they do not, its share goes to what serves."""

    id: str
    host: str
    holds_challenger: bool


class TrafficBody(BaseModel):
    """Shares run from 0 to 1; with no challenger they have no effect. `processes` is ignored, so that what GET gave can
    be sent back.
    """

    model_config = ConfigDict(extra="forbid")

    object: Literal["traffic"] = "traffic"
    challenger: VersionName | None = None
    chat_share: float = Field(0.0, ge=0, le=1, strict=True)
    comparison_share: float = Field(0.0, ge=0, le=1, strict=True)
    processes: list[Any] | None = None


class TrafficView(BaseModel):
    """The shares, which hold for all API processes of the record, and who serves the challenger by now."""

    object: Literal["traffic"] = "traffic"
    challenger: str | None
    chat_share: float
    comparison_share: float
    processes: list[ServingProcess]


@router.get("/v1/traffic")
async def get_traffic(parts: Parts) -> TrafficView:
    """The shares as they are, and which API processes serve the challenger."""
    return await parts.record.read(_view)


@router.put("/v1/traffic")
async def put_traffic(body: TrafficBody, parts: Parts, caller: ByKey) -> TrafficView:
    """Set the challenger and its shares, for all API processes. The challenger is loaded into the spare engine if none
    holds it: here before this answers, on other hosts soon after.
    """
    challenger = None if body.challenger is None else version_number(body.challenger)
    await parts.challengers.put(Shares(challenger, body.chat_share, body.comparison_share), actor=caller.key_id)
    return await parts.record.read(_view)


def _view(session: Session) -> TrafficView:
    shares = traffic.get(session)
    return TrafficView(
        challenger=None if shares.challenger is None else version_name(shares.challenger),
        chat_share=shares.chat_share,
        comparison_share=shares.comparison_share,
        processes=[
            ServingProcess(
                id=one.id, host=one.host, holds_challenger=any(shares.challenger in held for held in one.held)
            )
            for one in presence.who_serves(session)
        ],
    )
