"""A Llama's forward pass in as few kernels as it takes, for small models on a CPU.

There it is not the products alone that cost the time but the passes over memory around them, padding, and an attention
kernel made for long rows. So: no padding outside attention; the last layer asks on behalf of those tokens alone whose
states are read; a norm's weight on its states or in the product that follows, whichever is smaller; rotary embedding as
one complex product; attention by batched products; and while drawing, where there are no gradients to put together
again, what has one input in one product. Same function, same parameters, same gradients as the library's `LlamaModel`,
to rounding, of which there is more where `matmul_precision` is `fast` (`learner.rounded_products`). What does not fit
is left to the library.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from learner.few_shapes import rounded_up
from learner.rounded_products import added, kept, product, products

ATTENTION_LIMIT = 1 << 26


def fits(trunk: Any, rows: int = 1, width: int = 1) -> bool:
    """Whether this module computes a trunk on rows of this width: a plain Llama in fp32 on a CPU, rows not too long."""
    if type(trunk) is not LlamaModel or trunk.device.type != "cpu" or trunk.dtype != torch.float32:
        return False
    if torch.is_autocast_enabled("cpu") or not all(map(_is_plain, trunk.layers)):
        return False
    config = trunk.config
    plain = (
        config.hidden_act == "silu"
        and not config.attention_bias
        and not config.mlp_bias
        and config.rope_parameters["rope_type"] == "default"
        and (config.attention_dropout == 0 or not trunk.training)
    )
    scores = rows * config.num_attention_heads * width * width
    return bool(plain and scores <= ATTENTION_LIMIT)


def _is_plain(layer: Any) -> bool:
    """No adapter in it, not sharded, not checkpointed: nothing that only a call of the layer itself would do."""
    if type(layer) is not LlamaDecoderLayer or "forward" in vars(layer):
        return False
    attention, mlp = layer.self_attn, layer.mlp
    of_attention = attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj
    return all(type(one) is nn.Linear for one in (*of_attention, mlp.gate_proj, mlp.up_proj, mlp.down_proj))


def hidden_states(
    trunk: LlamaModel,
    tokens_B_T: Tensor,
    read_B_T: Tensor,
    *,
    present_B_T: Tensor | None = None,
    positions_B_T: Tensor | None = None,
    visible_B_T_T: Tensor | None = None,
) -> Tensor:
    """Last hidden states [N, D] of the tokens where `read_B_T` is True, row after row.

    Rows are padded on the right; where `present_B_T` is False there is no token. Attention is causal, or as
    `visible_B_T_T` says: whether a token (second axis) may look at another (third).
    """
    rows, width = tokens_B_T.shape
    heads, key_heads = trunk.config.num_attention_heads, trunk.config.num_key_value_heads
    everywhere_B_T = torch.ones_like(tokens_B_T, dtype=torch.bool)
    present = Lines.of(everywhere_B_T if present_B_T is None else present_B_T)
    read = Lines.of(read_B_T)
    positions_B_T = torch.arange(width).expand(rows, width) if positions_B_T is None else positions_B_T
    turns_M_1_h = _turns(trunk, positions_B_T[present.rows_N, present.columns_N])
    states_M_D = F.embedding(
        tokens_B_T[present.rows_N, present.columns_N], trunk.embed_tokens.weight, trunk.padding_idx
    )
    lift_keys, lift_queries = present.lift(key_heads), present.lift(heads)
    hidden = present.hidden(present, visible_B_T_T)
    for layer in trunk.layers:
        units_M_D = _unit(states_M_D, layer.input_layernorm)
        keys, values = (lift_keys(kind) for kind in _keys_values(trunk, layer, units_M_D, turns_M_1_h))
        if layer is trunk.layers[-1]:
            places_N = present.places_of(read)
            states_M_D, units_M_D, turns_M_1_h = (
                x.index_select(0, places_N) for x in (states_M_D, units_M_D, turns_M_1_h)
            )
            lift_queries, hidden = read.lift(heads), read.hidden(present, visible_B_T_T)
        queries = lift_queries(_queries(trunk, layer, units_M_D, turns_M_1_h))
        mixed_M_I = lift_queries.back(_attend(queries, _each_query(trunk, keys), _each_query(trunk, values), hidden))
        states_M_D = added(states_M_D, mixed_M_I, layer.self_attn.o_proj.weight)
        norm, mlp = layer.post_attention_layernorm, layer.mlp
        gates_M_F, ups_M_F = _normed(_unit(states_M_D, norm), norm.weight, mlp.gate_proj.weight, mlp.up_proj.weight)
        states_M_D = added(states_M_D, F.silu(gates_M_F) * ups_M_F, mlp.down_proj.weight)
    return _unit(states_M_D, trunk.norm).mul(trunk.norm.weight)[: int(read_B_T.sum())]


@dataclass(frozen=True)
class Lines:
    """N tokens of B rows without padding, and how they line up for attention: those of a row side by side, L a row.

    A few more than there are stand at the end of N, of which nothing is read.
    """

    rows_N: Tensor
    columns_N: Tensor
    slots_N: Tensor
    mask_B_L: Tensor
    numbers_B_T: Tensor

    @classmethod
    def of(cls, mask_B_T: Tensor) -> "Lines":
        """The tokens where `mask_B_T` is True."""
        rows_N, columns_N = mask_B_T.nonzero(as_tuple=True)
        # The first token a few times more.
        again = rows_N.new_zeros(rounded_up(len(rows_N)) - len(rows_N))
        rows_N, columns_N = torch.cat([rows_N, rows_N[again]]), torch.cat([columns_N, columns_N[again]])
        counts_B = mask_B_T.sum(dim=1)
        slots_N = (mask_B_T.cumsum(dim=1) - 1)[rows_N, columns_N]
        mask_B_L = torch.arange(rounded_up(int(counts_B.max()), 3)) < counts_B[:, None]
        return cls(rows_N, columns_N, slots_N, mask_B_L, mask_B_T.flatten().cumsum(dim=0).view_as(mask_B_T) - 1)

    def places_of(self, others: "Lines") -> Tensor:
        """Which of these tokens those are, [N of those]; all of them are among these."""
        return self.numbers_B_T[others.rows_N, others.columns_N]

    def hidden(self, others: "Lines", visible_B_T_T: Tensor | None) -> Tensor:
        """What is added to the scores [B, Q, L, S] of these tokens' queries on the others' keys, which fill each row
        from the left: minus infinity where they do not look."""
        columns_B_L = torch.zeros(self.mask_B_L.shape, dtype=torch.long).masked_scatter(self.mask_B_L, self.columns_N)
        slots = others.mask_B_L.shape[1]
        if visible_B_T_T is None:
            seen_B_L_S = torch.arange(slots) <= columns_B_L[:, :, None]
        else:
            seen_B_L_T = visible_B_T_T[torch.arange(len(columns_B_L))[:, None], columns_B_L]
            seen_B_L_S = F.pad(seen_B_L_T, (0, slots - seen_B_L_T.shape[2]))
        return torch.zeros(seen_B_L_S.shape).masked_fill(~seen_B_L_S, float("-inf"))[:, None]

    def lift(self, heads: int) -> "Lift":
        """Between heads side by side and lines, for so many heads a token."""
        rows, slots = self.mask_B_L.shape
        heads_J = torch.arange(heads)
        down_N_J = (self.rows_N[:, None] * heads + heads_J) * slots + self.slots_N[:, None]
        # An empty slot holds the first token: nobody looks at it, and what it sees is not taken back.
        tokens_B_L = torch.zeros(rows, slots, dtype=torch.long).masked_scatter(
            self.mask_B_L, torch.arange(len(self.rows_N))
        )
        up_B_J_L = tokens_B_L[:, None, :] * heads + heads_J[:, None]
        return Lift(up_B_J_L, down_N_J)


@dataclass(frozen=True)
class Lift:
    """Moves heads of tokens [N, J, H] into lines [B * J, L, H], and lines back into [N, J * H]."""

    up_B_J_L: Tensor
    down_N_J: Tensor

    def __call__(self, values_N_J_H: Tensor) -> Tensor:
        size = values_N_J_H.shape[2]
        lines = values_N_J_H.reshape(-1, size).index_select(0, self.up_B_J_L.flatten())
        return lines.view(-1, self.up_B_J_L.shape[2], size)

    def back(self, lines: Tensor) -> Tensor:
        """The other way."""
        return lines.flatten(0, 1).index_select(0, self.down_N_J.flatten()).view(len(self.down_N_J), -1)


@dataclass
class Cache:
    """Keys and values [B, K, S, H] of each layer, with room for S tokens, of which `used` are written; and the layers'
    products, put together once for all of the tokens."""

    products: list["Products"]
    keys: list[Tensor]
    values: list[Tensor]
    used: int = 0

    @classmethod
    def with_room(cls, trunk: LlamaModel, rows: int, tokens: int) -> "Cache":
        """An empty cache."""
        config = trunk.config
        shape = (rows, config.num_key_value_heads, tokens, config.head_dim)
        layers = range(config.num_hidden_layers)
        products = [Products.of(trunk, layer) for layer in trunk.layers]
        return cls(products, [torch.empty(shape) for _ in layers], [torch.empty(shape) for _ in layers])

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these."""
        for kind in (self.keys, self.values):
            for index, cached in enumerate(kind):
                kind[index] = cached[: len(rows)]
                kind[index][:, :, : self.used] = cached[:, :, : self.used].index_select(0, rows)


