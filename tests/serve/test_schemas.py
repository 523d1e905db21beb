"""What engines cannot follow, and what is said of it. Replies that are to have a form, and schemas that refer to
themselves: those of trees and lists pass, one that says nothing is refused at the door. And templates of chats that
demand that roles alternate, as Mistral's and Gemma's do.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.chat.schemas import says_nothing
from tests.serve.chats import chat, sample_of, text_of
from tests.serve.conftest import Tandem, serving
from tests.serve.test_wire import NO_BLANKS

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


def costly(word: str) -> dict[str, Any]:
    """A few kilobytes whose compilation, without bounds, keeps an engine from answering for most of a minute."""
    pattern = f"{word}(.{{1,500}}){{1,500}}"
    return {"type": "object", "properties": {f"{word}{n}": {"type": "string", "pattern": pattern} for n in range(100)}}


REASON = "Conversation roles must alternate user/assistant/user/assistant/..."
ALTERNATING = """
{{- bos_token -}}
{%- for message in messages -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('REASON' + ' Not: ' + message['content']) -}}
{%- endif -%}
{{- '<|' + message['role'] + '|>' + message['content'] -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
""".replace("REASON", REASON)
ROLES = [["user", "user"], ["user", "assistant", "user", "user"], ["assistant"], ["system", "user"]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, policy_folders: Path) -> Iterator[Tandem]:
    """A Tandem with an engine as it comes: it calls no tools. Its policy demands that roles alternate."""
    folders = tmp_path_factory.mktemp("alternating")
    shutil.copytree(policy_folders / "v0", folders / "v0")
    (folders / "v0" / "chat_template.jinja").write_text(ALTERNATING)
    with serving(tmp_path_factory.mktemp("plain") / "home", folders, slots=1, extra_args=()) as running:
        yield running


def engine_restarts(running: Tandem) -> list[str]:
    """How often each engine was started again."""
    with running.client() as client:
        return re.findall(r"^tandem_engine_restarts_total{.*} (.*)$", client.get("/metrics").text, re.MULTILINE)


@pytest.mark.engine
def test_what_is_costly_to_follow_costs_no_engine_and_is_in_no_log(plain: Tandem) -> None:
    with plain.client("chat") as client:
        answer = client.post("/v1/chat/completions", json=chat(structured_outputs={"json": costly("a")}))
        assert answer.status_code == 200, answer.text
        too_many = [f"private{n}" for n in range(3000)]
        answer = client.post("/v1/chat/completions", json=chat(structured_outputs={"choice": too_many}))
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "reply_failed", "structured_outputs")
        # As the answer says.
        answer = client.post("/v1/chat/completions", json=chat(structured_outputs={"json": {"enum": too_many}}))
        assert json.loads(answer.json()["choices"][0]["message"]["content"]) in too_many
    assert engine_restarts(plain) == ["0.0"]
    assert {slot.state for slot in plain.gateway.pool.slots} == {"ready"}
    logs = list((plain.settings.home / "logs").glob("engine-*.log"))
    assert logs and not any(b"private7" in log.read_bytes() for log in logs)


TOO_MUCH: list[dict[str, Any]] = [
    {"json": {"type": "array", "minItems": 10**9}},
    {"json": {"allOf": [{"type": "string", "pattern": f".*{n}.{{20}}"} for n in range(30)]}},
    {"grammar": 'start: %json {"type": "array", "maxItems": 1000000000}'},
]


@pytest.mark.engine
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", TOO_MUCH, ids=["items", "patterns", "grammar"])
def test_what_would_take_all_memory_or_for_ever_is_refused_and_no_engine_ends(
    plain: Tandem, form: dict[str, Any], stream: bool
) -> None:
    with plain.client("chat") as client:
        error = client.post("/v1/chat/completions", json=chat(stream=stream, structured_outputs=form)).json()["error"]
        assert (error["code"], error["param"]) == ("reply_failed", "structured_outputs"), error
        assert client.post("/v1/chat/completions", json=chat()).status_code == 200
    assert engine_restarts(plain) == ["0.0"]


IN_JSON = r'\s*\{\s*"colour"\s*:\s*"(red|green)"\s*\}'
COLOURS = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
FORMS: list[tuple[dict[str, Any], str]] = [
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": COLOURS}}}, IN_JSON),
    ({"response_format": {"type": "json_object"}}, r"\s*\{.*"),
    ({"structured_outputs": {"json": COLOURS}}, IN_JSON),
    ({"structured_outputs": {"regex": "[a-c]{3}[0-9]"}}, "[a-c]{3}[0-9]"),
    ({"structured_outputs": {"choice": ["red", "green"]}}, "red|green"),
    ({"structured_outputs": {"grammar": 'root ::= "is " ("red" | "green")'}}, "is (red|green)"),
]


@pytest.mark.engine
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", range(len(FORMS)))
@pytest.mark.parametrize("compiler", ["plain", "tandem"])
def test_replies_keep_to_their_form(request: pytest.FixtureRequest, compiler: str, form: int, stream: bool) -> None:
    """By the compiler that engines come with, and by that of engines that call tools."""
    running: Tandem = request.getfixturevalue(compiler)
    fields, expected = FORMS[form]
    with running.client("chat") as client:
        asked = chat(stream=stream, max_tokens=64, logit_bias=NO_BLANKS, **fields)
        answer = client.post("/v1/chat/completions", json=asked)
    assert answer.status_code == 200, answer.text
    assert re.fullmatch(expected, text_of(answer), re.DOTALL), answer.text


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
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "reply_failed")
        assert answer.headers["x-should-retry"] == "false"
        assert {slot.state for slot in tandem.gateway.pool.slots} == {"ready"}
        tree = {"type": "json_schema", "json_schema": {"name": "x", "schema": TREE}}
        assert client.post("/v1/chat/completions", json=chat(stream=stream, response_format=tree)).status_code == 200


NEWER = {"type": "structural_tag", "format": {"type": "const_string", "value": "red"}}
OLDER = {"structures": [{"begin": "<a>", "schema": COLOURS, "end": "</a>"}], "triggers": ["<a>"]}


@pytest.mark.engine
@pytest.mark.parametrize("stream", [False, True])
def test_a_structural_tag_that_engines_cannot_follow_is_refused_with_what_they_can(plain: Tandem, stream: bool) -> None:
    with plain.client("chat") as client:
        for tag, known in ((NEWER, False), ({"structures": []}, False), (OLDER, True)):
            forms: list[dict[str, Any]] = [
                {"response_format": {"type": "structural_tag", **tag}},
                {"structured_outputs": {"structural_tag": json.dumps(tag)}},
            ]
            for form in forms:
                answer = client.post("/v1/chat/completions", json=chat(stream=stream, **form))
                assert answer.status_code == (200 if known else 400), answer.text
                if not known:
                    error = answer.json()["error"]
                    assert error["param"] == next(iter(form))
                    assert "'structures'" in error["message"] and "'triggers'" in error["message"]


def strict_tool(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "add", "parameters": parameters, "strict": True}}]


@pytest.mark.engine
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_a_forced_tool_that_engines_cannot_follow_is_the_clients_to_change(tandem: Tandem, choice: Any) -> None:
    """Whether they find it out before they write or in the midst of it."""
    with tandem.client("chat") as client:
        for parameters, code in ((NOTHING[0], "reply_failed"), ({"$ref": "#/nowhere"}, "invalid_request")):
            asked = chat(tools=strict_tool(parameters), tool_choice=choice, max_tokens=120)
            answer = client.post("/v1/chat/completions", json=asked)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["param"]) == (400, code, "tools"), answer.text
            assert "'strict'" in error["message"]
        answer = client.post("/v1/chat/completions", json=chat(
            tools=strict_tool(NOTHING[0]), tool_choice=choice, max_tokens=120, stream=True
        ))  # fmt: skip
        assert answer.status_code == 200
        error = json.loads(answer.text.rstrip().split("\n\n")[-1][6:])["error"]
        assert (error["code"], error["param"], error["type"]) == ("reply_failed", "tools", "invalid_request_error")
    (row,) = sample_of(tandem.store, answer.headers["x-request-id"])
    assert row.status == "failed" and {slot.state for slot in tandem.gateway.pool.slots} == {"ready"}


def messages(roles: list[str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": f"xyzzy {role}"} for role in roles]


@pytest.mark.engine
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_template_refuses_is_refused_in_its_own_words_and_is_in_no_log(plain: Tandem, stream: bool) -> None:
    with plain.client("vote") as client:
        for roles in ROLES:
            for n in (1, 2):
                body = chat(messages=messages(roles), stream=stream, n=n)
                answer = client.post("/v1/chat/completions", json=body)
                error = answer.json()["error"]
                assert (answer.status_code, error["type"]) == (400, "invalid_request_error"), answer.text
                assert error["message"].startswith(REASON)
        body = chat(messages=messages(["user", "assistant", "user"]), stream=stream)
        assert client.post("/v1/chat/completions", json=body).status_code == 200
    assert {slot.state for slot in plain.gateway.pool.slots} == {"ready"}
    logs = list((plain.settings.home / "logs").glob("engine-*.log"))
    assert logs and not any(b"xyzzy" in log.read_bytes() for log in logs)
