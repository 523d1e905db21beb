"""Signing in with a browser: what the cookie is, what it opens, and what it does not."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from feedback.settings import Settings
from feedback.store import Store, keys
from serve.app import create_app
from tests.records import empty_record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return empty_record(tmp_path / "record.db")


@pytest.fixture
async def browser(tmp_path: Path, store: Store) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(Settings(home=tmp_path)))
    async with httpx.AsyncClient(transport=transport, base_url="http://tandem.test:8080") as client:
        yield client


def new_key(store: Store, role: str) -> str:
    return store.write(keys.create, role)[1]


async def test_nobody_is_signed_in(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/v1/session")
    assert (answer.status_code, answer.json()["signed_in"]) == (200, False)
    assert (await browser.get("/v1/ratings")).status_code == 401


async def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(
    browser: httpx.AsyncClient, store: Store
) -> None:
    key = new_key(store, "vote")
    answer = await browser.post("/v1/session", json={"key": key})
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 201
    assert answer.json()["role"] == "vote"
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert cookie.startswith("tandem_sign_in_8080=")
    assert key.split("_", 2)[2] not in cookie + answer.text


@pytest.mark.parametrize(("said", "secure"), [("https", True), ("https, http", True), ("http", False)])
async def test_behind_a_proxy_with_tls_the_cookie_is_not_sent_in_the_clear(
    browser: httpx.AsyncClient, store: Store, said: str, secure: bool
) -> None:
    body = {"key": new_key(store, "chat")}
    answer = await browser.post("/v1/session", json=body, headers={"x-forwarded-proto": said})
    assert ("Secure" in answer.headers["set-cookie"]) is secure


async def test_a_cookie_reaches_as_far_as_its_key(browser: httpx.AsyncClient, store: Store) -> None:
    await browser.post("/v1/session", json={"key": new_key(store, "vote")})
    assert (await browser.get("/v1/ratings")).status_code == 200
    assert (await browser.get("/v1/policies")).status_code == 403


async def test_a_change_by_cookie_needs_the_token(browser: httpx.AsyncClient, store: Store) -> None:
    token = (await browser.post("/v1/session", json={"key": new_key(store, "operate")})).json()["csrf_token"]
    shares = {"chat_share": 0.25}
    for headers in ({}, {"x-csrf-token": "0" * 64}, {"x-csrf-token": "ä".encode()}):
        assert (await browser.put("/v1/traffic", json=shares, headers=headers)).status_code == 403
    assert (await browser.get("/v1/traffic")).json()["chat_share"] == 0
    assert (await browser.put("/v1/traffic", json=shares, headers={"x-csrf-token": token})).status_code == 200
    assert (await browser.get("/v1/session")).json()["csrf_token"] == token


async def test_a_key_in_the_header_needs_no_token_and_comes_first(browser: httpx.AsyncClient, store: Store) -> None:
    await browser.post("/v1/session", json={"key": new_key(store, "operate")})
    chat = {"authorization": f"Bearer {new_key(store, 'chat')}"}
    operate = {"authorization": f"Bearer {new_key(store, 'operate')}"}
    assert (await browser.get("/v1/policies", headers=chat)).status_code == 403
    assert (await browser.get("/v1/policies", headers={"authorization": "Bearer wrong"})).status_code == 401
    assert (await browser.put("/v1/traffic", json={}, headers=operate)).status_code == 200


async def test_signing_out_ends_the_sign_in_itself(browser: httpx.AsyncClient, store: Store) -> None:
    await browser.post("/v1/session", json={"key": new_key(store, "vote")})
    kept = dict(browser.cookies)
    await browser.delete("/v1/session")
    assert not browser.cookies
    browser.cookies.update(kept)
    assert (await browser.get("/v1/session")).json()["signed_in"] is False
    assert (await browser.get("/v1/ratings")).status_code == 401


async def test_another_sites_page_signs_nobody_in(browser: httpx.AsyncClient, store: Store) -> None:
    for site in ("cross-site", "same-site"):
        answer = await browser.post(
            "/v1/session", json={"key": new_key(store, "vote")}, headers={"sec-fetch-site": site}
        )
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


async def test_an_unknown_key(browser: httpx.AsyncClient) -> None:
    answer = await browser.post("/v1/session", json={"key": "tdm_00000000_nothing"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


async def test_what_pages_are_made_of_is_compressed_and_nothing_else(browser: httpx.AsyncClient) -> None:
    script = await browser.get("/vendor/chart.js")
    assert script.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in (await browser.get("/vendor/chart.js", headers={"accept-encoding": ""})).headers
    kept = {"if-none-match": script.headers["etag"]}
    assert (await browser.get("/vendor/chart.js", headers=kept)).status_code == 304
    answer = await browser.get("/openapi.json")
    assert len(answer.content) > 10_000 and "content-encoding" not in answer.headers


async def test_every_page_is_the_document(browser: httpx.AsyncClient) -> None:
    for path in ("/", "/vote", "/operate", "/operate/v12"):
        answer = await browser.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].startswith("text/html")
        assert "require-trusted-types-for 'script'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-cache"
    html = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for path in ("/operate/v1/x", "/index", "/../app.py", "/%2e%2e/app.py", "/v1/votes/x/y"):
        assert (await browser.get(path)).headers["content-type"] == "application/problem+json", path
        answer = await browser.get(path, headers=html)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"].startswith("text/html") is not path.startswith("/v1/"), path
