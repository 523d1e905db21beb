import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback import importing, red_team
from feedback.errors import InvalidRequest
from feedback.formats import json_array
from feedback.red_team import export_transcripts, import_transcripts
from feedback.store import Store, votes
from tests.feedback.record import add_comparison, judgement
from tests.memory import traced
from tests.records import empty_record

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
    assert [line.number for line in report.set_aside.first] == [2, 3, 4, 5]
    assert report.set_aside.kept.exists()
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


@pytest.mark.parametrize("shape", ["lines", "array"])
def test_a_large_file_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    monkeypatch.setattr(importing, "BATCH", 100)
    store = empty_record(tmp_path / "record.db")
    records = [json.dumps(GOOD[0] | {"task_description": f"{n} " + "w" * 6000}) for n in range(3000)]
    text = "\n".join(records) if shape == "lines" else "[" + ",".join(records) + "]"
    path = tmp_path / "attacks.jsonl"
    path.write_text(text)
    del records, text
    report, peak = traced(lambda: import_transcripts(store, path, home=tmp_path))
    assert report.imported == 3000
    # 18 MB; a batch is held as rows and as what is sent of them, and Python clears away what it likes when it likes.
    assert peak < path.stat().st_size / 3
    store.close()


@pytest.mark.parametrize("shape", ["lines", "array"])
def test_what_is_compressed_to_nearly_nothing_is_not_read_whole(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    monkeypatch.setattr(importing, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(red_team, "MAX_LINE_BYTES", 1000)
    path = tmp_path / "attacks.jsonl.gz"
    path.write_bytes(gzip.compress((b"[" if shape == "array" else b"") + b" " * 1002))
    with pytest.raises(InvalidRequest, match="longer than 1000 bytes"):
        red_team.import_transcripts(store, path, home=tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "[{]",
        "[1}",
        "[{}}",
        "[1,,2]",
        "[1,]",
        "[1",
        '["a',
        "[1] 2",
        "[1][2]",
        "[1] {}",
        "[1]]",
        '[{"a": [1, 2}]',
        "[[[1]]",
        "[" * 5000,
    ],
)
def test_an_array_that_is_none_is_refused(store: Store, tmp_path: Path, content: str) -> None:
    path = tmp_path / "attacks.json"
    path.write_text(content)
    with pytest.raises(InvalidRequest, match=r"cannot be read.*not JSON"):
        import_transcripts(store, path, home=tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(st.sampled_from('ab"\\,[]{} é')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
)


@given(st.lists(JSON, max_size=5), st.integers(1, 9), st.sampled_from([None, 1]))
def test_an_array_is_cut_where_its_elements_end(records: list[object], chunk: int, indent: int | None) -> None:
    content = json.dumps(records, indent=indent, ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "CHUNK_BYTES", chunk)
        assert [json.loads(one) for one in json_array.elements(io.BytesIO(content), 1000)] == records


def test_a_file_that_cannot_be_read(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        import_transcripts(store, tmp_path / "none", home=tmp_path)
