"""Training a model that is cut into shares, one for each process: PyTorch's fully_shard (FSDP2).

What is trained, its gradients and its optimiser's moments exist once over all processes; a layer is whole only while it
computes. Frozen weights, such as those under an adapter, are not cut: every process has them whole anyway, to sample
and to score with. It knows nothing of losses.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from learner.errors import ModelNotSupported
from learner.gradient_checkpointing import layers


def shard(module: nn.Module, **passes: Callable[..., Any]) -> None:
    """Cut `module` in place, layer by layer. All processes must call this, and then the same passes equally often.

    Its weights are whole only within its own `forward`, and within `passes`, functions that are called from now on as
    methods of it: `shard(model, score=f)` makes `model.score(x)` compute `f(x)`. Raises ModelNotSupported for a model
    whose output layer is its embedding.
    """
    if getattr(getattr(module, "config", None), "tie_word_embeddings", False):
        raise ModelNotSupported("a model with a tied output layer cannot be cut; publish it first, which unties it")
    frozen = {parameter for parameter in module.parameters() if not parameter.requires_grad}
    for layer in layers(module):
        fully_shard(layer, ignored_params=frozen)
    fully_shard(module, ignored_params=frozen)
    for name, function in passes.items():
        setattr(module, name, partial(_own_tensors, function))
        register_fsdp_forward_method(module, name)


def whole(tensor: Tensor) -> Tensor:
    """The tensor put together from every process's share; all of them must ask. Itself where it is not cut."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def cut_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's share of `tensor`, cut as `like` is, on its device."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


@torch.no_grad()
def copy_trained(source: nn.Module, target: nn.Module) -> None:
    """Give `target`, which is whole, the trained weights of `source`, which has the same parameters but is cut."""
    own = dict(target.named_parameters())
    for name, parameter in source.named_parameters():
        if parameter.requires_grad:
            own[name].copy_(whole(parameter))


def clip_gradients(parameters: Iterator[nn.Parameter], highest: float) -> Tensor:
    """Scale gradients down to a global norm of at most `highest`; answers what it was, over all shares."""
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    norm = whole(get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None]))
    clip_grads_with_norm_(trained, highest, norm)
    return norm


def _own_tensors(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The hooks that start the backward pass are lost on views, so what a pass answers is copied."""
    answer = function(*args, **kwargs)
    return answer.clone() if isinstance(answer, Tensor) else tuple(tensor.clone() for tensor in answer)
