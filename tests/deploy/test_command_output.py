"""What commands print: safe for a terminal, readable by programs."""

import json

import pytest

from deploy.command.output import clean, named, print_json, print_table
from deploy.command.policies import outline


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[2J\x1b]0;owned\x07gone", "�[2J�]0;owned�gone"),
        ("back\x9b31m\rward", "back�31m�ward"),
        ("half a pair \ud83d", "half a pair �"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("à\xa0la carte, 👩‍🔬, می‌خواهم", "à\xa0la carte, 👩‍🔬, می‌خواهم"),
        (None, "-"),
        (0, "0"),
    ],
)
def test_what_could_steer_a_terminal_is_made_visible(said: object, shown: str) -> None:
    assert clean(said) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("an\u200bn", r"an\u{200b}n"),
        ("\u202enna", r"\u{202e}nna"),
        ("\x1b[2J", r"\u{1b}[2J"),
        ("Zoë 王", "Zoë 王"),
        ("", None),
    ],
)
def test_no_name_looks_like_another(name: str, shown: str | None) -> None:
    assert named(name) == shown


def test_json_steers_no_terminal_and_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"n\x9bame": "\x1b[2J\x9b31m\x7f«é» 👩‍🔬\\"}
    print_json(data)
    said = capsys.readouterr().out
    assert json.loads(said) == data
    assert clean(said) == said and "«é» 👩‍🔬" in said


def test_a_table_into_a_pipe_is_neither_cut_nor_padded_nor_coloured(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "ROLE"), [("x" * 300, "chat"), ("[bold]y", None)])
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["NAME", "ROLE"]
    assert first == "x" * 300 + "  chat"
    assert second.split() == ["[bold]y", "-"]
    assert second == second.rstrip()


def test_a_narrow_terminal_cuts_no_id(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    ids = ("itr_01a22199278b1f264c9653766c106d6c", "key_01a22164f21c1fd935964f2e612f0186")
    print_table(
        ("ID", "WHO", "WHY"),
        [(*ids, "since its replies are better than those of the one before"), ("itr_1", "key_2", "x" * 90)],
    )
    said = capsys.readouterr().out
    assert all(part in said for part in (*ids, "replies", "better")) and said.count("x") == 90
    assert "since its replies are better than those of the one before" not in said, "what can be broken is"


def test_an_object_is_outlined_for_reading() -> None:
    lines = outline(
        {
            "version": "v1",
            "evidence": {"win_rate": 0.123456, "by": {}},
            "promotions": [{"kind": "promote", "reason": "good"}, {"kind": "rollback", "reason": ""}],
            "tags": ["a", "b"],
            "parent": None,
        }
    )
    assert lines == [
        "version: v1",
        "evidence:",
        "  win_rate: 0.1235",
        "  by: -",
        "promotions:",
        "  - kind: promote",
        "    reason: good",
        "  - kind: rollback",
        "    reason: -",
        "tags: a, b",
        "parent: -",
    ]
