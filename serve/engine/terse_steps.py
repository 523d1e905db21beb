"""Between the process that computes and the one that answers: what each step has written goes straight through a socket
of ours, where vLLM hands it to a thread, to a message queue with a thread at either end, and to a task; and of a
token's log-probability nothing goes but the number.

Only steps' outputs take this way, and only under the vLLM it was tested with, on a CPU: all else stays vLLM's.
"""

import asyncio
import socket
import struct
import threading
from typing import Any

from serve.engine.terse import knows_vllm

# So much may wait for a process that answers slowly, say with 20 alternatives to each token; the system doubles it. A
# new chat waits until all of it is answered.
BUFFER_BYTES = 32 << 10
# What was read is answered before anything else has its turn: about a step.
READ_BYTES = 8 << 10
COUNT = struct.Struct("<I")


class Sampled(list[float]):
    """The log-probability of each sampled token, in the place of vLLM's `LogprobsLists`."""

    def slice_request(self, first: int, count: int) -> "Sampled":
        return Sampled(self[first : first + count])


def install(device: str) -> None:
    """Before the engine's process is forked from this one."""
    if device != "cpu" or not knows_vllm():
        return
    from vllm.v1.engine.core import EngineCoreProc
    from vllm.v1.engine.core_client import AsyncMPClient

    here, there = connected()
    run, listen = EngineCoreProc.run_busy_loop, AsyncMPClient._ensure_output_queue_task
    arrivals: list[Arrivals] = []

    def run_straight(core: Any) -> None:
        here.close()
        # Several engines' messages would get mixed up in one socket.
        if type(core) is EngineCoreProc and core.vllm_config.parallel_config.data_parallel_size == 1:
            core.output_queue = Straight(core.output_queue, there)
            _say_numbers_alone()
        run(core)

    def listen_straight(client: Any) -> None:
        listen(client)
        if not arrivals:
            arrivals.append(Arrivals(client, here))

    EngineCoreProc.run_busy_loop = run_straight
    AsyncMPClient._ensure_output_queue_task = listen_straight
    _understand_numbers()


def connected() -> tuple[socket.socket, socket.socket]:
    """Two ends, of which neither gets far ahead of the other."""
    ends = socket.socketpair()
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return ends


class Straight:
    """vLLM's queue of outputs, except that those of a step are sent at once by the thread that has them. It waits where
    whoever answers is that far behind.
    """

    def __init__(self, queue: Any, socket: socket.socket) -> None:
        import msgspec
        from vllm.v1.serial_utils import MsgpackEncoder

        self._queue, self._socket = queue, socket
        self._thread = threading.get_ident()
        self._encoder, self._numbers = MsgpackEncoder(), msgspec.msgpack.Encoder()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def put_nowait(self, item: Any) -> None:
        if threading.get_ident() == self._thread and isinstance(item, tuple) and item[0] == 0 and item[1].outputs:
            self._socket.sendall(self._message(item[1]))
        else:
            self._queue.put_nowait(item)

    def _message(self, outputs: Any) -> bytes:
        """The numbers, and all else as vLLM writes it; before them how many parts there are, and how long each is."""
        numbers: list[Sampled | None] = []
        for output in outputs.outputs:
            if isinstance(output.new_logprobs, Sampled):
                numbers.append(output.new_logprobs)
                output.new_logprobs = None
            else:
                numbers.append(None)
        written: Any = self._encoder.encode(outputs)
        parts = [self._numbers.encode(numbers), *written]
        lengths = [memoryview(part).nbytes for part in parts]
        return b"".join([struct.pack(f"<{1 + len(parts)}I", len(parts), *lengths), *parts])


class Arrivals:
    """Reads what `Straight` sends, for vLLM's `client`, in the callback that brings it."""

    def __init__(self, client: Any, socket: socket.socket) -> None:
        import msgspec

        self._client, self._socket = client, socket
        self._numbers = msgspec.msgpack.Decoder(list[list[float] | None])
        self._unread = bytearray()
        socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(socket.fileno(), self._read)

    def _read(self) -> None:
        try:
            arrived = self._socket.recv(READ_BYTES)
            if not arrived:
                self._loop.remove_reader(self._socket.fileno())
            # Not in place: what was read before may still be looked at.
            self._unread = self._take(self._unread + arrived)
        except BlockingIOError:
            pass
        except Exception as error:  # noqa: BLE001 - raised where vLLM waits for outputs, which ends the server
            self._loop.remove_reader(self._socket.fileno())
            self._client.outputs_queue.put_nowait(error)

    def _take(self, arrived: bytearray) -> bytearray:
        """Returns what is not a whole message yet."""
        while len(arrived) >= COUNT.size:
            (count,) = COUNT.unpack_from(arrived)
            at = COUNT.size * (1 + count)
            if len(arrived) < at:
                break
            lengths = struct.unpack_from(f"<{count}I", arrived, COUNT.size)
            if len(arrived) < at + sum(lengths):
                break
            parts, view = [], memoryview(arrived)
            for length in lengths:
                parts.append(view[at : at + length])
                at += length
            self._tell(parts)
            arrived = arrived[at:]
        return arrived

    def _tell(self, parts: list[memoryview]) -> None:
        outputs = self._client.decoder.decode(parts[1:])
        for output, numbers in zip(outputs.outputs, self._numbers.decode(parts[0]), strict=True):
            if numbers is not None:
                output.new_logprobs = Sampled(numbers)
        self._client.outputs_queue.put_nowait(outputs)


def _say_numbers_alone() -> None:
    """Where no alternatives to a token are asked for, its rank among all words is not looked up either."""
    import torch
    from vllm.v1.outputs import LogprobsTensors
    from vllm.v1.sample.sampler import Sampler

    gather = Sampler.gather_logprobs

    class OfSampled(LogprobsTensors):
        __slots__ = ()

        def tolists(self, cu_num_generated_tokens: list[int] | None = None) -> Any:
            if cu_num_generated_tokens is not None:
                return super().tolists(cu_num_generated_tokens)
            return Sampled(self.logprobs.view(-1).tolist())

    def gather_sampled(logprobs: torch.Tensor, num_logprobs: int, token_ids: torch.Tensor) -> Any:
        if num_logprobs:
            return gather(logprobs, num_logprobs, token_ids)
        token_ids_T_1 = token_ids.unsqueeze(-1)
        unknown = torch.zeros_like(token_ids)
        return OfSampled(token_ids_T_1.to(torch.int32), logprobs.gather(-1, token_ids_T_1), unknown)

    Sampler.gather_logprobs = staticmethod(gather_sampled)


def _understand_numbers() -> None:
    """For what vLLM answers by itself they get the form back that it knows."""
    import numpy as np
    from vllm.v1.engine.logprobs import LogprobsProcessor
    from vllm.v1.outputs import LogprobsLists

    update = LogprobsProcessor.update_from_output

    def update_from_output(processor: Any, output: Any) -> None:
        numbers = output.new_logprobs
        if isinstance(numbers, Sampled):
            token_ids = np.array(output.new_token_ids, np.int32)
            unknown = np.zeros(len(token_ids), np.int64)
            output.new_logprobs = LogprobsLists(token_ids[:, None], np.array(numbers)[:, None], unknown)
        update(processor, output)

    LogprobsProcessor.update_from_output = update_from_output
