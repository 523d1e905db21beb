"""What the stages take out of a frozen dataset: comparisons, prompts to practise on and prompts to measure on."""

from collections.abc import Collection, Iterable
from pathlib import Path

from feedback import datasets
from feedback.examples import Example
from feedback.store.samples import prompt_digest
from learner.comparisons import Agreement, VotedComparison
from learner.evaluation import HeldOutPrompt
from learner.harmful_prompts import VotedPrompt, voted_prompts
from learner.prompts import HARMLESS, HELPFUL, TrainingPrompt


def comparisons(dataset: Path, split: str) -> list[VotedComparison]:
    """The examples of a split as the preference model learns them."""
    agreement = agreements(datasets.read(dataset, split))
    return [
        VotedComparison(
            messages=example.messages,
            replies=example.replies,
            objective=example.objective,
            label=example.label,
            weight=example.weight,
            tranche=example.tranche,
            agreement=agreement[example.comparison, example.objective],
        )
        for example in datasets.read(dataset, split)
        if all(reply.strip() for reply in example.replies)
    ]


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


def voted(dataset: Path, split: str) -> list[VotedPrompt]:
    """The distinct conversations of a split."""
    return _distinct(datasets.read(dataset, split))


def _distinct(examples: Iterable[Example]) -> list[VotedPrompt]:
    return voted_prompts((example.messages, example.objective) for example in examples)


def prompts(dataset: Path, split: str, harmful: Collection[str] = ()) -> list[TrainingPrompt]:
    """The distinct conversations of a split, each under the objective of most of its votes. Those with as many votes
    under each are under harmless if their digests are among `harmful`."""
    return [
        TrainingPrompt(one.messages, HARMLESS if _asks_harm(one, harmful) else HELPFUL) for one in voted(dataset, split)
    ]


def held_out_prompts(dataset: Path, harmful: Collection[str] = ()) -> list[HeldOutPrompt]:
    """The distinct held-out conversations; which are `harmful` is said as in `prompts`."""
    examples = list(datasets.read(dataset, "heldout"))
    votes: dict[str, str] = {}
    for example in examples:
        votes.setdefault(prompt_digest(example.messages), example.vote)
    return [
        HeldOutPrompt(one.messages, _asks_harm(one, harmful), vote=votes[one.digest]) for one in _distinct(examples)
    ]


def _asks_harm(one: VotedPrompt, harmful: Collection[str]) -> bool:
    return one.digest in harmful if one.undecided else one.under_harmless > one.under_others
