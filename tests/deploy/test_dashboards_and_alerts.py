"""What is drawn and what wakes people exists: metrics with those names and labels, and pages to read on."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from serve.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "alerts" / "tandem.rules.yml"
BOARD = ROOT / "deploy" / "dashboards" / "tandem.json"
# What Prometheus itself adds, and what a query may aggregate by besides.
FROM_PROMETHEUS = {"up": {"job", "instance"}}
EVERYWHERE = {"instance", "job", "le"}


def exposed() -> dict[str, set[str]]:
    """Every series by its name in a query, with its labels."""
    series: dict[str, set[str]] = dict(FROM_PROMETHEUS)
    for metric in vars(Metrics()).values():
        if not hasattr(metric, "_labelnames"):
            continue
        family = next(iter(metric.collect()))
        labels = set(metric._labelnames)
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        series |= {f"{family.name}{suffix}": labels for suffix in suffixes}
    return series


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def queries() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    board = json.loads(BOARD.read_text())
    yield from (target["expr"] for panel in board["panels"] for target in panel.get("targets", []))
    yield from (annotation["expr"] for annotation in board["annotations"]["list"])
    yield from (variable["definition"] for variable in board["templating"]["list"] if "definition" in variable)


def test_there_are_queries_and_metrics() -> None:
    assert len(list(queries())) > 30
    assert exposed()["tandem_engine_restarts_total"] == {"slot"}
    assert "tandem_swap_seconds_bucket" in exposed()


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_every_metric_and_label_in_a_query_exists(query: str) -> None:
    series = exposed()
    names = set(re.findall(r"\b(?:tandem_\w+|up)\b", query))
    assert names
    assert names <= series.keys()
    matched = {label for labels in re.findall(r"\{([^{}]*)\}", query) for label in re.findall(r"(\w+)\s*[=!]", labels)}
    grouped = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", query) for label in labels.split(",")}
    known = set().union(*(series[name] for name in names)) | EVERYWHERE
    assert matched | grouped <= known


def test_every_metric_is_drawn_or_wakes_somebody() -> None:
    used = {name for query in queries() for name in re.findall(r"\btandem_\w+\b", query)}
    families = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in used}
    wanted = {family.name for family in Metrics().registry.collect()}
    assert wanted <= families


def test_labels_of_a_legend_are_those_of_its_query() -> None:
    series = exposed()
    for panel in json.loads(BOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            names = re.findall(r"\b(?:tandem_\w+)\b", target["expr"])
            known = set().union(*(series[name] for name in names)) | EVERYWHERE
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= known, panel["title"]


def test_every_alert_has_a_severity_and_a_part_of_the_runbook_that_is_there() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in anchors, rule["alert"]


def test_panels_are_apart_from_each_other() -> None:
    places = [panel["gridPos"] for panel in json.loads(BOARD.read_text())["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
