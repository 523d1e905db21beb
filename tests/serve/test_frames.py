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


TOOLS = [{"type": "function", "function": {"name": "add"}}]


@pytest.mark.parametrize("asked", [{"n": 2}, {"logprobs": True}, {"return_token_ids": True}, {"tools": TOOLS}])
def test_who_wants_more_than_text_is_not_spliced_for(asked: dict[str, Any]) -> None:
    assert not frames(**asked).splices
    assert frames().splices


def test_usage_is_null_for_who_asked_for_it() -> None:
    spliced = frames(stream_options={"include_usage": True}).splice(event({"content": "a"}))
    assert spliced is not None
    assert re.search(rb'"usage":null', spliced)


CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "add"}}


def deltas(made: Frames, *said: dict[str, Any]) -> list[dict[str, Any]]:
    """What a client gets of an engine's deltas, and of the end after them."""
    chunks = [{"delta": delta, "finish_reason": None} for delta in said] + [{"delta": {}, "finish_reason": "stop"}]
    events = b"".join(made.chunk(0, chunk) for chunk in chunks).split(b"\n\n")[:-1]
    return [orjson.loads(event[6:])["choices"][0]["delta"] for event in events]


@pytest.mark.parametrize("asked", [{}, {"logprobs": True}, {"n": 2}])
def test_a_call_begins_with_empty_arguments(asked: dict[str, Any]) -> None:
    more = {"index": 0, "function": {"arguments": "{}"}}
    said = deltas(
        frames(tools=TOOLS, **asked),
        {"role": "assistant", "content": ""},
        {"tool_calls": [CALL]},
        {"tool_calls": [more]},
    )
    first, second = [delta["tool_calls"][0] for delta in said if "tool_calls" in delta]
    assert first["function"] == {"name": "add", "arguments": ""} and first["id"] == "call_1"
    assert second == more


@pytest.mark.parametrize("asked", [{}, {"logprobs": True}, {"return_token_ids": True}])
def test_a_reply_that_begins_with_a_call_has_no_text_before_it(asked: dict[str, Any]) -> None:
    opening = {"role": "assistant", "content": ""}
    said = deltas(frames(tools=TOOLS, **asked), opening, {"tool_calls": [CALL]})
    assert said[0].keys() == {"role", "tool_calls"} and said[1:] == [{}]
    # A token of which nothing is seen yet comes for its number only, to who asked for that.
    said = deltas(frames(tools=TOOLS, **asked), opening, {}, {"tool_calls": [CALL]})
    assert [delta.keys() for delta in said if delta] == (
        [{"role"}, {"tool_calls"}] if asked else [{"role", "tool_calls"}]
    )


@pytest.mark.parametrize("asked", [{}, {"logprobs": True}])
@pytest.mark.parametrize(
    "rest", [[{"content": "a"}, {"tool_calls": [CALL]}], [{"content": "a"}], [{"reasoning": "a"}], []]
)
def test_a_reply_that_begins_otherwise_says_its_role_first(asked: dict[str, Any], rest: list[dict[str, Any]]) -> None:
    opening = {"role": "assistant", "content": ""}
    said = deltas(frames(tools=TOOLS, **asked), opening, *rest)
    assert said[0] == opening and len(said) == len(rest) + 2
