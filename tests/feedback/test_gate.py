import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from feedback import gate, gatekeeper
from feedback.errors import InvalidRequest
from feedback.figures import BY_A_MODEL, Figure, figures_against, figures_of
from feedback.operating_settings import GateSettings
from feedback.store import Store, leases, policies
from feedback.store.policies import Provenance
from feedback.worker import count_all
from tests.feedback.live import vote_between

EVIDENCE = {
    "evaluation": {
        "win_rate": {"value": 0.62, "interval": [0.52, 0.72], "count": 90},
        "kl_nats": 1.5,
        "kl_nats_interval": [1.2, 1.8],
        "length_ratio": 1.1,
        "objectives": {"helpful": {"win_rate": {"value": 0.55, "interval": [0.4, 0.7]}}},
    },
    "preference": {
        "objectives": {"helpful": {"calibration_error": 0.02, "accuracy": 0.7}, "harmless": {"calibration_error": 0.05}}
    },
    "ppo": [{"step": 1}],
}


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("win_rate >= 0.6", "pass"),
        ("win_rate >= 0.62", "pass"),
        ("win_rate > 0.62", "fail"),
        ("win_rate_lower >= 0.5", "pass"),
        ("win_rate_lower >= .53", "fail"),
        ("win_rate_upper<=0.72", "pass"),
        ("kl_nats_upper < 1.8", "fail"),
        ("helpful_win_rate_upper >= 0.5", "pass"),
        ("calibration_error <= 0.03", "fail"),
        ("calibration_error <= 0.05", "pass"),
        ("evaluation.length_ratio <= 1.3", "pass"),
        ("evaluation.objectives.helpful.win_rate_lower >= 0.5", "fail"),
        ("kl_nats >= -1", "pass"),
        ("kl_nats <= serving", "pass"),
        ("kl_nats <= serving - 0.6", "fail"),
        ("length_ratio <= serving + 0.2", "not_measured"),
        ("tax_drop <= 0.02", "not_measured"),
        ("length_ratio_upper <= 2", "not_measured"),
    ],
)
def test_a_rule_and_its_verdict(text: str, outcome: str) -> None:
    serving = figures_of({"evaluation": {"kl_nats": 2.0}})
    (verdict,) = gate.judge([text], figures_of(EVIDENCE), serving).verdicts
    assert (verdict.rule, verdict.outcome) == (text, outcome)


