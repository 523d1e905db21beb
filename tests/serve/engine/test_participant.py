"""What a process that takes part in another one's promotion says of its own failures."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from feedback.store import presence
from feedback.store.presence import Asked
from serve.engine.participant import Part, Participant
from serve.engine.pool import Pool
from serve.record import Record


class DiskIsFull:
    async def prepare(self, version: int) -> None:
        raise OSError(28, "No space left on device")


async def test_what_this_machine_fails_at_is_said_to_who_asked(record: Record, tmp_path: Path) -> None:
    written = list[tuple[Any, ...]]()

    async def write(operation: Any, *args: Any) -> None:
        written.append((operation, *args))

    record.write = write  # type: ignore[method-assign, assignment]
    flipping: Any = DiskIsFull()
    own: Any = SimpleNamespace(id="api_1", engines="here")
    nothing: Any = None
    pool = Pool(tmp_path, 2, seats_per_slot=1, max_queued=1)
    stage = presence.STAGES[0]
    part = Part(Asked(3, 1, stage, "api_2", "there"), loads=True)
    await Participant(pool, flipping, record, own, nothing, nothing)._prepare(part, stage)
    assert written == [(presence.answer, "api_1", 3, stage, "No space left on device")]
    assert part.failed and part.done == stage
