"""In the engine's process: what a form costs that a reply is to keep to, known before it is paid.

A schema of fifty bytes can ask for all of a machine's memory, and one of a kilobyte for hours. vLLM works it out
between two tokens of everybody else, with each chat that asks for it, and an engine that does nothing else for seconds
counts as hung. So each new form is worked out in a fork, once, which the kernel ends where it takes too much.
"""

import asyncio
import hashlib
import mmap
import os
import resource
import signal
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from serve.engine.door import ASKED_BY
from serve.engine.terse_stream import TOO_MUCH

MOST_CPU_S = 2
# On a machine that has no time for it.
MOST_S = 20.0
MOST_BYTES = 512 << 20
MOST_WORDS_BYTES = 4096
REMEMBERED = 4096
EXIT_GOOD, EXIT_TOO_MUCH, EXIT_WRONG, EXIT_UNTRIED = range(4)

# What of vLLM's `StructuredOutputsParams` is the form: beside it stands what vLLM notes while it looks at it.
FORM = attrgetter("json", "regex", "choice", "grammar", "json_object", "structural_tag")


@dataclass(frozen=True)
class Verdict:
    """Whether a form stays within bounds; and if it does, what is wrong with it, None for a good one."""

    is_within: bool
    wrong: str | None = None


@dataclass(frozen=True)
class Waiting:
    name: bytes
    work_out: Callable[[], object]
    verdict: "asyncio.Future[Verdict]"


class Forms:
    """Verdicts on forms. Of new ones one is looked at at a time, also where whoever asked for it has left; keys take
    turns.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Verdict] = OrderedDict()
        self._queues: OrderedDict[bytes, deque[Waiting]] = OrderedDict()
        self._worker: asyncio.Task[None] | None = None

    def known(self, form: object) -> Verdict | None:
        """What was found of it; None for a new one."""
        return self._known.get(_name(form))

    async def find_out(self, form: object, work_out: Callable[[], object]) -> Verdict:
        """What comes of `work_out`, which is done once for each form, elsewhere and within bounds."""
        name = _name(form)
        known = self._known.get(name)
        if known is not None:
            return known
        waiting = Waiting(name, work_out, asyncio.get_running_loop().create_future())
        self._queues.setdefault(ASKED_BY.get(), deque()).append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="forms")
        return await waiting.verdict

    async def _work(self) -> None:
        while self._queues:
            key, queue = self._queues.popitem(last=False)
            waiting = queue.popleft()
            if queue:
                # To the end of the line of keys.
                self._queues[key] = queue
            if waiting.verdict.done():
                continue
            try:
                verdict = await self._judge(waiting)
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for, if it still is
                if not waiting.verdict.done():
                    waiting.verdict.set_exception(error)
            else:
                if not waiting.verdict.done():
                    waiting.verdict.set_result(verdict)

    async def _judge(self, waiting: Waiting) -> Verdict:
        # Whoever was before may have asked for the same.
        known = self._known.get(waiting.name)
        if known is not None:
            return known
        found = await asyncio.to_thread(work_out_within_bounds, waiting.work_out)
        if found is None:
            return Verdict(is_within=False)
        self._known[waiting.name] = found
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return found


def install() -> None:
    """Have vLLM refuse forms that `guidance` would take too long for, and look at no form twice."""
    from vllm.exceptions import VLLMValidationError
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.structured_output import backend_guidance

    add_request, validate, forms = AsyncLLM.add_request, backend_guidance.validate_guidance_grammar, Forms()

    async def add_within_bounds(
        engine: Any, request_id: str, prompt: Any, params: Any, *rest: Any, **named: Any
    ) -> Any:
        asked = getattr(params, "structured_outputs", None)
        if asked and engine.vllm_config.structured_outputs_config.backend == "guidance":
            verdict = await forms.find_out(FORM(asked), partial(validate, params))
            if not verdict.is_within:
                raise VLLMValidationError(TOO_MUCH)
        return await add_request(engine, request_id, prompt, params, *rest, **named)

    def validate_new(params: Any, tokenizer: Any = None) -> None:
        known = forms.known(FORM(params.structured_outputs)) if tokenizer is None else None
        if known is None:
            validate(params, tokenizer)
        elif known.wrong is not None:
            raise VLLMValidationError(known.wrong)

    AsyncLLM.add_request = add_within_bounds
    backend_guidance.validate_guidance_grammar = validate_new


def work_out_within_bounds(work_out: Callable[[], object]) -> Verdict | None:
    """What becomes of a fork of this process that does it. None where the machine had no time for it.

    Raises OSError where none can be made, or none that is bounded: that says nothing of the form.
    """
    words = mmap.mmap(-1, MOST_WORDS_BYTES)
    child = os.fork()
    if child == 0:
        code = EXIT_UNTRIED
        try:
            _bound_this_process()
            code = EXIT_TOO_MUCH
            code = _tried(work_out, words)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None if os.WTERMSIG(status) == signal.SIGALRM else Verdict(is_within=False)
    if os.WEXITSTATUS(status) == EXIT_UNTRIED:
        raise OSError("a fork could not be bounded")
    if os.WEXITSTATUS(status) == EXIT_WRONG:
        return Verdict(is_within=True, wrong=words.read().rstrip(b"\0").decode(errors="replace"))
    return Verdict(is_within=os.WEXITSTATUS(status) == EXIT_GOOD)


def _tried(work_out: Callable[[], object], words: mmap.mmap) -> int:
    try:
        work_out()
    except MemoryError:
        return EXIT_TOO_MUCH
    except BaseException as error:  # noqa: BLE001 - said by the parent to whoever asked
        words.write(str(error).encode("utf-8", "replace")[:MOST_WORDS_BYTES])
        return EXIT_WRONG
    return EXIT_GOOD


def _name(form: object) -> bytes:
    return hashlib.sha256(repr(form).encode("utf-8", "surrogatepass")).digest()


def _bound_this_process() -> None:
    # First: a fork of a process with threads may find something locked for ever.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, MOST_S)
    # It says in words of whoever asked what was too much.
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_BYTES
    for what, bound in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, most), (resource.RLIMIT_CPU, MOST_CPU_S)):
        resource.setrlimit(what, (bound, bound))