@dataclass(frozen=True)
class Products:
    """A layer's weights, its norms' in them, those of one input in one: queries, keys and values [I, D]; gates and ups
    [2F, D]."""

    attention_I_D: Tensor
    mixed_D_I: Tensor
    feed_forward_2F_D: Tensor
    down_D_F: Tensor

    @classmethod
    def of(cls, trunk: LlamaModel, layer: Any) -> "Products":
        """Of a layer as it is now."""
        attention, mlp, size = layer.self_attn, layer.mlp, trunk.config.head_dim
        queries_I_D = _paired(attention.q_proj.weight, size) * size**-0.5
        keys_I_D = _paired(attention.k_proj.weight, size)
        attention_I_D = torch.cat([queries_I_D, keys_I_D, attention.v_proj.weight]) * layer.input_layernorm.weight
        feed_forward_2F_D = (
            torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * layer.post_attention_layernorm.weight
        )
        return cls(*map(kept, (attention_I_D, attention.o_proj.weight, feed_forward_2F_D, mlp.down_proj.weight)))


def continue_rows(
    trunk: LlamaModel, tokens_B_T: Tensor, positions_B_T: Tensor, attended_B_S: Tensor, cache: Cache
) -> Tensor:
    """The last hidden state [B, D] of the last of T more tokens, which see cached ones where `attended_B_S` is 1, and
    each other.

    Writes their keys and values into the cache. No gradients.
    """
    rows, width = tokens_B_T.shape
    before, cache.used = cache.used, cache.used + width
    seen = slice(0, cache.used)
    future_T_S = torch.ones(width, cache.used, dtype=torch.bool).triu(before + 1)
    blocked_B_1_T_S = (attended_B_S == 0)[:, None, None, :] | future_T_S
    # A padding token sees nothing; a large number in place of infinity keeps its row finite.
    hidden = torch.zeros(blocked_B_1_T_S.shape).masked_fill(blocked_B_1_T_S, -1e9)
    turns_N_1_h = _turns(trunk, positions_B_T.flatten())
    states_N_D = F.embedding(tokens_B_T.flatten(), trunk.embed_tokens.weight)
    heads, key_heads, size = trunk.config.num_attention_heads, trunk.config.num_key_value_heads, trunk.config.head_dim
    for index, (layer, merged) in enumerate(zip(trunk.layers, cache.products, strict=True)):
        inner_N_I = product(_unit(states_N_D, layer.input_layernorm), merged.attention_I_D)
        turning_N_I, values_N_I = inner_N_I.split([(heads + key_heads) * size, key_heads * size], dim=1)
        turned_N_J_H, values_N_K_H = _turned(turning_N_I, turns_N_1_h, size), values_N_I.unflatten(1, (-1, size))
        queries_N_Q_H, keys_N_K_H = turned_N_J_H.split([heads, key_heads], dim=1)
        for cached, new in ((cache.keys[index], keys_N_K_H), (cache.values[index], values_N_K_H)):
            cached[:, :, before : cache.used] = new.unflatten(0, (rows, -1)).transpose(1, 2)
        queries_B_Q_T_H = queries_N_Q_H.unflatten(0, (rows, -1)).transpose(1, 2)
        if layer is trunk.layers[-1]:
            states_N_D = states_N_D.unflatten(0, (rows, -1))[:, -1]
            queries_B_Q_T_H, hidden = queries_B_Q_T_H[:, :, -1:], hidden[:, :, -1:]
        all_keys, all_values = (kind[index].flatten(0, 1)[:, seen] for kind in (cache.keys, cache.values))
        attend = _attend if queries_B_Q_T_H.shape[2] > 1 else _attend_once
        mixed = attend(
            queries_B_Q_T_H.flatten(0, 1), _each_query(trunk, all_keys), _each_query(trunk, all_values), hidden
        )
        mixed_N_I = mixed.unflatten(0, (rows, -1)).transpose(1, 2).flatten(2).flatten(0, 1)
        states_N_D = states_N_D + product(mixed_N_I, merged.mixed_D_I)
        units_N_D = _unit(states_N_D, layer.post_attention_layernorm)
        gates_N_F, ups_N_F = product(units_N_D, merged.feed_forward_2F_D).chunk(2, dim=1)
        states_N_D = states_N_D + product(F.silu(gates_N_F) * ups_N_F, merged.down_D_F)
    return _unit(states_N_D, trunk.norm).mul(trunk.norm.weight)


