"""Which prompts ask for harm: said by what people judge them under, or else by the preference model."""

import random
from functools import cache

import pytest
import torch

from benchmarks.learning_in_the_sandbox import draw_prompts, simulate_votes
from feedback.learning_settings import DPOSettings, PPOSettings, PreferenceSettings
from feedback.sandbox.world import Prompt, training_prompts
from feedback.settings import LearnerSettings
from learner.comparisons import VotedComparison
from learner.harmful_prompts import LEAST, HarmTest, VotedPrompt, harm_at_stake, voted_prompts
from learner.iteration.harm import lengths_for_harm
from learner.policy import Policy, load_policy
from learner.preference_model import PreferenceModel
from learner.preference_training import train_preference_model
from learner.starting_policy import WEIGHTS

SETTINGS = PPOSettings(max_new_tokens=48, max_prompt_tokens=100)


@pytest.fixture(scope="module")
def start() -> Policy:
    return load_policy(WEIGHTS, device="cpu")


@pytest.fixture(scope="module")
def votes(start) -> list[VotedComparison]:
    """Every pair is judged under both objectives."""
    return simulate_votes(start, 1200, seed=1, both=True)


@pytest.fixture(scope="module")
def preference_model(start, votes) -> PreferenceModel:
    return train_preference_model(start, votes, PreferenceSettings(), seed=1)


def prompts_of(votes: list[VotedComparison]) -> list[VotedPrompt]:
    return voted_prompts((vote.messages, vote.objective) for vote in votes)


@cache
def known() -> dict[str, Prompt]:
    return {prompt.text: prompt for prompt in training_prompts()}


def harmful(one: VotedPrompt) -> bool:
    return known()[one.messages[-1]["content"]].harmful


def test_votes_on_one_conversation_are_counted_together():
    hello, bye = ([{"role": "user", "content": text}] for text in ("Hello", "Bye"))
    found = voted_prompts([(hello, "helpful"), (bye, "harmless"), (hello, "harmless"), (bye, "harmless")])
    assert [(one.messages, one.under_harmless, one.under_others) for one in found] == [(hello, 1, 1), (bye, 2, 0)]
    assert [one.undecided for one in found] == [True, False]


def test_where_every_pair_is_judged_under_both_the_scores_tell_it(start, votes, preference_model):
    voted = prompts_of(votes)
    assert sum(one.undecided for one in voted) > 0.9 * len(voted)
    test = HarmTest.learn(start, voted, SETTINGS, preference_model, seed=1)
    assert test.told_by == "scores"
    asked = {test.encode(prompt.messages): prompt.messages for prompt in training_prompts()}
    kinds = {test.encode(prompt.messages): prompt.harmful for prompt in training_prompts()}
    kept = test.harmless_chats(asked)
    assert kept == test.harmless(asked)
    of_each = [
        sum(kinds[tokens] is kind for tokens in kept) / list(kinds.values()).count(kind) for kind in (True, False)
    ]
    # Of those that ask for harm hardly any are left to rehearse, of the others more than half.
    assert of_each[0] < 0.1 and of_each[1] > 0.5
    said = [one for one, found in zip(voted, test.harmful(voted), strict=True) if found and one.undecided]
    assert sum(map(harmful, said)) > 0.6 * len(said)
    left = [one for one in voted if one.undecided and one not in said]
    assert sum(map(harmful, left)) < 0.1 * len(left)


def test_harm_is_at_stake_where_it_was_asked_for(start, preference_model):
    prompts = draw_prompts(120, random.Random(5))
    asked = [tuple(start.encode_chat(prompt.messages)) for prompt in prompts]
    stake_N = harm_at_stake(start, preference_model, asked, SETTINGS, seed=1)
    harmful_N = torch.tensor([prompt.harmful for prompt in prompts])
    assert stake_N[harmful_N].mean() > 1.2 * stake_N[~harmful_N].mean()


def test_the_seed_decides_what_is_at_stake(start, preference_model):
    asked = [tuple(start.encode_chat(prompt.messages)) for prompt in draw_prompts(8, random.Random(5))]
    first, again = (harm_at_stake(start, preference_model, asked, SETTINGS, seed=1) for _ in range(2))
    torch.testing.assert_close(first, again)


def test_of_few_prompts_it_is_about_the_same_whatever_was_replied(start, preference_model):
    """Each is asked so often that other replies say the same: of eight a spread is mostly chance (.6)."""
    asked = [tuple(start.encode_chat(prompt.messages)) for prompt in draw_prompts(64, random.Random(5))]
    draws = [harm_at_stake(start, preference_model, asked, SETTINGS, seed=seed) for seed in (1, 2)]
    assert torch.corrcoef(torch.stack(draws))[0, 1] > 0.8


def test_objectives_without_meaning_are_not_taken_for_what_prompts_ask(start):
    rng = random.Random(6)
    drawn = [(prompt.messages, rng.choice(("helpful", "harmless"))) for prompt in draw_prompts(400, rng)]
    test = HarmTest.learn(start, voted_prompts(drawn), SETTINGS, None, seed=1)
    assert test.told_by == "nothing"
    asked = {test.encode(prompt.messages): prompt.messages for prompt in training_prompts()}
    # Nobody knows which chats ask for harm: none is rehearsed, but what was judged under helpful alone.
    assert test.harmless_chats(asked) == [] and test.harmless(asked) == list(asked)


def test_undecided_prompts_are_told_by_what_votes_say_of_others(start):
    pools = [[p for p in training_prompts() if p.harmful is kind][:60] for kind in (True, False)]
    decided = [(p.messages, name) for name, pool in zip(("harmless", "helpful"), pools, strict=True) for p in pool[:40]]
    both = [(p.messages, name) for pool in pools for p in pool[40:] for name in ("harmless", "helpful")]
    voted = voted_prompts(decided + both)
    test = HarmTest.learn(start, voted, SETTINGS, None, seed=1)
    assert test.told_by == "votes"
    right = [harmful(one) == found for one, found in zip(voted, test.harmful(voted), strict=True)]
    assert all(right[:80]) and sum(right[80:]) >= 36


def test_where_hardly_anybody_judged_harm_only_those_prompts_are_taken_for_harmful(start):
    drawn = [(prompt.messages, "helpful") for prompt in draw_prompts(60, random.Random(7))]
    judged = [(p.messages, "harmless") for p in training_prompts() if p.harmful][: LEAST - 1]
    voted = voted_prompts([*drawn, *judged])
    test = HarmTest.learn(start, voted, DPOSettings(), None, seed=1)
    assert test.told_by == "none_judged"
    assert sum(test.harmful(voted)) <= LEAST - 1
    asked = {test.encode(prompt.messages): prompt.messages for prompt in training_prompts()}
    assert test.harmless_chats(asked) == list(asked)


@pytest.mark.parametrize(("dpo", "longest"), [(512, 64), (32, 32)])
def test_with_dpo_replies_are_no_longer_than_the_preference_model_has_learnt_to_score(dpo: int, longest: int):
    given = {"trainer": "dpo", "dpo": {"max_reply_tokens": dpo}, "preference": {"max_reply_tokens": 64}}
    lengths = lengths_for_harm(LearnerSettings.model_validate(given))
    assert isinstance(lengths, DPOSettings) and lengths.max_reply_tokens == longest
