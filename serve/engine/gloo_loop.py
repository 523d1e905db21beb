"""In the engine's process: one thread for all process groups of gloo, where there is one process to talk to: itself.

vLLM makes a dozen groups, and each has a thread that looks for messages a hundred times a second, all day.
"""

import os
from datetime import timedelta
from typing import Any

from torch.distributed import ProcessGroupGloo, distributed_c10d

LOCALHOST = "127.0.0.1"


class SharingGroup(ProcessGroupGloo):
    """As PyTorch makes it, but that groups of one process share a device, and with it the thread."""

    _shared: Any = None

    def __init__(self, store: Any, rank: int, size: int, timeout: timedelta) -> None:
        if size > 1:
            super().__init__(store, rank, size, timeout=timeout)
            return
        if SharingGroup._shared is None:
            SharingGroup._shared = ProcessGroupGloo.create_device(hostname=LOCALHOST)
        options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
        options._timeout, options._devices, options._threads = timeout, [SharingGroup._shared], 1
        super().__init__(store, rank, size, options)

    @classmethod
    def forget(cls) -> None:
        cls._shared = None


def share() -> None:
    """Of all groups that are made in this process, and in each of its forks, from now on."""
    os.register_at_fork(after_in_child=SharingGroup.forget)  # a fork has the device, and not its thread
    distributed_c10d.ProcessGroupGloo = SharingGroup  # type: ignore[misc]
