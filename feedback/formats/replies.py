"""Replies to be scored, a conversation a line: `{"prompt": ..., "replies": ["...", ...], "ended"?: [true, ...]}`, with
`messages` for `prompt` or not, or a preference pair of any format."""

from dataclasses import dataclass
from typing import Any

from feedback.formats import Message, SetAside, load_object, openai, prompts, trl
from feedback.messages import text_of


@dataclass(frozen=True)
class Replies:
    """Replies to a conversation: those of a pair are the chosen and the rejected one. `ended` is None where all did."""

    messages: list[Message]
    texts: list[str]
    ended: list[bool] | None = None
    is_pair: bool = False


def parse(line: bytes) -> Replies:
    """Raises SetAside."""
    record = load_object(line)
    if "replies" in record:
        return _listed(prompts.parse_json(line), record["replies"], record.get("ended"))
    # Each by a field that those before it do not have.
    if "preferred_output" in record:
        pair = openai.parse(line)
    elif "prompt" in record:
        pair = trl.parse(line)
    elif "chosen" in record:
        pair = prompts.pair_without_prompt(record)(line)
    else:
        raise SetAside("it has neither `replies` nor a preference pair")
    return Replies(pair.messages, [text_of(pair.chosen), text_of(pair.rejected)], is_pair=True)


def _listed(messages: list[Message], texts: Any, ended: Any) -> Replies:
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise SetAside("`replies` is not a list of texts")
    if ended is not None and (not isinstance(ended, list) or [type(one) for one in ended] != [bool] * len(texts)):
        raise SetAside("`ended` does not say true or false of each reply")
    return Replies(messages, texts, ended)
