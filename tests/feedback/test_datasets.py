import hashlib
import io
import json
import math
import os
import random
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from sqlalchemy import func, select, update

from feedback import datasets, examples, exporting, setting_apart
from feedback.erasure import forget
from feedback.errors import Conflict, NotFound
from feedback.importing import import_file
from feedback.schema import IMPORTED, Comparison, DatasetVote, Vote
from feedback.settings import FeedbackSettings
from feedback.store import Store, finding, iterations, raters, samples, votes
from feedback.store.datasets import Counted
from feedback.worker import count_all
from tests.feedback.record import MESSAGES, add_comparison, judgement, sample

SETTINGS = FeedbackSettings(strength_labels=(0.6, 0.7, 0.8, 0.9), heldout_share=0.25, watch_share=0.25)
ONE_SPLIT = SETTINGS.model_copy(update={"heldout_share": 0.0, "watch_share": 0.0})
BOB = {"key_id": "key_a", "sees_all": False, "rater": "bob"}


@pytest.mark.parametrize(
    ("preferred", "strength", "label"),
    [("0", 1, 0.6), ("0", 4, 0.9), ("1", 2, 0.3), ("tie", 3, 0.5), ("both_bad", 1, None), ("1", None, 0.1)],
)
def test_soft_labels(preferred: str, strength: int | None, label: float | None) -> None:
    assert examples.soft_label(preferred, strength, SETTINGS) == pytest.approx(label)


def test_a_dataset_is_the_same_bytes_again_and_holds_what_may_be_learnt_from(store: Store, tmp_path: Path) -> None:
    kept = add_comparison(store)
    mixed = add_comparison(store, sample(version_last=1))
    cut_off = add_comparison(store, sample(status="cancelled"))
    uncounted = add_comparison(store)
    for comparison_id in (kept, mixed, cut_off):
        store.write(votes.put, comparison_id, judgement("1", 2, ideal="It is 5."), **BOB)
    count_all(store)
    store.write(votes.put, uncounted, judgement(), **BOB)

    first = store.read(datasets.freeze, tmp_path / "a", SETTINGS)
    again = store.read(datasets.freeze, tmp_path / "b", SETTINGS)
    assert first.digest == again.digest
    lines = [tmp_path / side / first.digest / "votes.jsonl" for side in "ab"]
    assert lines[0].read_bytes() == lines[1].read_bytes()
    vote, rewrite = datasets.read(first.folder)
    assert (vote.comparison, vote.replies, vote.versions, vote.label) == (
        kept,
        ("5", "6"),
        ("v0", "v1"),
        pytest.approx(0.3),
    )
    assert (rewrite.kind, rewrite.replies, rewrite.label) == ("rewrite", ("It is 5.", "6"), 0.95)
    assert [one.vote_id for one in first.votes()] == [vote.vote]
    assert first.summary["examples"] == 2


def test_a_less_reliable_rater_is_less_sure_and_a_quarantined_one_is_left_out(store: Store, tmp_path: Path) -> None:
    for rater in ("bob", "liar", "cheat"):
        store.write(votes.put, add_comparison(store), judgement("0", 4), **(BOB | {"rater": rater}))
    count_all(store)
    ids = {rater.name: rater.id for rater, _ in store.read(raters.list_all)}
    store.write(raters.note, {ids["bob"]: {"reliability": 0.65}, ids["liar"]: {"reliability": 0.3}})
    setting_apart.quarantine(store, ids["cheat"], "they cheat")
    frozen = store.read(datasets.freeze, tmp_path, SETTINGS)
    labels = {example.rater: example.label for example in datasets.read(frozen.folder)}
    assert labels == pytest.approx({ids["bob"]: 0.5 + 0.4 * 0.3 / 0.5, ids["liar"]: 0.5})
    as_said = SETTINGS.model_copy(update={"weigh_by_reliability": False})
    assert {e.label for e in datasets.read(store.read(datasets.freeze, tmp_path, as_said).folder)} == {0.9}


