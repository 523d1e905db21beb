"""The scorer answers one question after the other, to whoever still waits."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

from feedback.scoring import scorer_socket
from feedback.settings import load_settings
from learner.scorer import Scorer


class Slow(Scorer):
    """Says what it was asked, once it may."""

    def __init__(self, home: Path) -> None:
        super().__init__(load_settings(home=home))
        self.asked, self.may_answer = list[bytes](), threading.Event()

    def _answer(self, line: bytes) -> dict[str, Any]:
        self.asked.append(line.strip())
        self.may_answer.wait()
        return {"ok": True}


async def test_one_that_has_hung_up_is_not_answered_before_those_who_wait(tmp_path: Path) -> None:
    scorer = Slow(tmp_path)
    serving = asyncio.create_task(scorer.serve())
    socket = scorer_socket(scorer._settings.run_dir)

    async def ask(question: bytes, waiting: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Ask, and return once so many wait for their turn."""
        reader, writer = await asyncio.open_unix_connection(socket)
        writer.write(question + b"\n")
        while len(scorer.asked) + scorer._thread._work_queue.qsize() < 1 + waiting or not scorer.asked:
            await asyncio.sleep(0)
        return reader, writer

    try:
        async with asyncio.timeout(60):
            while not socket.exists():
                await asyncio.sleep(0)
            first, first_asks = await ask(b"first", 0)
            _, gone = await ask(b"gone", 1)
            gone.close()
            await gone.wait_closed()
            last, last_asks = await ask(b"last", 2)
            scorer.may_answer.set()
            assert [json.loads(await reader.readline()) for reader in (first, last)] == [{"ok": True}] * 2
            for asks in (first_asks, last_asks):
                asks.close()
    finally:
        scorer.may_answer.set()
        serving.cancel()
    assert scorer.asked == [b"first", b"last"]
