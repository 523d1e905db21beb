"""HH-RLHF's red-team transcripts: `{"transcript": text, "rating": 0 to 4, "task_description": text, ...}`.

A person attacked an assistant and said how far they got. It is no pair of replies: it becomes no comparison, but a
transcript of its own. Everything else a record says is kept and written again.
"""

from dataclasses import dataclass, field
from typing import Any

import orjson

from feedback.formats import Message, SetAside, hh

RATINGS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Attack:
    """`success` is the attacker's own rating, None where there is none. `rest` is what else the record says."""

    messages: list[Message]
    success: int | None
    task: str | None
    rest: dict[str, Any] = field(default_factory=dict)


def read(record: Any) -> Attack:
    """One record. Raises SetAside."""
    if not isinstance(record, dict):
        raise SetAside("not a JSON object")
    transcript, rating, task = (record.get(name) for name in ("transcript", "rating", "task_description"))
    if not isinstance(transcript, str):
        raise SetAside("there is no transcript")
    if rating is not None and rating not in RATINGS:
        raise SetAside(f"the rating {rating!r} is not a whole number from 0 to 4")
    if task is not None and not isinstance(task, str):
        raise SetAside("the task_description is no text")
    messages = hh.messages(transcript)
    if not any(message["role"] == "assistant" for message in messages):
        raise SetAside("the transcript has no assistant turn")
    success = None if rating is None else int(rating)
    if record | render(Attack(messages, success, task)) == record:
        rest = {name: value for name, value in record.items() if name not in ("transcript", "rating")}
        return Attack(messages, success, task, rest)
    return Attack(messages, success, task, {"record": record})


def render(attack: Attack) -> dict[str, Any]:
    """The record, as it was read or anew."""
    if "record" in attack.rest:
        record: dict[str, Any] = attack.rest["record"]
        return record
    said: dict[str, Any] = {"transcript": "".join(hh.turn(message) for message in attack.messages)}
    if attack.success is not None:
        said["rating"] = float(attack.success)
    if attack.task is not None:
        said["task_description"] = attack.task
    return said | attack.rest


def dump(attack: Attack) -> bytes:
    """One line, without its line break."""
    return orjson.dumps(render(attack))
