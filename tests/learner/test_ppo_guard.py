"""The guard against over-optimisation: it finds the peak, stops, publishes the peak, and goes on after a kill."""

import copy
from functools import cache

import pytest
import torch

from feedback.learning_settings import PPOSettings
from learner.errors import CheckpointInvalid
from learner.policy import Policy
from learner.ppo import PPOEnd, PPOStep, train_ppo
from learner.ppo.guard import Guard
from learner.training_state import TrainingState, copy_weights
from tests.learner.conftest import END, random_llama, word_tokenizer
from tests.learner.test_ppo import PROMPTS, SETTINGS, LikesOneWord, equal, weights

STEPS = 24


class LikesItInModeration(LikesOneWord):
    """The watch model of over-optimisation made to order: the liked word is good up to a quarter of the reply."""

    def score(self, episodes, *known):
        scores_B_O = super().score(episodes)
        return 1.0 - (scores_B_O - 1.0).abs()


def trained(settings: PPOSettings, watch=LikesItInModeration, resume=None):
    """The policy, each step's report and weights after it, the states handed out, and how it ended."""
    start = random_llama()
    policy = Policy(copy.deepcopy(start), word_tokenizer(), (END,))
    reports: list[PPOStep] = []
    after = [copy_weights(policy.model)]
    states: list[TrainingState] = []

    def on_step(report, state):
        reports.append(report)
        after.append(copy_weights(policy.model))
        states.append(state())

    end = train_ppo(
        policy, start, LikesOneWord(start), PROMPTS, settings, seed=1,
        watch=None if watch is None else watch(start), on_step=on_step, resume=resume,
    )  # fmt: skip
    return policy, reports, after, states, end


def guarded(**changes) -> PPOSettings:
    return SETTINGS.model_copy(
        update={
            "steps": STEPS,
            "episodes_per_step": 64,
            "watch_smoothing": 0.3,
            "watch_patience_steps": 3,
            "kl_coefficient": 0.0,
            **changes,
        }
    )


@cache
def stopped():
    """What several tests look at."""
    return trained(guarded())


def test_it_stops_when_the_watch_score_has_fallen_and_publishes_the_peak():
    policy, reports, after, _, end = stopped()
    assert end.stopped
    assert end.steps == len(reports) < STEPS
    assert 0 < end.published_step <= end.steps - 3
    assert end.peak_watch_reward == max(report.watch_smoothed for report in reports)
    smoothed = reports[0].watch_reward
    for report in reports:
        smoothed = 0.3 * smoothed + 0.7 * report.watch_reward
        assert report.watch_smoothed == pytest.approx(smoothed, abs=1e-6)
    assert all(
        torch.equal(tensor, policy.model.state_dict()[name]) for name, tensor in after[end.published_step].items()
    )
    # What makes it over-optimisation: the score that PPO raises went on rising while the watch score fell.
    assert reports[-1].reward > reports[end.published_step].reward
    assert end.last_watch_reward < max(report.watch_reward for report in reports)
    assert end.last_reward > reports[0].reward
    assert end.last_sqrt_kl == pytest.approx(end.last_kl_nats**0.5)


def test_without_patience_it_goes_on_to_the_end_and_still_publishes_the_peak():
    policy, _, after, _, end = trained(guarded(watch_patience_steps=None))
    assert (end.steps, end.stopped) == (STEPS, False)
    assert 0 < end.published_step < STEPS
    assert all(
        torch.equal(tensor, policy.model.state_dict()[name]) for name, tensor in after[end.published_step].items()
    )


def test_a_watch_score_that_rises_publishes_the_last_weights():
    policy, _, after, _, end = trained(guarded(steps=6), watch=LikesOneWord)
    assert end.published_step == end.steps == 6
    assert all(torch.equal(tensor, policy.model.state_dict()[name]) for name, tensor in after[6].items())


def test_watching_changes_nothing_about_the_steps():
    watched, alone = (trained(guarded(steps=5, watch_patience_steps=None), watch) for watch in (LikesOneWord, None))
    assert [report.reward for report in watched[1]] == [report.reward for report in alone[1]]
    # After the last step, which need not be the one whose weights were published.
    assert equal(watched[2][5].values(), alone[2][5].values())
    assert alone[4] == PPOEnd(5, stopped=False, published_step=5)
    assert all(report.watch_reward is report.watch_smoothed is None for report in alone[1])


@pytest.mark.parametrize("killed_after", [2, -1])
def test_killed_before_or_after_the_peak_it_ends_where_the_unkilled_one_does(tmp_path, killed_after):
    whole, reports, _, states, end = stopped()
    states[killed_after].save(tmp_path / "state")
    resumed, later, _, _, resumed_end = trained(guarded(), resume=TrainingState.load(tmp_path / "state"))
    assert resumed_end == end
    assert later == reports[states[killed_after].step :]
    assert equal(weights(resumed.model), weights(whole.model))


def test_a_run_that_nobody_watched_is_not_gone_on_with_under_a_watch_and_the_other_way_round():
    for watches in ((None, LikesOneWord), (LikesOneWord, None)):
        _, _, _, states, _ = trained(guarded(steps=2), watches[0])
        with pytest.raises(CheckpointInvalid, match="another guard"):
            trained(guarded(steps=2), watches[1], resume=states[0])


def test_the_guard_by_hand():
    guard = Guard(smoothing=0.5, patience_steps=2)
    seen = []
    for step, score in enumerate([0.0, 1.0, 2.0, 0.0, 0.0]):
        guard = guard.after(score, step)
        seen.append((guard.smoothed, guard.peak_step, guard.exhausted))
    assert seen == [(0.0, 0, False), (0.5, 1, False), (1.25, 2, False), (0.625, 2, False), (0.3125, 2, True)]
    assert Guard(0.5, 2).resumed(guard.numbers()) == guard


def test_of_equal_peaks_the_first_is_taken_which_has_gone_least_far():
    guard = Guard(smoothing=0.0, patience_steps=2)
    for step, score in enumerate([0.0, 1.0, 1.0, 1.0]):
        guard = guard.after(score, step)
    assert (guard.peak_step, guard.at_peak, guard.exhausted) == (1, False, True)


def test_the_start_is_no_peak_though_every_step_made_it_worse():
    guard = Guard(smoothing=0.5, patience_steps=2)
    for step, score in enumerate([2.0, 1.0, 0.0]):
        guard = guard.after(score, step)
    assert (guard.peak_step, guard.peak) == (1, 1.5)
