"""In the engine's process: weights loaded by a thread that gives way to the engines which write replies meanwhile.

Nothing waits for what the thread holds but its own engine, which writes nothing yet.
"""

import contextlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from feedback.giving_way import IDLE_S, give_way, may_come_back, wait_for_idle, wait_no_longer, with_rests
from serve.engine.weight_files import name_folder, read_weights


class GentleLoading:
    """What vLLM's worker can do beside its own. `device`, `model_runner` and `reload_weights` are the worker's."""

    device: Any
    model_runner: Any

    def reload_weights_gently(self, weights_path: str) -> None:
        """As the worker's `reload_weights`; at once where loading is another device's work."""
        reload: Any = self.reload_weights  # type: ignore[attr-defined]
        if self.device.type != "cpu" or sys.platform != "linux":
            reload(weights_path=weights_path)
            return
        with ThreadPoolExecutor(1, "gentle-loading", initializer=give_way) as thread:
            waits = may_come_back()
            thread_id = thread.submit(threading.get_native_id).result()
            if waits:
                wait_for_idle(thread_id)
            config = self.model_runner.vllm_config
            weights = with_rests(read_weights(weights_path, config, self.model_runner.get_model()))
            # What vLLM itself does with a path only.
            name_folder(config.model_config, weights_path)
            loading = thread.submit(reload, weights_iterator=weights)
            with contextlib.suppress(TimeoutError):
                loading.result(IDLE_S)
            if waits:
                wait_no_longer(thread_id)
            loading.result()
