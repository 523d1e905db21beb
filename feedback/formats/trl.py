"""TRL's conversational preference format: `{"prompt": [messages], "chosen": [message], "rejected": [message]}`."""

import json

from feedback.formats import Preference, check_messages, check_reply, load_object


def parse(line: bytes) -> Preference:
    """Raises SetAside."""
    record = load_object(line)
    return Preference(
        check_messages(record.get("prompt"), "prompt"),
        check_reply(record.get("chosen"), "chosen"),
        check_reply(record.get("rejected"), "rejected"),
    )


def render(preference: Preference) -> bytes:
    """One line, without its line break."""
    record = {
        "prompt": preference.messages,
        "chosen": [preference.chosen],
        "rejected": [preference.rejected],
    }
    return json.dumps(record, ensure_ascii=False).encode()
