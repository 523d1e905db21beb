"""Frozen datasets: the counted votes as JSON lines, named by the SHA-256 of their content.

The same votes give the same bytes, whenever and wherever they are frozen: lines are ordered by vote id, keys are
sorted, and a vote's split depends on how its conversation began alone, so all votes on all turns of a conversation
stand on the same side and stay there.

A line is one comparison under one objective:
`label` is the probability that `replies[0]` is preferred to `replies[1]`, `weight` the vote's weight in the loss. Where
a reply was cut off at a limit of tokens, `ended` says of both whether they came to their end.
"""

import hashlib
import itertools
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy.orm import Session

from feedback.errors import Conflict
from feedback.examples import Caps, CutOffExample, Example, bounds, examples, of_vote
from feedback.settings import FeedbackSettings
from feedback.store import Store, datasets, iterations, now, raters
from feedback.store.datasets import Learnt

LINES = "votes.jsonl"
SUMMARY = "summary.json"
SPLITS = ("train", "watch", "heldout")
RECORD_BATCH = 5000
UNFINISHED = ".unfinished"
ABANDONED_AFTER_S = 3600.0


@dataclass(frozen=True)
class Frozen:
    """A dataset on disk."""

    digest: str
    folder: Path
    summary: dict[str, Any]

    def votes(self) -> Iterator[Learnt]:
        """Each vote in it once, by id. Read back from the file, since a million of them held in memory are looked at by
        every round of Python's garbage collection."""
        for vote_id, lines in itertools.groupby(read(self.folder), key=lambda example: example.vote):
            said = {example.kind: example for example in lines}
            one = next(iter(said.values()))
            label, rewrite_label = (said[kind].label if kind in said else None for kind in ("vote", "rewrite"))
            yield Learnt(vote_id, one.revision, one.split, label, rewrite_label, one.weight)


