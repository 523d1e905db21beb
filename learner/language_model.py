"""What learning needs of a causal language model: hidden states, and log-probabilities of given replies.

Logits are computed for reply tokens only, and in pieces where the vocabulary is large, so that no tensor of all
positions times all words ever exists.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from learner import small_llama
from learner.errors import ModelNotSupported
from learner.sequences import Episodes

LOGITS_PER_PIECE = 1 << 26


@dataclass(frozen=True)
class TokenLogprobs:
    """Per reply token: its log-probability, and the entropy in nats of the distribution it was drawn from
    (detached)."""

    logprobs_N: Tensor
    entropies_N: Tensor


def hidden_states(
    model: PreTrainedModel, tokens_B_T: Tensor, read_B_T: Tensor, present_B_T: Tensor | None = None
) -> Tensor:
    """Last hidden states [N, D] of the tokens where `read_B_T` is True, row after row.

    Rows are padded on the right; causal attention keeps the padding out, and where `present_B_T` tells of it, it need
    not be computed.
    """
    if small_llama.fits(model.base_model, *tokens_B_T.shape):
        return small_llama.hidden_states(model.base_model, tokens_B_T, read_B_T, present_B_T=present_B_T)
    return model.base_model(input_ids=tokens_B_T, use_cache=False).last_hidden_state[read_B_T]


def predicting_states(model: PreTrainedModel, episodes: Episodes) -> Tensor:
    """The hidden states [N, D] from which the reply tokens of `episodes` are predicted."""
    return hidden_states(model, episodes.tokens_B_T, episodes.predicts_reply_B_T, episodes.present_B_T)


def logits(model: PreTrainedModel, hidden_N_D: Tensor) -> Tensor:
    """Logits [N, V] in fp32 of hidden states, with the scaling and soft cap that some architectures put on them."""
    config = model.config.get_text_config()
    logits_N_V = model.get_output_embeddings()(hidden_N_D).float()
    if getattr(config, "logit_scale", None):
        logits_N_V = logits_N_V * config.logit_scale
    if getattr(config, "logits_scaling", None):
        logits_N_V = logits_N_V / config.logits_scaling
    cap = getattr(config, "final_logit_softcapping", None)
    return torch.tanh(logits_N_V / cap) * cap if cap else logits_N_V


def token_logprobs(
    model: PreTrainedModel, hidden_N_D: Tensor, targets_N: Tensor, temperature: float = 1.0
) -> TokenLogprobs:
    """Log-probabilities of `targets_N` under softmax(logits / temperature), from the hidden states that predict them.

    With gradients on, and more than `LOGITS_PER_PIECE` logits, each piece is computed again in the backward pass.
    """
    rows = max(1, LOGITS_PER_PIECE // model.config.get_text_config().vocab_size)
    if len(targets_N) <= rows:
        return TokenLogprobs(*_piece(model, hidden_N_D, targets_N, temperature))
    pieces = [
        checkpoint(_piece, model, hidden_n_D, targets_n, temperature, use_reentrant=False)
        for hidden_n_D, targets_n in zip(hidden_N_D.split(rows), targets_N.split(rows), strict=True)
    ]
    return TokenLogprobs(*(torch.cat(parts) for parts in zip(*pieces, strict=True)))


def reply_logprobs(model: PreTrainedModel, episodes: Episodes, temperature: float = 1.0) -> TokenLogprobs:
    """Log-probabilities of the reply tokens of `episodes`, by one forward pass."""
    return token_logprobs(model, predicting_states(model, episodes), episodes.reply_tokens_N, temperature)


def _piece(model: PreTrainedModel, hidden_n_D: Tensor, targets_n: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    all_logprobs_n_V = torch.log_softmax(logits(model, hidden_n_D) / temperature, dim=-1)
    logprobs_n = all_logprobs_n_V.gather(1, targets_n[:, None]).squeeze(1)
    with torch.no_grad():
        entropies_n = -(all_logprobs_n_V.exp() * all_logprobs_n_V).sum(dim=1)
    return logprobs_n, entropies_n


@torch.no_grad()
def require_plain_head(model: PreTrainedModel) -> None:
    """Refuse a model whose own logits differ from `logits(hidden_states(...))`, rather than train it on wrong ones."""
    tokens_1_T = torch.arange(1, 9, device=model.device)[None] % model.config.get_text_config().vocab_size
    own_T_V = model(input_ids=tokens_1_T, use_cache=False).logits[0].float()
    ours_T_V = logits(model, hidden_states(model, tokens_1_T, torch.ones_like(tokens_1_T, dtype=torch.bool)))
    if not torch.allclose(own_T_V, ours_T_V, rtol=1e-2, atol=1e-2):
        raise ModelNotSupported(
            f"{model.config.model_type}: its logits are not its output layer on its last hidden state"
        )
