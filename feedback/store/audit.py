"""Audit entries in the record: added in the transaction of what they tell of, listed, verified. Never changed."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import orjson
from sqlalchemy import String, cast, select, text
from sqlalchemy.orm import Session

from feedback import audit
from feedback.schema import AuditEntry, version_name
from feedback.store import READ_BATCH, clock, now, page

# Any number will do, as long as every process uses the same: under this lock of Postgres the chain grows by one entry
# at a time. SQLite has one writer anyway.
CHAIN_LOCK = 7_246_332

# Whoever works on the record itself, by the command line.
AT_THE_MACHINE = "command line"
LEARNER, SCHEDULER, RULE = "learner", "scheduler", "rule"
# A candidate that no rule tries again.
GIVEN_UP = "automatic.give_up"


def add(session: Session, actor: str, action: str, subject: str = "", reason: str = "", **data: Any) -> AuditEntry:
    """Add an entry to the end of the chain; `data` is plain JSON.

    NUL becomes U+FFFD, as Postgres does with it on the way: the chain holds what is read again, on either database.
    """
    session.flush()
    subject, reason = subject.replace("\0", "\ufffd"), reason.replace("\0", "\ufffd")
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": CHAIN_LOCK})
    newest_and_now = select(AuditEntry, clock(session)).order_by(AuditEntry.seq.desc()).limit(1)
    last, at = session.execute(newest_and_now).one_or_none() or (None, now(session))
    entry = AuditEntry(
        seq=1 if last is None else last.seq + 1,
        created_at=at,
        actor=actor,
        action=action,
        subject=subject,
        reason=reason,
        # As it will be read: tuples are lists then.
        data=orjson.loads(orjson.dumps(data)),
        previous=audit.START if last is None else last.digest,
    )
    entry.digest = audit.digest_of(entry)
    session.add(entry)
    session.flush()
    return entry


def newest(session: Session, action: str | None = None) -> AuditEntry | None:
    """The last entry, or the last of one action."""
    statement = select(AuditEntry).order_by(AuditEntry.seq.desc()).limit(1)
    if action is not None:
        statement = statement.where(AuditEntry.action == action)
    return session.scalars(statement).one_or_none()


def told(session: Session, action: str, version: int) -> bool:
    """Whether there is an entry of this action about a version."""
    statement = select(AuditEntry.seq).where(AuditEntry.action == action, AuditEntry.subject == version_name(version))
    return session.scalars(statement.limit(1)).one_or_none() is not None


def list_page(
    session: Session, *, limit: int, after: int | None, order: str, subject: str | None = None
) -> tuple[list[AuditEntry], bool]:
    statement = select(AuditEntry)
    if subject is not None:
        statement = statement.where(AuditEntry.subject == subject)
    return page(session, statement, AuditEntry.seq, limit=limit, after=after, order=order)


def verify(session: Session, kept: str = audit.START) -> audit.Checked:
    """Check the whole chain, in which an entry has the digest `kept`."""
    return audit.verify(_all(session), kept)


def note_settings(session: Session, name: str, values: dict[str, Any]) -> bool:
    """Add an entry when these settings are not those of the last such entry. Returns whether they are new."""
    action = f"settings.{name}"
    last = newest(session, action)
    values = orjson.loads(orjson.dumps(values))
    if last is not None and last.data == values:
        return False
    add(session, "settings", action, name, **values)
    return True


def _all(session: Session) -> Iterator[audit.Entry]:
    columns = [column for column in AuditEntry.__table__.c if column.name != "data"]
    # As it stands there: what somebody wrote over it past Tandem need not be JSON.
    written = cast(AuditEntry.data, String).label("data")
    after = 0
    while True:
        rows = session.execute(
            select(*columns, written).where(AuditEntry.seq > after).order_by(AuditEntry.seq).limit(READ_BATCH)
        ).all()
        for row in rows:
            yield SimpleNamespace(**(row._asdict() | {"data": _parsed(row.data)}))
        if len(rows) < READ_BATCH:
            return
        after = rows[-1].seq


def _parsed(written: str) -> Any:
    try:
        return orjson.loads(written)
    except orjson.JSONDecodeError:
        return written
