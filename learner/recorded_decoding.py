"""Going on token by token on a GPU: the library's forward pass of one token each, recorded once and replayed.

A token is a thousand kernels of a few microseconds, which Python launches more slowly than the GPU computes them; a
CUDA graph launches them together. So everything stands where it stood when it was recorded: keys and values in a cache
of full length, the tokens, their positions and what they may look at in tensors that are filled anew. Rows that are
dropped are computed on and not read. And queries that share keys look at them together, where the library would copy
the keys for each.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, Cache, PreTrainedModel, StaticCache
from transformers.cache_utils import StaticLayer

from learner.sequences import positions

logger = logging.getLogger(__name__)

ONE_TOKEN = "one_token"
# Kernels are loaded and tuned by the first passes, which must not be recorded.
PASSES_BEFORE = 2
# Attention kernels want rows of keys that begin at a multiple of this.
ALIGNED = 8


def fits(model: PreTrainedModel) -> bool:
    """Whether the forward pass of a token can be expected to record: a model on a GPU that the library's own compiler
    takes whole, whose layers all look at all tokens before, by torch's attention."""
    config = model.config.get_text_config()
    return (
        model.device.type == "cuda"
        and bool(getattr(model.base_model, "_can_compile_fullgraph", False))
        and config._attn_implementation == "sdpa"
        and all(type(layer) is StaticLayer for layer in StaticCache(config=config, max_cache_len=1).layers)
    )


class RecordedDecoder:
    """See `learner.decoding.Decoder`. Where nothing can be recorded, as on a CPU, it computes the same pass by pass."""

    def __init__(self, model: PreTrainedModel, mask_B_S: Tensor) -> None:
        rows, room = mask_B_S.shape
        room += -room % ALIGNED
        device, config = model.device, model.config.get_text_config()
        autocast = torch.is_autocast_enabled(device.type)
        self._trunk = model.base_model
        self._format = torch.get_autocast_dtype(device.type) if autocast else model.dtype
        self._columns: Tensor = torch.zeros(1, dtype=torch.long, device=device)
        self._cache = Cache([_Slots(room, self) for _ in range(config.num_hidden_layers)])
        self._mask_B_S = mask_B_S.bool()
        self._positions_B_S = positions(mask_B_S)
        self._used = 0
        self._kept: Tensor | slice = slice(None)
        self._tokens_B_1 = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self._position_B_1 = torch.zeros_like(self._tokens_B_1)
        self._hidden_B_1_1_S = torch.full((rows, 1, 1, room), float("-inf"), dtype=self._format, device=device)
        self._last_B_D: Tensor | None = None
        self._passes_to_go = PASSES_BEFORE
        self._graph: torch.cuda.CUDAGraph | None = None
        self._records = device.type == "cuda"

    @property
    def columns(self) -> Tensor:
        """Places in the cache of the tokens that are computed now, [T]."""
        return self._columns

    @property
    def number_format(self) -> torch.dtype:
        """Of keys and values."""
        return self._format

    @property
    def recorded(self) -> bool:
        """Whether passes are replayed by now."""
        return self._graph is not None

    def advance(self, tokens_B_T: Tensor) -> Tensor:
        """See `Decoder`. More than one token each can be seen at first only, before any row is dropped."""
        width = tokens_B_T.shape[1]
        before, self._used = self._used, self._used + width
        if width > 1:
            return self._see_prompts(tokens_B_T, before)
        self._tokens_B_1[self._kept] = tokens_B_T
        self._position_B_1.copy_(self._positions_B_S[:, before : self._used])
        self._hidden_B_1_1_S[..., before].masked_fill_(self._mask_B_S[:, None, None, before], 0)
        self._columns.fill_(before)
        if self._graph is None and self._records and not self._passes_to_go:
            self._graph = self._record()
        if self._graph is not None:
            self._graph.replay()
        else:
            self._passes_to_go = max(0, self._passes_to_go - 1)
            self._last_B_D = self._forward_one()
        assert self._last_B_D is not None
        return self._last_B_D[self._kept]

    def keep(self, rows: Tensor) -> None:
        """See `Decoder`."""
        if isinstance(self._kept, slice):
            self._kept = torch.arange(len(self._tokens_B_1), device=rows.device)
        self._kept = self._kept[rows]

    def _see_prompts(self, tokens_B_T: Tensor, before: int) -> Tensor:
        device, room = tokens_B_T.device, self._hidden_B_1_1_S.shape[3]
        columns_T = torch.arange(before, self._used, device=device)
        present_B_S = torch.zeros(len(tokens_B_T), room, dtype=torch.bool, device=device)
        present_B_S[:, : self._used] = self._mask_B_S[:, : self._used]
        self._hidden_B_1_1_S.masked_fill_(present_B_S[:, None, None], 0)
        places_S = torch.arange(room, device=device)
        # Padding sees itself: what sees nothing has no softmax.
        seen_B_T_S = present_B_S[:, None] & (places_S <= columns_T[:, None]) | (places_S == columns_T[:, None])
        hidden_B_1_T_S = torch.zeros(seen_B_T_S.shape, dtype=self._format, device=device)
        hidden_B_1_T_S = hidden_B_1_T_S.masked_fill_(~seen_B_T_S, float("-inf"))[:, None]
        one_column, self._columns = self._columns, columns_T
        states_B_T_D = self._forward(tokens_B_T, self._positions_B_S[:, before : self._used], hidden_B_1_T_S)
        self._columns = one_column
        return states_B_T_D[:, -1]

    def _forward_one(self) -> Tensor:
        with _attention(self._trunk.config, ONE_TOKEN):
            return self._forward(self._tokens_B_1, self._position_B_1, self._hidden_B_1_1_S)[:, 0]

    def _forward(self, tokens_B_T: Tensor, positions_B_T: Tensor, hidden_B_1_T_S: Tensor) -> Tensor:
        given = {
            "input_ids": tokens_B_T,
            "attention_mask": hidden_B_1_T_S,
            "position_ids": positions_B_T,
            "past_key_values": self._cache,
            "use_cache": True,
        }
        states_B_T_D: Tensor = self._trunk(**given).last_hidden_state
        return states_B_T_D

    def _record(self) -> torch.cuda.CUDAGraph | None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._last_B_D = self._forward_one()
        except RuntimeError as error:
            # Slower, and right all the same.
            logger.warning("tokens are drawn pass by pass: %s", str(error).splitlines()[0])
            self._records = False
            return None
        return graph


