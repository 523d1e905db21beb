from sqlalchemy import update

from feedback.schema import Key
from feedback.store import Store, keys, now, sign_ins

HOUR_S = 3600.0


def test_a_sign_in_leads_to_its_key_until_it_ends(store: Store) -> None:
    key, _ = store.write(keys.create, "vote")
    secret = store.write(sign_ins.begin, key.id, HOUR_S)
    found = store.read(sign_ins.find, secret)
    assert found is not None and found.lasts_s is not None
    assert (found.key.id, found.key.role) == (key.id, "vote")
    assert HOUR_S - 60 < found.lasts_s <= HOUR_S
    assert store.read(sign_ins.find, secret[:-1]) is None
    store.write(sign_ins.end, secret)
    store.write(sign_ins.end, secret)
    assert store.read(sign_ins.find, secret) is None


def test_a_sign_in_expires(store: Store) -> None:
    key, _ = store.write(keys.create, "chat")
    assert store.read(sign_ins.find, store.write(sign_ins.begin, key.id, -1.0)) is None


def test_a_revoked_key_signs_everybody_out(store: Store) -> None:
    key, _ = store.write(keys.create, "operate")
    secret = store.write(sign_ins.begin, key.id, HOUR_S)
    store.write(keys.revoke, key.id)
    assert store.read(sign_ins.find, secret) is None


def test_a_sign_in_ends_with_its_key(store: Store) -> None:
    key, _ = store.write(keys.create, "operate", expires_at=store.read(now) + HOUR_S / 2)
    secret = store.write(sign_ins.begin, key.id, HOUR_S)
    found = store.read(sign_ins.find, secret)
    assert found is not None and found.lasts_s is not None and found.lasts_s <= HOUR_S / 2
    store.write(lambda session: session.execute(update(Key).values(expires_at=Key.expires_at - HOUR_S)))
    assert store.read(sign_ins.find, secret) is None