def test_nobody_and_no_prompt_weighs_too_much(store: Store, tmp_path: Path) -> None:
    for number in range(24):
        messages = [{"role": "user", "content": "same" if number < 12 else f"prompt {number}"}]
        pair = add_comparison(store, sample(messages=messages), sample("6", version=1, messages=messages))
        rater = "loud" if number % (2 if number < 12 else 3) == 0 else f"rater-{number}"
        store.write(votes.put, pair, judgement(), **(BOB | {"rater": rater}))
    count_all(store)
    loud = store.read(raters.find, "key_a", "loud")
    settings = ONE_SPLIT.model_copy(update={"rater_share": 0.25, "prompt_votes": 6})
    frozen = store.read(datasets.freeze, tmp_path, settings)
    weights = {(e.rater == loud, e.messages[0]["content"] == "same"): e.weight for e in datasets.read(frozen.folder)}
    # 12 on one prompt, half of them loud's, which may weigh 6; so loud has 3 + 4 and the others have 3 + 8. A
    # quarter of most + 11 is most where that is 11 / 3.
    loudly = 11 / 3 / 7
    expected = {(True, True): loudly / 2, (True, False): loudly, (False, True): 0.5, (False, False): 1.0}
    assert weights == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 1.0])
def test_nobody_has_more_than_their_share_of_what_is_left(share: float) -> None:
    """Twice the average where raters are few; and nobody is cut who has no more."""
    rng = random.Random(1)
    for count in range(1, 60):
        weights = [rng.choice([1.0, 2.0, rng.random(), 1000 * rng.random()]) for _ in range(count)]
        most = examples.most_of_one(weights, share)
        left = [min(weight, most) for weight in weights]
        allowed = max(share, 2 / count) * sum(left)
        assert max(left) <= allowed * (1 + 1e-9)
        if most < max(weights):
            assert most == pytest.approx(allowed)
    assert examples.most_of_one([], share) == math.inf


def test_the_most_of_one_by_hand() -> None:
    # A quarter of 4 + 2 + 9 x 1 is less than 4; of most + 11 it is most where that is 11/3.
    assert examples.most_of_one([1.0] * 9 + [4.0, 2.0], 0.25) == pytest.approx(11 / 3)
    # Two are cut: (2 most + 16) / 4 = most.
    assert examples.most_of_one([500.0, 9.0] + [1.0] * 16, 0.25) == pytest.approx(8)
    # Of two raters, and of one, there is no bound.
    assert examples.most_of_one([500.0, 1.0], 0.1) >= 500
    assert examples.most_of_one([500.0], 0.1) >= 500


def test_whoever_votes_on_what_is_held_out_weighs_no_more_there_than_elsewhere(store: Store, tmp_path: Path) -> None:
    """20 raters on all kinds of prompts, and one who casts as many votes as all of them, on held-out prompts alone."""
    pairs = {}
    for number in range(400):
        messages = [{"role": "user", "content": f"prompt {number}"}]
        pair = add_comparison(store, sample(messages=messages), sample("6", version=1, messages=messages))
        pairs[pair] = examples.split_of(messages, SETTINGS)
        store.write(votes.put, pair, judgement(), **(BOB | {"rater": f"rater-{number % 20}"}))
    held_out = [pair for pair, split in pairs.items() if split == "heldout"]
    for pair in held_out:
        store.write(votes.put, pair, judgement("1"), **(BOB | {"rater": "busy"}))
    count_all(store)
    busy = store.read(raters.find, "key_a", "busy")
    found = list(datasets.read(store.read(datasets.freeze, tmp_path, SETTINGS).folder))
    weighs, others = (
        sum(one.weight for one in found if one.split == "heldout" and (one.rater == busy) is own)
        for own in (True, False)
    )
    assert others == len(held_out), "nobody else is cut"
    assert weighs / (weighs + others) == pytest.approx(0.1, abs=1e-4)
    assert {one.weight for one in found if one.split != "heldout"} == {1.0}


def test_whoever_votes_under_one_objective_alone_weighs_no_more_there_than_elsewhere(
    store: Store, tmp_path: Path
) -> None:
    """12 raters with five votes each under helpful and one under harmless, and one with twelve under harmless."""
    helpful, harmless = ([add_comparison(store) for _ in range(count)] for count in (5, 12))
    for rater, own in enumerate(harmless):
        for pair, objective in [*((pair, "helpful") for pair in helpful), (own, "harmless")]:
            store.write(votes.put, pair, judgement(objective=objective), **(BOB | {"rater": f"rater-{rater}"}))
        store.write(votes.put, own, judgement("1", objective="harmless"), **(BOB | {"rater": "zealot"}))
    count_all(store)
    zealot = store.read(raters.find, "key_a", "zealot")
    settings = ONE_SPLIT.model_copy(update={"rater_share": 0.25, "prompt_votes": 100})
    found = list(datasets.read(store.read(datasets.freeze, tmp_path, settings).folder))
    # A quarter of 4 + 12.
    assert Counter((one.rater == zealot, one.weight) for one in found) == {(True, 0.333333): 12, (False, 1.0): 72}


