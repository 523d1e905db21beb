import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from deploy import bootstrap, doctor
from deploy.doctor import examine
from deploy.finding import Finding
from deploy.running import ProcessState, StackState, prepare_home, take_home, write_state
from feedback.operating_settings import GateSettings, TracingSettings
from feedback.settings import ServeSettings, Settings
from feedback.store import audit
from tests.deploy.command_line import in_process
from tests.deploy.homes import make_home, refuse_system_messages
from tests.feedback.conftest import postgres  # noqa: F401
from tests.postgres_server import PostgresServer
from tests.serve.redis_server import redis_server


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("REDIS_URL", raising=False)
    return Settings(home=tmp_path / "home", serve=ServeSettings(port=0))


def found(settings: Settings, what: str) -> Finding:
    return next(finding for finding in examine(settings) if finding.what == what)


def test_a_good_machine_has_nothing_wrong_and_is_left_as_it_was(settings: Settings) -> None:
    assert [finding for finding in examine(settings) if finding.verdict == "wrong"] == []
    assert not settings.home.exists()


def test_everything_that_is_wrong_comes_with_what_to_do(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(doctor, "DISK_WANTED_BYTES", 1 << 60)
    monkeypatch.setattr(doctor, "MEMORY_PER_SLOT_BYTES", 1 << 60)
    wrong = [finding for finding in examine(settings) if finding.verdict == "wrong"]
    assert {finding.what for finding in wrong} == {"lscpu", "redis", "disk", "memory"}
    assert all(finding.advice for finding in wrong)


def test_a_given_redis_that_takes_nothing_is_found(settings: Settings, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as (url, _), Redis.from_url(url.replace("redis+socket", "unix")) as redis:
        given = settings.model_copy(update={"redis_url": url})
        assert found(given, "redis").verdict == "ok"
        redis.config_set("maxmemory", 1)
        assert "maxmemory" in found(given, "redis").found
        redis.config_set("maxmemory", 0)
        redis.replicaof("127.0.0.1", 1)
        only_reads = found(given, "redis")
        assert only_reads.verdict == "wrong" and "read only replica" in only_reads.found and only_reads.advice


def test_a_port_in_use_is_found(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = settings.model_copy(update={"serve": ServeSettings(port=taken.getsockname()[1])})
        assert found(busy, "port").verdict == "wrong"


def test_what_is_open_to_others_is_found(settings: Settings) -> None:
    prepare_home(settings.home)
    assert found(settings, "home").verdict == "ok"
    (settings.home / "operator.key").write_text("tdm_secret")
    (settings.home / "operator.key").chmod(0o644)
    opened = found(settings, "home")
    assert (opened.verdict, opened.advice) == ("wrong", f"chmod go-rwx {settings.home / 'operator.key'}")
    (settings.home / "operator.key").chmod(0o600)
    (settings.home / "record.db").touch()
    (settings.home / "record.db").chmod(0o644)
    settings.home.chmod(0o700)
    assert found(settings, "home").verdict == "ok", "the home itself is closed"
    settings.home.chmod(0o755)
    assert found(settings, "home").advice == f"chmod go-rwx {settings.home / 'record.db'}"


def test_a_process_that_does_not_stay_up_is_found(settings: Settings) -> None:
    prepare_home(settings.home)
    waiting = ProcessState("api", "waiting", None, 5, 1)
    with take_home(settings.home):
        write_state(settings.home, StackState(1, "starting", "http://127.0.0.1:1", 0.0, [waiting]))
        api = found(settings, "api")
    assert api.verdict == "wrong"
    assert api.advice == f"see {settings.home / 'logs' / 'api.log'}"


def test_an_environment_that_is_not_as_locked_is_found(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    stamp = tmp_path / "tandem-lock.json"
    stamp.write_text(json.dumps({"device": "cpu", "lock": "of an older Tandem"}))
    assert found(settings, "environment").found == "older than the lock"
    stamp.write_text(json.dumps({"device": "cpu", "locks": ["renamed.lock"], "digest": "of it"}))
    assert found(settings, "environment").found == "older than the lock"
    locks = ["cpu.lock", "development.lock"]
    stamp.write_text(json.dumps({"device": "cpu", "locks": locks, "digest": "of older ones"}))
    assert found(settings, "environment").found == "older than the lock"
    stamp.write_text(json.dumps({"device": "cpu", "locks": locks, "digest": doctor.locked_digest(locks)}))
    assert found(settings, "environment").verdict == "ok"
    monkeypatch.setattr(bootstrap, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(doctor, "locked_digest", lambda locks: json.loads(stamp.read_text())["digest"])
    (tmp_path / "cpu.lock").write_text("")
    (tmp_path / "development.lock").write_text("pytest==1.0 \\\n    --hash=sha256:0\n")
    assert found(settings, "environment").found.startswith("not as locked: pytest ")


def test_a_device_that_there_is_not_is_found(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_DEVICE", "tpu")
    said = found(settings, "environment")
    assert (said.verdict, said.found) == ("wrong", "TANDEM_DEVICE is 'tpu'; it must be cpu or cuda")


def test_a_record_that_does_not_answer_is_found(settings: Settings) -> None:
    assert found(settings, "record").verdict == "note"
    away = settings.model_copy(update={"database_url": "postgresql+psycopg://tandem@127.0.0.1:1/tandem"})
    said = found(away, "record")
    assert said.verdict == "wrong" and "refused" in said.found and said.advice


def test_a_stack_on_a_record_that_only_its_own_environment_names_is_found(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Beside it a command would make a record, and a key in it that is good nowhere."""
    monkeypatch.delenv("TANDEM_DATABASE_URL", raising=False)
    prepare_home(settings.home)
    (settings.policies_dir / "v0").mkdir(parents=True)
    with take_home(settings.home):
        assert found(settings, "record").found == "not there, but Tandem runs here"
        refused = in_process(capfd)("keys", "create", "--role", "chat", "--home", settings.home)
    assert (refused.exit_code, refused.out) == (3, "") and "TANDEM_DATABASE_URL" in refused.err
    assert not (settings.home / "record.db").exists()


def test_a_database_that_cannot_hold_every_text_is_found(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    postgres: PostgresServer,  # noqa: F811
) -> None:
    narrow = postgres.new_database("template0", "ENCODING 'LATIN1'", "LOCALE 'C'")
    said = found(settings.model_copy(update={"database_url": narrow}), "record")
    assert (said.verdict, said.found) == (
        "wrong", "the record's database keeps texts as LATIN1, which cannot hold all of them",
    )  # fmt: skip
    assert said.advice is not None and said.advice.startswith("make one with")
    monkeypatch.setenv("TANDEM_DATABASE_URL", narrow)
    refused = in_process(capfd)("keys", "list", "--home", settings.home)
    assert refused.err.startswith("tandem: the record cannot be used: the record's database keeps texts as LATIN1")


def test_a_record_that_was_lost_is_no_new_one(settings: Settings) -> None:
    make_home(settings, versions=1).close()
    assert found(settings, "record").verdict == "ok"
    record = settings.home / "record.db"
    for lose, said in ((record.unlink, "not there"), (record.touch, "without tables")):
        for file in settings.home.glob("record.db-*"):
            file.unlink()
        lose()
        lost = found(settings, "record")
        assert (lost.verdict, lost.found) == ("wrong", f"{said}, but the home holds policies")


def test_a_record_that_cannot_be_used_is_found(settings: Settings) -> None:
    make_home(settings, versions=1).close()
    record = settings.home / "record.db"
    with sqlite3.connect(record) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    said = found(settings, "record")
    assert said.verdict == "wrong" and "newer release (schema 9999" in said.found and "backup" in (said.advice or "")
    record.write_text("no database at all")
    said = found(settings, "record")
    advice = "restore a backup into a new --home"
    assert (said.verdict, said.found, said.advice) == ("wrong", "file is not a database", advice)


@pytest.mark.parametrize("name", ["record.db", "record.db-wal"])
def test_a_record_that_is_only_closed_to_us_wants_no_backup(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Root may write whatever there is, so the system's answer to another user is put in."""
    make_home(settings, versions=1).close()
    held = settings.home / name
    held.touch()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != held)
    said = found(settings, "record")
    assert (said.verdict, said.found) == ("wrong", f"{held} cannot be written")
    assert said.advice is not None and "belong to whom Tandem runs as" in said.advice


def test_a_record_on_a_full_disk_wants_no_backup(settings: Settings) -> None:
    settings.home.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", settings.home], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        make_home(settings, versions=1).close()
        with contextlib.suppress(OSError), (settings.home / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(512))
        said = found(settings, "record")
    finally:
        subprocess.run(["umount", "--lazy", settings.home], check=True)
    assert said.verdict == "wrong" and said.advice is not None and said.advice.startswith("free room on its disk")


def test_rules_that_another_process_does_not_go_by_are_found(settings: Settings) -> None:
    store = make_home(settings, versions=1)
    assert not [finding for finding in examine(settings) if finding.what in ("gate", "automatic")]
    for name, section in (("gate", settings.gate), ("automatic", settings.automatic)):
        store.write(audit.note_settings, name, section.model_dump(mode="json"))
        assert found(settings, name).verdict == "ok"
    store.close()
    here = settings.model_copy(update={"gate": GateSettings(rules=["win_rate_lower >= 0.5"])})
    assert found(here, "gate").verdict == "note" and found(here, "gate").advice
    assert found(here, "automatic").verdict == "ok"


def test_an_audit_that_was_changed_is_found(settings: Settings) -> None:
    store = make_home(settings, versions=1)
    store.write(audit.add, "key_1", "test", reason="we know")
    store.close()
    assert found(settings, "audit").verdict == "ok"
    with sqlite3.connect(settings.home / "record.db") as connection:
        connection.execute("DROP TRIGGER audit_no_update")
        connection.execute("UPDATE audit SET reason = 'they asked for it' WHERE action = 'test'")
    said = found(settings, "audit")
    assert said.verdict == "wrong" and said.found.startswith("broken at entry") and said.advice


def test_a_home_that_is_no_folder_is_found(settings: Settings) -> None:
    settings.home.write_text("")
    assert found(settings, "home").found == f"{settings.home} is no folder"


def test_what_this_user_may_not_look_at_is_found_and_the_rest_is_looked_at(settings: Settings) -> None:
    settings.home.mkdir(mode=0o700)
    # As a folder of somebody else is to anybody but root.
    (settings.home / "run").symlink_to("run")
    wrong = {finding.what for finding in examine(settings) if finding.verdict == "wrong"}
    assert wrong == {"memory", "record", "stack", "port"}
    assert str(settings.home / "run") in found(settings, "stack").found
    assert found(settings, "home").verdict == "ok"


def test_weights_that_were_changed_are_found_before_they_are_to_serve(settings: Settings) -> None:
    make_home(settings, versions=1).close()
    assert (found(settings, "record").verdict, found(settings, "weights").found) == ("ok", "v0 is what was published")
    (settings.policies_dir / "v0" / "config.json").write_text("{ }")
    said = found(settings, "weights")
    assert said.verdict == "wrong" and "config.json was changed" in said.found and said.advice


def test_weights_that_cannot_be_read_are_not_said_of_the_record(settings: Settings) -> None:
    make_home(settings, versions=1).close()
    manifest = settings.policies_dir / "v0" / "manifest.json"
    manifest.unlink()
    # As a file that is somebody else's is to anybody but root.
    manifest.symlink_to(manifest)
    wrong = {finding.what: finding.found for finding in examine(settings) if finding.verdict == "wrong"}
    assert "record" not in wrong and str(manifest) in wrong["weights"]


def test_a_system_prompt_that_the_policy_does_not_take_is_found(settings: Settings) -> None:
    make_home(settings, versions=1).close()
    refuse_system_messages(settings, 0)
    assert found(settings, "weights").verdict == "ok"
    prompted = settings.model_copy(update={"serve": ServeSettings(port=0, system_prompt="Be kind.")})
    said = found(prompted, "weights")
    assert said.verdict == "wrong" and "system_prompt cannot be had with v0" in said.found and said.advice


def test_a_storage_and_a_collector_that_do_not_answer_are_found(settings: Settings, tmp_path: Path) -> None:
    stored = settings.model_copy(update={"policies_url": f"file://{tmp_path}/storage"})
    assert found(stored, "storage").verdict == "ok"
    away = settings.model_copy(
        update={"policies_url": "nosuch://there/x", "tracing": TracingSettings(endpoint="http://127.0.0.1:1")}
    )
    assert found(away, "storage").verdict == "wrong" and found(away, "storage").advice
    assert found(away, "traces").verdict == "note" and "does not answer" in found(away, "traces").found
