"""Our own forward pass against the library's: values, gradients, padding, pairs, the cache, and what it refuses."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaModel

from learner import small_llama
from learner.decoding import LibraryDecoder, SmallLlamaDecoder, decoder, left_pad
from learner.hardware import matmul_precision
from learner.language_model import require_plain_head
from tests.learner.conftest import random_llama

TOKENS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 0, 0, 0]])


@pytest.fixture
def grouped() -> LlamaModel:
    """A trunk with four query heads to each key head, and norms that are not all ones."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=64,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=8,
        initializer_range=0.2,
        rms_norm_eps=1e-5,
        rope_theta=500.0,
    )
    trunk = LlamaModel(config).eval()
    with torch.no_grad():
        for name, parameter in trunk.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return trunk


def both(trunk, tokens):
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    ours = small_llama.hidden_states(trunk, tokens, everywhere).unflatten(0, tokens.shape)
    return ours, trunk(input_ids=tokens, use_cache=False).last_hidden_state


def test_values_and_gradients_are_the_librarys(grouped):
    ours, theirs = both(grouped, TOKENS)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    toward = torch.randn_like(ours)
    parameters = list(grouped.parameters())
    own_gradients = torch.autograd.grad((ours * toward).sum(), parameters)
    their_gradients = torch.autograd.grad((theirs * toward).sum(), parameters)
    for own, their in zip(own_gradients, their_gradients, strict=True):
        torch.testing.assert_close(own, their, atol=1e-4, rtol=1e-4)


def test_padding_changes_nothing_before_it(grouped):
    alone, _ = both(grouped, TOKENS[1:, :3])
    padded, _ = both(grouped, TOKENS)
    torch.testing.assert_close(alone[0], padded[1, :3], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [2, 7])
def test_padding_need_not_be_computed_nor_states_that_nobody_reads(grouped, rows):
    """Any tokens may be read; values and gradients are those of the library's states at these places. There are 9
    tokens, or 83, which is made a round number."""
    generator = torch.Generator().manual_seed(rows)
    lengths = [6, 3] if rows == 2 else [21, 3, 11, 17, 8, 14, 9]
    present = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    tokens = torch.randint(5, 32, present.shape, generator=generator) * present
    read = present & (torch.rand(present.shape, generator=generator) < 0.6)
    assert read.any(dim=1).all() and not read[present].all()
    ours = small_llama.hidden_states(grouped, tokens, read, present_B_T=present)
    theirs = grouped(input_ids=tokens, use_cache=False).last_hidden_state[read]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    toward = torch.randn_like(ours)
    parameters = list(grouped.parameters())
    own_gradients = torch.autograd.grad((ours * toward).sum(), parameters)
    their_gradients = torch.autograd.grad((theirs * toward).sum(), parameters)
    for own, their in zip(own_gradients, their_gradients, strict=True):
        torch.testing.assert_close(own, their, atol=1e-3, rtol=1e-4)


def test_positions_and_visibility_are_obeyed(grouped):
    """A second reply that sees the prompt and not the first reply is as if it stood alone."""
    row = torch.tensor([[5, 6, 7, 8, 9, 10]])
    visible = torch.ones(1, 6, 6, dtype=torch.bool).tril()
    visible[0, 4:, 2:4] = False
    positions = torch.tensor([[0, 1, 2, 3, 2, 3]])
    read = torch.tensor([[False, False, False, False, True, True]])
    together = small_llama.hidden_states(grouped, row, read, positions_B_T=positions, visible_B_T_T=visible)
    second, _ = both(grouped, torch.tensor([[5, 6, 9, 10]]))
    torch.testing.assert_close(together, second[0, 2:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_both_decoders_agree_while_rows_are_dropped():
    model = random_llama()
    inputs, mask = left_pad([[5, 6, 7], [8], [9, 10]], 4, torch.device("cpu"))
    decoders = [LibraryDecoder(model, mask), SmallLlamaDecoder(model, mask)]
    first, second = (one.advance(inputs) for one in decoders)
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)
    for step, rows in enumerate(([0, 1, 2], [0, 2], [1])):
        for one in decoders:
            one.keep(torch.tensor(rows))
        tokens = torch.arange(10, 10 + len(rows))[:, None] + step
        first, second = (one.advance(tokens) for one in decoders)
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"attention_bias": True}, False),
        ({"mlp_bias": True}, False),
        ({"hidden_act": "gelu"}, False),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, False),
    ],
)
def test_other_llamas_are_left_to_the_library(change, fits):
    config = LlamaConfig(**{"vocab_size": 8, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                            "num_attention_heads": 2, "head_dim": 8, **change})  # fmt: skip
    trunk = LlamaModel(config)
    assert small_llama.fits(trunk) == fits
    assert not small_llama.fits(trunk.bfloat16())
    assert not small_llama.fits(trunk.float(), 10_000, 1_000)


def test_a_llama_with_adapters_is_left_to_the_library():
    model = random_llama()
    assert small_llama.fits(model.model)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["down_proj"]))
    trunk = adapted.get_base_model().model
    assert type(trunk) is LlamaModel
    assert not small_llama.fits(trunk)


def test_the_decoder_is_chosen_by_what_fits():
    _, mask = left_pad([[5]], 3, torch.device("cpu"))
    assert isinstance(decoder(random_llama(), mask), SmallLlamaDecoder)
    assert isinstance(decoder(random_llama().double(), mask), LibraryDecoder)


@torch.no_grad()
def test_fast_products_stay_close_and_leave_no_trace():
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    model = random_llama()
    exact, _ = both(model.model, TOKENS)
    with matmul_precision("fast", model):
        assert matmul.fp32_precision == "bf16"
        quick, _ = both(model.model, TOKENS)
    assert matmul.fp32_precision == before
    assert float((quick - exact).norm() / exact.norm()) < 0.02
    with matmul_precision("fast", random_llama().double()):
        assert matmul.fp32_precision == before


def test_a_models_head_is_checked_at_full_precision_whatever_is_around():
    model = random_llama()
    with matmul_precision("fast", model):
        require_plain_head(model)
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
