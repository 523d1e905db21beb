"""Frozen datasets: the counted votes as JSON lines, named by the SHA-256 of their content.

The same votes give the same bytes, whenever and wherever they are frozen: lines are ordered by vote id, keys are
sorted, and a prompt's split depends on the prompt alone, so all votes on one prompt stand on the same side and stay
there.

A line is one comparison under one objective:
`label` is the probability that `replies[0]` is preferred to `replies[1]`, `weight` the vote's weight in the loss.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy.orm import Session

from feedback.settings import FeedbackSettings
from feedback.store import datasets

LINES = "votes.jsonl"
SUMMARY = "summary.json"
SPLITS = ("train", "watch", "heldout")


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Frozen:
    """A dataset on disk. `votes` are (vote id, revision, split)."""

    digest: str
    folder: Path
    summary: dict[str, Any]
    votes: list[tuple[str, int, str]]


def freeze(session: Session, folder: Path, settings: FeedbackSettings) -> Frozen:
    """Write the dataset of all counted votes below `folder`, in a folder named by its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    hasher, counts = hashlib.sha256(), Counter[str]()
    votes: dict[str, tuple[str, int, str]] = {}
    unfinished = folder / f".{os.getpid()}.unfinished"
    with unfinished.open("wb") as file:
        for example in examples(datasets.counted(session), settings):
            line = orjson.dumps(example, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
            hasher.update(line)
            file.write(line)
            votes[example.vote] = (example.vote, example.revision, example.split)
            counts.update(
                (
                    example.split,
                    f"{example.split}.{example.objective}",
                    f"tranche.{example.tranche}",
                )
            )
        file.flush()
        os.fsync(file.fileno())
    digest = hasher.hexdigest()
    target = folder / digest
    target.mkdir(exist_ok=True)
    unfinished.replace(target / LINES)
    summary = {
        "digest": digest,
        "examples": sum(counts[split] for split in SPLITS),
        "counts": dict(sorted(counts.items())),
    }
    (target / SUMMARY).write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    return Frozen(digest, target, summary, list(votes.values()))


def read(folder: Path, split: str | None = None) -> Iterator[Example]:
    """The examples of a frozen dataset, of one split or of all."""
    with (folder / LINES).open("rb") as file:
        for line in file:
            fields = orjson.loads(line)
            if split is None or fields["split"] == split:
                fields["replies"], fields["versions"] = (
                    tuple(fields["replies"]),
                    tuple(fields["versions"]),
                )
                yield Example(**fields)


def examples(counted: Iterable[datasets.Counted], settings: FeedbackSettings) -> Iterator[Example]:
    """What the votes say, as examples. A rewritten reply says a second thing: rewritten > original."""
    for vote in counted:
        label = soft_label(vote.preferred, vote.strength, settings)
        if label is not None:
            yield _example(vote, "vote", vote.replies, _names(vote.versions), label, settings)
        if vote.ideal is not None:
            original = int(vote.preferred) if vote.preferred in ("0", "1") else 0
            versions = (None, _names(vote.versions)[original])
            yield _example(
                vote,
                "rewrite",
                (vote.ideal, vote.replies[original]),
                versions,
                settings.rewrite_label,
                settings,
            )


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


def split_of(prompt_digest: str, settings: FeedbackSettings) -> str:
    """The split of a prompt, drawn from its digest: a uniform number in [0, 1) against the shares."""
    drawn = int.from_bytes(hashlib.sha256(f"split:{prompt_digest}".encode()).digest()[:8], "big") / 2**64
    if drawn < settings.heldout_share:
        return "heldout"
    return "watch" if drawn < settings.heldout_share + settings.watch_share else "train"


def _example(
    vote: datasets.Counted,
    kind: str,
    replies: tuple[str, str],
    versions: tuple[str | None, str | None],
    label: float,
    settings: FeedbackSettings,
) -> Example:
    return Example(
        vote=vote.vote_id,
        revision=vote.revision,
        kind=kind,
        comparison=vote.comparison_id,
        rater=vote.rater_id,
        objective=vote.objective,
        split=split_of(vote.prompt_digest, settings),
        tranche=vote.tranche,
        messages=vote.messages,
        replies=replies,
        versions=versions,
        label=label,
        weight=1.0,
    )


def _names(versions: tuple[int | None, int | None]) -> tuple[str | None, str | None]:
    first, second = (None if version is None else f"v{version}" for version in versions)
    return first, second
