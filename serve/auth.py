"""Who calls: the key behind `Authorization: Bearer` or a signed-in browser's cookie, and whether its role suffices."""

import hashlib
import hmac
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from sqlalchemy.orm import Session
from starlette.responses import Response

from feedback.errors import NotAllowed, NotAuthenticated
from feedback.schema import ROLES
from feedback.store import keys, sign_ins
from serve.record import Record

# A revoked key is refused after this time at the latest, and limits that were changed hold.
REMEMBERED_S = 1.0
MAX_REMEMBERED = 10_000
COOKIE = "tandem_sign_in"
CSRF_HEADER = "x-csrf-token"
# These change nothing, so that a browser sent here from elsewhere does no harm by them.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

Find = Callable[[Session, str], keys.Good | None]


@dataclass(frozen=True)
class Caller:
    """The key that a request came with. `limits` are its own, of `requests` and of `tokens` a minute."""

    key_id: str
    role: str
    limits: Mapping[str, int] = field(default_factory=dict)

    @property
    def sees_all(self) -> bool:
        """An operator sees the comparisons and votes of every key."""
        return self.role == "operate"


class CsrfTokenWrong(NotAllowed):
    """The token is missing, or of a sign-in that another has taken the place of."""

    code = "csrf_token_wrong"


class Keyring:
    """Finds keys by their secret or by a sign-in's, and remembers them for a moment."""

    def __init__(self, record: Record) -> None:
        self._record = record
        # By how they are found, too: the secret of a sign-in is no key.
        self._known: dict[tuple[Find, str], tuple[Caller, float]] = {}

    async def require(self, request: Request, role: str) -> Caller:
        """The caller. Raises NotAuthenticated, or NotAllowed when the key's role does not reach `role`."""
        caller = await self._caller(request)
        if ROLES.index(caller.role) < ROLES.index(role):
            raise NotAllowed(f"this needs a key with the role {role!r}; this one has the role {caller.role!r}")
        return caller

    async def of_key(self, secret: str) -> Caller:
        """Raises NotAuthenticated; who has a key that expired is told so."""
        caller = await self._find(secret, keys.find)
        if caller is None:
            raise NotAuthenticated("this API key is unknown or revoked")
        return caller

    async def of_sign_in(self, secret: str | None) -> Caller | None:
        """Who signed in, or None when nobody did or it has ended."""
        return await self._find(secret, sign_ins.find) if secret else None

    def forget(self, secret: str) -> None:
        """What this secret led to may have changed."""
        for find in (keys.find, sign_ins.find):
            self._known.pop((find, secret), None)

    async def _caller(self, request: Request) -> Caller:
        authorization = request.headers.get("authorization")
        if authorization is None:
            secret = request.cookies.get(cookie_name(request))
            caller = await self.of_sign_in(secret)
            if caller is not None and secret is not None:
                _check_own_page(request, secret)
                return caller
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise NotAuthenticated("send an API key: `Authorization: Bearer <key>`")
        return await self.of_key(key.strip())

    async def _find(self, secret: str, find: Find) -> Caller | None:
        known = self._known.get((find, secret))
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        self._known.pop((find, secret), None)
        # Counted from before the record looks: so it is not remembered beyond its end.
        asked_at = time.monotonic()
        good = await self._record.read_once(find, secret)
        if good is None:
            return None
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        key = good.key
        caller = Caller(key.id, key.role, keys.own_limits(key))
        lasts_s = REMEMBERED_S if good.lasts_s is None else min(REMEMBERED_S, good.lasts_s)
        self._known[find, secret] = (caller, asked_at + lasts_s)
        return caller


def cookie_name(request: Request) -> str:
    """Cookies do not tell ports apart, and two homes on one machine must."""
    return f"{COOKIE}_{request.url.port}" if request.url.port else COOKIE


def csrf_token(secret: str) -> str:
    """What a page must send with a change: only a page of ours can have read it."""
    return hmac.new(secret.encode(), b"csrf", hashlib.sha256).hexdigest()


def _check_own_page(request: Request, secret: str) -> None:
    """Raises CsrfTokenWrong for a change that comes with the cookie but not from a page of ours."""
    if request.method in SAFE_METHODS:
        return
    given = request.headers.get(CSRF_HEADER, "")
    if not hmac.compare_digest(given.encode(), csrf_token(secret).encode()):
        raise CsrfTokenWrong(f"a change with a cookie needs the {CSRF_HEADER} that GET /v1/session gives")


class Direct(APIRoute):
    """A route whose function takes the request and gives the response: nothing is looked up or checked for it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


def guarded(role: str, kind: type[APIRoute] = APIRoute) -> type[APIRoute]:
    """A route class that asks for a key of at least `role` before anything of the request is looked at."""

    class Guarded(kind):  # type: ignore[misc,valid-type]
        needs_role = role

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle: Callable[[Request], Coroutine[Any, Any, Response]] = super().get_route_handler()

            async def handle_for_a_key(request: Request) -> Response:
                gateway = request.app.state.gateway
                request.state.caller = await gateway.keyring.require(request, role)
                request.state.body.largest = gateway.settings.serve.max_body_bytes
                await request.body()
                return await handle(request)

            return handle_for_a_key

    return Guarded


async def caller_of(request: Request) -> Caller:
    """The caller of a guarded route."""
    caller: Caller = request.state.caller
    return caller
