"""Iterations that train adapters, and iterations in two processes, killed and gone on with."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from feedback import adapters, manifest
from feedback.errors import InvalidRequest
from feedback.schema import Iteration
from feedback.settings import Settings, load_settings
from feedback.store import Store, iterations, leases, policies
from learner.iteration.process import open_run, run
from learner.iteration.versions import load
from learner.lora import has_adapter
from learner.measure_again import measure_again
from learner.policy import probe
from learner.prepare import prepare
from learner.processes import ALONE
from tests.learner.iterations import LEASE_TTL_S, learner, start
from tests.learner.sandbox_votes import cast_votes
from tests.records import empty_record_of
from tests.waiting import wait_for

LORA = {"rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj", "down_proj"]}
SHORT = {"steps": 2, "episodes_per_step": 32, "episodes_per_minibatch": 16, "learning_rate": 3e-3}


def home(folder: Path, learner_settings: dict, count: int = 60) -> tuple[Store, Settings]:
    settings = load_settings(
        home=folder,
        learner={"checkpoint_interval_s": 0.0, "evaluation": {"prompts": 16}, **learner_settings},
        loop={"lease_ttl_s": LEASE_TTL_S},
        engine={"adapters": 2},
    )
    store = empty_record_of(settings)
    prepare(store, settings)
    cast_votes(store, settings, count)
    return store, settings


def steps_done(store: Store, iteration: Iteration) -> list[int]:
    events = store.read(iterations.events_after, iteration.id, 0, 10_000)
    return [event.data["step"] for event in events if event.kind == "ppo_step"]


@pytest.fixture
def adapter_home(tmp_path: Path) -> Iterator[tuple[Store, Settings]]:
    store, settings = home(
        tmp_path, {"preference": {"lora": LORA}, "ppo": SHORT | {"lora": LORA | {"publish": "adapter"}}}
    )
    yield store, settings
    store.close()


def test_a_candidate_that_is_an_adapter_on_v0(adapter_home: tuple[Store, Settings]) -> None:
    store, settings = adapter_home
    iteration = start(store, settings)
    run(store, settings, iteration.id)
    candidate, v0 = store.read(policies.get, 1), store.read(policies.get, 0)
    folder, start_folder = settings.home / candidate.path, settings.home / v0.path
    manifest.verify(folder, candidate.digest)
    assert adapters.base_of(folder) == adapters.Base(0, v0.digest)
    tensors = manifest.read(folder)["tensors"]
    adapters.check_fits(folder, tensors, manifest.read(start_folder)["tensors"], settings.engine.max_adapter_rank)
    assert candidate.evidence["evaluation"]["kl_nats"] != 0

    # As the next iteration loads it, it is what was measured.
    this = open_run(store, settings, iteration.id, 0, ALONE)
    policy = load(this, 1)
    assert has_adapter(policy.model)
    said = (folder / "probe.json").read_text()
    assert probe(policy.model, policy.tokenizer) == json.loads(said)
    again, first = measure_again(store, settings, 1), candidate.evidence["evaluation"]
    assert {name: again[name] for name in ("win_rate", "kl_nats", "anchored")} == {
        name: first[name] for name in ("win_rate", "kl_nats", "anchored")
    }


def test_adapters_that_engines_do_not_take_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    store, settings = home(tmp_path, {"ppo": {"lora": LORA | {"publish": "adapter"}}}, count=40)
    settings = settings.model_copy(update={"engine": settings.engine.model_copy(update={"adapters": 0})})
    iteration = start(store, settings)
    with pytest.raises(InvalidRequest, match="set engine"):
        run(store, settings, iteration.id)
    assert store.read(iterations.get, iteration.id).state == "failed"
    store.close()


@pytest.mark.slow
@pytest.mark.timeout(1000)  # its waits for iterations say what they may take
@pytest.mark.parametrize("lora", [{}, LORA])
def test_two_processes_killed_at_a_random_step_end_where_the_unkilled_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: dict
) -> None:
    """The checkpoint is what the kill leaves; the end is the same to the last bit, since it is the same arithmetic."""
    monkeypatch.setenv("TANDEM_LEARNER__PROCESSES", "2")
    ppo = SHORT | {"steps": 4, "lora": lora}
    store, settings = home(tmp_path, {"processes": 2, "preference": {"lora": lora}, "ppo": ppo})
    killed_after = random.randrange(1, 4)
    digests = []
    for kill in (False, True):
        iteration = start(store, settings)
        process = learner(settings, iteration)
        if kill:
            wait_for(lambda i=iteration: killed_after in steps_done(store, i), 120, "that step", by=process)
            process.kill()
            process.wait()
            time.sleep(LEASE_TTL_S)
            process = learner(settings, iteration)
        assert process.wait(timeout=300) == 0
        ended = store.read(iterations.get, iteration.id)
        assert (ended.state, ended.attempts) == ("succeeded", 2 if kill else 1)
        weights = settings.policies_dir / f"v{ended.candidate}" / "model.safetensors"
        digests.append(manifest.read(weights.parent)["files"][weights.name]["sha256"])
        # The second iteration is to be the first one again, so it takes its seed.
        settings = settings.model_copy(update={"learner": settings.learner.model_copy(update={"seed": -1})})
    assert digests[0] == digests[1], f"killed after step {killed_after}"
    assert not store.read(leases.held, leases.LEARNER)
    store.close()


def test_bf16_forward_passes_train_fp32_weights_and_publish_what_v0_is(tmp_path: Path) -> None:
    store, settings = home(tmp_path, {"precision": "bf16", "ppo": SHORT}, count=40)
    iteration = start(store, settings)
    run(store, settings, iteration.id)
    candidate = store.read(policies.get, 1)
    manifest.verify(settings.home / candidate.path, candidate.digest, like=settings.policies_dir / "v0")
    steps = candidate.evidence["ppo"]
    assert all(torch.isfinite(torch.tensor(step["gradient_norm"])) for step in steps)
    assert 0 < steps[-1]["mismatch_nats"] < 0.1
    store.close()
