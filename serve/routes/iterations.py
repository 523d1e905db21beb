"""Iterations: start one now, look at them, follow one live."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session
from starlette.responses import Response, StreamingResponse

from feedback.errors import NotAuthenticated, RecordUnavailable
from feedback.schema import Iteration, IterationEvent, version_name
from feedback.store import iterations
from serve.auth import guarded
from serve.gateway import Gateway
from serve.routes.dependencies import ByKey, Parts
from serve.routes.lists import After, Limit, Order, Page, page_of

router = APIRouter(route_class=guarded("operate"))

LOOK_INTERVAL_S = 0.5
KEEP_ALIVE_INTERVAL_S = 15.0


class IterationBody(BaseModel):
    """Why it is started, or cancelled."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(None, max_length=10_000)


class IterationView(BaseModel):
    """One turn of the loop. `progress` runs from 0 to 1 within `stage`."""

    id: str
    object: Literal["iteration"] = "iteration"
    state: str
    stage: str | None
    progress: float
    trigger: str
    reason: str | None
    seed: int
    settings: dict[str, Any]
    dataset: str | None
    candidate: str | None
    error: str | None
    created: float
    started: float | None
    finished: float | None


@router.post("/v1/iterations", status_code=201)
async def start_iteration(parts: Parts, caller: ByKey, body: IterationBody | None = None) -> IterationView:
    """Start one now. 409 while another one is queued or running."""
    body = body or IterationBody()
    iteration = await parts.start_iteration(body.reason, caller.key_id)
    return _view(iteration)


@router.get("/v1/iterations")
async def list_iterations(
    parts: Parts, limit: Limit = 20, after: After = None, order: Order = "desc"
) -> Page[IterationView]:
    """All of them."""
    rows, more = await parts.record.read_once(iterations.list_page, limit=limit, after=after, order=order)
    return page_of([_view(row) for row in rows], [row.id for row in rows], more)


@router.get("/v1/iterations/{iteration_id}")
async def get_iteration(iteration_id: str, parts: Parts) -> IterationView:
    """State, stage and progress of one."""
    return _view(await parts.record.read_once(iterations.get, iteration_id))


@router.post("/v1/iterations/{iteration_id}/cancel")
async def cancel_iteration(
    iteration_id: str, parts: Parts, caller: ByKey, body: IterationBody | None = None
) -> IterationView:
    """End one without a candidate. 409 when it has ended otherwise."""
    reason = (body or IterationBody()).reason or ""
    return _view(await parts.record.write(iterations.cancel, iteration_id, reason, caller.key_id))


@router.get(
    "/v1/iterations/{iteration_id}/events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def follow_iteration(
    iteration_id: str,
    request: Request,
    parts: Parts,
    last_event_id: Annotated[int | None, Header(ge=0, lt=2**31, description="Resume after this event.")] = None,
    after: Annotated[int, Query(ge=0, lt=2**31, description="The same, for who cannot set headers.")] = 0,
) -> Response:
    """Server-sent events of one, from the first or from `Last-Event-ID` on, until it has ended."""
    await parts.record.read(iterations.get, iteration_id)
    events = _events(parts, request, iteration_id, last_event_id if last_event_id is not None else after)
    return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})


async def _events(parts: Gateway, request: Request, iteration_id: str, seq: int) -> AsyncIterator[bytes]:
    said_at = time.monotonic()
    while not parts.stopping.is_set():
        try:
            # Who began may have been signed out since, or their key revoked.
            await parts.keyring.require(request, "operate")
            found, ended = await parts.record.read(_news, iteration_id, seq)
        except NotAuthenticated:
            return
        except RecordUnavailable:
            # It comes back. Who had the stream end now would ask again, be refused, and then a browser gives up.
            found, ended = [], False
        for event in found:
            seq = event.seq
            yield _sse(event)
        if ended:
            return
        if found:
            said_at = time.monotonic()
            continue
        # By the clock: a database that stands still has each look take half a minute.
        if time.monotonic() - said_at >= KEEP_ALIVE_INTERVAL_S:
            yield b": still there\n\n"
            said_at = time.monotonic()
        await _pause(parts.stopping)


def _news(session: Session, iteration_id: str, seq: int) -> tuple[list[IterationEvent], bool]:
    """The next events, and whether none is left and none will come."""
    found = iterations.events_after(session, iteration_id, seq)
    return found, not found and iterations.get(session, iteration_id).state in iterations.ENDED


async def _pause(stopping: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_INTERVAL_S):
            await stopping.wait()
    except TimeoutError:
        pass


def _sse(event: IterationEvent) -> bytes:
    data = orjson.dumps({"kind": event.kind, "created": event.created_at, **event.data})
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.kind.encode(), data)


def _view(iteration: Iteration) -> IterationView:
    return IterationView(
        id=iteration.id,
        state=iteration.state,
        stage=iteration.stage,
        progress=iteration.progress,
        trigger=iteration.trigger,
        reason=iteration.reason,
        seed=iteration.seed,
        settings=iteration.settings,
        dataset=iteration.dataset_digest,
        candidate=None if iteration.candidate is None else version_name(iteration.candidate),
        error=iteration.error,
        created=iteration.created_at,
        started=iteration.started_at,
        finished=iteration.finished_at,
    )
