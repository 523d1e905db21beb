"""Prompts are read in parts while others write, in a real engine: writing goes on, and the replies are the same."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from serve.engine.launcher_protocol import engine_socket
from tests.serve.conftest import Tandem

pytestmark = pytest.mark.engine

# Of about 400 tokens each, more together than vLLM puts into one step.
PROMPTS = [f"{number}. " + "Tell me how to cut a cake. " * 48 for number in range(12)]
WRITTEN = 400


def body(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "policy", "messages": [{"role": "user", "content": text}], "ignore_eos": True} | fields


@pytest.fixture
async def engine(tandem: Tandem) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.UnixConnector(str(engine_socket(tandem.settings.run_dir, 0)), limit=0)
    async with aiohttp.ClientSession("http://engine", connector=connector) as session:
        yield session


async def reply(engine: aiohttp.ClientSession, number: int) -> list[int]:
    """The tokens of a reply that is drawn by its seed."""
    from serve.engine.scheduler import PROMPT_TOKENS

    asked = body(PROMPTS[number], seed=number, temperature=1.0, max_tokens=16, return_token_ids=True)
    async with engine.post("/v1/chat/completions", json=asked) as answer:
        content = await answer.json()
        assert answer.status == 200, content
        assert content["usage"]["prompt_tokens"] > 2 * PROMPT_TOKENS
        tokens: list[int] = content["choices"][0]["token_ids"]
        return tokens


class Writer:
    """A reply that is being written; `tokens` counts on."""

    def __init__(self, engine: aiohttp.ClientSession) -> None:
        self.tokens = 0
        self.begun = asyncio.Event()
        self.task = asyncio.create_task(self._write(engine))

    async def _write(self, engine: aiohttp.ClientSession) -> None:
        asked = body("Hello", max_tokens=WRITTEN, stream=True, return_token_ids=True)
        async with engine.post("/v1/chat/completions", json=asked) as answer:
            async for line in answer.content:
                # Where the client is slow an event has several tokens.
                tokens = json.loads(line[6:])["choices"][0].get("token_ids") if line.startswith(b"data: {") else None
                if tokens:
                    self.tokens += len(tokens)
                    self.begun.set()


async def test_writing_goes_on_and_replies_are_the_same(engine: aiohttp.ClientSession) -> None:
    together = await asyncio.gather(*[reply(engine, number) for number in range(10)])
    writer = Writer(engine)
    await writer.begun.wait()
    beside = [await reply(engine, number) for number in (10, 11)]
    # Read at once, each prompt would let it write one token, and then 16; in parts of PROMPT_TOKENS + 1 it is twelve.
    assert 2 * (8 + 16) < writer.tokens < WRITTEN
    writer.task.cancel()
    await asyncio.wait([writer.task])
    assert together + beside == [await reply(engine, number) for number in range(len(PROMPTS))]


def test_a_step_follows_what_is_being_written() -> None:
    from serve.engine.scheduler import PROMPT_TOKENS, most_tokens

    assert most_tokens(0, 2048) == 2048
    assert most_tokens(1, 2048) == PROMPT_TOKENS + 2
    assert most_tokens(64, 100) == 100
    assert all(most_tokens(writing, 2048) > writing for writing in range(1, 256))
