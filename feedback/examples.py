"""What votes say, as examples to learn from: label, weight and split of each."""

import functools
import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from feedback.schema import version_name
from feedback.settings import FeedbackSettings
from feedback.store.datasets import Counted, Learnt
from feedback.store.samples import opening_digest

ORDINARY_RELIABILITY = 0.75


# Not frozen: a million of them take three times as long to make then.
@dataclass(slots=True)
class Example:
    """One line of a dataset."""

    vote: str
    revision: int
    kind: str
    comparison: str
    rater: str
    objective: str
    split: str
    tranche: str
    messages: list[dict[str, Any]]
    replies: tuple[str, str]
    versions: tuple[str | None, str | None]
    label: float
    weight: float

    ended: ClassVar[tuple[bool, bool]] = (True, True)


@dataclass(slots=True)
class CutOffExample(Example):
    """One with a reply that was cut off at a limit of tokens, and so has no end. The line of another one does not say
    that its replies ended."""

    ended: tuple[bool, bool]  # type: ignore[misc]


@dataclass(frozen=True)
class Caps:
    """The weight of a vote on each prompt, and under each objective of a split by each rater, whose votes would weigh
    too much; others weigh 1."""

    by_prompt: Mapping[str, float] = field(default_factory=dict)
    by_rater: Mapping[tuple[str, str, str], float] = field(default_factory=dict)

    def weight(self, vote: Counted, split: str) -> float:
        of_rater = self.by_rater.get((split, vote.objective, vote.rater_id), 1.0)
        return self.by_prompt.get(vote.prompt_digest, 1.0) * of_rater

    def bounding(self, examples: Iterable[Example], rater_share: float, unbounded: str | None) -> "Caps":
        """These and, under each objective of a split, one for each rater who has more than a share of the weight there;
        one of them is `unbounded` and not counted.

        By objective, since few votes under one may teach as much as many under another.
        """
        weights: defaultdict[tuple[str, str], defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        for one in examples:
            if one.rater != unbounded:
                weights[one.split, one.objective][one.rater] += one.weight
        caps: dict[tuple[str, str, str], float] = {}
        for part, by_rater in weights.items():
            caps |= {(*part, rater): cap for rater, cap in bounds(by_rater, rater_share).items()}
        return Caps(self.by_prompt, caps)


NO_CAPS = Caps()


def bounds(weights: Mapping[str, float], rater_share: float) -> dict[str, float]:
    """Of each rater who weighs more than `most_of_one`, what that is of their weight."""
    most = most_of_one(weights.values(), rater_share)
    return {rater: most / weight for rater, weight in weights.items() if weight > most}


def most_of_one(weights: Collection[float], rater_share: float) -> float:
    """What each of the raters who weigh this much is cut to, so that none has more than `rater_share` of what all have
    then, or twice the average where raters are few.

    Where k are cut and the rest weighs R, most = share (k most + R), so most = share R / (1 - share k).
    """
    share = max(rater_share, 2 / max(1, len(weights)))
    rest = sum(weights)
    for cut, weight in enumerate(sorted(weights, reverse=True)):
        most = share * rest / (1 - share * cut)
        if weight <= most:
            return most
        rest -= weight
    return math.inf


def examples(counted: Iterable[Counted], settings: FeedbackSettings, caps: Caps = NO_CAPS) -> Iterator[Example]:
    """What the votes say, as examples."""
    for vote in counted:
        yield from of_vote(vote, learnt(vote, settings, caps))


def learnt(vote: Counted, settings: FeedbackSettings, caps: Caps = NO_CAPS) -> Learnt:
    """What is learnt from a vote. A rewritten reply says a second thing: rewritten > original."""
    label, split = soft_label(vote.preferred, vote.strength, settings), split_of(vote.messages, settings)
    rewritten = says_more(vote.ideal, vote.replies[original_of(vote.preferred)])
    return Learnt(
        vote.vote_id,
        vote.revision,
        split,
        None if label is None else less_sure(label, vote.reliability, settings),
        less_sure(settings.rewrite_label, vote.reliability, settings) if rewritten else None,
        _rounded(caps.weight(vote, split)),
    )


def of_vote(vote: Counted, learnt: Learnt) -> Iterator[Example]:
    """The examples of one vote: none, where it compares nothing, one or two."""
    versions = _name(vote.versions[0]), _name(vote.versions[1])
    if learnt.label is not None:
        yield _example(vote, learnt, "vote", vote.replies, versions, learnt.label, vote.ended)
    if learnt.rewrite_label is not None:
        assert vote.ideal is not None
        original = original_of(vote.preferred)
        replies = (vote.ideal, vote.replies[original])
        ended = True, vote.ended[original]
        yield _example(vote, learnt, "rewrite", replies, (None, versions[original]), learnt.rewrite_label, ended)


def original_of(preferred: str) -> int:
    """Which reply a rater rewrites: the one they prefer."""
    return int(preferred) if preferred in ("0", "1") else 0


def says_more(ideal: str | None, original: str) -> bool:
    """Whether a reply was rewritten: an empty one, or the original once more, says nothing."""
    return bool(ideal and ideal.strip()) and ideal != original


def soft_label(preferred: str, strength: int | None, settings: FeedbackSettings) -> float | None:
    """P(reply 0 preferred), as the vote says it; None for "both bad", which compares nothing.

    A strong judgement is more often right than a slight one, so the strength sets how far the label is from one half.
    """
    if preferred == "tie":
        return 0.5
    if preferred == "both_bad":
        return None
    certainty = settings.unknown_strength_label if strength is None else settings.strength_labels[strength - 1]
    return certainty if preferred == "0" else 1.0 - certainty


def less_sure(label: float, reliability: float | None, settings: FeedbackSettings) -> float:
    """The label, moved toward one half for a rater who is less often right than the ordinary one.

    A vote that is right with probability r tells (2 r - 1) of what a certain one would; the labels of strengths are
    meant for ordinary raters, so they shrink by that over its value for an ordinary rater, and never grow.
    """
    if reliability is None or not settings.weigh_by_reliability:
        return label
    told = (2 * reliability - 1) / (2 * ORDINARY_RELIABILITY - 1)
    return _rounded(0.5 + (label - 0.5) * min(1.0, max(0.0, told)))


def split_of(messages: Sequence[Mapping[str, Any]], settings: FeedbackSettings) -> str:
    """The split of all turns of a conversation, since each of them holds those before it: a uniform number in [0, 1),
    drawn from how the conversation began, against the shares."""
    opening = f"split:{opening_digest(messages)}"
    drawn = int.from_bytes(hashlib.sha256(opening.encode()).digest()[:8], "big") / 2**64
    if drawn < settings.heldout_share:
        return "heldout"
    return "watch" if drawn < settings.heldout_share + settings.watch_share else "train"


def _example(
    vote: Counted,
    learnt: Learnt,
    kind: str,
    replies: tuple[str, str],
    versions: tuple[str | None, str | None],
    label: float,
    ended: tuple[bool, bool],
) -> Example:
    fields = (
        learnt.vote_id,
        learnt.revision,
        kind,
        vote.comparison_id,
        vote.rater_id,
        vote.objective,
        learnt.split,
        vote.tranche,
        vote.messages,
        replies,
        versions,
        label,
        learnt.weight,
    )
    return Example(*fields) if all(ended) else CutOffExample(*fields, ended)


# Rounding takes longer than all else that makes a label, and a million votes have few different ones.
@functools.lru_cache(10_000)
def _rounded(number: float) -> float:
    return round(number, 6)


@functools.cache
def _name(version: int | None) -> str | None:
    return None if version is None else version_name(version)
