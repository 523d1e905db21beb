"""Weights in object storage: put there when published, brought from there where they are missing, never unchecked."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from deploy.backup import backup
from deploy.pruning import prune
from deploy.restoring import restore
from feedback import judges, manifest, object_storage, policy_weights
from feedback.errors import PolicyInvalid, SettingsInvalid, StorageUnavailable
from feedback.settings import RetentionSettings, Settings, load_settings
from feedback.store import policies
from tests.deploy.command_line import in_process
from tests.deploy.homes import make_home, promote, stand_on
from tests.ports import free_port
from tests.waiting import wait_for

TOOLS = Path(sys.prefix) / "deployment"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("TANDEM_DATABASE_URL", raising=False)
    return load_settings(home=tmp_path / "home", policies_url=f"file://{tmp_path}/storage")


def other_machine(settings: Settings, name: str = "other") -> Settings:
    """The same record and storage, a home of its own."""
    return load_settings(
        home=settings.home.with_name(name), policies_url=settings.policies_url, database_url=settings.record_url
    )


def stored(settings: Settings) -> set[str]:
    return {path.parent.name for path in settings.home.parent.glob("storage/*/manifest.json")}


def test_another_machine_gets_what_was_published(settings: Settings) -> None:
    store = make_home(settings, versions=2)
    other = other_machine(settings)
    assert policy_weights.upload(store, settings) == ["v0", "v1"]
    folder = policy_weights.folder_of(store, other, 1)
    assert folder == other.home.resolve() / "policies" / "v1"
    manifest.verify(folder, store.read(policies.get, 1).digest)
    # What is here is not asked for again.
    shutil.rmtree(settings.home.parent / "storage")
    assert policy_weights.folder_of(store, other, 1) == folder
    with pytest.raises(PolicyInvalid, match="v0 is neither here nor in the object storage"):
        policy_weights.folder_of(store, other, 0)
    store.close()


def test_what_was_changed_here_is_not_learnt_from(settings: Settings) -> None:
    store = make_home(settings, versions=2)
    file = settings.home / "policies" / "v0" / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PolicyInvalid, match=r"v0: model\.safetensors was changed"):
        policy_weights.folder_of(store, settings, 0)
    assert policy_weights.folder_of(store, settings, 1) == settings.home.resolve() / "policies" / "v1"
    store.close()


def test_weights_are_read_once_for_as_long_as_nobody_writes_to_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large ones take long."""
    store = make_home(settings, versions=2)
    verify_files, read = manifest.verify_files, list[str]()

    def verify(folder: Path, digest: str) -> dict[str, Any]:
        read.append(folder.name)
        return verify_files(folder, digest)

    monkeypatch.setattr(manifest, "verify_files", verify)
    for version in (0, 1, 0, 1):
        policy_weights.folder_of(store, settings, version)
    assert read == ["v0", "v1"]
    file = settings.home / "policies" / "v0" / "model.safetensors"
    said, content = file.stat(), file.read_bytes()
    another = file.with_name("another")
    another.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(another, ns=(said.st_atime_ns, said.st_mtime_ns))
    another.replace(file)
    for _ in range(2):
        with pytest.raises(PolicyInvalid, match=r"v0: model\.safetensors was changed"):
            policy_weights.folder_of(store, settings, 0)
    assert read == ["v0", "v1", "v0", "v0"]
    store.close()


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_file_that_grew_there_is_not_fetched(settings: Settings, tmp_path: Path, name: str) -> None:
    """It might fill the disk before its digest is known."""
    store = make_home(settings, versions=1)
    policy_weights.upload(store, settings)
    digest = store.read(policies.get, 0).digest
    store.close()
    with (settings.home.parent / "storage" / digest / name).open("ab") as file:
        file.truncate(1 << 30)
    (tmp_path / "to").mkdir()
    with pytest.raises(PolicyInvalid, match=r"model\.safetensors of .* was changed|manifest of .* is none"):
        object_storage.Storage(str(settings.policies_url)).get(digest, tmp_path / "to")
    assert not (tmp_path / "to" / name).exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.safetensors", b"other weights", "was changed"),
        ("manifest.json", b"{}", "not the one that was published"),
        ("config.json", None, "missing in the object storage"),
    ],
)
def test_what_was_tampered_with_there_never_arrives(
    settings: Settings, name: str, content: bytes | None, said: str
) -> None:
    store = make_home(settings, versions=1)
    policy_weights.upload(store, settings)
    file = settings.home.parent / "storage" / store.read(policies.get, 0).digest / name
    file.unlink() if content is None else file.write_bytes(content)
    other = other_machine(settings)
    with pytest.raises(PolicyInvalid, match=said):
        policy_weights.folder_of(store, other, 0)
    assert [path.name for path in other.policies_dir.iterdir()] == [".arriving.lock"]
    store.close()


