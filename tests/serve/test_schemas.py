"""Schemas that refer to themselves: those of trees and lists pass, one that says nothing is refused at the door."""

from typing import Any

import pytest

from serve.chat.schemas import says_nothing
from tests.serve.conftest import Tandem
from tests.serve.test_chat import chat

NODE = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/a~1b%20c"}, {"type": "null"}]}}}
NOTHING: list[dict[str, Any]] = [
    {"$ref": "#"},
    {"$ref": "#", "properties": {"a": {"type": "integer"}}},
    {"allOf": [{"$ref": "#"}]},
    {"anyOf": [{"oneOf": [{"$ref": "#/anyOf/0"}]}]},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
]
TREE = {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}}
SOMETHING: list[Any] = [
    {},
    TREE,
    {"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": NODE}},
    {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]},
    {"anyOf": [{"$ref": "#"}, {"type": "integer"}]},
    {"$ref": "#/$defs/none"},
    {"$ref": "#/anyOf/7", "anyOf": [{}]},
    {"$ref": "#/anyOf/" + 5000 * "7", "anyOf": [{}]},
    {"$ref": "https://example.com/schema"},
    {"$ref": 3},
    "{}",
    None,
]


@pytest.mark.parametrize("schema", NOTHING)
def test_what_comes_back_to_itself_at_once_says_nothing(schema: dict[str, Any]) -> None:
    assert says_nothing(schema)


@pytest.mark.parametrize("schema", SOMETHING)
def test_others_are_the_engines_to_judge(schema: Any) -> None:
    assert not says_nothing(schema)


@pytest.mark.engine
@pytest.mark.parametrize("stream", [False, True])
def test_it_is_refused_and_no_engine_is_doubted(tandem: Tandem, stream: bool) -> None:
    """Nor where it goes round in a way that is not looked for here, at which engines fail."""
    with tandem.client("chat") as client:
        for schema in NOTHING[:2]:
            form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
            for field in ({"response_format": form}, {"structured_outputs": {"json": schema}}):
                answer = client.post("/v1/chat/completions", json=chat(stream=stream, **field))
                assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(field)))
        round_about = {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}
        answer = client.post("/v1/chat/completions", json=chat(stream=stream, structured_outputs={"json": round_about}))
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "reply_failed")
        assert answer.headers["x-should-retry"] == "false"
        assert {slot.state for slot in tandem.gateway.pool.slots} == {"ready"}
        tree = {"type": "json_schema", "json_schema": {"name": "x", "schema": TREE}}
        assert client.post("/v1/chat/completions", json=chat(stream=stream, response_format=tree)).status_code == 200
