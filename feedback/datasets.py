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
from feedback.store import datasets, now

LINES = "votes.jsonl"
SUMMARY = "summary.json"
SPLITS = ("train", "watch", "heldout")
ORDINARY_RELIABILITY = 0.75


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
    """A dataset on disk."""

    digest: str
    folder: Path
    summary: dict[str, Any]

    def votes(self) -> Iterator[tuple[str, int, str]]:
        """Each vote in it once, by id: (vote id, revision, split). Read back from the file, since a million of them
        held in memory are looked at by every round of Python's garbage collection."""
        last = None
        for example in read(self.folder):
            if example.vote != last:
                last = example.vote
                yield example.vote, example.revision, example.split


def freeze(session: Session, folder: Path, settings: FeedbackSettings, *, since: float | None = None) -> Frozen:
    """Write the dataset of the counted votes below `folder`, in a folder named by its digest.

    Of votes counted by `since`, which is when the last successful iteration froze its own, it holds `old_votes` at
    most; the summary says which time that was, so that the very same dataset can be made again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frozen_at = now(session)
    drawn = _draw(session, settings.old_votes, since)
    ids = None if drawn is None else drawn.ids
    hasher, counts = hashlib.sha256(), Counter[str]()
    unfinished = folder / f".{os.getpid()}.unfinished"
    with unfinished.open("wb") as file:
        caps = Caps.of(datasets.influence(session, settings.prompt_votes, ids), settings)
        for example in examples(datasets.counted(session, ids), settings, caps):
            line = orjson.dumps(example, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
            hasher.update(line)
            file.write(line)
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
        "frozen_at": frozen_at,
    }
    if drawn is not None:
        summary["old_votes"] = {"since": drawn.since, "counted": drawn.old, "drawn": drawn.kept}
    (target / SUMMARY).write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    return Frozen(digest, target, summary)


def _draw(session: Session, old_votes: int | None, since: float | None) -> datasets.Drawn | None:
    """The votes to learn from, where not all of them are."""
    if old_votes is None:
        return None
    since = datasets.learnt_until(session) if since is None else since
    return None if since is None else datasets.draw(session, old_votes, since)


def forget(folder: Path, votes: set[str]) -> int:
    """Take the lines of these votes out of a frozen dataset. Returns how many.

    What the digest names is no longer there as a whole then: the summary says how many lines were erased.
    """
    kept: list[bytes] = []
    erased = 0
    with (folder / LINES).open("rb") as file:
        for line in file:
            if orjson.loads(line)["vote"] in votes:
                erased += 1
            else:
                kept.append(line)
    if erased:
        summary = orjson.loads((folder / SUMMARY).read_bytes())
        summary["erased"] = summary.get("erased", 0) + erased
        # The summary first: were this process killed in between, it would say too much rather than too little.
        _replace(folder / SUMMARY, orjson.dumps(summary, option=orjson.OPT_INDENT_2))
        _replace(folder / LINES, b"".join(kept))
    return erased


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


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


@dataclass(frozen=True)
class Caps:
    """The weight of a vote by each rater, and on each prompt, whose votes would weigh too much; others weigh 1."""

    by_rater: dict[str, float]
    by_prompt: dict[str, float]

    @classmethod
    def of(cls, influence: datasets.Influence, settings: FeedbackSettings) -> "Caps":
        """A rater may weigh `rater_share` of all votes, where raters are few twice the average; a prompt
        `prompt_votes`."""
        share = max(settings.rater_share, 2 / max(1, len(influence.by_rater)))
        most = share * sum(influence.by_rater.values())
        return cls(
            {rater: most / votes for rater, votes in influence.by_rater.items() if votes > most},
            {prompt: settings.prompt_votes / votes for prompt, votes in influence.by_prompt.items()},
        )

    def weight(self, vote: datasets.Counted) -> float:
        return self.by_rater.get(vote.rater_id, 1.0) * self.by_prompt.get(vote.prompt_digest, 1.0)


NO_CAPS = Caps({}, {})


def examples(
    counted: Iterable[datasets.Counted], settings: FeedbackSettings, caps: Caps = NO_CAPS
) -> Iterator[Example]:
    """What the votes say, as examples. A rewritten reply says a second thing: rewritten > original."""
    for vote in counted:
        weight = round(caps.weight(vote), 6)
        label = soft_label(vote.preferred, vote.strength, settings)
        if label is not None:
            label = less_sure(label, vote.reliability, settings)
            yield _example(vote, "vote", vote.replies, _names(vote.versions), label, weight, settings)
        if vote.ideal is not None:
            original = int(vote.preferred) if vote.preferred in ("0", "1") else 0
            versions = (None, _names(vote.versions)[original])
            yield _example(
                vote,
                "rewrite",
                (vote.ideal, vote.replies[original]),
                versions,
                less_sure(settings.rewrite_label, vote.reliability, settings),
                weight,
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


def less_sure(label: float, reliability: float | None, settings: FeedbackSettings) -> float:
    """The label, moved toward one half for a rater who is less often right than the ordinary one.

    A vote that is right with probability r tells (2 r - 1) of what a certain one would; the labels of strengths are
    meant for ordinary raters, so they shrink by that over its value for an ordinary rater, and never grow.
    """
    if reliability is None or not settings.weigh_by_reliability:
        return label
    told = (2 * reliability - 1) / (2 * ORDINARY_RELIABILITY - 1)
    return round(0.5 + (label - 0.5) * min(1.0, max(0.0, told)), 6)


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
    weight: float,
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
        weight=weight,
    )


def _names(versions: tuple[int | None, int | None]) -> tuple[str | None, str | None]:
    first, second = (None if version is None else f"v{version}" for version in versions)
    return first, second
