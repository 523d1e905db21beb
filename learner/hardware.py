"""How exactly matrices are multiplied: fully in fp32, or as fast as the machine can for fp32 tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from transformers import PreTrainedModel

from learner import small_llama


@contextmanager
def matmul_precision(precision: Literal["full", "fast"], model: PreTrainedModel) -> Iterator[None]:
    """Within the block, products of fp32 matrices run at `precision`, where that makes `model` quicker.

    `fast` lets CUDA round inputs to TF32 and oneDNN, on a CPU, to bfloat16; sums stay in fp32. On CPUs with AVX-512
    but no AMX oneDNN keeps to fp32 and is still twice as fast as the default library. On a CPU it concerns small
    Llamas alone: torch's attention kernel, which other models use, gets ten times slower by it.
    """
    cpu = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    cuda = torch.backends.cuda.matmul
    before = (cpu.fp32_precision, cuda.fp32_precision)
    try:
        if precision == "fast":
            cuda.fp32_precision = "tf32"
        if precision == "fast" and small_llama.fits(model.base_model):
            cpu.fp32_precision = "bf16"
        yield
    finally:
        cpu.fp32_precision, cuda.fp32_precision = before
