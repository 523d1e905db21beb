"""A home goes into a file while it is written to, and comes back the same; what is not whole is refused."""

import errno
import hashlib
import io
import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from sqlalchemy import text

import deploy.backup
import deploy.restoring
from deploy import record_looks
from deploy.backup import BackupInvalid, Contents, backup
from deploy.restoring import restore
from deploy.running import is_held, prepare_home, take_home
from feedback import judges, manifest
from feedback.errors import Conflict, InvalidRequest, NotFound, RecordOfNewerRelease, TandemError
from feedback.lost_record import require_record
from feedback.schema import Base
from feedback.settings import Settings, load_settings
from feedback.store import Store, iterations, keys, policies
from tests.deploy.command_line import in_process, start
from tests.deploy.homes import add_version, lease, make_home, promote, put_vote
from tests.feedback.conftest import postgres  # noqa: F401
from tests.postgres_server import PostgresServer
from tests.records import empty_record
from tests.waiting import wait_for


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("TANDEM_DATABASE_URL", raising=False)
    return load_settings(home=tmp_path / "home")


def elsewhere(settings: Settings, name: str = "restored") -> Settings:
    return settings.model_copy(update={"home": settings.home.with_name(name)})


def files_of(home: Path, *folders: str) -> dict[str, bytes]:
    return {
        path.relative_to(home).as_posix(): path.read_bytes()
        for folder in folders
        for path in (home / folder).rglob("*")
        if path.is_file()
    }


def rows_of(store: Store) -> dict[str, list[tuple[object, ...]]]:
    with store.engine.connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(table.select())), key=repr)
            for table in Base.metadata.sorted_tables
        }


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


def test_what_is_restored_is_closed_to_others(settings: Settings, tmp_path: Path) -> None:
    """Whatever the umask of who restores it."""
    store = make_home(settings, versions=1)
    backup(settings, tmp_path / "b.tar")
    there = elsewhere(settings)
    before = os.umask(0o022)
    try:
        restore(there, tmp_path / "b.tar")
        Store(f"sqlite:///{tmp_path}/fresh/record.db").migrate()
    finally:
        os.umask(before)
    for path in (there.home, there.home / "record.db", there.home / "policies", tmp_path / "fresh" / "record.db"):
        assert path.stat().st_mode & 0o077 == 0, path
    store.close()


def rewritten(path: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """The backup with each member as `change` says; None leaves it out."""
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    altered = path.with_name("altered.tar")
    with tarfile.open(altered, "w") as tar:
        for name, content in members:
            changed = change(name, content)
            if changed is not None:
                info = tarfile.TarInfo(changed[0])
                info.size = len(changed[1])
                tar.addfile(info, io.BytesIO(changed[1]))
    return altered


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name, content: (name, content + b" " * name.endswith("probe.json")), "is not what"),
        (lambda name, content: None if name == "policies/v0/model.safetensors" else (name, content), "is not what"),
        (lambda name, content: None if name == "backup.json" else (name, content), "not a whole backup"),
        (lambda name, content: ("../outside", content) if name == "record.db" else (name, content), "does not belong"),
        (lambda name, content: ("/etc/x", content) if name == "record.db" else (name, content), "does not belong"),
        (lambda name, content: ("policies/../../x", content) if name == "record.db" else (name, content), "not belong"),
        (lambda name, content: ("run/x", content) if name == "record.db" else (name, content), "does not belong"),
    ],
)  # fmt: skip
def test_what_was_tampered_with_is_refused_and_leaves_nothing(settings: Settings, tmp_path: Path, change, said) -> None:
    make_home(settings, versions=1).close()
    backup(settings, tmp_path / "b.tar")
    there = elsewhere(settings)
    with pytest.raises(BackupInvalid, match=said):
        restore(there, rewritten(tmp_path / "b.tar", change))
    assert not there.home.exists()
    assert not (tmp_path / "outside").exists() and not (tmp_path / "x").exists()


