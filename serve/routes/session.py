"""`/v1/session`: a browser signs in with a key and keeps a cookie that no script can read."""

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from feedback.errors import NotAllowed
from feedback.store import sign_ins
from serve.auth import Caller, cookie_name, csrf_token
from serve.routes.dependencies import Parts

router = APIRouter()

# What a browser says of a request that the same origin's page made, or that a person typed.
OWN_SITE = ("same-origin", "none")
FetchSite = Annotated[str | None, Header(alias="sec-fetch-site", include_in_schema=False)]


class SignIn(BaseModel):
    """The key to sign in with."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=1, max_length=200)


class SessionView(BaseModel):
    """Who is signed in, if anybody; `csrf_token` goes into `x-csrf-token` with every change."""

    signed_in: bool
    role: str | None = None
    key_id: str | None = None
    csrf_token: str | None = None


@router.get("/v1/session")
async def get_session(request: Request, parts: Parts) -> SessionView:
    """Who is signed in with this browser. Nobody is an answer, not an error."""
    secret = request.cookies.get(cookie_name(request))
    caller = await parts.keyring.of_sign_in(secret)
    return SessionView(signed_in=False) if caller is None or secret is None else _view(caller, secret)


@router.post("/v1/session", status_code=201)
async def sign_in(
    body: SignIn, request: Request, response: Response, parts: Parts, site: FetchSite = None
) -> SessionView:
    """Sign in. 401 for an unknown key; 403 when another site's page asks."""
    _check_own_site(site)
    caller = await parts.keyring.of_key(body.key.strip())
    lifetime_s = parts.settings.serve.sign_in_lifetime_s
    secret = await parts.record.write(sign_ins.begin, caller.key_id, lifetime_s)
    response.set_cookie(
        cookie_name(request),
        secret,
        max_age=int(lifetime_s),
        httponly=True,
        samesite="strict",
        # From whichever address the proxy speaks: who says so without one keeps nobody's cookie back but their own.
        secure=request.headers.get("x-forwarded-proto", "").startswith("https"),
    )
    return _view(caller, secret)


@router.delete("/v1/session")
async def sign_out(request: Request, response: Response, parts: Parts, site: FetchSite = None) -> SessionView:
    """Sign out. Again changes nothing."""
    _check_own_site(site)
    secret = request.cookies.get(cookie_name(request))
    if secret:
        await parts.record.write(sign_ins.end, secret)
        parts.keyring.forget(secret)
    response.delete_cookie(cookie_name(request), httponly=True, samesite="strict")
    return SessionView(signed_in=False)


def _check_own_site(site: str | None) -> None:
    """A page elsewhere must not sign anybody in, under its own key, or out."""
    if site is not None and site not in OWN_SITE:
        raise NotAllowed("only a page of this server signs in and out")


def _view(caller: Caller, secret: str) -> SessionView:
    return SessionView(signed_in=True, role=caller.role, key_id=caller.key_id, csrf_token=csrf_token(secret))
