import io

import pytest
from rich.console import Console

from deploy.announcer import Announcer


def announcer(*, terminal: bool) -> tuple[Announcer, io.StringIO]:
    made, written = Announcer(), io.StringIO()
    made.console = Console(file=written, force_terminal=terminal, width=80, soft_wrap=True)
    return made, written


def test_in_a_file_each_step_is_a_plain_line_at_its_beginning() -> None:
    made, written = announcer(terminal=False)
    with made.step("loading [v0]"):
        assert written.getvalue() == "loading [v0] ...\n"
    assert written.getvalue() == "loading [v0] ...\n"


def test_on_a_terminal_a_step_that_is_done_says_how_long_it_took() -> None:
    made, written = announcer(terminal=True)
    with made.step("loading [v0]"):
        assert "✓" not in written.getvalue()
    assert "✓" in written.getvalue() and "loading [v0]" in written.getvalue()


def test_a_step_that_fails_is_not_ticked_off() -> None:
    made, written = announcer(terminal=True)
    with pytest.raises(OSError), made.step("loading"):
        raise OSError
    assert "✓" not in written.getvalue()


def test_only_the_last_line_is_data(capsys: pytest.CaptureFixture[str]) -> None:
    made = Announcer()
    made.warn("Redis does not answer")
    made.ready("Tandem is at http://127.0.0.1:1")
    printed = capsys.readouterr()
    assert printed.out == "Tandem is at http://127.0.0.1:1\n"
    assert "Redis does not answer" in printed.err
