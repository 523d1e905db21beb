"""File formats of preference pairs, each a module with `parse(line)` and `render(preference)`.

A `Preference` is what all of them can say: a conversation, a chosen and a rejected reply.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from feedback.errors import InvalidRequest, TandemError

Message = dict[str, Any]

DEEPEST = 200
"""How many lists and objects may stand within each other: neither the record nor a request holds many more."""


@dataclass(frozen=True)
class Preference:
    """`chosen` was preferred to `rejected` as the reply to `messages`. `origin` is what else the format needs to write
    the very same line again."""

    messages: list[Message]
    chosen: Message
    rejected: Message
    origin: dict[str, Any] = field(default_factory=dict)


class SetAside(TandemError):
    """A record that cannot be taken: reported with its line, kept in a file, the rest goes on."""

    code = "record_set_aside"
    status = 422


@dataclass(frozen=True)
class Format:
    """One line in, one preference out, and back."""

    parse: Callable[[bytes], Preference]
    render: Callable[[Preference], bytes]


def named(name: str) -> Format:
    """The format called `hh`, `trl` or `openai`. Raises InvalidRequest."""
    from feedback.formats import hh, openai, trl

    formats = {
        "hh": Format(hh.parse, hh.render),
        "trl": Format(trl.parse, trl.render),
        "openai": Format(openai.parse, openai.render),
    }
    if name not in formats:
        raise InvalidRequest(f"unknown format {name!r}; choose one of {', '.join(formats)}", param="format")
    return formats[name]


def load(line: bytes) -> Any:
    """The JSON of a line. Raises SetAside."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise SetAside(f"not JSON: {error}") from None
    # Looked for in the line first, which hardly ever has it: both.
    if line.count(b"[") + line.count(b"{") > DEEPEST and _is_deeper(record, DEEPEST):
        raise SetAside(f"more than {DEEPEST} lists and objects stand within each other")
    if b"\\u0000" in line:
        refuse_nul("".join(_texts(record)))
    return record


def refuse_nul(text: str) -> None:
    """Raises SetAside."""
    if "\0" in text:
        raise SetAside("it holds a NUL character, which Postgres cannot keep")


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is not None and (levels == 0 or any(_is_deeper(one, levels - 1) for one in inner))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def load_object(line: bytes) -> dict[str, Any]:
    """The JSON object of a line. Raises SetAside."""
    record = load(line)
    if not isinstance(record, dict):
        raise SetAside("not a JSON object")
    return record


def check_messages(messages: Any, where: str) -> list[Message]:
    """A list of chat messages with a role and a text each. Raises SetAside."""
    if not isinstance(messages, list) or not messages:
        raise SetAside(f"{where} is not a list of messages")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise SetAside(f"{where} holds something that is not a message with a role")
        if not isinstance(message.get("content"), str):
            raise SetAside(f"{where} holds a message without text")
    return messages


def check_reply(messages: Any, where: str) -> Message:
    """The one assistant message of a reply. Raises SetAside."""
    (message, *others) = check_messages(messages, where)
    if others or message["role"] != "assistant":
        raise SetAside(f"{where} is not one assistant message")
    if not message["content"].strip():
        raise SetAside(f"the {where} reply is empty")
    return message
