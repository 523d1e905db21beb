"""An answer whose client goes away while it begins, at whatever moment, or of which one side fails."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from feedback.errors import EngineUnavailable
from feedback.settings import ServeSettings
from serve.chat.answering import _answer_anew, _begins
from serve.chat.completions import Completion as RealCompletion
from serve.chat.completions import ReplyTimedOut
from serve.chat.rate_limits import Charge
from serve.chat.request import parse
from serve.engine import admission
from serve.engine.pool import Pool
from serve.metrics import Metrics
from tests.serve.test_generation import BODY, Writing


class Completion:
    """Begins when it is told to."""

    def __init__(self) -> None:
        self.may_begin = asyncio.get_running_loop().create_future()

    async def begin(self) -> None:
        await self.may_begin


@pytest.fixture
async def completion() -> Any:
    return Completion()


async def test_a_client_that_leaves_ends_what_has_not_begun_and_nothing_breaks(completion: Any) -> None:
    failures: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    for order, begun in (("begins", True), ("leaves", False), ("begins, leaves", True), ("leaves, begins", True)):
        completion.may_begin, gone = loop.create_future(), loop.create_future()
        beginning = asyncio.create_task(_begins(completion, gone, 60))
        await asyncio.sleep(0)
        # Both in the same turn of the loop.
        for what in order.split(", "):
            (completion.may_begin if what == "begins" else gone).set_result(None)
        assert await beginning is begun, order
        await asyncio.sleep(0)
    assert failures == []


async def test_what_takes_too_long_is_ended(completion: Any) -> None:
    with pytest.raises(ReplyTimedOut):
        await _begins(completion, asyncio.get_running_loop().create_future(), 0.01)


class Gateway(SimpleNamespace):
    """What a completion wants of a gateway, with an engine that the test plays."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool=pool, metrics=Metrics(), settings=SimpleNamespace(serve=ServeSettings()), scorer=None)
        self.strange_prompts = SimpleNamespace(look=self._look)
        self.rate_limits = SimpleNamespace(settle=lambda *_: None)
        self.recorder = SimpleNamespace(add=self._add)
        self.rows: list[Any] = []

    async def _look(self, *_: Any) -> None:
        return None

    async def _add(self, rows: list[Any]) -> None:
        self.rows += rows


async def test_what_one_side_wrote_is_recorded_when_the_other_found_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "LOOKS", 6000)
    pool = Pool(tmp_path, 1, seats_per_slot=1, max_queued=4)
    pool.serving = 0
    (slot,) = pool.slots
    slot.state, slot.version, slot.wanted = "ready", 0, 0
    gateway, chat = Gateway(pool), parse(orjson.dumps(BODY | {"stream": False, "n": 2}), ServeSettings())
    completion = RealCompletion(gateway, chat, SimpleNamespace(key_id="key"), "req_1", Charge())  # type: ignore[arg-type]
    request = SimpleNamespace(receive=asyncio.Event().wait)
    engine = Writing()

    async def lose_patience() -> None:
        await engine.asked.wait()
        monkeypatch.setattr(admission, "PATIENCE_S", 0.0)

    async with await asyncio.start_unix_server(engine, slot.client.socket):
        losing_it = asyncio.create_task(lose_patience())
        with pytest.raises(EngineUnavailable):
            await _answer_anew(gateway, request, completion, None, stream=False)  # type: ignore[arg-type]
    await losing_it
    assert [(row.status, row.text, row.token_ids) for row in gateway.rows] == [
        ("failed", "word1", [1]),
        ("failed", "", None),
    ]
    assert slot.in_flight == 0