def test_weights_that_are_not_those_of_the_record_are_refused(settings: Settings, tmp_path: Path) -> None:
    """Even when whoever changed them wrote a fitting list of digests."""
    make_home(settings, versions=1).close()
    backup(settings, tmp_path / "b.tar")
    name_of_weights = "policies/v0/model.safetensors"
    forged = bytearray()

    def forge(name: str, content: bytes) -> tuple[str, bytes]:
        if name == name_of_weights:
            forged.extend(content[:-1] + b"\x01")
            return name, bytes(forged)
        if name == "backup.json":
            said = json.loads(content)
            said["files"][name_of_weights] = hashlib.sha256(forged).hexdigest()
            return name, json.dumps(said).encode()
        return name, content

    with pytest.raises(TandemError, match="was changed after it was published"):
        restore(elsewhere(settings), rewritten(tmp_path / "b.tar", forge))


def test_a_link_in_a_backup_is_refused(settings: Settings, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        link = tarfile.TarInfo("record.db")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(BackupInvalid, match="does not belong"):
        restore(settings, tmp_path / "b.tar")


def test_a_file_with_holes_is_refused_before_they_fill_the_disk(settings: Settings, tmp_path: Path) -> None:
    holes = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**20), "GNU.sparse.name": "datasets/a/votes.jsonl"}
    with tarfile.open(tmp_path / "b.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("datasets/a/votes.jsonl")
        info.pax_headers = holes
        tar.addfile(info)
    with pytest.raises(BackupInvalid, match="does not belong"):
        restore(settings, tmp_path / "b.tar")


@pytest.mark.parametrize(
    "members",
    [
        [("backup.json", b"[" * 100_000)],
        [("backup.json", b'{"record": "record.db", "files": [1]}')],
        [("policies/v0", b""), ("policies/v0/config.json", b"")],
        [("record.db", b""), ("record.db", b"")],
    ],
)
def test_what_no_backup_says_is_refused_in_a_line(
    settings: Settings, tmp_path: Path, members: list[tuple[str, bytes]]
) -> None:
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(BackupInvalid, match="not a whole backup"):
        restore(settings, tmp_path / "b.tar")


@pytest.mark.parametrize("said", [{"versions": 5}, {"without_weights": None}, {"versions": [1]}, {"files": [[1, 2]]}])
def test_contents_that_are_none_are_refused(settings: Settings, tmp_path: Path, said: dict[str, object]) -> None:
    make_home(settings, versions=1).close()
    backup(settings, tmp_path / "home.tar")

    def change(name: str, content: bytes) -> tuple[str, bytes]:
        return name, json.dumps(json.loads(content) | said).encode() if name == "backup.json" else content

    with pytest.raises(BackupInvalid, match="not a whole backup"):
        restore(elsewhere(settings), rewritten(tmp_path / "home.tar", change))
    assert not elsewhere(settings).home.exists()


@pytest.mark.parametrize("record", [b"no database at all", b""])
def test_a_record_that_is_none_is_refused(settings: Settings, tmp_path: Path, record: bytes) -> None:
    make_home(settings, versions=1).close()
    backup(settings, tmp_path / "home.tar")
    listed = {"record.db": hashlib.sha256(record).hexdigest()}

    def change(name: str, content: bytes) -> tuple[str, bytes]:
        if name == "backup.json":
            said = json.loads(content)
            return name, json.dumps(said | {"files": said["files"] | listed}).encode()
        return name, record if name == "record.db" else content

    with pytest.raises(BackupInvalid, match=r"record.db is no record"):
        restore(elsewhere(settings), rewritten(tmp_path / "home.tar", change))
    assert not elsewhere(settings).home.exists()


def test_a_disk_that_is_full_is_said_and_leaves_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_home(settings, versions=1).close()
    backup(settings, tmp_path / "b.tar")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Conflict, match="restored cannot be used: No space left"):
        restore(elsewhere(settings), tmp_path / "b.tar")
    assert not elsewhere(settings).home.exists()


def test_a_backup_that_cannot_be_read_is_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "b.tar").symlink_to("b.tar")
    with pytest.raises(Conflict, match=r"/b\.tar cannot be used: Too many"):
        restore(elsewhere(settings), tmp_path / "b.tar")
    assert not elsewhere(settings).home.exists()


