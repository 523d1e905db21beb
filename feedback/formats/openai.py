"""OpenAI's preference fine-tuning format:
`{"input": {"messages": [...]}, "preferred_output": [message], "non_preferred_output": [message]}`.
"""

import json

from feedback.formats import Preference, SetAside, check_messages, check_reply, load_object


def parse(line: bytes) -> Preference:
    """Raises SetAside."""
    record = load_object(line)
    given = record.get("input")
    if not isinstance(given, dict):
        raise SetAside("there is no input")
    rest = {name: value for name, value in given.items() if name != "messages"}
    return Preference(
        check_messages(given.get("messages"), "input.messages"),
        check_reply(record.get("preferred_output"), "preferred_output"),
        check_reply(record.get("non_preferred_output"), "non_preferred_output"),
        {"input": rest} if rest else {},
    )


def render(preference: Preference) -> bytes:
    """One line, without its line break."""
    record = {
        "input": {"messages": preference.messages, **preference.origin.get("input", {})},
        "preferred_output": [preference.chosen],
        "non_preferred_output": [preference.rejected],
    }
    return json.dumps(record, ensure_ascii=False).encode()
