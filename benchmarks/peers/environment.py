"""Environments of the peers, one for each version, in which their scripts run as processes of their own."""

import json
import os
import subprocess
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from deploy.bootstrap import install_cpu_torch

ROOT = Path(__file__).parents[2]


def prepare(trl: str) -> Path:
    """The Python of an environment with this version of TRL, made if it is not there: torch and transformers are of the
    versions that run here."""
    folder = ROOT / f".venv-trl-{trl}"
    python, done = folder / "bin" / "python", folder / "complete"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        packages = [f"trl=={trl}", f"transformers=={version('transformers')}"]
        if torch.version.cuda is None:
            install_cpu_torch(str(python))
        else:
            packages.append(f"torch=={version('torch')}")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        done.touch()
    return python


def run(python: Path, script: str, job: dict[str, Any]) -> dict[str, Any]:
    """Run `benchmarks/peers/SCRIPT JOB RESULT` and return the result; both are JSON files."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "job.json", Path(folder) / "result.json"
        asked.write_text(json.dumps(job))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1"}
        command = [python, Path(__file__).with_name(script), asked, answered]
        if torch.cuda.is_initialized():
            # What this process keeps of the GPU's memory would be missing to the peer.
            torch.cuda.empty_cache()
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{script} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        result: dict[str, Any] = json.loads(answered.read_text())
        return result
