import pytest
from sqlalchemy import update

from feedback.errors import Conflict, InvalidRequest, NotAuthenticated, NotFound
from feedback.schema import Key
from feedback.store import Store, audit, keys, now

HOUR_S = 3600.0


def test_a_key_is_found_by_its_secret_and_stored_as_a_digest(store: Store) -> None:
    key, secret = store.write(keys.create, "vote", "page")
    found = store.read(keys.find, secret)
    assert found is not None
    assert (found.key.id, found.key.role, found.key.name) == (key.id, "vote", "page")
    assert found.lasts_s is None
    assert secret.split("_", 2)[2] not in found.key.digest
    other, other_secret = store.write(keys.create, "chat", "robot")
    for one, its_secret in ((key, secret), (other, other_secret)):
        known = store.read(keys.find, its_secret)
        assert known is not None and known.key.id == one.id
    assert store.read(keys.find, secret.replace(key.prefix, other.prefix)) is None
    for wrong in (
        "",
        "tdm",
        secret.replace("tdm", "abc"),
        secret[:-1],
        secret + "x",
        f"tdm_{key.prefix}_",
        f"tdm_00000000_{'x' * 43}",
    ):
        assert store.read(keys.find, wrong) is None


def test_revoking(store: Store) -> None:
    key, secret = store.write(keys.create, "operate")
    store.write(keys.revoke, key.prefix)
    assert store.read(keys.find, secret) is None
    with pytest.raises(Conflict):
        store.write(keys.revoke, key.id)
    with pytest.raises(NotFound):
        store.write(keys.revoke, "nobody")


def test_an_unknown_role(store: Store) -> None:
    with pytest.raises(InvalidRequest, match="chat, vote, operate"):
        store.write(keys.create, "root")


def test_a_key_is_good_until_it_expires_and_who_has_it_is_told(store: Store) -> None:
    at = store.read(now)
    key, secret = store.write(keys.create, "chat", expires_at=at + HOUR_S)
    found = store.read(keys.find, secret)
    assert found is not None and found.lasts_s is not None
    assert HOUR_S - 60 < found.lasts_s <= HOUR_S
    assert (keys.state(key, at), keys.state(key, at + HOUR_S)) == ("active", "expired")
    store.write(lambda session: session.execute(update(Key).values(expires_at=Key.expires_at - HOUR_S - 1)))
    with pytest.raises(NotAuthenticated, match=r"expired at \d{4}-\d\d-\d\d \d\d:\d\d UTC"):
        store.read(keys.find, secret)
    # Who does not have all of it learns nothing.
    assert store.read(keys.find, secret[:-1]) is None
    store.write(keys.revoke, key.id)
    assert store.read(keys.find, secret) is None


def test_a_key_cannot_be_made_expired(store: Store) -> None:
    with pytest.raises(InvalidRequest, match="expired"):
        store.write(keys.create, "chat", expires_at=store.read(now) - 1)
    assert store.read(keys.list_all) == []


def test_limits_of_its_own_are_given_changed_and_taken_away(store: Store) -> None:
    key, secret = store.write(keys.create, "chat", requests_per_minute=5)
    store.write(keys.limit, key.prefix, {"tokens_per_minute": 1000})
    found = store.read(keys.find, secret)
    assert found is not None
    assert (found.key.requests_per_minute, found.key.tokens_per_minute) == (5, 1000)
    changed = store.write(keys.limit, key.id, {"requests_per_minute": None})
    assert (changed.requests_per_minute, changed.tokens_per_minute) == (None, 1000)
    entries, _ = store.read(audit.list_page, limit=9, after=None, order="asc", subject=key.id)
    assert [(entry.action, entry.data) for entry in entries] == [
        ("key.create", {"role": "chat", "name": "", "requests_per_minute": 5}),
        ("key.limit", {"tokens_per_minute": 1000}),
        ("key.limit", {"requests_per_minute": None}),
    ]
    for wrong in (0, 2**31):
        with pytest.raises(InvalidRequest, match="requests_per_minute must be from 1"):
            store.write(keys.limit, key.id, {"requests_per_minute": wrong})
    with pytest.raises(NotFound):
        store.write(keys.limit, "nobody", {"requests_per_minute": 1})
    store.write(keys.revoke, key.id)
    with pytest.raises(Conflict):
        store.write(keys.limit, key.id, {"requests_per_minute": 1})
