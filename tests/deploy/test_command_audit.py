"""`tandem audit` on a record, and what it says of one that somebody changed past Tandem."""

import json
import sqlite3
from pathlib import Path

import pytest

from deploy.command import run
from feedback.settings import load_settings
from feedback.store import Store, keys, policies
from tests.records import empty_record


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    store = empty_record(tmp_path / "record.db")
    store.write(keys.create, "vote", "page")
    store.write(policies.register_start, "policies/v0", "d0", {})
    store.write(policies.set_serving, 0, kind="promote", reason="we know", force=True, actor="key_1", overruled="x")
    store.close()
    return tmp_path


def test_decisions_are_listed_and_verified(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "list"]) == 0
    heading, created, promoted = capsys.readouterr().out.splitlines()
    assert heading.split() == ["ENTRY", "WHEN", "WHO", "WHAT", "ABOUT", "WHY"]
    assert "key.create" in created and promoted.endswith("forced: we know")
    assert run(["audit", "list", "--about", "v0", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["actor"], entry["action"], entry["data"]["detail"]) == ("key_1", "policy.promote", "x")
    assert run(["audit", "verify"]) == 0
    assert capsys.readouterr().out == f"2 entries, intact; the last digest is {entry['digest']}\n"


def test_a_record_that_was_changed_is_found_out(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(home / "record.db") as record:
        record.execute("DROP TRIGGER audit_no_update")
        record.execute("UPDATE audit SET reason = 'they asked for it' WHERE seq = 2")
    assert run(["audit", "verify"]) == 1
    assert "broken at entry 2: it does not say what it said when it was written" in capsys.readouterr().err
    assert run(["audit", "verify", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["broken_at"] == 2


@pytest.mark.parametrize(
    "change", ["data = '{not json'", "data = '[1e999]'", "actor = x'80'", "reason = 7", "created_at = 'soon'"]
)
def test_whatever_was_written_over_an_entry_is_found_out(
    home: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    with sqlite3.connect(home / "record.db") as record:
        record.execute("DROP TRIGGER audit_no_update")
        record.execute(f"UPDATE audit SET {change} WHERE seq = 2")
    assert run(["audit", "verify"]) == 1
    assert "broken at entry 2: it does not say" in capsys.readouterr().err


def test_an_end_that_was_removed_is_found_out_by_the_digest_that_was_kept(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", "verify", "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)["head"]
    store = Store(load_settings(home=home).record_url)
    store.write(keys.create, "vote", "another")
    store.close()
    assert run(["audit", "verify", "--kept", kept]) == 0
    with sqlite3.connect(home / "record.db") as record:
        record.execute("DROP TRIGGER audit_no_delete")
        record.execute("DELETE FROM audit WHERE seq > 1")
    assert run(["audit", "verify"]) == 0
    assert run(["audit", "verify", "--kept", kept]) == 1
    assert "broken at entry 2: no entry has the digest that was kept" in capsys.readouterr().err


@pytest.mark.parametrize("kept", ["", "0" * 63, "A" * 64])
def test_what_is_no_digest_is_not_looked_for(home: Path, capsys: pytest.CaptureFixture[str], kept: str) -> None:
    assert run(["audit", "verify", "--kept", kept]) == 2
    assert "is no digest" in capsys.readouterr().err
