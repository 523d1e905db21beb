"""Replies on their way into the record: one that cannot be written keeps nobody waiting and takes no other along; what
ends while the record is away is in it when it is back.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import SQLAlchemyError

from feedback.errors import RecordUnavailable
from feedback.schema import Comparison, Sample
from feedback.store import samples
from serve import recorder as recorder_module
from serve.record import Record
from serve.recorder import Recorder
from tests.feedback.record import sample
from tests.waiting import until, wait_for


@contextmanager
def away(record: Record) -> Iterator[None]:
    """Nobody finds the database where it was."""
    record.store.close()
    # In one step each way: where the database alone is missing, SQLite makes a new one.
    folder = Path(record.store.engine.url.database).parent
    elsewhere = folder.rename(folder.with_name(f"{folder.name}-away"))
    yield
    elsewhere.rename(folder)


def recorded(record: Record) -> list[tuple[str, str]]:
    return record.store.read(lambda session: [(row.text, row.status) for row in session.query(Sample).order_by("id")])


async def test_what_breaks_one_reply_is_raised_to_who_waits_for_it(record: Record) -> None:
    good, broken, refused = sample("5"), sample("6"), sample("7")
    broken.messages = None
    refused.status = None
    recorder = Recorder(record)
    async with asyncio.timeout(30):
        answers = await asyncio.gather(
            *(recorder.add([row]) for row in (good, broken, refused, sample("8"))), return_exceptions=True
        )
    assert answers[0] is None and answers[3] is None
    assert isinstance(answers[1], TypeError)
    assert isinstance(answers[2], SQLAlchemyError)
    kept = record.store.read(lambda session: [row.text for row in session.query(Sample).order_by(Sample.text)])
    assert kept == ["5", "8"]
    async with asyncio.timeout(30):
        # By itself, too.
        with pytest.raises(TypeError):
            await recorder.add([broken])
        await recorder.add([sample("9")])
    await recorder.stop()


async def test_what_ends_while_the_record_is_away_is_recorded_when_it_is_back(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "AGAIN_S", 0.01)
    recorder, left, right = Recorder(record), sample("left"), sample("right", version=1)
    pair = samples.compare((left, right), key_id="key_a", tranche="online")
    with away(record):
        answers = await asyncio.gather(
            recorder.add([sample("cancelled", status="cancelled")]),
            recorder.add([sample("whole")]),
            recorder.add([left, right], pair),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [RecordUnavailable] * 3
    await until(lambda: len(recorded(record)) == 4)
    # Whoever waited for them was told that they failed.
    assert sorted(recorded(record)) == [
        ("cancelled", "cancelled"), ("left", "failed"), ("right", "failed"), ("whole", "failed"),
    ]  # fmt: skip
    assert record.store.read(lambda session: session.query(Comparison).count()) == 0
    await recorder.add([sample("later")])
    with away(record), pytest.raises(RecordUnavailable):
        await recorder.add([sample("once more")])
    await until(lambda: len(recorded(record)) == 6)
    await recorder.stop()


async def test_what_is_kept_when_the_process_ends_is_tried_once_more(
    record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    for is_back in (True, False):
        recorder = Recorder(record)
        with away(record):
            with pytest.raises(RecordUnavailable):
                await recorder.add([sample(f"back: {is_back}", status="cancelled")])
            if not is_back:
                async with asyncio.timeout(30):
                    await recorder.stop()
        await recorder.stop()
    assert recorded(record) == [("back: True", "cancelled")]
    assert "replies to 1 chats are lost" in caplog.text


async def test_the_end_waits_for_what_was_handed_in(record: Record) -> None:
    await Recorder(record).stop()
    recorder = Recorder(record)
    handed_in = asyncio.create_task(recorder.add([sample("in time")]))
    await asyncio.sleep(0)
    await recorder.stop()
    assert recorded(record) == [("in time", "complete")]
    await handed_in


async def test_the_end_waits_for_what_comes_while_the_last_is_written(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, write, loop = Recorder(record), record.store.write_swiftly, asyncio.get_running_loop()
    begun, stops, late = threading.Event(), threading.Event(), []

    def write_slowly(*operations: Any) -> None:
        begun.set()
        write(*operations)
        if not stops.is_set():
            stops.wait(60)
        elif not late:
            late.append(asyncio.run_coroutine_threadsafe(recorder.add([sample("late")]), loop))
            wait_for(lambda: not recorder._waiting.empty(), 60, "what comes late", pause_s=0.001)

    monkeypatch.setattr(record.store, "write_swiftly", write_slowly)
    first = asyncio.create_task(recorder.add([sample("first")]))
    await until(begun.is_set)
    last, stopped = asyncio.create_task(recorder.add([sample("last")])), asyncio.create_task(recorder.stop())
    await until(lambda: recorder._waiting.qsize() == 2)
    stops.set()
    async with asyncio.timeout(60):
        await asyncio.gather(first, last, stopped)
        assert [text for text, _ in recorded(record)] == ["first", "last", "late"]
        await asyncio.wrap_future(late[0])


async def test_what_comes_meanwhile_shares_a_transaction_that_is_tried_once_where_the_record_is_away(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, batches, goes_on = Recorder(record), [], threading.Event()

    def is_away(operation: Any, _: object) -> None:
        batches.append([entry.rows[0].text for entry in operation.args[0]])
        goes_on.wait(60)
        raise RecordUnavailable("the disk is full")

    monkeypatch.setattr(recorder_module, "LARGEST_BATCH", 3)
    monkeypatch.setattr(record.store, "write_swiftly", is_away)
    waiting = [asyncio.create_task(recorder.add([sample("1")]))]
    await until(lambda: batches)
    waiting += [asyncio.create_task(recorder.add([sample(text)])) for text in "2345"]
    await until(lambda: recorder._waiting.qsize() == 4)
    # Who goes away leaves the others of its transaction their answer.
    waiting[1].cancel()
    goes_on.set()
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        await recorder.stop()
    assert batches == [["1"], ["2", "3", "4"], ["5"]]
    unavailable, gone = RecordUnavailable, asyncio.CancelledError
    assert [type(answer) for answer in answers] == [unavailable, gone, unavailable, unavailable, unavailable]
    assert [text for text, _ in recorded(record)] == list("12345")


async def test_a_thread_that_cannot_be_started_is_tried_again(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(record)
    with monkeypatch.context() as full, pytest.raises(RuntimeError):
        full.setattr(threading.Thread, "start", raise_no_thread)
        await recorder.add([sample("5")])
    async with asyncio.timeout(60):
        await recorder.add([sample("6")])
        await recorder.stop()
    assert [text for text, _ in recorded(record)] == ["6"]


def raise_no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


async def test_what_the_record_has_taken_all_the_same_is_not_written_twice(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, taken, write = Recorder(record), sample("taken"), record.store.write_swiftly

    def write_and_break(*operations: Any) -> None:
        write(*operations)
        raise RecordUnavailable("the connection broke behind the commit")

    monkeypatch.setattr(record.store, "write_swiftly", write_and_break)
    with pytest.raises(RecordUnavailable):
        await recorder.add([taken, sample("taken, too")])
    monkeypatch.undo()
    await recorder.stop()
    assert recorded(record) == [("taken", "complete"), ("taken, too", "complete")]


async def test_no_more_is_kept_than_there_is_room_for(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MOST_KEPT_BYTES", 3000)
    recorder = Recorder(record)
    with away(record):
        answers = await asyncio.gather(
            *(recorder.add([sample(size * "x")]) for size in (1000, 2500, 1000)), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [RecordUnavailable] * 3
    await recorder.stop()
    assert [len(text) for text, _ in recorded(record)] == [1000, 1000]
