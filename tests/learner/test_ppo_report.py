"""What a step of PPO says of itself, each figure worked by hand from a small rollout and the sums of its update."""

from dataclasses import replace

import pytest
import torch

from learner.ppo.guard import Guard
from learner.ppo.report import PPOStep, report
from learner.ppo.rollout import Rollout
from learner.ppo.update import UpdateTotals
from learner.sampler import Samples
from learner.sequences import Episodes
from tests.learner.conftest import END

EPISODES = Episodes.pad([[5, 6], [7]], [[8, 9, END], [10]])
ROLLOUT = Rollout(
    samples=Samples(EPISODES, torch.zeros(2, 3), finished_B=torch.tensor([True, False])),
    logprobs_N=torch.tensor([-1.0, -2.0, -3.0, -4.0]),
    start_logprobs_N=torch.tensor([-2.0, -4.0, -3.5, -4.5]),
    entropies_N=torch.tensor([1.0, 2.0, 3.0, 6.0]),
    values_N=torch.tensor([0.0, 1.0, 1.0, 2.0]),
    importance_weights_N=torch.ones(4),
    scores_B_O=torch.tensor([[1.0, -2.0], [4.0, 0.5]]),
    reward_B=torch.tensor([0.5, -1.0]),
    mismatch_nats=0.01,
    watch_reward_B=torch.tensor([0.25, 0.5]),
)
RETURNS_N = torch.tensor([0.0, 2.0, 2.0, 5.0])
# Squares of deviations, each times four: of what the values leave of the returns (0, 1, 1, 3), and of the returns.
EXPLAINED = 1 - (25 + 1 + 1 + 49) / (81 + 1 + 1 + 121)
TOTALS = UpdateTotals(
    tokens=8,
    updates=4,
    sums={
        "policy_loss": -2.0, "clipped": 4.0, "update_kl": 0.8, "value_loss": 6.0, "value_clipped": 2.0,
        "gradient_norm": 10.0, "rehearsal_kl": 0.4,
    },
)  # fmt: skip


def said(rollout: Rollout = ROLLOUT, totals: UpdateTotals = TOTALS, **change: object) -> PPOStep:
    about = {
        "step": 3, "steps": 12, "score_names": ("helpful", "overall"), "kl_coefficient": 0.05, "critic": True,
        "guard": Guard(0.5, 4).after(1.0, 0).after(0.0, 1), "bound_cost": 0.2, "multiplier": 1.5,
    }  # fmt: skip
    return report(rollout, RETURNS_N, totals, **(about | change))


def test_each_figure_by_hand() -> None:
    found = said()
    assert found == PPOStep(
        step=3,
        steps=12,
        reward=-0.25,
        scores={"helpful": 2.5, "overall": -0.75},
        kl_nats=2.0,
        sqrt_kl=pytest.approx(2**0.5),
        kl_coefficient=0.05,
        length_tokens=2.0,
        finished_share=0.5,
        entropy_nats=3.0,
        clipped_share=0.5,
        update_kl_nats=pytest.approx(0.1),
        policy_loss=-0.25,
        value_loss=0.75,
        value_clipped_share=0.25,
        explained_variance=pytest.approx(EXPLAINED),
        gradient_norm=2.5,
        mismatch_nats=0.01,
        rehearsal_kl_nats=pytest.approx(0.1),
        watch_reward=0.375,
        watch_smoothed=0.5,
        bound_cost=0.2,
        multiplier=1.5,
    )


def test_a_kl_that_sampling_made_negative_has_no_root() -> None:
    found = said(replace(ROLLOUT, start_logprobs_N=ROLLOUT.logprobs_N + 1))
    assert (found.kl_nats, found.sqrt_kl) == (-2.0, 0.0)


def test_what_a_run_does_without_is_not_told() -> None:
    without = UpdateTotals(8, 4, {name: value for name, value in TOTALS.sums.items() if name != "rehearsal_kl"})
    found = said(replace(ROLLOUT, watch_reward_B=None), without, critic=False, guard=None)
    assert (found.rehearsal_kl_nats, found.watch_reward, found.watch_smoothed) == (None, None, None)
    assert found.explained_variance == 0
    assert found.reward == -0.25
