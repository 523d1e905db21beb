"""Prompts to make pairs for, one a line, as text or as JSON. Preference pairs give their prompts."""

from collections.abc import Callable
from typing import Any

from feedback.formats import Message, Preference, SetAside, check_messages, hh, load, refuse_nul, trl


def parse_text(line: bytes) -> list[Message]:
    """A line of plain text as a conversation of one message. Raises SetAside."""
    try:
        text = line.decode().strip()
    except UnicodeDecodeError as error:
        raise SetAside(f"not UTF-8: {error.reason}") from None
    refuse_nul(text)
    return [_user(text)]


def parse_json(line: bytes) -> list[Message]:
    """A conversation that ends with what somebody asks. Raises SetAside.

    `"text"`, `{"prompt": "text"}`, `{"prompt": [messages]}` (TRL's), `{"messages": [messages]}`,
    `{"input": {"messages": [messages]}}` (OpenAI's), or a pair of transcripts (HH-RLHF's) or of conversations (TRL's).
    """
    record = load(line)
    if isinstance(record, str):
        return _asked([_user(record)])
    if not isinstance(record, dict):
        raise SetAside("neither a text nor a JSON object")
    if isinstance(record.get("prompt"), str):
        return _asked([_user(record["prompt"])])
    if isinstance(record.get("input"), dict):
        return _asked(check_messages(record["input"].get("messages"), "input.messages"))
    for name in ("messages", "prompt"):
        if name in record:
            return _asked(check_messages(record[name], name))
    if "chosen" in record:
        return _asked(pair_without_prompt(record)(line).messages)
    raise SetAside("there is no prompt: it has none of `prompt`, `messages`, `input` and `chosen`")


def pair_without_prompt(record: dict[str, Any]) -> Callable[[bytes], Preference]:
    """What parses a pair that has no `prompt`: HH-RLHF's are transcripts, TRL's lists of messages."""
    return trl.parse if isinstance(record["chosen"], list) else hh.parse


def _asked(messages: list[Message]) -> list[Message]:
    if messages[-1]["role"] != "user":
        raise SetAside("the last message is not a user's")
    if not messages[-1]["content"].strip():
        raise SetAside("the last message is empty")
    return messages


def _user(text: str) -> Message:
    return {"role": "user", "content": text}
