"""The preference model: shared prompts, the end of the reply, the ensemble, likelihood features, files."""

import json
import math

import pytest
import torch

from learner.comparisons import ComparisonBatch, EncodedComparison
from learner.errors import CheckpointInvalid
from learner.language_model import reply_logprobs
from learner.number_format import forward_passes
from learner.preference_model import (
    PreferenceModel,
    PreferenceShape,
    likelihood_features,
    load_preference_model,
    new_preference_model,
    save_preference_model,
)
from learner.sequences import Episodes
from tests.learner.conftest import random_llama

COMPARISONS = [
    EncodedComparison([5, 6, 7], ([8, 9, 1], [10, 1]), 0, 1.0, 1.0),
    EncodedComparison([5], ([11, 1], [12, 13, 14, 15, 1]), 1, 0.5, 2.0),
]
OBJECTIVES = ("helpful", "harmless")


def model_of(ensemble_size=1, feature=True, pessimism=0.0, readout="last") -> PreferenceModel:
    shape = PreferenceShape(OBJECTIVES, ensemble_size, 8, feature, pessimism, readout)
    model = new_preference_model(random_llama(), shape, seed=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("likelihood"):
                parameter.normal_()
    return model


def side(number: int) -> Episodes:
    return Episodes.pad([one.prompt for one in COMPARISONS], [one.replies[number] for one in COMPARISONS])


@torch.no_grad()
def test_what_ppo_raises_is_not_rounded_where_models_compute_in_bf16():
    model, weights = model_of(), {"helpful": 0.7, "overall": 0.3}
    model.scale_O.copy_(torch.tensor([0.3, 2.0, 7.0]))
    scores_B_O = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    with forward_passes("bf16", torch.device("cpu")):
        rewards_B = model.combine(scores_B_O, weights)
    assert torch.equal(rewards_B, model.combine(scores_B_O, weights))


@torch.no_grad()
def test_what_length_adds_is_taken_out_of_single_replies_and_of_pairs_alike():
    model = model_of()
    batch = ComparisonBatch.pad(COMPARISONS)
    before_C_2_O, alone_B_O = model.compare(batch, model.features(batch))[:, :, 0], model.score(side(0))
    model.length_slope_O.copy_(torch.tensor([0.5, 0.0, -1.0]))
    lengths_C_2 = torch.tensor([[len(reply) for reply in one.replies] for one in COMPARISONS])
    expected_C_2_O = before_C_2_O - lengths_C_2[..., None] * model.length_slope_O
    torch.testing.assert_close(model.compare(batch, model.features(batch))[:, :, 0], expected_C_2_O)
    torch.testing.assert_close(model.score(side(0)), alone_B_O - lengths_C_2[:, :1] * model.length_slope_O)


@pytest.mark.parametrize("readout", ["last", "mean"])
@torch.no_grad()
def test_the_states_of_one_pass_score_the_replies_and_know_nothing_of_what_follows(readout):
    model, replies = model_of(readout=readout), side(1)
    before_N_D, read_M_D = model.states(replies)
    torch.testing.assert_close(model.score(replies, None, read_M_D), model.score(replies))
    # Of the second row, whose reply is the longer, all tokens from the third on are others.
    changed = Episodes.pad([[5, 6, 7], [5]], [[10, 1], [12, 13, 3, 4, 2]])
    others_N_D, _ = model.states(changed)
    same_N = torch.tensor([True, True, True, True, True, False, False])
    assert torch.isclose(before_N_D, others_N_D).all(dim=1).tolist() == same_N.tolist()


@pytest.mark.parametrize("readout", ["last", "mean"])
@pytest.mark.parametrize("feature", [True, False])
@torch.no_grad()
def test_a_pair_with_a_shared_prompt_scores_as_its_replies_alone(feature, readout):
    model = model_of(3, feature, readout=readout)
    batch = ComparisonBatch.pad(COMPARISONS)
    together_C_2_O = model.aggregate(model.compare(batch, model.features(batch)).flatten(0, 1)).unflatten(0, (2, 2))
    for number in (0, 1):
        torch.testing.assert_close(together_C_2_O[:, number], model.score(side(number)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("readout", ["last", "mean"])
@torch.no_grad()
def test_a_score_belongs_to_the_reply_and_not_to_padding(readout):
    model = model_of(readout=readout)
    alone = model.score(Episodes.pad([[5, 6, 7]], [[8, 9, 1]]))
    padded = model.score(Episodes.pad([[5, 6, 7], [5]], [[8, 9, 1], [9] * 20]))
    torch.testing.assert_close(alone[0], padded[0], atol=1e-5, rtol=1e-5)
    other_end = model.score(Episodes.pad([[5, 6, 7]], [[8, 9, 2]]))
    assert not torch.allclose(alone, other_end)


@torch.no_grad()
def test_the_mean_readout_is_the_mean_over_reply_tokens():
    model = model_of(feature=False, readout="mean")
    hidden = model.trunk(input_ids=torch.tensor([[5, 6, 7, 8, 9, 1]])).last_hidden_state[0]
    expected = model.aggregate(model.member_scores(hidden[3:].mean(dim=0)[None], None, torch.tensor([3])))
    torch.testing.assert_close(model.score(Episodes.pad([[5, 6, 7]], [[8, 9, 1]])), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_known_logprobs_of_the_start_spare_a_pass_and_change_nothing():
    model, episodes = model_of(), side(1)
    known_N = reply_logprobs(model.start, episodes)
    torch.testing.assert_close(model.score(episodes, known_N), model.score(episodes))


def test_likelihood_features_by_hand():
    logprobs = torch.tensor([[-1.0, -3.0, -9.0], [-2.0, -9.0, -9.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert likelihood_features(logprobs, mask).tolist() == [[-2.0, -3.0], [-2.0, -2.0]]


@torch.no_grad()
def test_raw_scores_are_what_the_heads_say_one_by_one():
    """Of two members with eight hidden units each: their own part of the first layer, and of both features."""
    model = model_of(2)
    model.length_slope_O.copy_(torch.tensor([0.1, 0.0, -0.2]))
    model.feature_mean_F.copy_(torch.tensor([-2.0, -5.0]))
    model.feature_deviation_F.copy_(torch.tensor([0.5, 3.0]))
    generator = torch.Generator().manual_seed(1)
    hidden, features = torch.randn(3, 32, generator=generator), torch.randn(3, 2, generator=generator)
    lengths = torch.tensor([4, 1, 9])
    found = model.member_scores(hidden, features, lengths)
    for row in range(3):
        standard = (float(features[row, 0]) + 2) / 0.5, (float(features[row, 1]) + 5) / 3
        for member in range(2):
            for column in range(3):
                expected = -int(lengths[row]) * float(model.length_slope_O[column])
                for unit in range(8):
                    place = 8 * member + unit
                    inner = float(model.head_in.weight[place] @ hidden[row] + model.head_in.bias[place])
                    expected += inner / (1 + math.exp(-inner)) * float(model.head_out_E_H_O[member, unit, column])
                for place, value in enumerate(standard):
                    expected += value * float(model.likelihood_E_F_O[member, place, column])
                assert float(found[row, member, column]) == pytest.approx(expected, abs=1e-4)


def test_the_ensemble_is_aggregated_with_pessimism_centre_and_temperature():
    model = model_of(2, pessimism=0.5)
    model.center_O.copy_(torch.tensor([1.0, 0.0, 0.0]))
    model.temperature_O.copy_(torch.tensor([2.0, 1.0, 1.0]))
    scores_1_2_3 = torch.tensor([[[3.0, 1.0, 2.0], [7.0, 1.0, 4.0]]])
    assert model.aggregate(scores_1_2_3).tolist() == [[(5 - 0.5 * 2 - 1) / 2, 1.0, 3 - 0.5 * 1]]


def test_scores_combine_each_over_its_own_deviation():
    model = model_of()
    model.scale_O.copy_(torch.tensor([2.0, 1.0, 4.0]))
    scores_1_3 = torch.tensor([[2.0, 1.0, 6.0]])
    assert model.combine(scores_1_3, {"helpful": 1, "harmless": 2}).tolist() == pytest.approx([2 / 2 * 1 + 1 / 1 * 2])
    assert model.combine(scores_1_3, {"overall": 1.0}).tolist() == pytest.approx([1.5])
    model.anchor_O.copy_(torch.tensor([0.0, 0.0, 2.0]))
    assert model.combine(scores_1_3, {"overall": 1.0}).tolist() == pytest.approx([(6 - 2) / 4])


def test_the_starting_policy_is_no_part_of_it():
    model = model_of()
    assert all(parameter is not own for parameter in model.parameters() for own in model.start.parameters())
    assert not any("start" in name for name in model.state_dict())


@torch.no_grad()
def test_saved_and_loaded_it_scores_the_same(tmp_path):
    model = model_of(2, pessimism=0.3)
    save_preference_model(model, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix not in {".json", ".safetensors"}]
    loaded = load_preference_model(tmp_path, model.start)
    assert loaded.shape == model.shape
    torch.testing.assert_close(loaded.score(side(0)), model.score(side(0)))


def test_loading_says_what_is_wrong(tmp_path):
    model = model_of()
    save_preference_model(model, tmp_path)
    with pytest.raises(CheckpointInvalid, match="starting policy"):
        load_preference_model(tmp_path, None)
    about = json.loads((tmp_path / "preference.json").read_text())
    (tmp_path / "preference.json").write_text(json.dumps({**about, "head_width": 9}))
    with pytest.raises(CheckpointInvalid, match="not a preference model"):
        load_preference_model(tmp_path, model.start)
    (tmp_path / "preference.json").unlink()
    with pytest.raises(CheckpointInvalid):
        load_preference_model(tmp_path, model.start)
