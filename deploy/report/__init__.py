"""A version's evidence as one HTML file that can be sent on: no script, nothing fetched, plots as SVG."""

import json
import time
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from deploy.report.plots import Series, plot
from feedback.figures import NAMES, figures_of

KNOWN = ("evaluation", "preference", "ppo", "tax", "tax_harness")


def render(policy: dict[str, Any], ratings: list[dict[str, Any]], audit: list[dict[str, Any]]) -> str:
    """The page, of what `GET /v1/policies/{version}`, `GET /v1/ratings` and `GET /v1/audit?subject=` answer."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"figure": figure, "when": when, "pretty": pretty, "share": share}
    evidence = policy["evidence"]
    return environment.get_template("page.html.jinja").render(
        policy=policy,
        evidence=evidence,
        figures=named(evidence),
        plots=plots(evidence),
        taxes=[(name, evidence[name]) for name in ("tax", "tax_harness") if name in evidence],
        others={name: value for name, value in evidence.items() if name not in KNOWN},
        ratings=ratings,
        audit=audit,
        written_at=time.time(),
    )


def named(evidence: dict[str, Any]) -> list[tuple[str, str, float | None, tuple[float, float] | None]]:
    """Every figure that has a name: the name, what it says, its value and interval."""
    found = figures_of(evidence)
    return [(name, said, found[name].value, found[name].interval) for name, (_, said) in NAMES.items() if name in found]


def plots(evidence: dict[str, Any]) -> list[Markup]:
    """What the version's page plots: reward by distance with the watch curve, scores by step, calibration."""
    drawn = []
    steps = evidence.get("ppo") or []
    if steps:
        rewards = [Series("reward", [(step["sqrt_kl"], step["reward"]) for step in steps])]
        watched = [(step["sqrt_kl"], step["watch_reward"]) for step in steps if step.get("watch_reward") is not None]
        rewards += [Series("watch", watched)] if watched else []
        drawn.append(plot("Reward against distance", "√KL from the start, √nats", "reward", rewards))
        names = list(steps[0].get("scores") or {})
        scores = [Series(name, [(step["step"], step["scores"][name]) for step in steps]) for name in names]
        if scores:
            drawn.append(plot("Scores by step", "PPO step", "preference score", scores))
    bins = [one for one in (evidence.get("preference") or {}).get("bins") or [] if one.get("count")]
    if bins:
        agreed = Series("held-out votes", [(one["confidence"], one["accuracy"]) for one in bins])
        perfect = Series("perfect", [(0.5, 0.5), (1.0, 1.0)])
        drawn.append(plot("Calibration of the preference model", "predicted", "agreed", [agreed, perfect]))
    # The plots escape what they are given.
    return [Markup(one) for one in drawn]


def figure(value: Any, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}g}".replace("-", "−")


def share(value: Any) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def when(timestamp: float | None) -> str:
    return "–" if timestamp is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(timestamp))


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
