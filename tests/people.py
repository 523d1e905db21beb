"""People who chat with a whole stack and vote on what they see, without a pause, and keep a ledger of what they were
told."""

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from feedback.sandbox import raters as crew
from feedback.sandbox.world import Prompt, training_prompts
from tests.vote_ledger import Ledger, Voter

PATIENCE_S = 120.0
MAX_TOKENS = 48
REFUSED_PAUSE_S = 0.2


@dataclass(frozen=True)
class Failure:
    """A chat that got no whole answer, by the monotonic clock. `what` is the status, the error's code or its class."""

    began: float
    ended: float
    what: str


@dataclass
class Chats:
    """What became of the chats. `mixed` are replies under which more than one version is named."""

    answered: int = 0
    mixed: int = 0
    failures: list[Failure] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def failed_since(self, moment: float) -> list[Failure]:
        return [failure for failure in self.failures if failure.ended >= moment]


class People:
    """Within `with`, chatters stream replies and voters compare two and vote; `ledger` is of the votes."""

    def __init__(
        self, url: str, key: str, *, seed: int = 0, chatters: int = 3, voters: int = 3, pause_s: float = 0.05
    ) -> None:
        self.chats = Chats()
        self.ledger = Ledger()
        self._url = url
        self._headers = {"authorization": f"Bearer {key}"}
        self._rng = random.Random(seed)
        self._pause_s = pause_s
        self._prompts = training_prompts()
        self._work: list[Callable[[], Coroutine[Any, Any, None]]] = [self._chat_on] * chatters
        for rater in crew.raters(voters, seed):
            voter = Voter(rater.name, url, key, self.ledger, seed)
            self._work.append(lambda voter=voter, rater=rater: self._vote_on(voter, rater))
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._failed: list[BaseException] = []
        # A test that fails before it stops them must still end.
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def __enter__(self) -> "People":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let everybody finish what they are at. Raises what went wrong with them."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(timeout=2 * PATIENCE_S)
        if self._failed:
            raise self._failed.pop()

    def _run(self) -> None:
        async def work() -> None:
            async with asyncio.TaskGroup() as group:
                for one in self._work:
                    group.create_task(one())

        try:
            self._loop.run_until_complete(work())
        except ExceptionGroup as error:
            self._failed.append(error)
        finally:
            self._loop.close()

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(headers=self._headers, timeout=aiohttp.ClientTimeout(total=PATIENCE_S))

    async def _chat_on(self) -> None:
        async with self._session() as session:
            while not self._stopping.is_set():
                prompt = self._rng.choice(self._prompts)
                await self._chat(session, prompt, stream=True)
                await asyncio.sleep(self._pause_s)

    async def _vote_on(self, voter: Voter, rater: crew.Rater) -> None:
        async with self._session() as session:
            while not self._stopping.is_set():
                prompt = self._rng.choice(self._prompts)
                pair = await self._chat(session, prompt, n=2)
                if pair is not None:
                    await self._judge(session, voter, rater, prompt, pair)
                await asyncio.sleep(self._pause_s)

    async def _judge(
        self, session: aiohttp.ClientSession, voter: Voter, rater: crew.Rater, prompt: Prompt, pair: dict[str, Any]
    ) -> None:
        """Vote; now and then say it again, change it or take it back."""
        rng = self._rng
        choices = sorted(pair["choices"], key=lambda choice: choice["index"])
        replies = tuple(choice["message"]["content"] or "" for choice in choices)
        objective = crew.draw_objective(prompt, rng)
        last = None
        for _ in range(rng.choice((1, 1, 1, 1, 1, 2, 2))):
            judgement = crew.vote(prompt, (replies[0], replies[1]), objective, rater, rng)
            said = {"preferred": judgement.preferred, "strength": judgement.strength}
            last = last if last is not None and rng.random() < 0.5 else said
            await voter.say(session, pair["comparison_id"], objective, last)
        if rng.random() < 0.03:
            await voter.retract(session, pair["comparison_id"], objective)

    async def _chat(self, session: aiohttp.ClientSession, prompt: Prompt, **more: Any) -> dict[str, Any] | None:
        """The answer, or of a stream its last chunk; None when it failed."""
        began = time.monotonic()
        body = {"model": "tandem", "messages": prompt.messages, "max_tokens": MAX_TOKENS, **more}
        try:
            async with session.post(f"{self._url}/v1/chat/completions", json=body) as answer:
                if answer.status != 200:
                    what = f"{answer.status} {(await answer.json(content_type=None))['error'].get('code')}"
                elif "stream" in more:
                    what, said = await self._streamed(answer)
                else:
                    what, said = "", await answer.json()
        except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
            what = type(error).__name__
        if what:
            self.chats.failures.append(Failure(began, time.monotonic(), what))
            await asyncio.sleep(REFUSED_PAUSE_S)
            return None
        self.chats.answered += 1
        self.chats.seconds.append(time.monotonic() - began)
        return said

    async def _streamed(self, answer: aiohttp.ClientResponse) -> tuple[str, dict[str, Any]]:
        """What went wrong, or "", and the last chunk."""
        versions, chunk, last = set(), dict[str, Any](), b""
        async for line in answer.content:
            last = line.strip() or last
            if last.startswith(b"data: {") and line.strip():
                chunk = json.loads(last.removeprefix(b"data: "))
                if "error" in chunk:
                    return f"cut off: {chunk['error'].get('code')}", chunk
                versions.add(chunk["system_fingerprint"])
        if last != b"data: [DONE]":
            return "cut off", chunk
        self.chats.mixed += len(versions) != 1
        for version in versions:
            self.chats.versions[version] = self.chats.versions.get(version, 0) + 1
        return "", chunk
