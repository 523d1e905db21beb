"""The alert rules: accepted by Prometheus, and its tests of them pass."""

import os
import shutil
import subprocess
from pathlib import Path

from deploy.checks import Finding, judged


def check(folder: Path) -> list[Finding]:
    """`tandem.rules.yml` and its tests in `folder`. TANDEM_PROMTOOL names the tool where it is not on PATH."""
    promtool = os.environ.get("TANDEM_PROMTOOL") or shutil.which("promtool")
    if promtool is None:
        return [Finding("skipped", "alert rules", "promtool is not on this machine (Debian: apt install prometheus)")]
    return [
        *_run("alert rules: check", [promtool, "check", "rules", "tandem.rules.yml"], folder),
        *_run("alert rules: test", [promtool, "test", "rules", "tandem.test.yml"], folder),
    ]


def _run(what: str, command: list[str], folder: Path) -> list[Finding]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    said = " ".join((done.stdout + done.stderr).split())
    return judged(what, [said] if done.returncode else [])
