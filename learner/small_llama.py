"""A Llama's forward pass in as few kernels as it takes, for small models on a CPU.

There it is not the products that cost the time but the passes over memory around them, and an attention kernel made
for long rows. So: query, key and value in one product, gate and up in another; norms without their weights, which go
into the product that follows; rotary embedding as one complex product; attention by batched products. Same function,
same parameters, same gradients as the library's `LlamaModel`, to rounding. What does not fit is left to the library.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaModel

ATTENTION_LIMIT = 1 << 26


def fits(trunk: Any, rows: int = 1, width: int = 1) -> bool:
    """Whether this module computes a trunk on rows of this width: a plain Llama in fp32 on a CPU, rows not too long."""
    if type(trunk) is not LlamaModel or trunk.device.type != "cpu" or trunk.dtype != torch.float32:
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


def hidden_states(
    trunk: LlamaModel,
    tokens_B_T: Tensor,
    positions_B_T: Tensor | None = None,
    visible_B_T_T: Tensor | None = None,
) -> Tensor:
    """Last hidden states [B, T, D]: causal over right-padded rows, or with the positions and visibility given."""
    rows, width = tokens_B_T.shape
    if visible_B_T_T is None:
        hidden = torch.full((width, width), float("-inf")).triu(1)
    else:
        blocked_B_1_T_T = ~visible_B_T_T[:, None]
        hidden = torch.zeros(blocked_B_1_T_T.shape).masked_fill(blocked_B_1_T_T, float("-inf"))
    positions = torch.arange(width)[None] if positions_B_T is None else positions_B_T
    turns_b_T_1_h = _turns(trunk, positions)
    states_N_D = F.embedding(tokens_B_T, trunk.embed_tokens.weight).flatten(0, 1)
    for layer in trunk.layers:
        queries, keys, values = _attention_inputs(trunk, layer, states_N_D, turns_b_T_1_h, rows)
        mixed_N_I = _attend(queries, _each_query(trunk, keys), _each_query(trunk, values), hidden)
        states_N_D = torch.addmm(states_N_D, mixed_N_I, layer.self_attn.o_proj.weight.T)
        states_N_D = _feed_forward(layer, states_N_D)
    return _unit(states_N_D, trunk.norm).mul(trunk.norm.weight).unflatten(0, (rows, width))


@dataclass
class Cache:
    """Keys and values [B, K, S, H] of each layer, with room for S tokens, of which `used` are written."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    used: int = 0

    @classmethod
    def with_room(cls, trunk: LlamaModel, rows: int, tokens: int) -> "Cache":
        """An empty cache."""
        config = trunk.config
        shape = (rows, config.num_key_value_heads, tokens, config.head_dim)
        layers = range(config.num_hidden_layers)
        return cls([torch.empty(shape) for _ in layers], [torch.empty(shape) for _ in layers])

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these."""
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]


def continue_rows(
    trunk: LlamaModel, tokens_B_T: Tensor, positions_B_T: Tensor, attended_B_S: Tensor, cache: Cache
) -> Tensor:
    """Last hidden states [B, T, D] of T more tokens, which see cached ones where `attended_B_S` is 1, and each other.

    Writes their keys and values into the cache. No gradients.
    """
    rows, width = tokens_B_T.shape
    before, cache.used = cache.used, cache.used + width
    seen = slice(0, cache.used)
    future_T_S = torch.ones(width, cache.used, dtype=torch.bool).triu(before + 1)
    blocked_B_1_T_S = (attended_B_S == 0)[:, None, None, :] | future_T_S
    # A padding token sees nothing; a large number in place of infinity keeps its row finite.
    hidden_B_1_T_S = torch.zeros(blocked_B_1_T_S.shape).masked_fill(blocked_B_1_T_S, -1e9)
    turns_B_T_1_h = _turns(trunk, positions_B_T)
    states_N_D = F.embedding(tokens_B_T, trunk.embed_tokens.weight).flatten(0, 1)
    for index, layer in enumerate(trunk.layers):
        queries, keys, values = _attention_inputs(trunk, layer, states_N_D, turns_B_T_1_h, rows)
        cache.keys[index][:, :, before : cache.used] = keys
        cache.values[index][:, :, before : cache.used] = values
        all_keys, all_values = cache.keys[index][:, :, seen], cache.values[index][:, :, seen]
        mixed_N_I = _attend(queries, _each_query(trunk, all_keys), _each_query(trunk, all_values), hidden_B_1_T_S)
        states_N_D = torch.addmm(states_N_D, mixed_N_I, layer.self_attn.o_proj.weight.T)
        states_N_D = _feed_forward(layer, states_N_D)
    return _unit(states_N_D, trunk.norm).mul(trunk.norm.weight).unflatten(0, (rows, width))


def _turns(trunk: LlamaModel, positions_B_T: Tensor) -> Tensor:
    """exp(i position frequency) as complex numbers [B, T, 1, head_dim / 2]."""
    angles_B_T_h = positions_B_T[..., None].float() * trunk.rotary_emb.inv_freq
    return torch.polar(torch.ones_like(angles_B_T_h), angles_B_T_h)[:, :, None]


def _attention_inputs(
    trunk: LlamaModel, layer: Any, states_N_D: Tensor, turns_B_T_1_h: Tensor, rows: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [B, Q, T, H], turned and scaled, keys, turned, and values [B, K, T, H]."""
    attention, size = layer.self_attn, trunk.config.head_dim
    scale = size**-0.5
    weight_I_D = torch.cat(
        [
            _paired(attention.q_proj.weight * scale, size),
            _paired(attention.k_proj.weight, size),
            attention.v_proj.weight,
        ]
    )
    inputs_N_I = F.linear(_unit(states_N_D, layer.input_layernorm), weight_I_D * layer.input_layernorm.weight)
    inputs_B_T_J_H = inputs_N_I.unflatten(0, (rows, -1)).unflatten(2, (-1, size))
    heads, key_heads = trunk.config.num_attention_heads, trunk.config.num_key_value_heads
    turning_B_T_j_h = torch.view_as_complex(inputs_B_T_J_H[:, :, : heads + key_heads].unflatten(3, (-1, 2)))
    turned_B_T_j_H = torch.view_as_real(turning_B_T_j_h * turns_B_T_1_h).flatten(3)
    queries_B_T_Q_H, keys_B_T_K_H = turned_B_T_j_H.split([heads, key_heads], dim=2)
    values_B_T_K_H = inputs_B_T_J_H[:, :, heads + key_heads :]
    return queries_B_T_Q_H.transpose(1, 2), keys_B_T_K_H.transpose(1, 2), values_B_T_K_H.transpose(1, 2)


