from pathlib import Path

import pytest
from pydantic import ValidationError

from feedback.errors import SettingsInvalid
from feedback.settings import load_settings


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TANDEM_HOME", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


def test_where_a_value_comes_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert load_settings(home=home).serve.port == 8080
    (home / "tandem.toml").write_text("[serve]\nport = 1\nhost = '0.0.0.0'\n")
    assert load_settings(home=home).serve.port == 1
    (tmp_path / "tandem.toml").write_text("[serve]\nport = 2\n")
    assert (load_settings(home=home).serve.port, load_settings(home=home).serve.host) == (2, "0.0.0.0")
    monkeypatch.setenv("TANDEM_SERVE__PORT", "3")
    assert load_settings(home=home).serve.port == 3
    assert load_settings(home=home, serve={"port": 4}).serve.port == 4


def test_defaults_that_follow_from_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = load_settings(home="h")
    assert settings.home == tmp_path / "h"
    assert settings.record_url == f"sqlite:///{tmp_path}/h/record.db"
    assert settings.broker_url == f"redis+socket://{tmp_path}/h/run/redis.sock"
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    assert settings.broker_url == "redis://elsewhere"
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "other"))
    assert load_settings().home == tmp_path / "other"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load_settings().policy = "x"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[serve]\nport = 'x'", "serve.port"),
        ("[serve]\nprot = 1", "serve.prot"),
        ("[engine]\nslots = 0", "engine.slots"),
        ("[serve", "cannot be read"),
    ],
)
def test_bad_values_are_named(tmp_path: Path, toml: str, said: str) -> None:
    (tmp_path / "tandem.toml").write_text(toml)
    with pytest.raises(SettingsInvalid, match=said):
        load_settings()
