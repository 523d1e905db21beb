"""How a process uses the machine: threads, memory, and how exactly matrices are multiplied."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from transformers import PreTrainedModel

from learner import small_llama

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_FROM_HEAP_BYTES = 32 << 20
KEPT_BYTES = 1 << 30


def prepare_training(threads: int) -> None:
    """Set this process up to train: `threads` of torch, freed memory kept for the next tensor, and on a GPU attention
    by kernels that take any length."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    # cuDNN makes a plan for each shape it meets, in some 40 ms, and no two batches are of one length.
    torch.backends.cuda.enable_cudnn_sdp(False)


def keep_freed_memory() -> None:
    """Let glibc keep up to `KEPT_BYTES` of freed memory, where it is the C library; elsewhere nothing happens.

    By itself it gives tensors of some megabytes back to the system one by one, and is given them anew page by page: an
    eighth of the time of a PPO step of the built-in policy.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_FROM_HEAP_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


@contextmanager
def matmul_precision(precision: Literal["full", "fast"], model: PreTrainedModel) -> Iterator[None]:
    """Within the block, products of fp32 matrices run at `precision`: `full` whatever is around the block, `fast` where
    that makes `model` quicker.

    `fast` lets CUDA round inputs to TF32 and oneDNN, on a CPU with AMX, to bfloat16; without AMX oneDNN keeps to fp32,
    and is quicker than the default library still, and `learner.rounded_products` rounds where that helps. On a CPU it
    concerns small Llamas alone: torch's attention kernel, which other models use, gets ten times slower by it.
    """
    cpu = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    cuda = torch.backends.cuda.matmul
    before = (cpu.fp32_precision, cuda.fp32_precision)
    try:
        cuda.fp32_precision = "tf32" if precision == "fast" else "ieee"
        if precision == "full":
            cpu.fp32_precision = "ieee"
        elif small_llama.fits(model.base_model):
            cpu.fp32_precision = "bf16"
        yield
    finally:
        cpu.fp32_precision, cuda.fp32_precision = before
