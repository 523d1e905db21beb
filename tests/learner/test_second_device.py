"""Nothing that learns is left on the CPU: it runs on a device that refuses to be mixed with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def pytest_of(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.learner.second_device", "-p", "no:cacheprovider"]
    environment = os.environ | {"TANDEM_TEST_GPU": "lazy"} | variables
    return subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_ppo_dpo_and_preference_models_are_computed_on_it_as_on_a_cpu() -> None:
    done = pytest_of("tests/learner/test_gpu.py", "-k", "cpu")
    assert done.returncode == 0, done.stdout[-4000:]


def test_it_refuses_to_be_mixed_with_the_cpu(tmp_path: Path) -> None:
    """Or the test above could not fail."""
    (tmp_path / "test_mixed.py").write_text(
        "import torch\n"
        "there = torch.ones(2, 3, device='lazy')\n"
        "def test_sum(): there + torch.ones(3)\n"
        "def test_where(): torch.where(torch.ones(2, 3) > 0, there, 0)\n"
        "def test_put(): there[torch.tensor([0])] = torch.ones(1, 3)\n"
        "def test_numpy(): there.numpy()\n"
        "def test_fine(): assert float((there[torch.tensor([0])] * torch.tensor(2.0)).cpu().sum()) == 6\n"
    )
    done = pytest_of(str(tmp_path), "--rootdir", str(tmp_path), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert "4 failed, 1 passed" in done.stdout, done.stdout[-4000:]
