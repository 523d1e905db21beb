"""Pages of other sites: those that are allowed may call the API with a key, none may use the cookie."""

from collections.abc import Iterator

import httpx
import pytest

from tests.serve.conftest import Tandem, without_engines

FRIEND, STRANGER = "https://app.example.com", "https://elsewhere.example.com"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """With a rater's key, of one that allows a friend's pages."""
    home = tmp_path_factory.mktemp("origins") / "home"
    with without_engines(home, serve={"allowed_origins": [FRIEND]}) as running, running.client("vote") as client:
        yield client


def preflight(client: httpx.Client, origin: str) -> httpx.Response:
    asked = {"access-control-request-method": "PUT", "access-control-request-headers": "authorization, content-type"}
    return client.options("/v1/comparisons/cmp_1/vote", headers={"origin": origin, "authorization": ""} | asked)


def test_an_allowed_site_may_ask_and_read(client: httpx.Client) -> None:
    asked = preflight(client, FRIEND)
    assert asked.status_code == 200
    assert asked.headers["x-request-id"].startswith("req_")
    assert asked.headers["access-control-allow-origin"] == FRIEND
    assert "PUT" in asked.headers["access-control-allow-methods"]
    assert "authorization" in asked.headers["access-control-allow-headers"].lower()
    answer = client.get("/v1/votes", headers={"origin": FRIEND})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == FRIEND
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    refused = client.get("/v1/votes", headers={"origin": FRIEND, "authorization": "Bearer tdm_wrong"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == FRIEND, "the page can read what is wrong"


def test_others_may_not_and_the_cookie_never_goes(client: httpx.Client) -> None:
    assert preflight(client, STRANGER).status_code == 400
    answer = client.get("/v1/votes", headers={"origin": STRANGER})
    assert "access-control-allow-origin" not in answer.headers
    for origin in (FRIEND, STRANGER):
        asked = [preflight(client, origin), client.get("/v1/session", headers={"origin": origin})]
        assert all("access-control-allow-credentials" not in answer.headers for answer in asked)


def test_as_it_comes_no_site_is_allowed(refusing: Tandem) -> None:
    with refusing.client() as client:
        assert preflight(client, FRIEND).status_code == 405
        assert "access-control-allow-origin" not in client.get("/healthz", headers={"origin": FRIEND}).headers