def freeze(session: Session, folder: Path, settings: FeedbackSettings, *, since: float | None = None) -> Frozen:
    """Write the dataset of the counted votes below `folder`, in a folder named by its digest.

    Of votes counted by `since`, which is when the last successful iteration froze its own, it holds `old_votes` at
    most; the summary says which time that was, so that the very same dataset can be made again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in abandoned(folder):
        left.unlink(missing_ok=True)
    frozen_at = now(session)
    nobody = raters.nobody(session)
    drawn = _draw(session, settings, since, nobody)
    ids = None if drawn is None else drawn.ids
    crowded = datasets.crowded(session, settings.prompt_votes, ids)
    caps = Caps({prompt: settings.prompt_votes / votes for prompt, votes in crowded.items()})
    # A rater's share is of what there is to learn from, which is known when all of it was read.
    read_once = examples(datasets.counted(session, ids), settings, caps)
    caps = caps.bounding(read_once, settings.rater_share, nobody)
    digest, counts = _write(folder, examples(datasets.counted(session, ids), settings, caps))
    summary: dict[str, Any] = {
        "digest": digest,
        "examples": sum(counts[split] for split in SPLITS),
        "counts": dict(sorted(counts.items())),
        "frozen_at": frozen_at,
    }
    if drawn is not None:
        summary["old_votes"] = {"since": drawn.since, "counted": drawn.old, "drawn": drawn.kept}
    return _name(folder, digest, summary)


def keep(store: Store, iteration_id: str, epoch: int, frozen: Frozen, home: Path) -> None:
    """Record what the dataset of an iteration is and holds. Raises LeaseLost.

    Some votes at a time: in one transaction a million of them would hold up everybody who votes meanwhile. The
    iteration has a dataset only when all of them are recorded.
    """
    path = frozen.folder.relative_to(home).as_posix()
    store.write(iterations.begin_dataset, iteration_id, epoch, digest=frozen.digest, path=path, summary=frozen.summary)
    votes = frozen.votes()
    while batch := list(itertools.islice(votes, RECORD_BATCH)):
        store.write(iterations.add_to_dataset, iteration_id, epoch, frozen.digest, batch)
    store.write(iterations.freeze, iteration_id, epoch, frozen.digest)


def find(store: Store, home: Path, digest: str) -> Path:
    """The folder of a recorded dataset. Where its file is not here, it is written again from the record: the same
    bytes, but for what was erased since.

    Raises NotFound, and Conflict where the record does not hold what is needed.
    """
    known = store.read(datasets.get, digest)
    folder = home / known.path
    if not (folder / LINES).exists():
        store.read(_write_again, folder.parent, digest, known.summary)
    return folder


def _write_again(session: Session, folder: Path, digest: str, summary: dict[str, Any]) -> Frozen:
    folder.mkdir(parents=True, exist_ok=True)
    # Frozen before datasets said which replies were cut off, it is without that.
    for says_ends in (True, False):
        erased = 0

        def again(says_ends: bool = says_ends) -> Iterator[Example]:
            nonlocal erased
            for vote, learnt, is_erased in datasets.learnt(session, digest):
                if is_erased:
                    erased += (learnt.label is not None) + (learnt.rewrite_label is not None)
                else:
                    yield from of_vote(vote if says_ends else vote._replace(ended=(True, True)), learnt)

        written, counts = _write(folder, again())
        examples = sum(counts[split] for split in SPLITS)
        whole = written == digest if not erased else examples + erased == summary["examples"]
        if whole:
            break
    else:
        _unfinished(folder).unlink()
        raise Conflict(f"dataset {digest} cannot be written again: the record does not hold the labels of its votes")
    return _name(folder, digest, summary | ({"erased": erased} if erased else {}))


def _write(folder: Path, lines: Iterable[Example]) -> tuple[str, Counter[str]]:
    """Write a file that has no name yet. Returns its digest and what was counted of it."""
    hasher, seen = hashlib.sha256(), Counter[tuple[str, str, str]]()
    with _unfinished(folder).open("wb") as file:
        for example in lines:
            line = orjson.dumps(example, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
            hasher.update(line)
            file.write(line)
            seen[example.split, example.objective, example.tranche] += 1
        file.flush()
        os.fsync(file.fileno())
    counts = Counter[str]()
    for (split, objective, tranche), count in seen.items():
        for name in (split, f"{split}.{objective}", f"tranche.{tranche}"):
            counts[name] += count
    return hasher.hexdigest(), counts


def _name(folder: Path, digest: str, summary: dict[str, Any]) -> Frozen:
    """Put the file that was written where its digest says, with its summary."""
    target = folder / digest
    target.mkdir(exist_ok=True)
    # The file last: where it is there, all of it is.
    (target / SUMMARY).write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    _unfinished(folder).replace(target / LINES)
    return Frozen(digest, target, summary)


def _unfinished(folder: Path) -> Path:
    return folder / f".{os.getpid()}{UNFINISHED}"


def abandoned(folder: Path) -> list[Path]:
    """The files below the folder of datasets whose process was killed while it wrote them: old ones, since another
    machine may share this folder, and a process of its own have that number."""
    files = sorted((*folder.glob(f".*{UNFINISHED}"), *folder.glob(f"*/.*{UNFINISHED}")))
    return [file for file in files if _is_old(file) and not _is_being_written(file)]


def _is_old(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime > ABANDONED_AFTER_S
    except FileNotFoundError:
        return False


def _is_being_written(file: Path) -> bool:
    """Whether the process that an unfinished file is named after is there, and another one than this."""
    process = int(file.name.removesuffix(UNFINISHED).rpartition(".")[2])
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _draw(
    session: Session, settings: FeedbackSettings, since: float | None, unbounded: str | None
) -> datasets.Drawn | None:
    """The votes to learn from, where not all of them are: a rater whose share is bounded is drawn the less often, or
    their votes would take the places of those that weigh more."""
    if settings.old_votes is None:
        return None
    since = datasets.learnt_until(session) if since is None else since
    if since is None:
        return None
    odds: dict[tuple[str, str], float] = {}
    for objective, by_rater in datasets.old_by_rater(session, since).items():
        own = {rater: votes for rater, votes in by_rater.items() if rater != unbounded}
        odds |= {(objective, rater): odd for rater, odd in bounds(own, settings.rater_share).items()}
    return datasets.draw(session, settings.old_votes, since, odds)


def forget(folder: Path, votes: set[str]) -> int:
    """Take the lines of these votes out of a frozen dataset. Returns how many.

    What the digest names is no longer there as a whole then: the summary says how many lines were erased.
    """
    with (folder / LINES).open("rb") as file:
        erased = sum(_vote_of(line) in votes for line in file)
    if erased:
        summary = orjson.loads((folder / SUMMARY).read_bytes())
        summary["erased"] = summary.get("erased", 0) + erased
        # The summary first: were this process killed in between, it would say too much rather than too little.
        _replace(folder / SUMMARY, [orjson.dumps(summary, option=orjson.OPT_INDENT_2)])
        with (folder / LINES).open("rb") as file:
            _replace(folder / LINES, (line for line in file if _vote_of(line) not in votes))
    return erased


def _vote_of(line: bytes) -> str:
    return orjson.loads(line)["vote"]


def _replace(path: Path, lines: Iterable[bytes]) -> None:
    # A name of its own: two may be erased at once through one process.
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.{os.getpid()}{UNFINISHED}")
    with unfinished.open("wb") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def read(folder: Path, split: str | None = None) -> Iterator[Example]:
    """The examples of a frozen dataset, of one split or of all."""
    with (folder / LINES).open("rb") as file:
        for line in file:
            fields = orjson.loads(line)
            if split is None or fields["split"] == split:
                pairs = {name: tuple(fields[name]) for name in ("replies", "versions", "ended") if name in fields}
                yield (CutOffExample if "ended" in pairs else Example)(**fields | pairs)
