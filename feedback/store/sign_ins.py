"""Sign-ins in the record: a browser shows a key once and gets a secret of its own that ends by itself."""

import secrets

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from feedback.schema import Key, SignIn
from feedback.store import clock, now
from feedback.store.keys import Good, digest_of


def begin(session: Session, key_id: str, lifetime_s: float) -> str:
    """Sign in with this key. Returns the secret for the browser; sign-ins that have ended are forgotten."""
    at = now(session)
    session.execute(delete(SignIn).where(SignIn.expires_at <= at))
    secret = secrets.token_urlsafe(32)
    session.add(SignIn(digest=digest_of(secret), key_id=key_id, created_at=at, expires_at=at + lifetime_s))
    return secret


def find(session: Session, secret: str) -> Good | None:
    """The key that was signed in with, unless the sign-in has ended, or the key was revoked or expired since."""
    found = session.execute(
        select(Key, SignIn.expires_at, clock(session))
        .join(SignIn, SignIn.key_id == Key.id)
        .where(SignIn.digest == digest_of(secret), Key.revoked_at.is_(None))
    ).one_or_none()
    if found is None:
        return None
    key, ends_at, at = found
    lasts_s = min(ends_at, ends_at if key.expires_at is None else key.expires_at) - at
    return Good(key, lasts_s) if lasts_s > 0 else None


def end(session: Session, secret: str) -> None:
    """Sign out. Again changes nothing."""
    session.execute(delete(SignIn).where(SignIn.digest == digest_of(secret)))
