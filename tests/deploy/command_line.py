"""Runs the `tandem` command in a test: in this process where that is enough, in one of its own where it is not."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.command import run

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ran:
    exit_code: int
    out: str
    err: str


Tandem = Callable[..., Ran]


def in_process(capfd: pytest.CaptureFixture[str]) -> Tandem:
    """`tandem("keys", "list")` runs it here and returns what it printed."""

    def tandem(*arguments: object) -> Ran:
        capfd.readouterr()
        exit_code = run([str(argument) for argument in arguments])
        printed = capfd.readouterr()
        return Ran(exit_code, printed.out, printed.err)

    return tandem


def start(*arguments: object, variables: Mapping[str, str] = {}, **options: object) -> subprocess.Popen[str]:
    """`tandem` as a process of its own, with pipes, and of its settings in the environment just `variables`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.command", *map(str, arguments)],
        text=True,
        env=environment | {"PYTHONPATH": str(ROOT), **variables},
        # Whoever runs the tests in the background, or with `nohup`, has these ignored, and that is inherited.
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)],  # noqa: PLW1509
        **(pipes | options),  # type: ignore[call-overload]
    )
