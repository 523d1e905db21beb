"""Promotion by rule: what an operator's rule does next, from what the record says. Off unless the settings turn it on.

A candidate that passes the gate becomes a challenger with a growing share of the traffic; after the votes of each stage
it goes on to the next, after the last it is promoted; when live votes turn against it, before or after, it goes. A
challenger that a person set is left alone, and so is a version that a person promoted.
"""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from feedback import gatekeeper, live_votes
from feedback.figures import Figure
from feedback.operating_settings import AutomaticSettings, GateSettings
from feedback.schema import Policy
from feedback.store import audit, policies, traffic
from feedback.store import live_votes as votes_between
from feedback.store.traffic import Shares

CONFIDENCE = 0.95
LEASE = "automatic"

Do = Literal["stage", "promote", "rollback", "give_up", "clear"]


@dataclass(frozen=True)
class Step:
    """What to do with which version, and why. `share` is that of a stage."""

    do: Do
    version: int
    reason: str
    share: float = 0.0


@dataclass(frozen=True)
class Standing:
    """Where things stand: live figures are of the challenger, or of what serves, against the other one."""

    serving: int
    candidate: int | None
    """The newest candidate after the serving version that has not been given up and passes the gate."""

    shares: Shares
    shares_by_rule: bool
    challenger_passes: bool
    challenger_votes: int
    challenger_rate: Figure
    promoted_by_rule: bool
    previous: int | None
    serving_votes: int
    serving_rate: Figure


def decide(at: Standing, settings: AutomaticSettings) -> Step | None:
    """The next step, or None. One step at a time: what it changes shows in the next standing."""
    if at.promoted_by_rule and at.previous is not None and _turned(at.serving_rate, at.serving_votes, settings):
        return Step("rollback", at.serving, f"live votes turned against it: {said(at.serving_rate)}")
    challenger = at.shares.challenger
    if challenger is not None and at.shares_by_rule:
        if challenger == at.serving:
            return Step("clear", challenger, "it serves")
        return _of_challenger(at, challenger, settings)
    if at.shares.any or at.candidate is None:
        return None
    share = settings.shares[0]
    return Step("stage", at.candidate, f"it passes the gate; stage 1 of {len(settings.shares)}", share)


def _of_challenger(at: Standing, challenger: int, settings: AutomaticSettings) -> Step | None:
    if _turned(at.challenger_rate, at.challenger_votes, settings):
        return Step("give_up", challenger, f"live votes turned against it: {said(at.challenger_rate)}")
    if not at.challenger_passes:
        return Step("give_up", challenger, "it no longer passes the gate")
    stage = sum(share <= at.shares.chat_share + 1e-9 for share in settings.shares)
    if at.challenger_votes < settings.votes_per_stage * stage:
        return None
    if stage < len(settings.shares):
        so_far = f"{at.challenger_votes} live votes, {said(at.challenger_rate)}"
        return Step(
            "stage", challenger, f"{so_far}; stage {stage + 1} of {len(settings.shares)}", settings.shares[stage]
        )
    return Step(
        "promote", challenger, f"every stage is passed: {at.challenger_votes} live votes, {said(at.challenger_rate)}"
    )


def _turned(rate: Figure, votes: int, settings: AutomaticSettings) -> bool:
    """Whether enough live votes show, by the upper end of the interval, that the other version is better; those of a
    single rater by the interval of their own votes."""
    if rate.value is None or votes < settings.votes_to_turn:
        return False
    _, high = rate.interval or live_votes.wilson(rate.value, votes, CONFIDENCE)
    return high < settings.turned_below


def said(rate: Figure) -> str:
    if rate.value is None:
        return "no live win rate"
    if rate.interval is None:
        return f"live win rate {rate.value:.2f} {rate.note or ''}".rstrip()
    return f"live win rate {rate.value:.2f} ({rate.interval[0]:.2f} to {rate.interval[1]:.2f})"


def stand(session: Session, gate: GateSettings) -> Standing | None:
    """Where things stand in the record; None before anything serves."""
    serving = policies.serving(session)
    if serving is None:
        return None
    shares = traffic.get(session)
    promotion = policies.last_promotion(session, serving.version)
    previous = None if promotion is None else promotion.previous
    challenger_votes, challenger_rate = _live(session, shares.challenger, serving.version)
    serving_votes, serving_rate = _live(session, serving.version, previous)
    return Standing(
        serving=serving.version,
        candidate=_candidate(session, serving, gate),
        shares=shares,
        shares_by_rule=traffic.set_by_rule(session),
        challenger_passes=shares.challenger is None or gatekeeper.look(session, shares.challenger, gate).passes,
        challenger_votes=challenger_votes,
        challenger_rate=challenger_rate,
        promoted_by_rule=promotion is not None and promotion.actor == audit.RULE,
        previous=previous,
        serving_votes=serving_votes,
        serving_rate=serving_rate,
    )


def _candidate(session: Session, serving: Policy, gate: GateSettings) -> int | None:
    for policy in reversed(policies.list_all(session)):
        if policy.version <= serving.version:
            return None
        if policy.state == "candidate" and not audit.told(session, audit.GIVEN_UP, policy.version):
            return policy.version if gatekeeper.look(session, policy.version, gate).passes else None
    return None


def _live(session: Session, version: int | None, other: int | None) -> tuple[int, Figure]:
    """How many live votes compare the two, and the share that the first one wins."""
    if version is None or other is None:
        return 0, Figure()
    tallies = votes_between.between(session, version, other)
    return sum(tally.votes for tally in tallies), live_votes.win_rate(tallies, CONFIDENCE)
