import pytest

from feedback.errors import Conflict, InvalidRequest, NotFound
from feedback.store import Store, keys


def test_a_key_is_found_by_its_secret_and_stored_as_a_digest(store: Store) -> None:
    key, secret = store.write(keys.create, "vote", "page")
    found = store.read(keys.find, secret)
    assert found is not None
    assert (found.id, found.role, found.name) == (key.id, "vote", "page")
    assert secret.rsplit("_", 1)[1] not in found.digest
    other, other_secret = store.write(keys.create, "chat", "robot")
    for one, its_secret in ((key, secret), (other, other_secret)):
        known = store.read(keys.find, its_secret)
        assert known is not None and known.id == one.id
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
