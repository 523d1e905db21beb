"""What a step asks of a GPU does not grow: operators and waits, counted as `benchmarks.launches` counts them.

The limits are what was counted. A change that launches less may lower them; one that must launch more says why.
"""

import pytest
import torch

from benchmarks import launches
from benchmarks.launches import Asked, Count
from feedback.learning_settings import PPOSettings, PreferenceSettings

PPO = PPOSettings(
    episodes_per_step=16,
    episodes_per_minibatch=8,
    epochs=1,
    max_new_tokens=4,
    rehearsal_replies=8,
    rehearsal_episodes=4,
)
PREFERENCE = PreferenceSettings(epochs=1, comparisons_per_batch=4)


def test_operators_waits_and_casts_are_told_apart():
    weight = torch.randn(3, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False), Count() as count:
        seen = torch.nn.functional.linear(torch.ones(2, 4), weight)  # two casts and a product
        seen.view(6).float().sum().backward()  # a cast and a sum; back a cast, a product and a cast; a gradient of ones
        torch.ones(3)[torch.tensor([True, False, True])].tolist()  # ones, the mask, and a choice that waits
    assert count.total == Asked(operators=12, waits=1, casts=5)


@pytest.fixture(scope="module")
def steps() -> dict[tuple[str, int], Asked]:
    """What one step asks for, by what it trains and its layers."""
    made = {layers: launches.narrow(layers) for layers in (1, 2)}
    found = {("ppo", layers): launches.ppo_step(policy, PPO).total for layers, policy in made.items()}
    return found | {
        ("preference", layers): launches.preference_step(policy, PREFERENCE, 16).total
        for layers, policy in made.items()
    }


def test_a_layer(steps):
    """PPO makes three passes without gradients, and in each of two optimiser steps one pass and one of rehearsal."""
    ppo, preference = (steps[what, 2].operators - steps[what, 1].operators for what in ("ppo", "preference"))
    assert ppo <= 526
    assert preference <= 105


def test_a_step_beside_its_layers(steps):
    assert 2 * steps["ppo", 1].operators - steps["ppo", 2].operators <= 959
    assert 2 * steps["preference", 1].operators - steps["preference", 2].operators <= 191


def test_waits_are_as_many_whatever_the_number_of_layers(steps):
    for layers in (1, 2):
        assert steps["ppo", layers].waits <= 36
        assert steps["preference", layers].waits <= 4


def test_weights_are_not_rounded_pass_by_pass(steps):
    """Of a layer's casts there are those of what goes into its products and comes back: 7 and 13, and 7 and 12 or 13
    where there is a mask."""
    assert steps["ppo", 2].casts - steps["ppo", 1].casts <= 3 * 7 + 4 * (7 + 13)
    assert steps["preference", 2].casts - steps["preference", 1].casts <= 20
