"""The prompts that PPO practises on, and which of them each step draws."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from learner.errors import TrainingDataInvalid
from learner.policy import Message, Policy
from learner.schedule import random_order

HELPFUL, HARMLESS = "helpful", "harmless"


@dataclass(frozen=True)
class TrainingPrompt:
    """A conversation that wants a reply, and the objective under which it was collected."""

    messages: Sequence[Message]
    objective: str


def drawn_harmless(count: int, share: float, harmless: bool, others: bool) -> int:
    """How many of a step's `count` prompts are of the kind `harmless`: the wanted share, where there are both kinds."""
    return round(count * (share if harmless and others else float(harmless)))


class PromptPool:
    """Encoded prompts in two kinds: collected under `harmless`, and all others.

    What a step draws depends on the seed and the step alone: each kind is gone through in a new random order every
    time it has been used up.
    """

    def __init__(
        self,
        prompts: Sequence[TrainingPrompt],
        policy: Policy,
        *,
        harmless_share: float,
        max_tokens: int,
        seed: int,
    ) -> None:
        encoded = [(one.objective == HARMLESS, policy.encode_chat(one.messages)[-max_tokens:]) for one in prompts]
        self._harmless = [tokens for harmless, tokens in encoded if harmless]
        self._others = [tokens for harmless, tokens in encoded if not harmless]
        if not encoded:
            raise TrainingDataInvalid("no prompt to train the policy on")
        self._share = harmless_share
        self._seed = seed

    def draw(self, step: int, count: int) -> list[list[int]]:
        """The `count` prompts of a step, as token ids. All steps of a run ask for the same `count`."""
        harmless = self.harmless_among(count)
        return [
            *self._take(self._harmless, step, harmless, 1),
            *self._take(self._others, step, count - harmless, 0),
        ]

    def harmless_among(self, count: int) -> int:
        """How many of a step's `count` prompts were collected under `harmless`: the first ones."""
        return drawn_harmless(count, self._share, bool(self._harmless), bool(self._others))

    def fingerprint(self) -> str:
        """What the prompts are known by, in their order."""
        return hashlib.sha256(repr((self._harmless, self._others)).encode()).hexdigest()

    def _take(self, pool: list[list[int]], step: int, count: int, kind: int) -> list[list[int]]:
        taken = []
        for position in range(step * count, (step + 1) * count):
            turn, place = divmod(position, len(pool))
            order = random_order(len(pool), (self._seed * 2 + kind) * 1_000_003 + turn)
            taken.append(pool[order[place]])
        return taken
