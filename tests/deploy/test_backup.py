"""A home goes into a file while it is written to, and comes back the same; what is damaged is left out and said."""

import errno
import json
import os
import shlex
import shutil
import signal
import sqlite3
import tarfile
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

import deploy.backup
import deploy.restoring
from deploy.backup import BackupInvalid, Contents, backup
from deploy.restoring import restore
from feedback import judges, manifest
from feedback.errors import Conflict, InvalidRequest, NotFound
from feedback.settings import Settings
from feedback.store import Store, iterations, keys, policies
from tests.deploy.command_line import in_process, start
from tests.deploy.homes import add_version, elsewhere, files_of, lease, make_home, promote, put_vote, rows_of
from tests.waiting import wait_for


def test_a_home_comes_back_the_same(settings: Settings, tmp_path: Path) -> None:
    store = make_home(settings, versions=3)
    promote(store, 1)
    _, secret = store.write(keys.create, "operate")
    (settings.home / "operator.key").write_text(secret)
    before = rows_of(store)
    written = backup(settings, tmp_path / "b.tar")
    assert (tmp_path / "b.tar").stat().st_mode & 0o777 == 0o600
    assert secret.encode() not in (tmp_path / "b.tar").read_bytes()

    there = elsewhere(settings)
    assert restore(there, tmp_path / "b.tar") == written
    restored = Store(there.record_url)
    assert rows_of(restored) == before
    assert len(before["votes"]) == 2 and len(before["policies"]) == 3
    assert restored.read(keys.find, secret) is not None
    assert files_of(there.home, "policies", "datasets") == files_of(settings.home, "policies", "datasets")
    for version in range(3):
        policy = restored.read(policies.get, version)
        manifest.verify(there.home / policy.path, policy.digest)
    kept = files_of(there.home, "iterations")
    assert kept and not any(name.endswith(".state.safetensors") for name in kept)
    assert not (there.home / "operator.key").exists()
    store.close()
    restored.close()


def test_a_backup_under_writes_is_one_moment_and_every_version_in_it_has_its_weights(
    settings: Settings, tmp_path: Path
) -> None:
    store = make_home(settings, versions=2)
    stopping = threading.Event()
    written: list[str] = []

    def write() -> None:
        own = Store(settings.record_url)
        while not stopping.is_set():
            written.append(put_vote(own))
        own.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_for(lambda: len(written) >= 5, 60, "five votes")
        acknowledged = list(written)
        backup(settings, tmp_path / "b.tar")
    finally:
        stopping.set()
        writer.join()
    there = elsewhere(settings)
    restore(there, tmp_path / "b.tar")
    with sqlite3.connect(there.home / "record.db") as record:
        assert record.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert record.execute("PRAGMA foreign_key_check").fetchall() == []
        found = {vote_id for (vote_id,) in record.execute("SELECT id FROM votes")}
    assert set(acknowledged) <= found
    store.close()


