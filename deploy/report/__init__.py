"""A version's evidence as one HTML file that can be sent on: no script, nothing fetched, plots as SVG."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from markupsafe import Markup

from deploy.report.plots import Series, plot
from feedback.figures import NAMES, figures_of

KNOWN = (
    "evaluation",
    "preference",
    "watch",
    "ppo",
    "guard",
    "dpo",
    "frontier",
    "tax",
    "tax_harness",
    "strange_prompts",
)
# The last two of what is too large, as a time or on the axis of a plot.
MISSHAPEN = (UndefinedError, AttributeError, LookupError, TypeError, ValueError, ArithmeticError, OSError)
JUDGES = (("preference model", "preference"), ("watch model", "watch"))
SERVING = "the version that serves now"
CONDUCT = {
    "harm": "complies with harm",
    "harm_refused": "refuses what is harmful",
    "refusals": "refuses what is harmless",
    "flattery": "agrees with wrong claims",
    "agreement": "agrees with right claims",
}


def render(policy: dict[str, Any], ratings: list[dict[str, Any]], audit: list[dict[str, Any]]) -> str:
    """The page, of what `GET /v1/policies/{version}`, `GET /v1/ratings` and `GET /v1/audit?subject=` answer."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"figure": figure, "when": when, "pretty": pretty, "share": share, "estimated": estimated}
    template, written_at = environment.get_template("page.html.jinja"), time.time()

    def page(known: dict[str, Any]) -> str:
        return template.render(
            policy=policy,
            evidence=known,
            figures=named(known),
            win_rates=win_rates(known, policy["gate"].get("live", [])),
            conduct=conduct(known),
            plots=plots(known),
            judges=judges(known),
            taxes=[(name, known[name]) for name in ("tax", "tax_harness") if name in known],
            others={name: value for name, value in policy["evidence"].items() if name not in known},
            ratings=ratings,
            audit=audit,
            written_at=written_at,
        )

    known = {name: policy["evidence"][name] for name in KNOWN if name in policy["evidence"]}
    try:
        return page(known)
    except MISSHAPEN:
        return page(_well_shaped(known, page))


def _well_shaped(known: dict[str, Any], page: Callable[[dict[str, Any]], str]) -> dict[str, Any]:
    """What can be drawn: evidence may come from another release, or by hand."""
    kept: dict[str, Any] = {}
    for name, value in known.items():
        with suppress(*MISSHAPEN):
            page({**kept, name: value})
            kept[name] = value
    return kept


def named(evidence: dict[str, Any]) -> list[tuple[str, str, float | None, tuple[float, float] | None]]:
    """Every figure that has a name: the name, what it says, its value and interval."""
    found = figures_of(evidence)
    # What served when it was measured; by now another version may.
    rival = ((evidence.get("evaluation") or {}).get("serving") or {}).get("version", SERVING)
    return [
        (name, said.replace(SERVING, rival), found[name].value, found[name].interval)
        for name, (_, said) in NAMES.items()
        if name in found
    ]


