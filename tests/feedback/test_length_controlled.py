"""Ratings controlled for length: against a plain loop, on votes of raters who like long replies, and from a record."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from sqlalchemy import update

from feedback import length_controlled, ratings
from feedback.schema import Sample
from feedback.store import Store, checks, raters, samples, votes
from feedback.store.ratings import DECIDES, Tally
from feedback.worker import count_all
from tests.feedback.record import add_comparison, judgement, sample

KINDS = [
    (Tally("h", 0, 1, "0", 8, 1), 0.5), (Tally("h", 0, 1, "1", 5, 1), -0.2), (Tally("h", 1, 0, "0", 9, 1), 0.1),
    (Tally("h", 1, 0, "tie", 4, 1), 0.0), (Tally("h", 2, 1, "0", 7, 2), 0.9), (Tally("h", 2, 1, "1", 6, 1), -0.4),
    (Tally("h", 0, 2, "1", 3, 3), 0.3),
]  # fmt: skip


def fit(kinds: list[tuple[Tally, float]]) -> tuple[np.ndarray, np.ndarray]:
    votes_T = np.array([tally.votes for tally, _ in kinds])
    score_T = votes_T * [ratings.SCORE[tally.preferred] for tally, _ in kinds]
    cluster_T, left_T, right_T = np.array([(tally.cluster, tally.left, tally.right) for tally, _ in kinds]).T
    said = ratings.Said(cluster_T, left_T, right_T, score_T, votes_T)
    count = int(max(left_T.max(), right_T.max())) + 1
    return length_controlled.fit(said, length_controlled.design(said, np.array([d for _, d in kinds]), count))


def rate(votes: list[tuple[Tally, tuple[int, int]]]) -> length_controlled.Controlled:
    """Of single votes with the lengths of the replies that they compare."""
    rows = [
        (
            vote.left,
            vote.right,
            DECIDES.index(vote.preferred),
            vote.cluster,
            length_controlled.relative_length(*lengths),
        )
        for vote, lengths in votes
    ]
    return length_controlled.rate(np.array(rows, dtype=int).reshape(-1, 5))


def test_it_is_what_a_plain_loop_finds() -> None:
    deviations = [5.0, 5.0, 5.0, 1.0, 5.0]

    def lost(parameters: np.ndarray) -> float:
        total = sum(0.5 * (value / deviation) ** 2 for value, deviation in zip(parameters, deviations, strict=True))
        for tally, d in KINDS:
            nats = parameters[tally.left] - parameters[tally.right] + parameters[3] + parameters[4] * d
            score = ratings.SCORE[tally.preferred]
            total += tally.votes * (score * math.log1p(math.exp(-nats)) + (1 - score) * math.log1p(math.exp(nats)))
        return total

    best = minimize(lost, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x
    found, reach = fit(KINDS)
    assert found == pytest.approx([0, best[1] - best[0], best[2] - best[0], best[3], best[4]], abs=1e-5)
    # The curvature by differences, and the sandwich of three clusters: the wider one, which is now this and now that.
    step, bent = 1e-3, np.zeros((5, 5))
    for i, first in enumerate(np.eye(5) * step):
        for j, second in enumerate(np.eye(5) * step):
            bent[i, j] = sum(
                sign * lost(best + a * first + b * second)
                for a, b, sign in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
            ) / (4 * step**2)
    bread, meat = np.linalg.inv(bent), np.zeros((5, 5))
    for cluster in (1, 2, 3):
        slope = np.zeros(5)
        for tally, d in KINDS:
            if tally.cluster == cluster:
                nats = best[tally.left] - best[tally.right] + best[3] + best[4] * d
                surprise = tally.votes * (ratings.SCORE[tally.preferred] - 1 / (1 + math.exp(-nats)))
                for place, sign in ((tally.left, 1), (tally.right, -1), (3, 1), (4, d)):
                    slope[place] += sign * surprise
        meat += np.outer(slope, slope) * 3 / 2
    expected = []
    for place in range(5):
        seen = np.eye(5)[place] - (np.eye(5)[0] if place < 3 else 0)
        by_curvature, by_clusters = (math.sqrt(seen @ of @ seen) for of in (bread, bread @ meat @ bread))
        # Student's t of two degrees of freedom.
        expected.append(max(1.959964 * by_curvature, 4.302653 * by_clusters))
    assert reach == pytest.approx(expected, rel=1e-3)
    alone, reach = fit([(replace(tally, cluster=0), d) for tally, d in KINDS])
    assert alone == pytest.approx(found)
    assert reach[4] == pytest.approx(1.959964 * math.sqrt(bread[4, 4]), rel=1e-3)


def test_votes_that_nearly_all_say_the_same_lead_nowhere_else() -> None:
    """Newton's whole steps went to thousands of nats with these few. At the maximum each slope is 0."""
    kinds = [
        (Tally("h", left, right, preferred, votes, 1), d)
        for left, right, preferred, votes, d in (
            (1, 0, "0", 17, -0.01), (2, 3, "1", 1, -1.0), (1, 2, "0", 38, -1.0), (2, 0, "0", 1, 0.0),
            (1, 0, "tie", 2, 0.01), (3, 1, "0", 60, 0.01), (1, 3, "0", 58, 0.0), (3, 1, "1", 1, 0.01),
            (2, 1, "1", 175, -0.01), (3, 1, "1", 2, 0.99),
        )
    ]  # fmt: skip
    found, _ = fit(kinds)
    # With a prior for each, strengths add up to 0 before the first is taken for 0.
    slopes = [*((found[:4].mean() - found[:4]) / 25), -found[4], -found[5] / 25]
    for tally, d in kinds:
        nats = found[tally.left] - found[tally.right] + found[4] + found[5] * d
        surprise = tally.votes * (ratings.SCORE[tally.preferred] - 1 / (1 + math.exp(-nats)))
        for place, sign in ((tally.left, 1), (tally.right, -1), (4, 1), (5, d)):
            slopes[place] += sign * surprise
    assert slopes == pytest.approx([0] * 6, abs=1e-6)


