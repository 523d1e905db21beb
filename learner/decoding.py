"""Going on from a prompt token by token: by the library's key-value cache for any model, by our own for small Llamas on
a CPU, and on a GPU by passes that are recorded.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from learner import recorded_decoding, small_llama
from learner.sequences import positions


class Decoder(Protocol):
    """Rows of tokens seen so far, padded on the left, that grow at the right end together."""

    def advance(self, tokens_B_T: Tensor) -> Tensor:
        """See these next tokens; answers the hidden states [B, D] at the last of them."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these."""
        ...


def decoder(model: PreTrainedModel, mask_B_S: Tensor) -> Decoder:
    """The quickest decoder for a model. `mask_B_S`, 0 on left padding, has room for all tokens that will be seen."""
    rows, room = mask_B_S.shape
    if small_llama.fits(model.base_model, rows, room):
        return SmallLlamaDecoder(model, mask_B_S)
    if recorded_decoding.fits(model):
        return recorded_decoding.RecordedDecoder(model, mask_B_S)
    return LibraryDecoder(model, mask_B_S)


class LibraryDecoder:
    """Any causal model, by its own forward pass and a `DynamicCache`."""

    def __init__(self, model: PreTrainedModel, mask_B_S: Tensor) -> None:
        self._trunk = model.base_model
        self._cache = DynamicCache(config=model.config)
        self._mask_B_S, self._positions_B_S = mask_B_S, positions(mask_B_S)
        self._seen = 0

    def advance(self, tokens_B_T: Tensor) -> Tensor:
        before, self._seen = self._seen, self._seen + tokens_B_T.shape[1]
        output = self._trunk(
            input_ids=tokens_B_T,
            attention_mask=self._mask_B_S[:, : self._seen],
            position_ids=self._positions_B_S[:, before : self._seen],
            past_key_values=self._cache,
            use_cache=True,
        )
        last_B_D: Tensor = output.last_hidden_state[:, -1]
        return last_B_D

    def keep(self, rows: Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._mask_B_S, self._positions_B_S = self._mask_B_S[rows], self._positions_B_S[rows]


class SmallLlamaDecoder:
    """A small Llama on a CPU."""

    def __init__(self, model: PreTrainedModel, mask_B_S: Tensor) -> None:
        self._trunk = model.base_model
        self._cache = small_llama.Cache.with_room(self._trunk, *mask_B_S.shape)
        self._mask_B_S, self._positions_B_S = mask_B_S, positions(mask_B_S)

    def advance(self, tokens_B_T: Tensor) -> Tensor:
        seen = self._cache.used + tokens_B_T.shape[1]
        positions_B_T = self._positions_B_S[:, self._cache.used : seen]
        return small_llama.continue_rows(self._trunk, tokens_B_T, positions_B_T, self._mask_B_S[:, :seen], self._cache)

    def keep(self, rows: Tensor) -> None:
        self._cache.keep(rows)
        self._mask_B_S, self._positions_B_S = self._mask_B_S[rows], self._positions_B_S[rows]


def left_pad(prompts: Sequence[Sequence[int]], room: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids [B, P] padded on the left, and a mask [B, P + room] that is 0 on that padding."""
    width = max(map(len, prompts))
    tokens = [[*[0] * (width - len(prompt)), *prompt] for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * (len(prompt) + room) for prompt in prompts]
    return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)