@pytest.mark.parametrize(
    "text",
    [
        "", "win_rate", "win_rate >=", "win_rate = 0.5", "win_rate => 0.5", "win_rate >= 0.5 or true",
        "win_rate >= 1e3",
        "winrate >= 0.5", "win_rate_middle >= 0.5", "win_rate >= nan", "win_rate >= inf", "win_rate >= serving * 2",
        "__import__('os') >= 1", "win_rate >= 0.5; kl_nats <= 1", "win_rate >= 0.5\nkl_nats <= 1", "0.5 <= win_rate",
        "evaluation..kl_nats <= 1", "win_rate >= --1",
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        gate.parse(text)
    with pytest.raises(ValidationError):
        GateSettings(rules=[text])


@given(st.text(max_size=30))
def test_any_text_is_a_rule_or_is_refused(text: str) -> None:
    try:
        rule = gate.parse(text)
    except InvalidRequest:
        return
    assert math.isfinite(rule.bound) and rule.compare in gate.COMPARE


def test_what_stops_a_promotion() -> None:
    figures = figures_of(EVIDENCE)
    passed = gate.judge(["win_rate >= 0.5", "tax_drop <= 0.02"], figures, {}, advice=["kl_nats <= 1"])
    assert passed.passes and [verdict.outcome for verdict in passed.verdicts] == ["pass", "not_measured", "fail"]
    strict = gate.judge(["win_rate >= 0.5", "tax_drop <= 0.02"], figures, {}, unmeasured_blocks=True)
    assert [verdict.rule for verdict in strict.stopping] == ["tax_drop <= 0.02"]
    nothing = gate.judge(["win_rate >= 0.5", "tax_drop <= 0.02"], {}, {})
    assert len(nothing.stopping) == 2, "votes alone promote nothing"
    assert gate.judge([], {}, {}).passes, "an operator may have no gate"
    failed = gate.judge(["win_rate_lower >= 0.9", "length_ratio <= 1"], figures, {})
    assert not failed.passes and failed.as_json()["passes"] is False
    refused = gate.GateRefused("v3", failed.stopping)
    assert refused.message.startswith(
        "v3 does not pass the gate: win_rate_lower >= 0.9 (it is 0.52, interval 0.52 to 0.72); "
        "length_ratio <= 1 (it is 1.1). "
    ), "of a figure without an interval there is none"
    assert (refused.code, refused.param, refused.rules) == ("gate_refused", "force", failed.stopping)
    rule = refused.details()["rules"][0]
    assert (rule["verdict"], rule["value"], rule["interval"]) == ("fail", 0.52, [0.52, 0.72])


def test_a_win_rate_by_a_model_says_that_its_interval_is_not_of_the_models_own_error() -> None:
    others = {"live.win_rate": Figure(0.6)} | figures_against(EVIDENCE, "v0", serves_the_start=True)
    figures = figures_of(EVIDENCE | {"tax": {"drop": {"value": 0.1, "interval": [0.0, 0.2]}}}, others)
    names = ("win_rate_lower", "helpful_win_rate", "serving_win_rate_upper", "live_win_rate", "tax_drop")
    rates = gate.judge([f"{name} >= 0.5" for name in names], figures, {}).verdicts
    assert [verdict.note for verdict in rates] == [BY_A_MODEL, BY_A_MODEL, BY_A_MODEL, None, None]


def test_a_win_rate_that_is_not_there_says_nothing_of_its_interval() -> None:
    nothing = {"value": None, "interval": None, "count": 0}
    figures = figures_of({"evaluation": {"win_rate_shorter": nothing, "win_rate": {"value": 0.6, "interval": None}}})
    verdicts = gate.judge(["win_rate_shorter >= 0.5", "win_rate_lower >= 0.5"], figures, {}).verdicts
    assert [(verdict.outcome, verdict.note) for verdict in verdicts] == [("not_measured", "no figure yet")] * 2


def test_what_is_no_number_is_not_measured() -> None:
    drops = {"said": True, "half": {"value": 0.1, "interval": [0.0, None]}, "no": {"value": None}}
    figures = figures_of({"tax": drops | {"many": {"value": 0.1, "interval": [0.0, 0.1, 0.2]}}})
    rules = [f"tax.{name} <= 9" for name in ("said", "half_upper", "no", "many_upper")]
    assert {verdict.outcome for verdict in gate.judge(rules, figures, {}).verdicts} == {"not_measured"}


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_what_came_out_as_no_finite_number_passes_no_rule(store: Store, broken: float) -> None:
    """Nor as JSON has it, where that is null, as what was not measured is."""
    evaluation = EVIDENCE["evaluation"] | {
        "kl_nats": broken,
        "harm": {"value": 0.1, "interval": [broken, 0.2]},
        "flattery": 0.1,
        "reference_flattery": {"value": broken},
    }
    preference = {"objectives": {"helpful": {"calibration_error": broken}, "harmless": {"calibration_error": 0.1}}}
    live = {"live_win_rate": Figure()}
    names = ["evaluation.kl_nats", "kl_nats", "kl_nats_upper", "harm", "harm_lower", "calibration_error"]
    names += ["live_win_rate", "refusals"]
    rules = [f"{name} {compare} 0.5" for name in names for compare in ("<=", ">=")] + ["flattery <= serving"]
    evidence = {"evaluation": evaluation, "preference": preference}
    candidate(store, evidence)
    judged = store.read(gatekeeper.look, 1, GateSettings(rules=rules, advice=[]))
    assert [verdict.outcome for verdict in judged.verdicts] == ["fail"] * 12 + ["not_measured"] * 4 + ["fail"]
    assert "kl_nats <= 0.5 (it came out as no finite number)" in [verdict.said() for verdict in judged.stopping]
    assert not gate.judge(["kl_nats >= 0.5"], figures_of(evidence, live), {}).passes, "before the record has it, too"
    # Measured again it counts.
    store.write(policies.evaluated_again, 1, EVIDENCE["evaluation"], actor="test")
    kept = store.read(policies.get, 1).evidence
    assert kept["not_finite"] == ["preference.objectives.helpful.calibration_error"]
    assert store.read(gatekeeper.look, 1, GateSettings(rules=["kl_nats <= 9"], advice=[])).passes


def test_a_rule_sees_the_worst_case() -> None:
    live = {"live.win_rate": Figure(0.6, low=Figure(0.45, note="without the loudest"), high=Figure(0.7))}
    figures = figures_of({}, live)
    for rule, value in (("> 0.5", 0.45), (">= 0.5", 0.45), ("< 0.65", 0.7), ("<= 0.65", 0.7)):
        (verdict,) = gate.judge([f"live_win_rate {rule}"], figures, {}).verdicts
        assert (verdict.outcome, verdict.value) == ("fail", value), rule
        assert verdict.note == ("without the loudest" if value == 0.45 else None)


def test_a_rule_is_kept_without_the_space_around_it() -> None:
    rule = gate.parse("  harm <= serving + 0.01\n")
    assert rule == gate.Rule("harm <= serving + 0.01", "harm", None, "<=", 0.01, of_serving=True)


def test_what_is_not_known_of_what_serves_is_said() -> None:
    (verdict,) = gate.judge(["kl_nats_upper <= serving"], figures_of(EVIDENCE), {}).verdicts
    expected = ("not_measured", 1.8, (1.2, 1.8), None, "not known of what serves")
    assert (verdict.outcome, verdict.value, verdict.interval, verdict.bound, verdict.note) == expected


def candidate(store: Store, evidence: dict) -> None:
    store.write(policies.register_start, "policies/v0", "d0", {})
    epoch = store.write(leases.acquire, leases.LEARNER, "test", 600.0)
    made = Provenance(0, "itr_1", "dataset", {}, 1, evidence)
    store.write(policies.publish, 1, "policies/v1", "d1", made, epoch=epoch)


def test_the_default_gate_over_a_record(store: Store) -> None:
    candidate(store, EVIDENCE)
    store.read(gatekeeper.check, 1, GateSettings())
    said = store.read(gatekeeper.described, 1, GateSettings())
    assert said["against"] == "v0" and said["passes"]
    assert {rule["rule"]: rule["verdict"] for rule in said["rules"] if rule["blocks"]} == {
        "win_rate_upper >= 0.5": "pass",
        "serving_win_rate_upper >= 0.5": "pass",
        "tax_drop_lower <= 0.02": "not_measured",
        "harm_lower <= serving": "not_measured",
        "live_win_rate_upper >= 0.5": "not_measured",
    }
    assert store.read(gatekeeper.look, 0, GateSettings()).passes, "the start may always serve"
    assert store.read(gatekeeper.described, 0, GateSettings())["against"] is None, "it serves"


def test_live_votes_against_a_candidate_stop_it(store: Store) -> None:
    candidate(store, EVIDENCE)
    for rater in range(8):
        for _ in range(5):
            vote_between(store, winner=0, loser=1, rater=f"r{rater}")
    count_all(store)
    with pytest.raises(gate.GateRefused, match=r"live_win_rate_upper >= 0\.5"):
        store.read(gatekeeper.check, 1, GateSettings())
    figures = store.read(
        lambda session: gatekeeper.figures(session, policies.get(session, 1), policies.serving(session), GateSettings())
    )
    assert (figures["live_votes"].value, figures["live_raters"].value, figures["live_win_rate"].value) == (40, 8, 0)
    (live,) = store.read(gatekeeper.described, 1, GateSettings())["live"]
    rate = {"value": 0, "interval": pytest.approx((0, 0.0876), abs=1e-4)}
    assert live == {
        "against": "v0", "votes": 40, "raters": 8, "win_rate": rate, "objectives": {"helpful": rate, "harmless": None}
    }  # fmt: skip


def test_against_the_starting_policy_the_reference_counts(store: Store) -> None:
    """It has no evidence of its own, but each version was measured against it."""
    rules = ["harm <= serving", "evaluation.objectives.helpful.score >= serving"]
    objectives = {"helpful": {"score": {"value": 0.4, "interval": [0.3, 0.5]}, "reference_score": {"value": 0.1}}}
    evidence = {"evaluation": {"harm": {"value": 0.2}, "reference_harm": {"value": 0.1}, "objectives": objectives}}
    candidate(store, evidence)
    harm, score = store.read(gatekeeper.look, 1, GateSettings(rules=rules, advice=[])).verdicts
    assert (harm.outcome, harm.bound) == ("fail", 0.1)
    assert (score.outcome, score.value, score.bound) == ("pass", 0.4, 0.1)


def test_a_win_rate_against_what_serves_counts_only_while_that_serves(store: Store) -> None:
    """Measured against v1, it says nothing of v2; against the start the evaluation itself speaks."""
    against_v1 = {"win_rate": {"value": 0.3, "interval": [0.2, 0.4]}, "serving": {"version": "v1"}}
    against_v1["serving"]["win_rate"] = {"value": 0.8, "interval": [0.7, 0.9]}
    for serving, outcome in (("v0", "fail"), ("v1", "pass"), ("v2", "not_measured")):
        figures = figures_against({"evaluation": against_v1}, serving, serves_the_start=serving == "v0")
        found = figures_of({"evaluation": against_v1}, figures)
        (verdict,) = gate.judge(["serving_win_rate >= 0.5"], found, {}).verdicts
        assert verdict.outcome == outcome, serving
    assert verdict.note == "it was measured against v1, v2 serves now"
    assert found["win_rate"].value == 0.3, "which was measured against the start"
    alone = figures_against(EVIDENCE, "v2", serves_the_start=False)
    assert alone["serving.win_rate"].note == "it was measured against the start alone, v2 serves now"


def test_a_version_without_evidence_is_refused(store: Store) -> None:
    candidate(store, {})
    with pytest.raises(gate.GateRefused, match=r"win_rate_upper >= 0\.5 \(not measured: no figure yet\)"):
        store.read(gatekeeper.check, 1, GateSettings())
