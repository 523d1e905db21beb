"""Promise 1 while the clock of the machine is turned by an hour, back and forth, under every process at once."""

import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from feedback.schema import Vote
from tests.test_faults_votes import Home, voting
from tests.vote_ledger import Ledger, balance
from tests.vote_stack import VoteStack

COMPILER = shutil.which("cc") or shutil.which("gcc")
HOUR_S = 3600

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(600),
    pytest.mark.skipif(COMPILER is None, reason="no C compiler for the clock that can be turned"),
]


def test_votes_are_taken_and_counted_whatever_the_time_is(tmp_path: Path) -> None:
    library, shift = tmp_path / "clock.so", tmp_path / "shift"
    source = Path(__file__).parent / "clock.c"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    shift.write_bytes(struct.pack("=q", 0))
    home, ledger = Home(tmp_path), Ledger()
    drained_s = []
    with VoteStack(home.folder, LD_PRELOAD=str(library), CLOCK_SHIFT=str(shift)) as stack:
        stack.wait_until_it_answers()
        time.sleep(3)
        for hours in (0, -1, 1, 0):
            # In place: what was mapped is the same file.
            with shift.open("r+b") as file:
                file.write(struct.pack("=q", hours * HOUR_S))
            acknowledged = ledger.acknowledged
            with voting(home, stack.url, ledger, seed=hours):
                time.sleep(3)
            assert ledger.acknowledged > acknowledged + 20
            drained_s.append(round(home.drain(), 1))
        found = balance(home.store, ledger)
        alive = [name for name, process in stack.processes.items() if process.poll() is None]
    first, last = home.store.read(
        lambda session: session.execute(select(func.min(Vote.updated_at), func.max(Vote.updated_at))).one()
    )
    print({"acknowledged": ledger.acknowledged, "sent_again": ledger.unsure, "drained_s": drained_s})
    assert last - first > 1.9 * HOUR_S, "the clock was turned"
    assert len(alive) == len(stack.processes)
    assert ledger.unsure == 0
    assert found.even, found
