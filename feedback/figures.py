"""The figures that a version's evidence holds, by name: what the gate's rules and the report speak of."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Name -> where it is in the evidence, and what it says.
NAMES: dict[str, tuple[str, str]] = {
    "win_rate": ("evaluation.win_rate", "share of held-out prompts where its reply scores higher than the start's"),
    "win_rate_shorter": ("evaluation.win_rate_shorter", "win rate where its reply is not the longer one"),
    "win_rate_length_controlled": ("evaluation.win_rate_length_controlled", "win rate at equal length, by regression"),
    "helpful_win_rate": ("evaluation.objectives.helpful.win_rate", "win rate by the helpful score alone"),
    "harmless_win_rate": ("evaluation.objectives.harmless.win_rate", "win rate by the harmless score alone"),
    "watch_win_rate": (
        "evaluation.watch.win_rate",
        "win rate by the watch model, which did not train it, but chose its weights",
    ),
    "serving_win_rate": ("serving.win_rate", "win rate against the version that serves now"),
    "serving_win_rate_length_controlled": (
        "serving.win_rate_length_controlled",
        "win rate against the version that serves now at equal length",
    ),
    "serving_helpful_win_rate": (
        "serving.objectives.helpful.win_rate",
        "win rate against the version that serves now by the helpful score alone",
    ),
    "serving_harmless_win_rate": (
        "serving.objectives.harmless.win_rate",
        "win rate against the version that serves now by the harmless score alone",
    ),
    "serving_watch_win_rate": (
        "serving.watch.win_rate",
        "win rate against the version that serves now by the watch model",
    ),
    "kl_nats": ("evaluation.kl_nats", "distance from the starting policy, nats a reply"),
    "length_ratio": ("evaluation.length_ratio", "its tokens a reply against the start's"),
    "finished_share": ("evaluation.finished_share", "share of replies that ended by themselves"),
    "harm": ("evaluation.harm", "share of harmful requests that it complies with"),
    "harm_refused": ("evaluation.harm_refused", "share of harmful requests that it refuses"),
    "refusals": ("evaluation.refusals", "share of harmless requests that it refuses"),
    "flattery": ("evaluation.flattery", "share of wrong claims that it agrees with"),
    "preference_accuracy": ("preference.accuracy", "accuracy of its preference model on held-out votes"),
    "calibration_error": ("preference.calibration_error", "calibration error of its preference model, the worst one"),
    "tax_drop": ("tax.drop", "alignment tax: mean drop over the tasks, before less after"),
    "tax_drop_worst": ("tax.worst.drop", "the largest drop on one task"),
    "live_win_rate": ("live.win_rate", "share of live votes it wins against what serves; a tie counts half"),
    "live_helpful_win_rate": (
        "live.objectives.helpful.win_rate",
        "share of live votes under helpful that it wins against what serves",
    ),
    "live_harmless_win_rate": (
        "live.objectives.harmless.win_rate",
        "share of live votes under harmless that it wins against what serves",
    ),
    "live_votes": ("live.votes", "how many live votes compare it with what serves"),
    "live_raters": ("live.raters", "how many raters cast live votes on it and what serves"),
}

REFERENCE = "reference_"
WIN_RATE = "win_rate"
# Of every win rate in the evidence. How much models from other votes differ, docs/learning.md tells.
BY_A_MODEL = "by a model; the interval is over prompts, as if it were right"
EVALUATION, AGAINST_SERVING = "evaluation.", "serving."
NOT_FINITE = "not_finite"
"""Where evidence names the figures that came out as no finite number: JSON has null for them, as for what was not
measured."""


@dataclass(frozen=True)
class Figure:
    """A value with its interval, where they exist. `low` and `high` are the figure without the votes or raters that
    raise it or lower it most. One that is `broken` was measured, and passes no rule."""

    value: float | None = None
    interval: tuple[float, float] | None = None
    note: str | None = None
    low: "Figure | None" = None
    high: "Figure | None" = None
    broken: bool = False

    def at_worst(self, *, high_is_good: bool) -> "Figure":
        """The figure as a rule should see it: without whoever speaks loudest for it."""
        worst = self.low if high_is_good else self.high
        return self if worst is None else worst


BROKEN = Figure(note="it came out as no finite number", broken=True)


def figures_of(evidence: Mapping[str, Any], live: Mapping[str, Figure] | None = None) -> dict[str, Figure]:
    """Every figure of the evidence under its path, and those of `NAMES` under their names too."""
    found = _all(evidence)
    found |= {
        path.removeprefix(EVALUATION): figure
        for path, figure in found.items()
        if path.startswith(EVALUATION + AGAINST_SERVING)
    }
    calibration = [figure for path, figure in found.items() if _is_calibration(path)]
    if any(figure.broken for figure in calibration):
        found["preference.calibration_error"] = BROKEN
    elif worst := [figure.value for figure in calibration if figure.value is not None]:
        found["preference.calibration_error"] = Figure(max(worst))
    found |= live or {}
    return found | {name: found[path] for name, (path, _) in NAMES.items() if path in found}


def figures_against(evidence: Mapping[str, Any], serving: str, *, serves_the_start: bool) -> dict[str, Figure]:
    """What to put in the place of the evidence's `serving.*`, so that it is of what serves now (`vN`).

    Where the starting policy serves, what was measured against that is meant. Where the candidate was measured against
    another version than serves by now, each figure is missing and says so.
    """
    if serves_the_start:
        return {
            f"{AGAINST_SERVING}{path.removeprefix(EVALUATION)}": figure
            for path, figure in _all(evidence).items()
            if path.startswith(EVALUATION)
        }
    measured = ((evidence.get("evaluation") or {}).get("serving") or {}).get("version")
    if measured == serving:
        return {}
    missing = Figure(note=f"it was measured against {measured or 'the start alone'}, {serving} serves now")
    return {path: missing for path, _ in NAMES.values() if path.startswith(AGAINST_SERVING)}


def figures_of_reference(evidence: Mapping[str, Any]) -> dict[str, Figure]:
    """What the evidence says of the starting policy, which it was measured against: `reference_NAME` as `NAME`."""
    found = {}
    for path, figure in _all(evidence).items():
        *above, name = path.split(".")
        if name.startswith(REFERENCE):
            found[".".join([*above, name.removeprefix(REFERENCE)])] = figure
    return found | {name: found[path] for name, (path, _) in NAMES.items() if path in found}


def not_finite(evidence: Mapping[str, Any]) -> list[str]:
    """The paths of the figures that are NaN or infinite, or have such an interval."""
    return [path for path, figure in _walk(evidence, "") if figure.broken]


def _all(evidence: Mapping[str, Any]) -> dict[str, Figure]:
    return dict(_walk(evidence, "")) | dict.fromkeys(evidence.get(NOT_FINITE) or (), BROKEN)


def _is_calibration(path: str) -> bool:
    return path.startswith("preference.objectives.") and path.endswith(".calibration_error")


def _walk(part: Mapping[str, Any], path: str) -> Iterator[tuple[str, Figure]]:
    """Numbers, and estimates `{"value", "interval"}`; a number's interval may stand beside it as `NAME_interval`. Win
    rates say whose they are: people's come from the record, not from the evidence."""
    for name, value in part.items():
        here = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            if "value" in value:
                note = BY_A_MODEL if name.startswith(WIN_RATE) else None
                yield here, _figure(value["value"], value.get("interval"), note)
            yield from _walk({key: below for key, below in value.items() if key not in ("value", "interval")}, here)
        elif _number(value) is not None:
            yield here, _figure(value, part.get(f"{name}_interval"))


def _figure(value: Any, interval: Any, note: str | None = None) -> Figure:
    number, ends = _number(value), _interval(interval)
    if not all(math.isfinite(one) for one in (number, *(ends or ())) if one is not None):
        return BROKEN
    return Figure(number, ends, note if ends else None)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _interval(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = _number(value[0]), _number(value[1])
    return None if low is None or high is None else (low, high)
