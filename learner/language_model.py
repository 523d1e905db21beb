"""What learning needs of a causal language model: hidden states, and log-probabilities of given replies.

Logits are computed for reply tokens only, and in pieces where the vocabulary is large, so that no tensor of all
positions times all words ever exists.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from learner import small_llama
from learner.errors import ModelNotSupported
from learner.few_shapes import rounded_down, with_rows_to_spare
from learner.hardware import matmul_precision
from learner.number_format import exactly
from learner.sequences import Episodes, Room

# 64 MB in fp32, or half a gigabyte on a GPU, where each piece adds to the output layer's whole gradient; three such
# tensors live at a time.
LOGITS_PER_PIECE = {"cpu": 1 << 24, "cuda": 1 << 27}
# Hidden values of a pass without gradients, all tokens together: of one layer at a time, in bf16, about a gigabyte.
# Fewer passes are fewer launches; on a CPU nothing is gained by it.
VALUES_PER_PASS = {"cuda": 1 << 25}
# Of a pass in which no gradients are computed before or after.
USUAL_ROOM = Room(rows=64, tokens=1 << 14)


@dataclass(frozen=True)
class TokenLogprobs:
    """Per reply token: its log-probability, and the entropy in nats of the distribution it was drawn from."""

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
    return states_at(model.base_model(input_ids=tokens_B_T, use_cache=False).last_hidden_state, read_B_T)


def states_at(states_B_T_D: Tensor, read_B_T: Tensor) -> Tensor:
    """The states [N, D] where `read_B_T` is True: by number, since a GPU sorts what was chosen by a mask before it puts
    the gradient back."""
    return states_B_T_D.flatten(0, 1).index_select(0, read_B_T.flatten().nonzero().squeeze(1))


def room_without_gradients(model: PreTrainedModel, room: Room = USUAL_ROOM) -> Room:
    """The room of a pass that keeps nothing for gradients: `room`, which one with gradients has, or on a GPU as much
    more as is still small."""
    tokens = VALUES_PER_PASS.get(model.device.type, 0) // model.config.get_text_config().hidden_size
    return Room(max(room.rows, tokens), max(room.tokens, tokens))


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


def token_logprobs(model: PreTrainedModel, hidden_N_D: Tensor, targets_N: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities [N] of `targets_N` under softmax(logits / temperature), from the states that predict them.

    With gradients on, and more than `LOGITS_PER_PIECE` logits, each piece is computed again in the backward pass.
    """
    pieces = _pieces(model, hidden_N_D, targets_N)

    def of_piece(hidden_n_D: Tensor, targets_n: Tensor) -> Tensor:
        chosen_n: Tensor = ChosenLogprobs.apply(_scaled_logits(model, hidden_n_D, temperature), targets_n)
        return chosen_n

    if len(pieces) == 1:
        return of_piece(*pieces[0])
    return torch.cat([checkpoint(of_piece, *piece, use_reentrant=False) for piece in pieces])


@torch.no_grad()
def token_logprobs_and_entropies(
    model: PreTrainedModel, hidden_N_D: Tensor, targets_N: Tensor, temperature: float = 1.0
) -> TokenLogprobs:
    """As `token_logprobs`, without gradients, and the entropies too, which take another pass over all logits."""
    logprobs, entropies = [], []
    for hidden_n_D, targets_n in _pieces(model, hidden_N_D, targets_N):
        all_logprobs_n_V = _all_logprobs(model, hidden_n_D, temperature)
        logprobs.append(_chosen(all_logprobs_n_V, targets_n))
        entropies.append(-_expected(all_logprobs_n_V, all_logprobs_n_V)[: len(targets_n)])
    return TokenLogprobs(torch.cat(logprobs), torch.cat(entropies))


