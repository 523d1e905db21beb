"""One reply from an engine's outputs to terse events. They have the form of vLLM's own chunks and lack what nobody
reads: its name and time in each, and every token's text and bytes beside its log-probability.
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

import orjson

from serve.asgi import Message, Receive, Send, begin, disconnected
from serve.engine import handover

log = logging.getLogger("tandem.engines")

# On a stream whose client asked for nothing about its tokens but their text.
TERSE_HEADER = "x-tandem-terse"
# As vLLM says it of what cannot be.
LOWEST_LOGPROB = -9999.0
DONE = b"data: [DONE]\n\n"
# vLLM's words for a reply that the engine has given up, while it goes on with others.
GAVE_UP = "Internal server error"
# Of a form that would keep it from all else.
TOO_MUCH = "the form of the reply takes too much to work out"
BROKE_OFF = b'data: {"error":{"message":"the engine broke off"}}\n\n' + DONE
START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8")],
}


class Outbox:
    """Has the streams of one step of the engine written together, when all of them have their token: each written by
    itself would wake its reader, who then takes turns with this process on the same processor, token by token.
    """

    def __init__(self) -> None:
        self._streams: list[Stream] = []

    def add(self, stream: "Stream") -> None:
        if not self._streams:
            asyncio.get_running_loop().call_soon(self._flush)
        self._streams.append(stream)

    def _flush(self) -> None:
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.flush()


class Stream:
    """`is_whole` is True as soon as the engine has given its last output."""

    def __init__(self, role: str, outbox: Outbox, send: Send) -> None:
        self.is_whole = False
        self._outbox = outbox
        self._send = send
        self._tokens = 0
        self._last = False
        self._unsent_bytes = _event({"choices": [{"index": 0, "delta": {"role": role, "content": ""}}]})
        # What is left to do of sending what the client is too slow for.
        self._unsent: Awaitable[None] | None = None
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Once it was handed over, and what is to go there: texts, and the events that say the same.
        self._client: handover.Client | None = None
        self._may_write = False
        self._texts: list[str] = []
        self._copies: list[bytes] = []

    async def begin(self) -> None:
        await self._send(START)

    async def finish(self, receive: Receive) -> None:
        """Returns when everything was sent, or the client is gone."""
        gone = asyncio.ensure_future(disconnected(receive))
        gone.add_done_callback(self._stop)
        try:
            while True:
                await self._stopped
                if self._unsent is None:
                    return
                await self._unsent
                if gone.done() or (self._last and not self._unsent_bytes):
                    return
                self._unsent, self._stopped = None, asyncio.get_running_loop().create_future()
                self.flush()
        finally:
            gone.cancel()
            self._keep_no_client()

    def hand_over(self, client: handover.Client) -> None:
        """What follows is for `client`, as soon as `go_on` says so."""
        if self._client is not None or self._last or self._stopped.done():
            client.close()
            return
        self._client = client
        self._unsent_bytes += handover.TAKEN
        self._outbox.add(self)

    def go_on(self, *, go: bool) -> None:
        """All that was sent before is on its way to the client; or it has to come the same way, without `go`."""
        if self._client is None:
            return
        self._may_write = go
        if not go:
            self._take_back(b"".join(self._copies))
        self._outbox.add(self)

    def put(self, output: Any) -> None:
        """Take one of vLLM's outputs, or what it failed with. Never raises: vLLM's own loop calls it."""
        if self._last:
            return
        try:
            events = self._events(output)
            if self._client is not None and not self._last and events:
                self._texts.append(output.outputs[0].text)
                self._copies.append(events)
            else:
                self._unsent_bytes += events
        except Exception as error:  # noqa: BLE001 - the client is told that it broke off
            log.warning("a stream broke off: %s", type(error).__name__)
            self._unsent_bytes += BROKE_OFF
            self._last = True
        self._outbox.add(self)

    def flush(self) -> None:
        """Send what there is, as far as the client takes it."""
        if self._client is not None:
            self._flush_to_client(self._client)
        if self._unsent is not None or self._stopped.done() or not self._unsent_bytes:
            return
        message = {"type": "http.response.body", "body": self._unsent_bytes, "more_body": not self._last}
        self._unsent_bytes = b""
        try:
            self._unsent = begin(self._send(message))
        except Exception as error:  # noqa: BLE001 - raised where it is waited for, not into the event loop
            self._stopped.set_exception(error)
            return
        if self._last or self._unsent is not None:
            self._stop()

    def _flush_to_client(self, client: handover.Client) -> None:
        if self._may_write and self._texts:
            try:
                rest = client.write(self._texts, self._copies)
            except OSError:
                # Whoever handed it over has given the reply up, or there is no memory.
                self._take_back(handover.ended(b"") + b"".join(self._copies))
            else:
                self._texts.clear()
                self._copies.clear()
                if rest is not None:
                    self._take_back(handover.ended(rest))
        elif self._last:
            self._take_back(b"".join(self._copies))
        if self._last:
            self._keep_no_client()

    def _take_back(self, first: bytes) -> None:
        """From now on all comes the usual way: before what is there already, `first`."""
        self._unsent_bytes = first + self._unsent_bytes
        self._texts.clear()
        self._copies.clear()
        self._keep_no_client()

    def _keep_no_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _events(self, output: Any) -> bytes:
        if isinstance(output, Exception):
            raise output
        (completion,) = output.outputs
        self.is_whole = self._last = output.finished
        if completion.finish_reason == "error":
            return _event({"error": {"message": GAVE_UP}}) + DONE
        token_ids = list(completion.token_ids)
        self._tokens += len(token_ids)
        if not completion.text and not token_ids and not self._tokens:
            # Of a prompt that is read in pieces.
            return b""
        choice = {
            "index": 0,
            "delta": {"content": completion.text},
            "logprobs": _logprobs(completion.logprobs, token_ids),
            "finish_reason": completion.finish_reason,
            "token_ids": token_ids,
        }
        said = _event({"choices": [choice]})
        if not output.finished:
            return said
        prompt = len(output.prompt_token_ids)
        usage = {"prompt_tokens": prompt, "completion_tokens": self._tokens, "total_tokens": prompt + self._tokens}
        return said + _event({"choices": [], "usage": usage}) + DONE

    def _stop(self, _: Any = None) -> None:
        if not self._stopped.done():
            self._stopped.set_result(None)


def _logprobs(entries: Any, token_ids: list[int]) -> dict[str, Any] | None:
    """Of the tokens themselves. `entries` are their log-probabilities, or map each position's tokens to what vLLM says
    of them.
    """
    if entries is None:
        return None
    pairs = zip(entries, token_ids, strict=True)
    numbers = [entry if isinstance(entry, float) else entry[token].logprob for entry, token in pairs]
    return {"content": [{"logprob": max(number, LOWEST_LOGPROB)} for number in numbers]}


def _event(said: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(said) + b"\n\n"
