"""A home comes out of a backup whole, or not at all: what is not as it was written is refused."""

import errno
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from sqlalchemy import text

import deploy.backup
import deploy.restoring
from deploy.backup import BackupInvalid, Contents, backup
from deploy.restoring import restore
from deploy.running import is_held, prepare_home, take_home
from feedback.errors import Conflict, RecordOfNewerRelease, TandemError
from feedback.settings import Settings
from feedback.store import Store
from tests.deploy.homes import elsewhere, files_of, make_home, put_vote
from tests.records import empty_record


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
