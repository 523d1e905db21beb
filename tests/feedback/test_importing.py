import fcntl
import gzip
import io
import json
import os
import termios
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from feedback import exporting, importing
from feedback.errors import InvalidRequest
from feedback.exporting import export_votes
from feedback.formats import SetAside, prompts, replies, trl
from feedback.formats import hh as hh_format
from feedback.importing import import_file, objective_of, tranche_of
from feedback.red_team import export_transcripts, import_transcripts
from feedback.store import Store, votes
from feedback.worker import count_all
from tests.feedback.record import add_comparison, judgement, sample
from tests.memory import traced


def turns(*texts: str) -> str:
    return "".join(f"\n\n{'Human' if i % 2 == 0 else 'Assistant'}: {text}" for i, text in enumerate(texts))


def hh(chosen: str, rejected: str) -> bytes:
    return json.dumps({"chosen": chosen, "rejected": rejected}, ensure_ascii=False).encode()


GOOD = [
    hh(turns("Hi", "Hello, you"), turns("Hi", "Hello, what")),
    hh(turns("Hi\n\nthere ", "Yes", "No", "«Ünicode»  "), turns("Hi\n\nthere ", "Yes", "No", "x")),
    hh(turns("Hi", "Hello, you"), turns("Hi", "Hello, what")),
    # No space after a turn's opening, and two turns of one speaker: not what a message list gives back by itself.
    hh("\n\nHuman:Hi\n\nHuman: there\n\nAssistant: a", "\n\nHuman:Hi\n\nHuman: there\n\nAssistant: b"),
]
BAD = {
    "different conversations": hh(turns("Hi", "a"), turns("Ho", "a")),
    "chosen reply is empty": hh(turns("Hi", ""), turns("Hi", "a")),
    "no assistant turn": hh("\n\nHuman: Hi", "\n\nHuman: Hi"),
    "does not begin with a turn": hh("So. " + turns("Hi", "a"), "So. " + turns("Hi", "b")),
    "not begin with a turn": hh("\n\nAssistant: a", "\n\nAssistant: b"),
    "not JSON": b"{",
    "not a JSON object": b"[]",
    "no transcript 'rejected'": b'{"chosen": "x"}',
    "NUL": hh(turns("Hi", "a\0"), turns("Hi", "b")),
}


@pytest.mark.parametrize("compressed", [True, False])
def test_hh_comes_back_byte_for_byte_and_is_imported_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool
) -> None:
    path = tmp_path / "harmless-base-test.jsonl"
    lines = [GOOD[0], *BAD.values(), *GOOD[1:]]
    content = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(content) if compressed else content)

    report = import_file(store, path, "hh", home=tmp_path)
    assert (report.read, report.imported, report.known) == (len(GOOD) + len(BAD), 4, 0)
    assert [line.number for line in report.set_aside.first] == list(range(2, 2 + len(BAD)))
    for line, reason in zip(report.set_aside.first, BAD, strict=True):
        assert reason in line.reason
    kept = [json.loads(line) for line in report.set_aside.kept.read_bytes().splitlines()]
    assert kept[0] == {"number": 2, "reason": report.set_aside.first[0].reason, "record": lines[1].decode()}
    again = import_file(store, path, "hh", home=tmp_path)
    assert (again.imported, again.known) == (0, 4)

    assert count_all(store) == 4
    out = io.BytesIO()
    monkeypatch.setattr(exporting, "READ_BATCH", 3)
    told: list[tuple[int, int | None]] = []
    assert export_votes(store, out, "hh", on_progress=lambda done, of: told.append((done, of))).written == 4
    assert told == [(0, 4), (3, 4), (4, 4)]
    assert out.getvalue() == b"\n".join(GOOD) + b"\n"


@pytest.mark.parametrize(
    ("name", "record"),
    [
        (
            "trl",
            {
                "prompt": [{"role": "user", "content": "Hi"}],
                "chosen": [{"role": "assistant", "content": "a"}],
                "rejected": [{"role": "assistant", "content": "b"}],
            },
        ),
        (
            "openai",
            {
                "input": {"messages": [{"role": "user", "content": "Hi"}], "tools": [], "parallel_tool_calls": True},
                "preferred_output": [{"role": "assistant", "content": "a"}],
                "non_preferred_output": [{"role": "assistant", "content": "b"}],
            },
        ),
    ],
)
def test_the_other_formats_come_back_too(store: Store, tmp_path: Path, name: str, record: dict) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(json.dumps(record).encode() + b"\n" + json.dumps({"prompt": []}).encode() + b"\n")
    report = import_file(store, path, name, home=tmp_path, objective="helpful")
    assert (report.imported, report.set_aside.count) == (1, 1)
    out = io.BytesIO()
    export_votes(store, out, name)
    assert json.loads(out.getvalue()) == record


