"""Products of fp32 matrices whose inputs are rounded to bfloat16, on processors that multiply these twice as fast.

oneDNN's own switch for that, which `learner.hardware.matmul_precision` sets, counts with AMX alone: with AVX-512's
bfloat16 it goes on in fp32. Sums are fp32 and, unlike those under oneDNN's switch, rounded too, as under autocast.
What is added up, kept and trained stays fp32.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def products(inputs_N_D: Tensor, *weights_W_D: Tensor) -> tuple[Tensor, ...]:
    """The products [N, W] of the inputs with each of these weights, x w^T, rounded where `rounds` says so."""
    if not rounds():
        return tuple(F.linear(inputs_N_D, weight_W_D) for weight_W_D in weights_W_D)
    answer: tuple[Tensor, ...] = RoundedProducts.apply(inputs_N_D, *weights_W_D)
    return answer


def added(states_N_W: Tensor, inputs_N_D: Tensor, weight_W_D: Tensor) -> Tensor:
    """States plus the product of the inputs with a weight."""
    if rounds():
        return states_N_W + products(inputs_N_D, weight_W_D)[0]
    return torch.addmm(states_N_W, inputs_N_D, weight_W_D.T)


def kept(weight_W_D: Tensor) -> Tensor:
    """A weight for many products without gradients, rounded here if each of them would round it."""
    return weight_W_D.bfloat16() if rounds() else weight_W_D


def product(inputs_N_D: Tensor, kept_W_D: Tensor) -> Tensor:
    """The product [N, W] in fp32 of the inputs with a weight that was `kept`."""
    return F.linear(inputs_N_D.to(kept_W_D.dtype), kept_W_D).float()


def rounds() -> bool:
    """Whether products may be rounded, and the processor gains by it what oneDNN would leave."""
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    return matmul.fp32_precision == "bf16" and _has_bf16_without_amx()


@cache
def _has_bf16_without_amx() -> bool:
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16")) and not has.get("amx_bf16")


class RoundedProducts(torch.autograd.Function):
    """y_i = x w_i^T; dx = sum of dy_i w_i, dw_i = dy_i^T x. All weights are one matrix, forward and twice backward."""

    @staticmethod
    def forward(ctx: Any, inputs_N_D: Tensor, *weights_W_D: Tensor) -> tuple[Tensor, ...]:
        inputs_N_D, weights_S_D = inputs_N_D.bfloat16(), _side_by_side(weights_W_D, dim=0)
        ctx.save_for_backward(inputs_N_D, weights_S_D)
        ctx.sizes = [len(weight_W_D) for weight_W_D in weights_W_D]
        return tuple(part.float() for part in (inputs_N_D @ weights_S_D.T).split(ctx.sizes, dim=1))

    @staticmethod
    def backward(ctx: Any, *gradients_N_W: Tensor) -> tuple[Tensor | None, ...]:
        inputs_N_D, weights_S_D = ctx.saved_tensors
        gradients_N_S = _side_by_side(gradients_N_W, dim=1)
        of_inputs_N_D = (gradients_N_S @ weights_S_D).float() if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[1:]):
            return of_inputs_N_D, *[None] * len(ctx.sizes)
        of_weights_S_D = gradients_N_S.T @ inputs_N_D
        return of_inputs_N_D, *(part.float() for part in of_weights_S_D.split(ctx.sizes))


def _side_by_side(parts: tuple[Tensor, ...], dim: int) -> Tensor:
    """Parts of one matrix, rounded on their way into it."""
    sizes = [part.shape[dim] for part in parts]
    shape = list(parts[0].shape)
    shape[dim] = sum(sizes)
    whole = torch.empty(shape, dtype=torch.bfloat16)
    for place, part in zip(whole.split(sizes, dim), parts, strict=True):
        place.copy_(part)
    return whole
