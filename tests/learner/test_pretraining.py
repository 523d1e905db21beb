"""Ranked pairs from a file and from the record, and what learning from them first is good for."""

import gzip
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from benchmarks.learning_in_the_sandbox import simulate_votes
from feedback.errors import InvalidRequest
from feedback.examples import CutOffExample, Example, split_of
from feedback.learning_settings import PreferenceSettings, PretrainingSettings
from feedback.sandbox.world import find
from feedback.settings import FeedbackSettings
from learner.comparisons import VotedComparison
from learner.policy import load_policy
from learner.preference_judging import accuracy_of, calibrate, score_comparisons
from learner.preference_training import train_preference_model
from learner.pretraining import RANKED, ranked_pairs
from learner.starting_policy import WEIGHTS
from tests.learner.test_preference_training import SETTINGS, comparisons

FEEDBACK = FeedbackSettings()


def ranked_file(folder: Path, count: int) -> Path:
    lines = [
        {
            "prompt": [{"role": "user", "content": f"Question {number}"}],
            "chosen": [{"role": "assistant", "content": "good"}],
            "rejected": [{"role": "assistant", "content": "bad"}],
        }
        for number in range(count)
    ]
    path = folder / "ranked.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in [*lines, {"chosen": []}]).encode()))
    return path


def test_a_file_is_read_and_held_out_prompts_are_left_out(tmp_path: Path) -> None:
    settings = PretrainingSettings(file=ranked_file(tmp_path, 200), heldout_one_in=10, label=0.75)
    pairs = ranked_pairs(settings, [], FEEDBACK)
    assert (pairs.set_aside, len(pairs.train) + len(pairs.held_out) + pairs.left_out) == (1, 200)
    asked = [one.messages for one in (*pairs.train, *pairs.held_out)]
    assert all(split_of(messages, FEEDBACK) == "train" for messages in asked)
    assert pairs.left_out > 0
    assert 10 <= len(pairs.held_out) <= 20
    assert {one.replies.index("good") for one in pairs.train} == {0, 1}
    assert all(one.label == (0.75 if one.replies[0] == "good" else 0.25) for one in pairs.train)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        ranked_pairs(PretrainingSettings(file=tmp_path / "nothing"), [], FEEDBACK)


def test_the_record_gives_rewrites_and_imported_pairs() -> None:
    vote = Example(
        "vot_1", 1, "vote", "cmp_1", "rat_1", "helpful", "train", "base", [{"role": "user", "content": "Hi"}],
        ("a", "b"), ("v0", "v1"), 0.9, 1.0,
    )  # fmt: skip
    rewrite = replace(vote, kind="rewrite", replies=("better", "b"), versions=(None, "v1"), weight=0.5)
    imported = replace(vote, replies=("c", "d"), versions=(None, None), label=0.3)
    # A text that says nothing teaches nothing.
    blank = replace(imported, replies=("c", " "))
    cut_off = CutOffExample(*(getattr(imported, field.name) for field in fields(imported)), ended=(True, False))
    better = VotedComparison(vote.messages, ("better", "b"), RANKED, 0.9, 0.5)
    public = VotedComparison(vote.messages, ("c", "d"), RANKED, 0.3)
    for wanted, found in (
        (["rewrites"], [better]),
        (["imported"], [public, replace(public, ended=(True, False))]),
        (["rewrites", "imported"], [better, public, replace(public, ended=(True, False))]),
    ):
        settings = PretrainingSettings(from_record=wanted)
        assert ranked_pairs(settings, [vote, rewrite, imported, blank, cut_off], FEEDBACK).train == found


def test_every_score_begins_as_the_ranked_one(policy):
    ranked = [replace(one, objective=RANKED) for one in comparisons(300, 1) if one.objective == "helpful"]
    only = SETTINGS.model_copy(update={"objective_weights": {RANKED: 1.0}})
    before = train_preference_model(policy, ranked, only, seed=1, objectives=[RANKED])
    held_out = [one for one in comparisons(100, 2) if one.objective == "helpful"]
    assert accuracy_of(before, policy, [replace(one, objective=RANKED) for one in held_out], SETTINGS) > 0.8
    few = [one for one in comparisons(8, 3) if one.objective == "helpful"]
    barely = SETTINGS.model_copy(update={"learning_rate": 1e-9, "head_learning_rate": 1e-9})
    found = [
        accuracy_of(train_preference_model(policy, few, barely, seed=1, before=one), policy, held_out, SETTINGS)
        for one in (None, before)
    ]
    assert found[1] > 0.8 > found[0]
    trunk = (next(model.parameters()).detach() for model in (before.trunk, policy.model.base_model))
    assert not torch.equal(*trunk)


def test_what_ranked_text_said_of_a_replys_likelihood_is_not_changed_by_how_likely_the_voted_replies_are(policy):
    """Likelihood is counted over its deviation, which is another one among the votes."""
    ranked = [replace(one, objective=RANKED) for one in comparisons(60, 1)]
    only = SETTINGS.model_copy(update={"objective_weights": {RANKED: 1.0}})
    before = train_preference_model(policy, ranked, only, seed=1, objectives=[RANKED])
    rates = ("learning_rate", "head_learning_rate", "likelihood_learning_rate")
    barely = SETTINGS.model_copy(update=dict.fromkeys(rates, 1e-12))
    # Likelier and less likely ones are further from each other here.
    few = [replace(one, replies=(one.replies[0], "w1 " * 30)) for one in comparisons(8, 3)]
    begun = train_preference_model(policy, few, barely, seed=1, before=before)
    assert (begun.feature_deviation_F / before.feature_deviation_F - 1).abs().max() > 0.1
    held_out = comparisons(20, 2)
    found = [
        score_comparisons(model, policy, [replace(one, objective=name) for one in held_out], SETTINGS).scores_C_2_O
        for model, name in ((before, RANKED), (begun, "helpful"))
    ]
    margins = [(scores[:, 0] - scores[:, 1])[:, -1] for scores in found]
    torch.testing.assert_close(margins[0], margins[1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_with_few_votes_pretraining_finds_more_of_what_voters_prefer():
    """The overall score, with 60 votes, mean over seeds: ranked text here is what an earlier crowd said."""
    start, settings, gains = load_policy(WEIGHTS, "cpu"), PreferenceSettings(), []
    for seed in (1, 2, 3):
        votes = simulate_votes(start, 1200, seed)
        ranked = [
            replace(vote, objective=RANKED)
            for vote in simulate_votes(start, 2000, seed + 100)
            if vote.objective == ("harmless" if find(vote.messages).harmful else "helpful")
        ]
        first = settings.model_copy(update={"epochs": 1, "objective_weights": {RANKED: 1.0}})
        before = train_preference_model(start, ranked, first, seed=seed, objectives=[RANKED])
        plain, begun = (
            calibrate(
                train_preference_model(start, votes[:60], settings, seed=seed, before=one), start, votes[200:], settings
            )["overall"]["accuracy"]
            for one in (None, before)
        )
        gains.append(begun - plain)
    assert sum(gains) / len(gains) > 0.02
