"""What the keyring remembers of a key: not beyond its end, and its own limits with it."""

import pytest

from feedback.errors import NotAuthenticated
from feedback.store import keys, now, sign_ins
from serve import auth
from serve.auth import Keyring
from serve.record import Record
from tests.serve.conftest import Tandem

LASTS_S = 3600.0


class Clock:
    """What the keyring goes by."""

    at = 0.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(auth, "time", clock)
    # Else what is remembered would be forgotten by itself meanwhile.
    monkeypatch.setattr(auth, "REMEMBERED_S", 2 * LASTS_S)
    return clock


@pytest.fixture
def keyring(record: Record) -> Keyring:
    return Keyring(record)


async def test_a_key_that_is_remembered_ends_all_the_same(record: Record, keyring: Keyring, clock: Clock) -> None:
    key, secret = await record.write(keys.create, "chat", expires_at=await record.read(now) + LASTS_S)
    assert (await keyring.of_key(secret)).key_id == key.id
    await record.write(expire, key.id)
    assert (await keyring.of_key(secret)).key_id == key.id, "the record was asked again"
    clock.at += LASTS_S
    with pytest.raises(NotAuthenticated, match="expired at"):
        await keyring.of_key(secret)


async def test_so_does_who_signed_in_with_it(record: Record, keyring: Keyring, clock: Clock) -> None:
    key, _ = await record.write(keys.create, "vote", expires_at=await record.read(now) + LASTS_S)
    cookie = await record.write(sign_ins.begin, key.id, 2 * LASTS_S)
    assert await keyring.of_sign_in(cookie) is not None
    await record.write(expire, key.id)
    clock.at += LASTS_S
    assert await keyring.of_sign_in(cookie) is None


async def test_a_revoked_key_is_refused_within_a_second(
    record: Record, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(auth, "time", clock)
    key, secret = await record.write(keys.create, "vote")
    cookie = await record.write(sign_ins.begin, key.id, LASTS_S)
    assert (await keyring.of_key(secret)).key_id == key.id and await keyring.of_sign_in(cookie) is not None
    await record.write(keys.revoke, key.id)
    clock.at += 1.0
    assert await keyring.of_sign_in(cookie) is None
    with pytest.raises(NotAuthenticated, match="revoked"):
        await keyring.of_key(secret)


async def test_neither_stands_in_for_the_other_while_it_is_remembered(record: Record, keyring: Keyring) -> None:
    key, secret = await record.write(keys.create, "vote")
    cookie = await record.write(sign_ins.begin, key.id, LASTS_S)
    await keyring.of_key(secret)
    assert await keyring.of_sign_in(secret) is None
    assert await keyring.of_sign_in(cookie) is not None
    with pytest.raises(NotAuthenticated):
        await keyring.of_key(cookie)


async def test_a_caller_brings_the_limits_of_its_key(record: Record, keyring: Keyring) -> None:
    _, limited = await record.write(keys.create, "chat", tokens_per_minute=7)
    _, usual = await record.write(keys.create, "chat")
    assert (await keyring.of_key(limited)).limits == {"tokens": 7}
    assert (await keyring.of_key(usual)).limits == {}


def test_over_the_wire_an_expired_key_is_said_to_be_one(quiet: Tandem) -> None:
    key, secret = quiet.store.write(keys.create, "operate", expires_at=quiet.store.read(now) + 3600)
    headers = {"authorization": f"Bearer {secret}"}
    with quiet.client(headers=headers) as client:
        assert client.get("/v1/audit").status_code == 200
    quiet.store.write(expire, key.id)
    quiet.gateway.keyring.forget(secret)
    with quiet.client(headers=headers) as client:
        native, chat = client.get("/v1/audit"), client.get("/v1/models")
        signing_in = client.post("/v1/session", json={"key": secret})
    assert {answer.status_code for answer in (native, chat, signing_in)} == {401}
    assert native.json()["code"] == chat.json()["error"]["code"] == "invalid_api_key"
    assert "expired at" in native.json()["detail"] and "expired at" in chat.json()["error"]["message"]
    assert "expired at" in signing_in.json()["detail"]


def expire(session: object, key_id: str) -> None:
    key = keys.known(session, key_id)  # type: ignore[arg-type]
    assert key.expires_at is not None
    key.expires_at -= 7200
