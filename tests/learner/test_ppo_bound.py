"""The bound on harm: its multiplier reacts, and the policy keeps to it where the reward alone would not."""

import pytest
import torch

from learner.errors import TrainingDataInvalid
from learner.ppo import PPO
from learner.ppo.bound import Bound
from learner.preference_model import PreferenceShape, new_preference_model
from learner.prompts import TrainingPrompt
from learner.training_state import TrainingState
from tests.learner import test_ppo
from tests.learner.test_ppo import PROMPTS, SETTINGS, LikesOneWord, equal, weights

# Of four prompts a tenth are none.
FEW = {"episodes_per_step": 4, "episodes_per_minibatch": 4, "harmless_prompt_share": 0.1}
HARMFUL = [TrainingPrompt([{"role": "user", "content": f"w{number}"}], "harmless") for number in range(13, 21)]


class Torn(LikesOneWord):
    """Helpful is the liked word, and harmless is its absence."""

    def __init__(self, start):
        self.model = new_preference_model(start, PreferenceShape(("helpful", "harmless"), 1, 8, False), seed=1)

    def score(self, episodes, *known):
        helpful_B = super().score(episodes)[:, 0]
        return torch.stack([helpful_B, 0.5 - helpful_B, helpful_B], dim=1)


def trainer(watch=None, scorer=Torn, prompts=(*PROMPTS, *HARMFUL), **changes) -> PPO:
    settings = SETTINGS.model_copy(
        update={"steps": 30, "harmless_prompt_share": 0.5, "multiplier_rate": 1.0, "kl_coefficient": 0.0, **changes}
    )
    return test_ppo.trainer(settings, scorer=scorer, watch=watch, prompts=prompts)


def ended(ppo: PPO, steps: int = 30) -> list:
    return [ppo.step() for _ in range(steps)]


@pytest.fixture(scope="module")
def free() -> list:
    return ended(trainer(harmless_floor=-100.0, multiplier_start=0.0))


@pytest.mark.parametrize(("change", "limit"), [({"harmless_floor": -0.5}, 0.5), ({"harm_ceiling": 0.5}, 0.5)])
def test_the_multiplier_rises_until_the_bound_is_met(free, change, limit):
    # Far above what either bound allows.
    assert free[-1].bound_cost > 1.5
    assert {report.multiplier for report in free} == {0.0}
    bound = ended(trainer(**change, multiplier_start=0.0), 48)
    peak = max(range(len(bound)), key=lambda step: bound[step].multiplier)
    assert bound[peak].multiplier > 0.3
    # It falls again, as it only does while the bound is met.
    assert any(report.bound_cost < limit for report in bound[peak:])
    assert bound[-1].multiplier < bound[peak].multiplier


def test_each_step_moves_the_multiplier_by_the_violation():
    ppo = trainer(harmless_floor=0.0, multiplier_start=1.0)
    first, second = ended(ppo, 2)
    assert first.multiplier == 1.0
    # What is told is the reward itself, not what the bound leaves of it.
    assert first.reward == trainer(harmless_floor=0.0, multiplier_start=0.0).step().reward
    assert second.multiplier == pytest.approx(max(0.0, 1.0 + first.bound_cost))
    assert ppo.bound.multiplier == pytest.approx(max(0.0, second.multiplier + second.bound_cost))


@pytest.mark.parametrize(("floor", "misses"), [(100.0, True), (-100.0, False)])
def test_what_misses_the_bound_does_not_pass_for_a_peak(floor, misses):
    report = trainer(watch=LikesOneWord, harmless_floor=floor, multiplier_max=3.0).step()
    missed = report.bound_cost + floor if misses else 0.0
    assert report.watch_smoothed == pytest.approx(report.watch_reward - 3.0 * missed)


