"""The critic on the preference model's states: what it sees, and that only its own small network learns."""

import torch

from learner.critic import PreferenceCritic, means_so_far
from learner.sequences import Episodes
from tests.learner.conftest import random_llama
from tests.learner.test_ppo import equal, rollout_of, trainer, weights


def test_means_so_far_are_those_of_a_loop():
    episodes = Episodes.pad([[5, 6], [7]], [[8], [9, 10, 11]])
    states_N_D = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    expected = [torch.zeros(3)]
    for before in range(3):
        seen = states_N_D[2 : 2 + before]
        expected.append(seen.mean(dim=0) if before else torch.zeros(3))
    torch.testing.assert_close(means_so_far(states_N_D, episodes), torch.stack(expected))


def test_values_are_of_one_size_however_large_the_states():
    critic = PreferenceCritic(random_llama().model, seed=1)
    torch.nn.init.ones_(critic.head[-1].weight)
    episodes = Episodes.pad([[5, 6], [7]], [[8], [9, 10, 11]])
    states_N_D = torch.randn(4, random_llama().config.hidden_size)
    torch.testing.assert_close(critic(episodes, states_N_D), critic(episodes, 100 * states_N_D), atol=1e-3, rtol=1e-3)
    assert critic(episodes, states_N_D).std() > 0


def test_states_are_taken_once_and_belong_to_the_replies_of_their_row():
    ppo = trainer()
    torch.nn.init.ones_(ppo.critic.head[-1].weight)
    rollout = rollout_of(ppo)
    episodes = rollout.episodes
    whole_N_D, _ = ppo.preference_model.states(episodes)
    torch.testing.assert_close(rollout.states_N_D, whole_N_D, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rollout.values_N, ppo.critic(episodes, whole_N_D), atol=1e-3, rtol=1e-3)


def test_neither_trunk_learns_from_it():
    ppo = trainer()
    before = weights(ppo.preference_model), weights(ppo.critic)
    ppo.step()
    assert equal(before[0], weights(ppo.preference_model))
    assert not equal(before[1], weights(ppo.critic))


def test_its_first_weights_hang_on_its_seed_alone():
    trunk = random_llama().model
    torch.manual_seed(5)
    first, again, other = (weights(PreferenceCritic(trunk, seed)) for seed in (1, 1, 2))
    torch.manual_seed(6)
    assert equal(first, again) and equal(first, weights(PreferenceCritic(trunk, 1)))
    assert not equal(first, other)
