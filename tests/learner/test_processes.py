"""Two processes that train together end where one does, step by step, and go on from the same checkpoints."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from learner.processes import ALONE
from learner.training_state import TrainingState
from tests.learner import joint_training
from tests.serve.conftest import ROOT

pytestmark = pytest.mark.slow

WHATS = (
    "ppo",
    "ppo_lora",
    "ppo_checkpointed",
    "ppo_own_trunk",
    "ppo_shared_trunk",
    "ppo_rehearsed",
    "preference",
    "preference_lora",
)

BF16 = "ppo_bf16"


def train(folder: Path, processes: int, whats: tuple[str, ...] = WHATS) -> Path:
    folder.mkdir(exist_ok=True)
    start(folder, processes, whats).check_returncode()
    return folder


def start(folder: Path, processes: int, whats: tuple[str, ...], **how: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command += ["--nproc-per-node", str(processes), "-m", "tests.learner.joint_training", str(folder), *whats]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(command, check=False, cwd=ROOT, env=environment, timeout=200, **how)


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("two"), 2, (*WHATS, BF16))


@pytest.fixture(scope="module")
def by_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    for what in (*WHATS, BF16):
        (joint_training.ppo if what.startswith("ppo") else joint_training.preference)(folder, what, ALONE)
    return folder


def notes(folder: Path, what: str, rank: int = 0):
    return json.loads((folder / f"{what}.{rank}.json").read_text())


def weights(folder: Path, what: str, step: int) -> torch.Tensor:
    """All trained weights after a step, end to end."""
    tensors = TrainingState.load(folder / f"{what}.{step}.safetensors").tensors
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors) if name.startswith("module.")])


def apart(found: Path, expected: Path, what: str) -> float:
    """How far two runs end from each other, as a share of how far one of them went after its first step."""
    end = weights(expected, what, joint_training.STEPS)
    went = (end - weights(expected, what, 1)).norm()
    assert went > 0
    return float((weights(found, what, joint_training.STEPS) - end).norm() / went)


def assert_alike(found, expected, apart: float = 2e-3) -> None:
    """What two runs say of the same step."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_alike(found[name], value, apart)
        elif value is None:
            assert found[name] is None
        else:
            # A token is clipped or it is not, and rounding may decide that of one or two.
            tolerance = max(apart, 0.03) if "clipped" in name else apart
            assert found[name] == pytest.approx(value, abs=tolerance, rel=tolerance), name


def test_processes_that_read_other_votes_do_not_train_together(tmp_path: Path) -> None:
    done = start(tmp_path, 2, (joint_training.ERASED,), stderr=subprocess.PIPE, text=True)
    assert done.returncode != 0
    assert "ProcessesDisagree: this process has other votes" in done.stderr
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize("what", WHATS)
def test_two_processes_lose_what_one_does_and_end_at_its_weights(by_two: Path, by_one: Path, what: str) -> None:
    expected = notes(by_one, what)
    assert len(expected["steps"]) == joint_training.STEPS
    for rank in (0, 1):
        for ours, theirs in zip(notes(by_two, what, rank)["steps"], expected["steps"], strict=True):
            assert_alike(ours, theirs)
    assert apart(by_two, by_one, what) < 0.05
    assert notes(by_two, what, 0)["weights"] == notes(by_two, what, 1)["weights"]


def test_all_weights_are_trained_in_bf16_by_two_processes_as_by_one(by_two: Path, by_one: Path) -> None:
    """Pieces of other sizes are rounded otherwise, so of later steps no more is said than that they are made."""
    ours, theirs = notes(by_two, BF16), notes(by_one, BF16)
    assert_alike(ours["steps"][0], theirs["steps"][0], 0.1)
    assert len(ours["steps"]) == joint_training.STEPS
    assert ours["weights"] == notes(by_two, BF16, 1)["weights"]


@pytest.mark.slow
def test_either_number_of_processes_goes_on_from_a_checkpoint_of_the_other(
    by_two: Path, by_one: Path, tmp_path: Path
) -> None:
    whats = ("ppo", "ppo_lora", "preference", "preference_lora")
    for what in whats:
        shutil.copy(by_one / f"{what}.2.safetensors", tmp_path / f"{what}.resume.safetensors")
    train(tmp_path, 2, whats)
    for what in whats:
        assert apart(tmp_path, by_one, what) < 0.05
        shutil.copy(by_two / f"{what}.1.safetensors", tmp_path / f"{what}.resume.safetensors")
        (joint_training.ppo if what.startswith("ppo") else joint_training.preference)(tmp_path, what, ALONE)
        assert apart(tmp_path, by_two, what) < 0.05


@pytest.mark.slow
def test_killed_after_any_step_two_processes_end_where_they_would_have(by_two: Path, tmp_path: Path) -> None:
    for what, step in (("ppo", 1), ("ppo_lora", 2), ("preference", 2)):
        shutil.copy(by_two / f"{what}.{step}.safetensors", tmp_path / f"{what}.resume.safetensors")
    train(tmp_path, 2, ("ppo", "ppo_lora", "preference"))
    for what in ("ppo", "ppo_lora", "preference"):
        assert notes(tmp_path, what)["weights"] == notes(by_two, what)["weights"]
