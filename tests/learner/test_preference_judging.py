"""A preference model on held-out votes: centred, calibrated to what voters chose, controlled for length, judged."""

import copy
import math
import random
import statistics
from dataclasses import replace

import pytest
import torch

from benchmarks.learning_in_the_sandbox import simulate_votes
from feedback import datasets
from feedback.examples import split_of
from feedback.figures import figures_of
from feedback.learning_settings import PreferenceSettings
from feedback.objectives import OBJECTIVES
from feedback.settings import FeedbackSettings
from feedback.store import votes
from feedback.worker import count_all
from learner.anchor import PROMPTS, anchored, set_anchor
from learner.calibration import (
    calibration_bins,
    calibration_noise,
    cross_fitted,
    expected_calibration_error,
    fit_temperature,
    outcomes,
)
from learner.comparisons import VotedComparison, encode_comparison
from learner.errors import TrainingDataInvalid
from learner.estimates import share
from learner.iteration.examples import Votes as IterationVotes
from learner.policy import load_policy
from learner.preference_judging import HeldOut, Votes, calibrate, member_scores, report, score_comparisons
from learner.preference_model import PreferenceShape, new_preference_model
from learner.preference_training import train_preference_model
from learner.sampler import TorchSampler
from learner.sequences import Episodes
from learner.starting_policy import WEIGHTS
from tests.feedback.record import add_comparison, judgement, sample
from tests.learner.test_preference_training import SETTINGS, comparisons
from tests.records import empty_record

RESIDUAL = SETTINGS.model_copy(update={"length_control": "residual"})


def longer_is_better(count: int) -> list[VotedComparison]:
    """Raters who like w1, and who call the longer of two replies the better one."""
    return [
        VotedComparison(
            [{"role": "user", "content": "w3"}], ("w1 " * (1 + n % 5), "w1 " * (1 + n * 7 % 6)), "helpful",
            0.9 if n % 5 > n * 7 % 6 else 0.1 if n % 5 < n * 7 % 6 else 0.5,
        )
        for n in range(count)
    ]  # fmt: skip


def test_held_out_scores_have_mean_zero_and_the_recorded_scale(policy):
    model = train_preference_model(policy, comparisons(64, 1), SETTINGS, seed=1)
    held_out = comparisons(50, 2)
    calibrate(model, policy, held_out, SETTINGS)
    scores_S_O = score_comparisons(model, policy, held_out, SETTINGS).scores_C_2_O.flatten(0, 1)
    torch.testing.assert_close(scores_S_O.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scores_S_O.std(dim=0, correction=0), model.scale_O, atol=1e-4, rtol=1e-3)


def test_members_disagree_by_what_votes_say_and_not_by_where_they_count_from(policy):
    settings = SETTINGS.model_copy(update={"ensemble_size": 3, "pessimism": 1.0})
    model, held_out = train_preference_model(policy, comparisons(64, 1), settings, seed=1), comparisons(50, 2)
    unmoved, found = model.member_scores, []
    for from_E_1 in (torch.zeros(3, 1), torch.tensor([[0.0], [5.0], [-3.0]])):
        model.member_scores = lambda *seen, by=from_E_1: unmoved(*seen) + by
        calibrate(model, policy, held_out, settings)
        found.append(score_comparisons(model, policy, held_out, settings).scores_C_2_O)
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-3)
    raw_C_2_E_O, _ = member_scores(model, policy, held_out, settings)
    torch.testing.assert_close(model.member_center_E_O, raw_C_2_E_O.mean(dim=(0, 1)))


def test_probabilities_are_those_of_what_voters_chose(policy):
    """However little a vote is taken for in training: all of these prefer the side that the model finds."""
    model = train_preference_model(policy, comparisons(1200, 1), SETTINGS, seed=1)
    held_out = comparisons(400, 2)
    calibrate(model, policy, held_out, SETTINGS)
    scored = score_comparisons(model, policy, held_out, SETTINGS)
    margins_C = scored.scores_C_2_O[:, 0, 0] - scored.scores_C_2_O[:, 1, 0]
    helpful_C = torch.tensor([one.objective == "helpful" for one in held_out])
    sure_of_it_C = torch.sigmoid(margins_C[helpful_C].abs())
    assert sure_of_it_C.mean() > 0.95, "the labels say .9"