def test_imported_votes_are_nobodys_and_bound_nobody(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "helpful.jsonl"
    lines = [
        {"chosen": f"\n\nHuman: {n}\n\nAssistant: a", "rejected": f"\n\nHuman: {n}\n\nAssistant: b"} for n in range(40)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    import_file(store, path, "hh", home=tmp_path)
    for rater in ("loud", "loud", "loud", "loud", "ann", "bob", "cyd"):
        store.write(votes.put, add_comparison(store), judgement(), **(BOB | {"rater": rater}))
    count_all(store)
    found = list(datasets.read(store.read(datasets.freeze, tmp_path, ONE_SPLIT).folder))
    # Of four raters one may have half: 3, beside the others' 3.
    assert Counter(one.weight for one in found) == {1.0: 43, 0.75: 4}
    few = ONE_SPLIT.model_copy(update={"old_votes": 20})
    frozen = [store.read(datasets.freeze, tmp_path, few, since=4e9 + n) for n in range(5)]
    nobody = store.read(raters.find, IMPORTED, "")
    imported = sum(one.rater == nobody for each in frozen for one in datasets.read(each.folder))
    assert imported > 5 * 13, "of old votes they are drawn as others are"


def test_a_reply_that_was_cut_off_is_told_from_one_that_ended(store: Store, tmp_path: Path) -> None:
    cut = add_comparison(store, sample("5"), sample("6, since", version=1, finish_reason="length"))
    store.write(votes.put, cut, judgement("1", 2, ideal="It is 5."), **BOB)
    store.write(votes.put, add_comparison(store), judgement(), **BOB)
    count_all(store)
    frozen = store.read(datasets.freeze, tmp_path, SETTINGS)
    said = {(one.comparison == cut, one.kind): one.ended for one in datasets.read(frozen.folder)}
    assert said == {(True, "vote"): (True, False), (True, "rewrite"): (True, False), (False, "vote"): (True, True)}
    # Datasets where all of them ended are what they always were.
    lines = (frozen.folder / "votes.jsonl").read_bytes().splitlines()
    assert [b'"ended"' in line for line in lines].count(True) == 2


def conversation(number: int, turns: int = 1, system: str | None = None) -> list[dict[str, str]]:
    said = [(role, f"{role} {number} {turn}") for turn in range(turns) for role in ("user", "assistant")][:-1]
    opening = [] if system is None else [("system", system)]
    return [{"role": role, "content": text} for role, text in opening + said]


def test_the_split_follows_the_shares_and_how_the_conversation_began() -> None:
    shared = SETTINGS.model_copy(update={"heldout_share": 0.1, "watch_share": 0.3})
    splits = [examples.split_of(conversation(number), shared) for number in range(4000)]
    for again in ({}, {"turns": 3}, {"turns": 2, "system": "It is Monday."}, {"system": "It is Tuesday."}):
        found = [examples.split_of(conversation(number, **again), shared) for number in range(4000)]  # type: ignore[arg-type]
        assert found == splits
    shares = {split: splits.count(split) / 4000 for split in datasets.SPLITS}
    assert shares == pytest.approx({"heldout": 0.1, "watch": 0.3, "train": 0.6}, abs=0.03)


@pytest.mark.parametrize(("reliability", "label"), [(0.3, 0.5), (0.5, 0.5), (0.625, 0.7), (0.75, 0.9), (0.99, 0.9)])
def test_whoever_is_more_often_right_than_the_ordinary_rater_is_no_surer(reliability: float, label: float) -> None:
    assert examples.less_sure(0.9, reliability, SETTINGS) == pytest.approx(label)
    assert examples.less_sure(0.1, reliability, SETTINGS) == pytest.approx(1 - label)


def test_what_an_unsure_rater_rewrote_is_as_unsure_and_better_than_the_reply_they_preferred() -> None:
    """Right with probability .625: half of what an ordinary one tells."""
    vote = Counted(
        "vot_1", 2, "rtr_1", "cmp_1", "helpful", "1", 4, "better", "base", "digest", MESSAGES, ("a", "b"), (3, 4),
        (True, False), 0.625,
    )  # fmt: skip
    said, rewrite = examples.of_vote(vote, examples.learnt(vote, SETTINGS))
    assert (said.replies, said.versions, said.ended, said.label) == (("a", "b"), ("v3", "v4"), (True, False), 0.3)
    assert (rewrite.replies, rewrite.versions, rewrite.ended) == (("better", "b"), (None, "v4"), (True, False))
    assert rewrite.label == 0.5 + (SETTINGS.rewrite_label - 0.5) / 2


def test_a_prompt_of_one_message_is_where_it_always_was() -> None:
    """Of a home's earlier datasets, most of whose prompts these are."""
    for number in range(100):
        digest = samples.prompt_digest(conversation(number))
        drawn = int(hashlib.sha256(f"split:{digest}".encode()).hexdigest()[:16], 16) / 2**64
        expected = "heldout" if drawn < 0.25 else "watch" if drawn < 0.5 else "train"
        assert examples.split_of(conversation(number), SETTINGS) == expected


def test_pairs_that_share_how_they_began_are_never_on_both_sides(store: Store, tmp_path: Path) -> None:
    """As in HH-RLHF, where the turns of one conversation are pairs of their own."""
    turns = [f"\n\nHuman: Tell me {n}\n\nAssistant: Yes?" + "\n\nHuman: Go on\n\nAssistant: So" * k
             for n in range(30) for k in range(3)]  # fmt: skip
    lines = [json.dumps({"chosen": f"{turn} good", "rejected": f"{turn} bad"}) for turn in turns]
    path = tmp_path / "helpful.jsonl"
    path.write_text("\n".join(lines) + "\n")
    import_file(store, path, "hh", home=tmp_path)
    count_all(store)
    sides: dict[str, set[str]] = {}
    for example in datasets.read(store.read(datasets.freeze, tmp_path, SETTINGS).folder):
        sides.setdefault(example.messages[0]["content"], set()).add(example.split)
    assert len(sides) == 30
    assert {len(splits) for splits in sides.values()} == {1}
    assert set.union(*sides.values()) == set(datasets.SPLITS)


def test_one_that_was_split_in_another_way_stays_as_it_was(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(votes.put, add_comparison(store), judgement(), **BOB)
    count_all(store)
    now = examples.split_of(MESSAGES, SETTINGS)
    before = "train" if now == "heldout" else "heldout"
    with monkeypatch.context() as earlier:
        earlier.setattr(examples, "split_of", lambda *_: before)
        frozen = store.read(datasets.freeze, tmp_path / "datasets", SETTINGS)
    iteration = store.write(iterations.start, trigger="operator", seed=1, settings={})
    _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
    datasets.keep(store, iteration.id, epoch, frozen, tmp_path)
    shutil.rmtree(frozen.folder)
    (again,) = datasets.read(datasets.find(store, tmp_path, frozen.digest))
    assert again.split == before


def test_the_library_of_the_field_opens_it(store: Store, tmp_path: Path) -> None:
    from datasets import load_dataset

    store.write(votes.put, add_comparison(store), judgement(), **BOB)
    count_all(store)
    frozen = store.read(datasets.freeze, tmp_path, SETTINGS)
    table = load_dataset("json", data_files=str(frozen.folder / "votes.jsonl"), cache_dir=str(tmp_path / "cache"))
    assert table["train"][0]["replies"] == ["5", "6"]


def test_old_votes_are_drawn_anew_for_each_iteration_and_new_ones_are_all_there(store: Store, tmp_path: Path) -> None:
    def vote(count: int) -> set[str]:
        ids = {
            store.write(votes.put, add_comparison(store), judgement(), **(BOB | {"rater": f"r{n}"})).id
            for n in range(count)
        }
        count_all(store)
        return ids

    def freeze(settings: FeedbackSettings, **since: float) -> datasets.Frozen:
        return store.read(datasets.freeze, tmp_path, settings, **since)

    def succeed(frozen: datasets.Frozen) -> None:
        learn_from(store, frozen, tmp_path)

    bounded = SETTINGS.model_copy(update={"old_votes": 10, "prompt_votes": 15})
    old = vote(40)
    first = freeze(bounded)
    assert ids_of(first) == old, "before any iteration nothing is old"
    succeed(first)
    new = vote(20)
    second = freeze(bounded)
    in_second = ids_of(second)
    assert new < in_second
    assert len(in_second & old) == 10
    about = second.summary["old_votes"]
    assert about == {"since": first.summary["frozen_at"], "counted": 40, "drawn": 10}
    assert {example.weight for example in datasets.read(second.folder)} == {0.5}, "caps are those of the votes in it"
    succeed(second)
    vote(1)
    third = freeze(bounded)
    assert third.summary["examples"] == 11
    assert ids_of(third) & old != in_second & old
    assert freeze(SETTINGS).summary["examples"] == 61
    # The record says all that is needed to make the second one again, of the votes that there were.
    store.write(votes.retract, newest_pair(store), None, **(BOB | {"rater": "r0"}))
    assert freeze(bounded, since=about["since"]).digest == second.digest


def test_new_is_what_came_since_the_last_iteration_that_succeeded(store: Store, tmp_path: Path) -> None:
    assert store.read(datasets.datasets.learnt_until) is None
    for frozen_at, succeeds, expected in ((20.0, True, 20.0), (10.0, True, 10.0), (30.0, False, 10.0)):
        store.write(votes.put, add_comparison(store), judgement(), **BOB)
        count_all(store)
        frozen = store.read(datasets.freeze, tmp_path, SETTINGS)
        learn_from(store, replace(frozen, summary=frozen.summary | {"frozen_at": frozen_at}), tmp_path, succeeds)
        assert store.read(datasets.datasets.learnt_until) == expected


def test_of_old_votes_there_may_be_none_and_new_ones_are_there(store: Store, tmp_path: Path) -> None:
    none = SETTINGS.model_copy(update={"old_votes": 0})
    for _ in range(2):
        store.write(votes.put, add_comparison(store), judgement(), **BOB)
    count_all(store)
    learn_from(store, store.read(datasets.freeze, tmp_path, none), tmp_path)
    assert store.read(datasets.freeze, tmp_path, none).summary["examples"] == 0
    everything = store.read(datasets.freeze, tmp_path, none, since=0.0)
    assert (everything.summary["examples"], everything.summary["old_votes"]["since"]) == (2, 0.0)


def test_votes_that_are_asked_for_in_parts_are_counted_together(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(7):
        store.write(votes.put, add_comparison(store), judgement(), **BOB)
    count_all(store)
    ids = store.read(datasets.datasets.draw, 100, 0.0).ids
    monkeypatch.setattr(datasets.datasets, "READ_BATCH", 3)
    assert store.read(lambda session: [one.vote_id for one in datasets.datasets.counted(session, ids)]) == ids
    digest = samples.prompt_digest(MESSAGES)
    assert store.read(datasets.datasets.crowded, 6, ids) == store.read(datasets.datasets.crowded, 6) == {digest: 7}
    assert store.read(datasets.datasets.crowded, 7, ids) == store.read(datasets.datasets.crowded, 7) == {}


def test_votes_since_a_clock_was_turned_back_are_no_old_ones(store: Store, tmp_path: Path) -> None:
    bounded = SETTINGS.model_copy(update={"old_votes": 2})

    def vote_and_freeze(count: int) -> tuple[set[str], datasets.Frozen]:
        cast = {store.write(votes.put, add_comparison(store), judgement(), **BOB).id for _ in range(count)}
        count_all(store)
        return cast, store.read(datasets.freeze, tmp_path, bounded)

    for ahead_s in (0, 3600):
        cast, frozen = vote_and_freeze(5)
        assert cast <= ids_of(frozen)
        by_the_clock = frozen.summary | {"frozen_at": frozen.summary["frozen_at"] + ahead_s}
        learn_from(store, replace(frozen, summary=by_the_clock), tmp_path)
    cast, frozen = vote_and_freeze(5)
    assert cast <= ids_of(frozen)
    assert frozen.summary["old_votes"] == {"since": frozen.summary["old_votes"]["since"], "counted": 5, "drawn": 2}


def learn_from(store: Store, frozen: datasets.Frozen, home: Path, succeeds: bool = True) -> None:
    iteration = store.write(iterations.start, trigger="operator", seed=1, settings={})
    _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
    datasets.keep(store, iteration.id, epoch, frozen, home)
    if succeeds:
        store.write(iterations.succeed, iteration.id, epoch, 1)
    else:
        store.write(iterations.fail, iteration.id, epoch, "no more memory")


def ids_of(frozen: datasets.Frozen) -> set[str]:
    return {one.vote_id for one in frozen.votes()}


def newest_pair(store: Store) -> str:
    return store.read(lambda session: session.scalars(select(func.max(Comparison.id))).one())


def test_what_is_drawn_are_counted_votes_in_order_and_old_ones_up_to_the_very_time(store: Store) -> None:
    for number in range(8):
        store.write(votes.put, add_comparison(store), judgement(), **(BOB | {"rater": f"r{number % 4}"}))
    count_all(store)
    ids = sorted(store.read(lambda session: session.scalars(select(Vote.id)).all()))

    def at(vote_id: str, counted_at: float) -> None:
        store.write(
            lambda session: session.execute(update(Vote).values(counted_at=counted_at).where(Vote.id == vote_id))
        )

    # Later votes were counted first, as where a worker went away.
    for place, vote_id in enumerate(ids):
        at(vote_id, 100.0 - place)
    draw = datasets.datasets.draw
    drawn = store.read(draw, 100, 96.0)
    assert (drawn.ids, drawn.since, drawn.old, drawn.kept) == (ids, 96.0, 4, 4)
    few = store.read(draw, 1, 96.0)
    assert few.ids == sorted(few.ids) and set(ids[:4]) < set(few.ids) and (few.old, few.kept) == (4, 1)
    setting_apart.quarantine(store, store.read(raters.find, "key_a", "r3"), "they cheat")
    without = store.read(draw, 100, 96.0)
    assert (without.ids, without.old) == ([one for place, one in enumerate(ids) if place % 4 != 3], 3)


def test_each_old_vote_is_as_likely_to_be_drawn(store: Store) -> None:
    for _ in range(30):
        store.write(votes.put, add_comparison(store), judgement(), **BOB)
    count_all(store)
    drawn = Counter[str]()
    for since in range(200):
        # After all of them were counted, whichever the time is.
        drawn.update(store.read(datasets.datasets.draw, 10, 4e9 + since).ids)
    assert len(drawn) == 30
    # Binomial with n 200 and p 1/3: mean 67, deviation 6.7.
    assert all(37 <= count <= 97 for count in drawn.values())


def test_old_votes_of_a_rater_whose_share_is_bounded_leave_others_their_places(store: Store, tmp_path: Path) -> None:
    """One rater has 80 of 120 old votes, of those under harmless 12 of 14."""
    pairs = [add_comparison(store) for _ in range(68)]
    for rater, helpful, harmless in (("loud", 68, 12), *((f"rater-{n}", 2, int(n < 2)) for n in range(19))):
        for objective, times in (("helpful", helpful), ("harmless", harmless)):
            for pair in pairs[:times]:
                store.write(votes.put, pair, judgement(objective=objective), **(BOB | {"rater": rater}))
    count_all(store)
    loud = store.read(raters.find, "key_a", "loud")

    def drawn(old_votes: int, rater_share: float, times: int = 1) -> Counter[tuple[bool, str]]:
        bounded = {"old_votes": old_votes, "rater_share": rater_share, "prompt_votes": 1000}
        settings = ONE_SPLIT.model_copy(update=bounded)
        frozen = [store.read(datasets.freeze, tmp_path, settings, since=4e9 + n) for n in range(times)]
        return Counter((one.rater == loud, one.objective) for each in frozen for one in datasets.read(each.folder))

    enough = drawn(75, 0.25)
    assert (enough[False, "helpful"], enough[False, "harmless"]) == (38, 2), "all that others have"
    assert enough.total() == 75, "and the one's in the places that they leave"
    assert drawn(75, 1.0)[False, "helpful"] < 36, "without a bound each vote is as likely as another"
    few = drawn(20, 0.25, times=20)
    # As if they had a quarter of the votes under helpful, 38 / 3, and of three raters' under harmless two thirds, 4.
    ones = few[True, "helpful"] + few[True, "harmless"]
    assert few.total() == 400 and ones / 400 == pytest.approx((38 / 3 + 4) / (38 / 3 + 4 + 40), abs=0.12)


@pytest.fixture
def learnt(store: Store, tmp_path: Path) -> datasets.Frozen:
    """A dataset of ann's, bob's and cyd's votes that an iteration learnt from, in the home `tmp_path`."""
    for rater, said in (
        ("ann", judgement("1", 2, ideal="It is 5.")),
        ("bob", judgement("0", 4)),
        ("bob", judgement("tie", None)),
        ("cyd", judgement("both_bad", None, ideal="It is five.")),
    ):
        store.write(votes.put, add_comparison(store), said, **(BOB | {"rater": rater}))
    count_all(store)
    ids = {rater.name: rater.id for rater, _ in store.read(raters.list_all)}
    store.write(raters.note, {ids["ann"]: {"reliability": 0.65}, ids["cyd"]: {"reliability": 0.7}})
    frozen = store.read(datasets.freeze, tmp_path / "datasets", SETTINGS.model_copy(update={"prompt_votes": 3}))
    learn_from(store, frozen, tmp_path)
    return frozen


def test_a_dataset_that_is_gone_is_written_again_whatever_was_said_since(
    store: Store, tmp_path: Path, learnt: datasets.Frozen
) -> None:
    lines = (learnt.folder / "votes.jsonl").read_bytes()
    assert {example.weight for example in datasets.read(learnt.folder)} == {0.75}
    ids = {rater.name: rater.id for rater, _ in store.read(raters.list_all)}
    store.write(raters.note, {ids["ann"]: {"reliability": 0.99}, ids["bob"]: {"reliability": 0.5}})
    of_ann, of_cyd = (
        store.read(finding.find, finding.Wanted(rater_id=ids[name]), limit=1, order="asc")[0][0].comparison_id
        for name in ("ann", "cyd")
    )
    store.write(votes.put, of_ann, judgement("0", 4, ideal="It is not."), **(BOB | {"rater": "ann"}))
    store.write(votes.put, of_ann, judgement("tie", 4), **(BOB | {"rater": "ann"}))
    store.write(votes.retract, of_cyd, None, **(BOB | {"rater": "cyd"}))
    setting_apart.quarantine(store, ids["bob"], "they cheat")
    store.write(votes.put, add_comparison(store), judgement(), **(BOB | {"rater": "dan"}))
    count_all(store)

    assert datasets.find(store, tmp_path, learnt.digest) == learnt.folder
    shutil.rmtree(learnt.folder)
    assert datasets.find(store, tmp_path, learnt.digest) == learnt.folder
    assert (learnt.folder / "votes.jsonl").read_bytes() == lines
    assert orjson.loads((learnt.folder / "summary.json").read_bytes()) == learnt.summary
    elsewhere = tmp_path / "elsewhere"
    assert (datasets.find(store, elsewhere, learnt.digest) / "votes.jsonl").read_bytes() == lines


def test_one_from_before_it_was_said_which_replies_were_cut_off_is_written_again_too(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(votes.put, add_comparison(store, sample("5", finish_reason="length")), judgement(), **BOB)
    count_all(store)
    with monkeypatch.context() as before:
        before.setattr(datasets.datasets, "has_ended", lambda _: True)
        frozen = store.read(datasets.freeze, tmp_path / "datasets", SETTINGS)
    iteration = store.write(iterations.start, trigger="operator", seed=1, settings={})
    _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
    datasets.keep(store, iteration.id, epoch, frozen, tmp_path)
    lines = (frozen.folder / "votes.jsonl").read_bytes()
    shutil.rmtree(frozen.folder)
    assert (datasets.find(store, tmp_path, frozen.digest) / "votes.jsonl").read_bytes() == lines


def test_what_was_erased_is_not_written_again(store: Store, tmp_path: Path, learnt: datasets.Frozen) -> None:
    ann = store.read(raters.find, "key_a", "ann")
    others = [example for example in datasets.read(learnt.folder) if example.rater != ann]
    shutil.rmtree(learnt.folder)
    forget(store, tmp_path, ann)
    again = datasets.find(store, tmp_path, learnt.digest)
    assert list(datasets.read(again)) == others
    assert orjson.loads((again / "summary.json").read_bytes())["erased"] == 2


def test_a_dataset_whose_labels_the_record_does_not_hold_is_not_made_up(
    store: Store, tmp_path: Path, learnt: datasets.Frozen
) -> None:
    with pytest.raises(NotFound):
        datasets.find(store, tmp_path, "d" * 64)
    # As it was frozen before the record held them.
    store.write(lambda session: session.execute(update(DatasetVote).values(label=None, rewrite_label=None)))
    shutil.rmtree(learnt.folder)
    with pytest.raises(Conflict, match="cannot be written again"):
        datasets.find(store, tmp_path, learnt.digest)
    assert not list((tmp_path / "datasets").iterdir())


def test_the_next_freezing_removes_what_a_killed_one_left(store: Store, tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    folder = tmp_path / "datasets"
    folder.mkdir()
    left = folder / f".{process.pid}.unfinished"
    left.write_bytes(b"{}")
    store.read(datasets.freeze, folder, SETTINGS)
    assert left.exists(), "it may be another machine's, which writes it now"
    os.utime(left, (0, 0))
    frozen = store.read(datasets.freeze, folder, SETTINGS)
    assert [path.name for path in folder.iterdir()] == [frozen.digest]
    # Of a process that runs it is kept, however long that takes; under its own number a process finds an earlier one's.
    running, own = (folder / f".{number}.unfinished" for number in (os.getppid(), os.getpid()))
    for path in (running, own):
        path.write_bytes(b"{}")
        os.utime(path, (0, 0))
    assert datasets.abandoned(folder) == [own]


def test_a_dataset_that_was_recorded_in_part_is_completed(store: Store, tmp_path: Path) -> None:
    for _ in range(5):
        store.write(votes.put, add_comparison(store), judgement(), **BOB)
    count_all(store)
    frozen = store.read(datasets.freeze, tmp_path, SETTINGS)
    iteration = store.write(iterations.start, trigger="operator", seed=1, settings={})
    _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
    about = {"digest": frozen.digest, "path": frozen.digest, "summary": frozen.summary}
    store.write(iterations.begin_dataset, iteration.id, epoch, **about)
    store.write(iterations.add_to_dataset, iteration.id, epoch, frozen.digest, list(frozen.votes())[:2])
    # Killed here: the next process freezes again.
    assert store.read(iterations.get, iteration.id).dataset_digest is None
    datasets.keep(store, iteration.id, epoch, frozen, tmp_path)
    assert store.read(iterations.get, iteration.id).dataset_digest == frozen.digest
    held = store.read(lambda session: [one.vote_id for _, one, _ in datasets.datasets.learnt(session, frozen.digest)])
    assert held == sorted(ids_of(frozen))
    assert len(held) == 5


@pytest.mark.parametrize("ideal", ["", " \n", "6"], ids=["empty", "blank", "the original"])
def test_a_rewritten_reply_that_says_nothing_is_neither_learnt_from_nor_exported(
    store: Store, tmp_path: Path, ideal: str
) -> None:
    store.write(votes.put, add_comparison(store), judgement("1", 4, ideal=ideal), **BOB)
    count_all(store)
    frozen = store.read(datasets.freeze, tmp_path, SETTINGS)
    assert [example.kind for example in datasets.read(frozen.folder)] == ["vote"]
    assert exporting.export_votes(store, io.BytesIO(), "trl").written == 1


def test_a_reply_that_only_called_a_tool_is_not_learnt_from_as_an_empty_one(store: Store, tmp_path: Path) -> None:
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for text, message in (
        ("\n", {"role": "assistant", "content": None, "tool_calls": [call]}),
        ("", {"role": "assistant", "content": "", "refusal": None}),
        ("", None),
    ):
        pair = add_comparison(store, sample(text, message=message), sample("6", version=1))
        store.write(votes.put, pair, judgement("0", 4), **BOB)
    count_all(store)
    frozen = store.read(datasets.freeze, tmp_path, SETTINGS)
    assert [example.replies[0] for example in datasets.read(frozen.folder)] == ["", ""]
