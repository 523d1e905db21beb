import contextlib
import io
import resource
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import event, select, text
from sqlalchemy.orm import Session

from feedback import datasets
from feedback.erasure import Erasures, forget
from feedback.errors import Conflict, NotFound
from feedback.exporting import export_votes
from feedback.schema import Comparison, Dataset, DatasetVote, Policy, Sample, Vote, VoteRevision
from feedback.settings import FeedbackSettings
from feedback.store import (
    Store,
    checks,
    counting,
    erasure,
    finding,
    iterations,
    policies,
    raters,
    samples,
    tallies,
    votes,
)
from feedback.worker import count_all
from tests.feedback.record import add_comparison, judgement, sample
from tests.records import empty_record

ANN = {"key_id": "key_a", "sees_all": False, "rater": "ann"}


def test_erasing_a_rater_takes_votes_and_chats_out_of_later_datasets(store: Store, tmp_path: Path) -> None:
    chat = sample("my secret", user="ann")
    by_ann = add_comparison(store, chat, sample("6", version=1, user="ann"))
    by_others = add_comparison(store)
    for rater in ("ann", "bob"):
        for objective in ("helpful", "harmless"):
            vote = judgement(objective=objective, reason=f"{rater} says", ideal="better")
            store.write(votes.put, by_others, vote, key_id="key_a", sees_all=False, rater=rater)
    store.write(votes.put, by_ann, judgement(), key_id="key_a", sees_all=False, rater="bob")
    count_all(store)
    ann = store.read(raters.find, "key_a", "ann")
    assert store.read(datasets.freeze, tmp_path, FeedbackSettings()).summary["examples"] == 9

    folder = store.read(datasets.freeze, tmp_path / "datasets", FeedbackSettings())
    remember(store, tmp_path, folder)
    before = (folder.folder / "votes.jsonl").read_bytes().splitlines()

    assert forget(store, tmp_path, ann) == ([], [])
    after = (folder.folder / "votes.jsonl").read_bytes().splitlines()
    assert after == [
        line for line in before if b'"comparison":"%b"' % by_ann.encode() not in line and ann.encode() not in line
    ]
    assert len(after) == 4
    assert orjson.loads((folder.folder / "summary.json").read_bytes())["erased"] == 5
    frozen = store.read(datasets.freeze, tmp_path, FeedbackSettings())
    assert frozen.summary["examples"] == 4
    assert {example.rater for example in datasets.read(frozen.folder)} == {store.read(raters.find, "key_a", "bob")}
    erased = store.read(samples.get, chat.id)
    assert (erased.text, erased.messages, erased.token_ids) == ("", [], None)
    assert store.read(raters.find, "key_a", "ann") is None
    with pytest.raises(NotFound):
        store.write(erasure.erase, ann)


def test_erasing_a_rater_takes_their_words_out_of_the_evidence_of_versions(store: Store, tmp_path: Path) -> None:
    on_anns = add_comparison(store, sample("my secret", user="ann"), sample("6", version=1, user="ann"))
    said = {}
    for comparison in (on_anns, add_comparison(store)):
        vote = store.write(votes.put, comparison, judgement(), key_id="key_a", sees_all=False, rater="bob")
        said[comparison] = vote.id
    count_all(store)
    frozen = store.read(datasets.freeze, tmp_path / "datasets", FeedbackSettings())
    remember(store, tmp_path, frozen)
    shown = [{"messages": [], "candidate": "a", "reference": "b", "vote": vote_id} for vote_id in said.values()]

    store.write(lambda session: session.add(candidate(frozen.digest, {"evaluation": {"prompts": 2, "samples": shown}})))
    ann = store.write(raters.find_or_create, "key_a", "ann")
    assert forget(store, tmp_path, ann) == ([1], [])
    kept = store.read(policies.get, 1).evidence["evaluation"]
    assert kept == {"prompts": 2, "samples": [one for one in shown if one["vote"] != said[on_anns]]}
    # Also out of what was measured meanwhile, and is told of later.
    store.write(policies.evaluated_again, 1, {"prompts": 2, "samples": shown}, actor="me")
    assert store.read(policies.get, 1).evidence["evaluation"] == kept


