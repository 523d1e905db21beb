"""Recorded replies, looked up by the id of the request that they answered."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, WithJsonSchema
from pydantic_core import PydanticCustomError

from feedback.schema import Sample, version_name
from feedback.store import samples
from serve.auth import guarded
from serve.envelope import WELL_FORMED_ID
from serve.routes.dependencies import ByKey, Parts
from serve.routes.lists import After, Limit, Page, page_of

router = APIRouter(route_class=guarded("chat"))


def _request_id(said: str) -> str:
    if not WELL_FORMED_ID.fullmatch(said):
        raise PydanticCustomError("request_id", "{said} is no id that stood in `x-request-id`", {"said": said})
    return said


RequestId = Annotated[
    str,
    Query(description="What stood in `x-request-id` of the answer."),
    AfterValidator(_request_id),
    WithJsonSchema({"type": "string", "pattern": f"^{WELL_FORMED_ID.pattern}$"}),
]


class SampleView(BaseModel):
    """A recorded reply. `version` is null for a side of a comparison, which `GET /v1/comparisons/{comparison_id}` tells
    once it may, and for a reply that no version wrote, or not one alone (`mixed`)."""

    id: str
    object: Literal["sample"] = "sample"
    created: int
    request_id: str
    key_id: str
    user: str | None
    status: str
    finish_reason: str | None
    version: str | None
    mixed: bool | None
    comparison_id: str | None
    sampling: dict[str, Any]
    usage: dict[str, Any] | None
    messages: list[Any]
    message: dict[str, Any]


@router.get("/v1/samples")
async def list_samples(
    parts: Parts, caller: ByKey, request_id: RequestId, limit: Limit = 20, after: After = None
) -> Page[SampleView]:
    """The replies that were recorded for a request, in the order of their choices; a key finds its own, an operator's
    everybody's."""
    found, more = await parts.record.read(
        samples.of_request,
        request_id,
        key_id=None if caller.sees_all else caller.key_id,
        limit=limit,
        after=after,
    )
    return page_of([_view(sample, pair) for sample, pair in found], [sample.id for sample, _ in found], more)


def _view(sample: Sample, comparison_id: str | None) -> SampleView:
    blind = comparison_id is not None
    version = None if blind or sample.mixed else sample.version_first
    return SampleView(
        id=sample.id,
        created=int(sample.created_at),
        request_id=sample.request_id or "",
        key_id=sample.key_id,
        user=sample.user,
        status=sample.status,
        finish_reason=sample.finish_reason,
        version=None if version is None else version_name(version),
        mixed=None if blind else sample.mixed,
        comparison_id=comparison_id,
        sampling=sample.sampling,
        usage=sample.usage,
        messages=sample.messages,
        message=sample.message or {"role": "assistant", "content": sample.text},
    )