def test_a_cut_off_file_is_refused(settings: Settings, tmp_path: Path) -> None:
    make_home(settings, versions=1).close()
    backup(settings, tmp_path / "b.tar")
    whole = (tmp_path / "b.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BackupInvalid):
        restore(elsewhere(settings), tmp_path / "b.tar")


def test_nothing_is_overwritten(settings: Settings, tmp_path: Path) -> None:
    make_home(settings, versions=1).close()
    backup(settings, tmp_path / "b.tar")
    with pytest.raises(Conflict, match="there already"):
        backup(settings, tmp_path / "b.tar")
    with pytest.raises(Conflict, match=r"holds record\.db already"):
        restore(settings, tmp_path / "b.tar")
    there = elsewhere(settings)
    prepare_home(there.home)
    with take_home(there.home), pytest.raises(Conflict, match="is in use: `tandem down`"):
        restore(there, tmp_path / "b.tar")


def test_what_a_lost_record_had_in_its_log_is_not_read_into_the_restored_one(
    settings: Settings, tmp_path: Path
) -> None:
    store = make_home(settings, versions=1)
    backup(settings, tmp_path / "b.tar")
    put_vote(store)
    there = elsewhere(settings)
    there.home.mkdir()
    shutil.copy(settings.home / "record.db-wal", there.home)
    with pytest.raises(Conflict, match=r"holds record\.db-wal already"):
        restore(there, tmp_path / "b.tar")
    assert not (there.home / "record.db").exists()
    store.close()


@pytest.mark.parametrize("at", ["policies", "iterations", "record.db"])
def test_a_restore_that_is_interrupted_can_be_begun_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    make_home(settings, versions=2).close()
    backup(settings, tmp_path / "b.tar")
    there = elsewhere(settings)
    there.home.mkdir()
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        moved = rename(path, target)
        if target == there.home / at:
            # A kill meanwhile leaves a record only where all that it names is there.
            assert (there.home / "record.db").exists() <= (there.home / "policies" / "v1").is_dir()
            raise KeyboardInterrupt
        return moved

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "rename", interrupted)
        restore(there, tmp_path / "b.tar")
    left = {path.name for path in there.home.iterdir()}
    assert not left & {"record.db", "policies", "datasets", "iterations", ".restoring"}
    restore(there, tmp_path / "b.tar")
    assert files_of(there.home, "policies") == files_of(settings.home, "policies")


def test_nobody_else_begins_in_a_home_that_is_being_restored(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_home(settings, versions=1).close()
    backup(settings, tmp_path / "b.tar")
    there = elsewhere(settings)
    held: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: held.append(is_held(there.home)))
    restore(there, tmp_path / "b.tar")
    assert held and all(held)
    assert not is_held(there.home)


def test_a_record_that_an_api_process_begins_meanwhile_stays_and_is_said(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that runs by itself, as in a container, holds no home."""
    make_home(settings, versions=1).close()
    backup(settings, tmp_path / "b.tar")
    there = elsewhere(settings)

    def begun_meanwhile(*given: Any) -> Contents:
        contents = unpack(*given)
        empty_record(there.home / "record.db").close()
        return contents

    unpack = deploy.restoring._unpack
    monkeypatch.setattr(deploy.restoring, "_unpack", begun_meanwhile)
    with pytest.raises(Conflict, match=r"holds record\.db already"):
        restore(there, tmp_path / "b.tar")
    assert (there.home / "record.db").exists() and not (there.home / ".restoring").exists()


def test_who_restores_at_the_same_time_removes_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a home that was not there when either looked."""
    make_home(settings, versions=1).close()
    backup(settings, tmp_path / "b.tar")
    there = elsewhere(settings)

    def other_is_quicker(home: Path) -> IO[str]:
        monkeypatch.undo()
        restore(there, tmp_path / "b.tar")
        return take_home(home)

    monkeypatch.setattr("deploy.restoring.take_home", other_is_quicker)
    with pytest.raises(Conflict, match=r"holds record\.db already"):
        restore(there, tmp_path / "b.tar")
    assert files_of(there.home, "policies") == files_of(settings.home, "policies")


def test_a_record_of_a_newer_release_is_refused(settings: Settings, tmp_path: Path) -> None:
    store = make_home(settings, versions=1)
    store.write(lambda session: session.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    store.close()
    backup(settings, tmp_path / "b.tar")
    with pytest.raises(RecordOfNewerRelease, match="schema 9999"):
        restore(elsewhere(settings), tmp_path / "b.tar")
    assert not elsewhere(settings).home.exists()


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
