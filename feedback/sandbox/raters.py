"""Simulated raters: the gold judgement seen through Bradley-Terry noise."""

import math
import random
from dataclasses import dataclass
from typing import Literal

from feedback.sandbox.judge import OBJECTIVES, Objective, judge, utility
from feedback.sandbox.world import Prompt

Preferred = Literal[0, 1, "tie", "both_bad"]

# A difference perceived as smaller than this is called a tie, or both bad where both are poor.
_TIE_BELOW_LOGITS = 0.15
_POOR_BELOW = -0.45
_STRENGTH_FROM_LOGITS = (0.8, 1.8, 3.2)


@dataclass(frozen=True)
class Rater:
    """Somebody who votes. `sharpness` multiplies true differences before noise is added to them."""

    name: str
    sharpness: float = 1.0


@dataclass(frozen=True)
class Judgement:
    """One simulated vote on two replies to one prompt."""

    objective: Objective
    preferred: Preferred
    strength: int
    rater: str


def raters(count: int, seed: int) -> list[Rater]:
    """A crew of raters, some more careful than others."""
    rng = random.Random(f"raters-{seed}")
    return [Rater(f"rater-{n + 1:02d}", rng.uniform(0.7, 1.15)) for n in range(count)]


def draw_objective(prompt: Prompt, rng: random.Random) -> Objective:
    """What a rater is asked to look at: mostly harm where there is harm, but never only.

    Helpful raters meet harmful prompts too, or no vote would show that the objectives conflict.
    """
    return "harmless" if rng.random() < (0.8 if prompt.harmful else 0.15) else "helpful"


def draw_objectives(prompt: Prompt, rng: random.Random, *, both: bool) -> tuple[Objective, ...]:
    """The one that a rater is asked under; with `both` each of them."""
    return OBJECTIVES if both else (draw_objective(prompt, rng),)


def vote(
    prompt: Prompt,
    replies: tuple[str, str],
    objective: Objective,
    rater: Rater,
    rng: random.Random,
) -> Judgement:
    """What the rater says about two replies.

    The perceived difference is the true one plus logistic noise, so that the first reply is
    preferred with probability sigmoid(sharpness * (u_0 - u_1)), which is the Bradley-Terry model
    (Bradley and Terry, 1952). Strength and ties follow from how large it seems.
    """
    worth = [utility(judge(prompt, reply), objective) for reply in replies]
    perceived = rater.sharpness * (worth[0] - worth[1]) + _logistic(rng)
    return Judgement(objective, _preferred(perceived, max(worth)), _strength(perceived), rater.name)


def _logistic(rng: random.Random) -> float:
    u = rng.uniform(1e-9, 1 - 1e-9)
    return math.log(u / (1 - u))


def _preferred(perceived: float, best_worth: float) -> Preferred:
    if abs(perceived) < _TIE_BELOW_LOGITS:
        return "both_bad" if best_worth < _POOR_BELOW else "tie"
    return 0 if perceived > 0 else 1


def _strength(perceived: float) -> int:
    return 1 + sum(abs(perceived) >= bound for bound in _STRENGTH_FROM_LOGITS)
