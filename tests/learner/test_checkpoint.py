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
from learner.training_state import TrainingState, capture, copy_weights, restore
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


def test_a_state_is_what_it_was_when_it_was_taken_and_leads_on_where_that_did(tmp_path: Path) -> None:
    """With a tied output layer, of which there is one copy, and a part that is not trained, of which there is none."""
    examples = torch.randn(8, 4, generator=torch.Generator().manual_seed(3))

    def make() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(1)
        module = nn.ModuleDict({name: nn.Linear(4, 4, bias=False) for name in ("in", "frozen", "out")})
        module["out"].weight = module["in"].weight
        module["frozen"].requires_grad_(False)
        module.register_buffer("seen", torch.zeros(1))
        return module, torch.optim.AdamW([module["in"].weight], lr=0.1)

    def step(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        module["out"](module["frozen"](module["in"](examples))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        module.seen += 1

    module, optimizer = make()
    step(module, optimizer)
    state = TrainingState.of(1, "run", {"policy": module}, {"adam": optimizer})
    weights = copy_weights(module)
    kept = {name: tensor.clone() for name, tensor in (state.tensors | weights).items()}
    assert {name for name in state.tensors if name.startswith("module")} == {
        "module.policy.in.weight", "module.policy.seen",
    } and weights.keys() == {"in.weight", "seen"}  # fmt: skip
    step(module, optimizer)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in (state.tensors | weights).items())

    state.save(tmp_path / "state")
    again, its_optimizer = make()
    restore(TrainingState.load(tmp_path / "state").tensors, {"policy": again}, {"adam": its_optimizer})
    step(again, its_optimizer)
    assert torch.equal(again["in"].weight, module["in"].weight) and torch.equal(again.seen, module.seen)
    less = {name: tensor for name, tensor in state.tensors.items() if name != "module.policy.seen"}
    with pytest.raises(CheckpointInvalid, match="policy is of another make"):
        restore(less, {"policy": again}, {"adam": its_optimizer})


def test_what_a_disk_changed_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "state"
    TrainingState(1, "run", {"x": torch.ones(4)}).save(path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x41")
    with pytest.raises(CheckpointInvalid, match="changed since it was written"):
        TrainingState.load(path)
