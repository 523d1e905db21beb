"""What goes through the socket between an engine's two processes arrives as vLLM wrote it, whatever it is cut into."""

import asyncio
import queue
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from serve.engine import terse, terse_steps
from serve.engine.terse_steps import Arrivals, Sampled, Straight

# Who needs vLLM imports it: at the top it would take seconds of every process that only looks for tests.
WAIT_S = 60


def written(request: str, token: int, **others: Any) -> Any:
    from vllm.v1.engine import EngineCoreOutput

    return EngineCoreOutput(request, [token], **others)


@pytest.fixture
def pair() -> Any:
    here, there = terse_steps.connected()
    yield here, there
    here.close()
    there.close()


def client() -> Any:
    from vllm.v1.engine import EngineCoreOutputs
    from vllm.v1.serial_utils import MsgpackDecoder

    return SimpleNamespace(decoder=MsgpackDecoder(EngineCoreOutputs), outputs_queue=asyncio.Queue())


async def next_of(reader: Any) -> Any:
    async with asyncio.timeout(WAIT_S):
        return await reader.outputs_queue.get()


async def test_a_step_arrives_with_its_numbers_beside_it(pair: Any) -> None:
    from vllm.v1.engine import EngineCoreOutputs, FinishReason
    from vllm.v1.outputs import LogprobsLists

    here, there = pair
    reader = client()
    Arrivals(reader, here)
    alternatives = LogprobsLists(np.array([[7, 8]]), np.array([[-0.5, -0.25]], np.float32), np.array([2]))
    outputs = [
        written("a", 5, new_logprobs=Sampled([-1.5])),
        written("b", 6, finish_reason=FinishReason.LENGTH),
        written("c", 7, new_logprobs=alternatives),
    ]
    Straight(queue.Queue(), there).put_nowait((0, EngineCoreOutputs(outputs=outputs, weight_version="v3")))
    arrived = await next_of(reader)
    assert arrived.weight_version == "v3"
    assert [(output.request_id, output.new_token_ids) for output in arrived.outputs] == [
        ("a", [5]),
        ("b", [6]),
        ("c", [7]),
    ]
    first, second, third = arrived.outputs
    assert first.new_logprobs == Sampled([-1.5]) and isinstance(first.new_logprobs, Sampled)
    assert second.new_logprobs is None and second.finished
    assert third.new_logprobs.logprobs.tolist() == [[-0.5, -0.25]]


async def test_messages_in_pieces_and_several_at_once_are_told_apart(pair: Any) -> None:
    from vllm.v1.engine import EngineCoreOutputs
    from vllm.v1.outputs import LogprobsTensors

    here, there = pair
    reader = client()
    arrivals = Arrivals(reader, here)
    straight = Straight(queue.Queue(), there)
    # Too much to be written inline: it is a part of its own.
    large = LogprobsTensors(torch.arange(900).view(300, 3), torch.rand(300, 3), torch.arange(300))
    steps = [
        EngineCoreOutputs(
            outputs=[written(str(step), step, new_logprobs=Sampled([-step / 4]), new_prompt_logprobs_tensors=large)]
        )
        for step in range(6)
    ]
    stream = b"".join(straight._message(step) for step in steps)
    for size in (1, 1021, len(stream)):
        unread = bytearray()
        for at in range(0, len(stream), size):
            unread = arrivals._take(unread + stream[at : at + size])
        assert not unread
        for step in range(6):
            (output,) = (await next_of(reader)).outputs
            assert output.new_token_ids == [step] and output.new_logprobs == [-step / 4]
            for arrived, sent in zip(output.new_prompt_logprobs_tensors[:3], large[:3], strict=True):
                assert torch.equal(arrived, sent)


async def test_more_than_the_socket_holds_waits_for_the_reader(pair: Any) -> None:
    from vllm.v1.engine import EngineCoreOutputs

    here, there = pair
    reader = client()
    straight = Straight(queue.Queue(), there)
    sent = 4000

    def write() -> None:
        straight._thread = threading.get_ident()
        for step in range(sent):
            straight.put_nowait((0, EngineCoreOutputs(outputs=[written("r" * 500, step)])))

    writing = threading.Thread(target=write)
    writing.start()
    Arrivals(reader, here)
    assert [(await next_of(reader)).outputs[0].new_token_ids for _ in range(sent)] == [[step] for step in range(sent)]
    writing.join(WAIT_S)
    assert not writing.is_alive()


