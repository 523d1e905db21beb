"""What holds for every command: quick help, errors as one line, pipes that end early."""

import errno
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from typer.models import CommandInfo

from deploy.command import app
from feedback.errors import Conflict, InvalidRequest, NotFound
from tests.deploy.command_line import ROOT, Tandem, in_process, start
from tests.records import empty_record

HEAVY = ("torch", "vllm", "transformers", "sqlalchemy", "fastapi", "celery", "httpx", "pydantic", "rich")


@pytest.fixture
def tandem(capfd: pytest.CaptureFixture[str]) -> Tandem:
    return in_process(capfd)


def test_help_lists_every_group(tandem: Tandem) -> None:
    ran = tandem("--help")
    assert ran.exit_code == 0
    for name in ("chat", "simulate", "learn", "policies", "votes", "keys"):
        assert f"\n  {name} " in ran.out


def test_help_imports_nothing_heavy() -> None:
    code = (
        f"import sys; from deploy.command import run; run(['--help']); print([m for m in {HEAVY} if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_help_is_quick() -> None:
    """Beside what Python itself takes to start here, which is a fifth of it."""

    def least_cpu_s(*arguments: str) -> float:
        took = []
        for _ in range(3):
            process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
            _, process.returncode, used = os.wait4(process.pid, 0)
            took.append(used.ru_utime + used.ru_stime)
        return min(took)

    assert least_cpu_s("-m", "deploy.command", "--help") < 10 * least_cpu_s("-c", "pass")


@pytest.mark.parametrize("error", [Conflict("it is\n  so"), InvalidRequest("never"), NotFound("gone", param="x")])
def test_an_error_is_one_line_and_its_exit_code(
    tandem: Tandem, monkeypatch: pytest.MonkeyPatch, error: Conflict
) -> None:
    def failing() -> None:
        raise error

    monkeypatch.setattr(app, "registered_commands", [CommandInfo(name="failing", callback=failing)])
    ran = tandem("failing")
    assert ran.exit_code == error.exit_code
    assert ran.out == ""
    assert ran.err == f"tandem: {' '.join(error.message.split())}\n"


@pytest.mark.parametrize(("number", "said"), [(errno.EACCES, "Permission denied"), (errno.ENOSPC, "No space left")])
def test_what_the_machine_refuses_is_a_line(
    tandem: Tandem, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def failing() -> None:
        raise OSError(number, os.strerror(number), "/some/file")

    monkeypatch.setattr(app, "registered_commands", [CommandInfo(name="failing", callback=failing)])
    ran = tandem("failing")
    assert ran.exit_code == 1
    assert ran.err.startswith(f"tandem: /some/file: {said}") and ran.err.count("\n") == 1


def test_a_record_that_cannot_be_used_is_a_line(tandem: Tandem, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    empty_record(home / "record.db").close()
    assert tandem("db", "upgrade", "--home", home).exit_code == 0
    with sqlite3.connect(home / "record.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    newer = tandem("keys", "list", "--home", home)
    assert newer.exit_code == 1
    assert "is of a newer release (schema 9999" in newer.err and newer.err.count("\n") == 1
    (home / "record.db").write_text("no database at all")
    for command in (("keys", "list"), ("backup", tmp_path / "b.tar")):
        ran = tandem(*command, "--home", home)
        assert (ran.exit_code, ran.err.count("\n")) == (1, 1)
        assert "file is not a database" in ran.err


def test_a_home_or_a_policy_that_is_not_there_is_refused_before_anything_is_made(
    tandem: Tandem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TANDEM_DATABASE_URL", raising=False)
    home = tmp_path / "typo"
    upgraded = tandem("db", "upgrade", "--home", home)
    assert upgraded.exit_code == 3 and f"there is no record in {home} yet" in upgraded.err
    for name in ("empty", "weights"):
        (tmp_path / name).mkdir()
    (tmp_path / "weights" / "model.safetensors").touch()
    for policy, said in (
        ("nosuch", "no such folder"),
        ("empty", "no .safetensors file"),
    ):
        for detach in ([], ["--detach"]):
            started = tandem("up", "--home", home, "--policy", tmp_path / policy, "--port", 0, *detach)
            assert started.exit_code == 1
            assert started.err == f"tandem: {tmp_path}/{policy}: {said}\n"
    unread = tandem("up", "--home", home, "--policy", tmp_path / "weights", "--port", 0)
    assert unread.exit_code == 1 and f"{tmp_path}/weights/config.json cannot be read" in unread.err
    assert not home.exists()


def test_the_home_may_stand_before_the_command_and_what_stands_after_it_holds(tandem: Tandem, tmp_path: Path) -> None:
    for before, after, meant in (("a", None, "a"), ("a", "b", "b"), (None, "b", "b")):
        first = () if before is None else ("--home", tmp_path / before)
        last = () if after is None else ("--home", tmp_path / after)
        for command in (("status",), ("keys", "list")):
            assert f"{tmp_path / meant}" in tandem(*first, *command, *last).err


def test_a_name_that_the_terminals_encoding_lacks_is_shown_all_the_same(tmp_path: Path) -> None:
    name = "Łucja \N{ROCKET}"
    variables = {"PYTHONIOENCODING": "latin-1", "TANDEM_HOME": str(tmp_path / "home")}
    created = start("keys", "create", "--role", "chat", "--name", name, variables=variables)
    assert created.communicate(timeout=120) and created.returncode == 0
    table = start("keys", "list", variables=variables)
    assert r"\u0141ucja \U0001f680" in table.communicate(timeout=120)[0] and table.returncode == 0
    listed = start("keys", "list", "--json", variables=variables)
    assert json.loads(listed.communicate(timeout=120)[0])[0]["name"] == name


def test_a_start_without_a_record_that_can_be_used_ends_with_a_line(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "record.db").write_text("no database at all")
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "tandem.toml").write_text(
        'database_url = "postgresql+psycopg://tandem:secret@127.0.0.1:1/tandem"'
    )
    for home, said in (("home", "file is not a database"), ("away", "Connection refused")):
        process = start("up", "--port", 0, "--home", tmp_path / home, cwd=tmp_path)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        assert errors.splitlines()[-1].startswith("tandem: the record cannot be used: ") and said in errors
        assert "Traceback" not in errors and "secret" not in errors


def test_an_unknown_command_is_refused_with_a_suggestion(tandem: Tandem) -> None:
    ran = tandem("polices")
    assert ran.exit_code == 2
    assert "Did you mean 'policies'" in ran.err
    assert "Traceback" not in ran.err


def test_a_reader_that_goes_away_sees_no_traceback() -> None:
    reading, writing = os.pipe()
    process = start("--help", stdout=writing)
    os.close(reading)
    os.close(writing)
    _, errors = process.communicate(timeout=120)
    assert errors == ""
    assert process.returncode == 1
