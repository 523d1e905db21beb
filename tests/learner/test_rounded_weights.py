"""Weights that are rounded once are the ones autocast rounds in each pass, and gradients come to the weights."""

import copy

import pytest
import torch
from torch import nn

from feedback.learning_settings import PolicyLoRASettings
from learner import language_model
from learner.gradient_checkpointing import checkpoint_layers
from learner.language_model import reply_logprobs
from learner.lora import copy_sharing_frozen, with_adapter
from learner.number_format import forward_passes
from learner.rounded_weights import rounded_once
from learner.sequences import Episodes
from tests.learner.conftest import random_llama

CPU = torch.device("cpu")
EPISODES = Episodes.pad([[5, 6, 7], [8]], [[9, 10], [11, 12, 13]])


def passes(model: nn.Module, *, once: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probabilities by the second of two passes, and the gradients of both together."""
    with forward_passes("bf16", CPU):
        models = [model] if once else []
        with rounded_once(*models):
            for _ in range(2):
                logprobs_N = reply_logprobs(model, EPISODES)
                logprobs_N.sum().backward()
    return logprobs_N.detach(), {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("make", ["plain", "tied", "checkpointed", "adapted", "in pieces"])
def test_passes_and_gradients_are_autocast_s_to_the_last_bit(make, monkeypatch):
    if make == "in pieces":
        monkeypatch.setattr(language_model, "LOGITS_PER_PIECE", {"cpu": 1})
    model = random_llama(tied=make == "tied")
    if make == "checkpointed":
        checkpoint_layers(model)
    if make == "adapted":
        settings = PolicyLoRASettings(rank=4, alpha=8.0)
        model = with_adapter(copy_sharing_frozen(model.requires_grad_(False)), settings, seed=1)
    (ours_N, ours), (theirs_N, theirs) = (passes(copy.deepcopy(model), once=once) for once in (True, False))
    assert torch.equal(ours_N, theirs_N)
    assert ours.keys() == theirs.keys() == {name for name, one in model.named_parameters() if one.requires_grad}
    for name, gradient in theirs.items():
        assert gradient.dtype == torch.float32 and torch.equal(ours[name], gradient), name


def test_within_the_block_weights_are_bf16_and_afterwards_what_they_were(llama):
    other = with_adapter(copy_sharing_frozen(llama.requires_grad_(False)), PolicyLoRASettings(rank=4), seed=1)
    before = {name: id(weight) for name, weight in llama.named_parameters()}
    own, shared = llama.model.layers[0].mlp.up_proj, other.model.layers[0].mlp.up_proj
    with forward_passes("bf16", CPU), pytest.raises(ZeroDivisionError), rounded_once(other, llama, llama.lm_head):
        assert own.weight.dtype == torch.bfloat16 and not own.weight.requires_grad
        assert shared.base_layer.weight is own.weight
        assert shared.lora_A.default.weight.dtype == torch.bfloat16
        assert llama.model.norm.weight.dtype == llama.model.embed_tokens.weight.dtype == torch.float32
        raise ZeroDivisionError
    assert {name: id(weight) for name, weight in llama.named_parameters()} == before


def test_without_autocast_nothing_changes(llama):
    weight = llama.lm_head.weight
    with rounded_once(llama):
        assert llama.lm_head.weight is weight
