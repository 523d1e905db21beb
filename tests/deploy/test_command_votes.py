"""`tandem votes`: a file taken in, given back, and what cannot be taken."""

import gzip
import json
import os
from pathlib import Path

import pytest

from tests.deploy.command_line import Tandem, in_process, start

GOOD = [
    {
        "chosen": "\n\nHuman: What colour is snow?\n\nAssistant: Snow is white.",
        "rejected": "\n\nHuman: What colour is snow?\n\nAssistant: Snow is what you make of it.",
    },
    {
        "chosen": "\n\nHuman: Hi\n\nAssistant: Hello – what may I do?\n\nHuman: Sing.\n\nAssistant: La, la.",
        "rejected": "\n\nHuman: Hi\n\nAssistant: Hello – what may I do?\n\nHuman: Sing.\n\nAssistant: La.",
    },
    {"chosen": "\n\nHuman: Bye\n\nAssistant: Bye!", "rejected": "\n\nHuman: Bye\n\nAssistant: No."},
]
EMPTY_REPLY = {"chosen": "\n\nHuman: Well?\n\nAssistant:", "rejected": "\n\nHuman: Well?\n\nAssistant: Yes."}
TWO_CONTEXTS = {"chosen": "\n\nHuman: One?\n\nAssistant: 1", "rejected": "\n\nHuman: Two?\n\nAssistant: 2"}


@pytest.fixture
def tandem(capfd: pytest.CaptureFixture[str]) -> Tandem:
    return in_process(capfd)


@pytest.fixture
def hh_file(tmp_path: Path) -> Path:
    """Five records, two of which cannot be taken: lines 2 and 4."""
    path = tmp_path / "harmless-small.jsonl.gz"
    path.write_bytes(gzip.compress(lines([GOOD[0], EMPTY_REPLY, GOOD[1], TWO_CONTEXTS, GOOD[2]])))
    return path


def lines(records: list[dict[str, str]]) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


