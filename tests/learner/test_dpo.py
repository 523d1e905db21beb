"""DPO: its margins by hand, it prefers what voters prefer, resumes, and moves the built-in policy the right way."""

import copy
import math
from dataclasses import replace

import pytest
import torch

import learner.comparisons
from benchmarks.learning_in_the_sandbox import gold_figures, simulate_votes
from feedback.learning_settings import DPOSettings
from feedback.sandbox.world import find
from learner.comparisons import ComparisonBatch, EncodedComparison, encode_comparison
from learner.dpo import _accumulate, _all_reply_logprobs, _new_rehearsal, _reply_logprobs, train_dpo
from learner.errors import CheckpointInvalid, TrainingDataInvalid, TrainingDiverged
from learner.language_model import reply_logprobs
from learner.losses import dpo_margins, preference_loss
from learner.policy import load_policy
from learner.processes import ALONE
from learner.sequences import Episodes
from learner.starting_policy import WEIGHTS
from learner.trained import Trained
from learner.training_state import TrainingState
from tests.learner.conftest import END, random_llama
from tests.learner.test_ppo import equal
from tests.learner.test_preference_training import comparisons, helpful, outvoted, weights

SETTINGS = DPOSettings(comparisons_per_batch=8, matmul_precision="full", epochs=1, learning_rate=1e-2)


