"""`make check-deploy`: looks at every file of a deployment that can be looked at without deploying it.

What it needs beside the environment is installed from a lock of its own into a folder of its own, once.
"""

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

from deploy.bootstrap import REQUIREMENTS, ROOT, index_options
from deploy.checks import Finding, chart, compose, image, rules, units

LOCK = REQUIREMENTS / "deployment.lock"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strict", action="store_true", help="a check that was skipped counts as wrong")
    parser.add_argument("--tools", type=Path, default=ROOT / ".venv" / "deployment")
    options = parser.parse_args()
    install(options.tools, LOCK)
    # Last: what the environment has already comes from there.
    sys.path.append(str(options.tools))
    findings = look(ROOT / "deploy")
    for finding in findings:
        print(f"{finding.verdict:8} {finding.what}{': ' if finding.detail else ''}{finding.detail}")  # noqa: T201
    counted = {verdict: sum(one.verdict == verdict for one in findings) for verdict in ("ok", "wrong", "skipped")}
    print(", ".join(f"{count} {verdict}" for verdict, count in counted.items()))  # noqa: T201
    return int(bool(counted["wrong"] or (options.strict and counted["skipped"])))


def look(deploy: Path) -> list[Finding]:
    """Every check."""
    return [
        *image.check(deploy / "images" / "Dockerfile", deploy.parent),
        *compose.check(deploy / "compose" / "compose.yaml"),
        *chart.check(deploy / "helm" / "tandem"),
        *units.check(deploy / "systemd"),
        *rules.check(deploy / "alerts"),
    ]


def install(folder: Path, lock: Path) -> None:
    """Have what the lock names in `folder`. Where that fails, who wants it does not find it."""
    stamp = folder / f"{lock.stem}-lock"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(folder)]
        locked = ["--no-deps", "--require-hashes", "--requirements", str(lock)]
        done = subprocess.run([*uv, *index_options(sys.executable), *locked], check=False)
        if done.returncode == 0:
            stamp.write_text(wanted)


if __name__ == "__main__":
    sys.exit(main())
