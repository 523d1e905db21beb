"""What a pass over examples has in every trainer: which a step takes, and the learning rate of votes by step."""

import math
from functools import lru_cache

import torch


def set_learning_rates(optimizer: torch.optim.Optimizer, step: int, steps: int, warmup_share: float) -> None:
    """Each group's `peak` times the share that is due in `step`: rising over the warm-up, then falling on a cosine to a
    tenth."""
    warmup = max(1, round(warmup_share * steps))
    if step < warmup:
        share = (step + 1) / warmup
    else:
        share = 0.55 + 0.45 * math.cos(math.pi * (step - warmup) / (steps - warmup))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share


def batch_of(step: int, examples: int, per_batch: int, seed: int) -> list[int]:
    """The examples of a step by number: every pass takes each once, in a new random order drawn from the seed."""
    epoch, batch = divmod(step, math.ceil(examples / per_batch))
    order = random_order(examples, seed * 1_000_003 + epoch)
    return order[batch * per_batch : (batch + 1) * per_batch]


@lru_cache(maxsize=2)
def random_order(examples: int, seed: int) -> list[int]:
    """The numbers of the examples in an order drawn from the seed. Kept for all steps of a pass, each of which would
    put all in order for the sake of a few; two, since PPO goes through two kinds of prompts side by side."""
    order: list[int] = torch.randperm(examples, generator=torch.Generator().manual_seed(seed)).tolist()
    return order