def test_a_record_that_is_copied_in_many_steps_is_of_one_moment_whatever_is_written_meanwhile(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no write has the copy begin anew."""
    monkeypatch.setattr(deploy.backup, "PAGES_AT_ONCE", 1)
    store = make_home(settings, versions=1)
    steps: list[int] = []

    def write(stage: str, done: int, _of: int | None) -> None:
        if stage == "copying the record":
            steps.append(done)
            if len(steps) <= 5:
                put_vote(store)

    backup(settings, tmp_path / "b.tar", write)
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > 5
    restore(elsewhere(settings), tmp_path / "b.tar")
    with sqlite3.connect(elsewhere(settings).home / "record.db") as record:
        assert record.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert record.execute("SELECT count(*) FROM votes").fetchone() == (2,)
    store.close()


def test_it_is_told_what_is_done_and_how_much_of_it(settings: Settings, tmp_path: Path) -> None:
    make_home(settings, versions=2).close()
    told: dict[str, list[tuple[int, int]]] = {}

    def tell(stage: str, done: int, of: int | None) -> None:
        assert of is not None
        told.setdefault(stage, []).append((done, of))

    backup(settings, tmp_path / "b.tar", tell)
    restore(elsewhere(settings), tmp_path / "b.tar", tell)
    assert list(told) == ["copying the record", "writing the backup", "unpacking", "checking the weights"]
    for stage, steps in told.items():
        assert steps == sorted(steps) and len({of for _, of in steps}) == 1, stage
        assert steps[-1][0] == steps[-1][1], stage


@pytest.mark.parametrize("at", ["copying the record", "writing the backup", "unpacking", "checking the weights"])
def test_wherever_it_is_interrupted_nothing_is_left(settings: Settings, tmp_path: Path, at: str) -> None:
    make_home(settings, versions=2).close()

    def interrupt(stage: str, _done: int, _of: int | None) -> None:
        if stage == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup(settings, tmp_path / "b.tar", interrupt)
        restore(elsewhere(settings), tmp_path / "b.tar", interrupt)
    assert {path.name for path in tmp_path.iterdir()} <= {"home", "b.tar"}


def test_a_disk_without_room_for_it_is_not_filled(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_home(settings, versions=2).close()
    (settings.home / "policies" / "v1" / "more.bin").write_bytes(bytes(8 << 20))
    usage, record = shutil.disk_usage(tmp_path), (settings.home / "record.db").stat().st_size
    begun: set[str] = set()

    def refused(free: int) -> str:
        begun.clear()
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
        with pytest.raises(Conflict) as raised:
            backup(settings, tmp_path / "b.tar", lambda stage, _done, _of: begun.add(stage))
        assert [path.name for path in tmp_path.iterdir()] == ["home"]
        return raised.value.message

    assert refused(2 * record - 1).startswith(f"{tmp_path} has 0 MiB free") and not begun
    assert refused(2 * record) == f"{tmp_path} has 0 MiB free, 8 MiB are needed" and begun == {"copying the record"}
    monkeypatch.undo()
    (settings.home / "policies" / "v1" / "more.bin").unlink()
    backup(settings, tmp_path / "b.tar")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1))
    with pytest.raises(Conflict, match="has 0 MiB free"):
        restore(elsewhere(settings), tmp_path / "b.tar")
    assert not elsewhere(settings).home.exists()


def test_an_iteration_in_progress_is_left_out(settings: Settings, tmp_path: Path) -> None:
    store = make_home(settings, versions=1)
    going = store.write(iterations.start, trigger="operator", seed=1, settings={})
    folder = settings.home / "iterations" / going.id
    folder.mkdir(parents=True)
    (folder / "ppo.jsonl").write_text("{}")
    written = backup(settings, tmp_path / "b.tar")
    assert not any(name.startswith("iterations/") for name in written.files)
    store.close()


def test_pruned_weights_are_named_and_missed_ones_refused(settings: Settings, tmp_path: Path) -> None:
    store = make_home(settings, versions=3)
    shutil.rmtree(settings.home / "policies" / "v1")
    written = backup(settings, tmp_path / "b.tar")
    assert (written.versions, written.without_weights) == (["v0", "v2"], ["v1"])
    restore(elsewhere(settings), tmp_path / "b.tar")
    store.close()


@pytest.mark.parametrize("looked_at", [1, 2, 3])
def test_weights_that_are_pruned_between_two_looks_at_them_are_said_to_have_changed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_at: int
) -> None:
    """When their size is asked, when they were found whole, and when they are read."""
    make_home(settings, versions=2).close()
    looks, weights, listed = 0, settings.home / "policies" / "v1", deploy.backup._files

    def prune_when_listed(folder: Path) -> list[Path]:
        nonlocal looks
        found = listed(folder)
        looks += folder == weights
        if looks == looked_at and folder == weights:
            shutil.rmtree(weights)
        return found

    monkeypatch.setattr(deploy.backup, "_files", prune_when_listed)
    with pytest.raises(BackupInvalid, match=r"policies/v1/.* changed while it was read; run the backup again"):
        backup(settings, tmp_path / "b.tar")
    assert looks == looked_at and [path.name for path in tmp_path.iterdir()] == ["home"]


def test_damaged_weights_are_left_out_and_named_and_the_rest_can_be_restored(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = make_home(settings, versions=3)
    weights = settings.home / "policies" / "v1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    said = in_process(capfd)("backup", tmp_path / "b.tar", "--home", settings.home)
    assert said.exit_code != 0 and "whole but for the weights of v1" in said.err
    written = restore(elsewhere(settings), tmp_path / "b.tar")
    assert (written.versions, written.without_weights, written.damaged) == (["v0", "v2"], ["v1"], ["v1"])
    store.close()


@pytest.mark.parametrize("damaged", ["preference/preference.safetensors", manifest.MANIFEST])
def test_damaged_judges_are_left_out_and_named_and_the_reports_beside_them_are_kept(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str], damaged: str
) -> None:
    store = make_home(settings, versions=3)
    v1, v2 = (store.read(policies.get, version) for version in (1, 2))
    (judges.here(settings, v1) / damaged).write_bytes(b"something else")
    said = in_process(capfd)("backup", tmp_path / "b.tar", "--home", settings.home)
    assert said.exit_code != 0 and "whole but for the judges of v1, which" in said.err
    there = elsewhere(settings)
    assert restore(there, tmp_path / "b.tar").versions == ["v0", "v1", "v2"]
    assert files_of(judges.here(there, v1), ".") == {"evaluation.json": b"{}"}
    manifest.verify_files(judges.here(there, v2), str(judges.digest_of(v2)), judges.PARTS)
    store.close()


def test_where_a_backup_cannot_be_written_it_is_said_in_a_line(settings: Settings, tmp_path: Path) -> None:
    store = make_home(settings, versions=1)
    with pytest.raises(Conflict, match="cannot be written: No such file or directory"):
        backup(settings, tmp_path / "none" / "b.tar")
    store.close()


def test_two_at_once_to_one_file_leave_a_whole_one(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_home(settings, versions=1).close()
    filled, begun, fill = threading.Event(), threading.Event(), deploy.backup._fill

    def slow_first(*given: Any) -> Contents:
        contents = fill(*given)
        filled.set()
        assert begun.wait(60)
        return contents

    def slow_second(*given: Any) -> Contents:
        begun.set()
        first.join(60)
        restore(elsewhere(settings), tmp_path / "b.tar")
        return fill(*given)

    monkeypatch.setattr(deploy.backup, "_fill", slow_first)
    first = threading.Thread(target=backup, args=(settings, tmp_path / "b.tar"))
    first.start()
    assert filled.wait(60)
    monkeypatch.setattr(deploy.backup, "_fill", slow_second)
    backup(settings, tmp_path / "b.tar")
    restore(elsewhere(settings, "again"), tmp_path / "b.tar")
    assert {path.name for path in tmp_path.iterdir()} == {"home", "restored", "again", "b.tar"}


def test_a_full_disk_is_named_and_nothing_is_left(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_home(settings, versions=1).close()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(Conflict, match=r"b\.tar cannot be used: No space left on device"):
        backup(settings, tmp_path / "b.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_small_tmp_does_not_matter(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_home(settings, versions=1).close()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    backup(settings, tmp_path / "b.tar")
    restore(elsewhere(settings), tmp_path / "b.tar")
    assert not list(tmp_path.glob(".tandem-backup-*"))


def test_no_record_no_backup(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing to back up"):
        backup(settings, tmp_path / "b.tar")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidRequest, match="no such file"):
        restore(settings, tmp_path / "b.tar")


def test_a_record_without_tables_is_not_backed_up_and_that_is_said_in_a_line(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings.home.mkdir()
    (settings.home / "record.db").touch()
    said = in_process(capfd)("backup", tmp_path / "b.tar", "--home", settings.home)
    assert (said.exit_code != 0, said.err.count("\n")) == (True, 1)
    assert "the record cannot be read: no such table: policies; see `tandem doctor`" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_what_a_backup_that_is_killed_had_begun_ends_with_it(settings: Settings, tmp_path: Path) -> None:
    """A dump that goes on, or a record that is still loaded when its home has been removed."""
    program, begun = tmp_path / "pg_dump", tmp_path / "begun"
    program.write_text(f"#!/bin/sh\necho $$ > {shlex.quote(str(begun))}\nkill -9 $PPID\nexec sleep 60\n")
    program.chmod(0o700)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TANDEM_DATABASE_URL": "postgresql+psycopg://u@nowhere/d"}
    killed = start("backup", tmp_path / "b.tar", "--home", settings.home, variables=variables)
    assert killed.wait(60) == -signal.SIGKILL
    killed.communicate()
    wait_for(lambda: not Path("/proc", begun.read_text().strip()).exists(), 10, "the end of pg_dump")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_is_asked_to_end_leaves_nothing(settings: Settings, tmp_path: Path, number: signal.Signals) -> None:
    program, there = tmp_path / "pg_dump", elsewhere(settings).home
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    os.mkfifo(tmp_path / "endless.tar")
    begun = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TANDEM_DATABASE_URL": "postgresql+psycopg://u@nowhere/d"}
    backing = start("backup", tmp_path / "b.tar", "--home", settings.home, variables=begun)
    restoring = start("restore", tmp_path / "endless.tar", "--home", there)
    try:
        for process, sign in ((backing, ".tandem-backup-*/backup.tar"), (restoring, "restored/.restoring")):
            wait_for(lambda sign=sign: any(tmp_path.glob(sign)), 60, sign)  # type: ignore[misc]
            process.send_signal(number)
            process.communicate(timeout=60)
            assert process.returncode == 128 + number
    finally:
        backing.kill()
        restoring.kill()
    assert {path.name for path in tmp_path.iterdir()} <= {"home", "pg_dump", "endless.tar"}


def test_by_the_command(settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tandem = in_process(capfd)
    store = make_home(settings, versions=2)
    add_version(store, settings.home, 2)
    assert lease(store, "engines") is not None  # a backup needs no lease
    file = tmp_path / "b.tar"
    said = json.loads(tandem("backup", file, "--json", "--home", settings.home).out)
    assert said["versions"] == ["v0", "v1", "v2"]
    again = tandem("backup", file, "--home", settings.home)
    assert (again.exit_code, again.err.count("\n")) == (1, 1)
    restored = tandem("restore", file, "--json", "--home", tmp_path / "new")
    assert json.loads(restored.out)["home"] == str(tmp_path / "new")
    listed = tandem("restore", tmp_path / "absent.tar", "--home", tmp_path / "newer")
    assert (listed.exit_code, "no such file" in listed.err) == (2, True)
    store.close()
