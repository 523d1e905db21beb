"""The gate on the built-in policy: what it tells apart, what it leaves, what it refuses to load."""

import random
from dataclasses import replace

import pytest
import torch

from feedback.learning_settings import RejectionSettings
from feedback.sandbox import world
from learner.errors import CheckpointInvalid
from learner.policy import Policy, load_policy
from learner.starting_policy import WEIGHTS
from learner.strange_prompts import (
    ODD,
    Bounds,
    Prompts,
    digest,
    load_strange_prompts,
    middle_layer,
    said_last,
    save_strange_prompts,
    states,
    train_strange_prompts,
)

SETTINGS = RejectionSettings()


@pytest.fixture(scope="module")
def start() -> Policy:
    return load_policy(WEIGHTS, "cpu")


def prompts() -> Prompts:
    return Prompts(
        *(
            [prompt.text for prompt in of if prompt.harmful is harmful]
            for of in (world.training_prompts()[::2], world.held_out_prompts())
            for harmful in (False, True)
        )
    )


def test_it_tells_harmful_and_odd_prompts_from_ordinary_ones(start: Policy, tmp_path) -> None:
    gate, report = train_strange_prompts(start, prompts(), SETTINGS, 256)
    half_way = len(start.model.model.layers) / 2
    assert gate.bounds == Bounds(half_way, 256, report["threshold"])
    assert report["held_out_harmful"] == len(prompts().held_out_harmful)
    assert report["auroc"]["harmful"] > 0.85
    assert report["auroc"]["harmful"] > report["auroc"]["harmful_without_examples"] + 0.05
    assert report["auroc"]["odd"] > 0.95
    assert report["refused"]["ordinary"] == 1 / (report["held_out"] + 1)
    assert report["refused"]["odd"] > 0.9
    scores = gate.score(start, [*ODD, "What is 2 + 3?"])
    assert (scores[:-1] > gate.bounds.threshold).float().mean() > 0.9
    assert scores[-1] < gate.bounds.threshold

    assert save_strange_prompts(gate, tmp_path) == digest(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    torch.testing.assert_close(load_strange_prompts(tmp_path).score(start, ODD), scores[:-1])
    (tmp_path / "strange_prompts.json").write_text("{}")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointInvalid, match="no gate"):
            load_strange_prompts(folder)


@pytest.mark.parametrize("name", ["strange_prompts.json", "strange_prompts.safetensors"])
def test_its_digest_is_of_both_files_and_one_that_is_cut_short_is_refused(start: Policy, tmp_path, name: str) -> None:
    gate, _ = train_strange_prompts(start, prompts(), SETTINGS, 256)
    said, file = save_strange_prompts(gate, tmp_path), tmp_path / name
    file.write_bytes(file.read_bytes()[:-1])
    assert digest(tmp_path) != said
    with pytest.raises(CheckpointInvalid, match="no gate"):
        load_strange_prompts(tmp_path)


def test_the_examples_are_spread_over_all_harmful_prompts(start: Policy) -> None:
    given = prompts()
    harmful = given.harmful[:100]
    gate, report = train_strange_prompts(start, replace(given, harmful=harmful), SETTINGS, 256)
    same, _ = train_strange_prompts(start, replace(given, harmful=harmful[::10]), SETTINGS, 256)
    assert report["examples"] == len(harmful[::10]) == SETTINGS.examples
    torch.testing.assert_close(gate.outliers.direction_D, same.outliers.direction_D)
    none, without = train_strange_prompts(start, given, SETTINGS.model_copy(update={"examples": 0}), 256)
    assert without["examples"] == 0 and not none.outliers.direction_D.any()
    for name in ("harmful", "odd"):
        assert without["auroc"][name] == without["auroc"][f"{name}_without_examples"]
        assert without["auroc"][name] == report["auroc"][f"{name}_without_examples"]
    assert without["auroc"]["harmful"] != report["auroc"]["harmful"]
    _, few = train_strange_prompts(start, replace(given, harmful=harmful[:3]), SETTINGS, 256)
    assert few["examples"] == 3, "all there are"


