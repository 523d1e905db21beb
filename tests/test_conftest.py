"""What is asked before any test runs."""

import tempfile
from pathlib import Path

import pytest

from tests.conftest import require_room_for_sockets


def test_a_folder_that_is_too_long_for_sockets_is_refused_and_one_of_a_user_without_a_name_taken(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_a_name() -> str:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr("getpass.getuser", without_a_name)
    monkeypatch.setattr(pytestconfig.option, "basetemp", None)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    require_room_for_sockets(pytestconfig)
    monkeypatch.setattr(tempfile, "tempdir", str(Path("/tmp", "x" * 40)))
    with pytest.raises(pytest.exit.Exception, match="bytes shorter"):
        require_room_for_sockets(pytestconfig)
