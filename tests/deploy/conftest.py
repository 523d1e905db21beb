"""What tests of a home begin with."""

from pathlib import Path

import pytest

from feedback.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Those of a home that is not there yet, and has its record in it."""
    monkeypatch.delenv("TANDEM_DATABASE_URL", raising=False)
    return load_settings(home=tmp_path / "home")
