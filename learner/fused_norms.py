"""Norms by torch's own kernel on a GPU, where the library's models compute them in six or seven steps.

It knows nothing of architectures: a norm is put in the place of another if it says the same of random states.
"""

import torch
from torch import nn

from learner.number_format import exactly


@torch.no_grad()
def fuse_norms(model: nn.Module) -> None:
    """Give `model`, in place, one kernel for each root-mean-square norm that torch has the same of; names and weights
    stay. What is not the same stays as it is."""
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            fused = _fused(norm)
            if fused is not None:
                setattr(parent, name, fused)


def _fused(norm: nn.Module) -> nn.RMSNorm | None:
    """Torch's norm around the weight of another that computes the same, or None."""
    weights = dict(norm.named_parameters())
    epsilon = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    if isinstance(norm, nn.RMSNorm) or "RMSNorm" not in type(norm).__name__:
        return None
    if weights.keys() != {"weight"} or list(norm.children()) or not isinstance(epsilon, float):
        return None
    weight = weights["weight"]
    # Under autocast torch's own answers in fp32 whatever it holds, and the library's in the weight's format.
    if weight.dtype != torch.float32:
        return None
    fused = nn.RMSNorm(weight.shape, epsilon, device=weight.device, dtype=weight.dtype).train(norm.training)
    fused.weight = weight
    generator = torch.Generator().manual_seed(0)
    states_N_D = torch.randn(8, *weight.shape, generator=generator).to(weight.device, weight.dtype)
    # Small ones, so that what is added to the mean square tells too.
    states_N_D[4:] *= epsilon**0.5
    close = torch.finfo(weight.dtype).eps * 8
    with exactly(weight.device):
        if not torch.allclose(norm(states_N_D), fused(states_N_D), rtol=close, atol=close):
            return None
    return fused