def test_the_loss_by_hand():
    logprobs = torch.tensor([[-1.0, -2.0], [-3.0, -1.0]])
    reference = torch.tensor([[-1.5, -1.0], [-3.0, -1.0]])
    margins = dpo_margins(logprobs, reference, beta=0.5)
    assert margins.tolist() == pytest.approx([0.5 * (0.5 - -1.0), 0.0])
    right = 1 / (1 + math.exp(-0.75))
    expected = -(0.9 * math.log(right) + 0.1 * math.log(1 - right)) + math.log(2)
    assert float(preference_loss(margins, torch.tensor([0.9, 0.5]), torch.ones(2))) == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_a_reply_is_as_likely_beside_the_other_as_alone(policy):
    encoded = [encode_comparison(one, policy, ("helpful", "harmless"), 64, 64) for one in comparisons(6, 1)]
    together_C_2 = _reply_logprobs(policy.model, ComparisonBatch.pad(encoded))
    for side in (0, 1):
        episodes = Episodes.pad([one.prompt for one in encoded], [one.replies[side] for one in encoded])
        alone_C = episodes.unpack(reply_logprobs(policy.model, episodes)).sum(dim=1)
        torch.testing.assert_close(together_C_2[:, side], alone_C, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("at_a_time", [64, 1])
def test_what_a_step_says_by_hand(policy, monkeypatch, at_a_time):
    """Of a vote for either side and a tie, each of another weight, under objectives that weigh otherwise."""
    monkeypatch.setattr(learner.comparisons, "COMPARISONS_PER_FORWARD", at_a_time)
    reference, beta, shares = random_llama(seed=1), 0.5, [0.5, 3.0]
    votes = [EncodedComparison([5, 6], ([8, END], [9, 10, END]), 0, 0.9, 1.0),
             EncodedComparison([7], ([11, END], [12, END]), 1, 0.2, 3.0),
             EncodedComparison([5], ([13], [14, END]), 0, 0.5, 2.0)]  # fmt: skip
    found = _accumulate(policy.model, votes, _all_reply_logprobs(reference, votes), torch.tensor(shares), beta)
    assert found[1] == 0.5, "one is right and one wrong, so that each counts"

    def gain(one: EncodedComparison, side: int) -> torch.Tensor:
        alone = Episodes.pad([one.prompt], [one.replies[side]])
        return (reply_logprobs(policy.model, alone) - reply_logprobs(reference, alone).detach()).sum()

    gains = [(gain(one, 0), gain(one, 1)) for one in votes]
    counts = [one.weight * shares[one.objective] for one in votes]
    chances = [torch.sigmoid(beta * (first - second)) for first, second in gains]
    losses = [-(one.label * p.log() + (1 - one.label) * (1 - p).log()) for one, p in zip(votes, chances, strict=True)]
    loss = sum(count * one for count, one in zip(counts, losses, strict=True)) / 3
    (preferred, other), (second_other, second_preferred), _ = gains
    margins = beta * (preferred - other), beta * (second_preferred - second_other)
    assert found == pytest.approx(
        (
            loss.item(),
            sum(margin.item() > 0 for margin in margins) / 2,
            sum(margins).item() / 2,
            (preferred + second_preferred).item() / 2,
            (other + second_other).item() / 2,
        ),
        abs=1e-4,
    )
    gradients = [parameter.grad.clone() for parameter in policy.model.parameters()]
    for expected, gradient in zip(torch.autograd.grad(loss, policy.model.parameters()), gradients, strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-3)


def test_a_step_of_one_vote_and_one_of_ties_alone(policy):
    """Ties have no side to be right about."""
    one = EncodedComparison([5, 6], ([8, END], [9, 10, END]), 0, 0.9, 1.0)
    steps = [one], [replace(one, label=0.1)], [one, replace(one, label=0.5)], [replace(one, label=0.5)]
    alone, turned, beside_a_tie, ties = (
        _accumulate(policy.model, votes, _all_reply_logprobs(random_llama(seed=1), votes), torch.ones(2), 0.5)[1:]
        for votes in steps
    )
    accuracy, margin, preferred, other = alone
    assert turned == pytest.approx((1 - accuracy, -margin, other, preferred), rel=1e-5)
    assert beside_a_tie == pytest.approx(alone, rel=1e-5)
    assert ties == (0.0, 0.0, 0.0, 0.0)


def test_dropout_is_off_while_learning(policy):
    policy.model.train()
    train_dpo(policy, copy.deepcopy(policy.model), comparisons(8, 1), SETTINGS, seed=1)
    assert not any(module.training for module in policy.model.modules())


def test_every_vote_is_learnt_once_a_pass_and_one_that_weighs_nothing_never(policy):
    reference, steps = copy.deepcopy(policy.model), []
    votes = comparisons(17, 1)
    beside = [votes[0], replace(votes[3], weight=0.0), *votes[1:]]
    policies = policy, copy.deepcopy(policy)
    for one, learnt in zip(policies, (votes, beside), strict=True):
        train_dpo(one, reference, learnt, SETTINGS, seed=1, on_step=lambda step, _: steps.append(step))
    assert [step.step for step in steps] == [1, 2, 3] * 2
    assert equal(*(weights(one.model) for one in policies))
    with pytest.raises(TrainingDataInvalid, match="no comparison"):
        train_dpo(policy, reference, [replace(one, weight=0.0) for one in votes], SETTINGS, seed=1)


def test_a_vote_teaches_by_its_weight_over_the_mean_one(policy):
    """The same vote twice, alone in its step, before anything is learnt: its loss is log 2 then."""
    settings = SETTINGS.model_copy(update={"learning_rate": 1e-12, "comparisons_per_batch": 1})
    votes, losses = [replace(helpful(1, 1)[0], weight=weight) for weight in (0.5, 2.0)], []
    train_dpo(
        policy, copy.deepcopy(policy.model), votes, settings, seed=1, on_step=lambda step, _: losses.append(step.loss)
    )
    assert sorted(losses) == pytest.approx([0.4 * math.log(2), 1.6 * math.log(2)], rel=1e-4)


def test_many_votes_of_little_weight_do_not_outvote_few_of_much(policy):
    """20 times as many that say the opposite, a tenth of the weight of all."""
    reference, steps = copy.deepcopy(policy.model), []
    train_dpo(policy, reference, outvoted(40), SETTINGS, seed=1, on_step=lambda step, _: steps.append(step))
    # Of 840 votes few more than the 40 and a tenth of their weight in tenths.
    assert steps[-1].steps < 120 / SETTINGS.comparisons_per_batch
    train_dpo(policy, reference, helpful(40, 2), SETTINGS, seed=1, on_step=lambda step, _: steps.append(step))
    assert steps[steps[0].steps].accuracy > 0.8


def test_a_gradient_that_is_not_finite_stops_it_before_it_is_applied(policy):
    reference, policy.model.model.norm.weight.data[0] = copy.deepcopy(policy.model), torch.inf
    before = weights(policy.model)
    with pytest.raises(TrainingDiverged, match="not finite in step 1"):
        train_dpo(policy, reference, comparisons(40, 1), SETTINGS, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(policy.model), strict=True))


@pytest.mark.parametrize(("most", "moved"), [(1.0, 0.005), (1e-14, 0.0)])
def test_the_first_of_two_steps_of_warm_up_goes_half_the_rate_and_gradients_are_scaled_down(policy, most, moved):
    """Adam's first step is the rate, whatever the gradient, unless that is far below its epsilon of 1e-8."""
    begun, after = weights(policy.model), []
    settings = SETTINGS.model_copy(update={"epochs": 2, "warmup_share": 0.5, "max_gradient_norm": most})
    reference = copy.deepcopy(policy.model)
    train_dpo(
        policy, reference, comparisons(16, 1), settings, seed=1,
        on_step=lambda step, _: after.append(weights(policy.model)),
    )  # fmt: skip
    furthest = max(float((a - b).abs().max()) for a, b in zip(begun, after[0], strict=True))
    assert (len(after), furthest) == (4, pytest.approx(moved, rel=1e-3, abs=1e-6))


def test_a_step_of_votes_that_weigh_nothing_teaches_nothing(policy):
    reference, steps = copy.deepcopy(policy.model), []
    settings = SETTINGS.model_copy(update={"objective_weights": {"helpful": 1.0}, "comparisons_per_batch": 1})
    train_dpo(policy, reference, comparisons(4, 1), settings, seed=1, on_step=lambda step, _: steps.append(step))
    assert sorted(step.loss > 0 for step in steps) == [False, False, True, True]


