"""`make audit` and `make sbom`: what the locks hold, against the advisories that are known, and as CycloneDX says it.

Their tools are installed from a lock of their own into a folder of its own, once.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from deploy.bootstrap import REQUIREMENTS, ROOT
from deploy.check import install

TOOLS = ROOT / ".venv" / "audit"
LOCKS = ("cpu", "cuda", "development", "deployment", "audit")
DEVICES = ("cpu", "cuda")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("audit", "sbom"))
    parser.add_argument("--folder", type=Path, default=ROOT / "build", help="where bills of materials go")
    options = parser.parse_args()
    install(TOOLS, REQUIREMENTS / "audit.lock")
    return audit() if options.what == "audit" else max(sbom(device, options.folder) for device in DEVICES)


def audit() -> int:
    """Ask an advisory database about every locked package. Not 0 where one is vulnerable or cannot be asked about."""
    locks = [part for name in LOCKS for part in ("--requirement", str(REQUIREMENTS / f"{name}.lock"))]
    return _run(["pip_audit", "--strict", "--require-hashes", "--disable-pip", "--progress-spinner", "off", *locks])


def sbom(device: str, folder: Path) -> int:
    """Write to `folder` what Tandem runs with on a machine of this kind: CycloneDX, with each package's digest."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"tandem-{device}.cdx.json"
    # The CPU build of torch stands beside its lock.
    extra = (REQUIREMENTS / "torch-cpu.txt").read_text() if device == "cpu" else ""
    names = (REQUIREMENTS / f"{device}.lock").read_text() + extra
    command = ["cyclonedx_py", "requirements", "-", "--pyproject", str(ROOT / "pyproject.toml")]
    return _run([*command, "--output-reproducible", "--of", "JSON", "--output-file", str(target)], names)


def _run(command: list[str], given: str | None = None) -> int:
    environment = os.environ | {"PYTHONPATH": str(TOOLS)}
    return subprocess.run(
        [sys.executable, "-m", *command], input=given, text=True, env=environment, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
