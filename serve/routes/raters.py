"""`DELETE /v1/raters/{id}`: a person is forgotten."""

import asyncio
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from feedback import erasure
from feedback.schema import version_name
from serve.auth import guarded
from serve.routes.dependencies import Parts

router = APIRouter(route_class=guarded("operate"))


class Erased(BaseModel):
    """`used_by` are the versions that had learnt from this person's votes: they cannot unlearn them."""

    id: str
    status: Literal["erased"] = "erased"
    used_by: list[str]


@router.delete("/v1/raters/{rater_id}")
async def erase_rater(rater_id: str, parts: Parts) -> Erased:
    """Erase a person's data, from future training sets too."""
    store, home = parts.record.store, parts.settings.home
    versions = await asyncio.to_thread(erasure.forget, store, home, rater_id)
    return Erased(id=rater_id, used_by=[version_name(version) for version in versions])
