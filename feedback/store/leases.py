"""Leases with a fencing epoch: one holder at a time, and an earlier holder that wakes up cannot write.

Whoever writes under a lease calls `check` in the same transaction as the write (Kleppmann, "How to do distributed
locking": the epoch is the fencing token).
"""

from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import select
from sqlalchemy.orm import Session

from feedback.errors import LeaseLost
from feedback.schema import Lease
from feedback.store import insert, now

LEARNER = "learner"
SCHEDULER = "scheduler"
ENGINES = "engines"
PASSING = "passing"
"""How the name of a holder begins for whom others wait, in place of being refused."""

IMPORTS = "imports"
"""Held by nobody, but locked while a batch is taken in: two imports of one file take turns, and each finds what the
other has brought."""


def acquire(session: Session, name: str, holder: str, ttl_s: float) -> int | None:
    """Take the lease when it is free or has run out. Returns its new epoch, or None while somebody holds it."""
    lease, at = lock(session, name), now(session)
    if _runs(lease, at) and lease.holder != holder:
        return None
    lease.holder = holder
    lease.epoch += 1
    lease.ttl_s = ttl_s
    lease.expires_at = at + ttl_s
    return lease.epoch


def lock(session: Session, name: str) -> Lease:
    """The lease, whoever holds it or nobody, locked until the transaction ends."""
    while (lease := _locked(session, name)) is None:
        session.execute(
            insert(session, Lease)
            .values(name=name, holder="", epoch=0, ttl_s=0.0, expires_at=0.0)
            .on_conflict_do_nothing(index_elements=["name"])
        )
    return lease


def _locked(session: Session, name: str) -> Lease | None:
    return session.scalars(select(Lease).where(Lease.name == name).with_for_update()).one_or_none()


def check(session: Session, name: str, epoch: int) -> Lease:
    """The lease, locked until the transaction ends. Raises LeaseLost when it went to a later holder."""
    lease = _locked(session, name)
    if lease is None or lease.epoch != epoch:
        raise LeaseLost(f"the {name} lease of epoch {epoch} was taken away; this process writes nothing more")
    return lease


def during(session: Session, name: str, epoch: int, act: Callable[[], None]) -> None:
    """Have something quick done outside of the record that only the lease's holder may do. Raises LeaseLost."""
    check(session, name, epoch)
    act()


def renew(session: Session, name: str, epoch: int, ttl_s: float) -> None:
    """Raises LeaseLost when it went to a later holder."""
    lease = check(session, name, epoch)
    lease.ttl_s = ttl_s
    lease.expires_at = now(session) + ttl_s


def release(session: Session, name: str, epoch: int) -> None:
    """Let the next holder in at once. Nothing happens when the lease is lost already."""
    with suppress(LeaseLost):
        check(session, name, epoch).expires_at = 0.0


def revoke(lease: Lease, epoch: int | None) -> None:
    """Take a locked lease from the holder of `epoch`, who writes nothing more. Nothing happens when it is lost."""
    if lease.epoch == epoch:
        lease.epoch += 1
        lease.expires_at = 0.0


def revoke_those_of(session: Session, process_id: str) -> None:
    """What holders named `...@process_id` hold: their process is gone, and nobody needs to wait."""
    theirs = select(Lease).where(Lease.holder.endswith(f"@{process_id}", autoescape=True))
    for lease in session.scalars(theirs.with_for_update()):
        revoke(lease, lease.epoch)


def held(session: Session, name: str, epoch: int | None = None) -> bool:
    """True while somebody holds the lease; with `epoch`, while that holder does."""
    lease = session.scalars(select(Lease).where(Lease.name == name)).one_or_none()
    return lease is not None and epoch in (None, lease.epoch) and _runs(lease, now(session))


def holder(session: Session, name: str) -> str | None:
    """Who holds the lease; None while nobody does."""
    lease = session.scalars(select(Lease).where(Lease.name == name)).one_or_none()
    return lease.holder if lease is not None and _runs(lease, now(session)) else None


def epoch(session: Session, name: str) -> int:
    """Of its last holder, whether that holds it or not; 0 where nobody ever has."""
    return session.scalars(select(Lease.epoch).where(Lease.name == name)).one_or_none() or 0


def _runs(lease: Lease, at: float) -> bool:
    # One that ends later than a fresh one would was taken before the clock was turned back: its holder, if it lives,
    # renews it by the new clock.
    return at < lease.expires_at <= at + lease.ttl_s
