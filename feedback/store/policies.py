"""Policy versions in the record: registered, published by the learner, promoted, rolled back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from feedback.errors import Conflict, Unknown
from feedback.figures import NOT_FINITE, not_finite
from feedback.ids import new_id
from feedback.schema import AuditEntry, Policy, Promotion, version_name
from feedback.store import audit, datasets, iterations, leases, now, page

OF_THE_ITERATION = (
    "preference", "watch", "ppo", "dpo", "guard", "evaluation", "frontier", "strange_prompts", "rehearsal", "judges",
    NOT_FINITE,
)  # fmt: skip


@dataclass(frozen=True)
class Provenance:
    """Where a candidate comes from: everything that promise 4 asks for beside its weights."""

    parent: int
    iteration_id: str
    dataset_digest: str
    settings: dict[str, Any]
    seed: int
    evidence: dict[str, Any] = field(default_factory=dict)


def register_start(session: Session, path: str, digest: str, settings: dict[str, Any]) -> Policy:
    """Record v0, the starting policy, as serving. Again with the same digest changes nothing.

    Raises Conflict when this home started from another policy.
    """
    leases.lock(session, leases.LEARNER)
    known = session.get(Policy, 0)
    if known is not None:
        if known.digest != digest:
            raise Conflict(
                "this home started from another policy; use another --home for a new starting policy",
                param="policy",
            )
        return known
    start = Policy(
        version=0,
        state="serving",
        parent=None,
        path=path,
        digest=digest,
        iteration_id=None,
        dataset_digest=None,
        settings=settings,
        seed=None,
        evidence={},
        created_at=now(session),
    )
    session.add(start)
    return start


def publish(session: Session, version: int, path: str, digest: str, made: Provenance, *, epoch: int) -> Policy:
    """Record candidate `version`. Again for the same iteration and digest changes nothing.

    Raises LeaseLost when the learner lease was taken away, Conflict when the number is taken.
    """
    leases.check(session, leases.LEARNER, epoch)
    known = of_iteration(session, made.iteration_id)
    if known is not None:
        if known.version != version or known.digest != digest:
            raise Conflict(f"iteration {made.iteration_id} has published {version_name(known.version)} already")
        return known
    if session.get(Policy, version) is not None:
        raise Conflict(f"{version_name(version)} exists already")
    candidate = Policy(
        version=version,
        state="candidate",
        parent=made.parent,
        path=path,
        digest=digest,
        iteration_id=made.iteration_id,
        dataset_digest=made.dataset_digest,
        settings=made.settings,
        seed=made.seed,
        evidence=_with({}, {name: _without_erased(session, name, found) for name, found in made.evidence.items()}),
        created_at=now(session),
    )
    session.add(candidate)
    about = {"digest": digest, "dataset": made.dataset_digest, "iteration": made.iteration_id}
    audit.add(session, audit.LEARNER, "policy.publish", version_name(version), **about)
    for rater_id in iterations.erased_during(session, made.iteration_id):
        audit.add(session, audit.LEARNER, "rater.learnt_from", rater_id, used_by=[version_name(version)])
    return candidate


def _with(evidence: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Evidence with what was found, and with the names of the figures in it that are no finite number, as JSON has
    none."""
    before = [path for path in evidence.get(NOT_FINITE, ()) if path.split(".")[0] not in found]
    broken = [*before, *not_finite(found)]
    merged = {name: value for name, value in {**evidence, **found}.items() if name != NOT_FINITE}
    return {**merged, **({NOT_FINITE: broken} if broken else {})}


def _without_erased(session: Session, name: str, found: Any) -> Any:
    """Evidence without the replies to be read that concern who was erased while it was measured."""
    if name != "evaluation" or not found.get("samples"):
        return found
    gone = datasets.erased_among(session, [one["vote"] for one in found["samples"]])
    return {**found, "samples": [one for one in found["samples"] if one["vote"] not in gone]}


def add_evidence(session: Session, version: int, name: str, found: dict[str, Any], *, actor: str) -> Policy:
    """Keep what was measured of a version after it was published, in place of an earlier measurement of that name.

    Raises NotFound; Conflict for what only the iteration that made the version can say.
    """
    if name in OF_THE_ITERATION:
        raise Conflict(f"{name!r} is what the iteration measured; it stays as it is", param="name")
    _hold_evidence(session)
    policy = get(session, version)
    policy.evidence = _with(policy.evidence, {name: found})
    audit.add(session, actor, "policy.evidence", version_name(version), name=name)
    return policy


def evaluated_again(session: Session, version: int, evaluation: dict[str, Any], *, actor: str) -> Policy:
    """Keep a second measurement of what its iteration measured, in place of the first; the audit says that it was."""
    _hold_evidence(session)
    policy = get(session, version)
    policy.evidence = _with(policy.evidence, {"evaluation": _without_erased(session, "evaluation", evaluation)})
    audit.add(session, actor, "policy.evidence", version_name(version), name="evaluation")
    return policy


def _hold_evidence(session: Session) -> None:
    """Nobody else adds to evidence meanwhile, publishes, or is erased: all do it with the learner's lease locked."""
    leases.lock(session, leases.LEARNER)


