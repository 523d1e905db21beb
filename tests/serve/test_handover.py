"""Streams whose text goes from a real engine to the client by itself: told and recorded as any other, and ended so that
nothing is written to the connection afterwards.
"""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from feedback.ids import new_id
from tests.serve.conftest import Tandem, another_process
from tests.serve.test_chat import chat, events, sample_of
from tests.waiting import wait_for

pytestmark = pytest.mark.engine

LONG = chat(max_tokens=400, ignore_eos=True, temperature=0)


def handed_over(tandem: Tandem) -> float:
    value: float = tandem.gateway.metrics.handed_over._value.get()
    return value


def wait_for_handed_over(tandem: Tandem, streams: float) -> None:
    """They are counted once the client has all of them."""
    wait_for(lambda: handed_over(tandem) == streams, 60, f"{streams:.0f} streams to be counted")


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))


def test_it_is_the_same_reply_on_the_wire_and_in_the_record(tandem: Tandem) -> None:
    before = handed_over(tandem)
    with tandem.client("chat") as client:
        whole = client.post("/v1/chat/completions", json=LONG | {"return_token_ids": True}).json()
        # One after the other on one connection.
        for _ in range(2):
            streamed = client.post(
                "/v1/chat/completions", json=LONG | {"stream": True, "stream_options": {"include_usage": True}}
            )
            *chunks, usage = events(streamed.text)
            assert text_of(chunks) == whole["choices"][0]["message"]["content"]
            assert {tuple(chunk) for chunk in chunks} == {tuple(chunks[0])}
            assert all(chunk["usage"] is None for chunk in chunks) and usage["usage"] == whole["usage"]
            (row,) = sample_of(tandem.store, streamed.headers["x-request-id"])
            assert row.token_ids == whole["choices"][0]["token_ids"] and len(row.logprobs or []) == 400
            assert (row.status, row.text) == ("complete", text_of(chunks))
    wait_for_handed_over(tandem, before + 2)


@pytest.mark.parametrize(
    "fields", [{"logprobs": True}, {"return_token_ids": True}, {"n": 2}], ids=lambda fields: next(iter(fields))
)
def test_what_asks_for_more_than_text_comes_the_usual_way(tandem: Tandem, fields: dict[str, Any]) -> None:
    before = handed_over(tandem)
    with tandem.client("chat") as client:
        answer = client.post("/v1/chat/completions", json=chat(stream=True, max_tokens=40) | fields)
    assert text_of(events(answer.text)) and handed_over(tandem) == before


def request(tandem: Tandem, request_id: str, protocol: str = "HTTP/1.1") -> bytes:
    """For a long reply."""
    body = json.dumps(LONG | {"stream": True}).encode()
    head = f"POST /v1/chat/completions {protocol}\r\nhost: tandem\r\nx-request-id: {request_id}\r\n"
    head += f"authorization: Bearer {tandem.secrets['chat']}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def ask(tandem: Tandem, request: bytes) -> socket.socket:
    """A connection on which that has been asked for."""
    address = httpx.URL(tandem.url)
    connection = socket.create_connection((address.host, address.port or 0), timeout=60)
    connection.sendall(request)
    return connection


def read_to_the_end(connection: socket.socket) -> bytes:
    received = b""
    while arrived := connection.recv(1 << 16):
        received += arrived
    return received


def test_a_client_of_http_1_0_gets_no_chunks(tandem: Tandem) -> None:
    before, request_id = handed_over(tandem), new_id("req")
    with ask(tandem, request(tandem, request_id, "HTTP/1.0")) as connection:
        _, _, body = read_to_the_end(connection).partition(b"\r\n\r\n")
    (row,) = sample_of(tandem.store, request_id)
    assert text_of(events(body.decode())) == row.text and handed_over(tandem) == before


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("hangs", [False, True], ids=["writes on", "hangs"])
def test_a_reply_that_takes_too_long_ends_the_connection_whoever_has_it_open(tandem: Tandem, hangs: bool) -> None:
    request_id, next_id = new_id("req"), new_id("req")
    with another_process(tandem, request_timeout_s=0.5) as hasty:
        before = handed_over(hasty)
        slots = hasty.gateway.pool.slots
        with ask(hasty, request(tandem, request_id)) as connection, contextlib.ExitStack() as stack:
            deadline = time.monotonic() + 60
            while not (writing := [slot for slot in slots for one in list(slot.handovers) if one.is_on]):
                assert time.monotonic() < deadline
            if hangs:
                stack.enter_context(stopped(writing[0].server_pid))
            # It waits for its turn, which does not come.
            connection.sendall(request(tandem, next_id))
            received = read_to_the_end(connection)
        wait_for_handed_over(hasty, before + 1)
    _, _, chunked = received.partition(b"\r\n\r\n")
    assert chunked.endswith(b"0\r\n\r\n")
    said = [json.loads(line[6:]) for line in chunked.split(b"\n") if line.startswith(b"data: ")]
    assert said[-1]["error"]["code"] == "timeout"
    (row,) = sample_of(tandem.store, request_id)
    assert row.status == "failed" and 0 < len(row.token_ids or []) < 400
    assert text_of(said) == row.text and not sample_of(tandem.store, next_id)
