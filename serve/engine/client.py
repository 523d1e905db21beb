"""HTTP to one vLLM engine on its unix socket: chats, streamed or whole, and the few calls that change what it serves.

Only the paths named here are ever called.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from feedback.errors import EngineUnavailable
from serve.engine.door import KEY_HEADER, WEIGHTS_HEADER
from serve.engine.handover import Handover, handover_socket
from serve.engine.launcher_protocol import SERVED_NAME
from serve.engine.terse_stream import TERSE_HEADER
from serve.engine.transfer import EngineLost, Transfer, nothing

CHAT = "/v1/chat/completions"
CONNECT_TIMEOUT_S = 5.0
# An engine that lives has ended a reply within a step, and told it.
ENDING_TIMEOUT_S = 1.0
ENDING_PAUSE_S = 0.03
UNFINISHED = "unfinished"
STAGING_INTERVAL_S = 0.03
EMPTY: Mapping[str, str] = {}
# Who was stopped in mid-change may find another engine in its place when it goes on, with chats in it.
ONLY_UNFINISHED = ("reload_weights", "reload_weights_gently", "commit_staged")


class EngineClient:
    """The engine behind `socket`."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def handover(self, reply_id: str, transport: asyncio.Transport, is_busy: Callable[[], bool]) -> Handover:
        """Of the client behind `transport`, to be offered to the engine that writes this reply."""
        return Handover(handover_socket(self.socket), reply_id, transport, is_busy)

    async def chat(
        self,
        body: dict[str, Any],
        request_id: str,
        on_progress: Callable[[], None] = nothing,
        on_end: Callable[[], None] = nothing,
        *,
        weights: str | None = None,
        model: str = SERVED_NAME,
        trace: Mapping[str, str] = EMPTY,
        terse: bool = False,
        form_for: str | None = None,
    ) -> Transfer:
        """Begin a chat; `on_end` is called in any case. The engine refuses it when it does not hold `weights` (412) or
        has no adapter of the name `model` (404). A `terse` stream says of each token its id and log-probability only.
        `form_for` is the key that asks for a reply of some form: keys take turns in having theirs looked at.

        Raises EngineLost when the engine cannot be reached.
        """
        headers = {"x-request-id": request_id, **trace} | ({} if weights is None else {WEIGHTS_HEADER: weights})
        if terse:
            headers[TERSE_HEADER] = "1"
        if form_for is not None:
            headers[KEY_HEADER] = form_for
        request = _request("POST", CHAT, {**body, "model": model}, headers)
        return await self._send(Transfer(request, on_progress, on_end))

    async def end_early(self, transfer: Transfer, request_id: str) -> bytes:
        """Have the engine end the whole reply that was asked for by `chat` under this id. Returns its answer, with what
        has been written until now. Raises EngineLost when none comes in time: what is left is to close `transfer`.
        """
        # By the name that vLLM's own route gives it. None at all would end everybody's.
        named = {"request_ids": [f"chatcmpl-{request_id}"]}
        pause_s = ENDING_PAUSE_S
        try:
            async with asyncio.timeout(ENDING_TIMEOUT_S):
                while not transfer.ended:
                    await self._call("/abort_requests", named, ENDING_TIMEOUT_S)
                    # What vLLM has read but not queued yet it does not know: it would be written to its end.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause_s):
                            await transfer.wait_for_end()
                    pause_s *= 2
                content = await transfer.wait_for_end()
        except TimeoutError:
            raise EngineLost(f"the engine did not end a reply within {ENDING_TIMEOUT_S:g} s") from None
        if transfer.status != 200:
            raise EngineLost(f"the engine answered {transfer.status}")
        return content

    async def score(self, token_ids: list[int], timeout_s: float) -> list[float | None]:
        """The log-probability of each token after those before it; None for the first. Raises EngineLost.

        Not for an engine that takes adapters: there it ends the engine when others write at the same time (vLLM 0.32).
        """
        said = await self._call(
            "/v1/completions",
            {
                "model": SERVED_NAME,
                "prompt": token_ids,
                "max_tokens": 1,
                "temperature": 0.0,
                "prompt_logprobs": 0,
                "return_token_ids": True,
            },
            timeout_s,
        )
        entries = said["choices"][0]["prompt_logprobs"]
        return [
            None if entry is None else float(entry[str(token)]["logprob"])
            for entry, token in zip(entries, token_ids, strict=True)
        ]

    async def score_next(self, before: list[int], token: int, timeout_s: float, model: str) -> float | None:
        """The log-probability of `token` after those before it: `model` may write nothing else. Raises EngineLost."""
        body = {
            "model": model, "prompt": before, "max_tokens": 1, "temperature": 0.0, "logprobs": 0,
            "allowed_token_ids": [token], "ignore_eos": True,
        }  # fmt: skip
        said = await self._call("/v1/completions", body, timeout_s)
        found: float | None = said["choices"][0]["logprobs"]["token_logprobs"][0]
        return found

    async def write_one_token(self, timeout_s: float) -> None:
        """Have the engine write a single token: the proof that it lives. Raises EngineLost."""
        await self._call("/v1/completions", {"model": SERVED_NAME, "prompt": [1], "max_tokens": 1}, timeout_s)

    async def warm_up(self, timeout_s: float, model: str) -> None:
        """Have the engine do once what a chat needs; its first takes seconds. Raises EngineLost."""
        body = {
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 2,
            "logprobs": True,
            "return_token_ids": True,
            "seed": 1,
        }
        try:
            async with asyncio.timeout(timeout_s):
                transfer = await self.chat(body, "warm-up", model=model)
                # A policy without a chat template refuses; its chats will be told so.
                await transfer.wait_for_end()
        except TimeoutError:
            raise EngineLost(f"the engine's first chat took more than {timeout_s:g} s") from None

    async def weight_format(self, timeout_s: float) -> str:
        """The number format of the weights, such as `float32`. Raises EngineLost."""
        said = await self._call("/server_info?config_format=json", None, timeout_s, method="GET")
        return str(said["vllm_config"]["model_config"]["dtype"]).removeprefix("torch.")

    async def weight_version(self, timeout_s: float) -> str:
        """The name of the version that the engine says it holds. Raises EngineLost."""
        said = await self._call("/weight_info", None, timeout_s, method="GET")
        return str(said["weight_version"])

    async def load_adapter(self, name: str, folder: Path, timeout_s: float) -> None:
        """Load the LoRA adapter in `folder` beside what the engine holds. Raises EngineLost."""
        await self._call("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}, timeout_s)

    async def unload_adapter(self, name: str, timeout_s: float) -> None:
        """Raises EngineLost."""
        await self._call("/v1/unload_lora_adapter", {"lora_name": name}, timeout_s)

    async def adapters(self, timeout_s: float) -> set[str]:
        """The names of the adapters that the engine has. Raises EngineLost."""
        said = await self._call("/v1/models", None, timeout_s, method="GET")
        return {model["id"] for model in said["data"]} - {SERVED_NAME}

    async def drain(self, held: str | None, timeout_s: float) -> None:
        """Let nothing in, from whichever process, and wait for what is in flight.

        Raises EngineUnavailable when that does not end in time, and EngineLost. After the first, and when it is
        cancelled, the engine takes chats for `held` again.
        """
        try:
            # Should this process die half-way, nobody takes the engine for one that holds a version.
            await self.name_weights(UNFINISHED, timeout_s)
            await self._pause(held, timeout_s)
        except asyncio.CancelledError:
            if held is not None:
                with contextlib.suppress(EngineLost):
                    await self._go_on_with(held, timeout_s)
            raise

    async def _pause(self, held: str | None, timeout_s: float) -> None:
        try:
            await self._call("/pause?mode=wait", {}, timeout_s)
        except EngineLost:
            if held is None:
                raise
            await self._go_on_with(held, timeout_s)
            raise EngineUnavailable("the replies in flight did not end in time; nothing was changed") from None

    async def _go_on_with(self, held: str, timeout_s: float) -> None:
        await self.resume(timeout_s)
        await self.name_weights(held, timeout_s)

    async def reload(self, folder: Path, timeout_s: float, *, gently: bool = False) -> None:
        """Load the weights in `folder` in place of those it has; it is drained, and goes by no version's name until
        `name_weights`. With `gently` it gives way to other engines meanwhile. Raises EngineLost.

        The prefix cache is emptied before anything new is written: it holds what the old weights made of a prompt.
        """
        method = "reload_weights_gently" if gently else "reload_weights"
        await self._rpc(method, timeout_s, {"weights_path": str(folder)})
        await self._begin_anew(timeout_s)

    async def stage(self, folder: Path, timeout_s: float) -> str | None:
        """Load the weights in `folder` beside those that serve, while chats go on. None when they are ready to take
        their place, else why they are not. Raises EngineLost, also when they are not ready within `timeout_s`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                state, why = await self._staging("stage_weights", timeout_s, {"weights_path": str(folder)})
                while state == "loading":
                    await asyncio.sleep(STAGING_INTERVAL_S)
                    state, why = await self._staging("staged_weights", timeout_s)
        except TimeoutError:
            raise EngineLost(f"the engine has not loaded the weights within {timeout_s:g} s") from None
        return None if state == "ready" else why or "the engine has nothing staged"

    async def commit(self, timeout_s: float) -> bool:
        """Have what was staged serve, as after `reload`. False when the engine has nothing staged by now: it holds what
        it held. Raises EngineLost.
        """
        if (await self._staging("commit_staged", timeout_s))[0] != "ready":
            return False
        await self._begin_anew(timeout_s)
        return True

    async def drop_staged(self, timeout_s: float) -> None:
        """Raises EngineLost."""
        await self._rpc("drop_staged", timeout_s)

    async def _staging(self, method: str, timeout_s: float, arguments: Mapping[str, str] = EMPTY) -> tuple[str, str]:
        """How far the engine's workers are, all together, and why one has failed. Raises EngineLost."""
        said = await self._rpc(method, timeout_s, arguments)
        states = {result["state"] for result in said}
        if len(states) > 1 and method == "commit_staged":
            raise EngineLost("a part of the engine has nothing staged")
        state = next(state for state in ("failed", "none", "loading", "ready") if state in states)
        return state, next((result["why"] for result in said if result["why"]), "")

    async def _rpc(self, method: str, timeout_s: float, arguments: Mapping[str, str] = EMPTY) -> list[Any]:
        headers = {WEIGHTS_HEADER: UNFINISHED} if method in ONLY_UNFINISHED else EMPTY
        body = {"method": method, "kwargs": arguments, "timeout": timeout_s}
        results: list[Any] = (await self._call("/collective_rpc", body, timeout_s, headers=headers))["results"]
        return results

    async def _begin_anew(self, timeout_s: float) -> None:
        emptied = await self._call("/reset_prefix_cache", {}, timeout_s)
        if not emptied.get("success", False):
            raise EngineLost("the engine did not empty its prefix cache")
        await self.resume(timeout_s)

    async def resume(self, timeout_s: float) -> None:
        """Have it write again; one that writes already goes on. Raises EngineLost."""
        await self._call("/resume", {}, timeout_s)

    async def name_weights(self, name: str, timeout_s: float) -> None:
        """Tell the engine what it holds: it lets in the chats for that. Raises EngineLost."""
        await self._call("/update_weight_version", {"new_version": name}, timeout_s, headers={WEIGHTS_HEADER: name})

    async def _call(
        self,
        path: str,
        body: dict[str, Any] | None,
        timeout_s: float,
        *,
        method: str = "POST",
        headers: Mapping[str, str] = EMPTY,
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout_s):
                transfer = await self._send(Transfer(_request(method, path, body, headers), nothing, nothing))
                try:
                    status, content = await transfer.wait_for_status(), await transfer.wait_for_end()
                finally:
                    transfer.close()
        except TimeoutError:
            raise EngineLost(f"the engine did not answer {path} within {timeout_s:g} s") from None
        if status != 200:
            raise EngineLost(f"the engine answered {path} with {status}")
        said: dict[str, Any] = orjson.loads(content) if content.startswith(b"{") else {}
        return said

    async def _send(self, transfer: Transfer) -> Transfer:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_unix_connection(lambda: transfer, str(self.socket))
        except (OSError, TimeoutError) as error:
            transfer.close()
            raise EngineLost(f"the engine cannot be reached ({type(error).__name__})") from error
        return transfer


def _request(method: str, path: str, body: dict[str, Any] | None, headers: Mapping[str, str] = EMPTY) -> bytes:
    content = b"" if body is None else orjson.dumps(body)
    head = f"{method} {path} HTTP/1.1\r\nhost: engine\r\nconnection: close\r\n"
    for name, value in headers.items():
        head += f"{name}: {value}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content