def test_import_says_what_became_of_each_record(tandem: Tandem, hh_file: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    ran = tandem("votes", "import", hh_file, "--format", "hh", "--json", "--home", home)
    assert ran.exit_code == 0
    assert json.loads(ran.out) == {"read": 5, "imported": 3, "known": 0, "set_aside": 2}
    assert f"{hh_file}:2: set aside: the chosen reply is empty" in ran.err
    assert f"{hh_file}:4: set aside: chosen and rejected answer different conversations" in ran.err

    again = tandem("votes", "import", hh_file, "--format", "hh", "--json", "--home", home)
    assert json.loads(again.out) == {"read": 5, "imported": 0, "known": 3, "set_aside": 2}
    assert "/record.db*" in (home / ".gitignore").read_text(), "no start has made this home"


def test_a_pipe_and_stdin_are_read_too(tandem: Tandem, hh_file: Path, tmp_path: Path) -> None:
    content, counts = hh_file.read_bytes(), {"read": 5, "imported": 3, "known": 0, "set_aside": 2}
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    wanted = ("--format", "hh", "--objective", "harmless", "--json", "--home")
    process = start("votes", "import", pipe, *wanted, tmp_path / "piped")
    pipe.write_bytes(content)
    said, _ = process.communicate(timeout=60)
    assert json.loads(said) == counts
    # That a folder is called so says nothing of stdin.
    (tmp_path / "helpful").mkdir()
    process = start("votes", "import", "-", *wanted, tmp_path / "home", stdin=hh_file.open("rb"))
    said, told = process.communicate(timeout=60)
    assert json.loads(said) == counts
    assert "stdin." in told.split("kept in ")[1]
    process = start("votes", "import", "-", "--format", "hh", "--home", tmp_path / "none", cwd=tmp_path / "helpful")
    assert "pass --objective" in process.communicate(timeout=60)[1]


def test_export_gives_back_what_was_taken_in_byte_for_byte(tandem: Tandem, hh_file: Path, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out.jsonl"
    tandem("votes", "import", hh_file, "--format", "hh", "--home", home)
    assert tandem("votes", "export", out, "--format", "hh", "--home", home).exit_code == 0
    assert out.read_bytes() == lines(GOOD)
    ran = tandem("votes", "export", "--format", "hh", "--objective", "harmless", "--home", home)
    assert ran.out.encode() == lines(GOOD)
    assert "3 pairs written" in ran.err
    assert tandem("votes", "export", "-", "--format", "hh", "--objective", "helpful", "--home", home).out == ""


def test_other_formats_take_in_what_they_gave(tandem: Tandem, hh_file: Path, tmp_path: Path) -> None:
    tandem("votes", "import", hh_file, "--format", "hh", "--home", tmp_path / "home")
    for name in ("trl", "openai"):
        out, other = tmp_path / f"{name}.jsonl", tmp_path / name
        account = tandem("votes", "export", out, "--format", name, "--json", "--home", tmp_path / "home")
        assert json.loads(account.out) == {"written": 3, "left_out": {}}
        taken = tandem("votes", "import", out, "--format", name, "--objective", "helpful", "--json", "--home", other)
        assert json.loads(taken.out)["imported"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["import", "{file}", "--format", "csv"], "hh, trl, openai"),
        (["import", "{file}", "--format", "hh", "--objective", "funny"], "helpful, harmless"),
        (["import", "{file}.gone", "--format", "hh", "--objective", "helpful"], "cannot be read"),
        (["export", "/nowhere/out", "--format", "hh"], "cannot be written"),
        (["export", "--format", "hh", "--json"], "name a FILE"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(
    tandem: Tandem, hh_file: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    home = tmp_path / "home"
    tandem("votes", "import", hh_file, "--format", "hh", "--home", home)
    ran = tandem("votes", *(argument.format(file=hh_file) for argument in arguments), "--home", home)
    assert ran.exit_code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("name", ["helpful.jsonl", "nothing-said.jsonl", "."])
@pytest.mark.parametrize("format_name", ["hh", "red-team"])
def test_what_cannot_be_read_makes_no_home(tandem: Tandem, tmp_path: Path, name: str, format_name: str) -> None:
    home = tmp_path / "home"
    ran = tandem("votes", "import", tmp_path / name, "--format", format_name, "--home", home)
    assert (ran.exit_code, ran.err.count("cannot be read")) == (2, 1)
    assert not home.exists()


def test_a_name_that_says_no_objective_needs_one(tandem: Tandem, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(lines(GOOD))
    assert "--objective" in tandem("votes", "import", path, "--format", "hh", "--home", tmp_path / "home").err
    assert not (tmp_path / "home").exists()


def test_an_export_to_a_device_writes_to_it(tandem: Tandem, hh_file: Path, tmp_path: Path) -> None:
    tandem("votes", "import", hh_file, "--format", "hh", "--home", tmp_path)
    assert tandem("votes", "export", "/dev/null", "--format", "hh", "--home", tmp_path).exit_code == 0
    assert Path("/dev/null").is_char_device()


def test_a_reader_that_wants_the_first_pair_only_sees_no_traceback(tandem: Tandem, tmp_path: Path) -> None:
    path = tmp_path / "helpful.jsonl"
    path.write_bytes(
        lines(
            [
                {
                    "chosen": f"\n\nHuman: {n}\n\nAssistant: {'long ' * 200}",
                    "rejected": f"\n\nHuman: {n}\n\nAssistant: no",
                }
                for n in range(300)
            ]
        )
    )
    tandem("votes", "import", path, "--format", "hh", "--home", tmp_path)
    process = start("votes", "export", "--format", "hh", "--home", tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors
    assert process.returncode == 1


def test_of_many_records_that_cannot_be_taken_the_first_are_said(tandem: Tandem, tmp_path: Path) -> None:
    path, home = tmp_path / "helpful.jsonl", tmp_path / "home"
    path.write_bytes(lines([EMPTY_REPLY]) * 50)
    said = tandem("votes", "import", path, "--format", "hh", "--home", home).err.splitlines()
    assert len([line for line in said if ": set aside: " in line]) == 20
    assert "... and 30 more" in said
    (kept,) = (home / "imports").iterdir()
    assert len(kept.read_bytes().splitlines()) == 50


def test_a_format_that_is_not_known_leaves_nothing_behind(tandem: Tandem, hh_file: Path, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out" / "pairs.jsonl"
    out.parent.mkdir()
    tandem("votes", "import", hh_file, "--format", "hh", "--home", home)
    ran = tandem("votes", "export", out, "--format", "csv", "--home", home)
    assert ran.exit_code == 2
    assert "red-team" in ran.err
    assert list(out.parent.iterdir()) == []
