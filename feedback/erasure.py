"""Erasure of a person from a whole home: the record, and the datasets that were frozen from it."""

from pathlib import Path

from feedback import datasets
from feedback.store import Store, audit, raters


def forget(store: Store, home: Path, rater_id: str, *, actor: str = audit.AT_THE_MACHINE) -> list[int]:
    """Erase a rater. Returns the policy versions that had learnt from their data: those cannot unlearn it.

    The files come first, since what is to be erased from them is found by the record: when this is cut off, running it
    again does the rest. Raises NotFound when there is no such rater, or it was erased before.
    """
    for path, votes in store.read(raters.in_datasets, rater_id).items():
        folder = home / path
        # A dataset that is gone, or on another machine, holds nothing here.
        if (folder / datasets.LINES).exists():
            datasets.forget(folder, votes)
    return store.write(raters.erase, rater_id, actor=actor)
