"""What of `tandem chat` needs no engine; the rest is in tests/serve/test_terminal_chat.py."""

import sys

import pytest

from deploy.command.api import Api
from deploy.command.chat import Conversation, talk


def test_a_python_without_readline_chats_too(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def ended(_: str) -> str:
        raise EOFError

    monkeypatch.setitem(sys.modules, "readline", None)
    monkeypatch.setattr("builtins.input", ended)
    with Api("http://127.0.0.1:1", "key") as api:
        talk(Conversation(api, "tandem", "helpful"), 0.0)
    assert "Ctrl-D ends" in capfd.readouterr().err
