"""Pages of other sites: those that are allowed may call the API with a key, none may use the cookie."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from feedback.store import keys
from tests.deploy.api_process import api_process
from tests.records import empty_record

FRIEND, STRANGER = "https://app.example.com", "https://elsewhere.example.com"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("origins") / "home"
    home.mkdir()
    (home / "tandem.toml").write_text(f'[serve]\nallowed_origins = ["{FRIEND}"]\n')
    return home


@pytest.fixture(scope="module")
def key(home: Path) -> str:
    store = empty_record(home / "record.db")
    _, secret = store.write(keys.create, "vote")
    store.close()
    return secret


@pytest.fixture(scope="module")
def client(home: Path, key: str) -> Iterator[httpx.Client]:
    with api_process(home) as url, httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        yield client


def preflight(client: httpx.Client, origin: str) -> httpx.Response:
    asked = {"access-control-request-method": "PUT", "access-control-request-headers": "authorization, content-type"}
    return client.options("/v1/comparisons/cmp_1/vote", headers={"origin": origin} | asked)


def test_an_allowed_site_may_ask_and_read(client: httpx.Client, key: str) -> None:
    asked = preflight(client, FRIEND)
    assert asked.status_code == 200
    assert asked.headers["x-request-id"].startswith("req_")
    assert asked.headers["access-control-allow-origin"] == FRIEND
    assert "PUT" in asked.headers["access-control-allow-methods"]
    assert "authorization" in asked.headers["access-control-allow-headers"].lower()
    answer = client.get("/v1/votes", headers={"origin": FRIEND, "authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == FRIEND
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    refused = client.get("/v1/votes", headers={"origin": FRIEND, "authorization": "Bearer tdm_wrong"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == FRIEND, "the page can read what is wrong"


def test_others_may_not_and_the_cookie_never_goes(client: httpx.Client, key: str) -> None:
    assert preflight(client, STRANGER).status_code == 400
    answer = client.get("/v1/votes", headers={"origin": STRANGER, "authorization": f"Bearer {key}"})
    assert "access-control-allow-origin" not in answer.headers
    for origin in (FRIEND, STRANGER):
        asked = [preflight(client, origin), client.get("/v1/session", headers={"origin": origin})]
        assert all("access-control-allow-credentials" not in answer.headers for answer in asked)


def test_as_it_comes_no_site_is_allowed(tmp_path: Path) -> None:
    with api_process(tmp_path / "home") as url, httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        assert preflight(client, FRIEND).status_code == 405
        assert "access-control-allow-origin" not in client.get("/healthz", headers={"origin": FRIEND}).headers
