"""In the engine's process: what a form costs that a reply is to keep to, known before it is paid.

A schema of fifty bytes can ask for all of a machine's memory, and one of a kilobyte for hours. vLLM works it out
between two tokens of everybody else, and an engine that does nothing else for seconds counts as hung. So each new form
is worked out in a fork first, which the kernel ends where it takes too much.
"""

import asyncio
import hashlib
import os
import resource
import signal
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from serve.engine.terse_stream import TOO_MUCH

MOST_CPU_S = 2
# On a machine that has no time for it.
MOST_S = 20.0
MOST_BYTES = 512 << 20
REMEMBERED = 4096


class Forms:
    """Which forms stay within bounds. Of new ones one is looked at at a time, so that between two that take long others
    have their turn; also where whoever asked for the first has left.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, bool] = OrderedDict()
        self._one_at_a_time = ThreadPoolExecutor(1, "forms")

    async def are_within(self, form: object, work_out: Callable[[], object]) -> bool:
        """Whether `work_out` ends within bounds; what it finds wrong, or that it fails, is for who does it again."""
        name = hashlib.sha256(repr(form).encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(name)
        if known is not None:
            return known
        return await asyncio.get_running_loop().run_in_executor(self._one_at_a_time, self._find_out, name, work_out)

    def _find_out(self, name: bytes, work_out: Callable[[], object]) -> bool:
        # Whoever was before may have asked for the same.
        if name not in self._known:
            ends = ends_within_bounds(work_out)
            if ends is None:
                return False
            self._known[name] = ends
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return self._known[name]


def install() -> None:
    """Have vLLM refuse forms that `guidance` would take too long for."""
    from vllm.exceptions import VLLMValidationError
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.structured_output.backend_guidance import validate_guidance_grammar

    add_request, forms = AsyncLLM.add_request, Forms()

    async def add_within_bounds(
        engine: Any, request_id: str, prompt: Any, params: Any, *rest: Any, **named: Any
    ) -> Any:
        form = getattr(params, "structured_outputs", None)
        is_guided = engine.vllm_config.structured_outputs_config.backend == "guidance"
        if form and is_guided and not await forms.are_within(form, partial(validate_guidance_grammar, params)):
            raise VLLMValidationError(TOO_MUCH)
        return await add_request(engine, request_id, prompt, params, *rest, **named)

    AsyncLLM.add_request = add_within_bounds


def ends_within_bounds(work_out: Callable[[], object]) -> bool | None:
    """Whether a fork of this process gets to the end of `work_out`, be it by an error, or is ended before. None where
    the machine had no time for it.
    """
    child = os.fork()
    if child == 0:
        try:
            _bound_this_process()
            work_out()
        except MemoryError:
            os._exit(1)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return None
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0


def _bound_this_process() -> None:
    # It says in words of whoever asked what was too much.
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_BYTES
    for what, bound in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, most), (resource.RLIMIT_CPU, MOST_CPU_S)):
        resource.setrlimit(what, (bound, bound))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, MOST_S)
