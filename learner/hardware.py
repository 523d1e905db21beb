"""How exactly matrices are multiplied: fully in fp32, or as fast as the machine can for fp32 tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch


@contextmanager
def matmul_precision(precision: Literal["full", "fast"]) -> Iterator[None]:
    """Within the block, products of fp32 matrices run at `precision`.

    `fast` lets oneDNN (CPU) round inputs to bfloat16 and CUDA to TF32, where the machine gains by it. On CPUs with
    AVX-512 but no AMX oneDNN keeps to fp32 and is still twice as fast as the default library. Sums stay in fp32.
    """
    cpu = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    cuda = torch.backends.cuda.matmul
    before = (cpu.fp32_precision, cuda.fp32_precision)
    try:
        if precision == "fast":
            cpu.fp32_precision = "bf16"
            cuda.fp32_precision = "tf32"
        yield
    finally:
        cpu.fp32_precision, cuda.fp32_precision = before
