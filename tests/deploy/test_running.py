from pathlib import Path

import pytest

from deploy.running import (
    HomeInUse,
    ProcessState,
    StackState,
    forget_state,
    is_held,
    prepare_home,
    read_state,
    take_home,
    write_state,
)
from feedback.errors import Conflict

STATE = StackState(1234, "ready", "http://127.0.0.1:1", 5.0, [ProcessState("api", "running", 7, 1, -9)])


def test_a_home_has_one_supervisor_at_a_time(tmp_path: Path) -> None:
    prepare_home(tmp_path)
    assert not is_held(tmp_path)
    with take_home(tmp_path):
        assert is_held(tmp_path)
        write_state(tmp_path, STATE)
        with pytest.raises(HomeInUse, match="in use by process 1234"):
            take_home(tmp_path)
    assert not is_held(tmp_path)
    take_home(tmp_path).close()


def test_what_was_written_down_counts_only_while_its_writer_runs(tmp_path: Path) -> None:
    prepare_home(tmp_path)
    with take_home(tmp_path):
        assert read_state(tmp_path) is None
        write_state(tmp_path, STATE)
        assert read_state(tmp_path) == STATE
        forget_state(tmp_path)
        assert read_state(tmp_path) is None
        write_state(tmp_path, STATE)
    assert read_state(tmp_path) is None


def test_a_home_that_is_not_there_is_not_held(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    assert not is_held(tmp_path / "file")


def test_the_folder_of_the_sockets_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    prepare_home(tmp_path)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700


def test_a_home_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Conflict, match="cannot be used"):
        prepare_home(tmp_path / "file" / "home")
    with pytest.raises(Conflict, match="too long for unix sockets by"):
        prepare_home(tmp_path / ("d" * 120))
