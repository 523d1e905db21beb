"""Raters watched: how each votes, how reliable that makes them, and who is set apart before training sees their votes.

The outlier test is sequential, so that it may be looked at after every vote. For each vote on a pair that others judged
too (or whose answer is known) it compares how likely the vote is for somebody who guesses or votes against the truth
with how likely it is for an ordinary rater, and multiplies these ratios up. For an ordinary rater the product exceeds
1/p at any time with probability at most p (Ville's inequality), whatever the number of votes. It is kept from falling
below p, so that a rater who was good for years and then turns is still found.
"""

import math
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from feedback import setting_apart
from feedback.errors import NotFound
from feedback.reliability import ABILITY_MEAN, Estimate, Votes, estimate
from feedback.settings import FeedbackSettings
from feedback.store import Store, audit, raters
from feedback.store.raters import Seen

SIDE = {"0": 1, "1": -1}
# Accuracies on an average pair that the ordinary rater is held against: guessing, and voting against the truth.
OUTLIERS = (0.5, 0.25)


@dataclass(frozen=True)
class Watched:
    """What a look at all raters found: their figures by id, and those it would quarantine, with the reason."""

    figures: dict[str, dict[str, Any]]
    outliers: dict[str, str]


def watch(store: Store, settings: FeedbackSettings) -> dict[str, str]:
    """Judge all raters by their votes so far, record it, and quarantine the outliers. Returns them with the reason."""
    watched = store.read(look, settings)
    store.write(raters.note, watched.figures)
    for rater_id, reason in watched.outliers.items():
        # Who was erased while their votes were looked at is nobody any more.
        with suppress(NotFound):
            setting_apart.quarantine(store, rater_id, reason, actor=audit.RULE)
    return watched.outliers


def look(session: Session, settings: FeedbackSettings) -> Watched:
    """The same without changing anything."""
    seen = list(raters.seen(session))
    if not seen:
        return Watched({}, {})
    people = sorted({vote.rater_id for vote in seen})
    votes = _arrays(seen, people)
    # Else a few who always take the left side, and agree in it, would have those who judge set apart.
    fitted = estimate(votes, most_told=ABILITY_MEAN)
    agrees_V = fitted.without_own(votes)
    by_rater: dict[str, list[int]] = defaultdict(list)
    for row, vote in enumerate(seen):
        by_rater[vote.rater_id].append(row)
    figures, outliers = {}, {}
    for index, rater_id in enumerate(people):
        rows = by_rater[rater_id]
        figures[rater_id] = _figures([seen[row] for row in rows], agrees_V[rows], fitted, index)
        found = outlier_evidence(agrees_V[rows], fitted.log_ease_P[votes.pair_V[rows]], settings.outlier_probability)
        figures[rater_id]["outlier_evidence_nats"] = round(found, 3)
        may_be = seen[rows[0]].may_be_quarantined and settings.quarantine_outliers
        if found >= -math.log(settings.outlier_probability) and may_be:
            outliers[rater_id] = (
                f"votes unlike the others: right on about {figures[rater_id]['reliability']:.0%} of average pairs, "
                f"by {figures[rater_id]['votes_compared']} votes that can be compared"
            )
    return Watched(figures, outliers)


def outlier_evidence(agrees_V: Any, log_ease_V: Any, probability: float) -> float:
    """The highest log likelihood ratio, in nats, that an outlier's votes reach against an ordinary rater's.

    `agrees_V` are the log odds that each vote is right by what the others say, in the order of the votes.
    """
    right_V = 0.5 * (1 + np.tanh(0.5 * np.asarray(agrees_V)))
    ease_V = np.exp(np.asarray(log_ease_V))

    def likelihood(ability: float) -> Any:
        accuracy_V = 0.5 * (1 + np.tanh(0.5 * ability * ease_V))
        return accuracy_V * right_V + (1 - accuracy_V) * (1 - right_V)

    ordinary_V = likelihood(ABILITY_MEAN)
    highest = 0.0
    for accuracy in OUTLIERS:
        sum_V = np.cumsum(np.log(likelihood(math.log(accuracy / (1 - accuracy))) / ordinary_V))
        # Each time that the sum would fall below the lowest that is allowed, all after it is as much higher.
        total_V = sum_V + np.maximum(0, math.log(probability) - np.minimum.accumulate(sum_V))
        # Two kinds of outliers are looked for, so each has half of the probability.
        highest = max(highest, float(total_V.max(initial=0.0)) - math.log(len(OUTLIERS)))
    return highest


def _arrays(seen: list[Seen], people: list[str]) -> Votes:
    """The votes as arrays, in their order."""
    rater_index = {rater_id: index for index, rater_id in enumerate(people)}
    pair_index: dict[tuple[str, str], int] = {}
    known: list[int] = []
    rater_V, pair_V, side_V = (np.empty(len(seen), dtype=np.int64) for _ in range(3))
    for row, vote in enumerate(seen):
        # A repeat shows the sides of its original the other way round.
        turn = -1 if vote.is_repeat else 1
        pair = pair_index.setdefault((vote.pair, vote.objective), len(pair_index))
        if pair == len(known):
            known.append(0)
        if vote.answer is not None:
            known[pair] = turn * SIDE[vote.answer]
        rater_V[row], pair_V[row], side_V[row] = rater_index[vote.rater_id], pair, turn * SIDE[vote.preferred]
    return Votes(rater_V, pair_V, side_V, np.array(known, dtype=np.int64), len(people))


def _figures(own: list[Seen], agrees_V: Any, fitted: Estimate, index: int) -> dict[str, Any]:
    compared_V = agrees_V[np.abs(agrees_V) > 1e-9]
    checked = [vote.preferred == vote.answer for vote in own if vote.answer is not None]
    times = [vote.elapsed_s for vote in own if vote.elapsed_s is not None]
    left = [SIDE[vote.preferred] == (-1 if vote.left == 1 else 1) for vote in own]
    return {
        "reliability": round(float(fitted.reliability_R[index]), 4),
        "votes": len(own),
        "votes_compared": len(compared_V),
        "agreement_with_others": _mean(compared_V > 0),
        "agreement_with_known_answers": _mean(checked),
        "agreement_with_repeats": _mean(_repeats(own)),
        "share_left": _mean(left),
        "median_elapsed_s": float(np.median(times)) if times else None,
    }


def _repeats(own: list[Seen]) -> list[bool]:
    """For each repeat that this rater judged after its original: whether they said the same."""
    said = {(vote.pair, vote.objective): SIDE[vote.preferred] for vote in own if not vote.is_repeat}
    return [
        said[vote.pair, vote.objective] == -SIDE[vote.preferred]
        for vote in own
        if vote.is_repeat and (vote.pair, vote.objective) in said
    ]


def _mean(values: Any) -> float | None:
    return round(float(np.mean(values)), 4) if len(values) else None
