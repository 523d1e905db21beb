"""Raters in the record: found or made when they first vote."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from feedback.ids import new_id
from feedback.schema import Rater
from feedback.store import insert, now


def find(session: Session, key_id: str, name: str) -> str | None:
    """The id of the rater known under this key by this name, or None."""
    return session.scalars(
        select(Rater.id).where(Rater.key_id == key_id, Rater.name == name, Rater.erased_at.is_(None))
    ).one_or_none()


def find_or_create(session: Session, key_id: str, name: str) -> str:
    """The id of the rater known under this key by this name, made when it is not there yet."""
    known = find(session, key_id, name)
    if known is not None:
        return known
    session.execute(
        insert(session, Rater)
        .values(id=new_id("rtr"), key_id=key_id, name=name, created_at=now(session))
        .on_conflict_do_nothing(index_elements=["key_id", "name"])
    )
    return session.scalars(select(Rater.id).where(Rater.key_id == key_id, Rater.name == name)).one()


def get(session: Session, rater_id: str) -> Rater | None:
    return session.get(Rater, rater_id)