def forget_erased(session: Session, version: int) -> None:
    """Take what concerns who was erased out of the replies that are kept to be read. The learner's lease is locked."""
    policy = get(session, version)
    if evaluation := policy.evidence.get("evaluation"):
        policy.evidence = {**policy.evidence, "evaluation": _without_erased(session, "evaluation", evaluation)}


def next_version(session: Session) -> int:
    return (session.scalars(select(func.max(Policy.version))).one() or 0) + 1


def get(session: Session, version: int) -> Policy:
    """Raises NotFound when there is no such version."""
    policy = session.get(Policy, version)
    if policy is None:
        raise Unknown(
            "policy version", version_name(version), "`tandem policies list`", "GET /v1/policies", param="version"
        )
    return policy


def of_iteration(session: Session, iteration_id: str) -> Policy | None:
    """The candidate that an iteration has published, or None."""
    return session.scalars(select(Policy).where(Policy.iteration_id == iteration_id)).one_or_none()


def serving(session: Session) -> Policy | None:
    return session.scalars(select(Policy).where(Policy.state == "serving")).one_or_none()


def candidates(session: Session) -> frozenset[int]:
    """Versions that were never promoted."""
    return frozenset(session.scalars(select(Policy.version).where(Policy.state == "candidate")))


def list_page(session: Session, *, limit: int, after: int | None, order: str) -> tuple[list[Policy], bool]:
    return page(session, select(Policy), Policy.version, limit=limit, after=after, order=order)


def list_all(session: Session) -> list[Policy]:
    """Every version, the oldest first."""
    return list(session.scalars(select(Policy).order_by(Policy.version)))


def stamp(session: Session) -> str:
    """Another one whenever anything of any version may have changed: the audit tells of all that does."""
    newest = select(AuditEntry.digest).order_by(AuditEntry.seq.desc()).limit(1).scalar_subquery()
    version, digest = session.execute(select(func.max(Policy.version), newest)).one()
    return f"{version}-{digest}"


def rollback_target(session: Session) -> int | None:
    """The version in whose place the one that serves was promoted last. None where there is none."""
    current = serving(session)
    if current is None:
        return None
    return session.scalars(
        select(Promotion.previous)
        .where(Promotion.version == current.version, Promotion.outcome == "succeeded", Promotion.kind == "promote")
        .order_by(Promotion.created_at.desc(), Promotion.id.desc())
        .limit(1)
    ).one_or_none()


def in_use(session: Session, rollbacks: int) -> set[int]:
    """The version that serves, and those that so many rollbacks, one after the other, lead to."""
    current = serving(session)
    before = {attempt.version: attempt.previous for attempt in promotions(session) if _moved_forward(attempt)}
    found: set[int] = set()
    version = None if current is None else current.version
    while version is not None and version not in found and len(found) <= rollbacks:
        found.add(version)
        version = before.get(version)
    return found


def last_promotion(session: Session, version: int) -> Promotion | None:
    """The promotion by which `version` serves; None for one that a rollback led back to, or that never was promoted."""
    last = session.scalars(
        select(Promotion)
        .where(Promotion.outcome == "succeeded")
        .order_by(Promotion.created_at.desc(), Promotion.id.desc())
        .limit(1)
    ).one_or_none()
    return last if last is not None and last.version == version and last.kind == "promote" else None


def _moved_forward(attempt: Promotion) -> bool:
    return attempt.kind == "promote" and attempt.outcome == "succeeded"


def set_serving(
    session: Session, version: int, *, kind: str, reason: str, force: bool, actor: str, overruled: str | None = None
) -> Promotion:
    """Make `version` the serving one and retire the one that served. Raises NotFound.

    `overruled` is what the gate said against it, where that was forced.
    """
    target, current = get(session, version), serving(session)
    previous = current.version if current is not None else None
    if current is not None:
        current.state = "retired"
        session.flush()
    target.state = "serving"
    return _keep(session, kind, version, previous, reason, force, actor, "succeeded", overruled)


def keep_failure(
    session: Session, version: int, *, kind: str, reason: str, force: bool, actor: str, detail: str
) -> Promotion:
    """Record an attempt that changed nothing, and why."""
    current = serving(session)
    previous = current.version if current is not None else None
    return _keep(session, kind, version, previous, reason, force, actor, "failed", detail)


def promotions(session: Session, version: int | None = None) -> list[Promotion]:
    """Every attempt to change what serves, oldest first; of one version, or of all."""
    statement = select(Promotion).order_by(Promotion.created_at, Promotion.id)
    if version is not None:
        statement = statement.where(Promotion.version == version)
    return list(session.scalars(statement))


def _keep(
    session: Session,
    kind: str,
    version: int,
    previous: int | None,
    reason: str,
    force: bool,
    actor: str,
    outcome: str,
    detail: str | None,
) -> Promotion:
    attempt = Promotion(
        id=new_id("prm"),
        kind=kind,
        version=version,
        previous=previous,
        reason=reason,
        force=force,
        actor=actor,
        outcome=outcome,
        detail=detail,
        created_at=now(session),
    )
    session.add(attempt)
    before = None if previous is None else version_name(previous)
    audit.add(
        session,
        actor,
        f"policy.{kind}",
        version_name(version),
        reason,
        outcome=outcome,
        previous=before,
        force=force,
        detail=detail,
    )
    return attempt