def test_no_vote_is_judged_by_a_temperature_that_was_fitted_on_it(policy):
    """By score: each half of its votes by what the other half asks, from the temperature that the model had before."""
    model = new_preference_model(policy.model, PreferenceShape(("helpful", "harmless"), 1, 8), seed=1)
    had, labels = (0.5, 0.7, 2.0), (0.9, 0.25, 0.5, 0.7)
    model.temperature_O.copy_(torch.tensor(had))
    weigh = (1.0, 0.5, 2.0, 0.25)
    votes = [
        replace(one, label=labels[at // 2 % 4], weight=weigh[at // 2 % 4]) for at, one in enumerate(comparisons(60, 2))
    ]
    raw_C_2_O = score_comparisons(model, policy, votes, SETTINGS).scores_C_2_O * torch.tensor(had)
    found = calibrate(model, policy, votes, SETTINGS)
    said_C = outcomes(torch.tensor([one.label for one in votes]))
    weights_C = torch.tensor([one.weight for one in votes])
    # Of 16 votes by a label of .9, 16 by .25 and 14 by .7.
    near = (16 * 0.8 + 16 * 0.5 * 0.5 + 14 * 0.25 * 0.4) / (16 + 16 * 0.5 + 14 * 0.25)
    of = {"helpful": slice(0, None, 2), "harmless": slice(1, None, 2), "overall": slice(None)}
    calibrated, actual, weights = {}, {}, {}
    for column, (name, own) in enumerate(of.items()):
        margins_C = (raw_C_2_O[own, 0, column] - raw_C_2_O[own, 1, column]) / had[column]
        fitted = margins_C, said_C[own], near / had[column], weights_C[own]
        calibrated[name], actual[name], weights[name] = cross_fitted(*fitted), said_C[own], weights_C[own]
        figures = found["overall"] if name == "overall" else found["objectives"][name]
        expected = {
            "calibration_error": expected_calibration_error(calibrated[name], actual[name], weights[name]),
            "calibration_noise": calibration_noise(calibrated[name], weights[name]),
            "calibration_error_uncalibrated": expected_calibration_error(margins_C, actual[name], weights[name]),
            "temperature": had[column] * fit_temperature(*fitted),
            "center": float((raw_C_2_O[..., column].mean(dim=1) * weights_C).sum() / weights_C.sum()),
        }
        assert {figure: figures[figure] for figure in expected} == pytest.approx(expected, rel=1e-4, abs=1e-5)
    by_objective = [torch.cat([of[name] for name in ("helpful", "harmless")]) for of in (calibrated, actual, weights)]
    assert found["bins"] == calibration_bins(*by_objective)


def test_length_is_taken_out_where_the_settings_say_so(policy):
    model = train_preference_model(policy, longer_is_better(300), SETTINGS, seed=1, objectives=["helpful"])
    held_out = longer_is_better(60)
    plain = calibrate(model, policy, held_out, SETTINGS)["objectives"]["helpful"]
    assert plain["length_correlation_pairs"] > 0.8
    assert plain["length_slope"] == 0
    controlled = calibrate(model, policy, held_out, RESIDUAL)["objectives"]["helpful"]
    assert controlled["length_correlation_pairs"] == pytest.approx(0, abs=1e-3)
    assert controlled["length_correlation_uncontrolled"] == pytest.approx(plain["length_correlation_pairs"], abs=1e-3)
    assert controlled["length_slope"] > 0
    again = calibrate(model, policy, held_out, RESIDUAL)["objectives"]["helpful"]
    assert again["length_slope"] == pytest.approx(controlled["length_slope"], rel=1e-3)


def test_accuracy_by_tranche_and_by_agreement_of_the_raters(policy):
    model = train_preference_model(policy, comparisons(600, 1), SETTINGS, seed=1)
    right, wrong = comparisons(40, 2), comparisons(20, 3)
    wrong = [replace(one, label=1 - one.label, agreement="divided", tranche="online") for one in wrong]
    found = report(model, score_comparisons(model, policy, [*right, *wrong], SETTINGS))
    assert found["agreement"]["one vote"]["comparisons"] == 40
    assert found["agreement"]["one vote"]["accuracy"] > 0.9
    assert found["agreement"]["divided"]["accuracy"] < 0.2
    assert {name: one["value"] for name, one in found["tranches"].items()} == {
        "base": found["agreement"]["one vote"]["accuracy"], "online": found["agreement"]["divided"]["accuracy"],
    }  # fmt: skip
    assert figures_of({"preference": found})["preference_accuracy"].interval == tuple(found["accuracy_interval"])
    low, high = found["agreement"]["divided"]["accuracy_interval"]
    assert 0 <= low <= found["agreement"]["divided"]["accuracy"] < high < 0.5


def test_the_report_by_hand(policy):
    """Margins of 2, -1 and 1 for side 0 under helpful, and of -3 under harmless, where side 1 is preferred; two pairs
    share their prompt and three their replies."""
    objectives, labels = ("helpful", "helpful", "helpful", "harmless"), (0.85, 0.9, 0.16, 0.1)
    tranches = ("base", "online", "base", "online")
    votes = [
        VotedComparison([{"role": "user", "content": f"w{n % 3}"}], ("w5", f"w{6 + n // 3}"), *said, tranche=tranche)
        for n, (*said, tranche) in enumerate(zip(objectives, labels, tranches, strict=True))
    ]
    model = new_preference_model(policy.model, PreferenceShape(("helpful", "harmless"), 1, 8), seed=1)
    # What the other objective's score says of a vote does not count, and the overall one is right on the last alone.
    margins_C_O = torch.tensor([[2.0, 9.0, -1.0], [-1.0, 9.0, -1.0], [1.0, 9.0, 1.0], [9.0, -3.0, -1.0]])
    encoded = [encode_comparison(one, policy, model.shape.objectives, 64, 64) for one in votes]
    lengths_C_2 = torch.tensor([[3, 1], [2, 5], [4, 4], [1, 2]])
    scored = HeldOut(torch.stack([margins_C_O, torch.zeros(4, 3)], dim=1), lengths_C_2, encoded, votes)
    found = report(model, scored)
    assert (found["comparisons"], found["accuracy"]) == (4, 2 / 4)
    assert found["accuracy_interval"] == share(torch.tensor([1.0, 0.0, 0.0, 1.0]), 0.95)["interval"]
    helpful, harmless, overall = *(found["objectives"][name] for name in model.shape.objectives), found["overall"]
    assert (helpful["comparisons"], harmless["comparisons"], overall["comparisons"]) == (3, 1, 4)
    assert (helpful["accuracy"], harmless["accuracy"]) == (pytest.approx(1 / 3), 1)
    assert overall["accuracy"] == 1 / 4
    # Surer than .85 for either side: the first two, and the last.
    assert (helpful["accuracy_sure"], helpful["accuracy_unsure"]) == (0.5, 0.0)
    assert (overall["accuracy_sure"], overall["accuracy_unsure"]) == (pytest.approx(1 / 3), 0.0)
    # By what was voted, not by how sure it is taken to be: log(1 + e^-2), log(1 + e^1), log(1 + e^1).
    losses = [math.log(1 + math.exp(wrong_by)) for wrong_by in (-2, 1, 1)]
    assert helpful["cross_entropy"] == pytest.approx(sum(losses) / 3)
    # Of all replies, the second of each pair at a score of 0.
    lengths = [3, 1, 2, 5, 4, 4, 1, 2]
    assert harmless["length_correlation"] == pytest.approx(statistics.correlation([9, 0, 9, 0, 9, 0, -3, 0], lengths))
    assert overall["length_correlation"] == pytest.approx(statistics.correlation([-1, 0, -1, 0, 1, 0, -1, 0], lengths))
    assert {name: one["value"] for name, one in found["tranches"].items()} == {"base": 0.5, "online": 0.5}


def test_accuracy_leaves_out_ties_and_takes_the_votes_on_a_pair_for_one():
    """Right on the pairs 0 and 2, wrong on 1, and a tie: three pairs, however many votes are on them."""
    margins, labels = torch.tensor([1.0, -1.0, 2.0, 5.0]), torch.tensor([0.9, 0.9, 0.6, 0.5])
    same, zeros = torch.ones(4), torch.zeros(4)
    each_once = Votes(margins, labels, same, zeros, torch.arange(4)).accuracy(0.95)
    assert each_once == share(torch.tensor([1.0, 0.0, 1.0]), 0.95)
    four_votes = Votes(*(of.repeat(4) for of in (margins, labels, same, zeros, torch.arange(4)))).accuracy(0.95)
    assert four_votes["count"] == 12
    assert four_votes["interval"] == pytest.approx(each_once["interval"])
    # Three votes on one pair and one on another: 4^2 / (3^2 + 1).
    uneven = Votes(same, same, same, zeros, torch.tensor([0, 0, 0, 1])).accuracy(0.95)
    assert uneven["interval"] == share(torch.ones(4), 0.95, worth=1.6)["interval"]
    assert Votes(*(of[3:] for of in (margins, labels, same, zeros, torch.arange(4)))).accuracy(0.95) == {
        "value": None, "interval": None, "count": 0,
    }  # fmt: skip


def test_accuracy_counts_votes_by_their_weights():
    """Right on a pair that weighs 1, wrong on one with votes of 1 and .5, right on a tie that weighs 9."""
    margins, labels = torch.tensor([1.0, 1.0, 1.0, 1.0]), torch.tensor([0.9, 0.2, 0.1, 0.5])
    votes = Votes(margins, labels, torch.tensor([1.0, 1.0, 0.5, 9.0]), torch.zeros(4), torch.tensor([0, 1, 1, 2]))
    found = votes.accuracy(0.95)
    assert (found["value"], found["count"]) == (pytest.approx(1 / 2.5), 3)
    worth = 2.5**2 / (1 + 1.5**2)
    same = share(torch.tensor([1.0, 0.0]), 0.95, worth, torch.tensor([1.0, 1.5]))
    assert found["interval"] == pytest.approx(same["interval"])


def test_a_vote_that_weighs_two_is_two_votes_in_every_figure(policy):
    settings = SETTINGS.model_copy(update={"ensemble_size": 2, "pessimism": 1.0, "length_control": "residual"})
    once, twice = (
        comparisons(40, 2),
        [replace(one, label=1 - one.label, tranche="online") for one in comparisons(24, 3)],
    )
    twice = [replace(one, agreement="divided", label=(0.5, 0.7, 0.1)[n % 3]) for n, one in enumerate(twice)]
    found = []
    for held_out in ([*once, *(replace(one, weight=2.0) for one in twice)], [*once, *twice, *twice]):
        model = train_preference_model(policy, comparisons(64, 1), settings, seed=1)
        said = calibrate(model, policy, held_out, settings)
        assert said["comparisons"] == len(held_out)
        figures = {"": said, **{name: said["objectives"][name] for name in OBJECTIVES}, "overall": said["overall"]}
        figures |= {f"agreement.{name}": one for name, one in said["agreement"].items()}
        # Of few votes with much weight less is known, and cross-fitting leaves more to chance.
        by_number = ("comparisons", "calibration_noise")
        found.append(
            {f"{name}.{key}": value for name, part in figures.items() for key, value in part.items()
             if isinstance(value, float) and key not in by_number}
            | {name: one["value"] for name, one in said["tranches"].items()}
            | {f"bin {at}": one["accuracy"] for at, one in enumerate(said["bins"])}
        )  # fmt: skip
        for name in ("center_O", "scale_O", "temperature_O", "length_slope_O", "member_center_E_O"):
            found[-1] |= {f"{name} {at}": value for at, value in enumerate(getattr(model, name).flatten().tolist())}
    assert len(found[0]) > 40
    assert found[0] == pytest.approx(found[1], rel=1e-3, abs=1e-5)


def test_a_vote_that_weighs_nothing_is_none(policy):
    held_out = comparisons(30, 2)
    found = []
    for nothing in ([], [replace(held_out[0], label=0.1, weight=0.0)]):
        model = new_preference_model(policy.model, PreferenceShape(OBJECTIVES, 1, 8), seed=1)
        found.append(calibrate(model, policy, [*nothing, *held_out], SETTINGS))
    assert found[0] == found[1]
    with pytest.raises(TrainingDataInvalid):
        calibrate(model, policy, nothing, SETTINGS)


def test_who_votes_on_held_out_prompts_alone_does_not_turn_what_is_measured_there(policy, tmp_path):
    """20 honest raters on 400 prompts, and one who turns every judgement round, with ten times as many held-out votes
    as all others: where a prompt falls follows from how it begins."""
    settings = FeedbackSettings()
    rng = random.Random(5)
    words = [f"w{n}" for n in range(3, 20)]
    prompts = [[{"role": "user", "content": " ".join(rng.choices(words, k=6))}] for _ in range(4000)]
    store = empty_record(tmp_path / "record.db", flushes=False)

    def put(messages: list[dict[str, str]], good: str, rater: str) -> None:
        sides = (sample(text, version=side, messages=messages) for side, text in enumerate(("w1", "w5")))
        pair = add_comparison(store, *sides)
        store.write(votes.put, pair, judgement(good, 3), key_id="key_a", sees_all=False, rater=rater)

    for number, messages in enumerate(prompts[:400]):
        put(messages, "0", f"honest-{number % 20}")
    held_out = [messages for messages in prompts if split_of(messages, settings) == "heldout"]
    honest = sum(messages in held_out for messages in prompts[:400])
    for number in range(10 * honest):
        put(held_out[-1 - number % (len(held_out) - honest)], "1", "busy")
    count_all(store)
    frozen = store.read(datasets.freeze, tmp_path, settings)
    store.close()
    judged = IterationVotes(frozen.folder).comparisons("heldout")
    assert len(judged) == 11 * honest
    model = train_preference_model(policy, IterationVotes(frozen.folder).comparisons("train"), SETTINGS, seed=1)
    all_alike = calibrate(copy.deepcopy(model), policy, [replace(one, weight=1.0) for one in judged], SETTINGS)
    found = calibrate(model, policy, judged, SETTINGS)
    assert all_alike["accuracy"] == pytest.approx(1 / 11)
    raters = len({one.rater for one in datasets.read(frozen.folder, "heldout")})
    assert found["accuracy"] == pytest.approx(1 - max(0.1, 2 / raters), abs=1e-4)
    assert found["accuracy_interval"][0] > 0.5
    temperatures = [one["objectives"]["helpful"]["temperature"] for one in (found, all_alike)]
    assert temperatures[1] > 5 * temperatures[0], temperatures
    assert found["tranches"]["online"]["value"] == found["agreement"]["one vote"]["accuracy"] == found["accuracy"]


@pytest.mark.slow
def test_calibration_on_simulated_votes_is_within_the_bar():
    start = load_policy(WEIGHTS, "cpu")
    votes = simulate_votes(start, 6000, seed=1)
    model = train_preference_model(start, votes[:2000], PreferenceSettings(), seed=1)
    figures = calibrate(model, start, votes[2000:], PreferenceSettings())["overall"]
    assert figures["calibration_error"] <= 0.03
    assert figures["calibration_noise"] < 0.03, "or the bar says nothing"


def test_a_few_replies_that_are_alike_do_not_make_rewards_huge(policy):
    """As in a home with a handful of votes."""
    model = train_preference_model(policy, comparisons(64, 1), SETTINGS, seed=1)
    alike = VotedComparison([{"role": "user", "content": "w3"}], ("w1 w2", "w1 w2"), "helpful", 0.9)
    calibrate(model, policy, [alike], SETTINGS)
    figures = set_anchor(model, policy, SETTINGS)
    episodes = Episodes.pad([[6, 7]] * 20, [[word, 1] for word in range(5, 25)])
    assert float(model.combine(model.score(episodes), {"overall": 1.0}).std()) < 10
    assert float(model.scale_O[-1]) == pytest.approx(figures["overall"]["deviation"] / 4)
    # What is reported is what rewards are over.
    assert [figures[name]["scale"] for name in model.shape.columns] == model.scale_O.tolist()
    # Where they differ as replies do, that is what counts.
    calibrate(model, policy, comparisons(50, 2), SETTINGS)
    before = model.scale_O.clone()
    set_anchor(model, policy, SETTINGS)
    assert torch.equal(model.scale_O, before)


def test_rewards_count_from_the_anchor_whatever_the_held_out_votes_were(policy):
    model = train_preference_model(policy, comparisons(200, 1), SETTINGS, seed=1)
    rewards = []
    episodes = Episodes.pad([[6, 7]], [[8, 9, 1]])
    for held_out in (comparisons(50, 2), comparisons(200, 5)):
        calibrate(model, policy, held_out, SETTINGS)
        model.temperature_O.fill_(1.0)
        model.scale_O.fill_(1.0)
        figures = set_anchor(model, policy, SETTINGS)
        assert model.anchor_O.tolist() == pytest.approx([figures[name]["mean"] for name in model.shape.columns])
        rewards.append(float(model.combine(model.score(episodes), {"overall": 1.0})))
    assert rewards[0] == pytest.approx(rewards[1], abs=1e-4)
    assert figures["helpful"]["deviation"] > 0


@pytest.mark.parametrize(("prompt_tokens", "reply_tokens", "longest"), [(1024, 512, 64), (3, 5, 5)])
def test_the_anchor_is_four_replies_of_the_start_to_each_of_its_prompts(policy, prompt_tokens, reply_tokens, longest):
    """As much of both as the model reads."""
    settings = SETTINGS.model_copy(update={"max_prompt_tokens": prompt_tokens, "max_reply_tokens": reply_tokens})
    model = new_preference_model(policy.model, PreferenceShape(("helpful", "harmless"), 1, 8), seed=1)
    figures = set_anchor(model, policy, settings)
    chats = [policy.encode_chat([{"role": "user", "content": prompt}]) for prompt in PROMPTS for _ in range(4)]
    asked = [chat[-prompt_tokens:] for chat in chats]
    sampler = TorchSampler(policy.model, policy.end_ids)
    replies = sampler.sample(asked, max_new_tokens=longest, temperature=1.0, seed=20220412).episodes
    for name, scores_B in zip(model.shape.columns, model.score(replies).T.tolist(), strict=True):
        assert figures[name]["mean"] == pytest.approx(statistics.mean(scores_B), abs=1e-4)
        assert figures[name]["deviation"] == pytest.approx(statistics.pstdev(scores_B), rel=1e-4)


def test_scores_on_the_scale_of_the_anchor_by_hand():
    anchor = {"overall": {"mean": 1.0, "deviation": 2.0}, "helpful": {"mean": -1.0, "deviation": 2**-6}}
    scores = torch.tensor([[1.0, 5.0], [-1.5, -1.0]])
    assert anchored(scores, ("helpful", "overall"), anchor).tolist() == [[128.0, 2.0], [-32.0, -1.0]]
    alike = {"overall": {"mean": 1.0, "deviation": 0.0}}
    assert torch.isfinite(anchored(torch.tensor([[1.0], [2.0]]), ("overall",), alike)).all()
