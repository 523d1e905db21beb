"""Two replies in one row after their prompt are to any kind of model what they are to it alone."""

from collections.abc import Callable

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Cohere2Config,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from learner.comparisons import ComparisonBatch, EncodedComparison
from learner.errors import ModelNotSupported
from learner.language_model import hidden_states, reply_logprobs
from learner.pairs import pair_states, require_pairs
from learner.sampler import TorchSampler
from learner.sequences import Episodes
from tests.learner.conftest import END, WORDS

# Rows are longer than the window of those that have one.
WINDOW = 4
PAIRS = [
    EncodedComparison([5, 6, 7, 8, 9, 10, 11], ([8, 9, 1], [10, 12, 13, 9, 1]), 0, 1.0, 1.0),
    EncodedComparison([5], ([11, 1], [12, 13, 14, 15, 1]), 1, 0.5, 2.0),
]


def sizes(**change: object) -> dict[str, object]:
    return {
        "vocab_size": len(WORDS), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64, "initializer_range": 0.3,
        "bos_token_id": None, "eos_token_id": END, "pad_token_id": 0,
    } | change  # fmt: skip


KINDS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**sizes()),
    "gpt2": lambda: GPT2Config(
        vocab_size=len(WORDS), n_embd=32, n_layer=2, n_head=2, n_positions=64, initializer_range=0.3
    ),
    "opt": lambda: OPTConfig(**sizes(ffn_dim=48, init_std=0.3, word_embed_proj_dim=32)),
    "qwen2": lambda: Qwen2Config(**sizes()),
    "qwen2, one layer with a window": lambda: Qwen2Config(
        **sizes(use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1)
    ),
    "qwen3": lambda: Qwen3Config(**sizes(head_dim=16, tie_word_embeddings=True)),
    "mistral, with a window": lambda: MistralConfig(**sizes(head_dim=16, sliding_window=WINDOW)),
    "phi3, with a window": lambda: Phi3Config(**sizes(sliding_window=WINDOW)),
    "gemma": lambda: GemmaConfig(**sizes(head_dim=16)),
    "gemma2, with a window": lambda: Gemma2Config(**sizes(head_dim=16, sliding_window=WINDOW)),
    "gemma3, with a window": lambda: Gemma3TextConfig(
        **sizes(head_dim=16, sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"])
    ),
    "cohere2, with a window": lambda: Cohere2Config(**sizes(sliding_window=WINDOW)),
}


def model_of(config: PreTrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return model_of(KINDS[request.param]())


@torch.no_grad()
def test_a_pair_is_what_its_replies_are_alone(model: PreTrainedModel) -> None:
    batch = ComparisonBatch.pad(PAIRS)
    together = pair_states(model.base_model, batch, batch.is_reply_C_T)
    apart = [
        hidden_states(model, one.tokens_B_T, one.is_reply_B_T, one.present_B_T)
        for pair in PAIRS
        for one in (Episodes.pad([pair.prompt], [reply]) for reply in pair.replies)
    ]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-4, rtol=1e-4)
    require_pairs(model)


@torch.no_grad()
def test_what_is_drawn_has_the_probabilities_of_whole_replies(model: PreTrainedModel) -> None:
    """Token by token, from prompts of different lengths side by side, and past the window."""
    samples = TorchSampler(model, (END,)).sample(
        [pair.prompt for pair in PAIRS] * 4, max_new_tokens=10, temperature=1.0, seed=1
    )
    drawn_N = samples.logprobs_B_R[samples.episodes.reply_mask_B_R]
    torch.testing.assert_close(drawn_N, reply_logprobs(model, samples.episodes), atol=1e-4, rtol=1e-4)


def test_a_model_that_takes_no_positions_is_refused() -> None:
    model = model_of(BloomConfig(vocab_size=len(WORDS), hidden_size=32, n_layer=2, n_head=2))
    with pytest.raises(ModelNotSupported, match="bloom"):
        require_pairs(model)
