"""The whole matrix: every route with nobody, with each role, with a revoked key and with nonsense for one.

The routes and the role that each one needs are those of docs/api.md, which has every route (`tests/test_docs.py`).
"""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from feedback.schema import ROLES
from feedback.settings import load_settings
from feedback.store import keys
from serve.app import create_app
from serve.envelope import ANYBODYS_BYTES
from tests.clients import client_of
from tests.serve.conftest import Tandem

API_PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
NOBODY = "none"
# Who comes without a key that is good: they are told apart from nobody by nothing.
STRANGERS = {
    "no key": {},
    "an unknown key": {"authorization": "Bearer tdm_00000000_" + "x" * 43},
    "no scheme": {"authorization": "tdm_00000000_x"},
    "another scheme": {"authorization": "Basic dXNlcjpwYXNz"},
    "an empty key": {"authorization": "Bearer"},
    "a cookie of nobody": {"cookie": "tandem_sign_in=x"},
}


def documented() -> dict[str, str]:
    """By route (`GET /healthz`) the role that it needs."""
    return dict(re.findall(r"^\| `(\w+ /\S*)` \| (\w+) \|", API_PAGE.read_text(), re.MULTILINE))


MATRIX = documented()
GUARDED = sorted(route for route, role in MATRIX.items() if role != NOBODY)


@dataclass(frozen=True)
class Api:
    """A process without engines; a key of each role, and a revoked operator's."""

    client: httpx.Client
    secrets: dict[str, str]

    def ask(self, route: str, headers: dict[str, str], content: bytes = b"") -> httpx.Response:
        """The route with ids that lead nowhere and no body, so that nothing comes of a request that is let in."""
        method, path = route.split()
        return self.client.request(method, re.sub(r"\{[^}]+\}", "v999999", path), headers=headers, content=content)

    def bearer(self, who: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secrets[who]}"}


@pytest.fixture(scope="module")
def api(refusing: Tandem) -> Iterator[Api]:
    revoked, secret = refusing.store.write(keys.create, "operate")
    refusing.store.write(keys.revoke, revoked.id)
    with client_of(refusing.url) as client:
        yield Api(client, refusing.secrets | {"revoked": secret})


def refused_with(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code, in the form of the route: OpenAI's or a problem."""
    if answer.url.path.startswith(("/v1/chat", "/v1/models")):
        return answer.status_code, answer.json()["error"]["code"]
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_each_route_says_whom_it_lets_in() -> None:
    assert len(GUARDED) > 20
    assert set(MATRIX.values()) == {*ROLES, NOBODY}


@pytest.mark.parametrize("route", GUARDED)
def test_a_guarded_route_lets_nobody_in(api: Api, route: str) -> None:
    for headers in [*STRANGERS.values(), api.bearer("revoked")]:
        answer = api.ask(route, headers, b"{")
        assert refused_with(answer) == (401, "invalid_api_key"), headers
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("route", GUARDED)
def test_each_role_reaches_what_it_may_and_nothing_else(api: Api, route: str, role: str) -> None:
    if ROLES.index(role) < ROLES.index(MATRIX[route]):
        assert refused_with(api.ask(route, api.bearer(role), b"{")) == (403, "insufficient_role")
    else:
        for content in (b"", b"{"):
            assert api.ask(route, api.bearer(role), content).status_code not in (401, 403, 405, 500)


@pytest.mark.parametrize("route", sorted(MATRIX.keys() - set(GUARDED)))
def test_what_needs_no_key_says_nothing_of_anybody(api: Api, route: str) -> None:
    answer = api.ask(route, {})
    # 422 or 400: signing in without a body. 503: no engine serves.
    assert answer.status_code in (200, 400, 422, 503)
    assert not re.search(r"tdm_|digest|key_[0-9a-z]{10,}", answer.text)


@pytest.mark.parametrize(
    "path",
    [
        *("/docs", "/redoc", "/v1/keys", "/..%2f..%2foperator.key", "/../operator.key"),
        # Of vLLM, which this process stands before.
        *("/v1/load_lora_adapter", "/pause", "/collective_rpc", "/update_weights", "/server_info"),
    ],
)
def test_nothing_else_is_there_even_for_an_operator(api: Api, path: str) -> None:
    for method in ("GET", "POST"):
        assert api.ask(f"{method} {path}", api.bearer("operate")).status_code in (404, 405)


def test_a_key_is_in_no_answer(api: Api) -> None:
    for route in GUARDED:
        answer = api.ask(route, api.bearer("operate"))
        assert api.secrets["operate"] not in answer.text + str(answer.headers)


@pytest.mark.parametrize("route", ["POST /v1/chat/completions", "PUT /v1/comparisons/x/vote", "POST /v1/session"])
@pytest.mark.parametrize("declared", [True, False], ids=["with its length", "in chunks"])
def test_of_whom_nobody_knows_no_large_body_is_waited_for(api: Api, route: str, declared: bool) -> None:
    """Each is answered before its end: a process would otherwise hold as many as there are connections."""
    method, path = route.split()
    url = api.client.base_url
    sent = b"x" * 2 * ANYBODYS_BYTES
    how = b"content-length: 900000\r\n\r\n" if declared else b"transfer-encoding: chunked\r\n\r\ndbba0\r\n"
    with socket.create_connection((url.host, url.port), timeout=30) as connection:
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n".encode()
        connection.sendall(head + how + sent)
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 413 " if path == "/v1/session" else b"HTTP/1.1 401 "), answer


async def test_who_leaves_within_the_body_of_a_sign_in_gets_no_answer(tmp_path: Path) -> None:
    """It would be counted as one."""
    coming = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(coming)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/session", "headers": headers, "query_string": b""}
    app = create_app(load_settings(home=tmp_path))
    await app(scope, receive, send)
    app.state.gateway.presence.life.end()
    assert sent == []
