"""`tandem keys` on the record of a home that nothing runs in."""

import json
from pathlib import Path

import pytest

from feedback.store import Store, keys
from tests.deploy.command_line import Tandem, in_process


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
    assert (found.role, found.name) == ("vote", "the web page")

    listed = tandem("keys", "list", "--home", tmp_path)
    assert found.prefix in listed.out and found.id in listed.out
    assert "the web page" in listed.out
    assert secret not in listed.out

    assert tandem("keys", "revoke", found.prefix, "--home", tmp_path).exit_code == 0
    assert store.read(keys.find, secret) is None
    again = tandem("keys", "revoke", found.prefix, "--home", tmp_path)
    assert again.exit_code == 1
    assert "revoked already" in again.err
    store.close()


def test_json_has_the_secret_at_creation_only(tandem: Tandem, tmp_path: Path) -> None:
    made = json.loads(tandem("keys", "create", "--role", "chat", "--json", "--home", tmp_path).out)
    (listed,) = json.loads(tandem("keys", "list", "--json", "--home", tmp_path).out)
    assert made["secret"].startswith(f"tdm_{made['prefix']}_")
    assert listed == {name: value for name, value in made.items() if name != "secret"}


def test_an_unknown_role_or_key_is_refused(tandem: Tandem, tmp_path: Path) -> None:
    refused = tandem("keys", "create", "--role", "admin", "--home", tmp_path)
    assert refused.exit_code == 2
    assert "chat, vote, operate" in refused.err
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
