"""How the command line finds the API, and what its errors become. No API runs here."""

import io
import socket
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest

from deploy.command.api import NotRunning, address_of, not_running, open_api, operator_key, parse_events, refusal
from deploy.running import prepare_home, take_home
from feedback.errors import InvalidRequest
from tests.deploy.api_process import running_at
from tests.deploy.command_line import Tandem, in_process
from tests.ports import free_port


@pytest.fixture
def tandem(capfd: pytest.CaptureFixture[str]) -> Tandem:
    return in_process(capfd)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TANDEM_URL", "TANDEM_KEY", "TANDEM_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """One that was started before and does not run now."""
    (tmp_path / "operator.key").write_text("tdm_operator\n")
    (tmp_path / "tandem.toml").write_text(f'[serve]\nhost = "0.0.0.0"\nport = {free_port()}\n')
    return tmp_path


def test_the_address_is_what_runs_else_what_the_settings_say(home: Path) -> None:
    assert address_of(home).startswith("http://127.0.0.1:")
    assert address_of(home) != "http://127.0.0.1:8080"
    with running_at(home, "http://127.0.0.1:4321"):
        assert address_of(home) == "http://127.0.0.1:4321"
    # What a supervisor that was killed left behind says nothing.
    assert address_of(home) != "http://127.0.0.1:4321"


def test_key_and_address_come_from_option_then_environment_then_home(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_at(home, "http://127.0.0.1:4321"):
        assert (open_api(home).url, open_api(home).key) == ("http://127.0.0.1:4321", "tdm_operator")
    monkeypatch.setenv("TANDEM_KEY", "tdm_environment")
    assert (open_api(home).url, open_api(home).key) == (address_of(home), "tdm_environment")
    monkeypatch.setenv("TANDEM_URL", "http://environment/")
    assert (open_api().url, open_api().key) == ("http://environment", "tdm_environment")
    # The home that was named, not the one that somebody exported the address and the key of.
    with running_at(home, "http://127.0.0.1:4321"):
        assert (open_api(home).url, open_api(home).key) == ("http://127.0.0.1:4321", "tdm_operator")
    # With the version, as OpenAI's clients are given it, or without.
    for url in ("http://given", "http://given/v1", "http://given/v1/"):
        given = open_api(home, url, "tdm_given")
        assert (given.url, given.key) == ("http://given", "tdm_given")


def test_what_cannot_be_a_key_is_not_repeated(home: Path) -> None:
    assert open_api(home, key=" tdm_given\r\n").key == "tdm_given"
    for wrong in ("tdm_gi\nven", "tdm_g\N{LATIN SMALL LETTER E WITH ACUTE}"):
        with pytest.raises(InvalidRequest, match="no key has") as error:
            open_api(home, key=wrong)
        assert "tdm_" not in error.value.message


def test_a_home_without_a_key_does_not_run(tmp_path: Path) -> None:
    assert operator_key(tmp_path) is None
    with pytest.raises(NotRunning):
        open_api(tmp_path)
    with pytest.raises(InvalidRequest, match="--key"):
        open_api(tmp_path, "http://elsewhere")


def test_the_homes_own_key_is_sent_to_this_machine_alone(home: Path) -> None:
    for here in ("http://127.0.0.1:1", "http://localhost:1/", "http://[::1]:1"):
        assert open_api(home, here).key == "tdm_operator"
    for elsewhere in ("http://10.0.0.7:8080", "https://example.org", "http://127.0.0.1.example.org"):
        with pytest.raises(InvalidRequest, match="no key for the API; pass --key"):
            open_api(home, elsewhere)
    (home / "tandem.toml").write_text('[serve]\nhost = "10.0.0.7"\nport = 8080\n')
    assert open_api(home, "http://10.0.0.7:8080/").key == "tdm_operator", "it listens there itself"


@pytest.mark.parametrize("command", [["policies", "list"], ["learn"], ["simulate", "--votes", "1"], ["chat"]])
def test_without_an_api_there_is_one_line_and_exit_code_4(
    tandem: Tandem, home: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))
    ran = tandem(*command, "--home", home)
    assert ran.exit_code == 4
    assert ran.out == ""
    assert f"does not run for {home}; start it with `tandem up`" in ran.err
    assert ran.err.count("\n") == 1
    elsewhere = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))
    ran = tandem(*command, "--home", home, "--url", elsewhere)
    assert ran.exit_code == 4
    assert ran.err == f"tandem: nothing answers at {elsewhere}; start Tandem there, or correct --url or TANDEM_URL\n"


def test_a_home_whose_api_does_not_answer_yet(tandem: Tandem, home: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with running_at(home, url):
        ran = tandem("policies", "list", "--home", home)
    assert ran.exit_code == 4 and f"does not run for {home} (nothing answers at {url})" in ran.err


@pytest.mark.parametrize("begun", [False, True])
def test_a_home_that_does_not_run_tells_its_key_to_nobody(tandem: Tandem, home: Path, begun: bool) -> None:
    """Two homes have the same port as long as nobody says otherwise; a supervisor that has only `begun` has yet to find
    that it is taken."""
    prepare_home(home)
    with take_home(home) if begun else nullcontext(), socket.create_server(("127.0.0.1", 0)) as another:
        another.settimeout(0)
        (home / "tandem.toml").write_text(f"[serve]\nport = {another.getsockname()[1]}\n")
        ran = tandem("policies", "list", "--home", home)
        with pytest.raises(BlockingIOError):
            another.accept()
    assert (ran.exit_code, ran.err) == (4, f"tandem: {not_running(home).message}\n")


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://[::1", "http://127.0.0.1:99999"])
def test_what_is_no_address_is_said(tandem: Tandem, home: Path, url: str) -> None:
    ran = tandem("policies", "list", "--home", home, "--url", url)
    assert ran.exit_code == 2
    assert "is not an address" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "body", "message", "exit_code"),
    [
        (
            401,
            b'{"detail": "unknown"}',
            "unknown (it is from --key, TANDEM_KEY or the home's operator.key, in this order)",
            1,
        ),
        (404, b'{"detail": "no policy version v9", "code": "not_found"}', "no policy version v9", 3),
        (400, b'{"error": {"message": "too long", "code": "context_length_exceeded"}}', "too long", 2),
        (503, b'{"error": {"message": "no engine", "code": "engine_unavailable"}}', "no engine", 1),
        (502, b"<html>", "http://api/v1/x answered 502", 1),
        (500, b"[]", "http://api/v1/x answered 500", 1),
    ],
)
def test_both_forms_of_error_become_a_line_and_an_exit_code(
    status: int, body: bytes, message: str, exit_code: int
) -> None:
    answer = httpx.Response(status, content=body, request=httpx.Request("GET", "http://api/v1/x"))
    error = refusal(answer)
    assert (error.message, error.exit_code, error.status) == (message, exit_code, status)


def test_server_sent_events_are_read_as_the_standard_says() -> None:
    stream = [
        ": still there", "",
        "id: 3", "event: stage", 'data: {"stage":', 'data: "ppo"}', "",
        'data:{"a": 1}', "",
        "event: lost", "",
        "data: [DONE]", "", 'data: {"after": "the end"}', "",
    ]  # fmt: skip
    events = list(parse_events(iter(stream)))
    assert [(event.kind, event.data, event.id) for event in events] == [
        ("stage", {"stage": "ppo"}, "3"),
        ("message", {"a": 1}, "3"),
    ]
