"""Tasks of EleutherAI's lm-eval harness, run by the harness itself in a process of its own, if it is installed.

Tasks that have the model write (`triviaqa`, `mmlu_generative`, `arc_challenge_chat`, `humaneval_instruct`, ...) ask the
running engines through the API. Those that weigh given answers (`mmlu`, `hellaswag`, `lambada_openai`, ...) need the
probabilities of a given text, which a chat API does not tell; they read the version's weights.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import orjson

from feedback.errors import InvalidRequest, TandemError
from feedback.tax import measuring


class HarnessFailed(TandemError):
    """lm-eval ended with an error; its last words say which."""

    code = "harness_failed"
    status = 502


@dataclass(frozen=True)
class Asked:
    """Which tasks, where further ones are described, how many questions of each at most, and the Python interpreter of
    the environment that has lm-eval, where that is not this one."""

    tasks: tuple[str, ...]
    include: Path | None = None
    limit: int | None = None
    python: Path = Path(sys.executable)


@dataclass(frozen=True)
class Target:
    """What is asked: a model behind an API, or the weights in a folder."""

    model: str
    url: str = ""
    key: str = ""
    weights: Path | None = None
    concurrency: int = 8

    def arguments(self) -> list[str]:
        if self.weights is not None:
            return ["--model", "hf", "--model_args", f"pretrained={self.weights},dtype=float32", "--batch_size", "16"]
        said = f"model={self.model},base_url={self.url}/v1/chat/completions"
        return [
            "--model", "local-chat-completions", "--apply_chat_template",
            "--model_args", f"{said},num_concurrent={self.concurrency},max_retries=3",
        ]  # fmt: skip


Scores = dict[str, dict[int, float]]


def run(asked: Asked, target: Target) -> Scores:
    """The score of each question of each task, by the task's first metric of which more is better.

    Raises InvalidRequest when lm-eval is not installed, HarnessFailed when it fails.
    """
    _require_installed(asked.python)
    with tempfile.TemporaryDirectory(prefix="tandem-harness-") as folder:
        command = [str(asked.python), "-m", "lm_eval", "run", *target.arguments(), "--tasks", *asked.tasks]
        command += ["--output_path", folder, "--log_samples"]
        command += ["--include_path", str(asked.include)] if asked.include else []
        command += ["--limit", str(asked.limit)] if asked.limit else []
        # The key goes by the environment: other users of the machine see command lines.
        environment = os.environ | {"OPENAI_API_KEY": target.key, "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["it left no word"])[-1]
            raise HarnessFailed(f"lm-eval failed: {last[:500]}")
        return _read(Path(folder))


def _require_installed(python: Path) -> None:
    looked = "import importlib.util, sys; sys.exit(importlib.util.find_spec('lm_eval') is None)"
    try:
        missing = subprocess.run([python, "-c", looked], capture_output=True, check=False).returncode != 0
    except OSError as error:
        raise InvalidRequest(f"{python} cannot be run: {error.strerror}", param="harness_python") from error
    if missing:
        raise InvalidRequest(
            f"{python} has no lm-eval: make an environment of its own for it (docs/gate.md), and name that with "
            "--harness-python",
            param="harness_python",
        )


def compare(before: Scores, after: Scores) -> dict[str, Any]:
    """As `measuring.compare`, of the questions that both were asked."""
    both = {name: sorted(before[name].keys() & after[name].keys()) for name in before.keys() & after.keys()}
    asked = {name: questions for name, questions in sorted(both.items()) if questions}
    if not asked:
        raise HarnessFailed("lm-eval left no scores of single questions to compare")
    return measuring.compare(
        *({name: [of[name][at] for at in asked[name]] for name in asked} for of in (before, after))
    )


def _read(folder: Path) -> Scores:
    (results_file,) = folder.rglob("results_*.json")
    results = orjson.loads(results_file.read_bytes())
    run_at = results_file.stem.removeprefix("results_")
    scores: Scores = {}
    for name, better in results["higher_is_better"].items():
        metrics = [metric for metric, high in better.items() if high]
        # By its whole name, as `mmlu` begins that of `mmlu_anatomy`. A group of tasks has no file of its own.
        file = results_file.with_name(f"samples_{name}_{run_at}.jsonl")
        if metrics and file.exists():
            lines = [orjson.loads(line) for line in file.read_bytes().splitlines()]
            scores[name] = _scores(lines, metrics[0])
    return scores


def _scores(samples: Sequence[dict[str, Any]], metric: str) -> dict[int, float]:
    """By question; where several filters read a reply, the mean over them."""
    found: dict[int, list[float]] = {}
    for sample in samples:
        if isinstance(sample.get(metric), int | float):
            found.setdefault(sample["doc_id"], []).append(float(sample[metric]))
    return {question: fmean(values) for question, values in found.items()}
