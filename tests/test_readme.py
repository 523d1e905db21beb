"""What the README says to type, typed: each of its commands runs against a running stack and succeeds."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import ROOT, Stack, running_stack

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = [(language, text) for language, text in BLOCK.findall(README) if language in ("bash", "python")]
# Votes and steps enough to see every command work; tests/test_loop.py sees that the loop learns.
QUICK = {
    "TANDEM_LOOP__MIN_VOTES": "10",
    "TANDEM_LEARNER__PPO__STEPS": "1",
    "TANDEM_LEARNER__EVALUATION__PROMPTS": "32",
}

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks to the README's commands like a checkout after `make run`."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").mkdir()
    tandem = folder / ".venv" / "bin" / "tandem"
    tandem.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m deploy.command "$@"\n')
    tandem.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    with running_stack(folder / ".tandem", **QUICK) as stack:
        yield stack


def test_every_command(stack: Stack, folder: Path) -> None:
    assert len(COMMANDS) >= 6
    for language, text in COMMANDS:
        typed = as_typed_here(text, stack)
        program = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
        done = subprocess.run([*program, typed], cwd=folder, env=stack.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{typed}\n{done.stdout}\n{done.stderr}"
        # curl succeeds on an HTTP error as well.
        assert '"error"' not in done.stdout and '"title"' not in done.stdout, f"{typed}\n{done.stdout}"


def test_every_make_target_is_there() -> None:
    for target in re.findall(r"^make ([\w-]+)", README + (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE):
        planned = subprocess.run(
            ["make", "-n", target], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
        )
        assert planned.returncode == 0, planned.stderr


def as_typed_here(text: str, stack: Stack) -> str:
    """The same on this stack's port, and with few votes."""
    return text.replace("http://127.0.0.1:8080", stack.url).replace("--votes 600", "--votes 60")
