"""The preference stages of an iteration, by themselves: what the models begin from."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from feedback import datasets
from feedback.settings import load_settings
from feedback.store import Store, iterations, votes
from feedback.worker import count_all
from learner.iteration.examples import Votes
from learner.iteration.preferences import train_preferences, train_watch
from learner.iteration.process import freeze, open_run
from learner.iteration.run import Run
from learner.iteration.versions import load
from learner.prepare import prepare
from learner.processes import ALONE
from tests.feedback.record import add_comparison, judgement, sample
from tests.records import empty_record_of

PROMPTS = 40


@pytest.fixture
def run_of(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """An iteration on votes under helpful that rewrite a reply if `rewrites`, learnt as ranked pairs before, and if
    `ties` on as many under harmless that prefer none."""
    stores: list[Store] = []

    def begin(*, rewrites: bool, ties: bool = False) -> Run:
        learner = {
            "preference": {"epochs": 1, "pretraining": {"from_record": ["rewrites"]}},
            "ppo": {"watch_min_votes": 1},
        }
        feedback = {"heldout_share": 0.2, "watch_share": 0.4, "quarantine_outliers": False}
        settings = load_settings(home=tmp_path, learner=learner, feedback=feedback)
        store = empty_record_of(settings)
        stores.append(store)
        prepare(store, settings)
        for number in range(PROMPTS):
            prompt = [{"role": "user", "content": f"What is {number} plus 3?"}]
            pair = add_comparison(store, sample(messages=prompt), sample("6", version=0, messages=prompt))
            said = judgement("1", 2, ideal=f"It is {number + 3}." if rewrites else None)
            tie = judgement("tie", objective="harmless")
            for one in (said, tie) if ties else (said,):
                store.write(votes.put, pair, one, key_id="key_a", sees_all=False, rater="bob")
        count_all(store)
        told = settings.learner.model_dump(mode="json")
        iteration = store.write(iterations.start, trigger="operator", seed=1, settings=told)
        _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
        return open_run(store, settings, iteration.id, epoch, ALONE)

    yield begin
    for store in stores:
        store.close()


def test_the_watch_model_begins_from_none_of_the_votes_of_the_other(run_of: Callable[..., Run]) -> None:
    this = run_of(rewrites=True)
    frozen, start = freeze(this), load(this, 0)
    rewritten = [
        sum(one.kind == "rewrite" for one in datasets.read(frozen, split)) for split in ("train", "watch", "heldout")
    ]
    assert sum(rewritten) == PROMPTS and all(rewritten)
    _, preference = train_preferences(this, Votes(frozen), start)
    _, watch = train_watch(this, Votes(frozen), start, ["helpful"])
    assert [report["pretraining"]["pairs"] for report in (preference, watch)] == rewritten[:2]
    # Who goes on after a kill finds the same.
    for report_file in ("preference.json", "watch.json"):
        (this.folder / report_file).unlink()
    assert train_preferences(this, Votes(frozen), start)[1] == preference
    assert train_watch(this, Votes(frozen), start, ["helpful"])[1] == watch


def test_where_there_is_no_ranked_pair_yet_votes_alone_are_learnt(run_of: Callable[..., Run]) -> None:
    this = run_of(rewrites=False)
    votes, start = Votes(freeze(this)), load(this, 0)
    for model, report in (train_preferences(this, votes, start), train_watch(this, votes, start, ["helpful"])):
        assert model is not None
        assert report["pretraining"] == {"pairs": 0, "set_aside": 0, "left_out": 0}
    # Another release, which takes the iteration up again, may think them too few.
    ppo = this.learner.ppo.model_copy(update={"watch_min_votes": 10_000})
    stricter = replace(this, learner=this.learner.model_copy(update={"ppo": ppo}))
    again, said = train_watch(stricter, votes, start, ["helpful"])
    assert again is not None and said == report


def test_an_objective_of_ties_alone_is_as_one_without_votes(run_of: Callable[..., Run]) -> None:
    this = run_of(rewrites=False, ties=True)
    votes, start = Votes(freeze(this)), load(this, 0)
    for split in ("train", "watch", "heldout"):
        assert {one.label for one in votes.comparisons(split) if one.objective == "harmless"} == {0.5}
    for model, report in (train_preferences(this, votes, start), train_watch(this, votes, start, ["helpful"])):
        assert model is not None
        assert model.shape.objectives == ("helpful",)
        assert set(report["objectives"]) == {"helpful"}
