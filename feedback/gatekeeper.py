"""The gate held against a version of the record: its evidence, live votes, and the figures of what serves."""

from typing import Any

from sqlalchemy.orm import Session

from feedback import live_votes
from feedback.figures import Figure, figures_against, figures_of, figures_of_reference
from feedback.gate import GateRefused, Judgement, judge
from feedback.objectives import OBJECTIVES
from feedback.operating_settings import GateSettings
from feedback.schema import Policy, version_name
from feedback.store import live_votes as votes_between
from feedback.store import policies


def look(session: Session, version: int, settings: GateSettings) -> Judgement:
    """What the gate says of `version` against the one that serves. Raises NotFound.

    The starting policy, which nothing was trained for, passes: it is what all evidence is measured against.
    """
    policy = policies.get(session, version)
    if policy.parent is None:
        return Judgement()
    serving = policies.serving(session)
    return judge(
        settings.rules,
        figures(session, policy, serving, settings),
        _of_serving(policy, serving),
        advice=settings.advice,
        unmeasured_blocks=settings.unmeasured_blocks,
    )


def stamp(session: Session, version: int) -> object:
    """Another one whenever the gate may say something else of `version`: found without reading its votes."""
    return policies.stamp(session), votes_between.tallied(session, version)


def check(session: Session, version: int, settings: GateSettings) -> None:
    """Raises GateRefused with the rules that speak against promoting `version`, NotFound."""
    stopping = look(session, version, settings).stopping
    if stopping:
        raise GateRefused(version_name(version), stopping)


def figures(session: Session, policy: Policy, serving: Policy | None, settings: GateSettings) -> dict[str, Figure]:
    """Everything that is known of a version, live votes included."""
    tallies = [] if serving is None else votes_between.between(session, policy.version, serving.version)
    live = live_votes.figures(
        tallies, min_votes=settings.min_live_votes, drop_raters=settings.drop_raters, drop_votes=settings.drop_votes
    )
    against = {}
    if serving is not None and serving.version != policy.version:
        against = figures_against(
            policy.evidence, version_name(serving.version), serves_the_start=serving.parent is None
        )
    return figures_of(policy.evidence, live | against)


def _of_serving(policy: Policy, serving: Policy | None) -> dict[str, Figure]:
    """The starting policy has no evidence of its own: the version's says how it did on the same prompts."""
    if serving is None:
        return {}
    return figures_of_reference(policy.evidence) if serving.parent is None else figures_of(serving.evidence)


def described(session: Session, version: int, settings: GateSettings) -> dict[str, Any]:
    """The gate's judgement as JSON, with the version that it is held against and what live votes say."""
    serving = policies.serving(session)
    against = None if serving is None or serving.version == version else version_name(serving.version)
    rivals = sorted({0, *([] if serving is None else [serving.version])} - {version})
    live = [_live(session, version, rival, settings) for rival in rivals]
    return {
        "against": against,
        **look(session, version, settings).as_json(),
        "live": [found for found in live if found["votes"]],
    }


def _live(session: Session, version: int, rival: int, settings: GateSettings) -> dict[str, Any]:
    """The win rates of `version` against `rival` by live votes; None where there are too few."""
    found = live_votes.figures(
        votes_between.between(session, version, rival), min_votes=settings.min_live_votes, drop_raters=0, drop_votes=0
    )

    def estimate(path: str) -> dict[str, Any] | None:
        figure = found[path]
        return None if figure.value is None else {"value": figure.value, "interval": figure.interval}

    return {
        "against": version_name(rival),
        "votes": int(found["live.votes"].value or 0),
        "raters": int(found["live.raters"].value or 0),
        "win_rate": estimate("live.win_rate"),
        "objectives": {name: estimate(f"live.objectives.{name}.win_rate") for name in OBJECTIVES},
    }