def test_an_erasure_that_was_cut_off_goes_on_where_it_was(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feedback.store.parts.AT_ONCE", 2)
    pairs = [add_comparison(store, sample("my secret", user="ann"), sample("6", user="ann")) for _ in range(3)]
    for pair in (*pairs, add_comparison(store)):
        store.write(votes.put, pair, judgement(reason="my secret"), **ANN)
        store.write(votes.put, pair, judgement(reason="private"), **(ANN | {"rater": "bob"}))
    store.write(votes.put, pairs[0], judgement("1", reason="my secret too"), **ANN)
    count_all(store)
    frozen = store.read(datasets.freeze, tmp_path / "datasets", FeedbackSettings())
    remember(store, tmp_path, frozen)
    store.write(lambda session: session.add(candidate(frozen.digest, {})))
    ann = store.read(raters.find, "key_a", "ann")

    parts = list(store.read(erasure.rest, ann).parts())
    assert len(parts) == 2 + 3 + 2
    # Cut off when half of the votes, nearly all chats and most of what others said of them were gone.
    for part in (parts[0], *parts[2:4], parts[5]):
        store.write(erasure.take, ann, part)
    assert store.read(raters.find, "key_a", "ann") == ann
    assert store.read(votes.count_by_state) == {"counted": 6, "retracted": 2}
    assert store.read(tallies.counted) == store.read(raters.get, ann).votes_counted + 4 == 6

    changed: list[int] = []

    def note(_connection: object, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith(("UPDATE samples", "UPDATE votes")):
            changed.append(cursor.rowcount)

    event.listen(store.engine, "after_cursor_execute", note)
    assert forget(store, tmp_path, ann) == ([1], []), "though what it had learnt from them was gone before"
    assert sum(changed) == 2 + 2 + 1 and max(changed) <= 2, "others get their turn between the parts"
    assert (frozen.folder / "votes.jsonl").read_bytes().count(b"\n") == 1, "that of another on another's chat"
    assert store.read(tallies.counted) == 4
    for model in (Sample, Vote, VoteRevision):
        rows = store.read(lambda session, model=model: [vars(row) for row in session.scalars(select(model))])
        assert rows or model is VoteRevision
        assert "my secret" not in str(rows)


def candidate(dataset: str, evidence: dict[str, Any]) -> Policy:
    return Policy(
        version=1, state="candidate", parent=0, path="policies/v1", digest="d", iteration_id="itr_1",
        dataset_digest=dataset, settings={}, seed=1, created_at=1.0, evidence=evidence,
    )  # fmt: skip


@pytest.mark.parametrize("first", ["published", "erased"])
def test_who_is_erased_while_a_version_is_published_is_not_in_its_evidence(
    store: Store, tmp_path: Path, first: str
) -> None:
    pair = add_comparison(store, sample("my secret", user="ann"), sample("6", user="ann"))
    vote = store.write(votes.put, pair, judgement(), **ANN)
    count_all(store)
    frozen = store.read(datasets.freeze, tmp_path / "datasets", FeedbackSettings())
    remember(store, tmp_path, frozen)
    iteration = store.write(iterations.start, trigger="operator", seed=1, settings={})
    _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
    shown = [{"messages": [], "candidate": "my secret", "reference": "b", "vote": vote.id}]
    made = policies.Provenance(0, iteration.id, frozen.digest, {}, 1, {"evaluation": {"samples": shown}})
    ann = store.read(raters.find, "key_a", "ann")
    operations = {
        "published": lambda session: policies.publish(session, 1, "policies/v1", "d", made, epoch=epoch),
        "erased": lambda session: erasure.erase(session, ann),
    }
    meanwhile(store, operations.pop(first), partial(store.write, *operations.values()))
    assert store.read(policies.get, 1).evidence == {"evaluation": {"samples": []}}


def remember(store: Store, home: Path, frozen: datasets.Frozen) -> None:
    """The dataset in the record, as an iteration leaves it."""

    def add(session: object) -> None:
        path = frozen.folder.relative_to(home).as_posix()
        session.add(Dataset(digest=frozen.digest, path=path, summary=frozen.summary, created_at=1.0))
        session.flush()
        for vote in frozen.votes():
            session.add(DatasetVote(dataset_digest=frozen.digest, **vote._asdict()))

    store.write(add)


def meanwhile(store: Store, operation: Callable[[Session], Any], at_the_same_time: Callable[[], Any]) -> None:
    """Run both: the second begins when the first has done its work and not committed it yet."""
    with ThreadPoolExecutor(1) as pool:

        def both(session: Session) -> Future[Any]:
            operation(session)
            other = pool.submit(at_the_same_time)
            # It waits for the first one to end, unless something is wrong.
            wait([other], timeout=0.5)
            return other

        store.write(both).result(timeout=120)


@pytest.mark.parametrize("voted_before", [False, True], ids=["first", "changed"])
def test_a_vote_that_comes_while_its_rater_is_erased_is_that_of_somebody_new(store: Store, voted_before: bool) -> None:
    judged, other = add_comparison(store), add_comparison(store)
    store.write(votes.put, judged, judgement(), **ANN)
    ann = store.read(raters.find, "key_a", "ann")
    late = partial(store.write, votes.put, judged if voted_before else other, judgement("1", reason="private"), **ANN)
    meanwhile(store, lambda session: erasure.erase(session, ann), late)
    left, _ = store.read(finding.find, finding.Wanted(rater_id=ann), limit=9)
    assert [(vote.state, vote.reason) for vote in left] == [("retracted", None)]
    anew = store.read(raters.find, "key_a", "ann")
    (vote,), _ = store.read(finding.find, finding.Wanted(rater_id=anew), limit=9)
    assert (vote.state, vote.reason) == ("accepted", "private")


def expire_all(session: Session) -> int:
    ids = samples.expired(session, 10.0, 100)
    return samples.expire(session, ids, 10.0)


@pytest.mark.parametrize("shown", ["first", "again"])
@pytest.mark.parametrize("goes", ["erased", "expired"])
def test_a_vote_that_comes_while_the_texts_of_its_pair_go_is_refused(store: Store, goes: str, shown: str) -> None:
    first = add_comparison(store, sample("Yes.", user="carl"))
    pair = first if shown == "first" else store.write(checks.repeat_of, first).id
    carl, ann = (store.write(raters.find_or_create, "key_a", name) for name in ("carl", "ann"))
    refused: list[Conflict] = []

    def vote() -> None:
        try:
            assert store.write_once(votes.put_first, pair, judgement(), **ANN) is None
            store.write(votes.put, pair, judgement(), **ANN)
        except Conflict as error:
            refused.append(error)

    meanwhile(store, lambda session: erasure.erase(session, carl) if goes == "erased" else expire_all(session), vote)
    assert len(refused) == 1
    assert store.read(finding.find, finding.Wanted(rater_id=ann), limit=9) == ([], False)


def test_texts_that_somebody_votes_on_in_the_moment_in_which_they_expire_stay(store: Store) -> None:
    pair, erased = add_comparison(store), list[int]()
    store.write(raters.find_or_create, "key_a", "ann")
    meanwhile(
        store,
        lambda session: votes.put_first(session, pair, judgement(), **ANN),
        lambda: erased.append(store.write(expire_all)),
    )
    assert erased == [0]
    assert store.read(votes.count_by_state) == {"accepted": 1}


def test_votes_that_are_being_counted_when_their_rater_is_erased_count_nowhere(store: Store) -> None:
    for _ in range(3):
        store.write(votes.put, add_comparison(store), judgement(), **ANN)
    ann = store.read(raters.find, "key_a", "ann")
    meanwhile(store, counting.count_accepted, partial(store.write, erasure.erase, ann))
    assert (store.read(raters.get, ann).votes_counted, store.read(tallies.counted)) == (0, 0)
    assert store.read(votes.count_by_state) == {"retracted": 3}


def test_who_votes_by_one_name_under_two_keys_is_two_raters(store: Store) -> None:
    made = [store.write(raters.find_or_create, key_id, "ann") for key_id in ("key_a", "key_b")]
    assert made[0] != made[1] and made == [store.read(raters.find, key_id, "ann") for key_id in ("key_a", "key_b")]


def test_a_vote_that_comes_while_its_rater_is_set_apart_is_set_apart_too(store: Store) -> None:
    store.write(votes.put, add_comparison(store), judgement(), **ANN)
    ann, another = store.read(raters.find, "key_a", "ann"), add_comparison(store)

    def vote_and_count() -> None:
        store.write(votes.put, another, judgement(), **ANN)
        count_all(store)

    meanwhile(store, lambda session: raters.quarantine(session, ann, "on purpose"), vote_and_count)
    assert store.read(tallies.counted) == 0
    assert store.read(votes.count_by_state) == {"quarantined": 2}


def set_apart(session: Session, rater: str) -> None:
    raters.quarantine(session, rater, "on purpose")
    raters.move(session, rater, raters.to_move(session, rater))


@pytest.mark.parametrize("other", ["counted", "retracted"])
@pytest.mark.parametrize("goes", [erasure.erase, set_apart], ids=["erased", "apart"])
def test_nobody_waits_for_somebody_who_waits_for_them(
    store: Store, goes: Callable[..., Any], other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rater goes while votes of theirs are counted or taken back: a database that had to end one of the two for it
    would be asked again, and here it may not be."""
    monkeypatch.setattr("feedback.store.RETRIES", 1)
    first, second = add_comparison(store), add_comparison(store)
    store.write(votes.put, first, judgement(), **ANN)
    count_all(store)
    store.write(votes.put, second, judgement(), **ANN)
    ann = store.read(raters.find, "key_a", "ann")

    def at_the_same_time() -> None:
        if other == "counted":
            store.write(counting.count_accepted)
        else:
            with contextlib.suppress(NotFound):
                store.write(votes.retract, first, None, **ANN)

    with ThreadPoolExecutor(1) as pool:

        def both(session: Session) -> Future[None]:
            raters.known(session, ann, lock=raters.WHILE_ERASED)
            waiting = pool.submit(at_the_same_time)
            wait([waiting], timeout=0.5)
            goes(session, ann)
            return waiting

        store.write(both).result(timeout=120)
    assert store.read(tallies.counted) == 0


def test_who_takes_what_others_said_of_chats_holds_raters_in_the_order_in_which_votes_are_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feedback.store.RETRIES", 1)
    pair = add_comparison(store, *(sample(text, user="ann") for text in "56"))
    said = store.write(votes.put, pair, judgement(reason="Ann asks"), key_id="key_a", sees_all=False, rater="bob")
    bob, ann = said.rater_id, store.write(raters.find_person, "key_a", "ann")
    assert bob < ann

    with ThreadPoolExecutor(1) as pool:

        def count_both(session: Session) -> Future[None]:
            counting.hold_raters(session, [bob])
            taking = pool.submit(store.write, erasure.take, ann, erasure.Rest([], [], [said.id]))
            wait([taking], timeout=0.5)
            counting.hold_raters(session, [ann])
            return taking

        store.write(count_both).result(timeout=120)
    assert store.read(votes.get, said.id, key_id="", sees_all=True).reason is None


def test_a_rater_who_is_made_and_erased_by_others_meanwhile_is_made_again(store: Store) -> None:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    others = Store(store.database_url)

    def before(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO raters") and not made:
            made.append(others.write(raters.find_or_create, "key_a", "ann"))

    def after(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO raters") and len(made) == 1:
            made.append("erased")
            others.write(erasure.erase, made[0])

    made: list[str] = []
    event.listen(store.engine, "before_cursor_execute", before)
    event.listen(store.engine, "after_cursor_execute", after)
    ann = store.write(raters.find_or_create, "key_a", "ann")
    assert made[1:] == ["erased"] and ann != made[0]
    others.close()


def test_what_others_said_of_an_erased_chat_is_not_exported(store: Store) -> None:
    for user in ("carol", "dora"):
        pair = add_comparison(store, sample(f"to {user}", user=user), sample("6", version=1, user=user))
        store.write(votes.put, pair, judgement(ideal=f"better for {user}"), **ANN)
    out = io.BytesIO()
    store.write(erasure.erase, store.write(raters.find_person, "key_a", "carol"))
    assert export_votes(store, out, "trl").written == 2
    assert b"dora" in out.getvalue() and b"carol" not in out.getvalue()


def test_the_pairs_of_erased_chats_are_closed_without_reading_all_pairs(store: Store) -> None:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite takes its indexes for it")
    chats = [sample(user="ann") for _ in range(101)]
    pairs = [add_comparison(store, chat) for chat in chats]
    others = text(
        "INSERT INTO comparisons SELECT (json_populate_record(comparisons, json_build_object('id', id || n))).* "
        "FROM comparisons, generate_series(1, 20000) AS n WHERE id = :id"
    )
    store.write(lambda session: session.execute(others, {"id": pairs[-1]}))
    store.write(lambda session: session.execute(text("ANALYZE comparisons")))
    read = text("SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'comparisons'")

    def close(session: Session) -> int:
        samples.close(session, [chat.id for chat in chats[:100]])
        return session.scalars(read).one()

    assert store.write(close) == 0
    closed = select(Comparison.id).where(Comparison.is_open.is_(False))
    assert store.read(lambda session: set(session.scalars(closed))) == set(pairs[:100])


def test_nothing_that_somebody_wrote_nor_their_name_stays_in_the_files_of_the_record(tmp_path: Path) -> None:
    store = empty_record(tmp_path / "record.db")
    chat = [{"role": "user", "content": "the secret of carol@here"}]
    sides = (sample(text, user="carol@here", request_id="carol@here-1", messages=chat) for text in ("carol@here", "b"))
    pair = add_comparison(store, *sides)
    store.write(votes.put, pair, judgement(reason="carol@here says"), **(ANN | {"rater": "carol@here"}))
    count_all(store)
    carol, erasures = store.read(raters.find, "key_a", "carol@here"), Erasures(store, tmp_path)

    def found_in() -> list[str]:
        return [path.name for path in tmp_path.glob("record.db*") if b"carol@here" in path.read_bytes()]

    def while_somebody_reads(session: Session) -> None:
        known = raters.known(session, carol).name
        forget(store, tmp_path, carol)
        erasures.look()
        assert known == "carol@here" and found_in(), "they see the record as it was when they began"

    store.read(while_somebody_reads)
    erasures.look()
    assert found_in() == []
    store.close()


def test_who_is_erased_is_erased_though_the_log_cannot_be_carried_over(tmp_path: Path) -> None:
    """As on a full disk: nothing behind the first megabyte of a file can be written."""
    store = empty_record(tmp_path / "record.db")
    store.write(samples.add, [sample("x" * (2 << 20))])
    store.write(samples.add, [sample("a secret of hers " * 1000, user="ann")])
    assert store.forget_log()
    ann, erasures = store.write(raters.find_person, "key_a", "ann"), Erasures(store, tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        assert forget(store, tmp_path, ann) == ([], [])
        erasures.look()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert b"a secret of hers" in (tmp_path / "record.db").read_bytes()
    erasures.look()
    assert b"a secret of hers" not in (tmp_path / "record.db").read_bytes()
    store.close()
