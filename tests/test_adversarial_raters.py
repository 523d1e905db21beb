"""A fifth of the raters attack: with the defences the preference model hardly notices, without them it does.

The attackers turn every judgement round, say it with the greatest strength, and vote twice as often as others.
"""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from feedback import datasets, rater_watch
from feedback.learning_settings import PreferenceSettings
from feedback.sandbox import raters as crew
from feedback.sandbox.judge import judge, utility
from feedback.sandbox.world import Prompt, held_out_prompts, training_prompts
from feedback.settings import FeedbackSettings
from feedback.store import Store, votes
from feedback.worker import count_all
from learner.comparisons import VotedComparison
from learner.policy import Policy, load_policy
from learner.preference_judging import score_comparisons
from learner.preference_training import train_preference_model
from learner.sampler import TorchSampler
from learner.starting_policy import WEIGHTS
from tests.feedback.record import add_comparison, sample

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PAIRS = 400
VOTES_EACH = 3
HONEST, ATTACKERS = 16, 4
KEY = {"key_id": "key_a", "sees_all": False}
SETTINGS = FeedbackSettings(heldout_share=0.0)
UNDEFENDED = SETTINGS.model_copy(
    update={"quarantine_outliers": False, "weigh_by_reliability": False, "rater_share": 1.0}
)
PREFERENCE = PreferenceSettings(ensemble_size=1, epochs=2)


def replies(policy: Policy, prompts: list[Prompt], seed: int) -> list[tuple[str, str]]:
    """Two replies to each prompt."""
    encoded = [policy.encode_chat(prompt.messages) for prompt in prompts for _ in range(2)]
    sampler = TorchSampler(policy.model, policy.end_ids)
    texts = [policy.decode(r) for r in sampler.sample(encoded, max_new_tokens=48, temperature=1.0, seed=seed).replies()]
    return list(zip(texts[::2], texts[1::2], strict=True))


def better(prompt: Prompt, pair: tuple[str, str], objective: str) -> float:
    first, second = (utility(judge(prompt, reply), objective) for reply in pair)
    return first - second


def cast_all(store: Store, prompts: list[Prompt], pairs: list[tuple[str, str]], attacked: bool) -> None:
    """`VOTES_EACH` honest votes on each pair, the same whether attacked or not; the attackers vote besides."""
    honest = crew.raters(HONEST, seed=1)
    rng, attack = random.Random(2), random.Random(3)
    # Twice as many votes as an honest rater has.
    each = 2 * PAIRS * VOTES_EACH // HONEST
    targets = {f"attacker-{n}": set(attack.sample(range(PAIRS), each)) for n in range(ATTACKERS)} if attacked else {}
    for number, (prompt, pair) in enumerate(zip(prompts, pairs, strict=True)):
        messages = list(prompt.messages)
        sides = (sample(text, version=side, messages=messages) for side, text in enumerate(pair))
        comparison_id = add_comparison(store, *sides)
        objective = crew.draw_objective(prompt, rng)
        said = [crew.vote(prompt, pair, objective, rater, rng) for rater in rng.sample(honest, VOTES_EACH)]
        for name in (name for name, on in targets.items() if number in on):
            seen = crew.vote(prompt, pair, objective, crew.Rater(name), attack)
            turned = {0: 1, 1: 0}.get(seen.preferred, seen.preferred)  # type: ignore[call-overload]
            said.append(replace(seen, preferred=turned, strength=4))
        for one in said:
            judgement = votes.Judgement(one.objective, str(one.preferred), one.strength)
            store.write(votes.put, comparison_id, judgement, **KEY, rater=one.rater)
    count_all(store)


def accuracy(policy: Policy, folder: Path, gold: list[VotedComparison]) -> float:
    """Of a preference model trained on the dataset, on pairs whose better reply is known."""
    train = [
        VotedComparison(one.messages, one.replies, one.objective, one.label, one.weight)
        for one in datasets.read(folder)
        if all(reply.strip() for reply in one.replies)
    ]
    model = train_preference_model(policy, train, PREFERENCE, seed=0)
    scored = score_comparisons(model, policy, gold, PREFERENCE)
    right = 0
    for row, one in enumerate(gold):
        objective = model.shape.objectives.index(one.objective)
        margin = scored.scores_C_2_O[row, 0, objective] - scored.scores_C_2_O[row, 1, objective]
        right += bool(margin > 0) == (one.label > 0.5)
    return right / len(gold)


def gold_pairs(policy: Policy) -> list[VotedComparison]:
    prompts = held_out_prompts() * 3
    rng = random.Random(9)
    found = []
    for prompt, pair in zip(prompts, replies(policy, prompts, 77), strict=True):
        objective = crew.draw_objective(prompt, rng)
        difference = better(prompt, pair, objective)
        if abs(difference) > 1e-9 and all(reply.strip() for reply in pair):
            found.append(VotedComparison(prompt.messages, pair, objective, float(difference > 0)))
    return found


def test_a_fifth_of_attackers_is_withstood_with_the_defences_and_not_without(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    policy = load_policy(WEIGHTS, device="cpu")
    rng = random.Random(0)
    prompts = [rng.choice(training_prompts()) for _ in range(PAIRS)]
    pairs = replies(policy, prompts, 5)
    gold = gold_pairs(policy)
    accuracies = {}
    for name, attacked, settings in (
        ("calm", False, SETTINGS),
        ("defended", True, SETTINGS),
        ("undefended", True, UNDEFENDED),
    ):
        store = Store(f"sqlite:///{tmp_path / name}.db")
        store.migrate()
        cast_all(store, prompts, pairs, attacked)
        outliers = rater_watch.watch(store, settings)
        if name == "defended":
            assert len(outliers) == ATTACKERS
        accuracies[name] = accuracy(policy, store.read(datasets.freeze, tmp_path / name, settings).folder, gold)
        store.close()
    print(accuracies, len(gold))
    assert accuracies["defended"] >= accuracies["calm"] - 0.03
    assert accuracies["undefended"] < accuracies["calm"] - 0.03
