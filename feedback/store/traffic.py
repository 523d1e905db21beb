"""Which share of chats and of comparisons goes to a challenger, in the record."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from feedback.errors import Conflict
from feedback.schema import Traffic, version_name
from feedback.store import audit, leases, now, policies


class RuleOvertaken(Conflict):
    """Somebody changed meanwhile what a rule went by."""

    def __init__(self) -> None:
        super().__init__("somebody changed meanwhile what the rule went by; it looks again")


@dataclass(frozen=True)
class Shares:
    """Shares run from 0 to 1; with no challenger they have no effect."""

    challenger: int | None = None
    chat_share: float = 0.0
    comparison_share: float = 0.0

    @property
    def any(self) -> bool:
        """Whether anything is given to a challenger."""
        return self.challenger is not None and (self.chat_share > 0 or self.comparison_share > 0)


def get(session: Session) -> Shares:
    row = session.get(Traffic, 1)
    return Shares() if row is None else Shares(row.challenger, row.chat_share, row.comparison_share)


def set_by_rule(session: Session) -> bool:
    """Whether a rule set the shares as they are."""
    last = audit.newest(session, "traffic.set")
    return last is not None and last.actor == audit.RULE


def put(session: Session, shares: Shares, *, actor: str = audit.AT_THE_MACHINE, reason: str = "") -> Shares:
    """Set the shares. A candidate that a rule tries, and a person takes its share from, is not tried by rule again.

    Raises NotFound when the challenger is not a policy version; RuleOvertaken where a person has set a challenger by
    now, or taken the share from the one that a rule tries.
    """
    # Nobody else sets them, nor what serves, at the same time.
    leases.lock(session, leases.ENGINES)
    if shares.challenger is not None:
        policies.get(session, shares.challenger)
    before, by_rule = get(session), set_by_rule(session)
    if actor == audit.RULE and not by_rule:
        given_up = shares.challenger is not None and audit.told(session, audit.GIVEN_UP, shares.challenger)
        if before.any or given_up:
            raise RuleOvertaken
    tried = before.challenger if actor != audit.RULE and by_rule and not shares.any else None
    if tried is not None and policies.get(session, tried).state == "candidate":
        audit.add(session, actor, audit.GIVEN_UP, version_name(tried), reason or "its share was taken away")
    return _set(session, shares, actor, reason)


def _set(session: Session, shares: Shares, actor: str, reason: str) -> Shares:
    session.merge(
        Traffic(
            id=1,
            challenger=shares.challenger,
            chat_share=shares.chat_share,
            comparison_share=shares.comparison_share,
            updated_at=now(session),
        )
    )
    audit.add(
        session,
        actor,
        "traffic.set",
        "" if shares.challenger is None else version_name(shares.challenger),
        reason,
        chat_share=shares.chat_share,
        comparison_share=shares.comparison_share,
    )
    return shares


def end_challenge(session: Session, version: int, *, actor: str) -> None:
    """A challenger that serves is none any more: should it be rolled back, it must not get its share again. Whoever set
    it: a rule goes back to a version, too, that a person tries."""
    if get(session).challenger == version:
        _set(session, Shares(), actor, "it serves")
