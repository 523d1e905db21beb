"""`tandem ratings` on the record of a home that nothing runs in."""

import json
from pathlib import Path

import pytest

from feedback.store import votes
from feedback.worker import count_all
from tests.deploy.command_line import in_process
from tests.feedback.record import add_comparison, judgement, sample
from tests.records import empty_record


def test_ratings_are_shown_as_they_are_and_controlled_for_length(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = empty_record(tmp_path / "record.db")
    tandem = in_process(capfd)
    assert tandem("ratings", "--home", tmp_path).err.startswith("There is nothing to rate yet")
    for left, right in (("a long reply", "short"), ("as long", "so long")):
        pair = add_comparison(store, sample(left), sample(right, version=1))
        store.write(votes.put, pair, judgement(), key_id="key_a", sees_all=True, rater="ann")
    count_all(store)
    store.close()
    said = json.loads(tandem("ratings", "--json", "--home", tmp_path).out)
    assert [one["version"] for one in said["helpful"]["ratings"]] == ["v0", "v1"]
    controlled = said["helpful"]["length_controlled"]
    assert [one["votes"] for one in controlled["ratings"]] == [2, 2]
    assert said["harmless"] == {
        "ratings": [],
        "length_controlled": {"ratings": [], "twice_as_long": None, "interval": None},
    }
    shown = tandem("ratings", "--home", tmp_path)
    assert "AS LONG" in shown.out and f"{controlled['ratings'][1]['rating']:+.0f}" in shown.out
    assert "Under helpful it is worth" in shown.out + shown.err
