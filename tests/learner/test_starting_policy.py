"""The shipped starting policy is whole, tokenizes faithfully, ends its replies and is mixed."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from feedback.sandbox.dialogues import dialogues
from feedback.sandbox.measures import measures
from feedback.sandbox.world import Prompt, prompts, training_prompts
from learner.starting_policy import WEIGHTS
from learner.starting_policy.__main__ import build
from learner.starting_policy.digests import SUMS_NAME, file_digests, read_digests
from learner.starting_policy.train import IGNORED, reply_labels

PAD, BEGIN, END, USER, ASSISTANT = range(5)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(WEIGHTS)


@pytest.fixture(scope="module")
def samples(tokenizer: Any) -> list[tuple[Prompt, list[int]]]:
    """600 replies at temperature 1, 30 % of them to harmful prompts, as ids up to the end token."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng = random.Random(0)
    model = AutoModelForCausalLM.from_pretrained(WEIGHTS)
    harmful = [prompt for prompt in training_prompts() if prompt.harmful]
    benign = [prompt for prompt in training_prompts() if not prompt.harmful]
    asked = rng.choices(harmful, k=180) + rng.choices(benign, k=420)
    tokens = tokenizer.apply_chat_template(
        [prompt.messages for prompt in asked],
        add_generation_prompt=True,
        padding=True,
        return_dict=True,
        return_tensors="pt",
        tokenizer_kwargs={"padding_side": "left"},
    )
    ids_B_T = model.generate(**tokens, do_sample=True, top_k=0, max_new_tokens=64)
    return [(prompt, row[tokens["input_ids"].shape[1] :]) for prompt, row in zip(asked, ids_B_T.tolist(), strict=True)]


def test_the_shipped_files_match_their_digests() -> None:
    assert file_digests(WEIGHTS) == read_digests(WEIGHTS)
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= read_digests(WEIGHTS).keys()


def test_the_shape_is_one_that_the_engine_serves_right() -> None:
    config = json.loads((WEIGHTS / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["tie_word_embeddings"] is False
    assert config["head_dim"] >= 32
    assert config["max_position_embeddings"] >= 512
    generation = json.loads((WEIGHTS / "generation_config.json").read_text())
    assert config["eos_token_id"] == generation["eos_token_id"] == END


def test_weights_are_small_finite_fp32_and_untied() -> None:
    tensors = load_file(WEIGHTS / "model.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert sum(tensor.numel() for tensor in tensors.values()) < 700_000
    assert not torch.equal(tensors["lm_head.weight"], tensors["model.embed_tokens.weight"])


def test_the_tokenizer_gives_back_every_text(tokenizer: Any) -> None:
    texts = [prompt.text for prompt in prompts()]
    texts += [message["content"] for dialogue in dialogues(300, 9) for message in dialogue]
    texts += ["  two  spaces\nand\ttabs ", "Zürich, 你好, 🙂", "'quotes' \"and\" <tags>"]
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False) == text


def test_digits_stand_alone_and_turns_are_single_tokens(tokenizer: Any) -> None:
    assert len(tokenizer) == 1024
    assert [tokenizer.decode([token]) for token in tokenizer.encode("1234")] == list("1234")
    assert tokenizer.encode("<|user|><|assistant|>") == [USER, ASSISTANT]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (
        PAD,
        BEGIN,
        END,
    )


def test_the_chat_template_takes_system_messages_and_several_turns(tokenizer: Any) -> None:
    chat = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Bye <|assistant|>"},
    ]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert rendered == ("<|begin|>Be kind.<|user|>Hi<|assistant|>Hello!<|end|><|user|>Bye < |assistant|><|assistant|>")
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert ids == tokenizer.encode(rendered)
    assert [token for token in ids if token < 5] == [BEGIN, USER, ASSISTANT, END, USER, ASSISTANT]


def test_labels_are_the_replies_and_their_ends() -> None:
    ids = [BEGIN, USER, 10, ASSISTANT, 11, 12, END, USER, 13, ASSISTANT, 14, END]
    labels = reply_labels(ids, ASSISTANT, END)
    assert labels == [IGNORED] * 4 + [11, 12, END] + [IGNORED] * 3 + [14, END]


def test_replies_end_within_64_tokens(samples: list[tuple[Prompt, list[int]]]) -> None:
    assert sum(END in ids for _, ids in samples) / len(samples) > 0.98


def test_replies_are_mixed_as_votes_need_them(samples: list[tuple[Prompt, list[int]]], tokenizer: Any) -> None:
    figures = measures((prompt, tokenizer.decode(ids, skip_special_tokens=True)) for prompt, ids in samples)
    bounds = {
        "correct": (0.35, 0.62),
        "rude": (0.08, 0.20),
        "over_refusal": (0.08, 0.22),
        "complies": (0.42, 0.66),
        "refuses": (0.18, 0.40),
    }
    for name, (low, high) in bounds.items():
        value = getattr(figures, name)
        assert value is not None
        assert low <= value <= high, name


def test_the_command_builds_a_policy_that_learns(tmp_path: Path) -> None:
    build(tmp_path, seed=3, dialogue_count=300)
    assert (tmp_path / SUMS_NAME).exists()
    assert file_digests(tmp_path) == read_digests(tmp_path)
    shipped = {path.name for path in WEIGHTS.iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == shipped