class _Slots(StaticLayer):
    """Keys and values of one layer, written where the decoder says, in its number format."""

    def __init__(self, room: int, decoder: RecordedDecoder) -> None:
        super().__init__(max_cache_len=room)
        self._decoder = decoder

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Keys and values [B, K, S, H] with these [B, K, T, H] among them."""
        keys, values = (states.to(self._decoder.number_format) for states in (key_states, value_states))
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        self.keys.index_copy_(2, self._decoder.columns, keys)
        self.values.index_copy_(2, self._decoder.columns, values)
        return self.keys, self.values


def attend_once(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The library's interface of attention, for one query a head: queries [B, Q, 1, H], keys and values [B, K, S, H] in
    the cache's number format, a mask [B, 1, 1, S] that is added; answers [B, 1, Q, H]. The softmax is in fp32."""
    rows, heads, _, size = query.shape
    # The query heads of a key head stand side by side.
    queries_B_K_G_H = query.to(key.dtype).view(rows, key.shape[1], -1, size)
    scores_B_K_G_S = (queries_B_K_G_H @ key.transpose(2, 3)).float() * (size**-0.5 if scaling is None else scaling)
    shares_B_K_G_S = torch.softmax(scores_B_K_G_S + attention_mask, dim=-1).to(value.dtype)
    return (shares_B_K_G_S @ value).view(rows, 1, heads, size), None


AttentionInterface.register(ONE_TOKEN, attend_once)


@contextmanager
def _attention(config: Any, name: str) -> Iterator[None]:
    """Within the block, models of this configuration attend by the function of this name."""
    before, config._attn_implementation = config._attn_implementation, name
    try:
        yield
    finally:
        config._attn_implementation = before
