"""In the engine's process: weights loaded by a thread that gives way to the engines which write replies meanwhile.

Only the thread can give way, and only it: a process that has once lowered its priority may not raise it again. Nothing
waits for what the thread holds but its own engine, which writes nothing yet.
"""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from feedback.verification import NICENESS


class GentleLoading:
    """What vLLM's worker can do beside its own. `device` and `reload_weights` are the worker's."""

    device: Any

    def reload_weights_gently(self, weights_path: str) -> None:
        """As the worker's `reload_weights`; at once where loading is another device's work."""
        reload: Any = self.reload_weights  # type: ignore[attr-defined]
        if self.device.type != "cpu" or sys.platform != "linux":
            reload(weights_path=weights_path)
            return
        with ThreadPoolExecutor(1, "gentle-loading", initializer=_give_way) as thread:
            thread.submit(reload, weights_path=weights_path).result()


def _give_way() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
