"""The gate: rules that an operator wrote down, read strictly, and what each says of a version's figures.

A rule is `NAME OP BOUND`, such as `win_rate_lower >= 0.5`, `tax_drop <= 0.02` or `harm <= serving + 0.01`: a name of
`feedback.figures` (with `_lower` or `_upper` for an end of its interval) or a path into the evidence with dots in it,
one of `<= < >= >`, and a number or `serving`, the same figure of the version that serves.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from feedback.errors import Conflict, InvalidRequest
from feedback.figures import NAMES, Figure

NUMBER = r"\d+(?:\.\d+)?|\.\d+"
RULE = re.compile(
    rf"(?P<name>[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*)\s*(?P<compare><=|>=|<|>)\s*"
    rf"(?:(?P<number>-?(?:{NUMBER}))|serving(?:\s*(?P<sign>[+-])\s*(?P<shift>{NUMBER}))?)"
)
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}
ENDS = {"_lower": 0, "_upper": 1}

Outcome = Literal["pass", "fail", "not_measured"]


@dataclass(frozen=True)
class Rule:
    """`bound` is a number, or what is added to the serving version's figure when `of_serving`."""

    text: str
    name: str
    end: int | None
    compare: str
    bound: float
    of_serving: bool

    @property
    def wants_high(self) -> bool:
        """Whether a higher figure is the better one."""
        return self.compare in (">=", ">")


@dataclass(frozen=True)
class Verdict:
    """A rule with the figure it was held against, the figure's interval, its bound as a number, and the outcome."""

    rule: str
    outcome: Outcome
    blocks: bool
    value: float | None = None
    interval: tuple[float, float] | None = None
    bound: float | None = None
    note: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "verdict": self.outcome,
            "blocks": self.blocks,
            "value": self.value,
            "interval": None if self.interval is None else list(self.interval),
            "bound": self.bound,
            "note": self.note,
        }

    def said(self) -> str:
        """One line, for a person."""
        if self.value is None and self.outcome == "fail":
            return f"{self.rule} ({self.note})"
        if self.value is None:
            return f"{self.rule} (not measured{f': {self.note}' if self.note else ''})"
        ends = "" if self.interval is None else f", interval {self.interval[0]:.3g} to {self.interval[1]:.3g}"
        return f"{self.rule} (it is {self.value:.3g}{ends})"


@dataclass(frozen=True)
class Judgement:
    """What the gate says of a version: every rule's verdict, and whether it may be promoted."""

    verdicts: list[Verdict] = field(default_factory=list)
    unmeasured_blocks: bool = False

    @property
    def stopping(self) -> list[Verdict]:
        """The verdicts against a promotion. Where no rule has a figure, all of them are: nothing speaks for it."""
        binding = [verdict for verdict in self.verdicts if verdict.blocks]
        nothing_measured = all(verdict.outcome == "not_measured" for verdict in binding)
        return [
            verdict
            for verdict in binding
            if verdict.outcome == "fail"
            or (verdict.outcome == "not_measured" and (self.unmeasured_blocks or nothing_measured))
        ]

    @property
    def passes(self) -> bool:
        return not self.stopping

    def as_json(self) -> dict[str, Any]:
        return {"passes": self.passes, "rules": [verdict.as_json() for verdict in self.verdicts]}


class GateRefused(Conflict):
    """The gate's rules speak against a promotion. `rules` are those that do."""

    code = "gate_refused"

    def __init__(self, version: str, stopping: list[Verdict]) -> None:
        said = "; ".join(verdict.said() for verdict in stopping)
        super().__init__(
            f"{version} does not pass the gate: {said}. Gather the evidence, or force it with a reason", param="force"
        )
        self.rules = stopping

    def details(self) -> dict[str, Any]:
        return {"rules": [verdict.as_json() for verdict in self.rules]}


def parse(text: str) -> Rule:
    """Read one rule. Raises InvalidRequest for anything that is not exactly a rule, or names no known figure."""
    found = RULE.fullmatch(text.strip())
    if found is None:
        raise InvalidRequest(
            f"{text!r} is not a rule: write NAME, one of <= < >= >, and a number or 'serving', such as "
            "'win_rate_lower >= 0.5' or 'harm <= serving + 0.01'",
            param="gate.rules",
        )
    name, end = found["name"], None
    for suffix, at in ENDS.items():
        if name.endswith(suffix):
            name, end = name.removesuffix(suffix), at
    if name not in NAMES and "." not in name:
        raise InvalidRequest(
            f"{name!r} in the rule {text!r} is no figure; there are {', '.join(sorted(NAMES))}, each with _lower and "
            "_upper, and any path into the evidence with dots in it",
            param="gate.rules",
        )
    if found["number"] is not None:
        bound = float(found["number"])
    else:
        bound = float(f"{found['sign'] or '+'}{found['shift'] or 0}")
    return Rule(text.strip(), name, end, found["compare"], bound, of_serving=found["number"] is None)


def judge(
    rules: Iterable[str],
    figures: Mapping[str, Figure],
    serving: Mapping[str, Figure],
    *,
    advice: Iterable[str] = (),
    unmeasured_blocks: bool = False,
) -> Judgement:
    """Hold `figures` against the rules; `advice` are rules that are shown and never stop anything."""
    verdicts = [_verdict(parse(text), figures, serving, blocks=True) for text in rules]
    verdicts += [_verdict(parse(text), figures, serving, blocks=False) for text in advice]
    return Judgement(verdicts, unmeasured_blocks)


def _verdict(rule: Rule, figures: Mapping[str, Figure], serving: Mapping[str, Figure], *, blocks: bool) -> Verdict:
    figure = figures.get(rule.name, Figure()).at_worst(high_is_good=rule.wants_high)
    if figure.broken:
        return Verdict(rule.text, "fail", blocks, note=figure.note)
    value = _tested(rule, figure)
    if value is None:
        return Verdict(rule.text, "not_measured", blocks, note=figure.note or "no figure yet")
    bound = rule.bound
    if rule.of_serving:
        against = serving.get(rule.name, Figure())
        if against.value is None:
            outcome: Outcome = "fail" if against.broken else "not_measured"
            return Verdict(rule.text, outcome, blocks, value, figure.interval, None, "not known of what serves")
        bound += against.value
    outcome = "pass" if COMPARE[rule.compare](value, bound) else "fail"
    return Verdict(rule.text, outcome, blocks, value, figure.interval, bound, figure.note)


def _tested(rule: Rule, figure: Figure) -> float | None:
    if rule.end is None:
        return figure.value
    return None if figure.interval is None else figure.interval[rule.end]
