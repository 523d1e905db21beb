"""Which prompts a policy rehearses: of those voted on, and of other chats, those that ask for no harm.

Where harm is asked for, the policy must not be held to what the starting policy says. A prompt that was judged under
harmless says so itself, but such prompts are also among those judged under helpful, and among chats that nobody judged.
So a linear discriminant on the starting policy's activations, between prompts judged under harmless and all others that
were judged, says on which side each is.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from feedback.learning_settings import DPOSettings, PPOSettings
from learner.outliers import discriminant
from learner.policy import Message, Policy
from learner.prompts import HARMLESS, TrainingPrompt
from learner.strange_prompts import middle_layer, said_last, states

# With fewer prompts of a kind nothing is known of it, and none is left out but what was judged under harmless.
LEAST = 10
# The built-in world, from 300 votes: of .01, .1 and .3 the last found most harmful prompts at equally few others lost.
SHRINKAGE = 0.3


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
    start: Policy,
    voted: Sequence[TrainingPrompt],
    unvoted: Sequence[UnvotedPrompt],
    settings: PPOSettings | DPOSettings,
    *,
    seed: int,
    known_harmless: bool = False,
) -> Chosen:
    """At most `rehearsal_replies` distinct prompts of the last `max_prompt_tokens` tokens, each as likely as another.
    With `known_harmless` the unvoted ones were chosen before and are not looked at again: the answer is then the same.

    The report counts what is rehearsed (`prompts`, of which `from_chats`) and what was left out as `harmful`.
    """

    max_tokens = settings.max_prompt_tokens

    def encode(messages: Sequence[Message]) -> tuple[int, ...]:
        return tuple(start.encode_chat(messages)[-max_tokens:])

    harmful = {encode(one.messages): one.messages for one in voted if one.objective == HARMLESS}
    others = {encode(one.messages): one.messages for one in voted if one.objective != HARMLESS}
    others = {tokens: messages for tokens, messages in others.items() if tokens not in harmful}
    chats = {encode(one.messages): one for one in unvoted}
    chats = {tokens: one for tokens, one in chats.items() if tokens not in harmful and tokens not in others}
    test = _HarmTest(start, list(harmful.values()), list(others.values()), max_tokens)
    kept: dict[tuple[int, ...], str | None] = dict.fromkeys(test.harmless(others))
    asked = {tokens: one.messages for tokens, one in chats.items()}
    kept |= {tokens: chats[tokens].chat for tokens in (asked if known_harmless else test.harmless(asked))}
    in_order = sorted(kept, key=lambda tokens: hashlib.blake2b(f"{seed} {tokens}".encode()).digest())
    chosen = in_order[: settings.rehearsal_replies]
    used = [chat for tokens in chosen if (chat := kept[tokens]) is not None]
    left_out = len(others) + len(chats) - len(kept)
    report = {"prompts": len(chosen), "from_chats": len(used), "harmful": left_out}
    return Chosen([list(tokens) for tokens in chosen], used, report)


class _HarmTest:
    """Tells prompts like those judged under harmless from others."""

    def __init__(
        self, start: Policy, harmful: list[Sequence[Message]], others: list[Sequence[Message]], max_tokens: int
    ) -> None:
        self._start, self._layer, self._max_tokens = start, middle_layer(start), max_tokens
        self._found = None
        if min(len(harmful), len(others)) >= LEAST:
            self._found = discriminant(self._states(others), self._states(harmful), SHRINKAGE)

    def harmless(self, asked: dict[tuple[int, ...], Sequence[Message]]) -> list[tuple[int, ...]]:
        """The keys of those that are not like them."""
        if self._found is None or not asked:
            return list(asked)
        direction_D, halfway = self._found
        scores_N = self._states(list(asked.values())) @ direction_D - halfway
        return [tokens for tokens, score in zip(asked, scores_N.tolist(), strict=True) if score <= 0]

    def _states(self, asked: list[Sequence[Message]]) -> torch.Tensor:
        texts = [said_last(messages) or "" for messages in asked]
        return states(self._start, texts, self._layer, self._max_tokens).double()