def test_a_lead_that_is_length_alone_goes_and_one_that_is_not_stays() -> None:
    """v1 is as good as v0 and writes twice as much, v2 is better (log 2) and writes as much; length is worth 3 nats."""
    rng = np.random.default_rng(1)
    strength, mean_length = {0: 0.0, 1: 0.0, 2: math.log(2)}, {0: 100, 1: 200, 2: 100}
    said: list[tuple[Tally, tuple[int, int]]] = []
    for rater in range(60):
        for _ in range(100):
            left, right = (int(one) for one in rng.choice(3, 2, replace=False))
            lengths = int(mean_length[left] * rng.uniform(0.5, 1.5)), int(mean_length[right] * rng.uniform(0.5, 1.5))
            d = (lengths[0] - lengths[1]) / sum(lengths)
            wins = rng.random() < 1 / (1 + math.exp(-(strength[left] - strength[right] + 3 * d)))
            said.append((Tally("h", left, right, "0" if wins else "1", 1, rater), lengths))
    found = rate(said)
    controlled = {rating.version: rating for rating in found.ratings}
    plain = {rating.version: rating for rating in ratings.rate(vote for vote, _ in said)}
    assert plain[1].low > 50, "it leads by its length"
    assert controlled[1].low < 0 < controlled[1].high
    assert controlled[2].low < math.log(2) * ratings.ELO_PER_NAT < controlled[2].high
    assert found.interval[0] < 1.0 * ratings.ELO_PER_NAT < found.interval[1], "3 nats times a third"
    assert found.ratings[0].version == 2
    assert {version: (one.votes, one.wins) for version, one in controlled.items()} == {
        version: (one.votes, one.wins) for version, one in plain.items()
    }


def test_without_votes_there_is_nothing() -> None:
    assert rate([]) == length_controlled.Controlled([], None, None)
    assert length_controlled.relative_length(0, 0) == 0
    assert length_controlled.relative_length(5, 0) == 100
    assert length_controlled.relative_length(1, 2) == -33


def test_what_length_is_worth_is_unknown_where_it_cannot_be_told_from_what_versions_are_worth() -> None:
    def rated(*lengths: tuple[int, int]) -> length_controlled.Controlled:
        """Of versions 0 and 1, each now on the left and now on the right; `lengths` are theirs in turn."""
        said: list[tuple[Tally, tuple[int, int]]] = []
        for rater, (first, second) in enumerate(lengths * 10):
            preferred = "01"[rater % 3 == 0]
            shown = (0, 1, preferred, first, second), (1, 0, preferred, second, first)
            for left, right, better, on_left, on_right in shown:
                said.append((Tally("h", left, right, better, 1, rater % 4), (on_left, on_right)))
        return rate(said)

    for same in ([(40, 40)], [(40, 20)], [(40, 40), (7, 7), (0, 0)], [(30, 10), (300, 100)]):
        found = rated(*same)
        assert (found.twice_as_long, found.interval) == (None, None), same
        assert all(rating.elo is not None for rating in found.ratings)
    assert rated((40, 40), (41, 40)).interval is not None


def test_the_votes_are_those_of_the_plain_ratings(store: Store) -> None:
    def put(
        preferred: str, left: str, right: str, rater: str = "ann", version: int = 0, check: bool = False
    ) -> list[str]:
        replies = sample(left, version=version), sample(right, version=1)
        pair = add_comparison(store, *replies)
        if check:
            store.write(checks.set_answer, pair, "helpful", preferred)
        store.write(votes.put, pair, judgement(preferred), key_id="key_a", sees_all=False, rater=rater)
        return [reply.id for reply in replies]

    put("0", "long" * 9, "short")
    put("1", "short", "long" * 9)
    put("tie", "same", "same")
    put("both_bad", "a", "b")
    put("0", "a", "b", rater="eve")
    put("0", "a", "b", version=1)
    put("0", "a", "b", check=True)
    erased = put("1", "a", "b")[0], put("1", "a", "b")[1]
    count_all(store)
    put("0", "not", "counted yet")
    store.write(raters.quarantine, store.read(raters.find, "key_a", "eve"), "a robot")
    found = store.read(length_controlled.current)
    assert found["harmless"].ratings == []
    assert [rating.votes for rating in found["helpful"].ratings] == [5, 5]
    assert found["helpful"].twice_as_long > 0
    texts = update(Sample).where(Sample.id.in_(erased)).values(**samples.ERASED)
    store.write(lambda session: session.execute(texts))
    assert [rating.votes for rating in store.read(length_controlled.current)["helpful"].ratings] == [3, 3]
