"""Which API processes serve now, and how far each has come with a promotion that all of them prepare.

A process serves by a lease of its own. One that let it run out is left out of promotions, and serves again only after
`enter` has found that what it serves is what the record says serves. `enter` and the commit of a promotion both lock
the lease on what the engines hold, so that one of the two sees the other.
"""

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, delete, func, select, update
from sqlalchemy.orm import Session, aliased

from feedback.schema import ApiProcess, Preparation
from feedback.store import clock, insert, leases, now, policies

TTL_S = 10.0
# A process is gone only this much after its lease: it may take that long to hear that a renewal came too late.
GRACE_S = 2.0
FORGOTTEN_AFTER_S = 3600.0
STAGES = ("fetch", "load")


@dataclass(frozen=True)
class Here:
    """A process, and what it serves and holds now."""

    id: str
    host: str
    engines: str
    serving: int
    held: list[list[int]]


@dataclass(frozen=True)
class Asked:
    """A promotion that is being prepared; `engines` are those of the process that leads it."""

    epoch: int
    version: int
    stage: str
    process_id: str
    engines: str


@dataclass(frozen=True)
class Reported:
    """What the other processes say of a stage: hosts that have not come so far, what went wrong on which, and how many
    have done it.
    """

    waiting: list[str]
    failed: list[tuple[str, str]]
    ready: int


def enter(session: Session, here: Here) -> int | None:
    """Begin to serve. Returns the number of other processes; None, and nothing is changed, when something else serves
    by now.
    """
    leases.lock(session, leases.ENGINES)
    serving = policies.serving(session)
    if serving is None or serving.version != here.serving:
        return None
    at = now(session)
    session.execute(delete(ApiProcess).where(ApiProcess.expires_at < at - FORGOTTEN_AFTER_S))
    nothing_prepared = {"epoch": None, "stage": None, "error": None}
    values = {"serving": here.serving, "held": here.held, "expires_at": at + TTL_S} | nothing_prepared
    session.execute(
        insert(session, ApiProcess)
        .values(id=here.id, host=here.host, engines=here.engines, **values)
        .on_conflict_do_update(index_elements=["id"], set_=values)
    )
    return session.scalars(select(_others(here.id, clock(session)))).one()


def renew(session: Session, here: Here) -> int | None:
    """Go on serving. Returns the number of other processes; None when the lease had run out: then `enter` again.

    One statement, for `Store.write_once`: that a database is far away takes from the lease's time at each round trip.
    """
    at = clock(session)
    return session.scalars(
        update(ApiProcess)
        .where(ApiProcess.id == here.id, ApiProcess.expires_at > at)
        .values(serving=here.serving, held=here.held, expires_at=at + TTL_S)
        .returning(_others(here.id, at)),
        execution_options={"synchronize_session": False},
    ).one_or_none()


def leave(session: Session, process_id: str) -> None:
    """The process serves nothing any more, and nobody waits for it."""
    session.execute(delete(ApiProcess).where(ApiProcess.id == process_id))


def ask(session: Session, asked: Asked) -> None:
    """Have all processes prepare, up to a stage. Raises LeaseLost."""
    leases.check(session, leases.ENGINES, asked.epoch)
    session.merge(Preparation(id=1, **asdict(asked)))


def withdraw(session: Session, epoch: int) -> None:
    """Nothing is to be prepared any more. Nothing happens when a later promotion is."""
    session.execute(delete(Preparation).where(Preparation.epoch == epoch))


def asked_for(session: Session) -> Asked | None:
    """What is to be prepared now; None also when whoever asked has lost its lease."""
    row = session.get(Preparation, 1)
    if row is None or not leases.held(session, leases.ENGINES, row.epoch):
        return None
    return Asked(row.epoch, row.version, row.stage, row.process_id, row.engines)


def answer(session: Session, process_id: str, epoch: int, stage: str, error: str | None = None) -> None:
    """Say that a stage is done, or what went wrong in it."""
    session.execute(update(ApiProcess).where(ApiProcess.id == process_id).values(epoch=epoch, stage=stage, error=error))


def reported(session: Session, leader: str, epoch: int, stage: str) -> Reported:
    """How far all processes that serve have come, but for the one that leads."""
    waiting, failed, ready = [], [], 0
    for row in _serving(session, leader):
        if row.epoch == epoch and row.error is not None:
            failed.append((row.host, row.error))
        elif row.epoch != epoch or row.stage is None or STAGES.index(row.stage) < STAGES.index(stage):
            waiting.append(row.host)
        else:
            ready += 1
    return Reported(waiting, failed, ready)


def behind(session: Session, leader: str, version: int) -> list[str]:
    """Hosts that serve something else than `version`, but for the one that leads."""
    return [row.host for row in _serving(session, leader) if row.serving != version]


def who_serves(session: Session) -> list[ApiProcess]:
    """All processes that hold their lease, by host."""
    return _serving(session, "")


def _serving(session: Session, but: str) -> list[ApiProcess]:
    serving = select(ApiProcess).where(ApiProcess.id != but, _serves(clock(session)))
    return list(session.scalars(serving.order_by(ApiProcess.host, ApiProcess.id)))


def _others(but: str, at: ColumnElement[float]) -> ScalarSelect[int]:
    other = aliased(ApiProcess)
    return select(func.count()).where(other.id != but, _serves(at, other)).scalar_subquery()


def _serves(at: ColumnElement[float], process: Any = ApiProcess) -> Any:
    # What ends later than a fresh lease would was taken before the clock was turned back.
    return process.expires_at.between(at - GRACE_S, at + TTL_S)