def test_it_comes_to_prefer_what_voters_prefer_and_says_so(policy):
    reference, steps = copy.deepcopy(policy.model), []
    votes = [replace(one, weight=0.25) for one in comparisons(400, 1)]
    train_dpo(policy, reference, votes, SETTINGS, seed=1, on_step=lambda step, _: steps.append(step))
    assert (steps[0].loss, steps[0].margin) == (pytest.approx(math.log(2), abs=1e-4), pytest.approx(0, abs=1e-4))
    assert sum(step.accuracy for step in steps[-10:]) / 10 > 0.85
    assert steps[-1].preferred_nats > steps[-1].other_nats
    assert not any(torch.equal(a, b) for a, b in zip(weights(policy.model), weights(reference), strict=True))


def test_held_to_its_own_replies_it_changes_less_of_them_and_still_learns(policy):
    reference, last = copy.deepcopy(policy.model), []
    asked = [policy.encode_chat(one.messages) for one in comparisons(400, 2)]
    for weight in (0.0, 10.0):
        held = SETTINGS.model_copy(update={"rehearsal_weight": weight, "rehearsal_replies": 64})
        trained, steps = copy.deepcopy(policy), []
        train_dpo(
            trained,
            reference,
            comparisons(400, 1),
            held,
            seed=1,
            rehearse_on=asked,
            on_step=lambda step, _, steps=steps: steps.append(step),
        )
        own = _new_rehearsal(policy, reference, asked, SETTINGS, seed=2)
        lost = own.add_gradients(Trained(trained.model, ALONE), torch.Generator().manual_seed(1))
        last.append((float(lost), sum(step.accuracy for step in steps[-10:]) / 10, steps[-1].rehearsal_kl_nats))
    (free, _, none), (held_to, accuracy, kl_nats) = last
    assert held_to < free / 2
    assert accuracy > 0.85
    assert none is None
    assert 0 < kl_nats < free / 2


def test_what_has_not_moved_has_lost_nothing(policy):
    """Both are seen at one temperature, that of serving."""
    as_it_is = SETTINGS.model_copy(update={"rehearsal_temperature": 1.0, "rehearsal_replies": 8})
    asked = [policy.encode_chat(one.messages) for one in comparisons(4, 1)]
    rehearsal = _new_rehearsal(policy, policy.model, asked, as_it_is, seed=1)
    assert float(rehearsal.add_gradients(Trained(policy.model, ALONE), torch.Generator())) == pytest.approx(0, abs=1e-5)


def test_a_run_cut_short_and_resumed_ends_where_the_whole_one_does(policy, tmp_path):
    reference = copy.deepcopy(policy.model)
    whole, cut = copy.deepcopy(policy), copy.deepcopy(policy)
    held = SETTINGS.model_copy(update={"rehearsal_replies": 16, "rehearsal_episodes": 4})
    asked = [policy.encode_chat(one.messages) for one in comparisons(4, 2)]
    train_dpo(whole, reference, comparisons(40, 1), held, seed=1, rehearse_on=asked)

    class Killed(Exception):
        pass

    def kill_after_three(done, state):
        if done.step == 3:
            state().save(tmp_path / "state")
            raise Killed

    with pytest.raises(Killed):
        train_dpo(cut, reference, comparisons(40, 1), held, seed=1, rehearse_on=asked, on_step=kill_after_three)
    state = TrainingState.load(tmp_path / "state")
    train_dpo(policy, reference, comparisons(40, 1), held, seed=1, rehearse_on=asked, resume=state)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole.model), weights(policy.model), strict=True))
    # Whose chat is rehearsed no more was erased since, say.
    for seed, prompts in ((2, asked), (1, asked[1:])):
        with pytest.raises(CheckpointInvalid, match="prompts, settings or another seed"):
            train_dpo(policy, reference, comparisons(40, 1), held, seed=seed, rehearse_on=prompts, resume=state)
    with pytest.raises(TrainingDataInvalid, match="no comparison"):
        train_dpo(policy, reference, [], SETTINGS, seed=1)


@pytest.mark.slow
def test_in_the_sandbox_it_is_less_rude_and_complies_less():
    start, policy = load_policy(WEIGHTS, "cpu"), load_policy(WEIGHTS, "cpu")
    votes = simulate_votes(start, 600, seed=1)
    asked = [start.encode_chat(one.messages) for one in votes if not find(one.messages).harmful]
    train_dpo(policy, start.model, votes, DPOSettings(), seed=1, rehearse_on=asked)
    before, after = (gold_figures(one, None, seed=9) for one in (start, policy))
    assert after["complies"] < before["complies"] / 2
    assert after["rude"] < before["rude"]
    assert after["refuses"] > before["refuses"]
