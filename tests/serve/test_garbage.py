"""What a chat held is free when it has ended: no stream waits for a search for garbage because of it."""

import gc
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serve.chat.completions import Completion
from serve.chat.generation import Generation
from serve.engine.handover import Handover
from serve.engine.transfer import Transfer
from serve.envelope import Body
from tests.serve.conftest import Tandem
from tests.serve.test_chat import chat
from tests.waiting import wait_for

pytestmark = pytest.mark.engine


@pytest.fixture
def no_search_for_garbage() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def held() -> list[str]:
    kinds = {Body, Completion, Generation, Handover, Transfer}
    return [type(one).__name__ for one in gc.get_objects() if type(one) in kinds]


@pytest.mark.usefixtures("no_search_for_garbage")
@pytest.mark.parametrize(
    ("asked", "headers"),
    [
        ({}, {}),
        ({"n": 2}, {}),
        ({"stream": True, "max_tokens": 200, "ignore_eos": True}, {}),
        ({"stream": True, "n": 2}, {}),
        ({"stream": True, "logprobs": True}, {"idempotency-key": "once"}),
        ({"temperature": -1}, {}),
    ],
    ids=["whole", "pair", "handed over", "streamed pair", "kept for a retry", "refused"],
)
def test_nothing_is_left_of_a_chat(tandem: Tandem, asked: dict[str, Any], headers: dict[str, str]) -> None:
    with tandem.client("chat", headers=headers) as client:
        for _ in range(2):
            answer = client.post("/v1/chat/completions", json=chat(**asked))
            assert answer.status_code == (400 if "temperature" in asked else 200)
        wait_for(lambda: not held(), 60, "a chat to be forgotten")


@pytest.mark.usefixtures("no_search_for_garbage")
def test_nothing_is_left_of_a_stream_that_nobody_read_on(tandem: Tandem) -> None:
    body = chat(stream=True, max_tokens=400, ignore_eos=True)
    with tandem.client("chat") as client, client.stream("POST", "/v1/chat/completions", json=body) as stream:
        next(stream.iter_lines())
    wait_for(lambda: not held(), 60, "a stream to be forgotten")


@pytest.mark.usefixtures("no_search_for_garbage")
def test_nothing_is_left_of_a_reply_that_nobody_waited_for(tandem: Tandem) -> None:
    with tandem.client("chat", timeout=0.2) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=chat(max_tokens=400, ignore_eos=True))
    wait_for(lambda: not held(), 60, "a reply to be forgotten")
