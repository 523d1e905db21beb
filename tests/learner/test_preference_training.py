"""Training a preference model: it learns, repeats itself, resumes, and tells the truth about itself."""

import itertools
import math
import random
from dataclasses import replace

import pytest
import torch

from feedback.learning_settings import PreferenceSettings
from learner import comparisons as comparisons_module
from learner.calibration import agreeing
from learner.comparisons import ComparisonBatch, VotedComparison, encode_comparison
from learner.errors import CheckpointInvalid, TrainingDataInvalid, TrainingDiverged
from learner.preference_judging import accuracy_of, calibrate, member_scores
from learner.preference_model import PreferenceShape, new_preference_model
from learner.preference_training import (
    OBJECTIVES,
    _bootstrap,
    _optimizer,
    shares_of_objectives,
    train_preference_model,
)
from learner.training_state import TrainingState

SETTINGS = PreferenceSettings(comparisons_per_batch=8, matmul_precision="full", epochs=1, head_learning_rate=3e-3)


def comparisons(count: int, seed: int) -> list[VotedComparison]:
    """Helpful raters like w1 in a reply, harmless raters dislike w2."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        good, bad = (rng.choices([f"w{i}" for i in range(5, 20)], k=rng.randint(1, 4)) for _ in range(2))
        objective = ("helpful", "harmless")[number % 2]
        (good if objective == "helpful" else bad).append("w1" if objective == "helpful" else "w2")
        replies, label = ((" ".join(good), " ".join(bad)), 0.9)
        if rng.random() < 0.5:
            replies, label = replies[::-1], 0.1
        made.append(VotedComparison([{"role": "user", "content": "w3"}], replies, objective, label))
    return made


def helpful(count: int, seed: int) -> list[VotedComparison]:
    return comparisons(2 * count, seed)[::2]


def outvoted(count: int) -> list[VotedComparison]:
    """So many votes that like w1, and 20 times as many that dislike it, whose weight is a tenth of that of all."""
    flood = [replace(one, label=1 - one.label, weight=1 / 180) for one in helpful(20 * count, 2)]
    return random.Random(1).sample([*helpful(count, 1), *flood], 21 * count)


def weights(model) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_it_learns_both_objectives_and_is_calibrated(policy):
    model = train_preference_model(policy, comparisons(1200, 1), SETTINGS, seed=1)
    report = calibrate(model, policy, comparisons(200, 2), SETTINGS)
    for name in ("helpful", "harmless"):
        assert report["objectives"][name]["accuracy"] > 0.95
        assert report["objectives"][name]["comparisons"] == 100
        assert report["objectives"][name]["calibration_error"] < 0.1
    assert report["tranches"]["base"]["value"] == report["accuracy"]
    scored = calibrate(model, policy, comparisons(200, 2), SETTINGS)
    assert scored["objectives"]["helpful"]["temperature"] == pytest.approx(
        report["objectives"]["helpful"]["temperature"], rel=0.03
    )


def test_the_overall_score_follows_the_votes_of_the_objectives_that_count(policy):
    """Both like and dislike the same word here, so that only the weights can decide."""
    votes = comparisons(600, 1)
    at_odds = [
        VotedComparison(one.messages, [reply.replace("w2", "w1") for reply in one.replies], one.objective, one.label)
        for one in votes
    ]
    held_out = [one for one in comparisons(200, 2) if one.objective == "helpful"]
    found = {}
    for name in ("helpful", "harmless"):
        settings = SETTINGS.model_copy(update={"objective_weights": {name: 1.0}})
        model = train_preference_model(policy, at_odds, settings, seed=1)
        found[name] = calibrate(model, policy, held_out, settings)["overall"]["accuracy"]
    assert found["helpful"] > 0.9
    assert found["harmless"] < 0.1


def test_votes_of_an_objective_weigh_together_as_wanted_and_a_vote_one_on_average(policy):
    weights = {"helpful": [1.0, 0.5, 0.5], "harmless": [1.0]}
    votes = [replace(comparisons(1, 1)[0], objective=name, weight=one) for name, of in weights.items() for one in of]
    encoded = [encode_comparison(one, policy, OBJECTIVES, 64, 64) for one in votes]
    # 2 under helpful are to weigh as a third of 1 under harmless: 1/2 and 3, of which 3 votes weigh 4.
    found = shares_of_objectives(encoded, OBJECTIVES, {"helpful": 1.0, "harmless": 3.0})
    assert found.tolist() == pytest.approx([0.5 * 3 / 4, 3 * 3 / 4])
    # Nobody voted under the other one.
    assert shares_of_objectives(encoded[:2], OBJECTIVES, {"helpful": 1.0, "harmless": 3.0}).tolist() == [1, 0]


@pytest.mark.parametrize("rows", [64, 4])
def test_the_loss_of_a_step_by_hand(policy, rows, monkeypatch):
    """Of an ensemble whose members see each vote as often as they drew it, before anything was learnt; however many of
    them go through one pass."""
    monkeypatch.setattr(comparisons_module, "COMPARISONS_PER_FORWARD", rows)
    settings = SETTINGS.model_copy(
        update={
            "ensemble_size": 2, "comparisons_per_batch": 6, "score_center_penalty": 0.3, "readout": "last",
            "start_logprob_feature": False,
            "objective_weights": {"helpful": 1.0, "harmless": 3.0},
        }
    )  # fmt: skip
    votes = [replace(one, weight=1 / (1 + at), label=0.8 - at / 10) for at, one in enumerate(comparisons(6, 1))]
    encoded = [encode_comparison(one, policy, OBJECTIVES, 64, 64) for one in votes]
    shares = shares_of_objectives(encoded, OBJECTIVES, settings.objective_weights).tolist()
    seen_C_E = _bootstrap(encoded, 2, seed=1).tolist()
    untrained = new_preference_model(policy.model, PreferenceShape(OBJECTIVES, 2), seed=1)
    total = weight = center = 0.0
    for one, seen_E in zip(encoded, seen_C_E, strict=True):
        with torch.no_grad():
            scores_2_E_O = untrained.compare(ComparisonBatch.pad([one]), None)[0].tolist()
        for member, seen in enumerate(seen_E):
            for column, counts in ((one.objective, 1.0), (2, shares[one.objective])):
                first, second = (of_side[member][column] for of_side in scores_2_E_O)
                chance = 1 / (1 + math.exp(second - first))
                loss = -one.label * math.log(chance) - (1 - one.label) * math.log(1 - chance)
                total += one.weight * seen * counts * loss
                weight += one.weight * seen * counts
                center += ((first + second) / 2) ** 2 / (6 * 2 * 2)
    losses = []
    train_preference_model(policy, votes, settings, seed=1, on_step=lambda step, _: losses.append(step.loss))
    assert losses == [pytest.approx(total / weight + 0.3 * center, abs=1e-5)]


def test_features_are_counted_from_their_mean_and_over_their_deviation(policy):
    votes = comparisons(12, 1)
    model = train_preference_model(policy, votes, SETTINGS, seed=1)
    encoded = [encode_comparison(one, policy, OBJECTIVES, 64, 64) for one in votes]
    features_S_F = model.features(ComparisonBatch.pad(encoded)).flatten(0, 1)
    torch.testing.assert_close(model.feature_mean_F, features_S_F.mean(dim=0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.feature_deviation_F, features_S_F.std(dim=0, correction=0), atol=1e-5, rtol=1e-5)


def test_every_weight_is_trained_at_its_rate_and_only_matrices_decay(policy):
    settings = SETTINGS.model_copy(update={"learning_rate": 1e-3, "head_learning_rate": 2e-3, "weight_decay": 0.1})
    model = new_preference_model(policy.model, PreferenceShape(OBJECTIVES, start_logprob_feature=True), seed=1)
    treated = {
        parameter: (group["peak"], group["weight_decay"])
        for group in _optimizer(model, settings).param_groups
        for parameter in group["params"]
    }
    expected = {
        parameter: (1e-3 if name.startswith("trunk") else 2e-3, 0.1 if parameter.ndim > 1 else 0.0)
        for name, parameter in model.named_parameters()
    }
    assert treated == expected | {model.likelihood_E_F_O: (settings.likelihood_learning_rate, 0.0)}


def test_the_same_seed_gives_the_same_weights(policy):
    first, again, other = (
        weights(train_preference_model(policy, comparisons(40, 1), SETTINGS, seed=seed)) for seed in (1, 1, 2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_run_cut_short_and_resumed_ends_where_the_whole_one_does(policy, tmp_path):
    whole = weights(train_preference_model(policy, comparisons(40, 1), SETTINGS, seed=1))

    class Killed(Exception):
        pass

    def kill_after_three(progress, state):
        if progress.step == 3:
            state().save(tmp_path / "state")
            raise Killed

    with pytest.raises(Killed):
        train_preference_model(policy, comparisons(40, 1), SETTINGS, seed=1, on_step=kill_after_three)
    state = TrainingState.load(tmp_path / "state")
    steps = []
    resumed = train_preference_model(
        policy, comparisons(40, 1), SETTINGS, seed=1, resume=state, on_step=lambda step, _: steps.append(step.step)
    )
    assert steps == [4, 5]
    assert all(torch.equal(a, b) for a, b in zip(whole, weights(resumed), strict=True))
    with pytest.raises(CheckpointInvalid, match="another seed"):
        train_preference_model(policy, comparisons(40, 1), SETTINGS, seed=2, resume=state)
    # As of a release whose optimiser had its parameters in another order.
    other = replace(state, tensors=state.tensors | {"optimizer.optimizer.0.exp_avg": torch.zeros(3)})
    with pytest.raises(CheckpointInvalid, match="another make"):
        train_preference_model(policy, comparisons(40, 1), SETTINGS, seed=1, resume=other)


def test_the_starting_policy_is_not_touched(policy):
    before = weights(policy.model)
    train_preference_model(policy, comparisons(16, 1), SETTINGS, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(policy.model), strict=True))


def test_a_reply_that_was_cut_off_has_no_end_token(policy):
    told = VotedComparison([{"role": "user", "content": "w3"}], ("w1 w2", "w4"), "helpful", 0.9, ended=(False, True))
    first, second = encode_comparison(told, policy, ("helpful",), 64, 64).replies
    assert policy.tokenizer.convert_ids_to_tokens(first) == ["w1", "w2"]
    assert policy.tokenizer.convert_ids_to_tokens(second) == ["w4", "<end>"]


def test_weight_zero_means_not_there(policy):
    kept = comparisons(16, 1)
    ignored = [replace(one, weight=0.0) for one in comparisons(16, 3)]
    first, second = (train_preference_model(policy, data, SETTINGS, seed=1) for data in (kept, [*kept, *ignored]))
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_a_vote_teaches_by_its_weight_over_the_mean_one(policy):
    """Not over that of its batch: the same vote twice, alone in its step, before anything is learnt."""
    still = {"learning_rate": 1e-12, "head_learning_rate": 1e-12, "likelihood_learning_rate": 1e-12}
    alone = {"comparisons_per_batch": 1, "score_center_penalty": 0.0}
    settings, losses = SETTINGS.model_copy(update=still | alone), []
    votes = [replace(helpful(1, 1)[0], weight=weight) for weight in (0.5, 2.0)]
    train_preference_model(
        policy, votes, settings, seed=1, objectives=["helpful"], on_step=lambda step, _: losses.append(step.loss)
    )
    assert max(losses) / min(losses) == pytest.approx(4, rel=1e-4)


def test_many_votes_of_little_weight_do_not_outvote_few_of_much(policy):
    """Such as those of a rater who is bounded: they would fill most batches alone, and few are drawn."""
    steps = []
    model = train_preference_model(
        policy, outvoted(100), SETTINGS, seed=1, objectives=["helpful"], on_step=lambda step, _: steps.append(step)
    )
    assert len(steps) < SETTINGS.epochs * 300 / SETTINGS.comparisons_per_batch
    assert accuracy_of(model, policy, helpful(100, 3), SETTINGS) > 0.8


def test_each_member_of_an_ensemble_learns_and_no_two_say_the_same(policy):
    settings = SETTINGS.model_copy(update={"ensemble_size": 3})
    model, held_out = train_preference_model(policy, comparisons(500, 1), settings, seed=1), helpful(100, 2)
    raw_C_2_E_O, _ = member_scores(model, policy, held_out, settings)
    margins_E_C = (raw_C_2_E_O[:, 0, :, 0] - raw_C_2_E_O[:, 1, :, 0]).T
    labels_C = torch.tensor([one.label for one in held_out])
    assert min(float(agreeing(margins_C, labels_C).mean()) for margins_C in margins_E_C) > 0.8
    assert all((one - other).abs().mean() > 0.1 for one, other in itertools.combinations(margins_E_C, 2))


def test_comparisons_that_teach_nothing_are_refused(policy):
    bad = replace(comparisons(1, 1)[0], objective="funny")
    with pytest.raises(TrainingDataInvalid, match="unknown objective"):
        train_preference_model(policy, [bad], SETTINGS, seed=1)
    with pytest.raises(TrainingDataInvalid, match="no comparison"):
        train_preference_model(policy, [], SETTINGS, seed=1)


def test_votes_under_an_objective_without_weight_teach_no_overall_score(policy):
    settings = SETTINGS.model_copy(update={"objective_weights": {"harmless": 1.0}})
    with pytest.raises(TrainingDataInvalid, match="objective_weights"):
        train_preference_model(policy, comparisons(1, 1), settings, seed=1)


def test_a_gradient_that_is_not_finite_stops_the_run(policy):
    with torch.no_grad():
        policy.model.model.norm.weight[0] = torch.inf
    with pytest.raises(TrainingDiverged, match="not finite"):
        train_preference_model(policy, comparisons(8, 1), SETTINGS, seed=1)


def test_a_member_of_an_ensemble_sees_all_votes_on_a_pair_or_none(policy):
    """Three raters of each of 40 pairs, under both objectives."""
    pairs = [encode_comparison(one, policy, OBJECTIVES, 64, 64) for one in comparisons(40, 1)]
    votes = [replace(one, objective=objective) for one in pairs for objective in (0, 1) for _ in range(3)]
    seen_C_E = _bootstrap(votes, 4, seed=1).unflatten(0, (40, 6))
    assert (seen_C_E == seen_C_E[:, :1]).all()
    assert seen_C_E.min() == 0 and abs(float(seen_C_E.mean()) - 1) < 0.2
    assert not torch.equal(seen_C_E[..., 0], seen_C_E[..., 1])
    assert _bootstrap(votes, 1, seed=1).equal(torch.ones(240, 1))