def test_only_prompts_that_were_judged_under_harmless_are_bound():
    """All replies to each, by their harmless score over its deviation."""
    ppo = trainer(harmless_floor=0.0, replies_per_prompt=2)
    ppo.preference_model.scale_O.copy_(torch.tensor([3.0, 4.0, 5.0]))
    rollout = ppo._draw()
    costs_B, bound_B = ppo._costs(rollout)
    assert 0 < int(bound_B.sum()) < len(rollout.episodes) == SETTINGS.episodes_per_step
    torch.testing.assert_close(costs_B, -rollout.scores_B_O[:, 1] / 4)
    harmful = {tuple(ppo.prompts._harmless[at]) for at in range(len(HARMFUL))}
    lengths_B = rollout.episodes.prompt_lengths_B.tolist()
    asked = [tuple(row[:length]) for row, length in zip(rollout.episodes.tokens_B_T.tolist(), lengths_B, strict=True)]
    assert bound_B.tolist() == [prompt in harmful for prompt in asked]


def test_a_run_cut_short_goes_on_with_its_multiplier(tmp_path):
    whole = trainer(harm_ceiling=0.1)
    reports = ended(whole, 4)
    cut = trainer(harm_ceiling=0.1)
    ended(cut, 2)
    cut.state().save(tmp_path / "state")
    resumed = trainer(harm_ceiling=0.1)
    resumed.restore(TrainingState.load(tmp_path / "state"))
    assert ended(resumed, 2) == reports[2:]
    assert equal(weights(resumed.model), weights(whole.model))


def bound(**changes) -> Bound:
    """What settings ask for, from a multiplier of 3 on."""
    found = Bound.of(SETTINGS.model_copy(update={"multiplier_start": 3.0, "multiplier_rate": 1.0, **changes}))
    assert found is not None
    return found


def test_costs_and_reward_by_hand():
    harm, score = bound(harm_ceiling=0.1, multiplier_max=10.0), bound(harmless_floor=-0.1, multiplier_max=3.05)
    harmless_B = torch.tensor([-1.0, 2.0, 0.0, -0.5])
    assert harm.costs(harmless_B).tolist() == score.costs(harmless_B).tolist() == [1.0, -2.0, 0.0, 0.5]
    bound_B = torch.tensor([True, True, True, False])
    costs_B = harm.costs(harmless_B)
    # (reward - 3 cost) / 4 where bound, reward / 4 elsewhere.
    assert harm.reward(torch.full((4,), 4.0), costs_B, bound_B).tolist() == [0.25, 2.5, 1.0, 1.0]
    # A ceiling is on the share of harm, a floor on the mean.
    assert harm.measured(costs_B, bound_B) == pytest.approx(1 / 3)
    assert score.measured(costs_B, bound_B) == pytest.approx(-1 / 3)
    assert harm.after(0.5).multiplier == pytest.approx(3.4)
    assert score.after(0.5).multiplier == 3.05
    assert harm.after(-9.0).multiplier == 0.0


def test_harm_is_the_share_of_bound_replies_that_cost_something():
    ceiling = bound(harm_ceiling=0.1)
    costs = ceiling.costs(torch.tensor([-2.0, 1.0, 0.0, 3.0, -9.0]))
    assert ceiling.measured(costs, torch.tensor([True, True, True, True, False])) == 0.25


def test_a_bound_without_votes_under_harmless_is_refused():
    for scorer in (LikesOneWord, Torn):
        with pytest.raises(TrainingDataInvalid, match="votes under harmless"):
            trainer(harm_ceiling=0.1, scorer=scorer, prompts=PROMPTS)


def test_a_bound_on_prompts_that_no_step_asks_is_refused():
    """The mean over none of them is no number."""
    assert trainer(harm_ceiling=0.1, **FEW | {"harmless_prompt_share": 0.25}).step().multiplier is not None
    with pytest.raises(TrainingDataInvalid, match="in each step"):
        trainer(harm_ceiling=0.1, **FEW)
    with pytest.raises(TrainingDataInvalid, match="in each step"):
        trainer(harm_ceiling=0.1, **FEW | {"advantage": "rloo", "replies_per_prompt": 2, "episodes_per_step": 8})
    # Where there are no others they fill each step, whatever their share.
    assert trainer(harm_ceiling=0.1, prompts=HARMFUL[:3], **FEW).step().bound_cost is not None
