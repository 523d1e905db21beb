"""A reply as it grows, token by token, and the sample that is made of it."""

import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from feedback.ids import new_id
from feedback.schema import Sample
from feedback.store import samples
from serve.chat.request import ChatRequest
from serve.engine.slot import Seat

COMPLETE, CANCELLED, FAILED, REFUSED = "complete", "cancelled", "failed", "refused"
# vLLM's word for a reply that it was asked to end: why that was is in the status.
ENDED_EARLY = "abort"
# Fields of a message beside its text that come in pieces: those of a tool call are put together by its index.
JOINED_FIELDS = ("content", "reasoning", "refusal")


class Reply:
    """One choice of a chat: what the engine has said of it so far."""

    def __init__(self, chat: ChatRequest, choice: int) -> None:
        self.id = new_id("smp")
        self.choice = choice
        self.finish_reason: str | None = None
        self.usage: dict[str, int] = {"prompt_tokens": 0, "completion_tokens": 0}
        self.token_ids: list[int] = []
        self.seat: Seat | None = None
        self.seed = chat.seed_of(choice)
        # How it was chosen among several, where it was: recorded with its sampling settings.
        self.chosen: dict[str, Any] = {}
        self._chat = chat
        self._texts: defaultdict[str, list[str]] = defaultdict(list)
        self._tool_calls: dict[int, dict[str, Any]] = {}
        self._logprobs: list[float] = []
        # OpenAI's `logprobs.content`: of a stream it goes out with its chunks.
        self.logprobs_content: list[dict[str, Any]] = []
        self.began_at = time.time()

    def absorb_delta(self, choice: dict[str, Any]) -> None:
        """Take in one choice of one streamed chunk of the engine's."""
        delta = choice["delta"]
        for name in delta:
            if name in JOINED_FIELDS:
                if delta[name]:
                    self._texts[name].append(delta[name])
            elif name == "tool_calls":
                join_calls(self._tool_calls, delta[name])
        self._absorb(choice)

    def absorb_message(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        """Take in the one choice of a whole answer of the engine's."""
        message = choice["message"]
        for name in JOINED_FIELDS:
            if message.get(name):
                self._texts[name] = [message[name]]
        self._tool_calls = dict(enumerate(message.get("tool_calls") or ()))
        self.logprobs_content = (choice.get("logprobs") or {}).get("content") or []
        self._absorb(choice)
        self.absorb_usage(usage)

    def absorb_usage(self, usage: dict[str, Any]) -> None:
        self.usage = {name: usage.get(name) or 0 for name in ("prompt_tokens", "completion_tokens")}

    @property
    def text(self) -> str:
        return "".join(self._texts.get("content", ()))

    def message(self) -> dict[str, Any]:
        """The whole reply as OpenAI's assistant message."""
        content = "".join(self._texts["content"]) if "content" in self._texts else None
        message: dict[str, Any] = {
            "role": "assistant",
            "content": content if content is not None or self._tool_calls else "",
            "refusal": "".join(self._texts["refusal"]) if "refusal" in self._texts else None,
        }
        if "reasoning" in self._texts:
            message["reasoning"] = "".join(self._texts["reasoning"])
        if self._tool_calls:
            calls = [self._tool_calls[index] for index in sorted(self._tool_calls)]
            message["tool_calls"] = [_whole_call(call) for call in calls]
        return message

    def as_sample(self, status: str, *, key_id: str, request_id: str, record_logprobs: bool) -> Sample:
        """The row that is recorded: everything needed to use this reply again."""
        chat, seat = self._chat, self.seat
        message = self.message()
        plain = message.keys() == {"role", "content", "refusal"} and message["refusal"] is None
        return Sample(
            id=self.id,
            key_id=key_id,
            user=chat.user,
            request_id=request_id,
            messages=chat.messages,
            prompt_digest=samples.prompt_digest(chat.messages),
            text=self.text,
            message=None if plain else message,
            token_ids=self.token_ids or None,
            logprobs=(self._logprobs or None) if record_logprobs else None,
            sampling=chat.sampling | self.chosen | ({} if chat.version is None else {"model": chat.model}),
            seed=self.seed,
            version_first=seat.version_first if seat is not None else None,
            version_last=seat.version_last if seat is not None else None,
            status=status,
            finish_reason=self.finish_reason,
            usage=self.usage,
            created_at=self.began_at,
            finished_at=time.time(),
        )

    def _absorb(self, choice: dict[str, Any]) -> None:
        if choice.get("finish_reason") not in (None, ENDED_EARLY):
            self.finish_reason = choice["finish_reason"]
        token_ids, logprobs = choice.get("token_ids"), choice.get("logprobs")
        if token_ids:
            self.token_ids += token_ids
        if logprobs and logprobs.get("content"):
            self._logprobs += [entry["logprob"] for entry in logprobs["content"]]


def _whole_call(call: dict[str, Any]) -> dict[str, Any]:
    """As it stands in a message, where pieces of it may never have come."""
    function = {"name": "", "arguments": "", **call["function"]}
    return {"id": call.get("id"), "type": call.get("type", "function"), "function": function}


def join_calls(calls: dict[int, dict[str, Any]], pieces: Iterable[dict[str, Any]]) -> None:
    """Put streamed pieces of a tool's calls to what has come of them, by their index."""
    for piece in pieces:
        call = calls.setdefault(piece["index"], {"index": piece["index"], "function": {}})
        call |= {name: value for name, value in piece.items() if value is not None and name != "function"}
        for name, value in (piece.get("function") or {}).items():
            call["function"][name] = call["function"].get(name, "") + (value or "")
