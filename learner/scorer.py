"""The process that scores replies, for "best of k" and for whoever asks, and prompts: `python -m learner.scorer`. What
it is asked: `feedback.scoring`.

One question at a time: several would only share the processor. PyTorch and the models are loaded by the first one,
since most homes never ask; or at the start, where every chat asks. It knows nothing of HTTP, engines or who asks.
"""

import asyncio
import contextlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import orjson

from feedback import logs
from feedback.errors import InvalidRequest, TandemError
from feedback.scoring import LONGEST_LINE_BYTES, scorer_socket
from feedback.settings import Settings, load_settings
from feedback.store import Store

if TYPE_CHECKING:
    from learner.reply_scores import Judges

log = logging.getLogger(__name__)


class Scorer:
    """Answers questions about one home."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scores")
        self._judges: Judges | None = None

    async def serve(self) -> None:
        """Listen until cancelled."""
        socket = scorer_socket(self._settings.run_dir)
        socket.parent.mkdir(parents=True, exist_ok=True)
        socket.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._converse, socket, limit=LONGEST_LINE_BYTES)
        log.info("ready to score replies")
        if self._settings.serve.reject_strange_prompts != "off":
            asyncio.get_running_loop().run_in_executor(self._thread, self._warm)
        async with server:
            await server.serve_forever()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whoever asked may be gone before the answer.
        with contextlib.suppress(ConnectionError, ValueError):
            line = await reader.readline()
            if line:
                answer = await asyncio.get_running_loop().run_in_executor(self._thread, self._answer_to, reader, line)
                writer.write(orjson.dumps(answer) + b"\n")
                await writer.drain()
        writer.close()

    def _answer_to(self, asker: asyncio.StreamReader, line: bytes) -> dict[str, Any]:
        # One that has hung up before its turn came is no reason to let the others wait.
        return {} if asker.at_eof() else self._answer(line)

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"ok": True, **self._found(orjson.loads(line))}
        except TandemError as error:
            return {"ok": False, "code": error.code, "error": error.message}
        except Exception as error:  # noqa: BLE001 - one question must not end the process; texts stay out of the log
            log.error("a question failed by %s", type(error).__name__)
            return {"ok": False, "code": "internal_error", "error": f"the scorer failed by {type(error).__name__}"}

    def _found(self, question: dict[str, Any]) -> dict[str, Any]:
        more = question.keys() - {"version", "messages"} if isinstance(question, dict) else None
        if more not in (set(), {"replies", "ended"}, {"replies", "ended", "in_full"}):
            raise InvalidRequest("a question has a version, messages and perhaps replies and which of them ended")
        judges = self._loaded()
        if more:
            in_full = "in_full" in more
            judge = judges.of(question["version"], in_passing=in_full)
            asked = question["messages"], question["replies"], question["ended"]
            return judge.opinion(*asked) if in_full else {"scores": judge.scores(*asked)}
        return judges.gate_of(question["version"]).look(question["messages"])

    def _loaded(self) -> "Judges":
        if self._judges is None:
            import torch

            from learner.reply_scores import Judges

            torch.set_num_threads(self._settings.learner.threads)
            self._judges = Judges(Store(self._settings.record_url), self._settings)
        return self._judges

    def _warm(self) -> None:
        """The first chat must not wait for PyTorch and the starting policy."""
        self._answer(b'{"version":0,"messages":[{"role":"user","content":"Hello"}]}')


def main() -> None:
    os.umask(0o077)
    settings = load_settings()
    logs.configure(settings)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Scorer(settings).serve())


if __name__ == "__main__":
    main()
