"""What ASGI leaves to who speaks it directly: a header looked up, a body that was read handed on, a client's leaving
waited for, an answer written without a task to write it.
"""

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def header(scope: Scope, name: str) -> bytes | None:
    """The first header of this name, which is in small letters; None without one."""
    wanted = name.encode()
    return next((value for key, value in scope["headers"] if key == wanted), None)


async def disconnected(receive: Receive) -> None:
    """Until the client has gone away, or its answer is whole."""
    while (await receive())["type"] != "http.disconnect":
        pass


def replay(body: bytes, receive: Receive) -> Receive:
    """`receive` as it was before `body` was read from it."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def begin(call: Any) -> Awaitable[None] | None:
    """Run a coroutine up to where it waits for something. None when it never did, else the rest, to be awaited."""
    try:
        waits_for = call.send(None)
    except StopIteration:
        return None
    return _rest(call, waits_for)


@types.coroutine
def _rest(call: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    try:
        yield waits_for
        yield from call.__await__()
    finally:
        call.close()
