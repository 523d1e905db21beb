"""Ranked pairs from which a preference model learns before it sees votes: the paper's preference model pre-training.

Pairs come from a file of public ranked text, or from the record: rewritten replies, and pairs that were imported. None
of a prompt whose votes are held out is among them. (Bai et al. 2022, section 2.4.)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from feedback.examples import Example, split_of
from feedback.formats import Preference, SetAside, named
from feedback.importing import lines
from feedback.learning_settings import PretrainingSettings
from feedback.settings import FeedbackSettings
from learner.comparisons import VotedComparison

RANKED = "ranked"


@dataclass
class RankedPairs:
    """Pairs to learn from and to measure on; how many records of the file could not be taken, and how many pairs stand
    on prompts that are held out."""

    train: list[VotedComparison] = field(default_factory=list)
    held_out: list[VotedComparison] = field(default_factory=list)
    set_aside: int = 0
    left_out: int = 0


def ranked_pairs(settings: PretrainingSettings, examples: Iterable[Example], feedback: FeedbackSettings) -> RankedPairs:
    """What the settings ask for. `examples` are the votes that the model learns from after this. Raises InvalidRequest
    for a file that cannot be read."""
    pairs = RankedPairs()
    pairs.train += [
        _of_example(one)
        for one in examples
        if _source(one) in settings.from_record and all(reply.strip() for reply in one.replies)
    ]
    if settings.file is not None:
        _read(pairs, settings.file, settings, feedback)
    return pairs


def _source(example: Example) -> str | None:
    if example.kind == "rewrite":
        return "rewrites"
    return "imported" if example.versions == (None, None) else None


def _of_example(example: Example) -> VotedComparison:
    return VotedComparison(
        example.messages, example.replies, RANKED, example.label, example.weight, ended=example.ended
    )


def _read(pairs: RankedPairs, path: Path, settings: PretrainingSettings, feedback: FeedbackSettings) -> None:
    parse = named(settings.format).parse
    for number, line in lines(path):
        try:
            preference = parse(line)
        except SetAside:
            pairs.set_aside += 1
            continue
        if split_of(preference.messages, feedback) != "train":
            pairs.left_out += 1
            continue
        kept = pairs.held_out if number % settings.heldout_one_in == 0 else pairs.train
        kept.append(_of_preference(preference, number, settings.label))


def _of_preference(preference: Preference, number: int, label: float) -> VotedComparison:
    replies: Sequence[str] = (preference.chosen["content"], preference.rejected["content"])
    if number % 2:
        return VotedComparison(preference.messages, (replies[1], replies[0]), RANKED, 1 - label)
    return VotedComparison(preference.messages, (replies[0], replies[1]), RANKED, label)
