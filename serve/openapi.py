"""The openapi document: what FastAPI finds out by itself, and beside it keys, roles and the two forms of error."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from serve.rendering import is_openais

PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457. `code` is stable; `param` is the field to blame, where there is one.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "param": {"type": "string"},
    },
}
OPENAI_ERROR: dict[str, Any] = {
    "type": "object",
    "description": "OpenAI's error object.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
KEY: dict[str, Any] = {"type": "http", "scheme": "bearer", "description": "An API key; see `tandem keys`."}


def install(app: FastAPI) -> None:
    """Have `app` describe itself in full."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas |= {"Problem": PROBLEM, "OpenAIError": OPENAI_ERROR}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = {"key": KEY}
    for route in [route for route in app.routes if isinstance(route, APIRoute)]:
        for method in route.methods:
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None:
                _complete(operation, route)
    return document


def _complete(operation: dict[str, Any], route: APIRoute) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    name, media_type = ("Problem", "application/problem+json")
    if is_openais(route.path):
        name, media_type = ("OpenAIError", "application/json")
    schema = {"$ref": f"#/components/schemas/{name}"}
    responses["default"] = {"description": "What went wrong.", "content": {media_type: {"schema": schema}}}
    role = getattr(route, "needs_role", None)
    if role is not None:
        operation["security"] = [{"key": []}]
        operation["description"] = f"{operation.get('description', '')}\n\nRole: `{role}`.".strip()
