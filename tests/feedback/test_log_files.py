"""Logs are bounded while processes write to them, and what they wrote is kept."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from feedback.log_files import bound

LIMIT_BYTES = 20_000
LINES = 8000
# As a process of a stack writes: to a file that was opened for it, to append.
WRITER = f"""
import os, time
for number in range({LINES}):
    os.write(1, b"line %06d\\n" % number)
    if number % 20 == 0:
        time.sleep(0.005)
"""


def test_what_a_living_process_writes_is_kept_in_two_files(tmp_path: Path) -> None:
    log = tmp_path / "it.log"
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    writer = subprocess.Popen([sys.executable, "-c", WRITER], stdout=output)
    os.close(output)
    aside = []
    while writer.poll() is None:
        if bound(log, LIMIT_BYTES):
            aside.append((tmp_path / "it.log.1").read_bytes())
        time.sleep(0.01)
    assert writer.returncode == 0
    assert len(aside) > 1 and all(len(part) > LIMIT_BYTES for part in aside)
    # Whole lines, each file without a gap and each after the one before: those that fall into the moment in which the
    # file is emptied may be missing, however long that is on a busy machine.
    at = 0
    for part in (*aside, log.read_bytes()):
        numbers = [int(line.removeprefix(b"line ")) for line in part.split(b"\n")[:-1]]
        assert part == b"".join(b"line %06d\n" % number for number in numbers)
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else part == b""
        assert not numbers or numbers[0] >= at
        at = numbers[-1] + 1 if numbers else at
    assert at == LINES or log.read_bytes() == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it.log", "it.log.1"]
    assert stat.S_IMODE((tmp_path / "it.log.1").stat().st_mode) == 0o600


def test_a_small_log_stays_as_it_is(tmp_path: Path) -> None:
    log = tmp_path / "it.log"
    assert not bound(log, LIMIT_BYTES)
    log.write_bytes(b"x" * LIMIT_BYTES)
    assert not bound(log, LIMIT_BYTES)
    assert [path.name for path in tmp_path.iterdir()] == ["it.log"]


def test_where_it_cannot_be_set_aside_nothing_is_lost(tmp_path: Path) -> None:
    log = tmp_path / "it.log"
    log.write_bytes(b"x" * 30_000)
    (tmp_path / "it.log.1").mkdir()
    with pytest.raises(OSError):
        bound(log, LIMIT_BYTES)
    assert log.read_bytes() == b"x" * 30_000
