"""What surrounds every request: its id, the bound on its body, its line in the log, its count, and the last resort
when something breaks. Pure ASGI, since it is paid on every chunk of every stream.
"""

import asyncio
import logging
import re
import time
import traceback
from collections.abc import Iterable
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feedback import tracing
from feedback.errors import TandemError
from feedback.ids import new_id
from serve import rendering
from serve.errors import BodyTooLarge, EncodingUnknown, Stopping, Unexpected
from serve.metrics import Metrics

log = logging.getLogger("serve")

WELL_FORMED_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
]
PAGES_POLICY = (
    b"content-security-policy",
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    # Text becomes elements through DOMPurify only: the browser refuses any other way.
    b"require-trusted-types-for 'script'; trusted-types dompurify",
)

# Not all else: there are clients that name the text's own encoding there.
COMPRESSED = frozenset({b"gzip", b"x-gzip", b"deflate", b"br", b"zstd", b"compress"})


# Of whoever has not shown a key: enough to sign in.
ANYBODYS_BYTES = 16_384


class Body:
    """A request's body as it is read, of which there may be `largest` bytes."""

    def __init__(self, receive: Receive, largest: int) -> None:
        self.largest = largest
        self._receive = receive
        self._size = 0

    async def receive(self) -> Message:
        """Raises BodyTooLarge."""
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > self.largest:
            raise too_large(self.largest)
        return message


class Envelope:
    """Wraps the application; `max_body_bytes` bounds what a request may send. Its body is read when its key is known:
    else anybody could have the process hold one for each connection.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body_bytes: int) -> None:
        self.app = app
        self.metrics = metrics
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = id_of(scope["headers"])
        body = Body(receive, min(ANYBODYS_BYTES, self.max_body_bytes))
        # The server's own `send`, for a stream that has begun: what lies between is paid on every chunk.
        scope.setdefault("state", {}).update(request_id=request_id, send=send, body=body)
        exchange = _Exchange(scope, send, request_id)
        with tracing.current("request", "server", carrier=_trace_of(scope)) as span:
            await self._answer(scope, body.receive, exchange)
            exchange.describe(span)
        # What is in there holds the scope, too.
        scope["state"].clear()

    async def _answer(self, scope: Scope, receive: Receive, exchange: "_Exchange") -> None:
        try:
            self._check_head(scope)
            await self.app(scope, receive, exchange.send)
        except TandemError as error:
            await exchange.answer(error)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:
            await exchange.answer(Stopping())
        except Exception as error:  # noqa: BLE001 - the last resort: logged with its place, answered without its message
            _log_failure(error, exchange.request_id)
            await exchange.answer(Unexpected())
        finally:
            self._account(exchange)

    def _check_head(self, scope: Scope) -> None:
        """Raises BodyTooLarge, EncodingUnknown."""
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding", b"").lower() in COMPRESSED:
            raise EncodingUnknown("a compressed body is not read: send it as it is, without 'content-encoding'")
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.max_body_bytes:
            raise too_large(self.max_body_bytes)

    def _account(self, exchange: "_Exchange") -> None:
        status, route = exchange.final_status, exchange.route
        elapsed_s = time.perf_counter() - exchange.began
        self.metrics.requests.labels(exchange.method, route, str(status)).inc()
        self.metrics.request_seconds.labels(exchange.method, route).observe(elapsed_s)
        log.info(
            "%s %s %d %.1f ms %s",
            exchange.method,
            route,
            status,
            1000 * elapsed_s,
            exchange.request_id,
            extra={
                "fields": {
                    "method": exchange.method,
                    "route": route,
                    "status": status,
                    "elapsed_s": round(elapsed_s, 6),
                    "request_id": exchange.request_id,
                }
            },
        )


class _Exchange:
    """One request's answer on its way out."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self.scope = scope
        self.request_id = request_id
        self.status: int | None = None
        self.began = time.perf_counter()
        self._send = send

    @property
    def method(self) -> str:
        method: str = self.scope["method"]
        return method

    @property
    def route(self) -> str:
        """The route's template, so that no id becomes a label."""
        route = self.scope.get("route")
        return getattr(route, "path", None) or "unknown"

    @property
    def final_status(self) -> int:
        """499 as in nginx: the client went away before there was an answer."""
        return self.status or 499

    def describe(self, span: tracing.Span) -> None:
        """What has become of the request, by the names of OpenTelemetry's conventions for HTTP."""
        span.name(f"{self.method} {self.route}")
        span.set(
            {
                "http.request.method": self.method,
                "http.route": self.route,
                "http.response.status_code": self.final_status,
                "tandem.request.id": self.request_id,
            }
        )
        if self.final_status >= 500:
            span.fail(str(self.final_status))

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: list[tuple[bytes, bytes]] = list(message["headers"])
            headers.append((b"x-request-id", self.request_id.encode()))
            present = {name for name, _ in headers}
            headers.extend(pair for pair in SECURITY_HEADERS if pair[0] not in present)
            headers.append(PAGES_POLICY)
            message["headers"] = headers
            # Nothing more is to be done for what follows: it goes straight out.
        await self._send(message)

    async def answer(self, error: TandemError) -> None:
        """Answer with `error`, unless an answer has begun already."""
        if self.status is None:
            rendered = rendering.response(error, self.scope["path"], self.request_id)
            await rendered(self.scope, _nothing_more, self.send)


def too_large(largest: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {largest} bytes")


def id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """A request's id: the client's own, if it sent a well-formed one."""
    for name, value in headers:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            if WELL_FORMED_ID.fullmatch(given):
                return given
    return new_id("req")


def _trace_of(scope: Scope) -> dict[str, str]:
    """The trace that the client says its request belongs to."""
    return {
        name.decode(): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in (b"traceparent", b"tracestate")
    }


async def _nothing_more() -> dict[str, Any]:
    return {"type": "http.disconnect"}


def _log_failure(error: Exception, request_id: str) -> None:
    # The message may quote what the client sent; the kind of error and its place are enough to find it.
    place = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("%s in %s at %s", type(error).__name__, request_id, " < ".join(reversed(place[-8:])))
