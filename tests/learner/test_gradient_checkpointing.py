"""Checkpointed gradients are those of the plain model, and less is kept for them."""

import copy

import pytest
import torch

from learner.errors import ModelNotSupported
from learner.gradient_checkpointing import checkpoint_layers
from learner.language_model import reply_logprobs
from learner.sequences import Episodes
from tests.learner.conftest import random_llama

EPISODES = Episodes.pad([[5, 6, 7], [8]], [[11, 9, 1], [12, 1]])


def gradients(model) -> tuple[int, list[torch.Tensor]]:
    """(elements kept for the backward pass, gradients)."""
    kept = 0

    def keep(tensor):
        nonlocal kept
        kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = reply_logprobs(model, EPISODES).sum()
    loss.backward()
    return kept, [parameter.grad for parameter in model.parameters()]


def test_the_same_gradients_from_less_memory():
    plain, checkpointed = random_llama(layers=6), random_llama(layers=6)
    checkpoint_layers(checkpointed)
    copied = copy.deepcopy(checkpointed)
    (kept, expected), (kept_less, found) = gradients(plain), gradients(checkpointed)
    assert kept_less < kept / 2
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
    # A copy computes its own layers, not those that it was copied from.
    with torch.no_grad():
        copied.model.layers[0].mlp.up_proj.weight.mul_(2)
        assert not torch.allclose(reply_logprobs(copied, EPISODES), reply_logprobs(plain, EPISODES))
    assert gradients(copied)[0] == kept_less


def test_a_model_whose_layers_are_not_known_is_refused():
    with pytest.raises(ModelNotSupported):
        checkpoint_layers(torch.nn.Linear(2, 2))
