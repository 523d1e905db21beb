"""Adapters: they share the frozen weights, change nothing at first, and are the same merged, written and read."""

import copy
import json

import pytest
import torch

from feedback import adapters, manifest
from feedback.errors import PolicyInvalid
from feedback.learning_settings import LoRASettings
from learner.language_model import predicting_states, reply_logprobs
from learner.lora import (
    copy_sharing_frozen,
    has_adapter,
    load_adapter,
    merge,
    merged_weights,
    save_adapter,
    with_adapter,
)
from learner.sequences import Episodes
from tests.learner.conftest import random_llama

EPISODES = Episodes.pad([[5, 6, 7], [8]], [[11, 9, 1], [12, 1]])
SETTINGS = LoRASettings(rank=4, alpha=8)


def adapted(settings: LoRASettings = SETTINGS, *, moved: bool = True):
    """(start, a model with an adapter on its weights), the adapter's weights far from zero unless told otherwise."""
    start = random_llama().requires_grad_(False)
    model = with_adapter(copy_sharing_frozen(start), settings, seed=1)
    if moved:
        generator = torch.Generator().manual_seed(2)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return start, model


def logprobs(model):
    with torch.no_grad():
        return reply_logprobs(model, EPISODES)


def test_a_new_adapter_changes_nothing():
    start, model = adapted(moved=False)
    torch.testing.assert_close(logprobs(model), logprobs(start), atol=1e-5, rtol=1e-5)


def test_the_start_has_no_second_copy_and_is_what_it_was():
    start, model = adapted()
    before = logprobs(random_llama())
    assert torch.equal(logprobs(start), before)
    assert (logprobs(model) - before).abs().max() > 0.1
    own = {parameter.data_ptr() for parameter in model.parameters() if parameter.requires_grad}
    shared = {parameter.data_ptr() for parameter in model.parameters() if not parameter.requires_grad}
    assert shared == {parameter.data_ptr() for parameter in start.parameters()}
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) < 10_000
    again = copy_sharing_frozen(model)
    assert own.isdisjoint(parameter.data_ptr() for parameter in again.parameters())
    assert torch.equal(logprobs(again), logprobs(model))


def test_only_the_adapter_gets_gradients():
    _, model = adapted()
    reply_logprobs(model, EPISODES).sum().backward()
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient == {name for name, _ in model.named_parameters() if ".lora_" in name}


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"]])
def test_merged_weights_are_the_same_policy_under_the_plain_names(targets):
    start, model = adapted(LoRASettings(rank=4, alpha=8, targets=targets))
    before, start_before = logprobs(model), logprobs(start)
    plain = random_llama(seed=9)
    plain.load_state_dict(dict(merged_weights(model)))
    torch.testing.assert_close(logprobs(plain), before, atol=1e-4, rtol=1e-4)
    merge(model)
    assert not has_adapter(model)
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in start.named_parameters()]
    torch.testing.assert_close(logprobs(model), before, atol=1e-4, rtol=1e-4)
    assert torch.equal(logprobs(start), start_before)


@pytest.mark.parametrize(
    ("targets", "on"),
    [
        (["q_proj", "v_proj"], [f"model.layers.{layer}.self_attn.{part}_proj" for layer in (0, 1) for part in "qv"]),
        (["0.mlp.up_proj"], ["model.layers.0.mlp.up_proj"]),
    ],
)
def test_what_is_written_is_what_engines_take_and_can_be_read_again(tmp_path, targets, on):
    start, model = adapted(LoRASettings(rank=4, alpha=8, targets=targets))
    save_adapter(model, tmp_path)
    (tmp_path / "probe.json").write_text("{}")
    manifest.write(tmp_path, base=("v0", "0" * 64))
    base_tensors = {name: {"shape": list(tensor.shape)} for name, tensor in start.state_dict().items()}
    adapters.check_fits(tmp_path, manifest.read(tmp_path)["tensors"], base_tensors, max_rank=8)
    read = load_adapter(copy_sharing_frozen(start), tmp_path)
    assert torch.equal(logprobs(read), logprobs(model))
    assert json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"] == on


def test_an_adapter_that_is_not_finite_is_not_written(tmp_path):
    _, model = adapted()
    next(parameter for parameter in model.parameters() if parameter.requires_grad).data[0, 0] = torch.nan
    with pytest.raises(PolicyInvalid, match="not finite"):
        save_adapter(model, tmp_path)


def test_layers_that_are_not_there_are_refused():
    with pytest.raises(PolicyInvalid, match="adapter"):
        adapted(LoRASettings(rank=4, targets=["c_attn"]))


def test_the_trunk_alone_takes_an_adapter_too():
    """As the preference model and the critic have it."""
    start = random_llama().requires_grad_(False)
    trunk = with_adapter(copy_sharing_frozen(start.base_model), SETTINGS, seed=1)
    with torch.no_grad():
        ours, plain = predicting_states(trunk, EPISODES), predicting_states(start, EPISODES)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


def test_a_coarse_base_keeps_its_format_and_the_adapter_is_exact():
    start = random_llama().to(torch.bfloat16).requires_grad_(False)
    model = with_adapter(copy.copy(start), SETTINGS, seed=1)
    formats = {parameter.requires_grad: parameter.dtype for parameter in model.parameters()}
    assert formats == {True: torch.float32, False: torch.bfloat16}
    assert {value.dtype for _, value in merged_weights(model)} == {torch.bfloat16}
