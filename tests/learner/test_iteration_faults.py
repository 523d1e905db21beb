"""An iteration that is killed, overtaken, or given broken files, numbers that are none, or a full disk."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from feedback import manifest
from feedback.schema import Iteration
from feedback.settings import Settings
from feedback.store import Store, iterations, leases, policies
from learner.training_state import TrainingState
from tests.learner.iterations import LEASE_TTL_S, learner, quick_settings, start, voted_home
from tests.waiting import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]
# For one to end that takes 15 s of a processor: others may take all of it.
PATIENCE_S = 600


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return quick_settings(tmp_path)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with voted_home(settings) as store:
        yield store


def test_killed_and_resumed_ends_where_the_unkilled_one_does(store: Store, settings: Settings) -> None:
    digests = []
    for kill in (False, True):
        iteration = start(store, settings)
        process = learner(settings, iteration)
        if kill:
            wait_for_stage("preference", store, iteration, process)
            process.kill()
            process.wait()
            process = learner(settings, iteration)
            assert process.wait(timeout=PATIENCE_S) == 0, "the lease of the killed one still holds"
            time.sleep(LEASE_TTL_S)
            process = learner(settings, iteration)
            kill_in_ppo(store, iteration, process)
            # As on another host, which has the record alone.
            shutil.rmtree(settings.home / "datasets")
            process = learner(settings, iteration)
        assert process.wait(timeout=PATIENCE_S) == 0
        digests.append(outcome(store, settings, iteration))
        settings = of_the_first_seed(settings)
    assert digests[0] == digests[1]
    # A stage that is begun anew ends there too.
    assert "checkpoint_invalid" not in [event.kind for event in events(store, iteration)]


def test_whoever_is_asked_to_end_has_not_died(store: Store, settings: Settings) -> None:
    """A stack that is restarted more often than a process may die still ends its iteration."""
    settings = settings.model_copy(update={"loop": settings.loop.model_copy(update={"max_attempts": 2})})
    iteration = start(store, settings)
    for begun in (1, 2, 3):
        process = learner(settings, iteration)
        wait_for(lambda begun=begun: times_at_work(store, iteration) == begun, 120, "it to begin", by=process)
        process.terminate()
        assert process.wait(timeout=60) == 0
        # Nobody waits for its lease to run out.
        assert not store.read(leases.held, leases.LEARNER)
    assert learner(settings, iteration).wait(timeout=PATIENCE_S) == 0
    ended = store.read(iterations.get, iteration.id)
    assert (ended.state, ended.attempts) == ("succeeded", 1)


def test_a_zombie_ends_and_publishes_nothing(store: Store, settings: Settings) -> None:
    iteration = start(store, settings)
    zombie = learner(settings, iteration)
    wait_for_stage("ppo", store, iteration, zombie)
    zombie.send_signal(signal.SIGSTOP)
    time.sleep(LEASE_TTL_S * 1.5)
    heir = learner(settings, iteration)
    wait_for(lambda: store.read(iterations.get, iteration.id).attempts == 2, 120, "another attempt", by=heir)
    zombie.send_signal(signal.SIGCONT)
    assert zombie.wait(timeout=PATIENCE_S) != 0
    assert heir.wait(timeout=PATIENCE_S) == 0
    assert store.read(iterations.get, iteration.id).candidate == 1
    assert store.read(policies.next_version) == 2


def test_a_cancelled_one_ends_soon_and_publishes_nothing(store: Store, settings: Settings) -> None:
    iteration = start(store, settings)
    process = learner(settings, iteration)
    wait_for_stage("ppo", store, iteration, process)
    if sys.platform == "linux":  # What people wait for goes first.
        assert os.getpriority(os.PRIO_PROCESS, process.pid) >= settings.learner.niceness == 10
    store.write(iterations.cancel, iteration.id, "wrong settings", "key_a")
    assert process.wait(timeout=60) != 0
    ended = store.read(iterations.get, iteration.id)
    assert (ended.state, ended.candidate) == ("cancelled", None)
    nothing_was_published(store, settings)
    # Nobody waits for the cancelled one's lease to run out.
    again = start(store, settings)
    assert learner(settings, again).wait(timeout=PATIENCE_S) == 0
    assert store.read(iterations.get, again.id).candidate == 1


@pytest.mark.parametrize("harm", ["a bit flipped", "cut short", "emptied", "of another run"])
def test_a_corrupt_checkpoint_is_told_of_and_its_stage_begun_anew(store: Store, settings: Settings, harm: str) -> None:
    digests = []
    for corrupt in (False, True):
        iteration = start(store, settings)
        process = learner(settings, iteration)
        if corrupt:
            kill_in_ppo(store, iteration, process)
            spoil(settings.home / "iterations" / iteration.id / "ppo.state.safetensors", harm)
            process = learner(settings, iteration)
        assert process.wait(timeout=PATIENCE_S) == 0
        digests.append(outcome(store, settings, iteration))
        settings = of_the_first_seed(settings)
    (told,) = [event for event in events(store, iteration) if event.kind == "checkpoint_invalid"]
    assert told.data["checkpoint"] == "ppo.state.safetensors"
    assert digests[0] == digests[1]


def test_losses_that_are_no_numbers_end_the_iteration_and_publish_nothing(store: Store, settings: Settings) -> None:
    ppo = settings.learner.ppo.model_copy(update={"learning_rate": 1e30})
    broken = settings.model_copy(update={"learner": settings.learner.model_copy(update={"ppo": ppo})})
    iteration = start(store, broken)
    assert learner(broken, iteration).wait(timeout=PATIENCE_S) != 0
    ended = store.read(iterations.get, iteration.id)
    assert (ended.state, ended.candidate) == ("failed", None)
    assert "not finite" in ended.error
    nothing_was_published(store, settings)
    # What made it fail is in its settings; the next one is as good as ever.
    again = start(store, settings)
    assert learner(settings, again).wait(timeout=PATIENCE_S) == 0
    assert store.read(iterations.get, again.id).candidate == 1


def test_a_full_disk_ends_the_iteration_and_publishes_nothing(store: Store, settings: Settings) -> None:
    iteration = start(store, settings)
    process = learner(settings, iteration)
    wait_for_stage("preference", store, iteration, process)
    # Files may not grow past a size that the record has room in and weights do not: writes fail as on a full disk.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
    assert process.wait(timeout=PATIENCE_S) != 0
    ended = store.read(iterations.get, iteration.id)
    assert (ended.state, ended.candidate) == ("failed", None)
    nothing_was_published(store, settings)
    again = start(store, settings)
    assert learner(settings, again).wait(timeout=PATIENCE_S) == 0
    assert store.read(iterations.get, again.id).candidate == 1


@pytest.fixture
def small_disk(store: Store, settings: Settings) -> Iterator[Path]:
    """Where policies lie there is room for v0 and for nothing else."""
    folder = settings.policies_dir
    shutil.copytree(folder / "v0", settings.home / "v0")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    shutil.move(settings.home / "v0", folder / "v0")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_is_full_at_publishing_publishes_nothing(
    store: Store, settings: Settings, small_disk: Path
) -> None:
    iteration = start(store, settings)
    assert learner(settings, iteration).wait(timeout=PATIENCE_S) != 0
    ended = store.read(iterations.get, iteration.id)
    assert (ended.state, ended.stage, ended.candidate) == ("failed", "publish", None)
    nothing_was_published(store, settings)
    subprocess.run(["mount", "-o", "remount,size=30m", small_disk], check=True)
    again = start(store, settings)
    assert learner(settings, again).wait(timeout=PATIENCE_S) == 0
    assert store.read(iterations.get, again.id).candidate == 1


def wait_for_stage(stage: str, store: Store, iteration: Iteration, process: subprocess.Popen[bytes]) -> None:
    wait_for(lambda: store.read(iterations.get, iteration.id).stage == stage, 120, stage, by=process)


def kill_in_ppo(store: Store, iteration: Iteration, process: subprocess.Popen[bytes]) -> None:
    """When a checkpoint of its first step is there; returns when the lease of the killed one has run out."""
    steps = lambda: [event.data["step"] for event in events(store, iteration) if event.kind == "ppo_step"]  # noqa: E731
    wait_for(lambda: 2 in steps(), 120, "its second step", by=process)
    process.kill()
    process.wait()
    time.sleep(LEASE_TTL_S)


def events(store: Store, iteration: Iteration) -> list[iterations.IterationEvent]:
    return store.read(iterations.events_after, iteration.id, 0, 10_000)


def times_at_work(store: Store, iteration: Iteration) -> int:
    """How many processes have claimed it and gone on to its stages."""
    kinds = [event.kind for event in events(store, iteration)]
    return sum(kind in ("started", "resumed") for kind in kinds[:-1])


def of_the_first_seed(settings: Settings) -> Settings:
    """The second iteration is to be the first one again, so it takes its seed."""
    return settings.model_copy(update={"learner": settings.learner.model_copy(update={"seed": -1})})


def outcome(store: Store, settings: Settings, iteration: Iteration) -> tuple[str, str, dict[str, Any]]:
    """Digests of the dataset and of the weights that came of it, and what was rehearsed."""
    ended = store.read(iterations.get, iteration.id)
    assert ended.state == "succeeded"
    files = manifest.read(settings.policies_dir / f"v{ended.candidate}")["files"]
    rehearsed = store.read(policies.get, ended.candidate).evidence["rehearsal"]
    return ended.dataset_digest, files["model.safetensors"]["sha256"], rehearsed


def spoil(path: Path, harm: str) -> None:
    if harm == "of another run":
        replace(TrainingState.load(path), fingerprint="another").save(path)
        return
    size = path.stat().st_size
    with path.open("r+b") as file:
        if harm == "a bit flipped":
            file.seek(size // 2)
            byte = file.read(1)[0]
            file.seek(size // 2)
            file.write(bytes([byte ^ 1]))
        else:
            os.ftruncate(file.fileno(), size // 2 if harm == "cut short" else 0)


def nothing_was_published(store: Store, settings: Settings) -> None:
    assert store.read(policies.next_version) == 1
    assert store.read(policies.serving).version == 0
    assert not (settings.policies_dir / "v1").exists()
    assert not store.read(leases.held, leases.LEARNER)
