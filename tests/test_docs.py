"""The documentation is in step with what it documents: commands, settings, routes, metrics."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute, Mount

from deploy.command import reference
from feedback import settings_reference
from feedback.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def test_every_command_is_documented() -> None:
    assert (DOCS / "commands.md").read_text() == reference.render(), "run `make docs`"


def test_every_setting_is_documented() -> None:
    assert (DOCS / "settings.md").read_text() == settings_reference.render(), "run `make docs`"


def test_a_setting_that_takes_any_number_of_values_is_not_said_to_take_two() -> None:
    assert settings_reference.annotation_said(tuple[float, ...]) == "list of float"
    assert settings_reference.annotation_said(tuple[float, float, float]) == "3 of float"


@pytest.mark.parametrize(
    "page", [page for page in DOCS.glob("*.md") if "```toml" in page.read_text()], ids=lambda page: page.name
)
def test_the_examples_of_settings_can_be_used(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for example in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL):
        Path("tandem.toml").write_text(example)
        assert said_in(Settings().model_dump(), tomllib.loads(example))


def said_in(settings: dict[str, Any], example: dict[str, Any]) -> bool:
    """Whether what the example sets is set."""
    return all(
        said_in(settings[name], value) if isinstance(value, dict) else settings[name] == value
        for name, value in example.items()
    )


def test_every_route_is_documented(tmp_path: Path) -> None:
    from serve.app import create_app

    documented = set(re.findall(r"^\| `(\w+ /\S*)` \|", (DOCS / "api.md").read_text(), re.MULTILINE))
    served = routes(create_app(Settings(home=tmp_path)).routes)
    assert "POST /v1/chat/completions" in served
    assert documented == served


def test_the_examples_of_bodies_have_the_fields_of_those() -> None:
    """All that are always there, and none that there is not."""
    from serve.routes.comparisons import ComparisonView
    from serve.routes.lists import Page
    from serve.routes.policies import ChangeView
    from serve.routes.samples import SampleView
    from serve.routes.scores import ScoresBody, ScoresView
    from serve.routes.usage import DayView

    examples = re.findall(r"```json\n(.*?)```", (DOCS / "api.md").read_text(), re.DOTALL)[1:]  # OpenAI's comes first
    forms = [ScoresBody, ScoresView, Page[SampleView], DayView, ComparisonView, ChangeView]
    for form, example in zip(forms, examples, strict=True):
        said = json.loads(example.replace("[..., ", "["))
        assert form.model_validate(said).model_dump(mode="json", exclude_unset=True) == said  # type: ignore[attr-defined]


def test_every_metric_is_documented() -> None:
    from serve.metrics import Metrics

    page = (DOCS / "metrics.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.MULTILINE))
    kept = metrics(Metrics().registry)
    assert ("tandem_http_requests_total", "counter") in kept
    assert documented == kept


def test_every_figure_of_the_gate_is_documented() -> None:
    from feedback.figures import NAMES

    documented = re.findall(r"^\| `(\w+)` \| (.*) \(`(\S+)`\) \|$", (DOCS / "gate.md").read_text(), re.MULTILINE)
    assert documented == [(name, said, path) for name, (path, said) in NAMES.items()]


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
    broken = []
    for page in pages:
        for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken


def anchors(page: str) -> set[str]:
    """What a heading is linked to by: its words in lower case, joined by hyphens, without other signs."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def routes(found: list[BaseRoute]) -> set[str]:
    """`GET /v1/policies/{version}` and so on; what only describes the API or is a page is left out."""
    said = set()
    for route in found:
        below = getattr(route, "original_router", None)
        if below is not None:
            said |= routes(below.routes)
        elif not isinstance(route, Mount) and route.path != "/openapi.json":  # type: ignore[attr-defined]
            said |= {f"{method} {route.path}" for method in route.methods - {"HEAD"}}  # type: ignore[attr-defined]
    return said


def metrics(registry: CollectorRegistry) -> set[tuple[str, str]]:
    """Names as they are exposed, with their types."""
    families = list(registry.collect())
    return {(f"{family.name}_total" if family.type == "counter" else family.name, family.type) for family in families}


def test_every_make_target_is_there() -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    for target in re.findall(r"^make ([\w-]+)", text, re.MULTILINE):
        planned = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert planned.returncode == 0, planned.stderr
