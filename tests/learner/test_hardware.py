"""How a process uses the machine."""

import resource

import pytest
import torch

from learner import hardware


def test_memory_of_freed_tensors_is_used_again() -> None:
    if not hasattr(hardware.ctypes.CDLL(None), "mallopt"):
        pytest.skip("the C library is not glibc")
    hardware.keep_freed_memory()
    tensors = [torch.ones(1 << 20) for _ in range(8)]
    del tensors
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        torch.ones(1 << 20)
    pages_of_one = (4 << 20) // resource.getpagesize()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < pages_of_one
