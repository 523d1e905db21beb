"""Messages of a conversation, as chats and votes have them."""

from collections.abc import Mapping, Sequence
from typing import Any


def instructs(message: Mapping[str, Any]) -> bool:
    """It tells the assistant how to go about the conversation, and is no turn of it."""
    return message["role"] in ("system", "developer")


def turns(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A conversation without what instructs the assistant."""
    return [message for message in messages if not instructs(message)]


def text_of(message: Mapping[str, Any]) -> str:
    """What a message says: its text, its parts of text a line each, or nothing."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part[part["type"]] for part in content)
