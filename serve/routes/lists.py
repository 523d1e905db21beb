"""Lists as OpenAI shows them: a page, the ids at its ends, and whether more follow."""

from typing import Annotated, Generic, Literal, TypeVar

from fastapi import Query
from pydantic import BaseModel

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
After = Annotated[str | None, Query(description="The id of the last one of the page before.", max_length=200)]
Order = Annotated[Literal["asc", "desc"], Query(description="By the time they were made.")]


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


def page_of(data: list[Item], ids: list[str], has_more: bool) -> Page[Item]:
    return Page(data=data, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None, has_more=has_more)
