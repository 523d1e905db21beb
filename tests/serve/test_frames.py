"""Events that are passed on without being read say what they would say if they had been."""

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.settings import ServeSettings
from serve.chat.frames import Frames
from serve.chat.request import parse

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "policy"}
# Texts that look like what stands around a text.
PIECES = [
    '"',
    "\\",
    '\\"',
    '"},"logprobs":null',
    ',"finish_reason":null',
    '"delta":{"content":"',
    "[{",
    "}]}",
    "é\n",
    "a",
]
texts = st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=20)


def frames(**asked: Any) -> Frames:
    body = {"model": "tandem", "stream": True, "messages": [{"role": "user", "content": "x"}], **asked}
    return Frames(parse(orjson.dumps(body), ServeSettings()), {"id": "chatcmpl-2", "model": "tandem"}, {})


def event(delta: dict[str, Any], *, finish_reason: str | None = None, token: str = "a") -> bytes:
    entry = {"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": []}
    choice = {
        "index": 0, "delta": delta, "logprobs": {"content": [entry]}, "finish_reason": finish_reason, "token_ids": [1],
    }  # fmt: skip
    return orjson.dumps({**HEAD, "choices": [choice]})


@given(texts, texts)
def test_text_is_passed_on_as_it_stands(text: str, token: str) -> None:
    made, said = frames(), event({"content": text}, token=token)
    spliced = made.splice(said)
    assert spliced is not None
    assert orjson.loads(spliced[6:]) == orjson.loads(made.chunk(0, orjson.loads(said)["choices"][0])[6:])
    assert orjson.loads(spliced[6:])["choices"][0]["delta"] == {"content": text}


@given(texts, texts)
def test_what_says_more_or_ends_is_read(text: str, token: str) -> None:
    made = frames()
    for delta in ({"role": "assistant", "content": text}, {"content": text, "reasoning": text}, {"content": None}, {}):
        assert made.splice(event(delta, token=token)) is None
    assert made.splice(event({"content": text}, finish_reason="stop", token=token)) is None
    assert made.splice(orjson.dumps({"error": {"message": text}})) is None


@pytest.mark.parametrize("asked", [{"n": 2}, {"logprobs": True}, {"return_token_ids": True}])
def test_who_wants_more_than_text_is_not_spliced_for(asked: dict[str, Any]) -> None:
    assert not frames(**asked).splices
    assert frames().splices


def test_usage_is_null_for_who_asked_for_it() -> None:
    spliced = frames(stream_options={"include_usage": True}).splice(event({"content": "a"}))
    assert spliced is not None
    assert re.search(rb'"usage":null', spliced)
