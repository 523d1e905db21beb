"""Makes the locks in deploy/requirements anew from the files beside them, with uv in a throw-away environment."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
# One resolution for all platforms, for the oldest Python that is supported and all after it.
COMMON = [
    "--universal",
    "--python-version",
    "3.11",
    "--generate-hashes",
    "--no-annotate",
    "--custom-compile-command",
    "make lock",
    "--quiet",
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "-r", str(REQUIREMENTS / "installer.in")], check=True)
        uv = f"{folder}/bin/uv"
        compile_lock(uv, "installer", [])
        override = Path(folder) / "torch.txt"
        override.write_text("torch==2.13.0\n")
        without_torch = ["--no-emit-package", "torch", "--override", str(override)]
        compile_lock(uv, "cpu", [*without_torch, "--excludes", "cpu.excludes"])
        compile_lock(uv, "cuda", [])
        compile_lock(uv, "development", [])
        compile_lock(uv, "deployment", [])
        compile_lock(uv, "audit", [])


def compile_lock(uv: str, name: str, options: list[str]) -> None:
    """Resolve NAME.in into NAME.lock, keeping versions that the old lock had where they still fit."""
    print(f"==> {name}.lock", flush=True)
    command = [uv, "pip", "compile", f"{name}.in", "--output-file", f"{name}.lock"]
    subprocess.run([*command, *COMMON, *options], check=True, cwd=REQUIREMENTS)


if __name__ == "__main__":
    main()
