"""Asks a version the questions of tasks over the public API, and compares two versions question by question."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean, pvariance
from typing import Any

import orjson

from feedback.sandbox.public_api import OnProgress, PublicApi, each
from feedback.tax.tasks import Task, as_json

MAX_REPLY_TOKENS = 64
CONFIDENCE = 0.95

Right = dict[str, list[bool]]


async def ask(
    url: str,
    key: str,
    model: str,
    tasks: Sequence[Task],
    *,
    concurrency: int = 8,
    on_progress: OnProgress | None = None,
) -> Right:
    """Which questions of each task `model` (`tandem@v1`) answers right, greedily, in the order of the questions.

    Raises SandboxFailed when the API does not answer.
    """
    questions = [(task.name, item) for task in tasks for item in task.items]
    async with PublicApi(url, key, connections=concurrency) as api:

        async def is_right(number: int) -> bool:
            _, item = questions[number]
            return item.right(await api.answer(list(item.messages), model=model, max_tokens=MAX_REPLY_TOKENS))

        answers = await each(is_right, range(len(questions)), concurrency, on_progress)
    right: Right = {task.name: [] for task in tasks}
    for (name, _), answer in zip(questions, answers, strict=True):
        right[name].append(answer)
    return right


def compare(before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The tax: each task before and after with standard errors, and the drop, paired by question.

    `drop` is before less after, its interval normal with the standard error of the paired differences. The whole `drop`
    is the mean over tasks, each counting alike; its variance is the sum of theirs over the square of their number.
    `worst` is the task with the largest drop.
    """
    tasks = {name: _compare_task(before[name], after[name]) for name in before}
    count = len(tasks)
    mean = fmean(task["drop"]["value"] for task in tasks.values())
    stderr = math.sqrt(sum(task["drop"]["stderr"] ** 2 for task in tasks.values())) / count
    worst = max(tasks, key=lambda name: tasks[name]["drop"]["value"])
    return {"drop": _estimate(mean, stderr), "worst": {"task": worst, "drop": tasks[worst]["drop"]}, "tasks": tasks}


def _compare_task(before: Sequence[float], after: Sequence[float]) -> dict[str, Any]:
    differences = [float(first) - float(second) for first, second in zip(before, after, strict=True)]
    return {
        "questions": len(before),
        "before": _share(before),
        "after": _share(after),
        "drop": _estimate(fmean(differences), max(_stderr(differences), _least_stderr(len(differences)))),
    }


def _share(values: Sequence[float]) -> dict[str, float]:
    return {"value": fmean(values), "stderr": _stderr([float(value) for value in values])}


def _estimate(value: float, stderr: float) -> dict[str, Any]:
    half = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * stderr
    return {"value": value, "stderr": stderr, "interval": [value - half, value + half]}


def _least_stderr(count: int) -> float:
    """That of Wilson's interval at a share of 0, so that few questions do not look certain where no answer changed, nor
    surer where one did."""
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    return z / (count + z * z)


def _stderr(values: Sequence[float]) -> float:
    """Standard error of the mean of independent values, by their unbiased variance; 0 for a single one."""
    count = len(values)
    return math.sqrt(pvariance(values) / (count - 1)) if count > 1 else 0.0


def digest_of(tasks: Sequence[Task]) -> str:
    """Of what was asked, so that two measurements can be told to be of the same questions."""
    said = [{"name": task.name, "items": as_json(task.items)} for task in tasks]
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()