def judges(evidence: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """The preference model and the watch model on held-out votes: which, under which objective, what was found."""
    return [
        (judge, objective, one)
        for judge, name in JUDGES
        for objective, one in ((evidence.get(name) or {}).get("objectives") or {}).items()
    ]


WinRate = tuple[str, str, str, dict[str, Any], dict[str, Any] | None]


def win_rates(evidence: dict[str, Any], live: list[dict[str, Any]]) -> list[WinRate]:
    """Against whom, by which judge, under which objective, raw and at equal length."""
    evaluation = evidence.get("evaluation") or {}
    serving = evaluation.get("serving")
    rows: list[WinRate] = []
    for rival, found in (("v0", evaluation), *([] if serving is None else [(serving["version"], serving)])):
        for judge, judged in (("preference model", found), ("watch model", found.get("watch"))):
            for objective, one in {"all": judged, **judged.get("objectives", {})}.items() if judged else ():
                if one.get("win_rate"):
                    rows.append((rival, judge, objective, one["win_rate"], one.get("win_rate_length_controlled")))
    for one in live:
        for objective, rate in {"all": one["win_rate"], **one["objectives"]}.items():
            if rate is not None:
                rows.append((one["against"], "live votes", objective, rate, None))
    return rows


def conduct(evidence: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """What votes alone do not say, before and after, with intervals where there are some."""
    evaluation = evidence.get("evaluation") or {}
    rows = [(said, evaluation.get(f"reference_{name}"), evaluation.get(name)) for name, said in CONDUCT.items()]
    different = evaluation.get("diversity") or {}
    rows += [
        (name.replace("_", " "), {"value": different.get(f"reference_{name}")}, {"value": value})
        for name, value in different.items()
        if not name.startswith("reference_")
    ]
    return [(said, before, after) for said, before, after in rows if before and after]


def reward_curves(steps: list[dict[str, Any]], guard: dict[str, Any] | None) -> list[Series]:
    """Reward and watch reward by distance. Each step is about the policy before its update; the guard has the last."""
    last = [] if guard is None else [{name: guard[f"last_{name}"] for name in ("sqrt_kl", "reward", "watch_reward")}]
    curves = []
    for title, name in (("reward", "reward"), ("watch", "watch_reward")):
        points = [(one["sqrt_kl"], one[name]) for one in (*steps, *last) if one.get(name) is not None]
        curves += [Series(title, points)] if points else []
    published = None if guard is None else [*steps, *last][guard["published_step"]]
    if published is not None and published.get("watch_reward") is not None:
        curves.append(Series("published", [(published["sqrt_kl"], published["watch_reward"])]))
    return curves


def frontier_points(frontier: dict[str, Any]) -> list[Series]:
    """Helpful against harmless score: other weights, by both judges, and where the start and the candidate are."""

    def at(points: list[dict[str, Any] | None]) -> list[tuple[float, float]]:
        return [(one["helpful"]["value"], one["harmless"]["value"]) for one in points if one]

    every = [
        Series("other weights", at(frontier["points"])),
        Series("watch model", at([one.get("watch") for one in frontier["points"]])),
        Series("candidate", at([frontier.get("candidate")])),
        Series("start", at([frontier.get("start")])),
    ]
    return [series for series in every if series.points]


def plots(evidence: dict[str, Any]) -> list[Markup]:
    """What the version's page plots: reward by distance with the watch curve, scores by step, frontier, calibration."""
    drawn = []
    steps = evidence.get("ppo") or []
    if steps:
        rewards = reward_curves(steps, evidence.get("guard"))
        drawn.append(plot("Reward against distance", "√KL from the start, √nats", "reward", rewards))
        names = list(steps[0].get("scores") or {})
        scores = [Series(name, [(step["step"], step["scores"][name]) for step in steps]) for name in names]
        if scores:
            drawn.append(plot("Scores by step", "PPO step", "preference score", scores))
    direct = evidence.get("dpo") or []
    if direct:
        sides = [
            Series(name, [(step["step"], step[f"{name}_nats"]) for step in direct]) for name in ("preferred", "other")
        ]
        drawn.append(plot("Likelihood by step", "DPO step", "nats a reply", sides))
        names = [name for name in ("loss", "accuracy") if name in direct[0]]
        learnt = [Series(name, [(step["step"], step[name]) for step in direct]) for name in names]
        if learnt:
            drawn.append(plot("Loss and accuracy by step", "DPO step", "", learnt))
    if evidence.get("frontier"):
        shown = frontier_points(evidence["frontier"])
        drawn.append(plot("Helpful against harmless", "helpful score", "harmless score", shown))
    for judge, name in JUDGES:
        bins = [one for one in (evidence.get(name) or {}).get("bins") or [] if one.get("count")]
        if bins:
            agreed = Series("held-out votes", [(one["confidence"], one["accuracy"]) for one in bins])
            perfect = Series("perfect", [(0.5, 0.5), (1.0, 1.0)])
            drawn.append(plot(f"Calibration of the {judge}", "predicted", "agreed", [agreed, perfect]))
    # The plots escape what they are given.
    return [Markup(one) for one in drawn]


def estimated(found: dict[str, Any] | None) -> str:
    """A value with its interval, where it has one."""
    if not found or found["value"] is None:
        return "–"
    ends = found.get("interval")
    return figure(found["value"]) + (f" ({figure(ends[0])} to {figure(ends[1])})" if ends else "")


def figure(value: Any, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}g}".replace("-", "−")


def share(value: Any) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def when(timestamp: float | None) -> str:
    return "–" if timestamp is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(timestamp))


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
