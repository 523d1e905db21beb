"""Lengths in an iteration's settings fit the policy's positions."""

from pathlib import Path

import orjson
import pytest

from feedback.settings import LearnerSettings
from learner.iteration.fitting import fit_to


def fitted(folder: Path, **learner: object) -> LearnerSettings:
    (folder / "config.json").write_bytes(orjson.dumps({"max_position_embeddings": 512}))
    return fit_to(LearnerSettings.model_validate(learner), folder)


def test_a_reply_has_at_most_half_of_the_positions_and_the_prompt_the_rest(tmp_path: Path) -> None:
    learner = fitted(tmp_path)
    assert (learner.preference.max_prompt_tokens, learner.preference.max_reply_tokens) == (256, 256)
    assert (learner.ppo.max_prompt_tokens, learner.ppo.max_new_tokens) == (384, 128)
    # What the preference model reads is as long as what evaluation has written.
    longest = fitted(tmp_path, evaluation={"max_new_tokens": 512}).evaluation.max_new_tokens
    assert longest <= learner.preference.max_reply_tokens
    short = {"max_prompt_tokens": 10, "max_new_tokens": 20}
    assert fitted(tmp_path, ppo=short).ppo == LearnerSettings.model_validate({"ppo": short}).ppo


@pytest.mark.parametrize("replies", [{"ppo": {"max_new_tokens": 48}}, {"evaluation": {"max_new_tokens": 400}}])
def test_what_evaluation_asks_leaves_room_for_its_replies(tmp_path: Path, replies: dict[str, object]) -> None:
    learner = fitted(tmp_path, **replies)
    assert learner.ppo.max_prompt_tokens + max(learner.ppo.max_new_tokens, learner.evaluation.max_new_tokens) == 512
