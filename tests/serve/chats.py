"""Chats of tests with real engines, and what is in the record of them."""

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from feedback.schema import Sample
from feedback.store import Store

MESSAGES = [{"role": "user", "content": "What is 2 plus 3?"}]


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "tandem", "messages": MESSAGES, "max_tokens": 16} | fields


def events(text: str) -> list[dict[str, Any]]:
    """The chunks of a stream; it must be nothing but `data: ` lines with empty lines between, and end with [DONE]."""
    blocks = text.split("\n\n")
    assert blocks[-1] == "" and blocks[-2] == "data: [DONE]"
    assert all(re.fullmatch(r"data: [^\n]+", block) for block in blocks[:-1])
    return [json.loads(block[6:]) for block in blocks[:-2]]


def text_of(answer: httpx.Response) -> str:
    """What one reply says, streamed or whole."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        deltas = [choice["delta"] for chunk in events(answer.text) for choice in chunk["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)
    return str(answer.json()["choices"][0]["message"]["content"])


def sample_of(store: Store, request_id: str) -> list[Sample]:
    def find(session: Any) -> list[Sample]:
        return session.query(Sample).filter(Sample.request_id == request_id).order_by(Sample.id).all()

    return store.read(find)


class Served(Protocol):
    """Whatever has clients."""

    def client(self) -> httpx.Client: ...


def fingerprint(served: Served) -> str:
    """The version that a chat is given now, or why it is given none."""
    with served.client() as client:
        answer = client.post("/v1/chat/completions", json=chat(max_tokens=2))
    return str(answer.json().get("system_fingerprint", answer.text))


@dataclass
class Chats:
    """What became of them: `failures` are the last lines of those that were no whole reply of one version."""

    ids: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def versions(self, store: Store) -> set[int]:
        """Those that the record names; of no reply it names two, and none is missing."""

        def find(session: Any) -> list[tuple[int, int]]:
            rows = session.query(Sample).filter(Sample.request_id.in_(self.ids)).all()
            return [(row.version_first, row.version_last) for row in rows]

        found = store.read(find)
        assert len(found) == len(self.ids) and all(first == last for first, last in found)
        return {first for first, _ in found}


@contextmanager
def chatting(served: Served, people: int) -> Iterator[Chats]:
    """So many people have one reply after the other streamed, from the first one's first on. It is raised where one of
    them could not go on.
    """
    chats, begun, stopping = Chats(), threading.Event(), threading.Event()

    def chat_on() -> None:
        try:
            with served.client() as client:
                while not stopping.is_set():
                    body = chat(stream=True, max_tokens=24, ignore_eos=True)
                    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                        lines = [line for line in answer.iter_lines() if line]
                    chats.ids.append(answer.headers["x-request-id"])
                    if answer.status_code != 200 or lines[-1] != "data: [DONE]" or versions_in(lines[:-1]) != 1:
                        chats.failures.append(lines[-1])
                    begun.set()
        finally:
            begun.set()

    with ThreadPoolExecutor(people) as pool:
        asking = [pool.submit(chat_on) for _ in range(people)]
        try:
            begun.wait()
            yield chats
        finally:
            stopping.set()
    for one in asking:
        one.result()


def versions_in(lines: list[str]) -> int:
    return len({json.loads(line[6:])["system_fingerprint"] for line in lines})
