"""The checks of a deployment find nothing in what is here, and something in what was spoilt."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.check import ROOT
from deploy.checks import Finding, chart, compose, image, rules, units

DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
RECIPE = DEPLOY / "images" / "Dockerfile"
TOOLS = ROOT / ".venv" / "deployment"


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `make check-deploy` has installed, if anything."""
    if TOOLS.exists():
        monkeypatch.syspath_prepend(str(TOOLS))


def wrong(findings: list[Finding]) -> str:
    return "; ".join(one.detail for one in findings if one.verdict == "wrong")


def needed(findings: list[Finding]) -> list[Finding]:
    skipped = [one.detail for one in findings if one.verdict == "skipped"]
    if skipped:
        pytest.skip(f"{skipped[0]}; `make check-deploy` brings what can be had")
    return findings


def spoilt(path: Path, to: Path, old: str, new: str) -> Path:
    copy = to / path.name
    text = path.read_text()
    assert old in text
    copy.write_text(text.replace(old, new, 1))
    return copy


def test_compose_is_well() -> None:
    assert wrong(compose.check(COMPOSE)) == ""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('user: "10001:10001"', 'user: "0:0"', "api runs as root"),
        ("  read_only: true\n", "", "api can write its root"),
        ("cap_drop: [ALL]", "cap_drop: [NET_RAW]", "api keeps capabilities"),
        ('["no-new-privileges:true"]', "[]", "api may gain privileges"),
        ("redis:7.2.5-bookworm", "redis", "redis's image is not pinned"),
        ("  pull_policy: never\n", "", "api's image may be somebody else's"),
        ("    internal: true", "    internal: false", "`inside` has a way out"),
        ("127.0.0.1:8080}:8080", "0.0.0.0:8080}:8080", "open to more than this machine"),
        ("    volumes: [\"redis:/data\"]", "    ports: ['127.0.0.1:6379:6379']", "redis is open to the host"),
        ("  network_mode: none", "  networks: [inside]", "engines has a network"),
        ("env_file: [settings.env]", "env_file: [settings.env, secrets/tandem.env]", "engines is given secrets"),
        ("command: [python, -m, feedback.scheduler]", "command: [python, -m, feedback.timetable]", "is not there"),
        ("--app=learner.worker", "--app=learner.labourer", "learner.labourer, which is not there"),
    ],
)  # fmt: skip
def test_what_loosens_compose_is_found(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert said in wrong(compose.check(spoilt(COMPOSE, tmp_path, old, new)))


def test_no_operators_key_is_written_into_a_command_line() -> None:
    told = [COMPOSE, DEPLOY / "helm" / "tandem" / "templates" / "NOTES.txt"]
    for text in (path.read_text() for path in told):
        assert "TANDEM_KEY" in text and "TANDEM_KEY=$" not in text


def test_what_is_not_compose_is_found(tmp_path: Path) -> None:
    findings = compose.check(spoilt(COMPOSE, tmp_path, "    healthcheck:", "    healthchecks:"))
    assert "healthchecks" in wrong(needed(findings))


def test_the_image_is_well() -> None:
    assert wrong(image.check(RECIPE, ROOT)) == ""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("USER 10001:10001", "", "runs as root"),
        ("ARG BASE=docker.io/library/python:3.11.9-slim-bookworm", "ARG BASE=docker.io/library/python", "has no tag"),
        ("FROM ${BASE} AS build", "FROM debian AS build", "something else than BASE"),
        ("COPY serve serve", "COPY server server", "server is not there"),
        ("COPY serve serve", "COPY docs docs", "docs is not sent"),
        ("RUN python deploy/bootstrap.py", "RUN pip install .", "in another way than by the lock"),
        (" --product-only", "", "what only checks and tests need"),
    ],
)
def test_what_spoils_the_image_is_found(tmp_path: Path, old: str, new: str, said: str) -> None:
    shutil.copy(RECIPE.with_name("Dockerfile.dockerignore"), tmp_path)
    assert said in wrong(image.check(spoilt(RECIPE, tmp_path, old, new), ROOT))


def copied(folder: Path, to: Path, name: str, change: Callable[[str], str]) -> Path:
    copy = to / folder.name
    shutil.copytree(folder, copy)
    before = (copy / name).read_text()
    (copy / name).write_text(change(before))
    assert (copy / name).read_text() != before
    return copy


def test_the_units_are_well() -> None:
    assert wrong(needed(units.check(DEPLOY / "systemd"))) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("Restart=on-failure", "Restart=sometimes"), "restart specifier"),
        (lambda text: text.replace("ProtectSystem=strict", "ProtectsSystem=strict"), "ProtectsSystem"),
        (lambda text: text.replace("User=tandem", "User=root").replace("CapabilityBoundingSet=\n", "")
         .replace("SystemCallFilter=@system-service", ""), "exposure level"),
    ],
)  # fmt: skip
def test_what_spoils_a_unit_is_found(tmp_path: Path, change: Callable[[str], str], said: str) -> None:
    folder = copied(DEPLOY / "systemd", tmp_path, "tandem.service", change)
    assert said in wrong(needed(units.check(folder)))


def test_the_rules_are_well() -> None:
    assert wrong(needed(rules.check(DEPLOY / "alerts"))) == ""


@pytest.mark.parametrize(
    "change", [lambda text: text.replace("sum by (", "sum bye ("), lambda text: text.replace("> 120", "> 12000")]
)
def test_what_spoils_a_rule_is_found(tmp_path: Path, change: Callable[[str], str]) -> None:
    folder = copied(DEPLOY / "alerts", tmp_path, "tandem.rules.yml", change)
    assert wrong(needed(rules.check(folder))) != ""


def test_the_chart_is_well() -> None:
    findings = needed(chart.check(DEPLOY / "helm" / "tandem"))
    assert wrong(findings) == ""
    assert len(findings) >= 11


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("templates/_parts.tpl", "runAsNonRoot: true", "runAsNonRoot: false", "may run as root"),
        ("templates/_parts.tpl", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "can write its root"),
        ("templates/_parts.tpl", "drop: [ALL]", "drop: [NET_RAW]", "keeps capabilities"),
        ("templates/_parts.tpl", "ServiceAccountToken: false", "ServiceAccountToken: true", "a key to"),
        ("templates/network.yaml", "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress]", "no policy closes"),
        ("templates/network.yaml", "{port: 8080, protocol: TCP}", "{port: 8000, protocol: TCP}", "[8000] are open"),
        ("templates/api.yaml", "maxUnavailable: 0", "maxUnavailabel: 0", "maxUnavailabel"),
        ("templates/api.yaml", "containerPort: 8080", "containerPort: 8081", "api has the port 8081"),
        ("templates/api.yaml", "name: scorer", "name: scored", "scorer is not started"),
        ("templates/workers.yaml", "replicas: 1", "replicas: one", "votes"),
        ("templates/learner.yaml", 'include "tandem.pod"', 'include "tandem.pot"', "tandem.pot"),
        ("values.yaml", "  size: 50Gi", "  size: large", "size"),
        ("values.yaml", "settings: {}", "settings: {TANDEM_REDIS_URL: redis://x}", "TANDEM_REDIS_URL"),
    ],
)  # fmt: skip
def test_what_spoils_the_chart_is_found(tmp_path: Path, file: str, old: str, new: str, said: str) -> None:
    folder = copied(DEPLOY / "helm" / "tandem", tmp_path, file, lambda text: text.replace(old, new, 1))
    assert said in wrong(needed(chart.check(folder)))
