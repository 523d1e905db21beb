"""What the stages take out of a frozen dataset: comparisons, prompts to practise on and prompts to measure on."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from feedback import datasets
from feedback.examples import Example
from feedback.store.samples import prompt_digest
from learner.comparisons import Agreement, VotedComparison
from learner.evaluation import HeldOutPrompt
from learner.harmful_prompts import VotedPrompt, voted_prompts
from learner.prompts import HARMLESS, HELPFUL, TrainingPrompt


@dataclass(frozen=True)
class Votes:
    """A frozen dataset, as the stages take from it. `harmful` are digests of prompts: those that ask for harm of such
    as were judged by as many raters under harmless as under others. `nobody` is the rater of imported votes."""

    dataset: Path
    harmful: Collection[str] = frozenset()
    nobody: str | None = None

    def comparisons(self, split: str) -> list[VotedComparison]:
        """The examples of a split as the preference model learns them."""
        examples = list(datasets.read(self.dataset, split))
        agreement = agreements(examples)
        return [
            VotedComparison(
                messages=example.messages,
                replies=example.replies,
                objective=example.objective,
                label=example.label,
                weight=example.weight,
                tranche=example.tranche,
                agreement=agreement[example.comparison, example.objective],
                ended=example.ended,
            )
            for example in examples
            if all(reply.strip() for reply in example.replies)
        ]

    def voted(self, split: str) -> list[VotedPrompt]:
        """The distinct conversations of a split."""
        return self._distinct(datasets.read(self.dataset, split))

    def prompts(self, split: str) -> list[TrainingPrompt]:
        """The distinct conversations of a split, under harmless those that ask for harm."""
        return [
            TrainingPrompt(one.messages, HARMLESS if self._asks_harm(one) else HELPFUL) for one in self.voted(split)
        ]

    def held_out_prompts(self) -> list[HeldOutPrompt]:
        """The distinct held-out conversations."""
        examples = list(datasets.read(self.dataset, "heldout"))
        votes: dict[str, str] = {}
        for example in examples:
            votes.setdefault(prompt_digest(example.messages), example.vote)
        return [
            HeldOutPrompt(one.messages, self._asks_harm(one), vote=votes[one.digest])
            for one in self._distinct(examples)
        ]

    def _distinct(self, examples: Iterable[Example]) -> list[VotedPrompt]:
        # One rater, who may vote on many pairs of a prompt, says once what it is judged under. Imported votes are of as
        # many raters as there are.
        said = {
            (prompt_digest(one.messages), one.objective, one.vote if one.rater == self.nobody else one.rater): one
            for one in examples
        }
        return voted_prompts((one.messages, one.objective) for one in said.values())

    def _asks_harm(self, one: VotedPrompt) -> bool:
        return one.digest in self.harmful if one.undecided else one.under_harmless > one.under_others


def agreements(examples: Iterable[Example]) -> dict[tuple[str, str], Agreement]:
    """How far the raters of each comparison were of one mind, by comparison and objective."""
    said: dict[tuple[str, str], list[int]] = {}
    for example in examples:
        sides = said.setdefault((example.comparison, example.objective), [])
        if example.kind == "vote":
            sides.append((example.label > 0.5) - (example.label < 0.5))
    return {
        asked: "one vote" if len(sides) < 2 else "unanimous" if len(set(sides)) == 1 else "divided"
        for asked, sides in said.items()
    }
