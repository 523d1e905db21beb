"""What live votes say of a version against the one that serves, and how much of it hangs on a few raters or votes."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from feedback.figures import Figure
from feedback.objectives import OBJECTIVES

ONE_RATER = "of one rater, who tells nothing of others"


@dataclass(frozen=True)
class RaterTally:
    """What one rater said of a version against another, under one objective."""

    rater_id: str
    objective: str
    won: int
    tied: int
    lost: int

    @property
    def votes(self) -> int:
        return self.won + self.tied + self.lost

    @property
    def score(self) -> float:
        """A win counts one, a tie one half."""
        return self.won + self.tied / 2


def figures(
    tallies: Sequence[RaterTally], *, min_votes: int, drop_raters: int, drop_votes: int, confidence: float = 0.95
) -> dict[str, Figure]:
    """The win rates, pooled and by objective, with the counts; each rate with its worst case either way."""
    found = {"live.votes": Figure(float(sum(tally.votes for tally in tallies)))}
    found["live.raters"] = Figure(float(len({tally.rater_id for tally in tallies})))
    groups = [("live.win_rate", list(tallies))]
    for objective in OBJECTIVES:
        own = [tally for tally in tallies if tally.objective == objective]
        groups.append((f"live.objectives.{objective}.win_rate", own))
    for name, group in groups:
        found[name] = _rate_with_worst(group, min_votes, drop_raters, drop_votes, confidence)
    return found


def _rate_with_worst(
    tallies: list[RaterTally], min_votes: int, drop_raters: int, drop_votes: int, confidence: float
) -> Figure:
    votes = sum(tally.votes for tally in tallies)
    if votes < min_votes:
        return Figure(note=f"{votes} live votes of the {min_votes} that are wanted")
    low, high = (
        _for_rules(without_loudest(tallies, raises=raises, raters=drop_raters, votes=drop_votes), raises, confidence)
        for raises in (True, False)
    )
    said = f"without the {drop_raters} raters and {drop_votes} votes that weigh most"
    if low.value is None or high.value is None:
        alone = Figure(note=f"nothing is left {said}")
        return replace(win_rate(tallies, confidence), low=alone, high=alone)
    low, high = (replace(end, note="; ".join(filter(None, (said, end.note)))) for end in (low, high))
    return replace(win_rate(tallies, confidence), low=low, high=high)


def _for_rules(tallies: list[RaterTally], wants_high: bool, confidence: float) -> Figure:
    """The win rate with an interval, though one rater is left: that of their own votes against the version, while the
    end that would speak for it is as far away as can be."""
    found = win_rate(tallies, confidence)
    if found.value is None or found.interval is not None:
        return found
    low, high = wilson(found.value, sum(tally.votes for tally in tallies), confidence)
    return replace(found, interval=(0.0, high) if wants_high else (low, 1.0))


def win_rate(tallies: Iterable[RaterTally], confidence: float) -> Figure:
    """Mean score of a vote with its interval: Wilson's, widened where raters differ more than chance would have it.

    The spread between raters is the cluster-robust variance of a mean, sum over raters of (their score - mean * their
    votes)^2 / n^2 * R / (R - 1), with Student's t of R - 1 degrees of freedom: few raters say little of how far others
    would differ from them. Of one it is not defined (0 * 1 / 0, none of freedom), so that there is no
    interval. Cameron & Miller 2015, A Practitioner's Guide to Cluster-Robust Inference, on few clusters.
    """
    # Of use to few who import this.
    from scipy.special import stdtrit

    tallies = [tally for tally in _by_rater(tallies) if tally.votes]
    count = sum(tally.votes for tally in tallies)
    if count == 0:
        return Figure()
    mean = sum(tally.score for tally in tallies) / count
    if len(tallies) == 1:
        return Figure(mean, note=ONE_RATER)
    low, high = wilson(mean, count, confidence)
    spread = sum((tally.score - mean * tally.votes) ** 2 for tally in tallies) / count**2
    reach = float(stdtrit(len(tallies) - 1, 0.5 + confidence / 2))
    half = reach * math.sqrt(spread * len(tallies) / (len(tallies) - 1))
    return Figure(mean, (max(0.0, min(low, mean - half)), min(1.0, max(high, mean + half))))


def wilson(mean: float, count: int, confidence: float) -> tuple[float, float]:
    """The score interval of a share of independent votes."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    center = (mean + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(mean * (1 - mean) / count + z * z / (4 * count * count))
    return max(0.0, center - half), min(1.0, center + half)


def without_loudest(tallies: Iterable[RaterTally], *, raises: bool, raters: int, votes: int) -> list[RaterTally]:
    """The tallies, one a rater, without the `raters` and then the `votes` that raise (or lower) the mean most."""
    left = _by_rater(tallies)
    for _ in range(raters):
        total, score = sum(tally.votes for tally in left), sum(tally.score for tally in left)

        def without(tally: RaterTally, total: int = total, score: float = score) -> float:
            return (score - tally.score) / max(1, total - tally.votes)

        if left:
            left.remove(min(left, key=without) if raises else max(left, key=without))
    return _without_votes(left, raises, votes)


def _without_votes(tallies: list[RaterTally], raises: bool, votes: int) -> list[RaterTally]:
    kept = []
    for tally in tallies:
        won, lost = tally.won, tally.lost
        gone = min(votes, won if raises else lost)
        votes -= gone
        kept.append(replace(tally, won=won - gone if raises else won, lost=lost if raises else lost - gone))
    return kept


def _by_rater(tallies: Iterable[RaterTally]) -> list[RaterTally]:
    """One tally a rater, whatever the objective."""
    found: dict[str, RaterTally] = {}
    for tally in tallies:
        known = found.get(tally.rater_id, RaterTally(tally.rater_id, "", 0, 0, 0))
        found[tally.rater_id] = replace(
            known, won=known.won + tally.won, tied=known.tied + tally.tied, lost=known.lost + tally.lost
        )
    return list(found.values())
