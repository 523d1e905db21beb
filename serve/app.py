"""The application: every route, behind one envelope."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response

from feedback.settings import Settings
from serve import openapi, rendering
from serve.envelope import Envelope, id_of
from serve.gateway import Gateway
from serve.page_files import PageFiles
from serve.routes import (
    audit,
    chat,
    comparisons,
    health,
    iterations,
    models,
    policies,
    raters,
    ratings,
    samples,
    scores,
    session,
    traffic,
    usage,
    votes,
)

# What a page of another site may read of an answer, beside its body.
EXPOSED_HEADERS = [
    "x-request-id",
    "retry-after",
    "idempotent-replayed",
    *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
]


class Origins(CORSMiddleware):
    """Starlette's, except that what it answers by itself has an id, as every answer."""

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        answer.headers["x-request-id"] = id_of(request_headers.raw)
        return answer


def create_app(settings: Settings) -> FastAPI:
    """The API over the record and the engines of `settings.home`. Its parts start and stop with the server."""
    gateway = Gateway(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        try:
            yield
        finally:
            await gateway.stop()

    app = FastAPI(
        title="Tandem",
        summary="An assistant that learns from its users' votes while it serves them.",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.gateway = gateway
    rendering.install(app)
    for router in (
        health.router,
        health.metrics_router,
        models.router,
        chat.router,
        comparisons.vote_router,
        comparisons.operate_router,
        votes.router,
        samples.router,
        scores.router,
        policies.router,
        traffic.router,
        iterations.router,
        ratings.router,
        raters.own_router,
        raters.operate_router,
        usage.router,
        session.router,
        audit.router,
    ):
        # `include_router` would make each of them a second time.
        app.router.routes += router.routes
    openapi.install(app)
    # Last, so that no file can stand in for a route.
    # The least of compression takes three fifths off; the most takes thrice the CPU for a little more.
    app.mount("/", GZipMiddleware(PageFiles(), compresslevel=1), name="pages")
    app.add_middleware(Envelope, metrics=gateway.metrics, max_body_bytes=settings.serve.max_body_bytes)
    if settings.serve.allowed_origins:
        # Around everything, so that errors carry it too. Cookies are not allowed: a key must be sent.
        app.add_middleware(
            Origins,
            allow_origins=settings.serve.allowed_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    return app
