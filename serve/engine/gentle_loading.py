"""In the engine's process: weights loaded by a thread that gives way to the engines which write replies meanwhile.

Nothing waits for what the thread holds but its own engine, which writes nothing yet.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serve.engine.giving_way import give_way


class GentleLoading:
    """What vLLM's worker can do beside its own. `device` and `reload_weights` are the worker's."""

    device: Any

    def reload_weights_gently(self, weights_path: str) -> None:
        """As the worker's `reload_weights`; at once where loading is another device's work."""
        reload: Any = self.reload_weights  # type: ignore[attr-defined]
        if self.device.type != "cpu" or sys.platform != "linux":
            reload(weights_path=weights_path)
            return
        with ThreadPoolExecutor(1, "gentle-loading", initializer=give_way) as thread:
            thread.submit(reload, weights_path=weights_path).result()