def _paired(weight_I_D: Tensor, size: int) -> Tensor:
    """Rows reordered so that the two halves of a head that turn together stand side by side, as complex numbers do."""
    halves = weight_I_D.unflatten(0, (-1, 2, size // 2))
    return halves.transpose(1, 2).reshape(weight_I_D.shape)


def _each_query(trunk: LlamaModel, heads_B_K_T_H: Tensor) -> Tensor:
    """Key or value heads repeated for the query heads that share them."""
    groups = trunk.config.num_attention_heads // trunk.config.num_key_value_heads
    return heads_B_K_T_H if groups == 1 else heads_B_K_T_H.repeat_interleave(groups, dim=1)


def _attend(queries_B_Q_T_H: Tensor, keys_B_Q_S_H: Tensor, values_B_Q_S_H: Tensor, hidden: Tensor) -> Tensor:
    """Softmax attention, [N, Q * H]; `hidden` is added to the scores [B, Q, T, S]."""
    scores_B_Q_T_S = queries_B_Q_T_H @ keys_B_Q_S_H.transpose(2, 3) + hidden
    mixed_B_Q_T_H = torch.softmax(scores_B_Q_T_S, dim=-1) @ values_B_Q_S_H
    return mixed_B_Q_T_H.transpose(1, 2).flatten(2).flatten(0, 1)


def _feed_forward(layer: Any, states_N_D: Tensor) -> Tensor:
    mlp, norm = layer.mlp, layer.post_attention_layernorm
    weight_2I_D = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * norm.weight
    gates_N_I, ups_N_I = F.linear(_unit(states_N_D, norm), weight_2I_D).chunk(2, dim=1)
    return torch.addmm(states_N_D, F.silu(gates_N_I) * ups_N_I, mlp.down_proj.weight.T)


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
