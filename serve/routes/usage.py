"""What each key used, day by day, for operators."""

import re
from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError

from feedback.store import keys, usage
from serve.auth import guarded
from serve.routes.dependencies import Parts
from serve.routes.lists import Limit, Order, Page, page_of

router = APIRouter(route_class=guarded("operate"))


def _written_as_a_day(written: object) -> object:
    # Pydantic would take a number for seconds since the epoch.
    if isinstance(written, str) and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", written):
        raise PydanticCustomError("day", "{written} is not a day (2026-03-01)", {"written": written})
    return written


AfterDay = Annotated[
    date | None, BeforeValidator(_written_as_a_day), Query(description="The last day of the page before.")
]
OfKey = Annotated[str | None, Query(max_length=200, description="Only of this key, by its id or prefix.")]


class UsedView(BaseModel):
    """What one key used on one day. A prompt counts once for both replies of a pair."""

    key_id: str
    prefix: str
    name: str
    chats: int
    prompt_tokens: int
    reply_tokens: int
    comparisons: int
    votes: int


class DayView(BaseModel):
    """One day (UTC), and the keys that used anything on it."""

    id: date
    object: Literal["usage"] = "usage"
    keys: list[UsedView]


@router.get("/v1/usage")
async def list_usage(
    parts: Parts, limit: Limit = 7, after: AfterDay = None, order: Order = "desc", key: OfKey = None
) -> Page[DayView]:
    """What each key used, by day, today first; `limit` is how many days."""
    key_id = None if key is None else (await parts.record.read(keys.known, key)).id
    days, more = await parts.record.read(usage.list_page, limit=limit, after=after, order=order, key_id=key_id)
    return page_of([_view(day) for day in days], [day.date.isoformat() for day in days], more)


def _view(day: usage.Day) -> DayView:
    return DayView(id=day.date, keys=[UsedView(**usage.described(used)) for used in day.used])
