"""LiteLLM's proxy as a peer of the gateway: the newest release, in an environment of its own, over one upstream."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".venv-litellm"
KEY = "sk-benchmark"


def prepare() -> str:
    """Make the environment if it is not there; returns LiteLLM's version."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "bin" / "litellm").exists():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "litellm[proxy]"], check=True)
    asked = "import importlib.metadata as m; print(m.version('litellm'))"
    return subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True).stdout.strip()


def start(folder: Path, upstream: str, port: int) -> subprocess.Popen[bytes]:
    """One worker that passes the model `tandem` on to `upstream`, an OpenAI-compatible base URL."""
    parameters = {"model": "openai/policy", "api_base": upstream, "api_key": "none"}
    config = {
        "model_list": [{"model_name": "tandem", "litellm_params": parameters}],
        "litellm_settings": {"telemetry": False, "num_retries": 0},
        "general_settings": {"master_key": KEY},
    }
    # JSON is YAML.
    (folder / "litellm.yaml").write_text(json.dumps(config))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LITELLM", "OPENAI"))}
    environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_DOCS": "True"}
    arguments = ["--config", "litellm.yaml", "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    with (folder / "litellm.log").open("wb") as log:
        return subprocess.Popen(
            [ENVIRONMENT / "bin" / "litellm", *arguments], cwd=folder, env=environment, stdout=log, stderr=log
        )


if __name__ == "__main__":
    sys.stdout.write(f"{prepare()}\n")
