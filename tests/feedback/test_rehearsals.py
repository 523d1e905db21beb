"""Which chats of the record can be rehearsed, that an iteration's are kept, and what erasure says and does of them."""

import pytest

from feedback.errors import LeaseLost
from feedback.schema import Sample
from feedback.store import Store, erasure, iterations, policies, raters, rehearsals, samples, votes
from tests.feedback.record import add_comparison, judgement, sample


def asked(text: str, **changes: object) -> Sample:
    return sample(messages=[{"role": "user", "content": text}], **changes)


def texts(chats: list[rehearsals.Chat]) -> list[str]:
    return [chat.messages[-1]["content"] for chat in chats]


def running(store: Store) -> tuple[str, int]:
    iteration = store.write(iterations.start, trigger="operator", seed=1, settings={})
    return iteration.id, store.write(iterations.claim, iteration.id, "me", 60.0, 5)[1]


def test_peoples_own_chats_in_text_are_found_newest_first_and_each_once(store: Store) -> None:
    parts = [{"type": "text", "text": "what is this?"}]
    no_chats = [
        asked("imported", version_first=None, version_last=None),
        asked("of a version by name", sampling={"model": "tandem@v0"}),
        asked("cut off", status="cancelled"),
        asked("refused", status="refused"),
        sample(messages=[{"role": "user", "content": parts}]),
        sample(messages=[{"role": "user", "content": "x"}, {"role": "tool", "content": "y", "tool_call_id": "1"}]),
        sample(messages=[{"role": "user", "content": "x"}, {"role": "assistant", "content": "go on"}]),
    ]
    for one in [asked("first"), *no_chats, asked("second"), asked("first", version=1)]:
        store.write(samples.add, [one])
    store.write(samples.add, [asked("too late", created_at=9.0)])
    assert texts(store.read(rehearsals.newest_chats, 5.0, 100)) == ["first", "second"]
    assert texts(store.read(rehearsals.newest_chats, 9.0, 2)) == ["too late", "first"]
    assert store.read(rehearsals.newest_chats, 9.0, 0) == []


def test_what_an_iteration_rehearses_stays_but_for_what_is_erased(store: Store) -> None:
    own, other = asked("mine", user="ann"), asked("theirs", user="bob")
    ids = [own.id, other.id]
    store.write(samples.add, [own, other])
    iteration, epoch = running(store)
    store.write(rehearsals.keep, epoch, iteration, ids)
    store.write(rehearsals.keep, epoch, iteration, ids)
    assert texts(store.read(rehearsals.of_iteration, iteration)) == ["mine", "theirs"]
    assert store.read(rehearsals.of_iteration, "itr_other") == []
    with pytest.raises(LeaseLost):
        store.write(rehearsals.keep, epoch - 1, iteration, ids)
    store.write(raters.find_or_create, "key_a", "ann")
    store.write(erasure.erase, store.read(raters.find, "key_a", "ann"))
    assert texts(store.read(rehearsals.of_iteration, iteration)) == ["theirs"]


def test_erasure_says_which_versions_rehearsed_a_persons_chats_and_which_learnt_from_their_votes(store: Store) -> None:
    chat = asked("mine", user="ann")
    chat_id = chat.id
    store.write(samples.add, [chat])
    store.write(policies.register_start, "policies/v0", "d0", {})
    iteration, epoch = running(store)
    store.write(rehearsals.keep, epoch, iteration, [chat_id])
    provenance = policies.Provenance(
        parent=0, iteration_id=iteration, dataset_digest=None, settings={}, seed=1, evidence={}
    )
    store.write(policies.publish, 1, "policies/v1", "d1", provenance, epoch=epoch)
    for name in ("ann", "bob"):
        store.write(votes.put, add_comparison(store), judgement(), key_id="key_a", sees_all=False, rater=name)
    assert store.write(erasure.erase, store.read(raters.find, "key_a", "bob")) == ([], [])
    assert store.write(erasure.erase, store.read(raters.find, "key_a", "ann")) == ([1], [])
