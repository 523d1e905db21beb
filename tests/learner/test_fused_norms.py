"""Norms by one kernel: the same function, names and weights; what is another function stays."""

import copy

import pytest
import torch
from torch import nn
from transformers import GemmaConfig, GemmaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from learner.fused_norms import fuse_norms
from learner.lora import copy_sharing_frozen
from tests.learner.conftest import WORDS, random_llama

SMALL = {
    "vocab_size": len(WORDS), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
}  # fmt: skip


def with_random_norms(model: nn.Module) -> nn.Module:
    for name, weight in model.named_parameters():
        if "norm" in name:
            nn.init.normal_(weight, mean=1.0, std=0.3)
    return model.eval()


@pytest.mark.parametrize("make", [random_llama, lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL))])
def test_outputs_gradients_and_names_are_the_same(make):
    theirs = with_random_norms(make())
    ours = copy.deepcopy(theirs)
    fuse_norms(ours)
    fused = [module for module in ours.modules() if isinstance(module, nn.RMSNorm)]
    assert len(fused) == sum("RMSNorm" in type(module).__name__ for module in theirs.modules()) > 4
    assert list(ours.state_dict()) == list(theirs.state_dict())
    tokens_B_T = torch.randint(0, len(WORDS), (3, 7), generator=torch.Generator().manual_seed(1))
    for model in (ours, theirs):
        model(tokens_B_T).logits.square().sum().backward()
    torch.testing.assert_close(ours(tokens_B_T).logits, theirs(tokens_B_T).logits)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_a_copy_has_weights_of_its_own_or_shares_the_frozen_ones(llama):
    fuse_norms(llama)
    assert copy.deepcopy(llama).model.norm.weight is not llama.model.norm.weight
    assert copy_sharing_frozen(llama.requires_grad_(False)).model.norm.weight is llama.model.norm.weight


def test_norms_that_are_not_held_in_fp32_stay(llama):
    fuse_norms(llama.bfloat16())
    assert not [module for module in llama.modules() if isinstance(module, nn.RMSNorm)]


def test_a_norm_that_computes_something_else_stays():
    model = with_random_norms(GemmaForCausalLM(GemmaConfig(**SMALL)))
    fuse_norms(model)
    assert not [module for module in model.modules() if isinstance(module, nn.RMSNorm)]
