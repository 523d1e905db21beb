"""The steps of a trainer are known after a kill, each once."""

from dataclasses import dataclass
from pathlib import Path

from learner.iteration.steps import Steps


@dataclass(frozen=True)
class Done:
    step: int
    loss: float


def test_steps_that_are_done_again_stand_once_and_as_they_were_last(tmp_path: Path) -> None:
    path = tmp_path / "ppo.jsonl"
    for step in range(1, 6):
        Steps(path).add(Done(step, 1.0))
    resumed = Steps(path)
    resumed.add(Done(4, 2.0))
    wanted = [{"step": step, "loss": loss} for step, loss in ((1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0))]
    assert resumed.so_far == Steps(path).so_far == wanted
    # Begun anew, on fewer votes.
    resumed.add(Done(1, 3.0))
    assert resumed.so_far == Steps(path).so_far == [{"step": 1, "loss": 3.0}]


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "ppo.jsonl"
    Steps(path).add(Done(1, 1.0))
    with path.open("ab") as file:
        file.write(b'{"step": 2, "lo')
    resumed = Steps(path)
    assert resumed.so_far == [{"step": 1, "loss": 1.0}]
    resumed.add(Done(2, 2.0))
    assert [step["loss"] for step in Steps(path).so_far] == [1.0, 2.0]


def test_of_many_some_are_shown_with_the_last(tmp_path: Path) -> None:
    steps = Steps(tmp_path / "dpo.jsonl")
    for step in range(1, 11):
        steps.add(Done(step, 1.0))
    assert [step["step"] for step in steps.some(5)] == [2, 4, 6, 8, 10]
    assert steps.some(10) == steps.some(11) == steps.so_far
