import gzip
import io
import json
from pathlib import Path

import pytest

from feedback import red_team
from feedback.errors import InvalidRequest
from feedback.red_team import export_transcripts, import_transcripts
from feedback.store import Store, votes
from tests.feedback.record import add_comparison, judgement

ANN = {"key_id": "key_a", "sees_all": False, "rater": "ann"}
GOOD = [
    {"transcript": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d", "model_type": "plain lm",
     "rating": 4.0, "task_description": "be rude", "tags": ["x"], "is_upworker": False},
    # No space after an opening: not what a message list gives back by itself.
    {"transcript": "\n\nHuman:a\n\nAssistant: b", "rating": 0.0, "task_description": ""},
    {"transcript": "\n\nHuman: a\n\nAssistant: «b»"},
]  # fmt: skip
BAD = [{"transcript": 3}, {"transcript": GOOD[0]["transcript"], "rating": 5.0}, {"transcript": "\n\nHuman: a"}, [1]]


@pytest.mark.parametrize("shape", ["lines", "array", "gzip", "byte order mark"])
def test_transcripts_come_back_as_they_were_and_are_imported_once(store: Store, tmp_path: Path, shape: str) -> None:
    path = tmp_path / "red-team.jsonl"
    records = [GOOD[0], *BAD, *GOOD[1:]]
    lines = "\n".join(json.dumps(record) for record in records).encode()
    array = json.dumps(records, indent=1).encode()
    content = {"lines": lines, "gzip": gzip.compress(lines), "array": array, "byte order mark": b"\xef\xbb\xbf" + array}
    path.write_bytes(content[shape])
    report = import_transcripts(store, path, home=tmp_path)
    assert (report.read, report.imported, report.known) == (7, 3, 0)
    assert [line.number for line in report.set_aside] == [2, 3, 4, 5]
    assert report.set_aside_file.exists()
    again = import_transcripts(store, path, home=tmp_path)
    assert (again.imported, again.known) == (0, 3)
    out = io.BytesIO()
    assert export_transcripts(store, out).written == 3
    assert [json.loads(line) for line in out.getvalue().splitlines()] == GOOD


def test_a_vote_on_an_attack_is_exported_with_the_preferred_reply(store: Store) -> None:
    vote = judgement("1", objective="harmless", success=3)
    store.write(votes.put, add_comparison(store), vote, **ANN)
    store.write(votes.put, add_comparison(store), judgement("1", objective="harmless"), **ANN)
    out = io.BytesIO()
    export_transcripts(store, out)
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        {"transcript": "\n\nHuman: What is 2 plus 3?\n\nAssistant: 6", "rating": 3.0}
    ]


def test_success_is_told_of_attacks_alone(store: Store) -> None:
    with pytest.raises(InvalidRequest, match="harmless"):
        store.write(votes.put, add_comparison(store), judgement(success=3), **ANN)


def test_what_is_compressed_to_nearly_nothing_is_not_read_whole(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(red_team, "MAX_BYTES", 1000)
    path = tmp_path / "attacks.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * 1001))
    with pytest.raises(InvalidRequest, match="holds more than 1000 bytes"):
        red_team.import_transcripts(store, path, home=tmp_path)


def test_a_file_that_cannot_be_read(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        import_transcripts(store, tmp_path / "none", home=tmp_path)