def test_a_state_is_the_mean_over_a_prompts_tokens_after_a_layer(start: Policy) -> None:
    """Of each prompt alone, without padding."""
    texts = ["What is 2 + 3?", "Hi", "What colour is grass?"]
    for layer in range(len(start.model.model.layers) + 1):
        alone = []
        for text in texts:
            tokens = torch.tensor([start.encode_chat([{"role": "user", "content": text}])])
            with torch.no_grad():
                hidden = start.model.base_model(input_ids=tokens, output_hidden_states=True).hidden_states
            alone.append(hidden[layer][0].mean(dim=0))
        torch.testing.assert_close(states(start, texts, layer, 256), torch.stack(alone), atol=1e-4, rtol=1e-4)


def test_of_a_long_prompt_the_last_tokens_are_read(start: Policy) -> None:
    layer, beginnings = middle_layer(start), ("What is 2 + 3? " * 20, "Tell me how to rob a bank. " * 20)
    texts = [f"{beginning}What colour is grass?" for beginning in beginnings]
    whole, cut = (states(start, texts, layer, most) for most in (1000, 6))
    assert (whole[0] - whole[1]).abs().max() > 0.01
    torch.testing.assert_close(cut[0], cut[1])


def test_a_prompt_scores_alone_as_beside_others(start: Policy) -> None:
    gate, _ = train_strange_prompts(start, prompts(), SETTINGS, 256)
    torch.testing.assert_close(gate.score(start, ODD)[:1], gate.score(start, ODD[:1]), rtol=1e-3, atol=1e-2)


def test_of_a_few_held_out_prompts_none_is_refused_and_of_new_ones_as_many_as_it_says(start: Policy) -> None:
    """One of 20 would be a twentieth, where a hundredth may be refused; the highest of 20 is no hundredth either."""
    given, refused = prompts(), []
    ordinary = given.ordinary + given.held_out_ordinary
    for seed in range(12):
        drawn = random.Random(seed).sample(ordinary, len(ordinary))
        few = replace(given, ordinary=drawn[:160], held_out_ordinary=drawn[160:180])
        gate, report = train_strange_prompts(start, few, SETTINGS, 256)
        # They are scored beside others here, which comes out a rounding apart.
        lowest_refused = gate.bounds.threshold * 1.001
        assert not (gate.score(start, few.held_out_ordinary) > lowest_refused).any()
        assert report["refused"]["ordinary"] == pytest.approx(1 / 21)
        refused.append(float((gate.score(start, drawn[180:]) > gate.bounds.threshold).float().mean()))
    assert sum(refused) / len(refused) == pytest.approx(1 / 21, abs=0.03)


def test_with_few_prompts_there_is_no_gate_and_it_says_why(start: Policy) -> None:
    gate, report = train_strange_prompts(start, Prompts(["Hello"] * 3, [], ["Hi"], []), SETTINGS, 256)
    assert gate is None
    assert (report["trained"], report["ordinary"]) == (False, 3)
    assert "150" in report["reason"]
    gate, report = train_strange_prompts(start, replace(prompts(), held_out_ordinary=[]), SETTINGS, 256)
    assert gate is None and (report["trained"], report["held_out"]) == (False, 0)
    just_enough = SETTINGS.model_copy(update={"min_prompts": len(prompts().ordinary)})
    _, report = train_strange_prompts(start, replace(prompts(), held_out_harmful=[]), just_enough, 256)
    assert report["refused"]["harmful"] is report["auroc"]["harmful"] is None


def test_what_the_user_said_last() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert said_last(messages) == "a"
    assert said_last([*messages, {"role": "user", "content": [{"type": "text", "text": "c"}]}]) == "c"
    assert said_last([{"role": "system", "content": "s"}]) is None
