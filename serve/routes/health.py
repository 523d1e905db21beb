"""Is it alive, is it ready, and what do the metrics say."""

import shutil
from typing import Any, Literal

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.responses import Response

from feedback.errors import EngineUnavailable
from feedback.schema import Iteration
from feedback.store import iterations, votes
from serve.auth import guarded
from serve.gateway import Gateway
from serve.routes.dependencies import Parts

QUEUES = ("votes", "learner")

router = APIRouter()
metrics_router = APIRouter(route_class=guarded("operate"))


class Health(BaseModel):
    status: Literal["ok"] = "ok"


# Some monitors ask by HEAD.
@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def is_alive() -> Health:
    """The process answers. Nothing else is looked at."""
    return Health()


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz")
async def is_ready(parts: Parts) -> Health:
    """The record answers and at least one engine serves a policy; 503 until then."""
    await parts.record.ping()
    if not parts.pool.ready:
        raise EngineUnavailable("no engine serves a policy yet")
    return Health()


@metrics_router.get("/metrics", response_class=Response)
async def metrics(parts: Parts) -> Response:
    """Prometheus's text format."""
    await _look(parts)
    return Response(generate_latest(parts.metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _depths(redis: Any) -> dict[str, int]:
    return {queue: await redis.llen(queue) for queue in QUEUES}


async def _look(parts: Gateway) -> None:
    """Bring the gauges up to date."""
    shown, pool = parts.metrics, parts.pool
    for slot in pool.slots:
        shown.engine_ready.labels(str(slot.index)).set(slot.state == "ready")
        shown.engine_version.labels(str(slot.index)).set(-1 if slot.version is None else slot.version)
        shown.engine_in_flight.labels(str(slot.index)).set(slot.in_flight)
        shown.engine_restarts.labels(str(slot.index))  # shown as 0: the first one is an increase
    shown.queued.set(pool.admission.queued)
    depths = await parts.queue.ask(_depths)
    shown.queue_answers.set(depths is not None)
    shown.queue_tasks.clear()
    for queue, depth in (depths or {}).items():
        shown.queue_tasks.labels(queue).set(depth)

    def look(session: Session) -> tuple[dict[str, int], float | None, Iteration | None]:
        return votes.count_by_state(session), votes.oldest_uncounted_age_s(session), iterations.active(session)

    counts, age_s, iteration = await parts.record.read(look)
    for state in ("accepted", "counted", "quarantined", "retracted"):
        shown.votes.labels(state).set(counts.get(state, 0))
    shown.oldest_uncounted_vote_age_seconds.set(max(0.0, age_s or 0.0))
    shown.iteration_active.set(iteration is not None)
    shown.iteration_progress.clear()
    if iteration is not None:
        shown.iteration_progress.labels(iteration.stage or iteration.state).set(iteration.progress)
    # With Helm what is shared stands on a disk of its own.
    folders = [folder for folder in (parts.settings.home, parts.settings.policies_dir) if folder.exists()]
    shown.home_free_bytes.set(min(shutil.disk_usage(folder).free for folder in folders))
