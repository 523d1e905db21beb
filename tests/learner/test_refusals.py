"""What does not go with an iteration's votes or policy is refused before anything is trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from feedback.errors import TandemError
from feedback.settings import Settings, load_settings
from feedback.store import Store, iterations, votes
from feedback.store.votes import Judgement
from feedback.worker import count_all
from learner.iteration.process import run
from learner.prepare import prepare
from tests.feedback.record import add_comparison, judgement, sample
from tests.records import empty_record_of

PROMPTS = 40


@contextmanager
def voted(folder: Path, reply: str, *said: Judgement) -> Iterator[tuple[Store, Settings]]:
    """A home with votes on pairs of another reply and this one, which say this; else those under helpful for it."""
    settings = load_settings(home=folder, feedback={"quarantine_outliers": False})
    store = empty_record_of(settings)
    prepare(store, settings)
    for number in range(PROMPTS):
        prompt = [{"role": "user", "content": f"What is {number} plus 3?"}]
        pair = add_comparison(store, sample(messages=prompt), sample(reply, messages=prompt))
        for one in said or [judgement("1")]:
            store.write(votes.put, pair, one, key_id="key_a", sees_all=False, rater="bob")
    count_all(store)
    yield store, settings
    store.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Settings]]:
    with voted(tmp_path_factory.mktemp("home"), "6") as found:
        yield found


def test_votes_on_replies_without_words_are_said_to_be_none_to_learn_from(tmp_path: Path) -> None:
    with voted(tmp_path, " ") as home:
        check(*home, {}, "replies with words")


def test_votes_that_are_all_ties_are_said_to_prefer_nothing(tmp_path: Path) -> None:
    with voted(tmp_path, "6", judgement("tie")) as home:
        check(*home, {}, "are ties")


def test_under_an_objective_of_ties_alone_nothing_is_said_to_be_preferred(tmp_path: Path) -> None:
    ask_for_harmless = {
        "harmless that prefer a reply": {"ppo": {"harm_ceiling": 0.1}},
        "helpful, the only objectives under which": {"preference": {"objective_weights": {"harmless": 1.0}}},
        "gave scores for helpful, overall": {"ppo": {"reward_weights": {"harmless": 1.0}}},
    }
    with voted(tmp_path, "6", judgement("1"), judgement("tie", objective="harmless")) as home:
        for said, learner in ask_for_harmless.items():
            check(*home, learner, said)


@pytest.mark.parametrize("trainer", ["ppo", "dpo"])
@pytest.mark.parametrize(
    ("learner", "said"),
    [
        ({"ppo": {"reward_weights": {"harmless": 1.0}}}, "reward_weights weighs harmless.*helpful, overall"),
        ({"preference": {"objective_weights": {"harmless": 1.0}}}, "preference.objective_weights"),
        ({"preference": {"lora": {"rank": 2, "targets": ["query"]}}}, "no layer query"),
        ({"ppo": {"lora": {"rank": 2, "targets": ["query"]}}}, "no layer query"),
        ({"ppo": {"lora": {"rank": 2, "publish": "adapter"}}}, "engine.adapters"),
    ],
)
def test_it_is_refused_before_anything_is_trained(
    home: tuple[Store, Settings], trainer: str, learner: dict[str, Any], said: str
) -> None:
    check(*home, learner | {"trainer": trainer}, said)


@pytest.mark.parametrize(
    ("learner", "said"),
    [
        ({"ppo": {"harm_ceiling": 0.1}}, "bound on harm"),
        ({"trainer": "dpo", "dpo": {"objective_weights": {"harmless": 1.0}}}, "dpo.objective_weights"),
    ],
)
def test_so_is_what_one_trainer_alone_refuses(home: tuple[Store, Settings], learner: dict[str, Any], said: str) -> None:
    check(*home, learner, said)


def check(store: Store, settings: Settings, learner: dict[str, Any], said: str) -> None:
    told = load_settings(home=settings.home, learner=learner).learner.model_dump(mode="json")
    iteration = store.write(iterations.start, trigger="operator", seed=1, settings=told)
    with pytest.raises(TandemError, match=said):
        run(store, settings, iteration.id)
    ended = store.read(iterations.get, iteration.id)
    assert (ended.state, ended.stage) == ("failed", "freeze")
