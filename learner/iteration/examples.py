"""What the stages take out of a frozen dataset: comparisons, prompts to practise on and prompts to measure on."""

from collections.abc import Iterable
from pathlib import Path

import orjson

from feedback import datasets
from feedback.examples import Example
from learner.comparisons import Agreement, VotedComparison
from learner.evaluation import HeldOutPrompt
from learner.prompts import HARMLESS, TrainingPrompt


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


def prompts(dataset: Path, split: str) -> list[TrainingPrompt]:
    """The distinct conversations of a split, each under the objective of its first vote."""
    distinct: dict[bytes, Example] = {}
    for example in datasets.read(dataset, split):
        distinct.setdefault(orjson.dumps(example.messages), example)
    return [TrainingPrompt(example.messages, example.objective) for example in distinct.values()]


def held_out_prompts(dataset: Path) -> list[HeldOutPrompt]:
    """The distinct held-out conversations; harmful are those with more votes under harmless than under helpful."""
    distinct: dict[bytes, list[Example]] = {}
    for example in datasets.read(dataset, "heldout"):
        distinct.setdefault(orjson.dumps(example.messages), []).append(example)
    return [
        HeldOutPrompt(
            same[0].messages, 2 * sum(one.objective == HARMLESS for one in same) > len(same), vote=same[0].vote
        )
        for same in distinct.values()
    ]
