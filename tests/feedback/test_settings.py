from pathlib import Path

import pytest
from kombu.utils.url import url_to_parts
from pydantic import ValidationError
from redis.connection import parse_url

from feedback.errors import SettingsInvalid
from feedback.settings import load_settings
from feedback.store import Store

SHORT_DPO = (
    "[learner]\ntrainer = 'dpo'\n[learner.preference]\nmax_reply_tokens = 64\n[learner.evaluation]\nmax_new_tokens = 64"
)


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


def test_whatever_is_in_the_path_of_a_home_its_record_and_its_redis_are_there(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "a home?x=1#%41")
    store = Store(settings.record_url)
    store.migrate()
    store.close()
    assert [path.name for path in settings.home.iterdir()] == ["record.db"]
    assert parse_url(settings.broker_url.replace("redis+socket", "unix"))["path"] == str(
        settings.run_dir / "redis.sock"
    )
    assert f"/{url_to_parts(settings.broker_url).path}" == str(settings.run_dir / "redis.sock")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load_settings().policy = "x"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[serve]\nport = 'x'", "serve.port"),
        ("[serve]\nprot = 1", "serve.prot"),
        ("[engine]\nslots = 0", "engine.slots"),
        ("[serve", "tandem.toml cannot be read"),
        ("[learner.ppo]\nsetps = 1", "learner.ppo.setps: there is no such setting"),
        ("database_url = 'mysql://ann:secret@db/x'", r"database_url: not postgresql\+psycopg://"),
        ("database_url = 'postgresql://ann:secret@db/x'", r"database_url: not postgresql\+psycopg://"),
        ("database_url = 'postgresql+psycopg://ann:sec/ret@db/x'", "database_url: host and port"),
        ("redis_url = 'http://:secret@x'", "redis_url: not redis://"),
        ("redis_url = 'redis://x:port/0'", "redis_url: host and port"),
        ("[tracing]\nendpoint = 'http://collector:x'", "tracing.endpoint: host and port"),
        ("[serve]\nhost = ''", "serve.host"),
        ("policy = ''", "policy: String should have at least 1 character"),
        (
            "[serve]\nallowed_origins = ['https://app.example.com/']",
            "serve.allowed_origins: 'https://app.example.com/' is",
        ),
        ("[feedback]\nstrength_labels = [0.9, 0.8, 0.7, 0.6]", "feedback.strength_labels: the probabilities"),
        ("[feedback]\nheldout_share = 0.6\nwatch_share = 0.4", "feedback: heldout_share and watch_share must"),
        ("[engine]\nslots = 'none'", "engine.slots"),
        ("[learner.ppo]\nepisodes_per_step = 100", "learner.ppo.*multiple of episodes_per_minibatch"),
        ("[learner.ppo]\nadvantage = 'rloo'", "learner.ppo.*replies_per_prompt"),
        ("[learner.ppo]\nmax_new_tokens = 513", r"learner.ppo.max_new_tokens is above .*max_reply_tokens \(512\)"),
        ("[learner.preference]\nmax_reply_tokens = 127", "learner.ppo.max_new_tokens is above"),
        (f"{SHORT_DPO}\nfrontier = 'trained'", "learner.ppo.max_new_tokens is above"),
        ("[learner.evaluation]\nmax_new_tokens = 600", "learner.evaluation.max_new_tokens is above"),
        ("[learner.ppo]\nkl_controller = 'adaptive'\nkl_coefficient = 0", "learner.ppo.*kl_coefficient"),
        ("[learner.ppo.reward_weights]\nhelpfull = 1.0", "learner.ppo.reward_weights.*helpfull"),
        ("[learner.ppo.reward_weights]\noverall = 0.0", "learner.ppo.reward_weights.*nothing"),
        ("[learner.dpo.objective_weights]\noverall = 1.0", "learner.dpo.objective_weights.*overall"),
        (
            "[learner.preference.objective_weights]\nhelpful = 3\nharmless = -1",
            "learner.preference.objective_weights.harmless",
        ),
        ("[learner]\nseed = 1_000_000_000_000", "learner.seed"),
        ("[learner.ppo]\nkl_coefficient = inf", "learner.ppo.kl_coefficient"),
        ("[learner.ppo.reward_weights]\noverall = nan", "learner.ppo.reward_weights.overall"),
    ],
)
def test_bad_values_are_named(tmp_path: Path, toml: str, said: str) -> None:
    (tmp_path / "tandem.toml").write_text(toml)
    with pytest.raises(SettingsInvalid, match=said) as raised:
        load_settings()
    assert "secret" not in raised.value.message


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TANDEM_DATABSE_URL", "sqlite:////tmp/x", "TANDEM_DATABSE_URL: there is no such setting"),
        ("TANDEM_PORT", "8081", "TANDEM_PORT: there is no such setting"),
        ("TANDEM_SREVE__PORT", "8081", "TANDEM_SREVE__PORT: there is no such setting"),
        ("TANDEM_SERVE__PROT", "8081", "serve.prot: there is no such setting"),
        ("TANDEM_ENGINE__EXTRA_ARGS", "--seed 1", "TANDEM_ENGINE__...: in the environment lists"),
        ("REDIS_URL", "localhost:6379", "REDIS_URL: not redis://"),
    ],
)
def test_bad_variables_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid, match=said):
        load_settings()


def test_what_kubernetes_says_of_a_service_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_PORT", "tcp://10.0.0.1:8080")
    for name in ("SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT_8080_TCP_ADDR", "REDIS_SERVICE_PORT"):
        monkeypatch.setenv(f"TANDEM_{name}", "10.0.0.1")
    with pytest.raises(SettingsInvalid, match="TANDEM_PORT"):
        load_settings()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert load_settings().serve.port == 8080


def test_how_long_ppo_writes_is_nothing_to_who_runs_none(tmp_path: Path) -> None:
    (tmp_path / "tandem.toml").write_text(SHORT_DPO)
    assert load_settings().learner.preference.max_reply_tokens == 64


def test_none_is_said_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tandem.toml").write_text(
        "database_url = 'sqlite:////tmp/x'\npolicies_url = 'none'\n"
        "[loop]\nvotes_per_iteration = 'none'\n[learner.ppo]\nwatch_patience_steps = 'none'"
    )
    for name in ("LOOP__INTERVAL_S", "DATABASE_URL", "REDIS_URL"):
        monkeypatch.setenv(f"TANDEM_{name}", "none")
    settings = load_settings()
    assert (settings.database_url, settings.redis_url, settings.policies_url) == (None, None, None)
    assert (settings.loop.interval_s, settings.loop.votes_per_iteration) == (None, None)
    assert settings.learner.ppo.watch_patience_steps is None


def test_an_empty_variable_is_as_none_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TANDEM_HOME", "TANDEM_DATABASE_URL", "TANDEM_SERVE__HOST"):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert settings.home == tmp_path / ".tandem"
    assert (settings.database_url, settings.serve.host) == (None, "127.0.0.1")
