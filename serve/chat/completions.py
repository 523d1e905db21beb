"""`POST /v1/chat/completions`: one reply, or a comparison of two whose versions are hidden; whole or as a stream."""

import asyncio
import hashlib
import time
from collections.abc import Coroutine
from typing import Any

from feedback.errors import TandemError
from feedback.ids import new_id
from feedback.schema import Sample, version_name
from feedback.store import samples
from serve.auth import Caller
from serve.chat.best_of import BestOf
from serve.chat.generation import Generation
from serve.chat.rate_limits import Charge
from serve.chat.refusal import Refusal
from serve.chat.reply import COMPLETE, REFUSED
from serve.chat.request import ChatRequest
from serve.gateway import Gateway
from serve.strange_prompts import Strange


class ReplyTimedOut(TandemError):
    """A reply took longer than `serve.request_timeout_s`."""

    code = "timeout"
    status = 504

    def __init__(self) -> None:
        super().__init__("the reply took too long and was ended")


class Completion:
    """One request's reply or replies, from the first token asked for until they are in the record."""

    def __init__(self, gateway: Gateway, chat: ChatRequest, caller: Caller, request_id: str, charge: Charge) -> None:
        self.comparison_id = new_id("cmp") if chat.n == 2 else None
        self._gateway = gateway
        self.chat = chat
        self._caller = caller
        self._request_id = request_id
        self._charge = charge
        self._id = new_id("chatcmpl").replace("_", "-")
        self._created = int(time.time())
        self._began = time.perf_counter()
        self.recorded_as: str | None = None
        self.cancelled = False
        self.expired = False
        self._refused = False
        self.generations = [self._generation(choice, version) for choice, version in enumerate(self._versions())]

    def _generation(self, choice: int, version: int | None) -> Generation:
        pool, metrics = self._gateway.pool, self._gateway.metrics
        if self.chat.best_of > 1:
            return BestOf(pool, metrics, self.chat, choice, version, self._gateway.scorer)
        return Generation(pool, metrics, self.chat, choice, version)

    def _versions(self) -> tuple[int | None, ...]:
        pool, chat = self._gateway.pool, self.chat
        if chat.n == 2:
            return pool.versions_for_comparison(chat.version)
        return (pool.version_for_chat(chat.version, conversation_number(chat.messages, self._caller.key_id)),)

    async def begin(self) -> None:
        """Have the engines begin, unless the prompt is refused; see `Generation.begin`. What was begun is stopped when
        this fails."""
        why = await self._gateway.strange_prompts.look(self._gateway.pool.serving, self.chat.messages)
        if why is not None:
            self._refuse(why)
        logprobs = self._gateway.settings.serve.record_logprobs
        begun = [generation.begin(self._caller.key_id, record_logprobs=logprobs) for generation in self.generations]
        try:
            await (begun[0] if len(begun) == 1 else _all(begun))
        except BaseException:
            self.stop()
            raise
        if self.chat.stream:
            self._gateway.metrics.first_token_seconds.observe(time.perf_counter() - self._began)

    def _refuse(self, why: Strange) -> None:
        """Refusals take the place of replies; two of them are no comparison."""
        pool, metrics, settings = self._gateway.pool, self._gateway.metrics, self._gateway.settings.serve
        self.comparison_id = None
        self.generations = [Refusal(pool, metrics, self.chat, choice, why, settings) for choice in range(self.chat.n)]
        self._refused = True

    @property
    def has_written(self) -> bool:
        """Something has come of a reply."""
        return any(reply.token_ids for generation in self.generations for reply in generation.replies)

    def stop(self) -> None:
        for generation in self.generations:
            generation.stop()

    def cancel(self) -> None:
        """The client is gone: the engines stop."""
        self.cancelled = True
        self.stop()

    def expire(self) -> None:
        """The replies took too long: engines that still write stop."""
        self.expired = True
        self.stop()

    async def record(self, status: str) -> None:
        """Put the replies into the record, once; complete ones of a pair as a comparison."""
        if self.recorded_as is not None:
            return
        self.recorded_as = status
        self._gateway.rate_limits.settle(self._caller.key_id, self._charge, self._tokens_taken())
        if self._refused and status == COMPLETE:
            status = REFUSED
        metrics = self._gateway.metrics
        rows = [
            reply.as_sample(
                status,
                key_id=self._caller.key_id,
                request_id=self._request_id,
                record_logprobs=self._gateway.settings.serve.record_logprobs,
            )
            for generation in self.generations
            for reply in generation.replies
        ]
        self._count(rows)
        for generation in self.generations:
            metrics.replies.labels(status).inc()
            metrics.tokens.labels("prompt").inc(generation.reply.usage["prompt_tokens"])
            metrics.tokens.labels("completion").inc(generation.reply.usage["completion_tokens"])
        if self.comparison_id is None or status != COMPLETE:
            await self._gateway.recorder.add(rows)
            return
        pair = (rows[0], rows[1])
        comparison = samples.compare(
            pair,
            key_id=self._caller.key_id,
            tranche=self._tranche(pair),
            comparison_id=self.comparison_id,
        )
        await self._gateway.recorder.add(rows, comparison)

    def _count(self, rows: list[Sample]) -> None:
        """What the chat used, as `usage` says it; of replies that did not end, what was written."""
        rows[0].prompt_tokens = self.usage()["prompt_tokens"]
        for row in rows:
            row.reply_tokens = max((row.usage or {}).get("completion_tokens", 0), len(row.token_ids or ()))

    def _tranche(self, pair: tuple[Sample, Sample]) -> str:
        """As in the paper: drawn from the starting policy, by rejection sampling, or from policies trained since."""
        if self.chat.best_of > 1:
            return "rejection-sampled"
        return "base" if all(row.version_first == 0 for row in pair) else "online"

    def head(self) -> dict[str, Any]:
        """What the answer and every chunk begin with. Of a comparison it says nothing that tells the versions apart."""
        head: dict[str, Any] = {"id": self._id, "created": self._created, "model": self.chat.model}
        if self.comparison_id is None:
            seat = self.generations[0].reply.seat
            # A refusal was written by no version.
            if seat is not None and seat.version_first is not None:
                head["system_fingerprint"] = version_name(seat.version_first)
        return head

    def tail(self) -> dict[str, Any]:
        return {} if self.comparison_id is None else {"comparison_id": self.comparison_id}

    def usage(self) -> dict[str, int]:
        """The prompt once and all that was written, as OpenAI counts `n`."""
        replies = [generation.reply for generation in self.generations]
        prompt = max(reply.usage["prompt_tokens"] for reply in replies)
        completion = sum(reply.usage["completion_tokens"] for reply in replies)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _tokens_taken(self) -> int:
        """As `usage`; of replies that did not end, for which the engine says nothing, what is known. Of several to be
        chosen from nothing is, then: they are charged with what they might have come to.
        """
        replies = [generation.reply for generation in self.generations]
        if self.chat.best_of > 1 and any(reply.seat and not reply.usage["prompt_tokens"] for reply in replies):
            return self._charge.tokens
        said = self.usage()
        written = sum(len(reply.token_ids) for reply in replies)
        return (said["prompt_tokens"] or self._charge.prompt_tokens) + max(said["completion_tokens"], written)

    def whole(self) -> dict[str, Any]:
        """OpenAI's chat completion object."""
        return {
            **self.head(),
            "object": "chat.completion",
            "choices": [self._choice(generation) for generation in self.generations],
            "usage": self.usage(),
            **self.tail(),
        }

    def _choice(self, generation: Generation) -> dict[str, Any]:
        reply = generation.reply
        choice: dict[str, Any] = {
            "index": reply.choice,
            "message": reply.message(),
            "logprobs": {"content": reply.logprobs_content, "refusal": None} if self.chat.logprobs else None,
            "finish_reason": reply.finish_reason,
        }
        if self.chat.return_token_ids:
            choice["token_ids"] = reply.token_ids
        return choice


async def _all(work: list[Coroutine[Any, Any, None]]) -> None:
    """At the same time; when one fails, the others are cancelled."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            # What ends already is not interrupted in it.
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def conversation_number(messages: list[dict[str, Any]], key_id: str) -> float:
    """A number in [0, 1) that all turns of one conversation share: it is drawn from how the conversation began."""
    digest = hashlib.sha256(f"{key_id} {samples.opening_digest(messages)}".encode()).hexdigest()
    return int(digest[:13], 16) / 16**13
