"""OpenAI's chunks as bytes: server-sent events that are put together from parts made once for each stream."""

import re
from typing import Any

import orjson

from serve.chat.request import ChatRequest

DONE = b"data: [DONE]\n\n"
# An engine's event that brings nothing but text, a string of JSON, while more is to come. (A quote within a string has
# a backslash before it: so no text can look like what stands around it here.)
ONLY_TEXT = re.compile(
    rb'[^[]*\[\{"index":0,"delta":\{"content":("[^"\\]*(?:\\.[^"\\]*)*")\},"logprobs":.*,"finish_reason":null'
)


class Frames:
    """Makes the chunks of one stream. `head` is what all of them begin with: id, created, model, fingerprint."""

    def __init__(self, chat: ChatRequest, head: dict[str, Any], tail: dict[str, Any]) -> None:
        self._head = b"data: " + orjson.dumps({**head, "object": "chat.completion.chunk"})[:-1]
        self._tail = b"," + orjson.dumps(tail)[1:-1] if tail else b""
        self._logprobs = chat.logprobs
        self._token_ids = chat.return_token_ids
        # Asked for usage, OpenAI says null in every chunk but the last.
        self._usage_yet = b',"usage":null' if chat.include_usage else b""
        self._paired = chat.n == 2
        self._plain = not chat.logprobs and not chat.return_token_ids
        self._may_call = not self._paired and bool(chat.sampling.get("tools"))
        # What says the role of a reply that may call a tool, held back until it is known whether it begins with that.
        self._opening: dict[str, Any] | None = None
        self.splices = self._plain and not self._paired and not self._may_call
        self._plain_head = [self._head + b',"choices":[{"index":%d,"delta":{"content":' % index for index in range(2)]
        self._plain_end = b'},"logprobs":null,"finish_reason":null}]' + self._usage_yet + self._tail + b"}\n\n"
        # What a chunk of choice 0 is that brings nothing but text.
        self.around_text = self._plain_head[0], self._plain_end

    def chunk(self, index: int, choice: dict[str, Any]) -> bytes:
        """One choice of an engine's chunk, as choice `index` of ours; empty when it says nothing to this client."""
        delta = choice["delta"]
        if self._may_call and "role" in delta:
            self._opening = choice
            return b""
        says_nothing = not delta and not choice.get("finish_reason")
        if self._opening is None or (says_nothing and self._plain):
            return self._chunk(index, choice)
        opening, self._opening = self._opening, None
        if says_nothing or "tool_calls" in delta:
            # As OpenAI begins it. Clients show even an empty text before a call.
            return self._chunk(index, {**choice, "delta": {"role": opening["delta"]["role"], **delta}})
        return self._chunk(index, opening) + self._chunk(index, choice)

    def _chunk(self, index: int, choice: dict[str, Any]) -> bytes:
        delta = choice["delta"]
        if self._plain and choice.get("finish_reason") is None and len(delta) == 1 and "content" in delta:
            return self._plain_head[index] + orjson.dumps(delta["content"]) + self._plain_end
        if self._plain and not delta and choice.get("finish_reason") is None:
            # It came for its token ids, which only the record wants. Of two sides both say something, or there would
            # be more chunks of one.
            return self._plain_head[index] + b'""' + self._plain_end if self._paired else b""
        delta = {name: value for name, value in delta.items() if value is not None}
        if "tool_calls" in delta:
            delta["tool_calls"] = [_piece(call) for call in delta["tool_calls"]]
        said: dict[str, Any] = {
            "index": index,
            "delta": delta,
            "logprobs": _logprobs(choice) if self._logprobs else None,
            "finish_reason": choice.get("finish_reason"),
        }
        if self._token_ids:
            said["token_ids"] = choice.get("token_ids")
        return self._whole(b',"choices":[' + orjson.dumps(said) + b"]" + self._usage_yet)

    def splice(self, event: bytes) -> bytes | None:
        """An engine's event as choice 0 of ours, its text as it stands there; for who `splices`. None when it must be
        read first: it says something else than text, or the reply ends with it.
        """
        found = ONLY_TEXT.match(event)
        return None if found is None else self._plain_head[0] + found[1] + self._plain_end

    def usage(self, usage: dict[str, int]) -> bytes:
        """The one chunk with no choices that ends a stream for which usage was asked."""
        return self._whole(b',"choices":[],"usage":' + orjson.dumps(usage))

    def _whole(self, middle: bytes) -> bytes:
        return self._head + middle + self._tail + b"}\n\n"


def _logprobs(choice: dict[str, Any]) -> dict[str, Any] | None:
    """As OpenAI has them, with those of a refusal beside those of the text."""
    found = choice.get("logprobs")
    return None if found is None else {"content": found.get("content"), "refusal": None}


def _piece(call: dict[str, Any]) -> dict[str, Any]:
    """A streamed piece of a tool's call. vLLM's that names the tool has no arguments; OpenAI's has empty ones, to which
    clients add those that follow.
    """
    function = call.get("function") or {}
    return call | {"function": {"arguments": "", **function}} if "name" in function else call


def error_event(error: dict[str, Any]) -> bytes:
    """An error in mid-stream: the last event of its stream."""
    return b"data: " + orjson.dumps(error) + b"\n\n"
