"""An iteration freezes its dataset; who is erased at that moment is not learnt from."""

from pathlib import Path
from typing import Any

import pytest

from feedback import datasets
from feedback.erasure import forget
from feedback.settings import Settings, load_settings
from feedback.store import Store, iterations, raters, votes
from feedback.worker import count_all
from learner.iteration.process import freeze
from learner.iteration.run import Run
from learner.progress import Progress
from tests.feedback.record import add_comparison, judgement, sample

ANN = {"key_id": "key_a", "sees_all": False, "rater": "ann"}
BOB = ANN | {"rater": "bob"}


class Erasing(Store):
    """Ann is erased right after the votes were read."""

    home: Path

    def read(self, operation: Any, *arguments: Any, **options: Any) -> Any:
        found = super().read(operation, *arguments, **options)
        if operation is datasets.freeze:
            forget(self, self.home, super().read(raters.find, "key_a", "ann"))
        return found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, feedback={"heldout_share": 0.4, "quarantine_outliers": False})


def test_who_is_erased_while_it_is_frozen_is_not_in_it(settings: Settings) -> None:
    store = Erasing(settings.record_url)
    store.home = settings.home
    store.migrate()
    for number in range(40):
        prompt = [{"role": "user", "content": f"What is {number} plus 3?"}]
        pair = add_comparison(store, sample(messages=prompt), sample("6", version=1, messages=prompt))
        for rater in (ANN, BOB):
            store.write(votes.put, pair, judgement(), **rater)
    count_all(store)
    iteration = store.write(iterations.start, trigger="operator", seed=1, settings={})
    _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
    folder = settings.home / "iterations" / iteration.id
    this = Run(store, settings, settings.learner, iteration.id, 1, epoch, folder, Progress(store, iteration.id, epoch))

    dataset = freeze(this)
    bob = store.read(raters.find, "key_a", "bob")
    assert {example.rater for example in datasets.read(dataset)} == {bob}
    assert freeze(this) == dataset, "gone on with after a kill"
    store.close()
