"""The command line's way to the API: where it is, with which key, and what its errors mean here."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

from feedback.addresses import LOOPBACK, http_url
from feedback.errors import InvalidRequest, TandemError

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT_S = 5.0
EXIT_CODES = {400: 2, 404: 3, 413: 2, 422: 2}


class NotRunning(TandemError):
    """Nothing answers where the API should be."""

    code = "not_running"
    status = 503
    exit_code = 4


class ApiRefused(TandemError):
    """The API answered with an error; `code` and `status` are its own."""

    def __init__(self, message: str, *, status: int, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or self.code
        self.exit_code = EXIT_CODES.get(status, 1)


@dataclass(frozen=True)
class Event:
    """One server-sent event: its kind, its data as JSON, and the id to resume after."""

    kind: str
    data: dict[str, Any]
    id: str | None


class Api:
    """The API at `url`, called with `key`; `home` is the one whose address it is, if that was not named by itself.
    Every method raises NotRunning or ApiRefused.

    Raises InvalidRequest for a `url` that is none.
    """

    def __init__(self, url: str, key: str, *, home: Path | None = None, timeout_s: float = 330.0) -> None:
        import httpx

        check_address(url)
        self.url = url
        self._home = home
        self.key = key
        self._http = httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            # A proxy of the surroundings has no business between a person and their own machine.
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _at: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        return self.call("GET", path, params=params)

    def pages(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Every object of a list, page by page."""
        after: dict[str, Any] = {}
        while True:
            page = self.get(path, **params, **after)
            yield from page["data"]
            if not page["has_more"]:
                return
            after = {"after": page["last_id"]}

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Send a request; the answer's JSON."""
        with self._failures():
            answer = self._http.request(method, path, **options)
            if answer.is_error:
                raise refusal(answer)
            return answer.json()

    def events(self, method: str, path: str, **options: Any) -> Iterator[Event]:
        """Send a request whose answer is a stream of server-sent events."""
        with self._failures(), self._http.stream(method, path, **options) as answer:
            if answer.is_error:
                answer.read()
                raise refusal(answer)
            yield from parse_events(answer.iter_lines())

    @contextmanager
    def _failures(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if self._home is None:
                raise NotRunning(
                    f"nothing answers at {self.url}; start Tandem there, or correct --url or TANDEM_URL"
                ) from error
            raise not_running(self._home, f"nothing answers at {self.url}") from error
        except httpx.TimeoutException as error:
            raise TandemError(f"{self.url} did not answer in time") from error
        except httpx.TransportError as error:
            raise TandemError(f"the connection to {self.url} broke: {error}") from error
        except json.JSONDecodeError as error:
            raise TandemError(f"{self.url} does not answer like Tandem's API") from error


def route(*parts: str) -> str:
    """Where the API has what these parts name, whatever stands in an id that somebody typed."""
    # A part of dots alone would be a step back.
    return "/v1/" + "/".join(quote(part, safe="").replace(".", "%2E") for part in parts)


def not_running(home: Path, found: str | None = None) -> NotRunning:
    found = f" ({found})" if found else ""
    return NotRunning(f"Tandem does not run for {home}{found}; start it with `tandem up`, or name another --home")


def open_api(home: Path | None = None, url: str | None = None, key: str | None = None) -> Api:
    """The API of a home, or the one at `url`. The home's own key is sent to this machine alone, without a `url` only
    while something runs in the home and it is known where: else what listens at its address is another's.

    A `home` that is named is meant, whatever TANDEM_URL, and the TANDEM_KEY for that, say of another. Raises
    NotRunning, or with `url` InvalidRequest, when there is no key to call it with.
    """
    elsewhere = os.environ.get("TANDEM_URL")
    is_of_another = home is not None and url is None and elsewhere is not None
    home = home_of(home)
    if not is_of_another:
        url = url or elsewhere
        key = key or os.environ.get("TANDEM_KEY")
    running = _running_at(home) if url is None else None
    if key is None and (running is not None or (url is not None and _is_here(url, home))):
        key = operator_key(home)
    if key is None:
        if url is not None:
            raise InvalidRequest("no key for the API; pass --key or set TANDEM_KEY", param="key")
        raise not_running(home)
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        # The client that sends it would name it in its error.
        raise InvalidRequest("the key holds characters that no key has; pass --key or set TANDEM_KEY", param="key")
    if url is None:
        return Api(running or address_of(home), key, home=home)
    # OpenAI's clients are given it with the version.
    return Api(url.rstrip("/").removesuffix("/v1"), key)


def _is_here(url: str, home: Path) -> bool:
    check_address(url)
    return urlsplit(url).hostname in LOOPBACK or url.rstrip("/") == address_of(home)


def home_of(home: Path | None) -> Path:
    """The home that a command is about, as the settings read it."""
    return Path(home or os.environ.get("TANDEM_HOME") or ".tandem").expanduser().absolute()


def operator_key(home: Path) -> str | None:
    """The key that the first start left in the home; None when there is none. Raises InvalidRequest."""
    try:
        return (home / "operator.key").read_text().strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidRequest(f"{home / 'operator.key'} cannot be read: {error.strerror}; pass --key") from error


def _running_at(home: Path) -> str | None:
    """Where what runs in this home listens; None where nothing does, or its supervisor has not said so yet: it may take
    another port than the settings say."""
    from deploy.running import is_held, read_state, runs_by_itself

    state = read_state(home)
    if state is not None:
        return state.url
    return address_of(home) if runs_by_itself(home) and not is_held(home) else None


def address_of(home: Path) -> str:
    """Where the API of this home listens: what its supervisor wrote down, else what the settings say."""
    from deploy.running import read_state

    state = read_state(home)
    if state is not None:
        return state.url
    from feedback.settings import load_settings

    serve = load_settings(home=home).serve
    return http_url(serve.host, serve.port)


def check_address(url: str) -> None:
    """Raises InvalidRequest for what cannot be called."""
    import httpx

    try:
        address = httpx.URL(url)
        good = address.scheme in ("http", "https") and bool(address.host) and (address.port or 0) < 1 << 16
    except httpx.InvalidURL:
        good = False
    if not good:
        raise InvalidRequest(f"{url} is not an address of an API, such as http://127.0.0.1:8080", param="url")


def refusal(answer: "httpx.Response") -> ApiRefused:
    """What an error of the API says, be it a problem (RFC 9457) or OpenAI's error object."""
    try:
        body = answer.json()
    except json.JSONDecodeError:
        body = None
    said = body if isinstance(body, dict) else {}
    if isinstance(said.get("error"), dict):
        said = said["error"]
    message = said.get("detail") or said.get("message") or f"{answer.request.url} answered {answer.status_code}"
    if answer.status_code == 401:
        message = f"{message} (it is from --key, TANDEM_KEY or the home's operator.key, in this order)"
    return ApiRefused(str(message), status=answer.status_code, code=said.get("code"))


def parse_events(lines: Iterator[str]) -> Iterator[Event]:
    """Server-sent events from the lines of a stream; `[DONE]`, OpenAI's last word, ends it."""
    kind, data, last_id = "message", list[str](), None
    for line in lines:
        if not line:
            if data == ["[DONE]"]:
                return
            if data:
                yield Event(kind, json.loads("\n".join(data)), last_id)
            kind, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            last_id = value
