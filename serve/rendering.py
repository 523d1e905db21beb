"""How an error reaches the client: problem+json (RFC 9457) on native routes, OpenAI's error object on OpenAI's."""

from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from feedback.errors import TandemError
from serve.errors import (
    FieldInvalid,
    MalformedBody,
    MediaTypeUnknown,
    MethodNotAllowed,
    Overloaded,
    ReplyFailed,
    UnknownRoute,
)

# Beside it there are pages.
API_PREFIX = "/v1/"
# Whatever else is asked for below it an OpenAI client may have asked for, who understands no other form of error.
NATIVE_PREFIXES = (
    "/v1/audit",
    "/v1/comparisons",
    "/v1/iterations",
    "/v1/policies",
    "/v1/raters",
    "/v1/ratings",
    "/v1/samples",
    "/v1/scores",
    "/v1/session",
    "/v1/traffic",
    "/v1/usage",
    "/v1/votes",
)
# Where such a client calls when its base URL lacks the `/v1`.
WITHOUT_V1 = ("/chat/completions", "/models", "/completions", "/embeddings", "/responses")
# The record or an engine is away: both come back by themselves.
RETRY_AFTER_S = 1
# OpenAI's own answers to an unknown key and to an unknown model are of the type of any wrong request.
OPENAI_TYPES = {403: "permission_error", 429: "rate_limit_error"}


def install(app: FastAPI) -> None:
    """Render every error that a route of `app` raises."""
    app.add_exception_handler(TandemError, _tandem_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


def response(error: TandemError, path: str, request_id: str) -> Response:
    """`error` as the answer to a request for `path`."""
    headers: dict[str, str] = {}
    if isinstance(error, Overloaded):
        headers |= error.headers()
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = str(RETRY_AFTER_S)
    if error.status == HTTPStatus.GATEWAY_TIMEOUT or isinstance(error, ReplyFailed):
        # To OpenAI's SDKs, which would ask for the same two times more.
        headers["x-should-retry"] = "false"
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if is_openais(path):
        return Response(orjson.dumps(openai_error(error)), error.status, headers=headers, media_type="application/json")
    return Response(
        orjson.dumps(problem(error, request_id)), error.status, headers=headers, media_type="application/problem+json"
    )


def is_openais(path: str) -> bool:
    """True where errors have OpenAI's form."""
    return path.startswith(WITHOUT_V1) or (path.startswith(API_PREFIX) and not path.startswith(NATIVE_PREFIXES))


def problem(error: TandemError, request_id: str) -> dict[str, Any]:
    """RFC 9457's object, with `code` and `request_id` beside it, and `param` where one field is to blame."""
    said: dict[str, Any] = {
        "type": f"urn:tandem:error:{error.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "request_id": request_id,
    }
    if error.param is not None:
        said["param"] = error.param
    return said | error.details()


def openai_error(error: TandemError) -> dict[str, Any]:
    """OpenAI's error object."""
    default = "invalid_request_error" if error.status < 500 else "server_error"
    return {
        "error": {
            "message": error.message,
            "type": OPENAI_TYPES.get(error.status, default),
            "param": error.param,
            "code": error.code,
        }
    }


async def _tandem_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TandemError)
    return _render(request, error)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, bytes):
        # FastAPI reads no other, so that no page of another site has a browser send it without asking.
        return _render(request, MediaTypeUnknown("the body must be JSON, sent with 'content-type: application/json'"))
    problems = error.errors()
    if any(found["type"] == "json_invalid" for found in problems):
        return _render(request, MalformedBody("the body is not valid JSON"))
    said = "; ".join(f"{_field(found['loc'])}: {found['msg'].removeprefix('Value error, ')}" for found in problems)
    return _render(request, FieldInvalid(said, param=_field(problems[0]["loc"])))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, TandemError):
        # FastAPI's way to say that something was wrong with a body.
        return _render(request, error.__cause__)
    if isinstance(error.__cause__, ClientDisconnect):
        raise error.__cause__
    allowed = allowed_methods(request)
    if allowed and request.method not in allowed:
        # The pages stand behind every route, so it is they who refuse a method that a route does not know.
        answer = _render(request, MethodNotAllowed(f"{request.method} is not allowed here"))
        answer.headers["allow"] = ", ".join(sorted(allowed))
        return answer
    if error.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        return _render(request, UnknownRoute(_nothing_at(request.method, request.url.path)))
    if error.status_code == HTTPStatus.BAD_REQUEST:
        # FastAPI says so of a body that is no UTF-8, nested too deeply, or holds a number without end.
        return _render(request, MalformedBody("the body cannot be read as JSON"))
    found = TandemError(str(error.detail))
    found.status = error.status_code
    found.code = "http_error"
    answer = _render(request, found)
    answer.headers.update(error.headers or {})
    return answer


def _nothing_at(method: str, path: str) -> str:
    said = f"there is nothing at {method} {path}"
    if path.startswith(WITHOUT_V1):
        return f"{said}; the base URL of an OpenAI client ends in /v1 here"
    if is_openais(path):
        return f"{said}; of OpenAI's API there are /v1/chat/completions and /v1/models (all routes: /openapi.json)"
    return said


def allowed_methods(request: Request) -> set[str]:
    """The methods of the routes at this path, or of the pages that are beside them; none where neither can be."""
    path = request.url.path
    routes = [route for route in request.app.routes if isinstance(route, APIRoute) and route.path_regex.match(path)]
    # A path of its own goes before one that it would fill in (`/v1/policies/rollback`, `/v1/policies/{version}`).
    routes = [route for route in routes if route.path == path] or routes
    if not routes and not path.startswith((API_PREFIX, *WITHOUT_V1)):
        return {"GET", "HEAD"}
    return {method for route in routes for method in route.methods}


def _render(request: Request, error: TandemError) -> Response:
    return response(error, request.url.path, request.state.request_id)


def _field(location: tuple[Any, ...]) -> str:
    # The first part says where the field was (body, query, path), which the reader knows.
    return ".".join(str(part) for part in location[1:]) or str(location[0])
