"""TRL's preference formats: `{"prompt": [messages], "chosen": [message], "rejected": [message]}`, which is
what is written; a text in place of each; or no `prompt`, and the conversation before either reply.
"""

import json
from typing import Any

from feedback.formats import Preference, SetAside, check_messages, check_reply, load_object


def parse(line: bytes) -> Preference:
    """Raises SetAside."""
    record = load_object(line)
    prompt, chosen, rejected = (record.get(name) for name in ("prompt", "chosen", "rejected"))
    if "prompt" not in record and isinstance(chosen, list) and isinstance(rejected, list):
        if chosen[:-1] != rejected[:-1]:
            raise SetAside("chosen and rejected are not replies to the same conversation")
        prompt, chosen, rejected = chosen[:-1], chosen[-1:], rejected[-1:]
    return Preference(
        check_messages(_said_by("user", prompt), "prompt"),
        check_reply(_said_by("assistant", chosen), "chosen"),
        check_reply(_said_by("assistant", rejected), "rejected"),
    )


def _said_by(role: str, said: Any) -> Any:
    return [{"role": role, "content": said}] if isinstance(said, str) else said


def render(preference: Preference) -> bytes:
    """One line, without its line break."""
    record = {
        "prompt": preference.messages,
        "chosen": [preference.chosen],
        "rejected": [preference.rejected],
    }
    return json.dumps(record, ensure_ascii=False).encode()
