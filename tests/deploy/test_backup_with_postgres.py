"""A home whose record is in Postgres goes into a backup and comes back."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import record_looks
from deploy.backup import backup
from deploy.restoring import restore
from feedback.errors import Conflict, InvalidRequest, TandemError
from feedback.lost_record import require_record
from feedback.settings import Settings
from feedback.store import Store
from tests.deploy.command_line import in_process
from tests.deploy.homes import elsewhere, files_of, make_home, rows_of
from tests.feedback.conftest import postgres  # noqa: F401
from tests.postgres_server import PostgresServer


@pytest.mark.parametrize("url", ["u:secret@nowhere/d", "u@nowhere/d?password=secret&sslmode=require"])
def test_a_password_stands_on_no_command_line(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    program = tmp_path / "pg_dump"
    program.write_text('#!/bin/sh\necho "$@ / $PGPASSWORD" >&2\nexit 1\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    there = settings.model_copy(update={"database_url": f"postgresql+psycopg://{url}"})
    with pytest.raises(TandemError) as raised:
        backup(there, tmp_path / "b.tar")
    arguments, _, environment = raised.value.message.partition(" / ")
    assert "u@nowhere/d" in arguments and "secret" not in arguments
    assert environment == "secret"


def test_a_postgres_record_comes_back_the_same(
    settings: Settings,
    tmp_path: Path,
    postgres: PostgresServer,  # noqa: F811
) -> None:
    here, there = (
        home.model_copy(update={"database_url": postgres.new_database()}) for home in (settings, elsewhere(settings))
    )
    store = make_home(here, versions=2)
    before = rows_of(store)
    backup(here, tmp_path / "b.tar")
    told: list[str] = []

    def tell(stage: str, _done: int, _of: int | None) -> None:
        told.append(stage)

    with pytest.raises(InvalidRequest, match="Postgres"):
        restore(elsewhere(settings, "sqlite"), tmp_path / "b.tar", tell)
    restore(there, tmp_path / "b.tar")
    restored = Store(there.record_url)
    assert rows_of(restored) == before
    assert files_of(there.home, "policies") == files_of(here.home, "policies")
    # What is there is not overwritten, and stays.
    again = elsewhere(settings, "again").model_copy(update={"database_url": there.database_url})
    with pytest.raises(Conflict, match="into an empty one"):
        restore(again, tmp_path / "b.tar", tell)
    assert rows_of(restored) == before
    assert told == [], "what is refused was unpacked before"
    store.close()
    restored.close()


@pytest.mark.parametrize("loaded", [False, True])
def test_a_restore_to_postgres_that_is_killed_leaves_all_of_a_home_or_one_that_is_refused(
    settings: Settings,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    postgres: PostgresServer,  # noqa: F811
    loaded: bool,
) -> None:
    """When it had loaded the record, and when it was about to."""
    here = settings.model_copy(update={"database_url": postgres.new_database()})
    make_home(here, versions=2).close()
    backup(here, tmp_path / "b.tar")
    programs = tmp_path / "programs"
    programs.mkdir()
    load = f'{shutil.which("pg_restore")} "$@"' if loaded else "true"
    (programs / "pg_restore").write_text(f"#!/bin/sh\n{load}; kill -9 $PPID\n")
    (programs / "pg_restore").chmod(0o700)
    there = elsewhere(settings).model_copy(update={"database_url": postgres.new_database()})
    monkeypatch.setenv("TANDEM_DATABASE_URL", str(there.database_url))
    killed = subprocess.run(
        [sys.executable, "-m", "deploy.command", "restore", tmp_path / "b.tar", "--home", there.home],
        check=False,
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"},
    )
    assert killed.returncode == -signal.SIGKILL
    said = next(finding for finding in record_looks.record(there))
    if loaded:
        require_record(there)
        assert said.verdict == "ok"
        assert files_of(there.home, "policies", "datasets") == files_of(here.home, "policies", "datasets")
        return
    assert (said.verdict, said.found) == ("wrong", "without tables, but the home holds policies")
    refused = in_process(capfd)("keys", "list", "--home", there.home)
    assert "holds policies and a record without tables" in refused.err
    # Nothing is in the database yet, so that it takes the next.
    shutil.rmtree(there.home)
    restore(there, tmp_path / "b.tar")
    require_record(there)


def test_a_restored_home_that_names_the_record_it_came_from_is_told_of(
    settings: Settings,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    postgres: PostgresServer,  # noqa: F811
) -> None:
    here, there = (settings.model_copy(update={"database_url": postgres.new_database()}) for _ in range(2))
    make_home(here, versions=1).close()
    (here.home / "tandem.toml").write_text(f'database_url = "{here.database_url}"')
    tandem = in_process(capfd)
    assert tandem("backup", tmp_path / "b.tar", "--home", here.home).exit_code == 0
    monkeypatch.setenv("TANDEM_DATABASE_URL", str(there.database_url))
    told = tandem("restore", tmp_path / "b.tar", "--json", "--home", tmp_path / "new")
    assert (told.exit_code, "Correct database_url" in told.err) == (0, True)
    # Where the home has settings of its own, those stay.
    for name, said in (("newer", None), ("newest", "none")):
        monkeypatch.setenv("TANDEM_DATABASE_URL", fresh := postgres.new_database())
        (tmp_path / name).mkdir()
        (tmp_path / name / "tandem.toml").write_text(f'database_url = "{said or fresh}"')
        told = tandem("restore", tmp_path / "b.tar", "--home", tmp_path / name)
        assert (told.exit_code, "Correct database_url" in told.err) == (0, False)


def test_a_home_whose_record_was_not_copied_into_the_postgres_that_it_names_is_told_to(
    settings: Settings,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    postgres: PostgresServer,  # noqa: F811
) -> None:
    make_home(settings, versions=1).close()
    url, tandem = postgres.new_database(), in_process(capfd)
    named = settings.model_copy(update={"database_url": url})
    advice = "unset database_url, and have `tandem db copy` bring record.db into that database first"
    monkeypatch.setenv("TANDEM_DATABASE_URL", url)
    assert f"and a record without tables: {advice}" in tandem("db", "upgrade", "--home", settings.home).err
    assert [finding.advice for finding in record_looks.record(named)] == [advice]
    monkeypatch.delenv("TANDEM_DATABASE_URL")
    assert tandem("db", "copy", "--to", url, "--home", settings.home).exit_code == 0
    require_record(named)
