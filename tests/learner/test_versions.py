"""Which version the candidate of an iteration starts as."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback.errors import PolicyInvalid
from feedback.settings import Settings, load_settings
from feedback.store import iterations, policies
from learner.iteration.run import Run
from learner.iteration.versions import load, starting_point, trainable
from learner.prepare import prepare
from learner.progress import Progress
from learner.publishing import publish_folder
from tests.learner.iterations import start
from tests.records import empty_record_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, learner={"start_from": "last"})


@pytest.fixture
def this(settings: Settings) -> Iterator[Run]:
    """An iteration that was just claimed, in a home with v0 alone."""
    store = empty_record_of(settings)
    prepare(store, settings)
    iteration = start(store, settings)
    _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
    folder = settings.home / "iterations" / iteration.id
    folder.mkdir(parents=True)
    yield Run(store, settings, settings.learner, iteration.id, 1, epoch, folder, Progress(store, iteration.id, epoch))
    store.close()


def make_serve(this: Run, version: int) -> None:
    this.store.write(policies.set_serving, version, kind="promote", reason="", force=False, actor="test")


def publish(this: Run) -> None:
    """v1: v0 with another output layer."""
    policy = load(this, 0)
    policy.model.get_output_embeddings().weight.data.mul_(0.5)
    folder, digest = publish_folder(policy, this.settings.policies_dir, 1)
    path = folder.relative_to(this.settings.home).as_posix()
    made = policies.Provenance(0, this.iteration_id, "", {}, 1)
    this.store.write(policies.publish, 1, path, digest, made, epoch=this.epoch)


def test_it_is_the_last_one_as_it_was_when_the_iteration_asked_first(this: Run) -> None:
    start = load(this, 0)
    publish(this)
    make_serve(this, 1)
    begun = starting_point(this, start)
    assert (begun.parent, begun.ground) == (1, 1)
    # Whoever goes on after a kill goes on from the same, though another one was promoted meanwhile.
    make_serve(this, 0)
    resumed = starting_point(this, start)
    assert (resumed.parent, resumed.ground) == (1, 1)
    assert resumed.policy.model.get_output_embeddings().weight.equal(begun.policy.model.get_output_embeddings().weight)


def test_weights_that_were_changed_are_not_trained_on(this: Run) -> None:
    """The candidate would be published as if nothing had been."""
    start = load(this, 0)
    with (this.settings.policies_dir / "v0" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    for use in (load, lambda this, version: trainable(this, start, version)):
        with pytest.raises(PolicyInvalid, match=r"v0: model\.safetensors was changed after it was published"):
            use(this, 0)
