"""`tandem keys` on the record of a home that nothing runs in."""

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from feedback.store import Store, keys, samples
from tests.deploy.command_line import Tandem, in_process
from tests.feedback.record import sample
from tests.feedback.test_usage import midnight
from tests.records import empty_record


@pytest.fixture
def tandem(capfd: pytest.CaptureFixture[str]) -> Tandem:
    return in_process(capfd)


def test_a_key_is_made_shown_once_listed_and_revoked(tandem: Tandem, tmp_path: Path) -> None:
    made = tandem("keys", "create", "--role", "vote", "--name", "the web page", "--home", tmp_path)
    secret = made.out.strip()
    assert made.exit_code == 0
    store = Store(f"sqlite:///{tmp_path / 'record.db'}")
    found = store.read(keys.find, secret)
    assert found is not None
    assert (found.key.role, found.key.name) == ("vote", "the web page")
    # Made by a mistyped home, a key opens nothing.
    new = f"There was no record in {tmp_path}: a new one is made."
    assert new in made.err
    assert new not in tandem("keys", "create", "--role", "chat", "--home", tmp_path).err

    listed = tandem("keys", "list", "--home", tmp_path)
    assert found.key.prefix in listed.out and found.key.id in listed.out
    assert "the web page" in listed.out
    assert secret not in listed.out

    assert tandem("keys", "revoke", found.key.prefix, "--home", tmp_path).exit_code == 0
    assert store.read(keys.find, secret) is None
    again = tandem("keys", "revoke", found.key.prefix, "--home", tmp_path)
    assert again.exit_code == 1
    assert "revoked already" in again.err
    store.close()


def test_json_has_the_secret_at_creation_only(tandem: Tandem, tmp_path: Path) -> None:
    made = json.loads(tandem("keys", "create", "--role", "chat", "--json", "--home", tmp_path).out)
    (listed,) = json.loads(tandem("keys", "list", "--json", "--home", tmp_path).out)
    assert made["secret"].startswith(f"tdm_{made['prefix']}_")
    assert listed == {name: value for name, value in made.items() if name != "secret"}


def test_a_key_with_an_end_and_limits_of_its_own(tandem: Tandem, tmp_path: Path) -> None:
    began = time.time()
    bounds = ("--expires", "30d", "--requests-per-minute", "5")
    made = json.loads(tandem("keys", "create", "--role", "chat", *bounds, "--json", "--home", tmp_path).out)
    assert 0 <= made["expires_at"] - began - 30 * 86_400 < 60
    assert (made["state"], made["requests_per_minute"], made["tokens_per_minute"]) == ("active", 5, None)
    dated = tandem("keys", "create", "--role", "chat", "--expires", "2999-12-31", "--home", tmp_path)
    assert "good until 2999-12-31 00:00" in dated.err

    def limit(*options: str) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(
            tandem("keys", "limit", made["prefix"], *options, "--json", "--home", tmp_path).out
        )
        return said

    assert limit("--tokens-per-minute", "900")["tokens_per_minute"] == 900
    assert limit("--requests-per-minute", "settings")["requests_per_minute"] is None
    said = tandem("keys", "limit", made["id"], "--requests-per-minute", "7", "--home", tmp_path).err
    assert "7 requests a minute and 900 tokens a minute" in said
    row = next(line for line in tandem("keys", "list", "--home", tmp_path).out.splitlines() if made["id"] in line)
    assert "active" in row and row.split()[-3:-1] == ["7", "900"]


def test_what_keys_used_by_day(tandem: Tandem, tmp_path: Path) -> None:
    store = empty_record(tmp_path / "record.db")
    midnight(store)
    made = [
        json.loads(tandem("keys", "create", "--role", "chat", "--name", name, "--json", "--home", tmp_path).out)
        for name in ("one", "other")
    ]
    rows = [
        sample(key_id=key["id"], created_at=key["created_at"], prompt_tokens=3, reply_tokens=tokens)
        for key, tokens in zip(made, (5, 7), strict=True)
    ]
    store.write(samples.add, rows)
    store.close()
    day = datetime.fromtimestamp(made[0]["created_at"], UTC).date().isoformat()

    def used(*options: str) -> list[dict[str, Any]]:
        said: list[dict[str, Any]] = json.loads(tandem("keys", "usage", *options, "--json", "--home", tmp_path).out)
        return said

    assert [(one["day"], one["name"], one["chats"], one["reply_tokens"]) for one in used()] == [
        (day, "one", 1, 5),
        (day, "other", 1, 7),
    ]
    assert [one["name"] for one in used(made[1]["prefix"], "--since", "2026-01-01")] == ["other"]
    assert used("--since", "2999-01-01") == []
    table = tandem("keys", "usage", "--home", tmp_path).out.splitlines()
    assert table[0].split()[:3] == ["DAY", "KEY", "NAME"]
    assert table[1].split() == [day, made[0]["prefix"], "one", "1", "3", "5", "0", "0"]
    assert tandem("keys", "usage", "nobody", "--home", tmp_path).exit_code == 3
    for no_time in ("long", "999999d"):
        assert tandem("keys", "usage", "--since", no_time, "--home", tmp_path).exit_code == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("create", "--role", "admin"), "chat, vote, operate"),
        (("create", "--role", "chat", "--expires", "soon"), "30d"),
        (("create", "--role", "chat", "--expires", "2020-01-01"), "expired before"),
        (("create", "--role", "chat", "--requests-per-minute", "0"), "must be from 1"),
        (("limit", "nobody"), "say what to change"),
        (("limit", "nobody", "--tokens-per-minute", "many"), "neither a number"),
    ],
)
def test_an_end_or_a_limit_that_cannot_be(tandem: Tandem, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    ran = tandem("keys", *options, "--home", tmp_path / "home")
    assert ran.exit_code == 2
    assert said in ran.err
    assert not (tmp_path / "home").exists()


def test_an_unknown_key_is_refused(tandem: Tandem, tmp_path: Path) -> None:
    assert tandem("keys", "create", "--role", "chat", "--home", tmp_path).exit_code == 0
    assert tandem("keys", "revoke", "nobody", "--home", tmp_path).exit_code == 3


def test_looking_into_a_folder_that_is_no_home_leaves_it_alone(tandem: Tandem, tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"
    ran = tandem("keys", "list", "--home", home)
    assert ran.exit_code == 3
    assert "tandem up" in ran.err
    assert not home.exists()


def test_a_broken_record_is_one_line(tandem: Tandem, tmp_path: Path) -> None:
    (tmp_path / "record.db").write_bytes(b"not a database, " * 100)
    ran = tandem("keys", "list", "--home", tmp_path)
    assert ran.exit_code == 1
    assert ran.err.startswith("tandem: the record cannot be used: ")
    assert ran.err.count("\n") == 1


def test_what_is_typed_in_bytes_that_are_no_text_is_refused_with_a_line(tandem: Tandem, tmp_path: Path) -> None:
    ran = tandem("keys", "create", "--role", "chat", "--name", os.fsdecode(b"Ann\xff"), "--home", tmp_path)
    assert (ran.exit_code, ran.err.splitlines()[-1]) == (2, "tandem: what was typed is not UTF-8")
    assert json.loads(tandem("keys", "list", "--json", "--home", tmp_path).out) == []
