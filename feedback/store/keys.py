"""API keys in the record: made, found by their secret, listed, limited, revoked. Only digests are stored."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from feedback.errors import Conflict, InvalidRequest, NotAuthenticated, Unknown
from feedback.ids import new_id
from feedback.schema import ROLES, Key
from feedback.store import audit, clock, now

PREFIX_LENGTH = 8
LARGEST_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Good:
    """A key that is good now, and for how many seconds yet; None without an end."""

    key: Key
    lasts_s: float | None


def create(
    session: Session,
    role: str,
    name: str = "",
    *,
    expires_at: float | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
) -> tuple[Key, str]:
    """A new key and its secret, which is shown this once: `tdm_<prefix>_<256 random bits>`. Raises InvalidRequest."""
    created_at = now(session)
    limits = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
    check_new(role, created_at, expires_at, limits)
    bounds: dict[str, Any] = {"expires_at": expires_at, **limits}
    prefix = secrets.token_hex(PREFIX_LENGTH // 2)
    secret = f"tdm_{prefix}_{secrets.token_urlsafe(32)}"
    key = Key(
        id=new_id("key"),
        prefix=prefix,
        digest=digest_of(secret),
        role=role,
        name=name,
        created_at=created_at,
        revoked_at=None,
        **bounds,
    )
    session.add(key)
    given = {bound: value for bound, value in bounds.items() if value is not None}
    audit.add(session, audit.AT_THE_MACHINE, "key.create", key.id, role=role, name=name, **given)
    return key, secret


def check_new(role: str, at: float, expires_at: float | None, limits: Mapping[str, int | None]) -> None:
    """Raises InvalidRequest for a key that `create` would not make at that time."""
    if role not in ROLES:
        raise InvalidRequest(f"{role!r} is not a role; choose one of {', '.join(ROLES)}", param="role")
    if expires_at is not None and expires_at <= at:
        raise InvalidRequest("a key cannot have expired before it is made", param="expires")
    _checked(limits)


def find(session: Session, secret: str) -> Good | None:
    """The key with this secret; None when there is none or it is revoked. Raises NotAuthenticated when it expired."""
    parts = secret.split("_", 2)
    if len(parts) != 3 or parts[0] != "tdm":
        return None
    found = session.execute(select(Key, clock(session)).where(Key.prefix == parts[1])).one_or_none()
    if found is None:
        return None
    key, at = found
    if key.revoked_at is not None or not hmac.compare_digest(key.digest, digest_of(secret)):
        return None
    if key.expires_at is not None and key.expires_at <= at:
        # Only who has its secret is told.
        since = datetime.fromtimestamp(key.expires_at, UTC)
        raise NotAuthenticated(f"this API key expired at {since:%Y-%m-%d %H:%M} UTC; ask for a new one")
    return Good(key, None if key.expires_at is None else key.expires_at - at)


def own_limits(key: Key) -> dict[str, int]:
    """Of `requests` and of `tokens` a minute, those that it has."""
    limits = {"requests": key.requests_per_minute, "tokens": key.tokens_per_minute}
    return {name: limit for name, limit in limits.items() if limit is not None}


def state(key: Key, at: float) -> str:
    """`active`, `expired` or `revoked`, at a time of the record's clock."""
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= at else "active"


def list_all(session: Session) -> list[Key]:
    return list(session.scalars(select(Key).order_by(Key.id)))


def by_id(session: Session, key_id: str) -> Key | None:
    """The key of this id or prefix."""
    return session.scalars(select(Key).where((Key.id == key_id) | (Key.prefix == key_id))).one_or_none()


def known(session: Session, key_id: str) -> Key:
    """The same. Raises NotFound."""
    key = by_id(session, key_id)
    if key is None:
        raise Unknown("key", key_id, "`tandem keys list`")
    return key


def limit(session: Session, key_id: str, limits: Mapping[str, int | None]) -> Key:
    """Change a key's own `requests_per_minute` and `tokens_per_minute`, those that are given; with None those of the
    settings hold again. Raises NotFound, Conflict when it is revoked, InvalidRequest."""
    key = _unrevoked(session, key_id)
    changed: dict[str, Any] = _checked(limits)
    for name, value in changed.items():
        setattr(key, name, value)
    audit.add(session, audit.AT_THE_MACHINE, "key.limit", key.id, **changed)
    return key


def revoke(session: Session, key_id: str) -> Key:
    """Revoke by id or prefix. Raises NotFound, Conflict when it is revoked already."""
    key = _unrevoked(session, key_id)
    key.revoked_at = now(session)
    audit.add(session, audit.AT_THE_MACHINE, "key.revoke", key.id, role=key.role)
    return key


def _unrevoked(session: Session, key_id: str) -> Key:
    key = known(session, key_id)
    if key.revoked_at is not None:
        raise Conflict(f"key {key.prefix} is revoked already")
    return key


def _checked(limits: Mapping[str, int | None]) -> dict[str, int | None]:
    for name, value in limits.items():
        if value is not None and not 1 <= value <= LARGEST_LIMIT:
            raise InvalidRequest(f"{name} must be from 1 to {LARGEST_LIMIT}", param=name)
    return dict(limits)


def digest_of(secret: str) -> str:
    """By which a secret is known: it has 256 random bits, so there is nothing to guess from a plain SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()
