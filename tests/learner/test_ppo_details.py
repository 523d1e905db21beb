"""PPO's details where they are put together: that each formula gets the right arguments, and that it counts."""

import statistics
from dataclasses import replace
from itertools import pairwise, product
from types import SimpleNamespace

import pytest
import torch

from learner.errors import TrainingDiverged
from learner.ppo import PPO
from learner.ppo.training import estimate_advantages
from tests.learner.test_ppo import SETTINGS, equal, rollout_of, trainer, weights


def with_settings(**changes) -> PPO:
    return trainer(SETTINGS.model_copy(update=changes))


def gradients(ppo: PPO, rollout, advantages_N, returns_N) -> list[list[torch.Tensor]]:
    """The policy's gradient in each optimiser step of an update that applies none of them."""
    kept: list[list[torch.Tensor]] = []

    def keep():
        kept.append([parameter.grad.clone() for parameter in ppo.model.parameters()])
        for optimizer in ppo.updater.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        return torch.zeros(())

    ppo.updater.apply_gradients = keep
    ppo.updater.update(rollout, advantages_N, returns_N, seed=3)
    return kept


def test_returns_are_the_reward_less_the_kl_still_to_come():
    """k1: coefficient times logp - logp_start at each token; values of zero and lambda 1 leave the sums as they are."""
    ppo = with_settings(gae_lambda=1.0)
    rollout = rollout_of(ppo)
    kl_N = torch.linspace(-1, 2, len(rollout.logprobs_N))
    rollout = replace(
        rollout, start_logprobs_N=rollout.logprobs_N - kl_N, values_N=torch.zeros_like(rollout.logprobs_N)
    )
    _, returns_N = estimate_advantages(rollout, ppo.settings, 0.25)
    expected, at = [], 0
    for reward, length in zip(rollout.reward_B.tolist(), rollout.episodes.reply_lengths_B.tolist(), strict=True):
        kls = kl_N[at : at + length].tolist()
        expected += [reward - 0.25 * sum(kls[step:]) for step in range(length)]
        at += length
    torch.testing.assert_close(returns_N, torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_discount_and_lambda_are_those_of_the_settings():
    """Of a critic that foresees 1 everywhere."""
    ppo = with_settings(discount=0.9, gae_lambda=0.5)
    rollout = rollout_of(ppo)
    rollout = replace(rollout, values_N=torch.ones_like(rollout.values_N))
    _, returns_N = estimate_advantages(rollout, ppo.settings, 0.0)
    expected = []
    for reward, length in zip(rollout.reward_B.tolist(), rollout.episodes.reply_lengths_B.tolist(), strict=True):
        advantages = [reward - 1]
        while len(advantages) < length:
            advantages.insert(0, 0.9 - 1 + 0.9 * 0.5 * advantages[0])
        expected += [advantage + 1 for advantage in advantages]
    torch.testing.assert_close(returns_N, torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_advantages_are_whitened_over_the_whole_step():
    ppo = with_settings()
    advantages_N, returns_N = estimate_advantages(rollout_of(ppo), ppo.settings, 0.05)
    assert float(advantages_N.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(advantages_N.var(unbiased=False)) == pytest.approx(1.0, abs=1e-3)
    assert abs(float(returns_N.mean())) > 0.01, "returns stay as they are: the critic learns them"


@pytest.mark.parametrize("advantage", ["rloo", "grpo"])
def test_replies_to_a_prompt_are_compared_by_what_they_bring_less_their_kl(advantage):
    """Every token of a reply has the same advantage: over the mean of the others, or over the mean in deviations."""
    ppo = with_settings(advantage=advantage, replies_per_prompt=4)
    rollout = rollout_of(ppo)
    kl_N = torch.linspace(-1, 2, len(rollout.logprobs_N))
    rollout = replace(rollout, start_logprobs_N=rollout.logprobs_N - kl_N)
    lengths = rollout.episodes.reply_lengths_B.tolist()
    brought = [
        reward - 0.25 * sum(kls.tolist())
        for reward, kls in zip(rollout.reward_B.tolist(), kl_N.split(lengths), strict=True)
    ]
    expected = []
    for at, own in enumerate(brought):
        group = brought[at - at % 4 : at - at % 4 + 4]
        if advantage == "rloo":
            expected.append(own - (sum(group) - own) / 3)
        else:
            expected.append((own - statistics.mean(group)) / (statistics.stdev(group) + 1e-3))
    advantages_N, returns_N = estimate_advantages(rollout, ppo.settings, 0.25)
    by_reply = torch.tensor([expected, brought]).repeat_interleave(torch.tensor(lengths), dim=1)
    torch.testing.assert_close(torch.stack([advantages_N, returns_N]), by_reply, atol=1e-4, rtol=1e-4)


def test_the_critic_begins_as_a_copy_of_the_preference_models_trunk():
    ppo = with_settings(critic="preference_model")
    own, theirs = ppo.critic.trunk, ppo.preference_model.trunk
    assert equal(weights(own), weights(theirs))
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(own.parameters(), theirs.parameters(), strict=True))
    assert with_settings(critic="policy").critic.trunk is None


def test_importance_weights_scale_what_a_token_teaches():
    ppo = with_settings(epochs=1, episodes_per_minibatch=32)
    rollout = rollout_of(ppo)
    advantages_N, returns_N = estimate_advantages(rollout, ppo.settings, 0.05)
    (plain,) = gradients(ppo, rollout, advantages_N, returns_N)
    half = replace(rollout, importance_weights_N=torch.full_like(rollout.logprobs_N, 0.5))
    (halved,) = gradients(ppo, half, advantages_N, returns_N)
    for first, second in zip(plain, halved, strict=True):
        torch.testing.assert_close(first / 2, second, atol=1e-6, rtol=1e-3)


def test_minibatches_share_the_mean_over_the_tokens_of_the_step():
    """A mean over each minibatch would weigh the tokens of short ones more."""
    whole, cut = (with_settings(epochs=1, episodes_per_minibatch=size) for size in (32, 8))
    rollout = rollout_of(whole)
    advantages_N, returns_N = estimate_advantages(rollout, whole.settings, 0.05)
    (once,) = gradients(whole, rollout, advantages_N, returns_N)
    parts = gradients(cut, rollout, advantages_N, returns_N)
    assert len(parts) == 4
    for index, expected in enumerate(once):
        torch.testing.assert_close(sum(part[index] for part in parts) / 4, expected, atol=1e-5, rtol=1e-3)


def test_no_two_steps_of_any_runs_draw_by_the_same_numbers():
    """Each has 64 seeds of its own, for its replies, its passes and what it rehearses."""
    ppo, seeds = with_settings(), []
    for ppo.seed, ppo.steps_done in product(range(3), range(3)):
        seeds.append(ppo.step_seed())
    assert min(later - sooner for sooner, later in pairwise(sorted(seeds))) >= 64
    used = []
    draw, update = ppo.rollouts.draw, ppo.updater.update
    ppo.rollouts = SimpleNamespace(draw=lambda *given: used.append(given[-1]) or draw(*given))
    ppo.updater.update = lambda *given: used.append(given[-1]) or update(*given)
    ppo.step()
    assert used == 2 * [seeds[-1]]


def test_each_pass_goes_through_all_replies_in_an_order_of_its_own():
    updater = with_settings(epochs=2, episodes_per_minibatch=8).updater
    first, again, other = (torch.cat([*updater._minibatches(32, seed)]).view(2, 32).tolist() for seed in (0, 0, 64))
    assert first == again
    assert [sorted(order) for order in first] == 2 * [[*range(32)]]
    assert len({*map(tuple, first + other)}) == 4


def test_the_adaptive_controller_follows_the_measured_kl():
    ppo = with_settings(kl_controller="adaptive", kl_target_nats=0.01, kl_horizon_episodes=320, steps=3)
    reports = [ppo.step() for _ in range(3)]
    assert reports[0].kl_coefficient == SETTINGS.kl_coefficient
    for before, after in pairwise(reports):
        error = min(max(before.kl_nats / 0.01 - 1, -0.2), 0.2)
        assert after.kl_coefficient == pytest.approx(before.kl_coefficient * (1 + error * 32 / 320))
    fixed = with_settings(steps=3)
    assert {fixed.step().kl_coefficient for _ in range(3)} == {SETTINGS.kl_coefficient}


@pytest.mark.parametrize(
    ("change", "share"), [("clip_range", "clipped_share"), ("value_clip_range", "value_clipped_share")]
)
def test_clip_ranges_are_those_of_the_settings(change, share):
    narrow, wide = (with_settings(**{change: width}).step() for width in (1e-6, 1e6))
    assert getattr(narrow, share) > 0.1
    assert getattr(wide, share) == 0.0


def test_probabilities_are_taken_at_the_sampling_temperature():
    ppo = with_settings(temperature=0.6, checked_replies=32)
    rollout = rollout_of(ppo)
    sampler_N = rollout.samples.logprobs_B_R[rollout.episodes.reply_mask_B_R]
    torch.testing.assert_close(rollout.logprobs_N, sampler_N, atol=1e-4, rtol=0)
    torch.testing.assert_close(rollout.logprobs_N, rollout.start_logprobs_N, atol=1e-5, rtol=0)
    # At the sampling weights every ratio is one: nothing is clipped in the only update.
    assert with_settings(temperature=0.6, epochs=1, episodes_per_minibatch=32).step().update_kl_nats == pytest.approx(
        0.0, abs=1e-6
    )


def test_a_critic_on_the_preference_models_states_learns_from_those_of_the_rollout():
    ppo = with_settings(epochs=1, episodes_per_minibatch=32, critic_head_learning_rate=1e-2)
    ppo.step()
    rollout = rollout_of(ppo)
    states_N_D = torch.randn(rollout.states_N_D.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        values_N = ppo.critic(rollout.episodes, states_N_D)
    assert not torch.allclose(values_N, rollout.values_N, atol=1e-3)
    returns_N = torch.linspace(-1, 2, len(values_N))
    rollout = replace(rollout, states_N_D=states_N_D, values_N=values_N)
    totals = ppo.updater.update(rollout, torch.zeros_like(values_N), returns_N, seed=3)
    assert totals.per_token("value_loss") == pytest.approx(float((values_N - returns_N).square().mean()) / 2, rel=1e-4)
    assert totals.per_token("policy_loss") == 0.0
    # The ratio is to the policy that sampled, which the first step moved away from the start.
    assert rollout.kl_nats > 0.01
    assert totals.per_token("update_kl") == pytest.approx(0.0, abs=1e-6)
    assert (totals.updates, totals.tokens) == (1, len(values_N))


def test_the_gradients_of_policy_and_critic_are_each_scaled_down_and_then_forgotten():
    updater = with_settings(critic="preference_model", max_gradient_norm=0.5).updater
    modules = {"policy": updater.policy.model, "critic": updater.critic}
    norms = {}

    def keep(name):
        def step():
            parts = [p.grad.norm() for p in modules[name].parameters() if p.grad is not None]
            norms[name] = float(torch.stack(parts).norm())

        return step

    for name, module in modules.items():
        updater.optimizers[name].step = keep(name)
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
    found = updater.apply_gradients()
    assert float(found) == pytest.approx(sum(p.numel() for p in modules["policy"].parameters()) ** 0.5, rel=1e-4)
    assert norms == pytest.approx({"policy": 0.5, "critic": 0.5}, rel=1e-4)
    assert all(parameter.grad is None for module in modules.values() for parameter in module.parameters())
    updater.critic.head.weight.grad = torch.full_like(updater.critic.head.weight, torch.inf)
    updater.policy.model.lm_head.weight.grad = torch.ones_like(updater.policy.model.lm_head.weight)
    with pytest.raises(TrainingDiverged):
        updater.apply_gradients()
