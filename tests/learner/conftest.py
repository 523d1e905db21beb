"""A tiny Llama with random weights and a word-level tokenizer, for tests of the mathematics."""

import os

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from learner.policy import Policy

WORDS = ["<pad>", "<end>", "<user>", "<assistant>", "?", *(f"w{number}" for number in range(27))]
CHAT_TEMPLATE = (
    "{%- for message in messages -%}{{- '<' + message['role'] + '> ' + message['content'] + ' ' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<assistant>' -}}{%- endif -%}"
)
END = WORDS.index("<end>")


def random_llama(
    seed: int = 0, *, tied: bool = False, layers: int = 2, vocabulary: int = len(WORDS)
) -> LlamaForCausalLM:
    """A Llama of about 15,000 parameters whose next-token distributions are far from uniform."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=128,
        initializer_range=0.3,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word."""
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>", unk_token="?")
    fast.chat_template = CHAT_TEMPLATE
    return fast


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available() and "TANDEM_TEST_GPU" not in os.environ:
        pytest.skip("no GPU")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def llama() -> LlamaForCausalLM:
    return random_llama()


@pytest.fixture
def policy() -> Policy:
    return Policy(random_llama(), word_tokenizer(), (END,))
