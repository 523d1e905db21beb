"""From a chat's request to its answer on the wire: begun, streamed or whole, stopped when the client goes away, and the
same again for a retry.
"""

import asyncio
import contextlib

import orjson
from fastapi import Request
from starlette.responses import Response

from feedback.errors import TandemError
from serve.asgi import disconnected
from serve.auth import Caller
from serve.chat.completions import Completion, ReplyTimedOut
from serve.chat.rate_limits import Charge
from serve.chat.reply import CANCELLED, COMPLETE, FAILED
from serve.chat.request import parse
from serve.chat.retries import Attempt, attempt_of
from serve.chat.streaming import EventStream
from serve.gateway import Gateway

# As in nginx: the client went away before there was an answer.
CLIENT_GONE = 499


async def answer(gateway: Gateway, request: Request, caller: Caller) -> Response:
    """Answer a chat. Raises MalformedBody, InvalidRequest, KeyReused, Conflict, and what `Generation.begin` raises."""
    gateway.note_chat()
    content = await request.body()
    chat = parse(content, gateway.settings.serve)
    attempt = attempt_of(request.headers, caller.key_id, content)
    known = await gateway.retries.begin_anywhere(attempt)
    if known is not None:
        return Response(known.content, media_type=known.media_type, headers={"idempotent-replayed": "true"})
    charge = Charge()
    try:
        charge = await gateway.rate_limits.charge(caller.key_id, chat, len(content), caller.limits)
        completion = Completion(gateway, chat, caller, request.state.request_id, charge)
        answered = await _answer_anew(gateway, request, completion, attempt, stream=chat.stream)
        answered.headers.update(_limits(gateway) | charge.headers)
        return answered
    except BaseException:
        gateway.rate_limits.settle(caller.key_id, charge, 0)
        gateway.retries.drop(attempt)
        raise


async def _answer_anew(
    gateway: Gateway, request: Request, completion: Completion, attempt: Attempt, *, stream: bool
) -> Response:
    gone = asyncio.ensure_future(disconnected(request.receive))
    try:
        if not await _begins(completion, gone, gateway.settings.serve.request_timeout_s):
            await completion.record(CANCELLED)
            gateway.retries.drop(attempt)
            return Response(status_code=CLIENT_GONE)
    except BaseException as error:
        gone.cancel()
        if isinstance(error, ReplyTimedOut) or (isinstance(error, TandemError) and completion.has_written):
            await completion.record(FAILED)
        elif isinstance(error, asyncio.CancelledError):
            # The process ends.
            await completion.record(CANCELLED)
        raise
    if stream:
        return EventStream(gateway, completion, gone, attempt)
    gone.cancel()
    await completion.record(COMPLETE)
    said = orjson.dumps(completion.whole())
    if attempt.named or completion.comparison_id is not None:
        gateway.retries.keep(attempt, said, "application/json")
    return Response(said, media_type="application/json")


def _limits(gateway: Gateway) -> dict[str, str]:
    """What there is room for in all, for everybody; a key's own limits take its place where they are set."""
    limit, remaining = gateway.pool.room()
    return {"x-ratelimit-limit-requests": str(limit), "x-ratelimit-remaining-requests": str(remaining)}


async def _begins(completion: Completion, gone: "asyncio.Future[None]", timeout_s: float) -> bool:
    """False when the client went away before. Raises ReplyTimedOut, and what `Completion.begin` raises."""

    def give_up(_: "asyncio.Future[None]") -> None:
        # In the same turn it may have begun, or taken too long.
        with contextlib.suppress(RuntimeError):
            bound.reschedule(0)

    try:
        async with asyncio.timeout(timeout_s) as bound:
            gone.add_done_callback(give_up)
            try:
                await completion.begin()
            finally:
                gone.remove_done_callback(give_up)
    except TimeoutError:
        if gone.done():
            return False
        raise ReplyTimedOut from None
    return True
