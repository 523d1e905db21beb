from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, update
from sqlalchemy.exc import DBAPIError

from feedback import audit as chain
from feedback import setting_apart
from feedback.schema import AuditEntry
from feedback.store import Store, audit, erasure, iterations, keys, policies, raters, traffic, votes
from feedback.store.traffic import Shares
from tests.feedback.record import add_comparison, judgement


@dataclass(frozen=True)
class Link:
    seq: int
    created_at: float
    actor: str
    action: str
    subject: str
    reason: str
    data: dict[str, Any]
    previous: str
    digest: str = ""


DATA = st.dictionaries(
    st.text(max_size=5), st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5), max_size=3
)
SAID = st.tuples(st.floats(0, 2e9), *[st.text(max_size=6)] * 4, DATA)


def chained(said: list[tuple]) -> list[Link]:
    links: list[Link] = []
    for seq, (created_at, actor, action, subject, reason, data) in enumerate(said, 1):
        previous = links[-1].digest if links else chain.START
        link = Link(seq, created_at, actor, action, subject, reason, data, previous)
        links.append(replace(link, digest=chain.digest_of(link)))
    return links


@given(st.lists(SAID, max_size=6))
def test_a_chain_that_was_left_alone_holds(said: list[tuple]) -> None:
    links = chained(said)
    found = chain.verify(links)
    assert (found.entries, found.broken_at) == (len(links), None)
    assert found.head == (links[-1].digest if links else chain.START)


@given(st.lists(SAID, min_size=1, max_size=6), st.data())
def test_whatever_is_changed_shows(said: list[tuple], data: st.DataObject) -> None:
    links = chained(said)
    at = data.draw(st.integers(0, len(links) - 1))
    field = data.draw(
        st.sampled_from(["created_at", "actor", "action", "subject", "reason", "data", "previous", "digest"])
    )
    other = data.draw(SAID)
    values = dict(zip(["created_at", "actor", "action", "subject", "reason", "data"], other, strict=True))
    value = values.get(field, "1" * 64)
    changed = [*links[:at], replace(links[at], **{field: value}), *links[at + 1 :]]
    found = chain.verify(changed)
    assert (found.broken_at is None) == (changed == links)
    if changed != links:
        assert found.broken_at == links[at].seq


@given(st.lists(SAID, min_size=1, max_size=6), st.data())
def test_an_end_that_was_removed_shows_by_a_digest_that_was_kept(said: list[tuple], data: st.DataObject) -> None:
    links = chained(said)
    kept = data.draw(st.integers(1, len(links)))
    left = data.draw(st.integers(0, len(links)))
    found = chain.verify(links[:left], links[kept - 1].digest)
    assert found.broken_at == (None if left >= kept else left + 1)
    assert found.entries == left


@given(st.lists(SAID, min_size=2, max_size=6), st.data())
def test_an_entry_that_is_removed_or_moved_shows(said: list[tuple], data: st.DataObject) -> None:
    links = chained(said)
    at = data.draw(st.integers(0, len(links) - 2))
    assert chain.verify([*links[:at], *links[at + 1 :]]).broken_at is not None
    turned = [*links[:at], links[at + 1], links[at], *links[at + 2 :]]
    assert chain.verify(turned).broken_at is not None


def test_every_decision_is_there_with_who_and_why(store: Store) -> None:
    key, _ = store.write(keys.create, "vote", "page")
    store.write(policies.register_start, "policies/v0", "d0", {})
    store.write(iterations.start_next, trigger="operator", learner={"seed": 1}, reason="now", actor="key_1")
    store.write(policies.keep_failure, 0, kind="promote", reason="try", force=False, actor="key_1", detail="no")
    store.write(policies.set_serving, 0, kind="rollback", reason="worse", force=True, actor="key_1", overruled="x >= 1")
    store.write(traffic.put, Shares(0, 0.1, 0.5), actor="key_1")
    store.write(votes.put, add_comparison(store), judgement(), key_id="key_a", sees_all=False, rater="ann")
    rater = store.read(raters.find, "key_a", "ann")
    setting_apart.quarantine(store, rater, "a robot", actor="key_1")
    setting_apart.release(store, rater, actor="key_1")
    store.write(erasure.erase, rater, actor="key_1")
    store.write(keys.revoke, key.id)
    entries, _ = store.read(audit.list_page, limit=99, after=None, order="asc")
    assert [entry.action for entry in entries] == [
        "key.create", "iteration.start", "policy.promote", "policy.rollback", "traffic.set",
        "rater.quarantine", "rater.release", "rater.erase", "key.revoke",
    ]  # fmt: skip
    forced = entries[3]
    assert (forced.actor, forced.subject, forced.reason) == ("key_1", "v0", "worse")
    assert (forced.data["force"], forced.data["detail"]) == (True, "x >= 1")
    assert "ann" not in str([entry.data for entry in entries]), "who was erased is not named here either"
    assert store.read(audit.verify).entries == 9
    about, _ = store.read(audit.list_page, limit=99, after=None, order="desc", subject=rater)
    assert [entry.action for entry in about] == ["rater.erase", "rater.release", "rater.quarantine"]
    later, more = store.read(audit.list_page, limit=2, after=about[0].seq, order="desc", subject=rater)
    assert ([entry.action for entry in later], more) == (["rater.release", "rater.quarantine"], False)


def test_settings_are_noted_when_they_change(store: Store) -> None:
    assert store.write(audit.note_settings, "gate", {"rules": ("a >= 1",)})
    assert store.write(audit.note_settings, "automatic", {"enabled": True})
    assert not store.write(audit.note_settings, "gate", {"rules": ["a >= 1"]})
    assert store.write(audit.note_settings, "gate", {"rules": []})
    assert store.read(audit.verify).entries == 3


def test_the_database_refuses_to_change_or_remove_an_entry(store: Store) -> None:
    store.write(audit.add, "key_1", "test", data_of="x")
    for statement in (update(AuditEntry).values(actor="somebody else"), delete(AuditEntry)):
        with pytest.raises(DBAPIError, match="append-only"):
            store.write(lambda session, statement=statement: session.execute(statement))
    assert store.read(audit.verify).as_json()["intact"]


def test_many_at_once_make_one_chain(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: store.write(audit.add, "key_1", "test", str(number)), range(40)))
    found = store.read(audit.verify)
    assert (found.entries, found.broken_at) == (40, None)
    for batch in (8, 9):  # read in parts, of which the last is full or not
        monkeypatch.setattr(audit, "READ_BATCH", batch)
        assert store.read(audit.verify) == found


def test_a_reason_with_a_nul_breaks_no_chain(store: Store) -> None:
    ann = store.write(raters.find_or_create, "key_a", "ann")
    setting_apart.quarantine(store, ann, "they\0cheat")
    store.write(audit.add, "me", "answer.set", "cmp\0", objective="help\0ful")
    assert store.read(audit.verify).problem is None
    (_, quarantined), _ = store.read(audit.list_page, limit=2, after=None, order="desc")
    assert quarantined.reason == "they\ufffdcheat"
