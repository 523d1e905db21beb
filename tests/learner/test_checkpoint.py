"""Where training left its state, it goes on; where that is of another run, the stage begins anew."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from learner.comparisons import VotedComparison
from learner.errors import CheckpointInvalid
from learner.iteration.checkpoint import Checkpoint
from learner.policy import Policy
from learner.preference_model import PreferenceModel
from learner.preference_training import PreferenceStep, train_preference_model
from learner.processes import ALONE
from learner.training_state import TrainingState, capture, restore
from tests.learner.test_preference_training import SETTINGS, comparisons


def trained(
    policy: Policy, votes: list[VotedComparison], checkpoint: Checkpoint, steps: list[int] | None = None
) -> PreferenceModel:
    taken = [] if steps is None else steps
    return checkpoint.resume(
        lambda state: train_preference_model(
            policy,
            votes,
            SETTINGS,
            seed=1,
            resume=state,
            on_step=checkpoint.after(lambda done: taken.append(done.step)),
        )
    )


def test_a_stage_whose_votes_changed_since_its_checkpoint_begins_anew(policy: Policy, tmp_path: Path) -> None:
    """As when somebody is erased between a kill and its resumption."""
    told: list[str] = []
    checkpoint = Checkpoint(tmp_path / "state", 0.0, told.append, ALONE)
    trained(policy, comparisons(40, 1), checkpoint)
    left = comparisons(40, 1)[1:]
    steps: list[int] = []
    found = trained(policy, left, checkpoint, steps)
    assert steps == [1, 2, 3, 4, 5]
    (said,) = told
    assert "other comparisons" in said
    whole = train_preference_model(policy, left, SETTINGS, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), whole.parameters(), strict=True))
    # What it left is its own.
    steps.clear()
    trained(policy, left, checkpoint, steps)
    assert not steps


def test_a_state_is_written_once_an_interval_and_after_the_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((100.0, 105.0, 110.0, 110.0, 119.0, 121.0, 121.0, 122.0))
    monkeypatch.setattr("learner.iteration.checkpoint.time", SimpleNamespace(monotonic=lambda: next(clock)))
    path = tmp_path / "state"
    after = Checkpoint(path, 10.0, pytest.fail, ALONE).after(lambda _: None)
    written = []
    for step in range(1, 6):
        after(PreferenceStep(step, 5, 0.5), lambda step=step: TrainingState(step, "run", {"x": torch.ones(1)}))
        written.append(TrainingState.load(path).step if path.exists() else None)
    assert written == [None, 2, 2, 4, 5]


def test_a_file_that_is_no_checkpoint_is_told_of_and_removed(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "state"
    checkpoint = Checkpoint(path, 0.0, told.append, ALONE)
    assert checkpoint.load() is None and told == []
    path.write_bytes(b"cut")
    assert checkpoint.load() is None and not path.exists()
    assert len(told) == 1 and "not a checkpoint" in told[0]


def test_what_cannot_be_gone_on_from_leaves_the_weights_that_a_stage_begins_anew_with() -> None:
    """PPO and DPO train in place: half of it restored would be where they begin."""

    def made(rows: list[int]) -> tuple[dict[str, nn.Module], dict[str, torch.optim.Optimizer]]:
        """With the parameters in this order."""
        module = nn.Linear(2, 3)
        parameters = list(module.parameters())
        return {"policy": module}, {"policy": torch.optim.AdamW([parameters[row] for row in rows])}

    left, (modules, optimizers) = made([0, 1]), made([1, 0])
    left[0]["policy"](torch.ones(1, 2)).sum().backward()
    left[1]["policy"].step()
    begun = [parameter.clone() for parameter in modules["policy"].parameters()]
    with pytest.raises(CheckpointInvalid, match="another make"):
        restore(capture(*left), modules, optimizers)
    assert all(torch.equal(a, b) for a, b in zip(begun, modules["policy"].parameters(), strict=True))
