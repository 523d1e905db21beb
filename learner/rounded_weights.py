"""The weights of models' products rounded once for many passes, where autocast would round them in each.

Autocast rounds weight by weight, in a pass with gradients by two launches for each. Here those of a layer are rounded
by one launch, and their gradients widened by another. Results are the same to the last bit: what is kept, added up and
moved by the optimiser stays fp32.

That holds for a weight that one pass uses once. A trained output layer computes logits in pieces, and what the pieces
give would be added up in the coarser format: autocast keeps it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


@contextmanager
def rounded_once(*models: nn.Module | None) -> Iterator[None]:
    """Within the block the products of these models take weights that are rounded now; where autocast is off, or
    trained weights are cut into shares, those they have.

    The block must end before anything moves the weights or asks for the models' parameters. Gradients that are computed
    in it arrive at the weights themselves.
    """
    rounded: dict[nn.Parameter, Tensor] = {}
    own: list[tuple[nn.Module, str, nn.Parameter]] = []
    try:
        for group in _groups([model for model in models if model is not None and _is_rounded(model)]):
            # Models may share frozen weights.
            new = dict.fromkeys(weight for _, _, weight in group if weight not in rounded)
            for trained in (False, True):
                rounded |= _rounded([weight for weight in new if weight.requires_grad is trained])
            for module, name, weight in group:
                own.append((module, name, weight))
                # A module takes nothing but parameters otherwise, and these are no leaves.
                places: dict[str, Any] = module._parameters
                places[name] = rounded[weight]
        yield
    finally:
        for module, name, weight in own:
            module._parameters[name] = weight


def _groups(models: Iterable[nn.Module]) -> Iterator[list[tuple[nn.Module, str, nn.Parameter]]]:
    """What autocast would round of these models, about a layer at a time: place, name and weight, each place once."""
    seen: set[nn.Module] = set()
    group: list[tuple[nn.Module, str, nn.Parameter]] = []
    for model in models:
        left = _left_to_autocast(model)
        for module in model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                yield group
                group = []
            if type(module) is nn.Linear and module not in seen:
                seen.add(module)
                for name, weight in module._parameters.items():
                    if weight is not None and weight.dtype == torch.float32 and weight not in left:
                        group.append((module, name, weight))
    yield group


def _left_to_autocast(model: nn.Module) -> set[nn.Parameter]:
    """Trained weights of the output layer where gradients are wanted, and all trained weights of a model that is cut:
    one that is whole just now would be put back when its memory has been given away."""
    if any(isinstance(module, FSDPModule) for module in model.modules()):
        left = model
    elif torch.is_grad_enabled() and isinstance(model, PreTrainedModel):
        left = model.get_output_embeddings()
    else:
        return set()
    return set() if left is None else {weight for weight in left.parameters() if weight.requires_grad}


def _is_rounded(model: nn.Module) -> bool:
    return torch.is_autocast_enabled(next(model.parameters()).device.type)


def _rounded(weights: Sequence[nn.Parameter]) -> dict[nn.Parameter, Tensor]:
    """Copies in autocast's format."""
    if not weights:
        return {}
    number_format = torch.get_autocast_dtype(weights[0].device.type)
    return dict(zip(weights, Rounded.apply(number_format, *weights), strict=True))


class Rounded(torch.autograd.Function):
    """y_i = x_i in a coarser format; dx_i = dy_i in fp32. All of them together."""

    @staticmethod
    def forward(ctx: Any, number_format: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        # A weight that a pass does not use has no gradient, rather than zeros.
        ctx.set_materialize_grads(False)
        return tuple(_converted(weights, number_format))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        widened = iter(_converted([one for one in gradients if one is not None], torch.float32))
        return None, *(None if one is None else next(widened) for one in gradients)


def _converted(tensors: Sequence[Tensor], number_format: torch.dtype) -> list[Tensor]:
    made = [torch.empty_like(tensor, dtype=number_format) for tensor in tensors]
    if made:
        torch._foreach_copy_(made, list(tensors))
    return made
