"""A version's folder is put in place by who holds the lease; who was overtaken meanwhile leaves it alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from feedback import manifest
from feedback.errors import LeaseLost
from feedback.settings import Settings, load_settings
from feedback.store import Store, iterations, policies
from learner.iteration.candidate import publish
from learner.iteration.run import Run
from learner.iteration.versions import Candidate, load
from learner.prepare import prepare
from learner.progress import Progress
from learner.publishing import publish_folder
from tests.learner.iterations import start


class Overtaken(Store):
    """Another learner takes over right after the number of the next version was read, and publishes."""

    heir: Run | None = None

    def read(self, operation: Any, *arguments: Any, **options: Any) -> Any:
        found = super().read(operation, *arguments, **options)
        if operation is policies.next_version and self.heir is None:
            self.heir = claimed(self, start_of(self), 60.0)
            publish(self.heir, weighing(self.heir, 0.5), "", {})
        return found


def start_of(store: Store) -> str:
    running = store.read(iterations.active)
    assert running is not None
    return running.id


def claimed(store: Store, iteration_id: str, ttl_s: float) -> Run:
    settings = load_settings(home=Path(store.engine.url.database or "").parent)
    _, epoch = store.write(iterations.claim, iteration_id, str(ttl_s), ttl_s, 5)
    progress = Progress(store, iteration_id, epoch)
    return Run(store, settings, settings.learner, iteration_id, 1, epoch, settings.home, progress)


def weighing(this: Run, weight: float) -> Candidate:
    """v0 with another output layer."""
    policy = load(this, 0)
    policy.model.get_output_embeddings().weight.data.mul_(weight)
    return Candidate(policy, 0, 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Overtaken]:
    settings: Settings = load_settings(home=tmp_path)
    store = Overtaken(settings.record_url)
    store.migrate()
    prepare(store, settings)
    start(store, settings)
    yield store
    store.close()


def test_who_was_overtaken_does_not_touch_what_the_next_one_published(store: Overtaken, tmp_path: Path) -> None:
    zombie = claimed(store, start_of(store), 0.0)
    with pytest.raises(LeaseLost):
        publish(zombie, weighing(zombie, 2.0), "", {})
    published = store.read(policies.get, 1)
    manifest.verify(tmp_path / published.path, published.digest)
    assert store.heir is not None
    assert torch.equal(
        load(store.heir, 1).model.get_output_embeddings().weight,
        weighing(store.heir, 0.5).policy.model.get_output_embeddings().weight,
    )


def test_what_killed_ones_left_goes_and_is_not_published(store: Overtaken, tmp_path: Path) -> None:
    store.heir = this = claimed(store, start_of(store), 60.0)
    publish_folder(weighing(this, 3.0).policy, tmp_path / "policies", 1)
    for name in (".v1.unfinished", ".v1.9.unfinished"):
        (tmp_path / "policies" / name).mkdir()
    assert publish(this, weighing(this, 0.5), "", {}) == 1
    published = store.read(policies.get, 1)
    manifest.verify(tmp_path / published.path, published.digest)
    assert sorted(path.name for path in (tmp_path / "policies").iterdir()) == ["v0", "v1"]