ASKED, ANSWERED = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}


@pytest.mark.parametrize(
    ("record", "prompt"),
    [
        ({"prompt": "Hi", "chosen": "a", "rejected": "b"}, [ASKED]),
        ({"prompt": [ASKED, ANSWERED, ASKED], "chosen": "a", "rejected": "b"}, [ASKED, ANSWERED, ASKED]),
        (
            {
                "chosen": [ASKED, ANSWERED, ASKED, {"role": "assistant", "content": "a"}],
                "rejected": [ASKED, ANSWERED, ASKED, {"role": "assistant", "content": "b"}],
            },
            [ASKED, ANSWERED, ASKED],
        ),
    ],
)
def test_trls_texts_and_conversations_without_a_prompt_are_the_same_pairs(
    store: Store, tmp_path: Path, record: dict, prompt: list
) -> None:
    path, line = tmp_path / "pairs.jsonl", json.dumps(record).encode()
    path.write_bytes(line)
    assert import_file(store, path, "trl", home=tmp_path, objective="helpful").imported == 1
    out = io.BytesIO()
    export_votes(store, out, "trl")
    sides = {name: [{"role": "assistant", "content": text}] for name, text in (("chosen", "a"), ("rejected", "b"))}
    assert json.loads(out.getvalue()) == {"prompt": prompt, **sides}
    scored = replies.parse(line)
    assert (scored.messages, scored.texts, scored.is_pair) == (prompt, ["a", "b"], True)
    assert prompts.parse_json(line) == prompt


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"chosen": [ASKED, ANSWERED], "rejected": [ANSWERED]}, "the same conversation"),
        ({"chosen": [ANSWERED], "rejected": [ANSWERED]}, "prompt is not a list"),
        ({"chosen": [], "rejected": []}, "prompt is not a list"),
        ({"prompt": [ASKED], "chosen": [ASKED, ANSWERED], "rejected": [ASKED, ANSWERED]}, "not one assistant message"),
        ({"prompt": "Hi", "chosen": " ", "rejected": "b"}, "the chosen reply is empty"),
        ({"prompt": 5, "chosen": "a", "rejected": "b"}, "prompt is not a list"),
        ({"chosen": "a", "rejected": "b"}, "prompt is not a list"),
    ],
)
def test_what_is_no_pair_of_trls_is_set_aside(record: dict, reason: str) -> None:
    with pytest.raises(SetAside, match=reason):
        trl.parse(json.dumps(record).encode())


def test_a_record_that_is_nested_too_deeply_is_set_aside_alone(store: Store, tmp_path: Path) -> None:
    """The record would not keep it, and no request take it."""
    path = tmp_path / "pairs.jsonl"
    replies = ", ".join(f'"{name}": [{{"role": "assistant", "content": "{name}"}}]' for name in ("chosen", "rejected"))
    path.write_text(
        "".join(
            f'{{"prompt": [{{"role": "user", "content": "{depth}", "x": {"[" * depth}{text}{"]" * depth}}}], '
            f"{replies}}}\n"
            for depth, text in ((190, ""), (300, ""), (1000, '"\\u0000"'), (1, ""))
        )
    )
    report = import_file(store, path, "trl", home=tmp_path, objective="helpful")
    assert [line.number for line in report.set_aside.first] == [2, 3]
    assert all("within each other" in line.reason for line in report.set_aside.first)
    out = io.BytesIO()
    assert export_votes(store, out, "trl").written == 2


