"""Which share of chats and of comparisons goes to a challenger."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from feedback.schema import version_name, version_number
from feedback.store import traffic
from feedback.store.traffic import Shares
from serve.auth import guarded
from serve.routes.dependencies import ByKey, Parts
from serve.routes.policies import VERSION

router = APIRouter(route_class=guarded("operate"))


class TrafficView(BaseModel):
    """Shares run from 0 to 1; with no challenger they have no effect."""

    model_config = ConfigDict(extra="forbid")

    object: Literal["traffic"] = "traffic"
    challenger: str | None = Field(None, pattern=VERSION.pattern)
    chat_share: float = Field(0.0, ge=0, le=1, strict=True)
    comparison_share: float = Field(0.0, ge=0, le=1, strict=True)


@router.get("/v1/traffic")
async def get_traffic(parts: Parts) -> TrafficView:
    """The shares as they are."""
    return _view(await parts.record.read(traffic.get))


@router.put("/v1/traffic")
async def put_traffic(body: TrafficView, parts: Parts, caller: ByKey) -> TrafficView:
    """Set the challenger and its shares. The challenger is loaded into the spare engine if no engine holds it."""
    challenger = None if body.challenger is None else version_number(body.challenger)
    shares = Shares(challenger, body.chat_share, body.comparison_share)
    if challenger is not None:
        await parts.promoter.load_challenger(challenger)
    parts.pool.shares = await parts.record.write(traffic.put, shares, actor=caller.key_id)
    parts.bell.ring()
    return _view(parts.pool.shares)


def _view(shares: Shares) -> TrafficView:
    return TrafficView(
        challenger=None if shares.challenger is None else version_name(shares.challenger),
        chat_share=shares.chat_share,
        comparison_share=shares.comparison_share,
    )
