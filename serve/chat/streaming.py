"""A stream on its way to the client: what an engine has sent goes out in the very callback that brought it, since
waking a task for each token costs more than all that is done with the token.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from feedback.errors import TandemError
from serve.asgi import begin
from serve.chat.completions import Completion, ReplyTimedOut
from serve.chat.frames import DONE, Frames, error_event
from serve.chat.generation import Generation
from serve.chat.reply import CANCELLED, COMPLETE, FAILED
from serve.chat.retries import Attempt
from serve.chat.stepping import Alone, Chunk, InStep
from serve.connection import Connection
from serve.engine.handover import Handover
from serve.engine.transfer import EngineLost
from serve.errors import Stopping, Unexpected
from serve.gateway import Gateway
from serve.rendering import openai_error

# The first blocks come by this process. A handover costs it about as much as they do.
FIRST_HANDOVER = 4
EVENT_STREAM = "text/event-stream"


class EventStream(Response):
    """Server-sent events of a reply that has begun. They stop when the client goes away."""

    media_type = EVENT_STREAM

    def __init__(self, gateway: Gateway, completion: Completion, gone: "asyncio.Future[Any]", attempt: Attempt) -> None:
        super().__init__(media_type=self.media_type)
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-cache"
        self.headers["x-accel-buffering"] = "no"
        self._gateway = gateway
        self._completion = completion
        self._gone = gone
        self._attempt = attempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        completion, gone = self._completion, self._gone
        gone.add_done_callback(lambda _: completion.cancel())
        timeout_s = self._gateway.settings.serve.request_timeout_s
        deadline = asyncio.get_running_loop().call_later(timeout_s, completion.expire)
        connection: Connection | None = scope["state"].get("connection")
        events = Events(completion, scope["state"]["send"], connection, keep=self._attempt.named)
        is_whole = False
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            is_whole = await events.send_all()
            if connection is not None and events.is_handed_over and not is_whole:
                connection.take_no_more()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            if self._attempt.named and is_whole:
                self._gateway.retries.keep(self._attempt, b"".join(events.kept), EVENT_STREAM)
        finally:
            deadline.cancel()
            gone.cancel()
            completion.stop()
            if connection is not None and events.is_handed_over:
                self._gateway.metrics.handed_over.inc()
                if not is_whole:
                    # The engine may still be about to write.
                    connection.end()
            self._gateway.retries.drop(self._attempt)
            await asyncio.shield(completion.record(CANCELLED))


class Events:
    """The events of one stream: sent as they come, but what says that it has ended only once the replies are in the
    record. With `keep` they are `kept`, too. Of one reply, plain text soon goes from its engine over the `connection`
    by itself (`serve.engine.handover`), where that can be handed over.
    """

    def __init__(self, completion: Completion, send: Send, connection: Connection | None = None, *, keep: bool) -> None:
        generations = completion.generations
        self.kept: list[bytes] = []
        self._keep = keep
        self._completion = completion
        self._send = send
        self._frames = Frames(completion.chat, completion.head(), completion.tail())
        self._steps = Alone(generations[0]) if len(generations) == 1 else InStep(generations[0], generations[1])
        self._alone = generations[0] if self._frames.splices else None
        self._connection = None if keep else connection
        self._handover: Handover | None = None
        self._hand_over_at, self._blocks = FIRST_HANDOVER, 0
        # What ends the replies, kept back until they are recorded.
        self._held = b""
        # For what is held back for its time.
        self._timer: asyncio.TimerHandle | None = None
        # What is left to do of sending an event that the client is too slow for.
        self._unsent: Awaitable[None] | None = None
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_handed_over(self) -> bool:
        """Others may write, or have written, to the client."""
        return self._handover is not None and self._handover.is_on

    async def send_all(self) -> bool:
        """True when everything was sent; False when the client is gone, or was told what the reply failed for."""
        completion = self._completion
        for generation in completion.generations:
            generation.follow(self._pass_on)
        is_whole = False
        try:
            await self._pass_all_on()
            await completion.record(COMPLETE)
            usage = self._frames.usage(completion.usage()) if completion.chat.include_usage else b""
            last = self._held + usage + DONE
            is_whole = True
        except TandemError as error:
            if completion.cancelled:
                return False
            completion.stop()
            await completion.record(FAILED)
            last = error_event(openai_error(ReplyTimedOut() if completion.expired else error))
        except asyncio.CancelledError:
            completion.stop()
            await completion.record(CANCELLED)
            last = error_event(openai_error(Stopping()))
        except Exception:
            # It is logged where all is that nobody expected (`serve.envelope`), which has no say in a stream any more.
            completion.stop()
            await completion.record(FAILED)
            await self._send(self._message(error_event(openai_error(Unexpected()))))
            raise
        await self._send(self._message(last))
        return is_whole

    async def _pass_all_on(self) -> None:
        """Returns at the end of the replies. Raises EngineLost, EngineRefused, ReplyFailed."""
        try:
            while True:
                self._pass_on()
                await self._stopped
                if self._unsent is None:
                    return
                await self._unsent
                # Not before: whatever comes meanwhile waits behind it.
                self._unsent, self._stopped = None, asyncio.get_running_loop().create_future()
        finally:
            self._wait_no_more()
            # Without what it failed for, whose traceback holds this.
            self._stopped = asyncio.get_running_loop().create_future()
            self._stopped.cancel()

    def _pass_on(self) -> None:
        """Send what has come, as far as the client takes it."""
        if self._stopped.done():
            return
        try:
            if self._alone is not None and self._splice(self._alone):
                return
            for released in iter(self._steps.release, []):
                chunks, ends = released, list[tuple[int, Chunk]]()
                if all(one.reply.finish_reason and not one.pending for one in self._completion.generations):
                    # Two sides that end are not to differ in how they are cut.
                    chunks, ends = apart(released) if len(self._completion.generations) == 1 else ([], released)
                self._held += self._block(ends)
                block = self._block(chunks)
                if block:
                    self._unsent = begin(self._send(self._message(block)))
                    if self._unsent is not None:
                        break
            if self._unsent is not None or self._steps.ended:
                self._stopped.set_result(None)
            elif self._steps.wait_s is not None:
                self._wait_no_more()
                self._timer = asyncio.get_running_loop().call_later(self._steps.wait_s, self._go_on)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for, not into the event loop
            self._stopped.set_exception(error)

    def _splice(self, generation: Generation) -> bool:
        """False when what has come is not text alone: nothing was sent of it."""
        spliced = generation.take_spliced(self._frames.splice)
        if spliced:
            self._unsent = begin(self._send(self._message(spliced)))
            if self._unsent is not None:
                self._stopped.set_result(None)
            elif self._connection is not None and self._handover is None:
                self._hand_over(generation, self._connection)
        return bool(spliced)

    def _hand_over(self, generation: Generation, connection: Connection) -> None:
        """At some block; when the engine is too busy for it, at a later one."""
        self._blocks += 1
        if self._blocks == self._hand_over_at:
            self._hand_over_at *= 2
            transport = connection.to_hand_over()
            if transport is not None:
                self._handover = generation.hand_over(
                    transport, lambda: self._unsent is not None, self._frames.around_text
                )

    def _wait_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        """With what was held back, unless nobody waits for it any more: a pair that is there in time does not fail by
        being held back.
        """
        completion = self._completion
        if completion.expired and all(generation.has_come for generation in completion.generations):
            self._steps.hurry()
        elif not self._stopped.done() and (completion.cancelled or completion.expired):
            self._stopped.set_exception(EngineLost("the reply was given up"))
        self._pass_on()

    def _block(self, chunks: list[tuple[int, Chunk]]) -> bytes:
        return b"".join([self._frames.chunk(index, chunk) for index, chunk in chunks])

    def _message(self, block: bytes) -> dict[str, Any]:
        if self._keep:
            self.kept.append(block)
        return {"type": "http.response.body", "body": block, "more_body": True}


def apart(chunks: list[tuple[int, Chunk]]) -> tuple[list[tuple[int, Chunk]], list[tuple[int, Chunk]]]:
    """What the chunks bring, and what says only that the reply has ended: no text waits for the disk."""
    brought: list[tuple[int, Chunk]] = []
    ends: list[tuple[int, Chunk]] = []
    for index, chunk in chunks:
        if not chunk.get("finish_reason"):
            brought.append((index, chunk))
        elif any(chunk["delta"].values()):
            brought.append((index, {**chunk, "finish_reason": None}))
            ends.append((index, {"delta": {}, "token_ids": [], "finish_reason": chunk["finish_reason"]}))
        else:
            ends.append((index, chunk))
    return brought, ends
