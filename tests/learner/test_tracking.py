"""Trackers are told each step's numbers, and each number is documented."""

import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from learner.dpo import DPOStep
from learner.errors import TrackerMissing
from learner.preference_training import PreferenceStep
from learner.tracking import open_trackers

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tracking.md"


@dataclass(frozen=True)
class Step:
    step: int
    steps: int
    reward: float
    scores: dict[str, float]


def test_tensorboard_holds_every_number_and_no_text(tmp_path: Path) -> None:
    tracking = open_trackers(["tensorboard"], tmp_path, "itr_1", {})
    for step in (1, 2):
        tracking.step("ppo", Step(step, 2, 0.5 * step, {"helpful": -1.0}))
    tracking.report("evaluation", {"win_rate": {"value": 0.75, "interval": [0.5, 1]}, "name": "v1", "passes": True})
    tracking.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["ppo/reward", "ppo/scores/helpful", "evaluation/win_rate/value"]
    assert [(one.step, one.value) for one in events.Scalars("ppo/reward")] == [(1, 0.5), (2, 1.0)]


def test_no_tracker_is_a_tracker_too(tmp_path: Path) -> None:
    tracking = open_trackers([], tmp_path, "itr_1", {})
    tracking.step("ppo", Step(1, 1, 0.0, {}))
    tracking.close()
    assert not list(tmp_path.iterdir())


def test_a_tracker_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TrackerMissing, match="wandb, which is not installed"):
        open_trackers(["wandb"], tmp_path, "itr_1", {})


def test_mlflow_goes_on_with_the_run_of_an_iteration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where MLflow is installed beside Tandem, which `make env` does not do."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    settings = {"seed": 3, "ppo": {f"name{number}": number for number in range(150)}}
    for step in (1, 2):
        tracking = open_trackers(["mlflow"], tmp_path, "itr_1", settings)
        tracking.step("ppo", Step(step, 2, 0.5 * step, {"helpful": -1.0}))
        tracking.close()
    (run,) = mlflow.search_runs(experiment_names=["tandem"], output_format="list")
    assert (run.info.run_name, run.info.status) == ("itr_1", "FINISHED")
    assert (run.data.params["seed"], run.data.params["ppo.name149"], len(run.data.params)) == ("3", "149", 151)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "ppo/reward")
    assert [(one.step, one.value) for one in history] == [(1, 0.5), (2, 1.0)]


@pytest.mark.parametrize(("part", "step"), [("dpo", DPOStep), ("preference", PreferenceStep)])
def test_every_figure_of_a_step_is_documented(part: str, step: type) -> None:
    documented = set(re.findall(rf"^\| `{part}/(\w+)", PAGE.read_text(), re.MULTILINE))
    assert documented == {one.name for one in fields(step)} - {"step", "steps"}
