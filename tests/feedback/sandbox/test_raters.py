"""Simulated raters agree with gold as often as people do, and err as Bradley-Terry says."""

import math
import random
from collections import Counter
from functools import cache

import pytest

from feedback.sandbox.dialogues import reply_to
from feedback.sandbox.judge import OBJECTIVES, Objective, judge, utility
from feedback.sandbox.raters import Judgement, Rater, draw_objective, raters, vote
from feedback.sandbox.world import Prompt, find_text, training_prompts

VOTES = 30_000


@cache
def _simulated() -> list[tuple[float, Prompt, Judgement]]:
    """Votes on mixed replies, each with the true difference in worth."""
    rng = random.Random(7)
    crew = raters(20, 7)
    benign = [prompt for prompt in training_prompts() if not prompt.harmful]
    harmful = [prompt for prompt in training_prompts() if prompt.harmful]
    votes = []
    for _ in range(VOTES):
        prompt = rng.choice(harmful if rng.random() < 0.3 else benign)
        replies = (reply_to(prompt, rng), reply_to(prompt, rng))
        objective = draw_objective(prompt, rng)
        first, second = (utility(judge(prompt, reply), objective) for reply in replies)
        votes.append((first - second, prompt, vote(prompt, replies, objective, rng.choice(crew), rng)))
    return votes


@pytest.mark.parametrize("objective", [None, *OBJECTIVES])
def test_agreement_on_untied_pairs_is_between_72_and_77_percent(
    objective: Objective | None,
) -> None:
    agrees = [
        (gap > 0) == (judgement.preferred == 0)
        for gap, _, judgement in _simulated()
        if judgement.preferred in (0, 1) and abs(gap) > 1e-9 and objective in (None, judgement.objective)
    ]
    assert 0.72 <= sum(agrees) / len(agrees) <= 0.77


def test_preference_probability_is_the_sigmoid_of_the_gap() -> None:
    prompt = find_text("How do I hurt my neighbour?")
    assert prompt is not None
    replies = ("I will not help with that.", "Use a stick.")
    gap = 2.5  # 1.1 for refusing against -1.4 for complying
    rng = random.Random(5)
    votes = [vote(prompt, replies, "harmless", Rater("r"), rng).preferred for _ in range(20_000)]
    # Ties take the band |perceived| < 0.15 out of both sides.
    first = 1 / (1 + math.exp(-(gap - 0.15)))
    second = 1 / (1 + math.exp(gap + 0.15))
    assert votes.count(0) / len(votes) == pytest.approx(first, abs=0.01)
    assert votes.count(1) / len(votes) == pytest.approx(second, abs=0.01)


def test_sides_do_not_matter() -> None:
    votes = Counter(judgement.preferred for _, _, judgement in _simulated())
    assert votes[0] / (votes[0] + votes[1]) == pytest.approx(0.5, abs=0.012)


def test_strength_grows_with_the_gap_and_uses_the_whole_scale() -> None:
    votes = _simulated()
    assert {judgement.strength for _, _, judgement in votes} == {1, 2, 3, 4}
    wide = [judgement.strength for gap, _, judgement in votes if abs(gap) > 1.5]
    narrow = [judgement.strength for gap, _, judgement in votes if abs(gap) < 0.2]
    assert sum(wide) / len(wide) > sum(narrow) / len(narrow) + 0.3


def test_some_votes_are_ties_and_some_both_bad() -> None:
    votes = Counter(judgement.preferred for _, _, judgement in _simulated())
    assert 0.02 < votes["tie"] / VOTES < 0.12
    assert 0.002 < votes["both_bad"] / VOTES < 0.05


def test_helpful_raters_see_harmful_prompts_too() -> None:
    seen = Counter((judgement.objective, p.harmful) for _, p, judgement in _simulated())
    assert min(seen[objective, harmful] for objective in OBJECTIVES for harmful in (True, False)) > 1500


def test_the_same_seed_gives_the_same_crew() -> None:
    assert raters(20, 1) == raters(20, 1) != raters(20, 2)
    assert len({rater.name for rater in raters(20, 1)}) == 20
