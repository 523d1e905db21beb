"""In the engine's process, behind the door: streamed chats answered tersely, with what the record needs of each token
and nothing else (`serve.engine.terse_stream`).

What a chat means stays vLLM's: it reads the request, renders the prompt, sets the sampling, words what it refuses, and
writes the tokens. Only the last step, from its outputs to bytes, is taken here. Whatever that step would have to know
more of goes on to vLLM's own route, and so does every chat under a vLLM that this was not tested with: all that is
known here of vLLM's insides is in this file and `serve.engine.terse_steps`.
"""

import asyncio
import copy
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import orjson

from serve.asgi import App, Receive, Scope, Send, disconnected, header, replay
from serve.engine.client import CHAT
from serve.engine.door import KEY_HEADER
from serve.engine.handover import RECEIVER
from serve.engine.terse_stream import TERSE_HEADER, Outbox, Stream

log = logging.getLogger("tandem.engines")

TESTED_WITH = "0.32.0"


def knows_vllm() -> bool:
    """Whether its insides are those that are known here."""
    from vllm.version import __version__

    is_known = __version__.partition("+")[0] == TESTED_WITH
    if not is_known:
        log.warning("terseness knows vLLM %s, not %s: its own ways take more of the CPU", TESTED_WITH, __version__)
    return is_known


class Numbers:
    """In the place of vLLM's `LogprobsProcessor`: the log-probability of each sampled token, and nothing beside it."""

    cumulative_logprob = None

    def __init__(self) -> None:
        self.logprobs: list[float] = []

    def update_from_output(self, output: Any) -> None:
        said = output.new_logprobs
        if isinstance(said, list):
            self.logprobs += said
        elif said is not None:
            self.logprobs += said.logprobs[:, 0].tolist()

    def pop_prompt_logprobs(self) -> None:
        return None

    def pop_prompt_token_id_logprobs(self) -> None:
        return None


class Terse:
    """ASGI middleware."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._chats: Chats | None = None
        self._is_known = knows_vllm()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["type"] == "http" and scope["path"] == CHAT and header(scope, TERSE_HEADER) is not None
        if not self._is_known or not asked:
            await self.app(scope, receive, send)
            return
        self._chats = self._chats or Chats(scope["app"].state.openai_serving_chat)
        body = await _read(receive)
        beginning: Awaitable[Outputs | None] = self._chats.begin(scope, body)
        if header(scope, KEY_HEADER) is not None:
            # Its form may wait long for its turn, and who has left has none.
            beginning = asyncio.ensure_future(beginning)
            if await _left_before(beginning, receive):
                return
        outputs = await beginning
        if outputs is None:
            await self.app(scope, replay(body, receive), send)
        else:
            reply_id = (header(scope, "x-request-id") or b"").decode("latin-1")
            await self._chats.write(outputs, reply_id, receive, send)


@dataclass(frozen=True)
class Asked:
    """What vLLM's handler of chats asked of the engine."""

    prompt: Any
    params: Any
    request_id: str
    others: dict[str, Any]


class Asking:
    """vLLM's engine, except that what is asked of it is only said."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, prompt: Any, params: Any, request_id: str, **others: Any) -> Asked:
        return Asked(prompt, params, request_id, others)


class Chats:
    """vLLM's `handler` of chats up to where it would turn outputs into chunks."""

    def __init__(self, handler: Any) -> None:
        from starlette.requests import Request
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.exceptions import VLLMClientError

        self._chat_class, self._request_class, self._refusal = ChatCompletionRequest, Request, VLLMClientError
        self._engine = handler.engine_client
        self._is_plain = _passes_text_on(handler.parser_cls)
        self._handler = copy.copy(handler)
        self._handler.engine_client = Asking(self._engine)
        self._handler.chat_completion_stream_generator = lambda _request, asked, *_others, **_named: asked
        self._outbox = Outbox()

    async def begin(self, scope: Scope, body: bytes) -> "Outputs | None":
        """The outputs of a stream that has begun; None for what is vLLM's own to answer, all it refuses among it."""
        try:
            chat = self._chat_class.model_validate(orjson.loads(body))
            if not self._is_plain or not chat.stream or chat.n != 1 or chat.tools or not chat.include_reasoning:
                return None
            asked = await self._handler.create_chat_completion(chat, self._request_class(scope))
            if not isinstance(asked, Asked):
                return None
            collector = await self._engine.add_request(asked.request_id, asked.prompt, asked.params, **asked.others)
        except (ValueError, self._refusal):
            return None
        except Exception as error:  # noqa: BLE001 - vLLM's own route meets the same again, and says it
            log.warning("a stream could not be told tersely: %s", type(error).__name__)
            return None
        state = self._engine.output_processor.request_states.get(collector.request_id)
        if state is not None and state.logprobs_processor.num_logprobs == 0:
            # Nobody reads the text of each single token.
            state.logprobs_processor = Numbers()
        return Outputs(collector, self._handler.get_chat_request_role(chat))

    async def write(self, outputs: "Outputs", reply_id: str, receive: Receive, send: Send) -> None:
        """Returns when everything was sent, or the client is gone: the engine has stopped then."""
        stream = Stream(outputs.role, self._outbox, send)
        RECEIVER.writers[reply_id] = stream
        try:
            await stream.begin()
            first = outputs.collector.get_nowait()
            # From now on they do not wait in the collector until a task has been woken.
            outputs.collector.put = stream.put
            if first is not None:
                stream.put(first)
            await stream.finish(receive)
        finally:
            RECEIVER.writers.pop(reply_id, None)
            if not stream.is_whole:
                await self._engine.abort(outputs.collector.request_id, internal=True)


@dataclass(frozen=True)
class Outputs:
    """Where vLLM puts the outputs of a request, and whom they speak for."""

    collector: Any
    role: str


def _passes_text_on(parser: Any) -> bool:
    """Whether vLLM's parser of replies, if there is one, leaves those to chats without tools as they are."""
    from vllm.parser.abstract_parser import DelegatingParser

    return parser is None or (
        DelegatingParser in parser.__bases__
        and parser.reasoning_parser_cls is None
        and not parser.tool_parser_cls.engine_based_streaming
    )


async def _left_before(work: "asyncio.Future[Any]", receive: Receive) -> bool:
    """Whether the client has gone away before `work` is done, which is cancelled then."""
    leaving = asyncio.ensure_future(disconnected(receive))
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return not work.done()
    finally:
        work.cancel()
        leaving.cancel()


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body
