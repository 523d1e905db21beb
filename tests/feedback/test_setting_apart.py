"""Raters who are set apart and released, with many votes and in the middle of it."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from feedback import datasets, setting_apart
from feedback.exporting import export_votes
from feedback.queue import make_celery
from feedback.red_team import export_transcripts
from feedback.scheduler import Scheduler
from feedback.settings import FeedbackSettings, load_settings
from feedback.store import Store, erasure, live_votes, raters, tallies, votes
from feedback.worker import count_all
from tests.feedback.record import add_comparison, judgement

ANN = {"key_id": "key_a", "sees_all": False, "rater": "ann"}


@pytest.fixture
def ann(store: Store) -> str:
    """A rater with five votes that count, beside another with one."""
    for _ in range(5):
        store.write(votes.put, add_comparison(store), judgement(), **ANN)
    store.write(votes.put, add_comparison(store), judgement(), **(ANN | {"rater": "bob"}))
    count_all(store)
    return store.read(raters.find, "key_a", "ann")


@pytest.fixture
def parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Votes are moved two at a time: how many each statement moved."""
    monkeypatch.setattr("feedback.store.parts.AT_ONCE", 2)
    moved: list[int] = []

    def note(_connection: object, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE votes"):
            moved.append(cursor.rowcount)

    event.listen(store.engine, "after_cursor_execute", note)
    return moved


def test_the_votes_of_who_is_set_apart_or_released_are_moved_part_by_part(
    store: Store, ann: str, parts: list[int]
) -> None:
    assert setting_apart.quarantine(store, ann, "a robot") == 5
    assert parts == [2, 2, 1], "others get their turn between them"
    assert store.read(votes.count_by_state) == {"counted": 1, "quarantined": 5}
    assert (store.read(tallies.counted), store.read(raters.get, ann).votes_counted) == (1, 0)
    assert setting_apart.release(store, ann) == 5
    assert parts[3:] == [2, 2, 1]
    assert count_all(store) == 5
    assert store.read(tallies.counted) == 6


def test_what_was_cut_off_the_scheduler_goes_on_with(store: Store, ann: str, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    scheduler = Scheduler(settings, store, make_celery(settings))
    for begin, left, moved in (
        (lambda: store.write(raters.quarantine, ann, "a robot"), "counted", "quarantined"),
        (lambda: store.write(raters.release, ann), "quarantined", "accepted"),
    ):
        assert begin() == 5
        store.write(raters.move, ann, store.read(raters.to_move, ann)[:3])
        states = store.read(votes.count_by_state)
        assert (states[left], states[moved]) == ((3 if left == "counted" else 2), 3)
        scheduler.set_apart()
        states = store.read(votes.count_by_state)
        assert (states.get(left, 0), states[moved]) == ((1 if left == "counted" else 0), 5)
        assert store.read(raters.half_moved) == []
    released_at = store.read(raters.get, ann).released_at
    count_all(store)
    assert not any(vote.rater_id == ann for vote in store.read(lambda session: list(raters.seen(session)))), (
        f"votes from before {released_at} do not set them apart once more"
    )


def test_who_is_erased_while_the_scheduler_goes_on_does_not_stop_it(
    store: Store, ann: str, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(raters.quarantine, ann, "a robot")
    erase = iter([lambda: store.write(erasure.erase, ann)])
    monkeypatch.setattr("feedback.store.parts.time.sleep", lambda _: next(erase, lambda: None)())
    setting_apart.finish(store)
    assert store.read(votes.count_by_state) == {"counted": 1, "retracted": 5}
    assert (store.read(tallies.counted), store.read(raters.half_moved)) == (1, [])


def test_no_dataset_no_gate_and_no_export_takes_a_vote_whose_rater_is_being_set_apart(
    store: Store, ann: str, tmp_path: Path
) -> None:
    attack = judgement(objective="harmless", success=3)
    store.write(votes.put, add_comparison(store), attack, **ANN)
    store.write(raters.quarantine, ann, "a robot")
    assert store.read(votes.count_by_state) == {"counted": 6, "accepted": 1}
    assert [tally.votes for tally in store.read(live_votes.between, 1, 0)] == [1]
    assert store.read(datasets.freeze, tmp_path, FeedbackSettings()).summary["examples"] == 1
    assert [vote.rater_id == ann for vote in store.read(lambda session: list(raters.seen(session)))] == [False]
    assert export_votes(store, BytesIO(), "trl").written == 1
    assert export_transcripts(store, BytesIO()).written == 0
    late = store.write(votes.put, add_comparison(store), judgement(), **ANN)
    count_all(store)
    assert store.read(votes.get, late.id, key_id="key_a", sees_all=False).state == "quarantined"


def test_who_is_released_while_their_votes_are_set_apart_keeps_them(store: Store, ann: str) -> None:
    store.write(raters.quarantine, ann, "a robot")
    ids = store.read(raters.to_move, ann)
    store.write(raters.move, ann, ids[:3])
    store.write(raters.release, ann)
    store.write(raters.move, ann, ids[3:])
    setting_apart.finish(store)
    count_all(store)
    assert store.read(votes.count_by_state) == {"counted": 6}
