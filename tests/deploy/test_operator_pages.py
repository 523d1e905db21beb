"""What the pages for operators name is there: files, settings, commands, alerts."""

import re
from pathlib import Path

import pytest
import typer

from deploy.command import app
from feedback.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/operations.md", "docs/security.md")


def quoted(page: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(r"`([^`\n]+)`", text) + re.findall(r"^    (.+)$", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_files_are_there(page: str) -> None:
    named = [re.sub(r"[#:].*", "", name) for name in quoted(page) if re.match(r"(tests|deploy|docs|serve)/", name)]
    assert len(named) >= 3
    assert [name for name in named if not list(ROOT.glob(name))] == []


@pytest.mark.parametrize("page", PAGES)
def test_settings_are_there(page: str) -> None:
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    for name in quoted(page):
        section, _, setting = name.partition(".")
        if section in sections and re.fullmatch(r"\w+", setting) and hasattr(sections[section], "model_fields"):
            assert setting in sections[section].model_fields, name


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_there(page: str) -> None:
    command = typer.main.get_command(app)
    for line in quoted(page):
        words = line.split()
        if len(words) < 2 or words[0] != "tandem" or line.startswith("tandem@"):
            continue
        found = command.commands.get(words[1])  # type: ignore[attr-defined]
        assert found is not None, line
        below = getattr(found, "commands", None)
        assert below is None or words[2] in below, line
        chosen = found if below is None else below[words[2]]
        options = {option for parameter in chosen.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_every_part_of_the_threat_model_names_what_holds_it() -> None:
    text = (ROOT / "docs/security.md").read_text()
    covered = text.partition("## What is covered")[2].partition("## What is not covered")[0]
    rows = [line for line in covered.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 12
    for row in rows:
        assert re.search(r"`(tests/|make |deploy/)", row), row
