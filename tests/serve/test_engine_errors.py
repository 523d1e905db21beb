"""What an engine says of its failure, in the words of the API."""

import pytest

from serve.chat.engine_errors import refusal


@pytest.mark.parametrize(
    "message",
    [
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        'tool_choice="required" requires --tool-call-parser to be set',
        'tool_choice=function "f" requires --tool-call-parser to be set',
    ],
)
def test_tools_without_a_parser_are_refused_with_the_setting(message: str) -> None:
    refused = refusal(400, {"message": message, "param": None}, "tools")
    assert (refused.param, refused.status) == ("tools", 400)
    assert "`engine.extra_args`" in refused.message and "--" not in refused.message


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("frequency_penalty must be in [-2, 2], got 3.0.", "frequency_penalty"),
        ("stop cannot contain an empty string.", "stop"),
        ("The model cannot do that.", None),
    ],
)
def test_a_field_that_is_only_in_the_words_is_told(message: str, param: str | None) -> None:
    assert refusal(400, {"message": message, "param": None}, None).param == param


def test_what_pydantic_found_is_told_in_words() -> None:
    found = (
        "3 validation errors:\n"
        "  {'type': 'string_type', 'loc': 'body.stop', 'msg': 'Input should be a valid string', 'input': \"it's\"}\n"
        "  {'type': 'literal_error', 'loc': 'body.effort', 'msg': \"Input should be 'low' or 'high'\", 'input': 'x'}\n"
        "  {'type': 'string_type', 'loc': 'body.stop', 'msg': 'Input should be a valid string', 'input': '...[cut"
    )
    refused = refusal(400, {"message": found, "param": "body.stop"}, None)
    assert refused.message == "'stop': Input should be a valid string; 'effort': Input should be 'low' or 'high'"
    assert refused.param == "stop"


def test_of_a_form_only_what_was_meant_is_told() -> None:
    """vLLM tries a structural tag in its place, and says what that lacks."""
    missing = [("format", "Field required"), ("structures", "Field required"), ("triggers", "Field required")]
    of_a_tag = [("type", "Input should be 'structural_tag'"), *missing]
    lines = [
        f"  {{'type': 'x', 'loc': 'body.response_format.{field}', 'msg': {what!r}, 'input': 1}}"
        for field, what in [("json_schema.name", "Field required"), *of_a_tag]
    ]
    found = "\n".join(["5 validation errors:", *lines])
    refused = refusal(400, {"message": found, "param": None}, "response_format")
    assert refused.message == "'response_format.json_schema.name': Field required"


def test_a_text_that_looks_as_if_pydantic_had_found_it_is_left_as_it_is() -> None:
    """What is asked stands in some refusals, word by word."""
    said = r"Invalid grammar specification: 'loc': 'x', 'msg': '\x'"
    assert refusal(400, {"message": said}, None).message == said