def _turns(trunk: LlamaModel, positions_N: Tensor) -> Tensor:
    """exp(i position frequency) as complex numbers [N, 1, head_dim / 2]."""
    angles_N_h = positions_N[:, None].float() * trunk.rotary_emb.inv_freq
    return torch.polar(torch.ones_like(angles_N_h), angles_N_h)[:, None]


def _queries(trunk: LlamaModel, layer: Any, units_N_D: Tensor, turns_N_1_h: Tensor) -> Tensor:
    """Queries [N, Q, H], turned and scaled."""
    size = trunk.config.head_dim
    norm_D = layer.input_layernorm.weight * size**-0.5
    (queries_N_I,) = _normed(units_N_D, norm_D, _paired(layer.self_attn.q_proj.weight, size))
    return _turned(queries_N_I, turns_N_1_h, size)


def _keys_values(trunk: LlamaModel, layer: Any, units_N_D: Tensor, turns_N_1_h: Tensor) -> tuple[Tensor, Tensor]:
    """Keys, turned, and values, both [N, K, H]."""
    attention, size, norm = layer.self_attn, trunk.config.head_dim, layer.input_layernorm.weight
    keys_N_I, values_N_I = _normed(units_N_D, norm, _paired(attention.k_proj.weight, size), attention.v_proj.weight)
    return _turned(keys_N_I, turns_N_1_h, size), values_N_I.unflatten(1, (-1, size))


