"""API keys in the record: made, found by their secret, listed, revoked. Only digests are stored."""

import hashlib
import hmac
import secrets

from sqlalchemy import select
from sqlalchemy.orm import Session

from feedback.errors import Conflict, InvalidRequest, NotFound
from feedback.ids import new_id
from feedback.schema import ROLES, Key
from feedback.store import audit, now

PREFIX_LENGTH = 8


def create(session: Session, role: str, name: str = "") -> tuple[Key, str]:
    """A new key and its secret, which is shown this once: `tdm_<prefix>_<256 random bits>`."""
    if role not in ROLES:
        raise InvalidRequest(f"{role!r} is not a role; choose one of {', '.join(ROLES)}", param="role")
    prefix = secrets.token_hex(PREFIX_LENGTH // 2)
    secret = f"tdm_{prefix}_{secrets.token_urlsafe(32)}"
    key = Key(
        id=new_id("key"),
        prefix=prefix,
        digest=_digest(secret),
        role=role,
        name=name,
        created_at=now(session),
        revoked_at=None,
    )
    session.add(key)
    audit.add(session, audit.AT_THE_MACHINE, "key.create", key.id, role=role, name=name)
    return key, secret


def find(session: Session, secret: str) -> Key | None:
    """The unrevoked key with this secret, or None."""
    parts = secret.split("_", 2)
    if len(parts) != 3 or parts[0] != "tdm":
        return None
    key = session.scalars(select(Key).where(Key.prefix == parts[1])).one_or_none()
    if key is None or key.revoked_at is not None or not hmac.compare_digest(key.digest, _digest(secret)):
        return None
    return key


def list_all(session: Session) -> list[Key]:
    return list(session.scalars(select(Key).order_by(Key.id)))


def by_id(session: Session, key_id: str) -> Key | None:
    """The key of this id or prefix."""
    return session.scalars(select(Key).where((Key.id == key_id) | (Key.prefix == key_id))).one_or_none()


def revoke(session: Session, key_id: str) -> Key:
    """Revoke by id or prefix. Raises NotFound, Conflict when it is revoked already."""
    key = by_id(session, key_id)
    if key is None:
        raise NotFound(f"no key {key_id!r}; `tandem keys list` shows them")
    if key.revoked_at is not None:
        raise Conflict(f"key {key.prefix} is revoked already")
    key.revoked_at = now(session)
    audit.add(session, audit.AT_THE_MACHINE, "key.revoke", key.id, role=key.role)
    return key


def _digest(secret: str) -> str:
    # A plain SHA-256 is enough: the secret has 256 random bits, so there is nothing to guess from its digest.
    return hashlib.sha256(secret.encode()).hexdigest()
