"""Verification in a process of its own says what the check itself would say."""

import shutil
import sys
from pathlib import Path

import pytest

from feedback import manifest, verification
from feedback.errors import PolicyInvalid

STARTING_POLICY = Path(__file__).parents[2] / "learner" / "starting_policy" / "weights"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(STARTING_POLICY, tmp_path / "v1"))
    (folder / "probe.json").write_text("{}")
    return folder


def test_a_good_folder_and_a_spoiled_one(folder: Path) -> None:
    digest = manifest.write(folder)
    verification.verify(folder, digest, 60)
    (folder / "config.json").write_text("{} ")
    with pytest.raises(PolicyInvalid, match=r"^v1: config.json was changed after it was published$"):
        verification.verify(folder, digest, 60)


def test_a_process_that_breaks_proves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(PolicyInvalid, match="its verification ended with 1"):
        verification.verify(folder, manifest.write(folder), 60)


def test_it_is_bounded(folder: Path) -> None:
    with pytest.raises(PolicyInvalid, match="could not be read"):
        verification.verify(folder, manifest.write(folder), 0.001)


@pytest.mark.parametrize("comes_back", [True, False])
def test_it_does_not_wait_for_idle_processors_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    """Where a process may not have its priority back another one takes its place."""
    monkeypatch.setattr(verification, "IDLE_S", 0.0)
    if not comes_back:
        monkeypatch.setattr(verification, "wait_no_longer", lambda _: False)
    verification.verify(folder, manifest.write(folder), 60)
