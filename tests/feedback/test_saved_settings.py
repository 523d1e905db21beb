"""Settings that an earlier release saved can be read, as far as there still are such settings."""

import logging

import pytest

from feedback.errors import SettingsInvalid
from feedback.saved_settings import read_saved
from feedback.settings import LearnerSettings


def test_what_this_release_saves_it_reads_back() -> None:
    settings = LearnerSettings.model_validate({"seed": 3, "ppo": {"steps": 5}})
    assert read_saved(settings.model_dump(mode="json")) == settings


def test_settings_that_are_gone_are_passed_over_and_named(caplog: pytest.LogCaptureFixture) -> None:
    saved = LearnerSettings().model_dump(mode="json") | {"seed": 3, "momentum": 0.5}
    saved["ppo"] |= {"steps": 5, "lambda_decay": 0.1}
    saved["ppo"]["lora"] |= {"scaling": "rank"}
    del saved["evaluation"]
    before = repr(saved)
    with caplog.at_level(logging.WARNING):
        settings = read_saved(saved)
    assert (settings.seed, settings.ppo.steps) == (3, 5)
    assert settings.evaluation == LearnerSettings().evaluation
    named = " ".join(record.getMessage() for record in caplog.records)
    for name in ("learner.momentum", "learner.ppo.lambda_decay", "learner.ppo.lora.scaling"):
        assert name in named
    assert repr(saved) == before


def test_weights_of_what_was_never_scored_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """They counted nothing in the release that took them, so that what was begun with them goes on as it was."""
    with caplog.at_level(logging.WARNING):
        settings = read_saved({
            "ppo": {"reward_weights": {"overall": 2.0, "honest": 1.0}, "momentum": 0.5},
            "preference": {"objective_weights": {"helpful": 1.0, "honest": 1.0, "kind": 1.0}},
        })  # fmt: skip
    assert settings.ppo.reward_weights == {"overall": 2.0}
    assert settings.preference.objective_weights == {"helpful": 1.0}
    assert "learner.ppo.reward_weights.honest" in caplog.text
    with pytest.raises(SettingsInvalid, match=r"learner\.ppo\.reward_weights: .*weighs nothing.*Go back to that one"):
        read_saved({"ppo": {"reward_weights": {"honest": 1.0}}})


def test_a_controller_that_had_nothing_to_move_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """It left the coefficient at 0, as a fixed one does: what was trained with it is still judged and served."""
    saved = LearnerSettings().model_dump(mode="json")
    saved["ppo"] |= {"kl_controller": "adaptive", "kl_coefficient": 0.0, "momentum": 0.5}
    with caplog.at_level(logging.WARNING):
        ppo = read_saved(saved).ppo
    assert (ppo.kl_controller, ppo.kl_coefficient) == ("fixed", 0.0)
    assert "learner.ppo.kl_controller" in caplog.text


def test_a_value_that_can_no_longer_be_had_is_refused_by_name() -> None:
    with pytest.raises(SettingsInvalid, match=r"learner\.trainer"):
        read_saved({"trainer": "reinforce", "momentum": 0.5})