def test_a_manifest_that_leads_elsewhere_is_not_followed(settings: Settings, tmp_path: Path) -> None:
    storage = object_storage.Storage(str(settings.policies_url))
    content = b'{"files": {"../../outside": {}}}'
    digest = manifest.hashlib.sha256(content).hexdigest()
    (tmp_path / "storage" / digest).mkdir(parents=True)
    (tmp_path / "storage" / digest / "manifest.json").write_bytes(content)
    (tmp_path / "here").mkdir()
    with pytest.raises(PolicyInvalid, match="outside its folder"):
        storage.get(digest, tmp_path / "here")


def test_many_want_it_at_once_and_one_of_them_fetches_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_home(settings, versions=1)
    policy_weights.upload(store, settings)
    other, fetched, found = other_machine(settings), list[str](), list[Path]()
    whole = object_storage.Storage.get

    def get(self: object_storage.Storage, digest: str, folder: Path) -> bool:
        fetched.append(digest)
        time.sleep(0.1)
        return whole(self, digest, folder)

    monkeypatch.setattr(object_storage.Storage, "get", get)
    threads = [
        threading.Thread(target=lambda: found.append(policy_weights.folder_of(store, other, 0))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1 and len(fetched) == 1
    store.close()


def test_another_machine_gets_the_judges(settings: Settings) -> None:
    store = make_home(settings, versions=2)
    policy_weights.upload(store, settings)
    v0, v1 = (store.read(policies.get, version) for version in (0, 1))
    other = other_machine(settings)
    folder = judges.folder_of(other, v1)
    assert folder == other.home / "iterations" / str(v1.iteration_id)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"manifest.json", "preference/preference.safetensors"}, "no report and no training state"
    # What is here is not asked for again, and the starting policy has none.
    shutil.rmtree(settings.home.parent / "storage")
    assert judges.folder_of(other, v1) == folder
    assert not judges.folder_of(other, v0).exists()
    with pytest.raises(PolicyInvalid, match=f"iterations/{v1.iteration_id} is neither here nor in the object storage"):
        judges.folder_of(other_machine(settings, "third"), v1)
    store.close()


def test_judges_take_the_place_of_those_of_a_learner_that_was_overtaken(settings: Settings) -> None:
    store = make_home(settings, versions=2)
    policy_weights.upload(store, settings)
    v1 = store.read(policies.get, 1)
    other = other_machine(settings)
    overtaken = judges.here(other, v1) / "preference" / "preference.safetensors"
    overtaken.parent.mkdir(parents=True)
    overtaken.write_bytes(b"half of it")
    assert judges.folder_of(other, v1) == judges.here(other, v1)
    assert overtaken.read_bytes() == bytes([1]) * 1000
    assert [path.name for path in (other.home / "iterations").iterdir() if path.is_dir()] == [v1.iteration_id]
    store.close()


def test_judges_that_were_tampered_with_never_arrive(settings: Settings) -> None:
    store = make_home(settings, versions=2)
    policy_weights.upload(store, settings)
    v1 = store.read(policies.get, 1)
    stored_at = settings.home.parent / "storage" / str(judges.digest_of(v1))
    (stored_at / "preference" / "preference.safetensors").write_bytes(b"another model")
    other = other_machine(settings)
    with pytest.raises(PolicyInvalid, match="was changed after it was published"):
        judges.folder_of(other, v1)
    assert not judges.here(other, v1).exists()
    store.close()


def test_judges_that_were_damaged_here_are_not_put_there(settings: Settings) -> None:
    store = make_home(settings, versions=2)
    v1 = store.read(policies.get, 1)
    model = judges.here(settings, v1) / "preference" / "preference.safetensors"
    whole = model.read_bytes()
    model.write_bytes(b"another model")
    with pytest.raises(PolicyInvalid, match="was changed after it was published"):
        policy_weights.upload(store, settings)
    # Nothing there is ever replaced.
    model.write_bytes(whole)
    policy_weights.upload(store, settings)
    assert judges.are_here(settings, v1) and judges.folder_of(other_machine(settings), v1).is_dir()
    store.close()


def test_judges_of_earlier_releases_stay_where_they_were_made(settings: Settings) -> None:
    store = make_home(settings, versions=2)
    v1 = store.read(policies.get, 1)
    v1.evidence = {}
    for home in (settings, other_machine(settings)):
        assert judges.folder_of(home, v1) == judges.here(home, v1)
    store.close()


def test_pruning_keeps_there_what_it_keeps_here(settings: Settings) -> None:
    settings = settings.model_copy(update={"retention": RetentionSettings(versions=1, iterations=1)})
    store = make_home(settings, versions=6)
    stand_on(store, settings, 3, 1)
    promote(store, 3)
    policy_weights.upload(store, settings)
    # Not even here: what serves with its base, the way back, v0 and the newest stay, wherever they are.
    other = other_machine(settings).model_copy(update={"retention": settings.retention})
    other.home.mkdir()
    rows = {version: store.read(policies.get, version) for version in range(6)}
    would = prune(store, other, dry_run=True)
    assert would.versions == ["v4", "v2"]
    assert sorted(would.iterations) == sorted(str(rows[version].iteration_id) for version in (4, 2))
    assert len(stored(settings)) == 6 + 5
    assert prune(store, other) == would
    left = {judges.digest_of(rows[version]) for version in (1, 3, 5)}
    assert stored(settings) == left | {rows[version].digest for version in (0, 1, 3, 5)}
    assert prune(store, other).versions == prune(store, other).iterations == []
    store.close()


def test_a_backup_holds_what_was_in_the_storage_only(settings: Settings, tmp_path: Path) -> None:
    store = make_home(settings, versions=3)
    policy_weights.upload(store, settings)
    shutil.rmtree(settings.policies_dir / "v1")
    v1 = store.read(policies.get, 1)
    shutil.rmtree(judges.here(settings, v1))
    assert backup(settings, tmp_path / "b.tar").versions == ["v0", "v1", "v2"]
    restored = load_settings(home=tmp_path / "restored")
    restore(restored, tmp_path / "b.tar")
    assert (restored.policies_dir / "v1" / "model.safetensors").is_file()
    assert judges.are_here(restored, v1)
    store.close()


def test_a_backup_leaves_out_what_is_damaged_in_the_storage_and_names_it(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_home(settings, versions=4)
    policy_weights.upload(store, settings)
    _, v1, v2, v3 = (store.read(policies.get, version) for version in range(4))
    storage = tmp_path / "storage"
    for version in (v1, v2):
        shutil.rmtree(settings.home / version.path)
        shutil.rmtree(judges.here(settings, version))
    (storage / v1.digest / "model.safetensors").write_bytes(b"other")
    (storage / v2.digest / "manifest.json").write_bytes(b"{}")
    (storage / str(judges.digest_of(v1)) / "preference" / "preference.safetensors").unlink()
    # Those of v3 are in the home.
    for version in (v2, v3):
        (storage / str(judges.digest_of(version)) / "manifest.json").write_bytes(b"{}")
    monkeypatch.setenv("TANDEM_POLICIES_URL", str(settings.policies_url))
    said = in_process(capfd)("backup", tmp_path / "b.tar", "--home", settings.home)
    assert said.exit_code != 0 and "but for the weights of v1, v2 and the judges of v1, v2, which" in said.err
    restored = load_settings(home=tmp_path / "restored")
    written = restore(restored, tmp_path / "b.tar")
    assert (written.versions, written.without_weights) == (["v0", "v3"], ["v1", "v2"])
    assert judges.are_here(restored, v3) and not judges.here(restored, v1).exists()
    store.close()


@pytest.mark.parametrize("uploaded", [True, False])
@pytest.mark.parametrize("file", ["v1/model.safetensors", "preference/preference.safetensors"])
def test_what_is_pruned_while_a_backup_reads_it_is_not_damaged(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uploaded: bool, file: str
) -> None:
    settings = settings.model_copy(update={"retention": RetentionSettings(versions=1, iterations=1)})
    store = make_home(settings, versions=3)
    if uploaded:
        policy_weights.upload(store, settings)
    digest = hashlib.file_digest

    def digest_of_what_goes(opened: IO[bytes], name: str) -> object:
        if opened.name.endswith(file):
            # The next file of the folder is not there any more.
            prune(store, settings)
        return digest(opened, name)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", digest_of_what_goes)
    contents = backup(settings, tmp_path / "b.tar")
    assert (contents.damaged, contents.damaged_judges) == ([], [])
    assert (contents.versions, contents.without_weights) == (["v0", "v2"], ["v1"])
    restore(load_settings(home=tmp_path / "restored"), tmp_path / "b.tar")
    store.close()


def test_a_storage_that_is_not_to_be_had_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsInvalid, match="policies_url"):
        load_settings(home=settings.home, policies_url="/a/folder")
    with pytest.raises(StorageUnavailable) as unknown:
        object_storage.Storage("nosuch://user:secret@there/prefix")
    assert "secret" not in unknown.value.message
    waited: list[float] = []
    monkeypatch.setattr(object_storage.time, "sleep", waited.append)
    away = settings.model_copy(update={"policies_url": "nosuch://there/prefix"})
    with pytest.raises(StorageUnavailable):
        object_storage.publish(away, settings.home, "digest")
    assert sum(waited) >= 60


def test_the_command_uploads(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tandem = in_process(capfd)
    make_home(settings, versions=2).close()
    home = str(settings.home)
    refused = tandem("policies", "upload", "--home", home)
    assert refused.exit_code == 2 and "TANDEM_POLICIES_URL" in refused.err
    monkeypatch.setenv("TANDEM_POLICIES_URL", str(settings.policies_url))
    done = tandem("policies", "upload", "--home", home, "--json")
    assert done.exit_code == 0 and json.loads(done.out) == {"versions": ["v0", "v1"]}
    assert len(stored(settings)) == 2 + 1, "weights, and what judges v1"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a bucket of a server that speaks S3."""
    if not (TOOLS / "moto").is_dir():
        pytest.skip(f"no S3 server in {TOOLS}: `make check-deploy` installs one")
    port = free_port()
    environment = os.environ | {"PYTHONPATH": str(TOOLS)}
    with (tmp_path_factory.mktemp("s3") / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-p", str(port)], env=environment, stdout=log, stderr=log
        )
    try:
        wait_for(lambda: made_bucket(f"http://127.0.0.1:{port}/bucket"), 60, "the bucket", by=server, pause_s=0.2)
        yield f"s3://bucket/some/prefix?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    finally:
        server.kill()
        server.wait()


def made_bucket(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def test_s3(settings: Settings, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    settings = settings.model_copy(update={"policies_url": s3})
    store = make_home(settings, versions=2)
    for version in range(2):
        policy = store.read(policies.get, version)
        object_storage.publish(settings, settings.home / policy.path, policy.digest)
    folder = policy_weights.folder_of(store, other_machine(settings), 1)
    manifest.verify(folder, store.read(policies.get, 1).digest)
    storage = object_storage.Storage(s3)
    storage.remove(policy.digest)
    assert storage.manifest(policy.digest) is None
    with pytest.raises(PolicyInvalid, match="neither here nor"):
        policy_weights.folder_of(store, other_machine(settings, "third"), 1)
    with pytest.raises(StorageUnavailable):
        object_storage.Storage(s3.replace("bucket/", "no-such-bucket/")).put(folder, policy.digest)
    store.close()
