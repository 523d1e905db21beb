"""Holding the policy to what the starting policy says by itself: the formula, where it counts, and that it holds."""

import pytest
import torch

from learner import language_model
from learner.language_model import forward_kl_pass, predicting_states
from learner.policy import encode_chat
from learner.ppo import PPO
from learner.sequences import Episodes
from tests.learner.conftest import END, random_llama, word_tokenizer
from tests.learner.test_ppo import PROMPTS, SETTINGS, equal, trainer, weights

HELD = SETTINGS.model_copy(
    update={"rehearsal_weight": 3.0, "rehearsal_replies": 24, "rehearsal_episodes": 8, "rehearsal_temperature": 1.0}
)
EPISODES = Episodes.pad([[5, 6], [7]], [[8, 9, END], [10, END]])


def kl_by_hand(model, start, temperatures: tuple[float, float]) -> torch.Tensor:
    """KL(start || model) token by token and word by word, from the models' own logits."""
    rows = []
    for row in range(len(EPISODES)):
        tokens_1_T = EPISODES.tokens_B_T[row : row + 1]
        logits = (one(tokens_1_T).logits[0].double() for one in (model, start))
        own, its = (torch.softmax(one / t, -1) for one, t in zip(logits, temperatures, strict=True))
        first = int(EPISODES.prompt_lengths_B[row]) - 1
        for place in range(first, first + int(EPISODES.reply_lengths_B[row])):
            words = zip(its[place], own[place], strict=True)
            rows += [sum(p * (p.log() - q.log()) for p, q in words)]
    return torch.stack(rows).float()


@pytest.mark.parametrize("words_at_a_time", [1 << 24, 1])
def test_the_formula_word_by_word(monkeypatch, words_at_a_time):
    model, start = random_llama(seed=1), random_llama(seed=2)
    monkeypatch.setattr(language_model, "LOGITS_PER_PIECE", {"cpu": words_at_a_time})
    with torch.no_grad():
        states_N_D = predicting_states(start, EPISODES)
    kl_N = forward_kl_pass(model, EPISODES, start, states_N_D, 0.7, 0.4)
    by_hand_N = kl_by_hand(model, start, (0.7, 0.4))
    torch.testing.assert_close(kl_N, by_hand_N, atol=1e-5, rtol=1e-4)
    found, expected = (torch.autograd.grad(kl.sum(), model.parameters()) for kl in (kl_N, by_hand_N))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)
    assert not forward_kl_pass(start, EPISODES, start, states_N_D).any()


def moved(settings) -> PPO:
    """A trainer whose policy is no longer the start."""
    ppo = trainer(settings)
    with torch.no_grad():
        for parameter in ppo.model.parameters():
            parameter.mul_(1.1)
    return ppo


@pytest.mark.parametrize("at_a_time", [16, 3])
def test_the_gradient_is_that_of_the_weighted_mean_over_tokens(at_a_time):
    ppo = moved(
        HELD.model_copy(
            update={"episodes_per_forward": at_a_time, "rehearsal_episodes": 24, "rehearsal_temperature": 0.5}
        )
    )
    rehearsal = ppo.updater.rehearsal
    found = rehearsal.add_gradients(ppo.policy, torch.Generator().manual_seed(1))
    replies = rehearsal.replies
    assert replies.reply_lengths_B.unique().numel() > 1
    states_N_D = predicting_states(rehearsal.start, replies)
    expected = forward_kl_pass(ppo.model, replies, rehearsal.start, states_N_D, 1.0, 0.5).mean()
    torch.testing.assert_close(found, expected.detach(), atol=1e-6, rtol=1e-4)
    gradients = torch.autograd.grad(3.0 * expected, ppo.model.parameters())
    for parameter, gradient in zip(ppo.model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-3)
    assert all(parameter.grad is None for parameter in rehearsal.start.parameters())


def test_of_its_replies_so_many_count_as_are_wanted_and_they_hang_on_the_generator_alone():
    ppo = moved(HELD)
    rehearsal = ppo.updater.rehearsal
    first, again, others = (
        float(rehearsal.add_gradients(ppo.policy, torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)
    )
    assert first == again != others
    chosen_B = torch.randperm(len(rehearsal.replies), generator=torch.Generator().manual_seed(1))[:8]
    chosen = rehearsal.replies.take(chosen_B)
    with torch.no_grad():
        states_N_D = predicting_states(rehearsal.start, chosen)
        expected = forward_kl_pass(ppo.model, chosen, rehearsal.start, states_N_D).mean()
    assert first == pytest.approx(float(expected), rel=1e-4)


def test_what_the_start_predicts_from_is_computed_once_for_each_reply():
    rehearsal = trainer(HELD.model_copy(update={"episodes_per_forward": 5})).updater.rehearsal
    for row, states_R_D in enumerate(rehearsal.start_states):
        reply = rehearsal.replies.take(torch.tensor([row]))
        torch.testing.assert_close(states_R_D, predicting_states(rehearsal.start, reply), atol=1e-5, rtol=1e-4)
    assert len(rehearsal.start_states) == len(rehearsal.replies)


@pytest.mark.parametrize(("temperature", "alike"), [(1e-4, True), (1.0, False)])
def test_replies_are_drawn_at_its_own_temperature_and_are_no_longer_than_the_policys(temperature, alike):
    rehearsal = trainer(HELD.model_copy(update={"rehearsal_temperature": temperature})).updater.rehearsal
    assert int(rehearsal.replies.reply_lengths_B.max()) <= SETTINGS.max_new_tokens
    of_each_prompt = rehearsal.replies.unpack(rehearsal.replies.reply_tokens_N).unflatten(0, (3, len(PROMPTS)))
    assert bool((of_each_prompt == of_each_prompt[:1]).all()) is alike


def test_a_held_policy_keeps_more_of_the_start_and_still_learns():
    ends = []
    for weight in (0.0, 3.0):
        ppo = trainer(HELD.model_copy(update={"rehearsal_weight": weight, "steps": 10, "kl_coefficient": 0.0}))
        reports = [ppo.step() for _ in range(10)]
        start = ppo.rollouts.start
        replies = moved(HELD).updater.rehearsal.replies
        with torch.no_grad():
            lost = forward_kl_pass(ppo.model, replies, start, predicting_states(start, replies)).mean()
        ends.append((float(lost), reports[-1].reward - reports[0].reward, reports[-1].rehearsal_kl_nats))
    (free, _, none), (held, gain, told) = ends
    assert held < free / 2
    assert gain > 0.2
    assert none is None
    assert told == pytest.approx(held, rel=0.5)


def test_it_is_held_on_the_prompts_that_it_is_given_and_on_no_others():
    wanted = [encode_chat(word_tokenizer(), one.messages) for one in PROMPTS[:2]]
    replies = trainer(HELD, rehearse_on=wanted).updater.rehearsal.replies
    lengths = replies.prompt_lengths_B.tolist()
    found = [row[:length] for row, length in zip(replies.tokens_B_T.tolist(), lengths, strict=True)]
    assert found == [*wanted] * 12
    assert trainer(HELD, rehearse_on=[]).updater.rehearsal is None


def test_the_start_is_not_trained_by_it():
    ppo = trainer(HELD)
    before = weights(ppo.rollouts.start)
    ppo.step()
    assert equal(before, weights(ppo.rollouts.start))
