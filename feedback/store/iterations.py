"""Iterations in the record: started, claimed by a learner, advanced under its lease, ended; and their events."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from feedback.errors import Conflict, Unknown
from feedback.ids import new_id
from feedback.schema import Dataset, DatasetVote, Iteration, IterationEvent, version_name
from feedback.store import audit, bulk, datasets, insert, leases, now, page

ACTIVE = ("queued", "running")
ENDED = ("succeeded", "failed", "cancelled")
ERASED = "erased"


def start(
    session: Session,
    *,
    trigger: str,
    seed: int,
    settings: dict[str, Any],
    reason: str | None = None,
    actor: str = audit.SCHEDULER,
) -> Iteration:
    """Queue an iteration. Raises Conflict while another is queued or running."""
    # Of two that are asked for at once, the second sees the first.
    leases.lock(session, leases.LEARNER)
    busy = active(session)
    if busy is not None:
        raise Conflict(f"iteration {busy.id} is {busy.state} already; follow it, or wait until it has ended")
    iteration = Iteration(
        id=new_id("itr"),
        state="queued",
        stage=None,
        progress=0.0,
        trigger=trigger,
        reason=reason,
        seed=seed,
        settings=settings,
        dataset_digest=None,
        candidate=None,
        epoch=None,
        attempts=0,
        error=None,
        created_at=now(session),
        started_at=None,
        finished_at=None,
    )
    session.add(iteration)
    session.flush()
    _add_event(session, iteration.id, "queued", {"trigger": trigger})
    audit.add(session, actor, "iteration.start", iteration.id, reason or "", trigger=trigger, seed=seed)
    return iteration


def start_next(
    session: Session,
    *,
    trigger: str,
    learner: dict[str, Any],
    reason: str | None = None,
    actor: str = audit.SCHEDULER,
) -> Iteration:
    """Queue the next iteration with these learner settings; each iteration has a seed of its own.

    Raises Conflict while another is queued or running.
    """
    earlier = session.scalars(select(func.count()).select_from(Iteration)).one()
    seed = learner["seed"] + earlier
    return start(session, trigger=trigger, seed=seed, settings=learner, reason=reason, actor=actor)


def active(session: Session) -> Iteration | None:
    """The iteration that is queued or running, or None."""
    return session.scalars(
        select(Iteration).where(Iteration.state.in_(ACTIVE)).order_by(Iteration.id).limit(1)
    ).one_or_none()


def get(session: Session, iteration_id: str) -> Iteration:
    """Raises NotFound."""
    iteration = session.get(Iteration, iteration_id)
    if iteration is None:
        raise Unknown("iteration", iteration_id, "`tandem iterations list`", "GET /v1/iterations")
    return iteration


def list_page(session: Session, *, limit: int, after: str | None, order: str) -> tuple[list[Iteration], bool]:
    return page(session, select(Iteration), Iteration.id, limit=limit, after=after, order=order)


def list_all(session: Session) -> list[Iteration]:
    """Every iteration, the oldest first."""
    return list(session.scalars(select(Iteration).order_by(Iteration.id)))


def claim(
    session: Session, iteration_id: str, holder: str, ttl_s: float, max_attempts: int
) -> tuple[Iteration, int] | None:
    """Take the learner lease for this iteration, to begin or to resume it.

    Returns the row and the lease's epoch; None when it has ended or another learner holds the lease. The attempt
    after `max_attempts` ends it as failed: what kills every process that works on it will kill the next one too.
    """
    # The lease before the row, as wherever both are locked: who cancels meanwhile is seen.
    leases.lock(session, leases.LEARNER)
    iteration = get(session, iteration_id)
    if iteration.state not in ACTIVE:
        return None
    epoch = leases.acquire(session, leases.LEARNER, holder, ttl_s)
    if epoch is None:
        return None
    iteration.attempts += 1
    if iteration.attempts > max_attempts:
        _end(session, iteration, epoch, "failed", {"error": f"its process died {max_attempts} times"})
        return None
    resumed = iteration.state == "running"
    iteration.state = "running"
    iteration.epoch = epoch
    iteration.started_at = iteration.started_at or now(session)
    _add_event(session, iteration.id, "resumed" if resumed else "started", {"epoch": epoch})
    return iteration, epoch


def advance(session: Session, iteration_id: str, epoch: int, *, stage: str, progress: float) -> None:
    """Say how far it is: `progress` runs from 0 to 1 within `stage`. Raises LeaseLost."""
    iteration = _under_lease(session, iteration_id, epoch)
    if iteration.stage != stage:
        _add_event(session, iteration_id, "stage", {"stage": stage})
    iteration.stage = stage
    iteration.progress = progress


def tell(session: Session, iteration_id: str, epoch: int, kind: str, data: dict[str, Any]) -> None:
    """Add an event. Raises LeaseLost."""
    _under_lease(session, iteration_id, epoch)
    _add_event(session, iteration_id, kind, data)


def tell_erased(session: Session, iteration_id: str, rater_id: str) -> None:
    """Somebody is erased who is in its dataset or its rehearsal: its version is going to have learnt from them."""
    _add_event(session, iteration_id, ERASED, {"rater": rater_id})


def erased_during(session: Session, iteration_id: str) -> list[str]:
    """The raters that were erased since it froze its dataset, and are in it or in its rehearsal."""
    told = select(IterationEvent).where(IterationEvent.iteration_id == iteration_id, IterationEvent.kind == ERASED)
    return [event.data["rater"] for event in session.scalars(told.order_by(IterationEvent.seq))]


def begin_dataset(
    session: Session, iteration_id: str, epoch: int, *, digest: str, path: str, summary: dict[str, Any]
) -> None:
    """Record a dataset that is about to be filled. Raises LeaseLost."""
    _under_lease(session, iteration_id, epoch)
    session.execute(
        insert(session, Dataset)
        .values(digest=digest, path=path, summary=summary, created_at=now(session))
        .on_conflict_do_nothing()
    )


def add_to_dataset(
    session: Session, iteration_id: str, epoch: int, digest: str, votes: Iterable[datasets.Learnt]
) -> None:
    """Record votes that it holds; those that it is known to hold stay as they are. Raises LeaseLost."""
    _under_lease(session, iteration_id, epoch)
    rows = [{"dataset_digest": digest, **vote._asdict()} for vote in votes]
    bulk.insert_all(session, DatasetVote, rows, known_stay=True)


def freeze(session: Session, iteration_id: str, epoch: int, digest: str) -> None:
    """Say that this iteration learns from the dataset, of which everything is recorded. Raises LeaseLost."""
    iteration = _under_lease(session, iteration_id, epoch)
    iteration.dataset_digest = digest


def stopped(session: Session, iteration_id: str, epoch: int) -> None:
    """Its process was asked to end and does so, as with every restart: of that it did not die. It gives the lease up
    with it, so that it is told once: whoever tells again has been heard. Raises LeaseLost."""
    lease = leases.check(session, leases.LEARNER, epoch)
    get(session, iteration_id).attempts -= 1
    leases.revoke(lease, epoch)


def refused(session: Session, iteration_id: str, epoch: int, error: str, max_attempts: int) -> None:
    """Its process ends since the record refused what it wrote: after `max_attempts` that fails it. Raises LeaseLost."""
    iteration = _under_lease(session, iteration_id, epoch)
    if iteration.attempts >= max_attempts:
        _end(session, iteration, epoch, "failed", {"error": error})


def succeed(session: Session, iteration_id: str, epoch: int, candidate: int) -> None:
    """Raises LeaseLost."""
    iteration = _under_lease(session, iteration_id, epoch)
    iteration.progress = 1.0
    iteration.candidate = candidate
    _end(session, iteration, epoch, "succeeded", {"candidate": version_name(candidate)})


def fail(session: Session, iteration_id: str, epoch: int, error: str) -> None:
    """Raises LeaseLost."""
    _end(session, _under_lease(session, iteration_id, epoch), epoch, "failed", {"error": error})


def cancel(session: Session, iteration_id: str, reason: str, actor: str) -> Iteration:
    """End it without a candidate, whoever works on it: that process can write nothing more, and ends when it notices.

    Nothing changes when it was cancelled already. Raises NotFound, and Conflict when it has ended otherwise.
    """
    lease = leases.lock(session, leases.LEARNER)
    iteration = get(session, iteration_id)
    if iteration.state == "cancelled":
        return iteration
    if iteration.state not in ACTIVE:
        raise Conflict(f"iteration {iteration_id} has {iteration.state} already; nothing is left to cancel")
    leases.revoke(lease, iteration.epoch)
    _conclude(session, iteration, "cancelled", {"reason": reason} if reason else {})
    audit.add(session, actor, "iteration.cancel", iteration_id, reason)
    return iteration


def events_after(session: Session, iteration_id: str, seq: int, limit: int = 200) -> list[IterationEvent]:
    return list(
        session.scalars(
            select(IterationEvent)
            .where(IterationEvent.iteration_id == iteration_id, IterationEvent.seq > seq)
            .order_by(IterationEvent.seq)
            .limit(limit)
        )
    )


def last_began_at(session: Session) -> float | None:
    """When the newest iteration froze its votes, or was asked for if it never did; None when there is none.

    What is said to have been in the future was before the clock was turned back: it is passed over.
    """
    at = now(session)
    past = select(Iteration).where(Iteration.created_at <= at).order_by(Iteration.created_at.desc()).limit(1)
    newest = session.scalars(past).one_or_none()
    if newest is None:
        return None
    dataset = session.get(Dataset, newest.dataset_digest) if newest.dataset_digest else None
    frozen_at = newest.created_at if dataset is None else datasets.frozen_at(dataset)
    return max(newest.created_at, frozen_at if frozen_at <= at else 0.0)


def _end(session: Session, iteration: Iteration, epoch: int, state: str, data: dict[str, Any]) -> None:
    _conclude(session, iteration, state, data)
    leases.release(session, leases.LEARNER, epoch)


def _conclude(session: Session, iteration: Iteration, state: str, data: dict[str, Any]) -> None:
    iteration.state = state
    iteration.error = data.get("error")
    iteration.finished_at = now(session)
    _add_event(session, iteration.id, state, data)


def _under_lease(session: Session, iteration_id: str, epoch: int) -> Iteration:
    leases.check(session, leases.LEARNER, epoch)
    return get(session, iteration_id)


def _add_event(session: Session, iteration_id: str, kind: str, data: dict[str, Any]) -> None:
    session.add(IterationEvent(iteration_id=iteration_id, kind=kind, data=data, created_at=now(session)))
