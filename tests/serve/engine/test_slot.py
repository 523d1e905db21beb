"""What counts as a sign of life of an engine."""

from pathlib import Path

from serve.engine.slot import Seat, Slot


def ready_slot(tmp_path: Path) -> Slot:
    slot = Slot(0, tmp_path / "engine-0.sock")
    slot.state, slot.version = "ready", 3
    return slot


def test_what_has_come_of_a_reply_shows_that_the_engine_lives(tmp_path: Path) -> None:
    slot = ready_slot(tmp_path)
    seat = Seat(slot)
    assert not slot.has_written_within(60)
    seat.progress()
    assert slot.has_written_within(60) and not slot.has_written_within(0)
    assert (seat.version_first, seat.version_last) == (3, 3)


def test_what_was_asked_does_not(tmp_path: Path) -> None:
    slot = ready_slot(tmp_path)
    seat = Seat(slot)
    seat.asked()
    assert not slot.has_written_within(60)
    assert (seat.version_first, seat.version_last) == (3, 3)


def test_nor_does_what_has_ended_or_is_doubted(tmp_path: Path) -> None:
    slot = ready_slot(tmp_path)
    seat = Seat(slot)
    seat.progress()
    slot.state = "doubted"
    assert not slot.has_written_within(60)
    slot.state = "ready"
    seat.release()
    assert not slot.has_written_within(60)
