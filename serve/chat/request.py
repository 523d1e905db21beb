"""A chat completion's request: what Tandem itself interprets is checked here, the rest goes on to vLLM by a list.

What is not on a list is refused by name, as OpenAI does; a field of vLLM's that reaches files, addresses, other
requests or templates is not on it.
"""

import secrets
from dataclasses import dataclass
from typing import Any

import orjson

from feedback.errors import InvalidRequest, Unknown
from feedback.messages import instructs
from feedback.schema import version_number
from feedback.settings import ServeSettings
from serve.chat.schemas import says_nothing
from serve.errors import MalformedBody

MODEL = "tandem"
# How a reply is drawn: passed on, and recorded with the sample.
SAMPLING_FIELDS = frozenset(
    {
        "allowed_token_ids", "bad_words", "frequency_penalty", "ignore_eos", "include_stop_str_in_output",
        "logit_bias", "max_completion_tokens", "max_tokens", "min_p", "min_tokens", "parallel_tool_calls",
        "presence_penalty", "reasoning_effort", "repetition_penalty", "response_format", "skip_special_tokens",
        "spaces_between_special_tokens", "stop", "stop_token_ids", "structured_outputs", "temperature",
        "thinking_token_budget", "tool_choice", "tools", "top_k", "top_p", "truncate_prompt_tokens", "truncation_side",
        "add_generation_prompt", "continue_final_message", "add_special_tokens", "chat_template_kwargs",
        "include_reasoning",
    }
)  # fmt: skip
# What the answer is to contain: passed on, not recorded.
ANSWER_FIELDS = frozenset({"return_tokens_as_token_ids"})
# OpenAI's own fields that change nothing here.
IGNORED_FIELDS = frozenset(
    {"store", "metadata", "service_tier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
     "verbosity", "modalities", "prediction"}
)  # fmt: skip
READ_FIELDS = frozenset(
    {
        "messages",
        "model",
        "n",
        "stream",
        "stream_options",
        "seed",
        "best_of",
        "logprobs",
        "top_logprobs",
        "return_token_ids",
        "user",
        "safety_identifier",
    }
)
KNOWN_FIELDS = READ_FIELDS | SAMPLING_FIELDS | ANSWER_FIELDS | IGNORED_FIELDS
# Not sets: what a client sends in their place may have no hash.
ROLES = ("assistant", "developer", "function", "system", "tool", "user")
TEXT_PARTS = ("text", "refusal")
SEED_BITS = 63
SURELY_WRITTEN_DEPTH = 200
MAX_USER = 200


@dataclass(frozen=True)
class ChatRequest:
    """A request that is good as far as Tandem can tell. `version` is None for whatever serves."""

    model: str
    version: int | None
    messages: list[dict[str, Any]]
    n: int
    stream: bool
    include_usage: bool
    logprobs: bool
    top_logprobs: int
    return_token_ids: bool
    user: str | None
    seed: int
    best_of: int
    sampling: dict[str, Any]
    passed_on: dict[str, Any]

    @property
    def form(self) -> str | None:
        """The field by which the reply is to have a form, if it is."""
        if self.sampling.get("structured_outputs"):
            return "structured_outputs"
        asked = self.sampling.get("response_format")
        if isinstance(asked, dict) and asked.get("type") != "text":
            return "response_format"
        return "tools" if self.sampling.get("tools") and self.sampling.get("tool_choice") != "none" else None

    def engine_body(self, choice: int, *, record_logprobs: bool) -> dict[str, Any]:
        """What an engine is asked for choice number `choice`; each choice has a seed of its own, as in vLLM's `n`."""
        body = {
            **self.passed_on,
            "messages": self.messages,
            "stream": self.stream,
            "seed": self.seed_of(choice),
            "return_token_ids": True,
        }
        if self.stream:
            body["stream_options"] = {"include_usage": True}
        if self.logprobs or record_logprobs:
            body["logprobs"] = True
            body["top_logprobs"] = self.top_logprobs
        return body

    def seed_of(self, choice: int) -> int:
        """Of a choice that is the best of k, the seed of the first of them; the others' count on from it."""
        offset = choice * self.best_of
        if self.seed + offset + self.best_of - 1 < 2**SEED_BITS:
            return self.seed + offset
        return self.seed - offset - self.best_of + 1