def reply_pass(model: PreTrainedModel, episodes: Episodes, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """By one forward pass, the hidden states [N, D] that the reply tokens of `episodes` are predicted from, and the
    log-probabilities [N] of these tokens."""
    hidden_N_D = predicting_states(model, episodes)
    return hidden_N_D, token_logprobs(model, hidden_N_D, episodes.reply_tokens_N, temperature)


@torch.no_grad()
def reply_pass_with_entropies(
    model: PreTrainedModel, episodes: Episodes, temperature: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """As `reply_pass`, without gradients, and the entropies [N] too."""
    hidden_N_D = predicting_states(model, episodes)
    tokens = token_logprobs_and_entropies(model, hidden_N_D, episodes.reply_tokens_N, temperature)
    return hidden_N_D, tokens.logprobs_N, tokens.entropies_N


def forward_kl_pass(
    model: PreTrainedModel,
    episodes: Episodes,
    start: PreTrainedModel,
    start_hidden_N_D: Tensor,
    temperature: float = 1.0,
    start_temperature: float = 1.0,
) -> Tensor:
    """KL(start || model) [N] in nats of the next-token distributions at each reply token of `episodes`, each at its own
    temperature, with gradients to `model`.

    KL(p || q) = sum over words of p (log p - log q). `start_hidden_N_D` are the start's `predicting_states`. In pieces,
    as in `token_logprobs`.
    """
    pieces = _pieces(model, predicting_states(model, episodes), start_hidden_N_D)

    def of_piece(hidden_n_D: Tensor, start_hidden_n_D: Tensor) -> Tensor:
        with torch.no_grad():
            start_logprobs_n_V = _all_logprobs(start, start_hidden_n_D, start_temperature)
        logprobs_n_V = _all_logprobs(model, hidden_n_D, temperature)
        return _expected(start_logprobs_n_V, start_logprobs_n_V - logprobs_n_V)[: len(hidden_n_D)]

    if len(pieces) == 1:
        return of_piece(*pieces[0])
    return torch.cat([checkpoint(of_piece, *piece, use_reentrant=False) for piece in pieces])


def reply_logprobs(model: PreTrainedModel, episodes: Episodes, temperature: float = 1.0) -> Tensor:
    """Log-probabilities [N] of the reply tokens of `episodes`, by one forward pass."""
    return token_logprobs(model, predicting_states(model, episodes), episodes.reply_tokens_N, temperature)


def _pieces(model: PreTrainedModel, hidden_N_D: Tensor, others_N: Tensor) -> list[tuple[Tensor, Tensor]]:
    most = LOGITS_PER_PIECE.get(hidden_N_D.device.type, LOGITS_PER_PIECE["cpu"])
    rows = max(1, rounded_down(most // model.config.get_text_config().vocab_size))
    return list(zip(hidden_N_D.split(rows), others_N.split(rows), strict=True))


def _scaled_logits(model: PreTrainedModel, hidden_n_D: Tensor, temperature: float) -> Tensor:
    """Logits / temperature after each of these states, and perhaps some rows more."""
    logits_n_V = logits(model, with_rows_to_spare(hidden_n_D))
    return logits_n_V if temperature == 1 else logits_n_V / temperature


def _all_logprobs(model: PreTrainedModel, hidden_n_D: Tensor, temperature: float) -> Tensor:
    return torch.log_softmax(_scaled_logits(model, hidden_n_D, temperature), dim=-1)


def _expected(all_logprobs_n_V: Tensor, values_n_V: Tensor) -> Tensor:
    """Expectation [n] of values over the words, in fp32: autocast takes this for a product of matrices."""
    with exactly(values_n_V.device):
        return torch.linalg.vecdot(all_logprobs_n_V.exp(), values_n_V)


def _chosen(all_logprobs_n_V: Tensor, targets_n: Tensor) -> Tensor:
    return all_logprobs_n_V[: len(targets_n)].gather(1, targets_n[:, None]).squeeze(1)


class ChosenLogprobs(torch.autograd.Function):
    """y = log softmax(x)[target] for each row that has a target, the first n; dx = dy (onehot(target) - softmax(x)), in
    fewer passes over all words than by the parts."""

    @staticmethod
    def forward(ctx: Any, logits_m_V: Tensor, targets_n: Tensor) -> Tensor:
        all_logprobs_m_V = torch.log_softmax(logits_m_V, dim=-1)
        ctx.save_for_backward(all_logprobs_m_V, targets_n)
        return _chosen(all_logprobs_m_V, targets_n)

    @staticmethod
    def backward(ctx: Any, gradients_n: Tensor) -> tuple[Tensor, None]:
        all_logprobs_m_V, targets_n = ctx.saved_tensors
        spare = len(all_logprobs_m_V) - len(targets_n)
        gradients_m_V = all_logprobs_m_V.exp().mul_(F.pad(-gradients_n, (0, spare))[:, None])
        gradients_m_V[: len(targets_n)].scatter_add_(1, targets_n[:, None], gradients_n[:, None])
        return gradients_m_V, None


@torch.no_grad()
def require_plain_head(model: PreTrainedModel) -> None:
    """Refuse a model whose own logits differ from `logits(hidden_states(...))`, rather than train it on wrong ones."""
    tokens_1_T = torch.arange(1, 9, device=model.device)[None] % model.config.get_text_config().vocab_size
    with matmul_precision("full", model):
        own_T_V = model(input_ids=tokens_1_T, use_cache=False).logits[0].float()
        ours_T_V = logits(model, hidden_states(model, tokens_1_T, torch.ones_like(tokens_1_T, dtype=torch.bool)))
    if not torch.allclose(own_T_V, ours_T_V, rtol=1e-2, atol=1e-2):
        raise ModelNotSupported(
            f"{model.config.model_type}: its logits are not its output layer on its last hidden state"
        )
