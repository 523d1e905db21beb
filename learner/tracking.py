"""Each step's numbers for whoever draws them: TensorBoard in the iteration's folder, and trackers that are installed.

Beside the record, never instead of it: events and evidence hold the same numbers. Names are `preference/loss`,
`ppo/kl_nats`, `evaluation/win_rate/value`; docs/tracking.md says what each means. No text is among them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

from learner.errors import TrackerMissing

Name = Literal["tensorboard", "wandb", "mlflow"]
PROJECT = "tandem"
# What an MLflow server takes in one request.
PARAMS_AT_A_TIME = 100


class Tracker(Protocol):
    """Where numbers go."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """The numbers of one step; steps of different parts of an iteration count on their own."""

    def close(self) -> None:
        """Everything is written when this returns."""


class TensorBoard:
    """Event files in `folder`, for `tensorboard --logdir`."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, which takes its server and key from its own environment (`WANDB_*`)."""

    def __init__(self, run: str, settings: Mapping[str, Any], folder: Path) -> None:
        self._run = _library("wandb").init(
            project=PROJECT, name=run, id=run, resume="allow", config=dict(settings), dir=str(folder)
        )

    def log(self, figures: Mapping[str, float], step: int) -> None:
        # Its own step only grows, over all parts of the iteration; ours stands beside the figures.
        parts = {name.split("/")[0] for name in figures}
        self._run.log({**figures, **{f"{part}/step": step for part in parts}})

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of MLflow, whose server is named by its own environment (`MLFLOW_TRACKING_URI`)."""

    def __init__(self, run: str, settings: Mapping[str, Any]) -> None:
        self._mlflow = _library("mlflow")
        self._mlflow.set_experiment(PROJECT)
        # An iteration that goes on after a kill goes on with its run.
        known = self._mlflow.search_runs(
            filter_string=f"attributes.run_name = '{run}'", output_format="list", max_results=1
        )
        if known:
            self._mlflow.start_run(run_id=known[0].info.run_id)
            return
        self._mlflow.start_run(run_name=run)
        params = [(name, json.dumps(value)) for name, value in _flat("", settings)]
        for first in range(0, len(params), PARAMS_AT_A_TIME):
            self._mlflow.log_params(dict(params[first : first + PARAMS_AT_A_TIME]))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(figures), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


class Tracking:
    """All trackers of an iteration."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def step(self, part: str, done: Any) -> None:
        """A step of a trainer: a dataclass with `step`, `steps` and its figures."""
        figures = {name: value for name, value in asdict(done).items() if name not in ("step", "steps")}
        self._log(part, figures, done.step)

    def report(self, part: str, figures: Mapping[str, Any]) -> None:
        """The numbers of a whole report, told once."""
        self._log(part, figures, 0)

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.close()

    def _log(self, part: str, figures: Mapping[str, Any], step: int) -> None:
        numbers = dict(_numbers(part, figures))
        for tracker in self._trackers:
            tracker.log(numbers, step)


def open_trackers(names: Sequence[Name], folder: Path, run: str, settings: Mapping[str, Any]) -> Tracking:
    """The trackers of these names for the iteration `run`. Raises TrackerMissing."""
    trackers: dict[str, Any] = {
        "tensorboard": lambda: TensorBoard(folder / "tensorboard"),
        "wandb": lambda: WeightsAndBiases(run, settings, folder),
        "mlflow": lambda: MLflow(run, settings),
    }
    return Tracking([trackers[name]() for name in names])


def _flat(prefix: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings by their dotted names."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield prefix + name, value


def _numbers(part: str, figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _numbers(f"{part}/{name}", value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{part}/{name}", float(value)


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise TrackerMissing(
            f"learner.trackers names {name}, which is not installed; install it beside Tandem or leave it out"
        ) from error
