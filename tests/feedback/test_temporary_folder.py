"""A process's own temporary folder: gone at its end, swept by the next one where it was killed, and never another's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from feedback.temporary_folder import MARK, PREFIX

HOLDER = """
import os, subprocess, sys, tempfile, time
from feedback import temporary_folder
temporary_folder.take()
tempfile.mkdtemp()
subprocess.run([sys.executable, "-c", "import tempfile; tempfile.mkstemp()"], check=True)
if sys.argv[1] == "forks" and (child := os.fork()):
    print(child, flush=True)
    os._exit(1)
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """The machine's temporary folder, with what is not ours in it."""
    (tmp_path / f"{PREFIX}notes").mkdir()
    (tmp_path / f"{PREFIX}notes" / "mine").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / MARK).touch()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "elsewhere")
    return tmp_path


def holder(shared: Path, kind: str = "stays") -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, kind],
        env=os.environ | {"TMPDIR": str(shared)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def held(shared: Path) -> list[Path]:
    """Our folders. Whatever is not ours must be there still."""
    assert {f"{PREFIX}notes", f"{PREFIX}link", "elsewhere"} <= {path.name for path in shared.iterdir()}
    assert (shared / f"{PREFIX}notes" / "mine").exists() and (shared / "elsewhere" / MARK).exists()
    return [path for path in shared.iterdir() if path.is_dir() and path.name not in ("elsewhere", f"{PREFIX}notes")]


def end(process: "subprocess.Popen[str]") -> None:
    process.communicate(timeout=60)


def test_what_a_process_and_its_children_leave_goes_with_it(shared: Path) -> None:
    process = holder(shared)
    (folder,) = (path for path in held(shared) if not path.is_symlink())
    assert len(list(folder.iterdir())) == 3, "its own, its child's, and the mark"
    end(process)
    assert not folder.exists()
    held(shared)


def test_what_one_that_was_killed_left_goes_with_the_next_start_and_what_is_in_use_stays(shared: Path) -> None:
    stays, killed = holder(shared), holder(shared)
    with_stays_and_killed = set(held(shared))
    killed.kill()
    end(killed)
    assert set(held(shared)) == with_stays_and_killed
    third = holder(shared)
    assert len(held(shared)) == len(with_stays_and_killed), "that of the killed one is gone, the third's is new"
    assert len(set(held(shared)) & with_stays_and_killed) == len(with_stays_and_killed) - 1
    for process in (third, stays):
        end(process)
    assert [path.name for path in held(shared)] == [f"{PREFIX}link"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to own what is another's")
def test_what_another_user_has_put_there_is_left_alone(shared: Path) -> None:
    folder = shared / f"{PREFIX}killed"
    folder.mkdir()
    (folder / MARK).touch()
    os.chown(folder, 65534, 65534)
    end(holder(shared))
    assert (folder / MARK).exists()


def test_what_one_left_that_was_killed_before_it_held_its_folder_goes_too(shared: Path) -> None:
    (shared / f"{PREFIX}left").mkdir()
    end(holder(shared))
    assert [path.name for path in held(shared)] == [f"{PREFIX}link"]


def test_who_loses_a_folder_before_it_is_held_takes_another_one(shared: Path) -> None:
    code = (
        "import tempfile; from pathlib import Path; from feedback import temporary_folder\n"
        "make, made = tempfile.mkdtemp, []\n"
        "def swept(**how):\n"
        "    made.append(make(**how))\n"
        "    if len(made) == 1: Path(made[0]).rmdir()\n"
        "    return made[-1]\n"
        "tempfile.mkdtemp = swept\n"
        "assert temporary_folder.take() == Path(made[1]) and (Path(made[1]) / temporary_folder.MARK).exists()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"TMPDIR": str(shared)})


def test_where_it_was_removed_meanwhile_another_one_is_taken(shared: Path) -> None:
    code = (
        "import shutil, subprocess, sys, tempfile; from pathlib import Path; from feedback import temporary_folder\n"
        "first = temporary_folder.take(); shutil.rmtree(first)\n"
        "with temporary_folder.for_a_child() as environment:\n"
        "    own = Path(environment['TMPDIR']); leave = 'import tempfile; tempfile.mkstemp()'\n"
        "    subprocess.run([sys.executable, '-c', leave], check=True, env=environment)\n"
        "    assert len(list(own.iterdir())) == 1 and own.parent != first\n"
        "    assert own.parent == Path(tempfile.gettempdir()) == temporary_folder.held()\n"
        "assert not own.exists()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"TMPDIR": str(shared)})
    assert [path.name for path in held(shared)] == [f"{PREFIX}link"]


def test_it_is_in_use_while_a_process_lives_that_was_forked_from_its_own(shared: Path) -> None:
    process = holder(shared, "forks")
    process.wait(timeout=60)
    before = set(held(shared))
    end(holder(shared))
    assert set(held(shared)) == before
    process.communicate(timeout=60)  # lets the fork end, which removes nothing: it is not its own
    end(holder(shared))
    assert [path.name for path in held(shared)] == [f"{PREFIX}link"]


def test_what_multiprocessing_has_there_goes_first(tmp_path: Path) -> None:
    """Celery's workers have: each end wrote a traceback."""
    code = "from multiprocessing import util; from feedback import temporary_folder as t; t.take(); util.get_temp_dir()"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stderr == "" and list(tmp_path.iterdir()) == []
