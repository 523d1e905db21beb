"""One reply being written by an engine: begun with fail-over, followed as it grows, stopped when nobody reads on."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

from feedback import tracing
from feedback.schema import version_name
from serve.chat import chat_span, engine_errors
from serve.chat.reply import ENDED_EARLY, Reply
from serve.chat.request import ChatRequest
from serve.engine.door import OTHER_WEIGHTS
from serve.engine.handover import HANDOVER, Handover
from serve.engine.launcher_protocol import SERVED_NAME
from serve.engine.pool import Pool
from serve.engine.slot import Seat
from serve.engine.transfer import EngineLost, GaveUp, OtherWeights, Transfer
from serve.errors import ReplyFailed
from serve.metrics import Metrics

ATTEMPTS = 3
NO_SUCH_ADAPTER = 404
# So many events that went to the client are read together: one by one, each on its own wake-up, they cost several times
# as much.
READ_TOGETHER = 64


class Generation:
    """`pending` are the chunks of a stream that have not been passed on yet."""

    def __init__(self, pool: Pool, metrics: Metrics, chat: ChatRequest, choice: int, version: int | None) -> None:
        self._reply = Reply(chat, choice)
        self.pending: deque[dict[str, Any]] = deque()
        # As of the last `take`: nothing more will come.
        self.is_whole = False
        self._pool = pool
        self._metrics = metrics
        self._chat = chat
        self._version = version
        self._transfer: Transfer | None = None
        self._unread: list[bytes] = []
        self._handover: Handover | None = None
        self._span = tracing.NOTHING
        # What an engine has said in mid-stream of its failure.
        self._error: dict[str, Any] | None = None

    async def begin(self, key_id: str, *, record_logprobs: bool) -> None:
        """Have an engine begin: returns with the first token of a stream, or the whole of a reply that is not one.

        Until then an engine that fails is replaced by another one. One that has only given up on the reply is not
        doubted for it: else one request after the other could keep engines from everybody. Raises EngineRefused for
        what vLLM will not do, ReplyFailed, EngineUnavailable, EngineLost, Overloaded.
        """
        body = self._chat.engine_body(self.reply.choice, record_logprobs=record_logprobs)
        avoid: frozenset[int] = frozenset()
        given_up = False
        for attempt in range(1, ATTEMPTS + 1):
            seat = await self._pool.seat(
                self._version, key_id, avoid, or_serving=self._chat.version is None, size=self._chat.best_of
            )
            self.reply.seat = seat
            try:
                await self._begin_on(seat, body)
                return
            except EngineLost as error:
                chat_span.close(self._span, self.reply, type(error).__name__)
                self.stop()
                if not isinstance(error, GaveUp):
                    self._pool.suspect(seat.slot)
                elif given_up:
                    raise ReplyFailed(self._chat.form) from error
                else:
                    given_up = True
                if isinstance(error, OtherWeights):
                    self._pool.stale.set()
                avoid |= {seat.slot.index}
                if attempt == ATTEMPTS:
                    raise
                self._metrics.retries.inc()
            except BaseException as error:
                chat_span.close(self._span, self.reply, type(error).__name__)
                self.stop()
                raise

    @property
    def reply(self) -> Reply:
        """What has come so far, to the client alone among it."""
        if self._handover is not None:
            self._unread += self._handover.take_events()
        if self._unread:
            events = orjson.loads(b"[" + b",".join(self._unread) + b"]")
            self._unread.clear()
            for chunk in events:
                self._absorb(chunk)
        return self._reply

    @property
    def replies(self) -> list[Reply]:
        """What there is to record."""
        return [self.reply]

    @property
    def ended(self) -> bool:
        """All that came has been passed on, and nothing more will come."""
        return self.is_whole and not self.pending

    @property
    def has_come(self) -> bool:
        """Its engine has sent all of it, whether or not that was passed on."""
        return self._transfer is None or (self._transfer.ended and not self._transfer.lost)

    def take(self) -> None:
        """Move what has come into `pending`. Raises EngineLost, EngineRefused and ReplyFailed in mid-stream, when
        everything before has been taken.
        """
        try:
            self._take_what_came()
        except GaveUp as error:
            raise ReplyFailed(self._chat.form) from error

    def take_spliced(self, splice: Callable[[bytes], bytes | None]) -> bytes:
        """What has come, made the client's by `splice` before any of it is read. Empty, with all in `pending`, when
        there is something that `splice` cannot make; empty, too, when nothing has come and at the end.
        """
        transfer = self._transfer
        if transfer is None or transfer.ended or self.pending:
            return b""
        events = self._arrived(transfer)
        made = b""
        for event in events:
            ours = splice(event)
            if ours is None:
                self._take(events)
                return b""
            made += ours
        self._unread += events
        if len(self._unread) >= READ_TOGETHER:
            _ = self.reply
        return made

    def hand_over(
        self, transport: asyncio.Transport, is_busy: Callable[[], bool], around_text: tuple[bytes, bytes]
    ) -> Handover | None:
        """Have the engine write to the client behind `transport` by itself, chunks of text that begin and end so. From
        then on `take_spliced` brings what the engine leaves to this process. None where it cannot be.
        """
        seat, transfer = self._reply.seat, self._transfer
        if self._handover is None and seat is not None and transfer is not None and not transfer.ended:
            handover = seat.slot.client.handover(self._reply.id, transport, is_busy)
            if handover.offer(*around_text):
                self._handover = handover
                seat.slot.handovers.add(handover)
        return self._handover

    def follow(self, on_news: Callable[[], None]) -> None:
        """Have `on_news` called whenever there may be something to take, from now on."""
        if self._transfer is not None and not self._transfer.ended:
            self._transfer.on_news = on_news

    def stop(self) -> None:
        """Have the engine give up. At the end, or again, this changes nothing."""
        if self._handover is not None:
            self._unread += self._handover.close()
        if self._transfer is not None:
            self._transfer.close()
            # What waits for a client that takes nothing was written all the same.
            self._take(self._arrived(self._transfer))
        if self.reply.seat is not None:
            self._pool.release(self.reply.seat)
            self.reply.seat.slot.handovers.discard(self._handover)
        chat_span.close(self._span, self.reply)

    async def _begin_on(self, seat: Seat, body: dict[str, Any]) -> None:
        if self._chat.stream:
            await self._until_first_token(await self._send(seat, body))
            return
        await self._write_whole(seat, body)
        chat_span.close(self._span, self.reply)

    async def _write_whole(self, seat: Seat, body: dict[str, Any]) -> dict[str, Any]:
        """The engine's answer, taken in; so is what there is of it when nobody waits for it any more."""
        try:
            transfer = await self._send(seat, body)
            content = await transfer.wait_for_end()
        except asyncio.CancelledError:
            # In a task of its own: in a cancelled one, timeouts of Python 3.11.2 (Debian 12) raise CancelledError.
            await asyncio.create_task(self._end_early(seat))
            raise
        answer = _finished(content)
        self._take_whole(answer)
        return answer

    async def _until_first_token(self, transfer: Transfer) -> None:
        self._error = None
        self.pending.clear()
        self._take_what_came()
        # Its role alone an engine says before it has written anything.
        while not any("role" not in chunk["delta"] for chunk in self.pending):
            if self.is_whole:
                self._check_error()
                raise EngineLost("the engine ended a reply before it began")
            await transfer.wait()
            self._take_what_came()

    async def _end_early(self, seat: Seat) -> None:
        """Nobody waits for a whole reply any more: what was written of it is taken in, as a stream would have brought
        it.
        """
        if self._transfer is not None:
            with contextlib.suppress(EngineLost):
                self._take_whole(orjson.loads(await seat.slot.client.end_early(self._transfer, self._reply.id)))

    async def _send(self, seat: Seat, body: dict[str, Any]) -> Transfer:
        """Ask the engine; returns when it has begun to answer with 200."""
        if not body["stream"]:
            # Its tokens come all at once: what was there when it was asked counts as its first.
            seat.asked()
        self._span = chat_span.open_for(self._chat, self.reply.choice, seat)
        transfer = self._transfer = await seat.slot.client.chat(
            # Not the request's id, which a client may give twice.
            body,
            self.reply.id,
            seat.progress,
            lambda: self._pool.release(seat),
            weights=None if seat.weights is None else version_name(seat.weights),
            trace=self._span.headers(),
            terse=body["stream"] and not self._chat.logprobs,
            form_for=seat.key_id if self._chat.form is not None else None,
            model=SERVED_NAME if seat.version is None else seat.slot.name_of(seat.version),
        )
        status = await transfer.wait_for_status()
        if status in (OTHER_WEIGHTS, NO_SUCH_ADAPTER):
            seat.slot.adapters.discard(-1 if seat.version is None else seat.version)
            raise OtherWeights("the engine holds other weights by now")
        if status >= 500:
            engine_errors.check(engine_errors.said(await transfer.wait_for_end()), self._chat.form)
            raise EngineLost(f"the engine answered {status}")
        if status != 200:
            said = engine_errors.said(await transfer.wait_for_end())
            raise engine_errors.refusal(status, said, self._chat.form)
        return transfer

    def _take_what_came(self) -> None:
        transfer = self._transfer
        assert transfer is not None
        self.is_whole = transfer.ended
        self._take(self._arrived(transfer))
        if (self._error is not None or transfer.lost) and not self.pending:
            self._check_error()
            raise EngineLost("the engine broke off in the middle of the reply")

    def _check_error(self) -> None:
        if self._error is not None:
            engine_errors.check(self._error, self._chat.form)

    def _arrived(self, transfer: Transfer) -> list[bytes]:
        events = transfer.take_events()
        if self._handover is None:
            return events
        for event in events:
            if event.startswith(HANDOVER):
                # What went to the client by itself is older than all that comes here from now on.
                _ = self.reply
                self._handover.hear(event)
        return [event for event in events if not event.startswith(HANDOVER)]

    def _take(self, events: list[bytes]) -> None:
        # What is unread is older.
        _ = self.reply
        for event in events:
            if event != b"[DONE]":
                self.pending.extend(self._absorb(orjson.loads(event)))

    def _absorb(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        """The choices of a chunk that the reply has grown by."""
        if "error" in chunk:
            self._error = chunk["error"]
            return []
        usage = chunk.get("usage")
        if usage:
            self._reply.absorb_usage(usage)
        choices: list[dict[str, Any]] = chunk["choices"]
        for choice in choices:
            if choice.get("finish_reason") == ENDED_EARLY:
                self._error = {"message": "the engine ended the reply"}
                return []
            self._reply.absorb_delta(choice)
        return choices

    def _take_whole(self, answer: dict[str, Any]) -> None:
        self.reply.absorb_message(answer["choices"][0], answer["usage"])


def _finished(content: bytes) -> dict[str, Any]:
    """A whole answer. Raises EngineLost where the engine ended a reply unasked, as one does that is being stopped."""
    answer: dict[str, Any] = orjson.loads(content)
    if any(choice["finish_reason"] == ENDED_EARLY for choice in answer["choices"]):
        raise EngineLost("the engine ended the reply early")
    return answer
