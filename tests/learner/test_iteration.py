"""Whole iterations in their own process, on the built-in policy, with the votes of simulated raters."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback import manifest
from feedback.importing import import_file
from feedback.schema import Iteration
from feedback.settings import Settings, load_settings
from feedback.store import Store, iterations, leases, policies, votes
from feedback.worker import count_all
from learner.iteration.process import run
from learner.prepare import prepare
from tests.learner.sandbox_votes import cast_votes
from tests.learner.test_prepare import model_folder

QUICK = {"checkpoint_interval_s": 0.0, "ppo": {"steps": 3, "episodes_per_step": 64}, "evaluation": {"prompts": 32}}
LEASE_TTL_S = 2.0
SIDES = (("chosen", "Let us talk of"), ("rejected", "I hate"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, learner=QUICK, loop={"lease_ttl_s": LEASE_TTL_S})


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """A home with v0 and 200 counted votes."""
    store = Store(settings.record_url)
    store.migrate()
    prepare(store, settings)
    cast_votes(store, settings, 200)
    yield store
    store.close()


def start(store: Store, settings: Settings) -> Iteration:
    return store.write(
        iterations.start_next, trigger="operator", learner=settings.learner.model_dump(mode="json"), reason="a test"
    )


def learner(settings: Settings, iteration: Iteration) -> subprocess.Popen[bytes]:
    env = os.environ | {
        "TANDEM_HOME": str(settings.home),
        "TANDEM_LOOP__LEASE_TTL_S": str(LEASE_TTL_S),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen([sys.executable, "-m", "learner.iteration", iteration.id], env=env)


def wait_until(condition, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"the learner ended early with {process.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps_done(store: Store, iteration: Iteration) -> list[int]:
    events = store.read(iterations.events_after, iteration.id, 0, 10_000)
    return [event.data["step"] for event in events if event.kind == "ppo_step"]


def test_from_votes_to_a_candidate_that_can_be_traced(store: Store, settings: Settings) -> None:
    iteration = start(store, settings)
    assert learner(settings, iteration).wait(timeout=200) == 0

    ended = store.read(iterations.get, iteration.id)
    assert (ended.state, ended.error, ended.candidate) == ("succeeded", None, 1)
    candidate = store.read(policies.get, 1)
    assert (candidate.state, candidate.parent, candidate.iteration_id) == ("candidate", 0, iteration.id)
    manifest.verify(settings.home / candidate.path, candidate.digest, like=settings.policies_dir / "v0")
    assert candidate.digest != store.read(policies.get, 0).digest

    evidence = candidate.evidence
    assert [step["step"] for step in evidence["ppo"]] == [1, 2, 3]
    assert evidence["evaluation"]["kl_nats_interval"][1] > 0
    assert 0 <= evidence["evaluation"]["win_rate"]["value"] <= 1
    assert 0 <= evidence["preference"]["accuracy"] <= 1
    assert candidate.settings["ppo"]["steps"] == 3

    vote_id = store.read(lambda session: next(iter(session.execute(votes.select(votes.Vote.id)))))[0]
    (used,) = store.read(votes.used_by, vote_id)
    assert (used["iteration"], used["candidate"]) == (iteration.id, "v1")
    events = store.read(iterations.events_after, iteration.id, 0, 10_000)
    stages = [event.data["stage"] for event in events if event.kind == "stage"]
    assert stages == ["freeze", "preference", "ppo", "evaluate", "publish"]
    assert not store.read(leases.held, leases.LEARNER)
    assert learner(settings, iteration).wait(timeout=240) == 0
    assert store.read(policies.next_version) == 2, "a redelivered task does nothing"


@pytest.mark.slow
def test_killed_and_resumed_ends_where_the_unkilled_one_does(store: Store, settings: Settings) -> None:
    digests = []
    for kill in (False, True):
        iteration = start(store, settings)
        process = learner(settings, iteration)
        if kill:
            wait_until(lambda i=iteration: store.read(iterations.get, i.id).stage == "preference", process)
            process.kill()
            process.wait()
            process = learner(settings, iteration)
            assert process.wait(timeout=240) == 0, "the lease of the killed one still holds"
            time.sleep(LEASE_TTL_S)
            process = learner(settings, iteration)
            wait_until(lambda i=iteration: 1 in steps_done(store, i), process)
            process.kill()
            process.wait()
            time.sleep(LEASE_TTL_S)
            process = learner(settings, iteration)
        assert process.wait(timeout=200) == 0
        ended = store.read(iterations.get, iteration.id)
        assert ended.state == "succeeded"
        digests.append((ended.dataset_digest, _weights(settings, ended.candidate)))
        # The second iteration is to be the first one again, so it takes its seed.
        settings = settings.model_copy(update={"learner": settings.learner.model_copy(update={"seed": -1})})
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_a_zombie_ends_and_publishes_nothing(store: Store, settings: Settings) -> None:
    iteration = start(store, settings)
    zombie = learner(settings, iteration)
    wait_until(lambda: store.read(iterations.get, iteration.id).stage == "ppo", zombie)
    zombie.send_signal(signal.SIGSTOP)
    time.sleep(LEASE_TTL_S * 1.5)
    heir = learner(settings, iteration)
    wait_until(lambda: store.read(iterations.get, iteration.id).attempts == 2, heir)
    zombie.send_signal(signal.SIGCONT)
    assert zombie.wait(timeout=240) != 0
    assert heir.wait(timeout=200) == 0
    assert store.read(iterations.get, iteration.id).candidate == 1
    assert store.read(policies.next_version) == 2


def test_too_few_votes_fail_with_what_to_do(settings: Settings) -> None:
    store = Store(settings.record_url)
    store.migrate()
    prepare(store, settings)
    iteration = start(store, settings)
    assert learner(settings, iteration).wait(timeout=240) != 0
    ended = store.read(iterations.get, iteration.id)
    assert ended.state == "failed"
    assert "no counted vote to learn from" in ended.error


def _weights(settings: Settings, version: int) -> str:
    folder = settings.policies_dir / f"v{version}"
    return manifest.read(folder)["files"]["model.safetensors"]["sha256"]


def test_imported_pairs_train_any_model(tmp_path: Path) -> None:
    """Pairs as HH-RLHF publishes them, under one objective only, and a model that is not ours."""
    source = model_folder(tmp_path / "model")
    settings = load_settings(home=tmp_path / "home", learner=QUICK, policy=str(source))
    store = Store(settings.record_url)
    store.migrate()
    prepare(store, settings)
    lines = [
        {
            side: f"\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Tell me {n}\n\nAssistant: {reply} {n}"
            for side, reply in SIDES
        }
        for n in range(80)
    ]
    path = tmp_path / "harmless.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert import_file(store, path, "hh", home=settings.home).imported == 80
    count_all(store)

    iteration = start(store, settings)
    run(store, settings, iteration.id)
    candidate = store.read(policies.get, 1)
    assert list(candidate.evidence["preference"]["objectives"]) == ["harmless"]
    assert list(candidate.evidence["evaluation"]["objectives"]) == ["harmless"]
    manifest.verify(settings.home / candidate.path, candidate.digest, like=settings.policies_dir / "v0")
