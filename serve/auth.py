"""Who calls: the key behind `Authorization: Bearer`, and whether its role reaches the route."""

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from feedback.errors import NotAllowed, NotAuthenticated
from feedback.schema import ROLES
from feedback.store import keys
from serve.record import Record

# A revoked key is refused after this time at the latest.
REMEMBERED_S = 1.0
MAX_REMEMBERED = 10_000


@dataclass(frozen=True)
class Caller:
    """The key that a request came with."""

    key_id: str
    role: str

    @property
    def sees_all(self) -> bool:
        """An operator sees the comparisons and votes of every key."""
        return self.role == "operate"


class Keyring:
    """Finds keys by their secret, and remembers them for a moment."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._known: dict[str, tuple[Caller, float]] = {}

    async def require(self, authorization: str | None, role: str) -> Caller:
        """The caller. Raises NotAuthenticated, or NotAllowed when the key's role does not reach `role`."""
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise NotAuthenticated("send an API key: `Authorization: Bearer <key>`")
        caller = await self._find(secret.strip())
        if ROLES.index(caller.role) < ROLES.index(role):
            raise NotAllowed(f"this needs a key with the role {role!r}; this one has the role {caller.role!r}")
        return caller

    async def _find(self, secret: str) -> Caller:
        known = self._known.get(secret)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        self._known.pop(secret, None)
        key = await self._record.read(keys.find, secret)
        if key is None:
            raise NotAuthenticated("this API key is unknown or revoked")
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        caller = Caller(key.id, key.role)
        self._known[secret] = (caller, time.monotonic() + REMEMBERED_S)
        return caller


def guarded(role: str) -> type[APIRoute]:
    """A route class that asks for a key of at least `role` before anything of the request is looked at."""

    class Guarded(APIRoute):
        needs_role = role

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_for_a_key(request: Request) -> Response:
                keyring: Keyring = request.app.state.gateway.keyring
                request.state.caller = await keyring.require(request.headers.get("authorization"), role)
                return await handle(request)

            return handle_for_a_key

    return Guarded


def caller_of(request: Request) -> Caller:
    """The caller of a guarded route."""
    caller: Caller = request.state.caller
    return caller
