"""docs/learning.md explains every figure that PPO leaves as evidence."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from learner.ppo import PPOEnd, PPOStep

PAGE = Path(__file__).resolve().parents[2] / "docs" / "learning.md"


@pytest.mark.parametrize(("heading", "figures"), [("### `ppo`", PPOStep), ("### `guard`", PPOEnd)])
def test_each_figure_has_its_line(heading: str, figures: type) -> None:
    section = PAGE.read_text().partition(heading)[2].partition("\n### ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(documented) == sorted(field.name for field in fields(figures))
