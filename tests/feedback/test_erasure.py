"""Erasure in homes that are not shared: each machine takes out of its own datasets what the record says was erased."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from feedback import datasets
from feedback.erasure import Erasures, forget
from feedback.queue import make_celery
from feedback.scheduler import Scheduler
from feedback.schema import Comparison, Policy, Rater, Sample, Vote, VoteRevision
from feedback.settings import load_settings
from feedback.store import Store, audit, erasure, iterations, leases, policies, raters, rehearsals, samples, votes
from feedback.worker import count_all
from tests.feedback.plans import plans_of
from tests.feedback.record import add_comparison, judgement, sample
from tests.memory import traced

SETTINGS = load_settings().feedback


@pytest.fixture
def frozen(store: Store, tmp_path: Path) -> datasets.Frozen:
    """A dataset of two raters; in `here`, where the learner is, and copied to `there`."""
    for rater in ("ann", "bob"):
        vote = {"key_id": "key_a", "sees_all": False, "rater": rater}
        # A chat that nobody's erasure touches but the rater's own.
        store.write(votes.put, add_comparison(store), judgement("0", 4, ideal="As I say."), **vote)
    count_all(store)
    made = store.read(datasets.freeze, tmp_path / "here" / "datasets", SETTINGS)
    record(store, tmp_path / "here", made)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    return made


def record(store: Store, home: Path, made: datasets.Frozen) -> None:
    iteration = store.write(iterations.start, trigger="operator", seed=1, settings={})
    _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
    datasets.keep(store, iteration.id, epoch, made, home)
    store.write(iterations.fail, iteration.id, epoch, "on purpose")


def raters_in(folder: Path) -> list[str]:
    return sorted({example.rater for example in datasets.read(folder)})


def test_who_is_erased_through_one_machine_goes_from_the_datasets_of_the_others(
    store: Store, tmp_path: Path, frozen: datasets.Frozen
) -> None:
    ann, bob = (store.read(raters.find, "key_a", name) for name in ("ann", "bob"))
    there = tmp_path / "there" / "datasets" / frozen.digest
    erasures = Erasures(store, tmp_path / "there")
    assert erasures.look() == 0 and raters_in(there) == sorted([ann, bob])
    forget(store, tmp_path / "here", ann)
    assert raters_in(frozen.folder) == [bob]
    assert erasures.look() == 2, "the vote and the rewritten reply"
    assert raters_in(there) == [bob]
    assert orjson.loads((there / "summary.json").read_bytes())["erased"] == 2
    # Once more, also by a process that was started since, changes nothing.
    assert erasures.look() == Erasures(store, tmp_path / "there").look() == 0
    said: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda _conn, _cursor, statement, *_: said.append(statement))
    assert erasures.look() == 0 and said and not any("dataset_votes" in statement for statement in said)
    forget(store, tmp_path / "here", bob)
    assert erasures.look() == 2 and raters_in(there) == []
    assert orjson.loads((there / "summary.json").read_bytes())["erased"] == 4
    assert store.read(raters.list_all) == [], "nobody lists who is erased"


def test_nothing_that_was_asked_with_a_chat_or_known_of_who_votes_is_left(store: Store, tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "call_ann", "description": "Ann's number is 555"}}]
    sides = [sample(text, user="ann", sampling={"tools": tools, "stop": ["Ann"]}) for text in "56"]
    pair = samples.compare((sides[0], sides[1]), key_id="key_a", tranche="base")
    pair.origin = {"line": "Ann's number is 555"}
    store.write(samples.add, sides[:2], [pair])
    store.write(votes.put, pair.id, judgement(), key_id="key_a", sees_all=False, rater="ann")
    ann = store.read(raters.find, "key_a", "ann")
    figures = {ann: {"reliability": 0.5, "share_left": 1.0}}
    store.write(raters.note, figures)
    assert store.read(raters.get, ann).figures == figures[ann]
    forget(store, tmp_path, ann)
    # Somebody looked at the votes before.
    store.write(raters.note, figures)
    gone = store.read(raters.get, ann)
    assert (gone.reliability, gone.figures) == (None, None)
    assert [store.read(samples.get, side.id).sampling for side in sides] == [{}, {}]
    assert store.read(lambda session: session.get_one(Comparison, pair.id)).origin is None


def test_what_was_asked_cannot_be_guessed_nor_read_in_what_others_said_of_it(store: Store, tmp_path: Path) -> None:
    bob = {"key_id": "key_a", "sees_all": False, "rater": "bob"}
    pairs = {}
    for user in ("ann", "bob"):
        asked = [{"role": "user", "content": f"I am {user}"}]
        pair = add_comparison(store, *(sample(text, user=user, messages=asked) for text in "56"))
        for said in (judgement("0", reason=f"{user} says so"), judgement("1", 3, ideal=f"You are {user}")):
            vote = store.write(votes.put, pair, said, **bob)
        pairs[user] = pair, vote.id
    count_all(store)

    def of(session: Session, user: str) -> tuple[Any, ...]:
        pair = session.get_one(Comparison, pairs[user][0])
        vote, before = session.get_one(Vote, pairs[user][1]), session.get_one(VoteRevision, (pairs[user][1], 1))
        digests = {
            pair.prompt_digest,
            *(session.get_one(Sample, one).prompt_digest for one in (pair.sample_0, pair.sample_1)),
        }
        is_asked = samples.prompt_digest([{"role": "user", "content": f"I am {user}"}]) in digests
        return is_asked, vote.state, vote.preferred, vote.strength, vote.ideal, before.reason

    kept = store.read(of, "bob")
    assert kept == (True, "counted", "1", 3, "You are bob", "bob says so")
    forget(store, tmp_path, store.write(raters.find_person, "key_a", "ann"))
    assert store.read(of, "ann") == (False, "counted", "1", 3, None, None)
    assert store.read(of, "bob") == kept


def test_where_somebody_is_is_found_by_indexes(store: Store, frozen: datasets.Frozen) -> None:
    ann = store.read(raters.find, "key_a", "ann")
    in_datasets, *_ = plans_of(store, lambda session: erasure.traces(session, ann))
    for index in ("ix_comparisons_sample_0", "ix_comparisons_sample_1", "ix_votes_rater_id_id"):
        assert index in in_datasets


def test_who_is_erased_while_a_dataset_is_frozen_does_not_stay_in_it(store: Store, tmp_path: Path) -> None:
    vote = {"key_id": "key_a", "sees_all": False, "rater": "ann"}
    store.write(votes.put, add_comparison(store), judgement(), **vote)
    count_all(store)
    made = store.read(datasets.freeze, tmp_path / "datasets", SETTINGS)
    erasures = Erasures(store, tmp_path)
    forget(store, tmp_path, store.read(raters.find, "key_a", "ann"))
    assert erasures.look() == 0, "nobody knows of the dataset yet"
    record(store, tmp_path, made)
    assert erasures.look() == 1 and raters_in(made.folder) == []


def test_what_is_published_while_files_are_written_anew_is_not_looked_for_with_the_lock_held(
    store: Store, tmp_path: Path, frozen: datasets.Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[bool] = []
    look, take_out = erasure._traces, datasets.forget

    def note(session: Session, rater: Rater) -> erasure.Traces:
        looked.append(bool(session.connection().get_execution_options().get("tandem_writes")))
        return look(session, rater)

    def publish_meanwhile(folder: Path, votes: set[str]) -> int:
        if len(looked) == 1:
            of_it = {"dataset_digest": frozen.digest, "path": "policies/v1", "digest": "d", "settings": {}}
            made = Policy(version=1, state="candidate", evidence={}, created_at=1.0, **of_it)
            store.write(lambda session: session.add(made))
        return take_out(folder, votes)

    monkeypatch.setattr(erasure, "_traces", note)
    monkeypatch.setattr(datasets, "forget", publish_meanwhile)
    assert forget(store, tmp_path / "here", store.read(raters.find, "key_a", "ann")).versions == [1]
    assert looked == [False, False]


def test_a_dataset_that_is_kept_while_somebody_is_being_erased_is_without_them_at_once(
    store: Store, tmp_path: Path
) -> None:
    vote = {"key_id": "key_a", "sees_all": False, "rater": "ann"}
    store.write(votes.put, add_comparison(store), judgement(), **vote)
    count_all(store)
    made = store.read(datasets.freeze, tmp_path / "datasets", SETTINGS)
    ann, others = store.read(raters.find, "key_a", "ann"), Store(store.database_url)

    def keep(*_: object) -> None:
        record(others, tmp_path, made)

    # After the first that is asked of the record.
    event.listen(store.engine, "checkin", keep, once=True)
    forget(store, tmp_path, ann)
    assert raters_in(made.folder) == []
    others.close()


def test_a_large_dataset_is_not_held_in_memory_to_take_lines_out(tmp_path: Path) -> None:
    rest = "x" * 2000
    lines = [orjson.dumps({"vote": f"vote_{number}", "reply": rest}) + b"\n" for number in range(5000)]
    (tmp_path / "votes.jsonl").write_bytes(b"".join(lines))
    (tmp_path / "summary.json").write_bytes(b"{}")
    forgotten, most = traced(lambda: datasets.forget(tmp_path, {"vote_0", "vote_4999"}))
    assert forgotten == 2
    assert most < (tmp_path / "votes.jsonl").stat().st_size / 10
    assert (tmp_path / "votes.jsonl").read_bytes() == b"".join(lines[1:-1])


def test_two_who_are_erased_at_once_by_one_process_leave_no_broken_dataset(
    store: Store, tmp_path: Path, frozen: datasets.Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, flush = tmp_path / "here", os.fsync
    ann, bob = (store.read(raters.find, "key_a", name) for name in ("ann", "bob"))

    def bob_meanwhile(file: int) -> None:
        monkeypatch.setattr(os, "fsync", flush)
        forget(store, home, bob)
        flush(file)

    # When the file without ann is written, but not in place yet.
    monkeypatch.setattr(os, "fsync", bob_meanwhile)
    forget(store, home, ann)
    Erasures(store, home).look()
    assert raters_in(frozen.folder) == []


@pytest.mark.parametrize("by", ["vote", "chat"])
def test_an_iteration_that_learns_from_who_is_erased_is_named_and_later_its_version(
    store: Store, tmp_path: Path, frozen: datasets.Frozen, by: str
) -> None:
    store.write(policies.register_start, "policies/v0", "d0", {})
    iteration = store.write(iterations.start, trigger="operator", seed=1, settings={})
    _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
    if by == "vote":
        datasets.keep(store, iteration.id, epoch, frozen, tmp_path / "here")
    else:
        chat = sample("my secret", user="ann")
        chat_id = chat.id
        store.write(samples.add, [chat])
        store.write(rehearsals.keep, epoch, iteration.id, [chat_id])
    # Whose vote came later is in nothing.
    eve = store.write(votes.put, add_comparison(store), judgement(), key_id="key_a", sees_all=False, rater="eve")
    assert forget(store, tmp_path / "here", eve.rater_id) == ([], [])
    ann = store.read(raters.find, "key_a", "ann")
    assert forget(store, tmp_path / "here", ann) == ([], [iteration.id])
    assert [told.data for told in store.read(iterations.events_after, iteration.id, 0) if told.kind == "erased"] == [
        {"rater": ann}
    ]
    made = policies.Provenance(
        parent=0, iteration_id=iteration.id, dataset_digest=frozen.digest, settings={}, seed=1, evidence={}
    )
    store.write(policies.publish, 1, "policies/v1", "d1", made, epoch=epoch)
    told, _ = store.read(audit.list_page, limit=9, after=None, order="desc", subject=ann)
    assert [(entry.actor, entry.action, entry.data) for entry in told] == [
        ("learner", "rater.learnt_from", {"used_by": ["v1"]}),
        ("command line", "rater.erase", {"used_by": [], "used_in": [iteration.id]}),
    ]
    # Its version is there, though its row says that it runs; and who is not in it is not told of.
    bob = store.read(raters.find, "key_a", "bob")
    assert forget(store, tmp_path / "here", bob) == ([1], [])


def test_the_scheduler_of_each_machine_does_it_whoever_holds_the_lease(
    store: Store, tmp_path: Path, frozen: datasets.Frozen
) -> None:
    settings = load_settings(home=tmp_path / "there", redis_url=f"redis+socket://{tmp_path}/no.sock")
    forget(store, tmp_path / "here", store.read(raters.find, "key_a", "ann"))
    assert store.write(leases.acquire, leases.SCHEDULER, "another machine", 60.0) is not None
    Scheduler(settings, store, make_celery(settings)).look()
    there = tmp_path / "there" / "datasets" / frozen.digest
    assert raters_in(there) == [store.read(raters.find, "key_a", "bob")]


def test_a_dataset_that_cannot_be_written_is_told_of_and_the_rest_goes_on(
    store: Store, tmp_path: Path, frozen: datasets.Frozen, caplog: pytest.LogCaptureFixture
) -> None:
    there, erasures = tmp_path / "there" / "datasets" / frozen.digest, Erasures(store, tmp_path / "there")
    summary = (there / "summary.json").read_bytes()
    (there / "summary.json").unlink()
    forget(store, tmp_path / "here", store.read(raters.find, "key_a", "ann"))
    with caplog.at_level(logging.WARNING):
        assert erasures.look() == 0
    assert str(there) in caplog.text
    (there / "summary.json").write_bytes(summary)
    assert erasures.look() == 0, "not at every look of the scheduler, each of which would be told of"
    assert Erasures(store, tmp_path / "there").look() == 2
