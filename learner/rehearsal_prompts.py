"""Which prompts a policy rehearses: of those voted on, and of other chats, those that ask for no harm."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from learner.harmful_prompts import HarmTest, Tokens
from learner.policy import Message
from learner.prompts import HARMLESS, TrainingPrompt


@dataclass(frozen=True)
class UnvotedPrompt:
    """A conversation that nobody voted on, and what its chat is known by."""

    chat: str
    messages: Sequence[Message]


@dataclass(frozen=True)
class Chosen:
    """The prompts to rehearse, as token ids, which chats some of them are from, and how many of each there were."""

    prompts: list[list[int]]
    chats: list[str]
    report: dict[str, Any]


def choose(
    test: HarmTest,
    voted: Sequence[TrainingPrompt],
    unvoted: Sequence[UnvotedPrompt],
    count: int,
    *,
    seed: int,
    known_harmless: bool = False,
) -> Chosen:
    """At most `count` distinct prompts, each as likely as another. With `known_harmless` the unvoted ones were chosen
    before and are not looked at again: the answer is then the same.

    The report counts what is rehearsed (`prompts`, of which `from_chats`) and what was left out as `harmful`, and says
    what that was `told_by` (see `HarmTest`).
    """
    encoded = [(test.encode(one.messages), one) for one in voted]
    harmful = {tokens for tokens, one in encoded if one.objective == HARMLESS}
    others = {tokens: one.messages for tokens, one in encoded if tokens not in harmful}
    chats = {test.encode(one.messages): one for one in unvoted}
    chats = {tokens: one for tokens, one in chats.items() if tokens not in harmful and tokens not in others}
    asked = {tokens: one.messages for tokens, one in chats.items()}
    kept: dict[Tokens, str | None] = dict.fromkeys(test.harmless(others))
    kept |= {tokens: chats[tokens].chat for tokens in (asked if known_harmless else test.harmless_chats(asked))}
    in_order = sorted(kept, key=lambda tokens: hashlib.blake2b(f"{seed} {tokens}".encode()).digest())
    chosen = in_order[:count]
    used = [chat for tokens in chosen if (chat := kept[tokens]) is not None]
    report = {
        "prompts": len(chosen),
        "from_chats": len(used),
        "harmful": len(others) + len(chats) - len(kept),
        "told_by": test.told_by,
    }
    return Chosen([list(tokens) for tokens in chosen], used, report)
