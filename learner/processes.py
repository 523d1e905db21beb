"""Processes that train one model together, started by torchrun: who does which rows, and sums over all of them.

Every process holds the same prompts, settings and seed, and so comes to the same decisions; what only one may do, the
first does. Without torchrun there is one process, and nothing here costs anything. It knows nothing of models.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import orjson
import torch
import torch.distributed as dist
from torch import Tensor

from learner.errors import ProcessesDisagree

Rows = TypeVar("Rows", Tensor, Sequence[int], Sequence[list[int]])
# The first process alone freezes votes, evaluates and publishes while the others wait; if it dies, torchrun ends them.
LONGEST_WAIT = timedelta(days=2)


@dataclass(frozen=True)
class Processes:
    """This process is number `rank` of `count`."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes checkpoints, record and policies."""
        return self.rank == 0

    def share(self, rows: Rows) -> Rows:
        """This process's part of the rows: every `count`-th, so that rows sorted by length are shared out fairly."""
        return rows[self.rank :: self.count]

    def add_up(self, values: Tensor) -> Tensor:
        """The sum of every process's `values`, which have one shape."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def tell(self, value: Any = None) -> Any:
        """What the first process says, known to all of them: anything that JSON can hold."""
        if self.count == 1:
            return value
        said = torch.frombuffer(bytearray(orjson.dumps(value)), dtype=torch.uint8)
        length = torch.tensor(len(said))
        dist.broadcast(length, 0)
        heard = said if self.first else torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(heard, 0)
        return orjson.loads(heard.numpy().tobytes())

    def agree_on(self, fingerprint: str) -> None:
        """What a run is known by must be the same in all of them: each reads the votes by itself, and somebody may be
        erased in between. Raises ProcessesDisagree."""
        if self.tell(fingerprint) != fingerprint:
            raise ProcessesDisagree(
                "this process has other votes or settings than the first one; where somebody was erased just now, the "
                "next processes have the same"
            )


ALONE = Processes()


def under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def join() -> Processes:
    """Meet the other processes that torchrun started; each takes the GPU of its number, where there are GPUs."""
    if not under_torchrun():
        return ALONE
    # Tells and sums of small things go over the CPU, where a waiting process does not keep a GPU busy.
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=LONGEST_WAIT)
    return Processes(dist.get_rank(), dist.get_world_size())


def other_is_gone(error: Exception) -> bool:
    """Whether this is how a collective says that another process, or the way to it, is no more."""
    if isinstance(error, dist.DistError):
        return True
    # Gloo's own errors come as plain ones that name the file they were raised in.
    return dist.is_initialized() and isinstance(error, RuntimeError) and "gloo/transport" in str(error)


def leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
