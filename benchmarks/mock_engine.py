"""A stand-in for the launcher and for vLLM: it answers as they do, with texts made beforehand, at next to no cost.

For measuring the gateway by itself. `python -m benchmarks.mock_engine HOME TOKENS GAP_MS [PORT]` serves the sockets of
HOME's engine slots, and PORT for peers; each reply has TOKENS tokens, GAP_MS apart.
"""

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import orjson

from serve.engine.handover import RECEIVER, TAKEN, Client, handover_socket

WORDS = ["The", " quick", " brown", " fox", " jumps", " over", " the", " lazy", " dog", "."]


class MockEngine:
    """One engine slot: its weights are a name, and what it scores is what the probe of that name says."""

    def __init__(self, home: Path, tokens: int, gap_s: float) -> None:
        self.home = home
        self.tokens = tokens
        self.gap_s = gap_s
        self.version = "default"
        self.scored: dict[tuple[int, ...], list[Any]] = {}
        for path in sorted((home / "policies").glob("*/probe.json")):
            for item in json.loads(path.read_bytes())["items"]:
                logprobs = [-1.0] * item["prompt_length"] + item["logprobs"]
                self.scored[tuple(item["tokens"])] = [
                    None if at == 0 else {str(token): {"logprob": logprob}}
                    for at, (token, logprob) in enumerate(zip(item["tokens"], logprobs, strict=True))
                ]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after the other, until whoever asks has no more; the gateway has a connection for each."""
        try:
            while await self.serve_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode()
        lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        length = lengths[0] if lengths else 0
        body = orjson.loads(await reader.readexactly(length)) if length else {}
        if path == "/v1/chat/completions" and body.get("stream"):
            asked_by = [line[14:].decode() for line in head.split(b"\r\n") if line.startswith(b"x-request-id: ")]
            await self.stream(writer, bool(body.get("logprobs")), asked_by[0] if asked_by else "")
        else:
            content = orjson.dumps(self.answer(path, body))
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(content)
                + content
            )
        return b"connection: close" not in head.lower()

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/weight_info":
            return {"weight_version": self.version}
        if path == "/update_weight_version":
            self.version = body["new_version"]
        if path.startswith("/server_info"):
            return {"vllm_config": {"model_config": {"dtype": "torch.float32"}}}
        if path == "/collective_rpc":
            return {"results": [{"state": "failed", "why": "there are no weights"}]}
        if path == "/v1/completions":
            return {"choices": [{"prompt_logprobs": self.scored.get(tuple(body["prompt"]), [])}]}
        if path == "/v1/chat/completions":
            message = {"role": "assistant", "content": "".join(WORDS)}
            choice = {"index": 0, "message": message, "finish_reason": "stop", "token_ids": list(range(len(WORDS)))}
            usage = {"prompt_tokens": 10, "completion_tokens": len(WORDS), "total_tokens": 10 + len(WORDS)}
            head = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion", "created": 1, "model": "policy"}
            return {**head, "choices": [choice], "usage": usage}
        return {"success": True}

    async def stream(self, writer: asyncio.StreamWriter, logprobs: bool, reply_id: str) -> None:
        chat = Chat(writer)
        if reply_id:
            RECEIVER.writers[reply_id] = chat
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        head = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1, "model": "policy"}
        writer.write(_event({**head, "choices": [_choice({"role": "assistant", "content": ""})]}))
        for at in range(self.tokens):
            choice = _choice({"content": WORDS[at % len(WORDS)]}, token=at)
            if logprobs:
                word = WORDS[at % len(WORDS)]
                entry = {"token": word, "logprob": -0.5, "bytes": list(word.encode()), "top_logprobs": []}
                choice["logprobs"] = {"content": [entry]}
            if at == self.tokens - 1:
                choice |= {"finish_reason": "stop", "stop_reason": None}
            chat.write(choice["delta"]["content"], _data({**head, "choices": [choice]}), is_last=at == self.tokens - 1)
            if self.gap_s:
                await asyncio.sleep(self.gap_s)
        usage = {"prompt_tokens": 10, "completion_tokens": self.tokens, "total_tokens": 10 + self.tokens}
        writer.write(_event({**head, "choices": [], "usage": usage}))
        writer.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()
        RECEIVER.writers.pop(reply_id, None)


class Chat:
    """A stream to whoever asked, and to the client itself once that was handed over (`serve.engine.handover`)."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._client: Client | None = None
        self._waits = False
        self._texts: list[str] = []
        self._events: list[bytes] = []

    def hand_over(self, client: Client) -> None:
        self._client, self._waits = client, True
        self._writer.write(_chunk(TAKEN))

    def go_on(self, *, go: bool) -> None:
        assert go, "the client is too slow for a measurement"
        self._waits = False

    def write(self, text: str, event: bytes, *, is_last: bool) -> None:
        if self._client is None:
            self._writer.write(_chunk(event))
            return
        self._texts.append(text)
        self._events.append(event)
        if self._waits and not is_last:
            return
        if is_last:
            self._writer.write(b"".join(map(_chunk, self._events if self._waits else [event])))
            self._client.close()
        else:
            assert self._client.write(self._texts, self._events) is None, "the client is too slow for a measurement"
        self._texts.clear()
        self._events.clear()


async def launch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The launcher's protocol: every slot runs."""
    while line := await reader.readline():
        request = json.loads(line)
        numbers = [request["slot"]] if "slot" in request else [0, 1]
        slots = [{"slot": number, "socket": "", "state": "running"} for number in numbers]
        writer.write(json.dumps({"ok": True, "slots": slots}).encode() + b"\n")


def _choice(delta: dict[str, str], token: int | None = None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    return choice if token is None else {**choice, "token_ids": [token]}


def _event(said: dict[str, Any]) -> bytes:
    return _chunk(_data(said))


def _data(said: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(said) + b"\n\n"


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


async def main() -> None:
    home, tokens, gap_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000
    run_dir = home / "run"
    run_dir.mkdir(parents=True, exist_ok=True)
    # Held here: a server that nobody holds is closed.
    servers: list[asyncio.AbstractServer] = []
    stack = contextlib.ExitStack()
    for slot in range(2):
        engine, path = MockEngine(home, tokens, gap_s), run_dir / f"engine-{slot}.sock"
        path.unlink(missing_ok=True)
        servers.append(await asyncio.start_unix_server(engine.serve, path))
        stack.enter_context(RECEIVER.listening(handover_socket(path)))
    path = run_dir / "engines.sock"
    path.unlink(missing_ok=True)
    servers.append(await asyncio.start_unix_server(launch, path))
    if len(sys.argv) > 4:
        servers.append(await asyncio.start_server(engine.serve, "127.0.0.1", int(sys.argv[4])))
    await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
