"""HH-RLHF: `{"chosen": transcript, "rejected": transcript}`; turns open with `\\n\\nHuman:` or `\\n\\nAssistant:`.

The reply is what follows the last `\\n\\nAssistant:`. (Cutting at the longest common prefix of the two transcripts runs
into the reply in a fifth of the published pairs, because replies often begin alike.)
"""

import json
import re

from feedback.formats import Message, Preference, SetAside, load_object
from feedback.messages import instructs, text_of

OPENING = re.compile(r"\n\n(Human|Assistant):")
ROLE = {"Human": "user", "Assistant": "assistant"}
LAST_OPENING = "\n\nAssistant:"
SPEAKER = {"user": "Human", "assistant": "Assistant"}


def parse(line: bytes) -> Preference:
    """Raises SetAside: differing contexts, an empty reply, no turns."""
    record = load_object(line)
    transcripts = []
    for side in ("chosen", "rejected"):
        if not isinstance(record.get(side), str):
            raise SetAside(f"there is no transcript {side!r}")
        transcripts.append(record[side])
    (context, chosen), (other_context, rejected) = (_split(transcript) for transcript in transcripts)
    if context != other_context:
        raise SetAside("chosen and rejected answer different conversations")
    for side, reply in (("chosen", chosen), ("rejected", rejected)):
        if not reply.strip():
            raise SetAside(f"the {side} reply is empty")
    preference = Preference(messages(context), _reply(chosen), _reply(rejected))
    if render(preference) == line.rstrip(b"\r\n"):
        return preference
    return Preference(preference.messages, preference.chosen, preference.rejected, {"line": line.decode()})


def render(preference: Preference) -> bytes:
    """One line, without its line break. Raises SetAside for what a transcript cannot say, such as a system message."""
    if "line" in preference.origin:
        return str(preference.origin["line"]).rstrip("\r\n").encode()
    context = "".join(turn(message) for message in preference.messages)
    record = {
        "chosen": context + _last_turn(preference.chosen),
        "rejected": context + _last_turn(preference.rejected),
    }
    return json.dumps(record, ensure_ascii=False).encode()


def _last_turn(reply: Message) -> str:
    # Whatever follows the last opening of the assistant is the reply.
    text = _text(reply)
    if LAST_OPENING in text:
        raise SetAside("a reply holds what opens a turn in HH-RLHF")
    return f"{LAST_OPENING} {text}"


def _split(transcript: str) -> tuple[str, str]:
    context, opening, reply = transcript.rpartition(LAST_OPENING)
    if not opening:
        raise SetAside("a transcript has no assistant turn")
    return context, reply


def messages(context: str) -> list[Message]:
    before, *turns = OPENING.split(context)
    if before or not turns:
        raise SetAside("a transcript does not begin with a turn")
    return [
        {"role": ROLE[speaker], "content": text.removeprefix(" ")}
        for speaker, text in zip(turns[::2], turns[1::2], strict=True)
    ]


def _reply(text: str) -> Message:
    return {"role": "assistant", "content": text.removeprefix(" ")}


def turn(message: Message) -> str:
    """Raises SetAside for what would be read as something else."""
    if message["role"] not in SPEAKER:
        how = "; --without-system leaves it out" if instructs(message) else ""
        raise SetAside(f"HH-RLHF has no turn of the role {message['role']!r}{how}")
    text = _text(message)
    if OPENING.search(text):
        raise SetAside("a message holds what opens a turn in HH-RLHF")
    return f"\n\n{SPEAKER[message['role']]}: {text}"


def _text(message: Message) -> str:
    content = message.get("content")
    if not isinstance(content, list) and (not isinstance(content, str) or message.get("tool_calls")):
        raise SetAside("HH-RLHF has no turn without text, or with a call of a tool")
    return text_of(message)
