"""Whole iterations in their own process, on the built-in policy, with the votes of simulated raters."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from feedback import manifest, policy_weights
from feedback.errors import Conflict, LeaseLost, TandemError
from feedback.examples import split_of
from feedback.figures import figures_of
from feedback.importing import import_file
from feedback.judges import PREFERENCE
from feedback.learning_settings import PPOSettings
from feedback.settings import LearnerSettings, Settings, load_settings
from feedback.store import Store, iterations, leases, policies, rehearsals, votes
from feedback.store.policies import Provenance
from feedback.worker import count_all
from learner.comparisons import VotedComparison
from learner.iteration import frontier
from learner.iteration.examples import agreements
from learner.iteration.preferences import lacks, objectives_of
from learner.iteration.process import run
from learner.measure_again import measure_again
from learner.policy import Policy
from learner.ppo import train_ppo
from learner.prepare import prepare
from learner.reply_scores import Judges
from tests.learner.iterations import QUICK, learner, quick_settings, start, voted_home
from tests.learner.sandbox_votes import cast_votes, have_chats
from tests.learner.test_prepare import model_folder
from tests.learner.test_pretraining import ranked_file
from tests.records import empty_record_of

SIDES = (("chosen", "Let us talk of"), ("rejected", "I hate"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return quick_settings(tmp_path)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with voted_home(settings) as store:
        yield store


def test_from_votes_to_a_candidate_that_can_be_traced(store: Store, settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"policies_url": f"file://{tmp_path}/storage"})
    iteration = start(store, settings)
    assert learner(settings, iteration).wait(timeout=500) == 0

    ended = store.read(iterations.get, iteration.id)
    assert (ended.state, ended.error, ended.candidate) == ("succeeded", None, 1)
    candidate = store.read(policies.get, 1)
    assert (candidate.state, candidate.parent, candidate.iteration_id) == ("candidate", 0, iteration.id)
    manifest.verify(settings.home / candidate.path, candidate.digest, like=settings.policies_dir / "v0")
    assert candidate.digest != store.read(policies.get, 0).digest

    evidence = candidate.evidence
    assert [step["step"] for step in evidence["ppo"]] == [1, 2, 3]
    assert evidence["evaluation"]["kl_nats_interval"][1] > 0
    assert 0 <= evidence["evaluation"]["win_rate"]["value"] <= 1
    assert 0 <= evidence["preference"]["accuracy"] <= 1
    assert evidence["preference"]["anchor"]["overall"]["deviation"] > 0
    assert candidate.settings["ppo"]["steps"] == 3
    _check_watch(settings, evidence)
    _check_frontier(evidence["frontier"])
    gate = evidence["strange_prompts"]
    assert gate["trained"]
    assert 0 <= gate["auroc"]["odd"] <= 1
    assert len(gate["sha256"]) == 64
    held = evidence["rehearsal"]
    chats = store.read(rehearsals.of_iteration, iteration.id)
    assert 20 < held["from_chats"] == len(chats) < held["prompts"]
    assert all(split_of(chat.messages, settings.feedback) != "heldout" for chat in chats)
    assert all(step["rehearsal_kl_nats"] >= 0 for step in evidence["ppo"])

    vote_id = store.read(lambda session: next(iter(session.execute(votes.select(votes.Vote.id)))))[0]
    (used,) = store.read(votes.used_by, vote_id)
    assert (used["iteration"], used["candidate"]) == (iteration.id, "v1")
    events = store.read(iterations.events_after, iteration.id, 0, 10_000)
    stages = [event.data["stage"] for event in events if event.kind == "stage"]
    assert stages == ["freeze", "preference", "ppo", "evaluate", "publish"]
    assert not store.read(leases.held, leases.LEARNER)
    run(store, settings, iteration.id)
    assert store.read(policies.next_version) == 2, "a redelivered task does nothing"
    check_judged_elsewhere(store, settings, evidence["evaluation"])
    check_measured_again(store, settings, evidence["evaluation"])


def check_judged_elsewhere(store: Store, settings: Settings, first: dict[str, Any]) -> None:
    """A machine that shares the record and the object storage alone judges by the same models."""
    policy_weights.upload(store, settings)
    elsewhere = load_settings(home=settings.home / "elsewhere", policies_url=settings.policies_url)
    question = [{"role": "user", "content": "How do I cut a cake?"}], ["With a knife.", "I hate cake."], [True, True]
    here, there = Judges(store, settings), Judges(store, elsewhere)
    assert there.of(1).scores(*question) == here.of(1).scores(*question)
    assert there.gate_of(1).look(question[0]) == here.gate_of(1).look(question[0]) != {}
    assert measure_again(store, elsewhere, 1) == first
    shutil.rmtree(settings.home / "storage")
    shutil.rmtree(elsewhere.home / "iterations")
    with pytest.raises(Conflict, match=r"v1 cannot be measured again: .* neither here nor"):
        measure_again(store, elsewhere, 1)


def check_measured_again(store: Store, settings: Settings, first: dict[str, Any]) -> None:
    """The same while nothing has changed; against what serves once that is another version."""
    shutil.rmtree(settings.home / "datasets")
    assert measure_again(store, settings, 1) == first, "its dataset is written again"
    made = Provenance(0, "itr_2", "none", {}, 1)
    epoch = store.write(leases.acquire, leases.LEARNER, "test", 60.0)
    first_one = store.read(policies.get, 1)
    store.write(policies.publish, 2, first_one.path, first_one.digest, made, epoch=epoch)
    store.write(policies.set_serving, 2, kind="promote", reason="", force=False, actor="test")
    against = measure_again(store, settings, 1)["serving"]
    assert (against["version"], against["win_rate"]["value"]) == ("v2", 0.5), "v2 has the weights of v1"
    with pytest.raises(Conflict, match="v2 cannot be measured again: this home has no"):
        measure_again(store, settings, 2)
    (settings.home / "iterations" / "itr_2" / PREFERENCE).mkdir(parents=True)
    with pytest.raises(Conflict, match="v2 cannot be measured again: no dataset 'none'"):
        measure_again(store, settings, 2)
    with (settings.home / "iterations" / first_one.iteration_id / PREFERENCE / "preference.safetensors").open(
        "ab"
    ) as file:
        file.write(b"x")
    with pytest.raises(Conflict, match=r"v1 cannot be measured again: .* was changed after it was published"):
        measure_again(store, settings, 1)


def test_without_votes_or_by_settings_that_can_no_longer_be_had_it_fails_with_what_to_do(settings: Settings) -> None:
    store = empty_record_of(settings)
    prepare(store, settings)
    learner = settings.learner.model_dump(mode="json")
    for saved, said in ((learner, "no counted vote to learn from"), (learner | {"trainer": "x"}, "learner.trainer")):
        iteration = store.write(iterations.start_next, trigger="operator", learner=saved, reason="of another release")
        with pytest.raises(TandemError, match=said):
            run(store, settings, iteration.id)
        ended = store.read(iterations.get, iteration.id)
        assert ended.state == "failed" and said in ended.error
    store.close()


def _check_watch(settings: Settings, evidence: dict) -> None:
    """Two models from other votes; the steps have both scores, the gate a win rate by the watch model."""
    assert evidence["watch"]["trained"]
    assert evidence["watch"]["votes"] >= 20
    assert evidence["watch"]["sha256"] != evidence["preference"]["sha256"]
    assert all(step["watch_reward"] not in (None, step["reward"]) for step in evidence["ppo"])
    assert evidence["guard"]["steps"] == 3
    assert 0 <= evidence["guard"]["published_step"] <= 3
    assert evidence["guard"]["last_sqrt_kl"] >= 0
    assert figures_of(evidence)["watch_win_rate"].value == evidence["evaluation"]["watch"]["win_rate"]["value"]
    overall = evidence["evaluation"]["anchored"]["overall"]
    anchor = evidence["preference"]["anchor"]["overall"]
    mean, deviation, scale = anchor["mean"], anchor["deviation"], anchor["scale"]
    # The evaluation's score weighs the overall score alone and is over its deviation on held-out replies.
    raw = evidence["evaluation"]["score"]["value"] * scale
    assert overall["score"]["value"] == pytest.approx((raw - mean) / deviation, abs=1e-3)


def _check_frontier(frontier: dict) -> None:
    assert frontier["method"] == "reranked"
    assert [point["harmless_weight"] for point in frontier["points"]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    for point in [*frontier["points"], frontier["start"], frontier["candidate"]]:
        assert point["helpful"]["count"] == point["watch"]["harmless"]["count"] == frontier["prompts"]
    # By the scores that chose them, more weight buys more of an objective.
    helpful, harmless = ([point[axis]["value"] for point in frontier["points"]] for axis in ("helpful", "harmless"))
    assert helpful == sorted(helpful, reverse=True)
    assert harmless == sorted(harmless)


@pytest.mark.slow
def test_a_trained_frontier_has_a_policy_for_each_weight_and_keeps_the_points_before_a_kill(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = settings.learner.model_dump(mode="json")
    trained["ppo"] |= {"steps": 1}
    trained["evaluation"] |= {"frontier": "trained", "frontier_weights": [0.0, 1.0], "frontier_steps": 2}
    iteration = store.write(iterations.start_next, trigger="operator", learner=trained, reason="a test")
    asked: list[dict[str, float]] = []

    def train(policy: Policy, start: Any, model: Any, pool: Any, ppo: PPOSettings, **others: Any) -> None:
        asked.append(ppo.reward_weights)
        if len(asked) == 2:
            raise LeaseLost("as if killed")
        train_ppo(policy, start, model, pool, ppo, **others)

    monkeypatch.setattr(frontier, "train_ppo", train)
    with pytest.raises(LeaseLost):
        run(store, settings, iteration.id)
    (kept,) = json.loads((settings.home / "iterations" / iteration.id / "frontier.json").read_bytes())
    run(store, settings, iteration.id)
    found = store.read(policies.get, 1).evidence["frontier"]
    assert found["method"] == "trained"
    assert found["points"][0] == kept
    assert [point["harmless_weight"] for point in found["points"]] == [0.0, 1.0]
    assert found["points"][0]["harmless"]["value"] != found["points"][1]["harmless"]["value"]
    helpful, harmless = {"helpful": 1.0, "harmless": 0.0}, {"helpful": 0.0, "harmless": 1.0}
    assert asked == [helpful, harmless, harmless]


def test_without_enough_votes_to_watch_by_it_says_so_and_goes_on(store: Store, settings: Settings) -> None:
    few = settings.learner.model_dump(mode="json")
    few["ppo"] |= {"watch_min_votes": 10_000, "steps": 1}
    few["evaluation"]["frontier"] = "none"
    iteration = store.write(iterations.start_next, trigger="operator", learner=few, reason="a test")
    run(store, settings, iteration.id)
    evidence = store.read(policies.get, 1).evidence
    assert not evidence["watch"]["trained"]
    votes_learnt = evidence["preference"]["learnt_from"]
    assert 0 < votes_learnt["worth"] <= votes_learnt["votes"]
    assert "10000 wanted" in evidence["watch"]["reason"]
    assert evidence["guard"] == {
        "steps": 1, "stopped": False, "published_step": 1, "peak_watch_reward": None, "last_reward": None,
        "last_watch_reward": None, "last_kl_nats": None, "last_sqrt_kl": None,
    }  # fmt: skip
    assert evidence["frontier"] is None
    assert "watch" not in evidence["evaluation"]


def test_where_pairs_are_judged_under_both_objectives_it_is_learnt_which_prompts_ask_for_harm(
    settings: Settings,
) -> None:
    store = empty_record_of(settings)
    prepare(store, settings)
    cast_votes(store, settings, 200, both=True)
    have_chats(store, 100)
    run(store, settings, start(store, settings).id)
    evidence = store.read(policies.get, 1).evidence
    assert evidence["rehearsal"]["told_by"] == "scores"
    assert 0 < evidence["rehearsal"]["from_chats"] < evidence["rehearsal"]["prompts"]
    # Without it no held-out prompt would be known to ask for harm, and nothing would tell the gate how much is done.
    harm = evidence["evaluation"]["harm"]
    assert harm["count"] > 0
    assert evidence["evaluation"]["refusals"]["count"] + harm["count"] == evidence["evaluation"]["prompts"]
    again = measure_again(store, settings, 1)
    assert evidence["evaluation"]["harm_refused"]["count"] == harm["count"]
    assert (again["harm"], again["refusals"]) == (harm, evidence["evaluation"]["refusals"])
    store.close()


def test_imported_pairs_train_any_model(tmp_path: Path) -> None:
    """Pairs as HH-RLHF publishes them, under one objective only, and a model that is not ours."""
    source = model_folder(tmp_path / "model")
    settings = load_settings(home=tmp_path / "home", learner=QUICK, policy=str(source))
    store = empty_record_of(settings)
    prepare(store, settings)
    lines = [
        {
            side: f"\n\nHuman: Hi, {n}\n\nAssistant: Yes?\n\nHuman: Tell me {n}\n\nAssistant: {reply} {n}"
            for side, reply in SIDES
        }
        for n in range(80)
    ]
    path = tmp_path / "harmless.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert import_file(store, path, "hh", home=settings.home).imported == 80
    count_all(store)

    iteration = start(store, settings)
    run(store, settings, iteration.id)
    candidate = store.read(policies.get, 1)
    assert list(candidate.evidence["preference"]["objectives"]) == ["harmless"]
    assert list(candidate.evidence["evaluation"]["objectives"]) == ["harmless"]
    manifest.verify(settings.home / candidate.path, candidate.digest, like=settings.policies_dir / "v0")


def test_a_watch_model_needs_votes_under_all_that_the_reward_weighs_and_some_to_be_judged_by() -> None:
    def votes(*objectives: str, label: float = 1.0) -> list[VotedComparison]:
        return [VotedComparison([{"role": "user", "content": "Hi"}], ("a", "b"), name, label) for name in objectives]

    def lacking(
        watched: list[VotedComparison],
        train: list[VotedComparison],
        weights: dict[str, float],
        held_out: list[VotedComparison] | None = None,
        wanted: int = 2,
        **preference: object,
    ) -> str | None:
        ppo = {"watch_min_votes": wanted, "reward_weights": weights}
        learner = LearnerSettings.model_validate({"ppo": ppo, "preference": preference})
        return lacks(watched, objectives_of(train), both if held_out is None else held_out, learner)

    both, helpful, harmless = votes("helpful", "harmless"), votes("helpful", "helpful"), votes("harmless")
    assert lacking(helpful, helpful, {"overall": 1.0}) is None
    assert lacking(both, both, {"overall": 1.0}) is None
    assert "harmless" in str(lacking(helpful, both, {"overall": 1.0}))
    assert "harmless" in str(lacking(helpful, both, {"harmless": 1.0}))
    assert lacking(helpful, both, {"helpful": 1.0}) is None
    assert lacking(helpful, both, {"overall": 1.0}, objective_weights={"helpful": 1.0}) is None
    unlearnt = lacking(helpful, both, {"helpful": 1.0}, objective_weights={"harmless": 1.0})
    assert unlearnt == "no weight in learner.preference.objective_weights for helpful, all to watch by"
    assert "1 votes" in str(lacking(both[:1], both, {"overall": 1.0}))
    # A rater who is bounded brings votes, and no weight.
    bounded = [VotedComparison([{"role": "user", "content": "Hi"}], ("a", "b"), "helpful", 1.0, 0.01)] * 99
    assert lacking([*helpful[:1], *bounded], helpful, {"helpful": 1.0}, wanted=5) == (
        "100 votes to watch by, by their weights worth 3.9, 5 wanted (feedback.watch_share)"
    )
    almost = VotedComparison([{"role": "user", "content": "Hi"}], ("a", "b"), "helpful", 1.0, 0.5)
    assert "5 votes to watch by, by their weights worth 4.8" in str(
        lacking([almost, *helpful[:1] * 4], helpful, {"helpful": 1.0}, wanted=5)
    )
    assert lacking(bounded[:5], helpful, {"helpful": 1.0}, wanted=5) is None, "all of one weight"
    # Ties alone are as none.
    ties = votes("harmless", label=0.5)
    assert "under harmless" in str(lacking([*helpful, *ties], both, {"overall": 1.0}))
    assert lacking(helpful, [*helpful, *ties], {"overall": 1.0}) is None
    assert lacking(helpful, both, {"helpful": 1.0}, harmless) == "no held-out vote under helpful to judge it by"
    assert lacking(both, both, {"helpful": 1.0}, harmless) is None


def test_raters_of_one_mind_and_divided_ones() -> None:
    def example(comparison: str, label: float, kind: str = "vote") -> SimpleNamespace:
        return SimpleNamespace(comparison=comparison, objective="helpful", label=label, kind=kind)

    said = [("a", 0.9), ("b", 0.9), ("b", 0.7), ("c", 0.9), ("c", 0.5)]
    found = agreements([*(example(*one) for one in said), example("a", 0.95, "rewrite")])
    assert {comparison: level for (comparison, _), level in found.items()} == {
        "a": "one vote",
        "b": "unanimous",
        "c": "divided",
    }


def test_the_other_trainer_after_ranked_pairs(tmp_path: Path) -> None:
    """DPO instead of PPO, and a preference model that saw a file of ranked pairs before it saw votes."""
    learner = QUICK | {
        "trainer": "dpo",
        "dpo": {"epochs": 1},
        "preference": {"pretraining": {"file": str(ranked_file(tmp_path, 100)), "heldout_one_in": 5}},
    }
    settings = load_settings(home=tmp_path / "home", learner=learner)
    with voted_home(settings, votes=100, chats=0) as store:
        iteration = start(store, settings)
        folder = settings.home / "iterations" / iteration.id
        folder.mkdir(parents=True)
        # Killed as it wrote, when it had more votes: somebody was erased since.
        (folder / "dpo.jsonl").write_bytes(b'{"step":1000,"steps":1000}\n{"step":1001,')
        run(store, settings, iteration.id)

        evidence = store.read(policies.get, 1).evidence
        steps = evidence["dpo"]
        assert [step["step"] for step in steps] == list(range(1, steps[-1]["steps"] + 1))
        assert "ppo" not in evidence
        assert evidence["evaluation"]["kl_nats_interval"][1] > 0
        told = evidence["preference"]["pretraining"]
        assert told["pairs"] > 50
        assert told["set_aside"] == 1
        assert 0 <= told["accuracy_on_votes"] <= 1
        events = store.read(iterations.events_after, iteration.id, 0, 10_000)
        assert [event.data["stage"] for event in events if event.kind == "stage"] == [
            "freeze", "preference", "dpo", "evaluate", "publish",
        ]  # fmt: skip
        *_, reference = (event.data for event in events if event.kind == "reference_step")
        assert reference["step"] == reference["steps"] > 0
        assert [event for event in events if event.kind == "dpo_step"]
        assert [event for event in events if event.kind == "pretraining"]
        assert list((folder / "tensorboard").glob("events.*"))
        assert not list(folder.glob("*.state.safetensors"))
