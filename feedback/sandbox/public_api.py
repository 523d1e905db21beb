"""The two calls that simulated people make, a chat and a vote, over Tandem's public HTTP API; and many at once."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from feedback.errors import TandemError
from feedback.sandbox.raters import Judgement
from feedback.sandbox.world import Prompt

T = TypeVar("T")

OnProgress = Callable[[int, int], None]
"""Told how many are done, of how many, after each."""

_MAX_REPLY_TOKENS = 64
_PATIENCE_S = 120.0
_LONGEST_WAIT_S = 5.0
_BUSY = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)


class SandboxFailed(TandemError):
    """The public API answered something that a simulated person cannot go on from."""

    code = "sandbox_failed"
    status = 502


@dataclass(frozen=True)
class Comparison:
    """Two replies shown side by side."""

    id: str
    replies: tuple[str, str]


class PublicApi:
    """A client of a running Tandem. Use as an async context manager.

    Answers 429 and 503 are waited out, for two minutes in all; anything else unexpected raises
    SandboxFailed with the server's own words.
    """

    def __init__(self, base_url: str, key: str, *, connections: int = 8, timeout_s: float = 120) -> None:
        self._base_url = base_url
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers={"authorization": f"Bearer {key}"},
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=connections),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def compare(self, prompt: Prompt) -> Comparison:
        """Ask for two replies side by side, by whatever versions the server picks."""
        answer = await self._chat(prompt, model="tandem", n=2)
        replies = _replies(answer)
        if "comparison_id" not in answer or len(replies) != 2:
            raise SandboxFailed("a chat with n: 2 was answered without a comparison of two replies")
        return Comparison(answer["comparison_id"], (replies[0], replies[1]))

    async def reply(self, prompt: Prompt, model: str, seed: int) -> str:
        """One reply by the model, e.g. `tandem@v1`."""
        return _replies(await self._chat(prompt, model=model, n=1, seed=seed))[0]

    async def answer(self, messages: list[dict[str, str]], *, model: str, max_tokens: int) -> str:
        """The model's likeliest reply to any conversation."""
        body = {"messages": messages, "model": model, "max_tokens": max_tokens, "temperature": 0.0}
        return _replies(await self._send("POST", "/v1/chat/completions", body))[0]

    async def vote(self, comparison_id: str, judgement: Judgement) -> None:
        """Cast a vote; returns once the server says that it is durable."""
        body = {
            "objective": judgement.objective,
            "preferred": judgement.preferred,
            "strength": judgement.strength,
            "rater": judgement.rater,
        }
        await self._send("PUT", f"/v1/comparisons/{comparison_id}/vote", body)

    async def _chat(self, prompt: Prompt, **fields: Any) -> dict[str, Any]:
        body = {"messages": prompt.messages, "temperature": 1.0, "max_tokens": _MAX_REPLY_TOKENS}
        return await self._send("POST", "/v1/chat/completions", body | fields)

    async def _send(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON of a 2xx answer, asking again while the server is busy."""
        waited_s, wait_s = 0.0, 0.1
        while True:
            try:
                response = await self._client.request(method, path, json=body)
            except httpx.HTTPError as error:
                raise SandboxFailed(
                    f"{method} {path} at {self._base_url} got no answer ({type(error).__name__}); is Tandem up?"
                ) from error
            if response.is_success:
                answer: dict[str, Any] = response.json()
                return answer
            if response.status_code not in _BUSY or waited_s >= _PATIENCE_S:
                raise SandboxFailed(f"{method} {path} was answered {response.status_code}: {_reason(response)}")
            pause_s = max(wait_s, _retry_after_s(response)) * random.uniform(0.8, 1.2)
            await asyncio.sleep(pause_s)
            waited_s += pause_s
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


async def each(
    work: Callable[[int], Awaitable[T]],
    numbers: Sequence[int],
    concurrency: int,
    on_progress: OnProgress | None,
) -> list[T]:
    """The results in order, `concurrency` at a time; the first failure ends the rest and is raised."""
    results: dict[int, T] = {}
    waiting = iter(numbers)

    async def worker() -> None:
        for number in waiting:
            results[number] = await work(number)
            if on_progress is not None:
                on_progress(len(results), len(numbers))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(numbers))):
                group.create_task(worker())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [results[number] for number in numbers]


def _replies(answer: dict[str, Any]) -> list[str]:
    choices = sorted(answer["choices"], key=lambda choice: choice["index"])
    return [choice["message"]["content"] or "" for choice in choices]


def _retry_after_s(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return min(float(value), _LONGEST_WAIT_S) if value.isdigit() else 0.0


def _reason(response: httpx.Response) -> str:
    """The server's own words, from OpenAI's error object or from problem+json."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:200]
    if not isinstance(body, dict):
        return response.text[:200]
    error = body.get("error")
    return str(error.get("message") if isinstance(error, dict) else body.get("detail") or body)