def test_system_messages_are_left_out_where_that_is_asked_for(store: Store) -> None:
    """HH-RLHF has no turn for them."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 plus 3?"}]
    pair = add_comparison(store, sample("5", messages=messages), sample("6", messages=messages))
    store.write(
        votes.put, pair, judgement("0", objective="harmless", success=4), key_id="key_a", sees_all=False, rater="ann"
    )
    for export in (partial(export_votes, format_name="hh"), export_transcripts):
        report = export(store, io.BytesIO())
        ((reason, votes_left_out),) = report.left_out.items()
        assert (report.written, votes_left_out) == (0, 1) and "--without-system" in reason
        out = io.BytesIO()
        assert export(store, out, system_messages=False).written == 1
        assert b"Human: 2 plus 3?" in out.getvalue() and b"brief" not in out.getvalue()


def test_what_nobody_asked_is_not_written_where_no_import_would_take_it(store: Store) -> None:
    instructed = [{"role": "system", "content": "Tell a joke."}]
    pair = add_comparison(store, sample("No.", messages=instructed), sample("Ha.", messages=instructed))
    store.write(votes.put, pair, judgement(), key_id="key_a", sees_all=False, rater="ann")
    for name in ("hh", "trl", "openai"):
        report = export_votes(store, io.BytesIO(), name, system_messages=False)
        assert report.left_out == {"nothing but system messages came before the replies": 1}


def test_votes_that_are_no_preference_are_left_out_and_said(store: Store) -> None:
    for rater, said in {"a": "tie", "b": "both_bad", "c": "1"}.items():
        vote = judgement(said, ideal="Best." if said == "1" else None)
        store.write(votes.put, add_comparison(store), vote, key_id="key_a", sees_all=False, rater=rater)
    out = io.BytesIO()
    report = export_votes(store, out, "trl")
    assert report.left_out == {"preferred is tie": 1, "preferred is both_bad": 1}
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    replies = [(line["chosen"][0]["content"], line["rejected"][0]["content"]) for line in lines]
    assert replies == [("6", "5"), ("Best.", "6")]


def test_a_file_whose_objective_nobody_says(store: Store, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_bytes(GOOD[0])
    with pytest.raises(InvalidRequest, match="--objective"):
        import_file(store, tmp_path / "pairs.jsonl", "hh", home=tmp_path)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        import_file(store, tmp_path / "none-harmless.jsonl", "hh", home=tmp_path)
    with pytest.raises(InvalidRequest, match="unknown format"):
        import_file(store, tmp_path / "pairs.jsonl", "csv", home=tmp_path)


def test_a_pipe_of_which_one_byte_has_come_by_now_is_seen_to_be_gzip(tmp_path: Path) -> None:
    pipe, content = tmp_path / "pipe", gzip.compress(b"one\ntwo\n")
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb", buffering=0) as file:
            file.write(content[:1])
            unread = bytearray(4)
            while fcntl.ioctl(file, termios.FIONREAD, unread) == 0 and any(unread):
                os.sched_yield()
            file.write(content[1:])

    with ThreadPoolExecutor() as writing:
        written = writing.submit(write)
        assert list(importing.lines(pipe)) == [(1, b"one\n"), (2, b"two\n")]
    written.result()


def test_a_file_that_is_damaged_inside(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "harmless.jsonl.gz"
    whole = gzip.compress(b"\n".join(GOOD))
    path.write_bytes(whole[:20] + b"\xff\xff\xff\xff" + whole[24:])
    with pytest.raises(InvalidRequest, match="cannot be read"):
        import_file(store, path, "hh", home=tmp_path)
    with pytest.raises(InvalidRequest, match="No such file"):
        import_file(store, tmp_path / "other.jsonl", "hh", home=tmp_path)


def test_a_line_that_has_no_end_is_not_read_to_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "MAX_LINE_BYTES", 1000)
    path = tmp_path / "helpful.jsonl.gz"
    path.write_bytes(gzip.compress(b"{}\n" + b"[" * 1001))
    with pytest.raises(InvalidRequest, match="beyond line 1: the next one is longer than 1000 bytes"):
        import_file(store, path, "hh", home=tmp_path)
    path.write_bytes(gzip.compress(b"{}\n" + b"[" * 999 + b"\n"))
    assert import_file(store, path, "hh", home=tmp_path).read == 2


def test_lines_that_are_set_aside_do_not_stay_in_memory(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "helpful.jsonl"
    path.write_bytes((b"{" + b"x" * 10_000 + b"\n") * 2000)
    report, most = traced(lambda: import_file(store, path, "hh", home=tmp_path))
    assert report.set_aside.count == 2000 and [line.number for line in report.set_aside.first] == list(range(1, 21))
    assert most < path.stat().st_size / 4
    assert report.set_aside.kept is not None and report.set_aside.kept.read_bytes().count(b"\n") == 2000
    assert list((tmp_path / "imports").iterdir()) == [report.set_aside.kept]


def test_long_records_do_not_gather_in_memory(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH_BYTES", 1_000_000)
    path = tmp_path / "helpful.jsonl.gz"
    records = (hh(turns(f"{number}", "a" * 500_000), turns(f"{number}", "b")) for number in range(60))
    path.write_bytes(gzip.compress(b"\n".join(records), 1))
    report, most = traced(lambda: import_file(store, path, "hh", home=tmp_path))
    assert (report.imported, report.set_aside.count) == (60, 0)
    assert most < 60 * 500_000 / 2


def test_a_file_of_the_longest_name_has_its_records_set_aside(store: Store, tmp_path: Path) -> None:
    path = tmp_path / f"{'ü' * 124}.jsonl"
    path.write_bytes(b"{")
    report = import_file(store, path, "hh", home=tmp_path, objective="helpful")
    assert list((tmp_path / "imports").iterdir()) == [report.set_aside.kept]


def test_what_two_files_of_one_name_had_set_aside_is_kept(store: Store, tmp_path: Path) -> None:
    kept = set()
    for number, folder in enumerate(("helpful-base", "helpful-online")):
        path = tmp_path / folder / "train.jsonl"
        path.parent.mkdir()
        path.write_bytes(
            b"\xef\xbb\xbf" + hh(turns("Hi", f"{number}"), turns("Hi", "x")) + b"\n{" + str(number).encode()
        )
        for _ in range(2):
            report = import_file(store, path, "hh", home=tmp_path)
            assert report.set_aside.count == 1, "a mark of the byte order is no error"
            kept.add(report.set_aside.kept)
    assert len(kept) == 2
    assert sorted(json.loads(file.read_bytes())["record"] for file in kept) == ["{0", "{1"]


@pytest.mark.parametrize(
    ("path", "objective", "tranche"),
    [
        ("harmless-base-test.jsonl", "harmless", "base"),
        ("helpful-rejection-sampled/train.jsonl.gz", "helpful", "rejection-sampled"),
        ("harmless/helpful-online/test.jsonl", "helpful", "online"),
        ("knowledge-base/helpful.jsonl", "helpful", "import"),
        ("helpful/database.jsonl", "helpful", "import"),
    ],
)
def test_file_and_folder_say_objective_and_tranche(tmp_path: Path, path: str, objective: str, tranche: str) -> None:
    assert (objective_of(tmp_path / path), tranche_of(tmp_path / path)) == (objective, tranche)


def test_a_file_in_the_working_directory_is_known_by_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "harmless-online").mkdir()
    monkeypatch.chdir(tmp_path / "harmless-online")
    assert (objective_of(Path("train.jsonl")), tranche_of(Path("train.jsonl"))) == ("harmless", "online")


def test_two_imports_of_one_file_at_the_same_time_take_each_record_once(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "helpful-base.jsonl"
    path.write_bytes(b"\n".join(hh(turns("Hi", f"a{n}"), turns("Hi", "b")) for n in range(3000)))
    attacks = tmp_path / "red_team_attempts.jsonl"
    record = {"transcript": turns("Hi", "no"), "rating": 1.0, "task_description": "try"}
    attacks.write_bytes(b"\n".join(json.dumps(record | {"n": n}).encode() for n in range(3000)))
    with ThreadPoolExecutor(4) as pool:
        pairs = [pool.submit(import_file, store, path, "hh", home=tmp_path) for _ in range(2)]
        transcripts = [pool.submit(import_transcripts, store, attacks, home=tmp_path) for _ in range(2)]
        for reports in (pairs, transcripts):
            counts = [(one.result().imported, one.result().known) for one in reports]
            assert [sum(column) for column in zip(*counts, strict=True)] == [3000, 3000]


TOOL_CALL = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PARTS = [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]


def test_hh_leaves_out_what_a_transcript_cannot_say(store: Store) -> None:
    calls = sample("", message={"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]})
    quotes = [{"role": "user", "content": "Say:\n\nAssistant: yes\n\nHuman: so"}]
    parts = [{"role": "user", "content": PARTS}]
    told_how = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    for sides in (
        (calls, sample("6")),
        (sample("a", messages=told_how), sample("b", messages=told_how)),
        (sample("a", messages=quotes), sample("b", messages=quotes)),
        (sample("a\n\nAssistant: b"), sample("c")),
        (sample("a\n\nHuman: b", messages=parts), sample("c", messages=parts)),
    ):
        pair = add_comparison(store, *sides)
        store.write(votes.put, pair, judgement(), key_id="key_a", sees_all=False, rater="")
    out = io.BytesIO()
    assert sum(export_votes(store, out, "hh").left_out.values()) == 4
    (line,) = out.getvalue().splitlines()
    told = hh_format.parse(line)
    assert (told.messages, told.chosen["content"]) == ([{"role": "user", "content": "Hi\nthere"}], "a\n\nHuman: b")
