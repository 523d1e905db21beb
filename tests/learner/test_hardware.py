"""How a process uses the machine."""

import resource

import pytest
import torch

from learner import hardware


def make_and_drop_tensors(steps: range) -> int:
    """Numbers in the tensors of these steps: 12 at a time of 1 to 23 MiB, as a trainer's differ from batch to batch."""
    made = 0
    for step in steps:
        tensors = [torch.ones((1 << 18) * (1 + (7 * step + i) % 23)) for i in range(12)]
        made += sum(t.numel() for t in tensors)
        del tensors
    return made


def test_memory_of_freed_tensors_is_used_again() -> None:
    if not hasattr(hardware.ctypes.CDLL(None), "mallopt"):
        pytest.skip("the C library is not glibc")
    hardware.keep_freed_memory()
    make_and_drop_tensors(range(23))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pages = 4 * make_and_drop_tensors(range(46)) // resource.getpagesize()
    # By itself glibc asks for a sixth anew. Some are left: other threads' count too, and a heap in pieces grows.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < pages / 50
