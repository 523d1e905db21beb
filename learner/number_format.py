"""In which number format models compute: bf16 over fp32 weights where the hardware has it, or fp32 throughout."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Format = Literal["bf16", "fp32"]


def forward_format(setting: Literal["auto", "bf16", "fp32"], device: torch.device) -> Format:
    """The number format of forward passes on `device`: with `auto` bf16 where a GPU computes in it, else fp32."""
    if setting == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return setting


@contextmanager
def forward_passes(number_format: Format, device: torch.device) -> Iterator[None]:
    """Within the block, models compute in `number_format`; sums, softmax, losses and scores stay in fp32.

    Weights are rounded anew in each pass, since they change between two of them, but where `rounded_once` says not.
    """
    with torch.autocast(device.type, torch.bfloat16, enabled=number_format == "bf16", cache_enabled=False):
        yield


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Within the block nothing is rounded to bf16: for scores and values, whose small differences count."""
    with torch.autocast(device.type, enabled=False):
        yield
