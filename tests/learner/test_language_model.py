"""Log-probabilities of replies against the model's own logits, row by row and without padding."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from learner import language_model
from learner.errors import ModelNotSupported
from learner.language_model import (
    ChosenLogprobs,
    forward_kl_pass,
    logits,
    predicting_states,
    reply_logprobs,
    require_plain_head,
    token_logprobs_and_entropies,
)
from learner.number_format import forward_passes
from learner.sequences import Episodes
from tests.learner.conftest import random_llama

PROMPTS, REPLIES = [[5, 6, 7], [8], [9, 10]], [[11, 1], [0, 12, 13, 1], [1]]


def plain_logprobs(model, prompt, reply, temperature):
    """(log-probability, entropy) of each reply token from one unpadded row."""
    logits = model(input_ids=torch.tensor([[*prompt, *reply]])).logits[0] / temperature
    everything = torch.log_softmax(logits, dim=-1)
    for offset, token in enumerate(reply):
        row = everything[len(prompt) + offset - 1]
        yield float(row[token]), float(-(row.exp() * row).sum())


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_reply_logprobs_are_those_of_unpadded_rows(llama, temperature):
    episodes = Episodes.pad(PROMPTS, REPLIES)
    with torch.no_grad():
        logprobs_N = reply_logprobs(llama, episodes, temperature)
        states_N_D = predicting_states(llama, episodes)
        both = token_logprobs_and_entropies(llama, states_N_D, episodes.reply_tokens_N, temperature)
        rows = zip(PROMPTS, REPLIES, strict=True)
        expected = [pair for prompt, reply in rows for pair in plain_logprobs(llama, prompt, reply, temperature)]
    torch.testing.assert_close(logprobs_N, torch.tensor([one for one, _ in expected]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both.logprobs_N, logprobs_N)
    torch.testing.assert_close(both.entropies_N, torch.tensor([one for _, one in expected]), atol=1e-5, rtol=1e-5)


def test_pieces_give_the_same_logprobs_and_gradients(llama, monkeypatch):
    episodes = Episodes.pad(PROMPTS, REPLIES)
    grads = []
    for limit in (1 << 26, 2 * llama.config.vocab_size):
        monkeypatch.setattr(language_model, "LOGITS_PER_PIECE", {"cpu": limit})
        llama.zero_grad()
        reply_logprobs(llama, episodes).square().sum().backward()
        grads.append([parameter.grad.clone() for parameter in llama.parameters()])
    for whole, pieces in zip(*grads, strict=True):
        torch.testing.assert_close(whole, pieces, atol=2e-4, rtol=1e-3)


def test_entropies_and_divergences_are_summed_in_fp32_whatever_models_compute_in(llama):
    episodes, other = Episodes.pad(PROMPTS, REPLIES), random_llama(seed=7)
    with torch.no_grad(), forward_passes("bf16", torch.device("cpu")):
        states_N_D, start_states_N_D = (predicting_states(model, episodes) for model in (llama, other))
        found = token_logprobs_and_entropies(llama, states_N_D, episodes.reply_tokens_N)
        kl_N = forward_kl_pass(llama, episodes, other, start_states_N_D)
        own_N_V, start_N_V = (
            torch.log_softmax(logits(model, states), dim=-1)
            for model, states in ((llama, states_N_D), (other, start_states_N_D))
        )
    torch.testing.assert_close(found.entropies_N, -(own_N_V.exp() * own_N_V).sum(dim=1))
    torch.testing.assert_close(kl_N, (start_N_V.exp() * (start_N_V - own_N_V)).sum(dim=1))


@pytest.mark.parametrize("spare", [0, 2])
def test_the_gradient_of_chosen_logprobs_is_that_of_their_parts(spare):
    logits = torch.randn(5 + spare, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits[0, 3] = -torch.inf
    targets, weights = torch.tensor([0, 6, 2, 2, 5]), torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0], dtype=torch.float64)
    first, second = (logits.clone().requires_grad_() for _ in range(2))
    ours = ChosenLogprobs.apply(first, targets)
    parts = torch.log_softmax(second, dim=-1)[torch.arange(5), targets]
    torch.testing.assert_close(ours, parts)
    (ours * weights).sum().backward()
    (parts * weights).sum().backward()
    torch.testing.assert_close(first.grad, second.grad)


def test_a_model_with_another_head_is_refused(llama):
    require_plain_head(llama)
    forward = llama.forward

    def scaled(**inputs):
        output = forward(**inputs)
        output.logits = output.logits * 2
        return output

    llama.forward = scaled
    with pytest.raises(ModelNotSupported, match="llama"):
        require_plain_head(llama)


class Largest(TorchDispatchMode):
    """The most elements that any tensor had which was made meanwhile, forward or backward."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, (list, tuple)) else [made]:
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return made


def test_no_tensor_of_all_places_times_all_words(monkeypatch):
    """With a vocabulary of 50,000 words no tensor is larger than a piece, and what waits for the backward pass is
    smaller still."""
    words, limit = 50_000, 1 << 21
    monkeypatch.setattr(language_model, "LOGITS_PER_PIECE", {"cpu": limit})
    model = random_llama(vocabulary=words)
    episodes = Episodes.pad([[5, 6, 7]] * 8, [[8] * 40] * 8)
    kept = 0

    def keep(tensor):
        nonlocal kept
        kept += tensor.numel() if tensor.untyped_storage().data_ptr() not in weights else 0
        return tensor

    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = reply_logprobs(model, episodes).sum()
        assert kept < limit
        loss.backward()
    assert largest.elements <= limit < 8 * 40 * words / 7