def _normed(units_N_D: Tensor, norm_D: Tensor, *weights_W_D: Tensor) -> tuple[Tensor, ...]:
    """Products [N, W] of normed states with weights; the norm's own weight goes into whichever is smaller."""
    if len(units_N_D) < sum(map(len, weights_W_D)):
        return products(units_N_D * norm_D, *weights_W_D)
    return products(units_N_D, *(weight_W_D * norm_D for weight_W_D in weights_W_D))


def _turned(inputs_N_I: Tensor, turns_N_1_h: Tensor, size: int) -> Tensor:
    """Rotary embedding of heads whose halves stand in pairs, [N, J, H]."""
    turning_N_J_h = torch.view_as_complex(inputs_N_I.unflatten(1, (-1, size // 2, 2)))
    return torch.view_as_real(turning_N_J_h * turns_N_1_h).flatten(2)


def _paired(weight_I_D: Tensor, size: int) -> Tensor:
    """Rows reordered so that the two halves of a head that turn together stand side by side, as complex numbers do."""
    halves = weight_I_D.unflatten(0, (-1, 2, size // 2))
    return halves.transpose(1, 2).reshape(weight_I_D.shape)


def _each_query(trunk: LlamaModel, lines_BK_L_H: Tensor) -> Tensor:
    """Key or value heads repeated for the query heads that share them, [B * Q, L, H]."""
    groups = trunk.config.num_attention_heads // trunk.config.num_key_value_heads
    return lines_BK_L_H if groups == 1 else lines_BK_L_H.repeat_interleave(groups, dim=0)


def _attend(queries_BQ_L_H: Tensor, keys_BQ_S_H: Tensor, values_BQ_S_H: Tensor, hidden_B_1_L_S: Tensor) -> Tensor:
    """Softmax attention, [B * Q, L, H]; `hidden` is added to the scores."""
    scores_BQ_L_S = torch.bmm(queries_BQ_L_H, keys_BQ_S_H.transpose(1, 2))
    scores_B_Q_L_S = scores_BQ_L_S.unflatten(0, (len(hidden_B_1_L_S), -1)).add_(hidden_B_1_L_S)
    return torch.bmm(torch.softmax(scores_B_Q_L_S, dim=-1).flatten(0, 1), values_BQ_S_H)


def _attend_once(queries_BQ_1_H: Tensor, keys_BQ_S_H: Tensor, values_BQ_S_H: Tensor, hidden_B_1_1_S: Tensor) -> Tensor:
    """The same for one query a head, without oneDNN: so many products of so few numbers take it twice as long."""
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before, matmul.fp32_precision = matmul.fp32_precision, "ieee"
    try:
        return _attend(queries_BQ_1_H, keys_BQ_S_H, values_BQ_S_H, hidden_B_1_1_S)
    finally:
        matmul.fp32_precision = before


def _unit(states_N_D: Tensor, norm: Any) -> Tensor:
    """Rows scaled to a root mean square of one: RMSNorm before its weight."""
    return _UnitRows.apply(states_N_D, norm.variance_epsilon)


class _UnitRows(torch.autograd.Function):
    """y = x / sqrt(mean(x^2) + eps) for each row; dx = (dy - y mean(dy y)) / sqrt(mean(x^2) + eps)."""

    @staticmethod
    def forward(ctx: Any, states_N_D: Tensor, epsilon: float) -> Tensor:
        width = states_N_D.shape[1]
        lengths_N_1 = torch.linalg.vector_norm(states_N_D, dim=1, keepdim=True)
        scales_N_1 = torch.rsqrt(lengths_N_1.square() / width + epsilon)
        units_N_D = states_N_D * scales_N_1
        ctx.save_for_backward(units_N_D, scales_N_1)
        return units_N_D

    @staticmethod
    def backward(ctx: Any, gradients_N_D: Tensor) -> tuple[Tensor, None]:
        units_N_D, scales_N_1 = ctx.saved_tensors
        along_N_1 = torch.linalg.vecdot(gradients_N_D, units_N_D)[:, None] / units_N_D.shape[1]
        return torch.addcmul(gradients_N_D, units_N_D, along_N_1, value=-1).mul_(scales_N_1), None