async def test_who_writes_is_no_more_than_some_steps_ahead_of_who_answers(pair: Any) -> None:
    """A chat that comes then waits for those, and for one after the other while it is taken in."""
    from vllm.v1.engine import EngineCoreOutputs
    from vllm.v1.outputs import LogprobsLists

    here, there = pair
    alternatives = LogprobsLists(np.zeros((1, 21), np.int32), np.zeros((1, 21), np.float32), np.array([1]))
    replies = [written(f"reply-{number}", 5, new_logprobs=alternatives) for number in range(20)]
    there.setblocking(False)
    straight, sent = Straight(queue.Queue(), there), 0
    with pytest.raises(BlockingIOError):
        while True:
            straight.put_nowait((0, EngineCoreOutputs(outputs=replies)))
            sent += 1
    assert 1 <= sent <= 20
    reader = client()
    Arrivals(reader, here)
    await next_of(reader)
    assert reader.outputs_queue.qsize() <= 3


async def test_all_that_is_no_step_and_what_other_threads_have_goes_vllms_way(pair: Any) -> None:
    from vllm.v1.engine import EngineCoreOutputs, UtilityOutput

    _, there = pair
    own: queue.Queue[Any] = queue.Queue()
    straight = Straight(own, there)
    step = (0, EngineCoreOutputs(outputs=[written("a", 1)]))
    others = [b"ENGINE_CORE_DEAD", (0, EngineCoreOutputs(utility_output=UtilityOutput(1))), (-1, step[1])]
    for other in others:
        straight.put_nowait(other)
    thread = threading.Thread(target=straight.put_nowait, args=[step])
    thread.start()
    thread.join()
    assert [straight.get() for _ in range(4)] == [*others, step] and straight.empty()


async def test_what_cannot_be_read_is_raised_where_outputs_are_waited_for(pair: Any) -> None:
    here, there = pair
    reader = client()
    Arrivals(reader, here)
    there.sendall(b"\1\0\0\0\3\0\0\0abc")
    assert isinstance(await next_of(reader), Exception)


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `install` replaces is put back."""
    from vllm.v1.engine.core import EngineCoreProc
    from vllm.v1.engine.core_client import AsyncMPClient
    from vllm.v1.engine.logprobs import LogprobsProcessor
    from vllm.v1.sample.sampler import Sampler

    places = [
        (EngineCoreProc, "run_busy_loop"),
        (AsyncMPClient, "_ensure_output_queue_task"),
        (LogprobsProcessor, "update_from_output"),
        (Sampler, "gather_logprobs"),
    ]
    before = [vars(place)[name] for place, name in places]
    for (place, name), value in zip(places, before, strict=True):
        monkeypatch.setattr(place, name, value)
    return lambda: [vars(place)[name] for place, name in places] == before


@pytest.mark.parametrize("count", [1, 3])
@torch.compiler.set_stance("force_eager")  # as engines on a CPU are: a machine may have no compiler
def test_the_numbers_are_vllms_and_get_their_form_back(as_before: Any, count: int) -> None:
    from vllm.v1.engine.logprobs import LogprobsProcessor
    from vllm.v1.sample.sampler import Sampler

    torch.manual_seed(0)
    logprobs_T_V = torch.randn(count, 50).log_softmax(-1)
    token_ids = torch.randint(50, (count,))
    own = Sampler.gather_logprobs(logprobs_T_V, 0, token_ids)
    two = Sampler.gather_logprobs(logprobs_T_V, 2, token_ids)
    terse_steps._say_numbers_alone()
    terse_steps._understand_numbers()
    sampled = Sampler.gather_logprobs(logprobs_T_V, 0, token_ids)
    assert torch.equal(sampled.logprob_token_ids, own.logprob_token_ids) and torch.equal(sampled.logprobs, own.logprobs)
    for ours, theirs in zip(Sampler.gather_logprobs(logprobs_T_V, 2, token_ids)[:3], two[:3], strict=True):
        assert torch.equal(ours, theirs)
    numbers = sampled.tolists()
    assert numbers == own.logprobs.view(-1).tolist()
    for at in range(count):
        processor = LogprobsProcessor(None, [], None, 0.0, 0, None)
        token = int(token_ids[at])
        processor.update_from_output(written("a", token, new_logprobs=numbers.slice_request(at, 1)))
        assert processor.logprobs is not None
        assert processor.logprobs[0][token].logprob == own.logprobs[at, 0].item()


def test_under_another_vllm_nothing_is_replaced(as_before: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terse, "TESTED_WITH", "0.1.0")
    terse_steps.install("cpu")
    assert as_before()


def test_on_another_device_nothing_is_replaced(as_before: Any) -> None:
    terse_steps.install("cuda")
    assert as_before()
