"""Decoding with a cache of full length against the library's growing one, as it is recorded on a GPU."""

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from learner.decoding import LibraryDecoder, decoder, left_pad
from learner.recorded_decoding import RecordedDecoder, fits
from learner.sampler import TorchSampler
from tests.learner.conftest import END, random_llama

PROMPTS = [[5, 6, 7], [8], [9, 10]]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def random_qwen(**change):
    torch.manual_seed(5)
    config = Qwen2Config(**{"vocab_size": 32, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 3,
                            "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2,
                            "eos_token_id": END, **change})  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


def with_adapter():
    model = random_qwen()
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False), model)
    return model


def apart(first, second) -> float:
    """Length of the difference, of the first one's."""
    return float((first - second).norm() / first.norm())


@torch.no_grad()
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("make", [random_llama, random_qwen, with_adapter])
def test_it_agrees_with_the_library_while_rows_are_dropped(make, bf16, device):
    model = make().to(device)
    inputs, mask = left_pad(PROMPTS, 6, torch.device(device))
    most = 0.08 if bf16 else 1e-4  # bf16 itself is .03 from fp32
    with torch.autocast(device, torch.bfloat16, enabled=bf16, cache_enabled=False):
        decoders = [LibraryDecoder(model, mask), RecordedDecoder(model, mask)]
        assert apart(*(one.advance(inputs) for one in decoders)) < most
        for step, rows in enumerate(([0, 1, 2], [0, 1, 2], [2, 0], [1, 0], [1])):
            kept = torch.tensor(rows, device=device)
            for one in decoders:
                one.keep(kept)
            tokens = torch.arange(10, 10 + len(rows), device=device)[:, None] + step
            assert apart(*(one.advance(tokens) for one in decoders)) < most
    assert decoders[1].recorded == (device == "cuda")


@torch.no_grad()
def test_a_first_token_may_be_the_only_one_of_each_prompt():
    model = random_qwen()
    inputs, mask = left_pad([[5], [6]], 4, torch.device("cpu"))
    decoders = [LibraryDecoder(model, mask), RecordedDecoder(model, mask)]
    for tokens in (inputs, inputs + 2):
        first, second = (one.advance(tokens) for one in decoders)
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


def test_no_cpu_model_is_recorded():
    _, mask = left_pad([[5]], 3, torch.device("cpu"))
    assert isinstance(decoder(random_qwen(), mask), LibraryDecoder)


@pytest.mark.gpu
def test_what_cannot_be_recorded_is_left_to_the_library():
    assert fits(random_qwen().cuda())
    assert not fits(random_qwen(attn_implementation="eager").cuda())
    window = MistralConfig(vocab_size=32, hidden_size=64, intermediate_size=64, num_hidden_layers=1, sliding_window=4,
                           num_attention_heads=4, num_key_value_heads=2)  # fmt: skip
    assert not fits(MistralForCausalLM(window).cuda())
    assert fits(GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=64, n_layer=1, n_head=4)).cuda())


@pytest.mark.gpu
@torch.no_grad()
def test_a_pass_that_asks_the_gpu_for_a_number_is_computed_as_it_is(caplog):
    model = random_qwen().cuda()
    sampler = TorchSampler(model, (END,))
    expected = sampler.sample(PROMPTS, max_new_tokens=8, temperature=1.0, seed=1).replies()
    model.model.norm.register_forward_hook(lambda module, given, states: states + 0 * float(states.sum()))
    assert sampler.sample(PROMPTS, max_new_tokens=8, temperature=1.0, seed=1).replies() == expected
    assert "pass by pass" in caplog.text
    # And the next model is recorded again.
    _, mask = left_pad(PROMPTS, 8, torch.device("cuda"))
    other = RecordedDecoder(random_qwen().cuda(), mask)
    for _ in range(4):
        other.advance(torch.tensor([[5], [6], [7]], device="cuda"))
    assert other.recorded
