"""What an engine says of its failure, as an error of ours: in vLLM's own words, where they say something to anybody."""

import ast
import re
from typing import Any

import orjson

from serve.chat.request import SAMPLING_FIELDS
from serve.engine.terse_stream import GAVE_UP, TOO_MUCH
from serve.engine.transfer import GaveUp
from serve.errors import EngineRefused, PromptTooLong, ReplyFailed

# What vLLM calls a prompt that does not fit, counted in characters or in tokens.
TOO_LONG = frozenset({"input_text", "input_tokens"})
# And of one that fills it to the last token; a bound below 1 that was asked for never comes to vLLM.
NO_ROOM = "max_tokens must be at least 1, got 0."
FULL = "The messages take all of this model's maximum context length, and leave no room for a reply."
# Of a structural tag with a `format`, by a compiler that does not know any; vLLM makes one of strict tools, too.
NO_TRIGGERS = "Invalid grammar specification: 'triggers'"
NO_FORMAT = "the engines cannot follow a 'structural_tag' with a 'format', only one with 'structures' and 'triggers'"
NO_TOOL = (
    "the engines cannot follow the parameters of a strict tool: give a schema that can be met, or leave out 'strict'"
)
NO_PARSER = "--tool-call-parser"
NO_CALLS = (
    "the engines do not know how this policy calls tools; an operator tells them by `engine.extra_args`, or has tools"
    " left out by `serve.leave_out_tools` (docs/operations.md)"
)
NO_TAG = "structural_tag specification."
TAG = (
    " It must be an object with 'structures', each with 'begin', 'schema' and 'end', and 'triggers';"
    " in 'structured_outputs', a string that is such an object in JSON"
)

# Otherwise it may hold a text of whoever asked, as it stands.
OF_PYDANTIC = re.compile(r"\d+ validation errors?:")
# One of the problems that pydantic found, as vLLM says it: a dictionary of Python's, which may be cut at its end.
FOUND = re.compile(r"""'loc': '(?:body\.)?([^']*)', 'msg': ('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")

# A `response_format` is held against a structural tag, too, which was not meant where its type is another one.
NOT_A_TAG = "'response_format.type': Input should be 'structural_tag'"
OF_A_TAG = {
    NOT_A_TAG,
    *(f"'response_format.{field}': Field required" for field in ("format", "structures", "triggers")),
}


def check(error: dict[str, Any], form: str | None) -> None:
    """What an engine says in an answer of 5xx, or as an event of a stream. `form` is the field by which the reply is to
    have a form. Raises EngineRefused for what vLLM will not do, and GaveUp; it is another failure where neither is.
    """
    code = error.get("code")
    if isinstance(code, int) and 400 <= code < 500:
        raise refusal(code, error, form)
    if error.get("message") == GAVE_UP:
        raise GaveUp("the engine gave up on the reply")


def said(content: bytes) -> dict[str, Any]:
    """vLLM's error object; an empty one where an answer has none."""
    try:
        error = orjson.loads(content)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        error = None
    return error if isinstance(error, dict) else {}


def refusal(status: int, error: dict[str, Any], form: str | None) -> EngineRefused | ReplyFailed:
    """What vLLM says is wrong with the request; nothing else of its answer."""
    # vLLM says the field once more at the end of its message, by its own name.
    message = str(error.get("message", "the engine refused the request")).partition(" (parameter=")[0]
    param = error.get("param")
    if param in TOO_LONG:
        return PromptTooLong(message)
    if message == NO_ROOM:
        return PromptTooLong(FULL)
    if OF_PYDANTIC.match(message) and (found := FOUND.findall(message)):
        # Of a field that may be one thing or another it finds the same of each.
        problems = dict.fromkeys(f"'{field}': {ast.literal_eval(what)}" for field, what in found)
        left_out = OF_A_TAG if NOT_A_TAG in problems else ()
        message = "; ".join(problem for problem in problems if problem not in left_out)
    if NO_PARSER in message:
        return EngineRefused(NO_CALLS, status=400, param="tools")
    if message == TOO_MUCH:
        return ReplyFailed(form)
    if message == NO_TRIGGERS:
        return EngineRefused(NO_TOOL if form == "tools" else NO_FORMAT, status=400, param=form)
    if message.endswith(NO_TAG):
        message += TAG
    if status == 404:
        status = 400
    if param is None:
        # Of some fields vLLM says it in its words only.
        first = message.partition(" ")[0]
        param = first if first in SAMPLING_FIELDS else None
    # Where vLLM found it says whether it was in the body.
    return EngineRefused(message, status=status, param=param.removeprefix("body.") if isinstance(param, str) else None)
