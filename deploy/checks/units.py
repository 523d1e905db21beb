"""The systemd units: accepted by systemd, and confined by its own measure."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from deploy.checks import Finding, judged

PROGRAM = "/opt/tandem/.venv/bin/tandem"
# systemd-analyze's exposure times ten: 25 is 2.5 of 10, well inside what it calls OK.
MOST_EXPOSED = 25


def check(folder: Path) -> list[Finding]:
    """Every unit in `folder`."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return [Finding("skipped", "systemd units", "systemd-analyze is not on this machine")]
    findings = []
    with tempfile.TemporaryDirectory() as copies:
        # The program is not installed where this runs; everything else is looked at as it is.
        units = [_copied(unit, Path(copies)) for unit in sorted(folder.iterdir())]
        _, said = _run([analyze, "verify", "--man=no", *units])
        findings += judged("systemd units: verify", said)
        for unit in units:
            if unit.endswith(".service"):
                threshold = ["--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager"]
                agrees, said = _run([analyze, "security", *threshold, unit])
                findings += judged(f"{Path(unit).name}: exposure", [] if agrees else said[-1:])
    return findings


def _copied(unit: Path, to: Path) -> str:
    copy = to / unit.name
    copy.write_text(unit.read_text().replace(PROGRAM, shutil.which("true") or "/bin/true"))
    return str(copy)


def _run(command: list[str]) -> tuple[bool, list[str]]:
    """Whether it agrees, and the lines that it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stderr + done.stdout).strip().splitlines()
    agrees = done.returncode == 0
    return agrees, said if agrees or said else [f"exit code {done.returncode}"]