def parse(content: bytes, settings: ServeSettings) -> ChatRequest:
    """Raises MalformedBody, InvalidRequest, Unknown for a model that cannot be."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        # What is wrong and where; nothing of the text.
        raise MalformedBody(f"the body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise MalformedBody("the body must be a JSON object")
    _check_depth(content, body)
    _check_fields(body)
    stream = _flag(body, "stream")
    n = _whole(body, "n", default=1, low=1, high=settings.max_choices)
    model, version = _model(body)
    seed = _whole(body, "seed", default=None, low=-(2**SEED_BITS), high=2**SEED_BITS - 1)
    top_logprobs = _whole(body, "top_logprobs", default=0, low=0, high=20)
    logprobs = _flag(body, "logprobs")
    if top_logprobs and not logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs': true", param="top_logprobs")
    _check_schema(body)
    body |= _allowed_tools(body)
    if settings.leave_out_tools and body.get("tool_choice") in (None, "auto", "none"):
        body |= dict.fromkeys(("tools", "tool_choice", "parallel_tool_calls"))
    sampling = {name: value for name, value in body.items() if name in SAMPLING_FIELDS and value is not None}
    answer = {name: value for name, value in body.items() if name in ANSWER_FIELDS and value is not None}
    return ChatRequest(
        model=model,
        version=version,
        messages=_instructed(check_messages(body.get("messages")), settings.system_prompt),
        n=n,
        stream=stream,
        include_usage=_include_usage(body, stream),
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        return_token_ids=_flag(body, "return_token_ids"),
        user=_user(body),
        seed=secrets.randbits(31) if seed is None else seed,
        best_of=_best_of(body, settings.max_best_of),
        sampling=sampling,
        passed_on=sampling | answer,
    )


def _check_depth(content: bytes, body: dict[str, Any]) -> None:
    """More can be read than can be written again for the engine and the record."""
    if content.count(b"{") + content.count(b"[") > SURELY_WRITTEN_DEPTH:
        try:
            orjson.dumps(body)
        except orjson.JSONEncodeError:
            raise MalformedBody("the body is nested too deeply") from None


def _check_fields(body: dict[str, Any]) -> None:
    for name, value in body.items():
        if value is not None and name not in KNOWN_FIELDS:
            raise InvalidRequest(f"unrecognized request argument: {name[:100]}", param=name[:100])
    if body.get("modalities") not in (None, ["text"]):
        raise InvalidRequest("'modalities' can be [\"text\"] only: replies are written", param="modalities")
    for name in ("max_completion_tokens", "max_tokens"):
        bound = body.get(name)
        # vLLM says `max_tokens` of both.
        if isinstance(bound, int | float) and bound < 1:
            raise InvalidRequest(f"'{name}' must be at least 1", param=name)
    # vLLM takes it for a failure of its own.
    if not isinstance(body.get("structured_outputs"), dict | None):
        raise InvalidRequest("'structured_outputs' must be an object", param="structured_outputs")


def _check_schema(body: dict[str, Any]) -> None:
    """vLLM begins to write by one that says nothing, and fails."""
    for param, path in (("response_format", ("json_schema", "schema")), ("structured_outputs", ("json",))):
        schema = body.get(param)
        for name in path:
            schema = schema.get(name) if isinstance(schema, dict) else None
        if says_nothing(schema):
            raise InvalidRequest(f"the schema in '{param}' refers to itself before it says anything", param=param)


def _allowed_tools(body: dict[str, Any]) -> dict[str, Any]:
    """`tools` and `tool_choice` as vLLM takes them, where OpenAI's `allowed_tools` has calls of some of them only: a
    policy that sees no others calls no others."""
    choice = body.get("tool_choice")
    if not isinstance(choice, dict) or choice.get("type") != "allowed_tools":
        return {}
    match choice.get("allowed_tools"):
        case {"mode": "auto" | "required" as mode, "tools": [_, *_] as allowed} if all(map(_tool_name, allowed)):
            names = list(map(_tool_name, allowed))
        case _:
            raise InvalidRequest(
                "'tool_choice.allowed_tools' must be an object with a 'mode', auto or required, and 'tools', a list of"
                ' {"type": "function", "function": {"name": ...}}',
                param="tool_choice",
            )
    tools: list[Any] = given if isinstance(given := body.get("tools"), list) else []
    for name in names:
        if name not in map(_tool_name, tools):
            raise InvalidRequest(f"'tool_choice' allows '{name[:100]}', which is not in 'tools'", param="tool_choice")
    return {"tools": [tool for tool in tools if _tool_name(tool) in names], "tool_choice": mode}


def _tool_name(tool: Any) -> str:
    """Empty where it has none."""
    match tool:
        case {"function": {"name": str(name)}}:
            return name
    return ""


def _model(body: dict[str, Any]) -> tuple[str, int | None]:
    model = body.get("model")
    if not isinstance(model, str):
        raise InvalidRequest("'model' must be 'tandem' or 'tandem@vN'", param="model")
    if model == MODEL:
        return model, None
    name, at, version = model.partition("@")
    try:
        if name != MODEL or not at:
            raise InvalidRequest(model)
        return model, version_number(version)
    except InvalidRequest:
        raise UnknownModel(model) from None


class UnknownModel(Unknown):
    """A model that is not there, or a version that no engine holds."""

    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__("model", model, "GET /v1/models", param="model")


def check_messages(messages: Any) -> list[dict[str, Any]]:
    """Messages of a conversation. Raises InvalidRequest."""
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("'messages' must be a list with at least one message", param="messages")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise InvalidRequest(f"'{where}' must be an object", param=where)
        if message.get("role") not in ROLES:
            raise InvalidRequest(f"'{where}.role' must be one of {', '.join(ROLES)}", param=f"{where}.role")
        _check_content(message.get("content"), message["role"], f"{where}.content")
        _check_calls(message.get("tool_calls"), f"{where}.tool_calls")
    return messages


def _instructed(messages: list[dict[str, Any]], system_prompt: str) -> list[dict[str, Any]]:
    """With the system prompt before them, unless they bring instructions of their own."""
    if not system_prompt or any(map(instructs, messages)):
        return messages
    return [{"role": "system", "content": system_prompt}, *messages]


def _check_content(content: Any, role: str, where: str) -> None:
    if isinstance(content, str) or (content is None and role in ("assistant", "function")):
        return
    if not isinstance(content, list):
        raise InvalidRequest(f"'{where}' must be a string or a list of text parts", param=where)
    for part in content:
        # A part with an address would have the engine fetch it.
        if not isinstance(part, dict) or part.get("type") not in TEXT_PARTS:
            raise InvalidRequest(
                f"'{where}' may hold text parts only: no images, sounds or files are read", param=where
            )
        if not isinstance(part.get(part["type"]), str):
            raise InvalidRequest(f"'{where}' has a part without its text", param=where)


def _check_calls(calls: Any, where: str) -> None:
    """vLLM fails at arguments that are nested too deeply; what else is wrong with them it says."""
    for call in calls if isinstance(calls, list) else ():
        match call:
            case {"function": {"arguments": str(said)}} if said.count("{") + said.count("[") > SURELY_WRITTEN_DEPTH:
                try:
                    orjson.dumps(orjson.loads(said))
                except (orjson.JSONDecodeError, orjson.JSONEncodeError):
                    raise InvalidRequest(f"'{where}' has arguments that cannot be read", param=where) from None


def _include_usage(body: dict[str, Any], stream: bool) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not stream:
        raise InvalidRequest("'stream_options' is only allowed when 'stream' is true", param="stream_options")
    if not isinstance(options, dict):
        raise InvalidRequest("'stream_options' must be an object", param="stream_options")
    for name in options:
        if name not in ("include_usage", "include_obfuscation"):
            raise InvalidRequest(
                f"unrecognized request argument: stream_options.{name[:100]}", param=f"stream_options.{name[:100]}"
            )
    return _flag(options, "include_usage", "stream_options.include_usage")


def _best_of(body: dict[str, Any], largest: int) -> int:
    best_of: int = _whole(body, "best_of", default=1, low=1, high=largest)
    if best_of > 1 and body.get("tools"):
        raise InvalidRequest("'best_of' compares texts and cannot be had with 'tools'", param="best_of")
    return best_of


def _flag(body: dict[str, Any], name: str, param: str | None = None) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidRequest(f"'{param or name}' must be true or false", param=param or name)
    return value


def _user(body: dict[str, Any]) -> str | None:
    """Whom the reply is for: with the key it names the person whose data this is. OpenAI's newer name for it counts
    where the older one is not given."""
    for param in ("user", "safety_identifier"):
        name = body.get(param)
        if name is not None and (not isinstance(name, str) or len(name) > MAX_USER):
            raise InvalidRequest(f"'{param}' must be a string of at most {MAX_USER} characters", param=param)
    return body.get("user") or body.get("safety_identifier")


def _whole(body: dict[str, Any], name: str, *, default: Any, low: int, high: int) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidRequest(f"'{name}' must be a whole number from {low} to {high}", param=name)
    return value
