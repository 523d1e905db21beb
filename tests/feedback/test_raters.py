from pathlib import Path

import orjson
import pytest

from feedback import datasets
from feedback.erasure import forget
from feedback.errors import NotFound
from feedback.schema import Dataset, DatasetVote, Policy
from feedback.settings import FeedbackSettings
from feedback.store import Store, policies, raters, samples, votes
from feedback.worker import count_all
from tests.feedback.record import add_comparison, judgement, sample


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

    assert forget(store, tmp_path, ann) == []
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
        store.write(raters.erase, ann)


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

    def publish(session: object) -> None:
        session.add(
            Policy(
                version=1, state="candidate", parent=0, path="policies/v1", digest="d", iteration_id="itr_1",
                dataset_digest=frozen.digest, settings={}, seed=1, created_at=1.0,
                evidence={"evaluation": {"prompts": 2, "samples": shown}},
            )
        )  # fmt: skip

    store.write(publish)
    ann = store.write(raters.find_or_create, "key_a", "ann")
    assert forget(store, tmp_path, ann) == [1]
    kept = store.read(policies.get, 1).evidence["evaluation"]
    assert kept == {"prompts": 2, "samples": [one for one in shown if one["vote"] != said[on_anns]]}


def remember(store: Store, home: Path, frozen: datasets.Frozen) -> None:
    """The dataset in the record, as an iteration leaves it."""

    def add(session: object) -> None:
        path = frozen.folder.relative_to(home).as_posix()
        session.add(Dataset(digest=frozen.digest, path=path, summary=frozen.summary, created_at=1.0))
        session.flush()
        for vote in frozen.votes():
            session.add(DatasetVote(dataset_digest=frozen.digest, **vote._asdict()))

    store.write(add)
