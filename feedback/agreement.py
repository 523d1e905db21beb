"""How far raters agree with each other beyond chance: Krippendorff's alpha, for two sides as nominal values.

alpha = 1 - D_o / D_e. Over the pairs that several raters decided, D_o is how often two votes on one pair pick different
sides, D_e how often two votes on any pairs do (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", A).
1: all agree; 0: as often as by chance; below: they contradict each other. All raters see the sides of a pair alike:
those who always pick the left one agree with each other, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from feedback.store import raters


@dataclass(frozen=True)
class Agreement:
    """`alpha` of `votes` on `pairs` that several raters decided; None where it is not defined: there are none of them,
    or all picked one side."""

    alpha: float | None
    pairs: int
    votes: int

    def as_json(self) -> dict[str, Any]:
        return {
            "agreement": None if self.alpha is None else round(self.alpha, 4),
            "pairs": self.pairs,
            "votes": self.votes,
        }


def current(session: Session) -> dict[str, Agreement]:
    """By objective, from all votes counted so far."""
    return {objective: agreement(sides) for objective, sides in raters.sides_picked(session).items()}


def agreement(pairs_of: Mapping[tuple[int, int], int]) -> Agreement:
    """`pairs_of[left, right]` is how many pairs so many raters picked the one and the other side of. Pairs that fewer
    than two decided tell nothing."""
    several = {sides: pairs for sides, pairs in pairs_of.items() if sum(sides) > 1}
    on_left, on_right = (sum(sides[side] * pairs for sides, pairs in several.items()) for side in (0, 1))
    pairs, votes = sum(several.values()), on_left + on_right
    if not on_left * on_right:
        return Agreement(None, pairs, votes)
    observed = sum(2 * a * b / (a + b - 1) * pairs for (a, b), pairs in several.items()) / votes
    expected = 2 * on_left * on_right / (votes * (votes - 1))
    return Agreement(1 - observed / expected, pairs, votes)
