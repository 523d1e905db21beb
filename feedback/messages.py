"""Messages of a conversation, as chats and votes have them."""

from collections.abc import Mapping
from typing import Any


def text_of(message: Mapping[str, Any]) -> str:
    """What a message says: its text, its parts of text a line each, or nothing."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part[part["type"]] for part in content)
