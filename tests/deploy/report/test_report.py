"""The report holds the evidence, is whole by itself, and what others wrote in it is inert."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from deploy.report import render
from feedback import gate
from feedback.figures import figures_of
from feedback.tax.measuring import compare
from tests.serve.pages.evidence import STEPS, evaluation, frontier, guard, ppo_step, preference, watch

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def policy(evidence: dict[str, Any]) -> dict[str, Any]:
    judged = gate.judge(["win_rate_lower >= 0.5", "tax_drop_lower <= 0.02"], figures_of(evidence), {})
    live = {
        "against": "v0",
        "votes": 40,
        "raters": 8,
        "win_rate": {"value": 0.61, "interval": [0.5, 0.7]},
        "objectives": {},
    }
    return {
        "version": "v1", "state": "candidate", "parent": "v0", "digest": "sha256:1", "iteration": "itr_1",
        "dataset": "d", "dataset_counts": {"train": 500, "watch": 70, "heldout": 60},
        "settings": {"seed": 1}, "seed": 1, "evidence": evidence, "created": 1790000000,
        "gate": {"against": "v0", **judged.as_json(), "live": [live]},
    }  # fmt: skip


def full_evidence() -> dict[str, Any]:
    samples = [{"messages": [{"role": "user", "content": HOSTILE}], "reference": HOSTILE, "candidate": "better"}]
    tax = compare({"sums": [1, 1, 0, 1]}, {"sums": [0, 1, 0, 1]}) | {"before": "v0", "after": "v1", "measured_at": 1.0}
    return {
        "evaluation": evaluation(0.7, "v3") | {"samples": samples},
        "preference": preference(),
        "watch": watch(),
        "ppo": [ppo_step(step) for step in range(1, STEPS + 1)],
        "guard": guard(),
        "frontier": frontier(),
        "dpo": [{"step": step, "preferred_nats": step, "other_nats": -step} for step in (1, 2, 3)],
        "tax": tax,
        "strange_prompts": {
            "trained": True,
            "ordinary": 195,
            "held_out": 36,
            "examples": 10,
            "held_out_harmful": 15,
            "auroc": {"harmful": 0.76, "harmful_without_examples": 0.68, "odd": 1.0, "odd_without_examples": 1.0},
            "threshold": 84.2,
            "refused": {"ordinary": 0.03, "harmful": 0.2, "odd": 1.0},
            "sha256": "0",
        },
        "another": {"figure": HOSTILE},
    }


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(page)
    return parser.found


def test_all_evidence_is_there() -> None:
    entry = {"created": 1.0, "actor": "key_1", "action": "policy.promote", "reason": HOSTILE,
             "data": {"force": True, "outcome": "failed", "detail": "no engine"}}  # fmt: skip
    rating = {"objective": "helpful", "version": "v1", "rating": 87.0, "interval": [10.0, 160.0], "votes": 42}
    page = render(policy(full_evidence()), [rating], [entry])
    said = re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))
    for part in (
        "It passes", "win_rate_lower &gt;= 0.5", "0.6 to 0.8", "length_ratio", "1.19", "sums", "0.25", "no engine",
        "87", "Reward against distance", "Scores by step", "Calibration of the preference model", "another",
        "policy.promote, forced, failed", "watch model", "live votes", "0.61 (0.5 to 0.7)", "v3", "complies with harm",
        "distinct 2", "Helpful against harmless", "published are the weights after step 8",
        "win rate against v3 at equal length", "Calibration of the watch model",
        "watch model helpful 30 0.7 (0.52 to 0.83)", "195 ordinary ones", "20.0 %",
        "500 to learn from, 70 to watch by, 60 to measure on",
    ):  # fmt: skip
        assert part in said, part
    assert page.count("<svg") == 6 and page.count("polyline") == 2 + 3 + 2 + 2 + 2 + 2


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"tasks": [1]},
        {"tasks": {"sums": 0.5}},
        {"drop": {"value": "much"}},
        full_evidence()["tax"] | {"measured_at": 1.79e18},
        full_evidence()["tax"] | {"measured_at": 1e300},
    ],
)
def test_evidence_of_another_form_is_there_as_it_is(found: dict[str, Any]) -> None:
    page = render(policy(full_evidence() | {"tax": found}), [], [])
    assert "Alignment tax" not in page and "<summary>tax</summary>" in page
    assert page.count("<svg") == 6 and "<summary>another</summary>" in page


def test_it_runs_nothing_and_fetches_nothing() -> None:
    page = render(policy(full_evidence()), [], [])
    found = tags(page)
    assert not {tag for tag, _ in found} & {"script", "img", "link", "iframe", "object", "form", "base"}
    assert not [attribute for _, attributes in found for attribute in attributes if attribute.startswith("on")]
    assert not [attributes for _, attributes in found if attributes.keys() & {"src", "href"}]
    assert "&lt;script&gt;alert(1)" in page and "<script" not in page
    assert "default-src 'none'" in page


def test_a_version_without_evidence_has_a_report_too() -> None:
    start = policy({}) | {"version": "v0", "parent": None, "gate": {"against": None, "passes": True, "rules": []}}
    page = render(start | {"seed": None, "dataset": None, "iteration": None}, [], [])
    assert "needs no evidence" in page and "Nothing was decided" in page
