"""What can be known about the files of a deployment without deploying them, one module for each kind."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `skipped` when the tool for it is not on this machine."""

    verdict: Literal["ok", "wrong", "skipped"]
    what: str
    detail: str = ""


def judged(what: str, problems: list[str]) -> list[Finding]:
    """One finding for each problem, or one that there is none."""
    return [Finding("wrong", what, problem) for problem in problems] or [Finding("ok", what)]
