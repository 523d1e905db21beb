"""Gradient checkpointing: of each layer only its input is kept for the backward pass, and the rest computed again.

Not the library's own switch, since that works in training mode only, where dropout is on.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from learner.errors import ModelNotSupported


def layers(model: nn.Module) -> list[nn.Module]:
    """The layers that a model repeats, each of which takes hidden states and gives hidden states."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def require_layers(model: nn.Module) -> None:
    """Raises ModelNotSupported where its layers are not to be found."""
    if not layers(model):
        raise ModelNotSupported(
            f"{type(model).__name__}: its layers are not known, so gradients cannot be checkpointed"
        )


def checkpoint_layers(model: nn.Module) -> None:
    """From now on `model`, and any copy of it, computes its layers again in the backward pass.

    Raises ModelNotSupported where its layers are not to be found.
    """
    require_layers(model)
    for layer in layers(model):
        if not isinstance(layer.forward, Recomputed):
            layer.forward = Recomputed(layer.forward)


class Recomputed:
    """A layer's forward pass. An object and no closure, so that a copy of the layer calls the copy's own."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self._forward = forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._forward(*args, **kwargs)
        return checkpoint(self._forward, *args, use_reentrant=False, **kwargs)
