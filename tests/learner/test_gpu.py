"""Learning on a GPU: what a CPU computes in fp32, and in bf16 the same job to rounding.

What says `cpu` in its name also runs where there is no GPU, on a stand-in: see `test_second_device.py`.
"""

import copy
import json
import os
from pathlib import Path

import pytest
import torch

from feedback.learning_settings import DPOSettings, PPOSettings, PreferenceSettings
from feedback.settings import load_settings
from feedback.store import iterations, policies
from learner.dpo import train_dpo
from learner.fused_norms import fuse_norms
from learner.gradient_checkpointing import checkpoint_layers
from learner.iteration.process import run
from learner.lora import copy_sharing_frozen, with_adapter
from learner.number_format import forward_format, forward_passes
from learner.policy import Policy, load_policy
from learner.ppo import PPO
from learner.preference_judging import score_comparisons
from learner.preference_training import train_preference_model
from learner.starting_policy import WEIGHTS
from tests.learner.conftest import END, random_llama, word_tokenizer
from tests.learner.iterations import QUICK, start, voted_home
from tests.learner.test_evaluation import judged
from tests.learner.test_ppo import PROMPTS, SETTINGS, LikesOneWord
from tests.learner.test_preference_training import comparisons

pytestmark = pytest.mark.gpu

GPU = torch.device(os.environ.get("TANDEM_TEST_GPU", "cuda"))
REHEARSED = {"rehearsal_weight": 1.0, "rehearsal_replies": 16, "rehearsal_episodes": 8}
LORA = {"rank": 4, "alpha": 8.0}


def ppo_on(device: str | torch.device, **change) -> PPO:
    settings = PPOSettings(**(SETTINGS.model_dump() | change))
    start = random_llama().to(device)
    if device == GPU:
        # As where a policy is loaded.
        fuse_norms(start)
    model = copy.deepcopy(start)
    if settings.lora.rank:
        model = with_adapter(copy_sharing_frozen(start.requires_grad_(False)), settings.lora, seed=1)
    policy = Policy(model, word_tokenizer(), (END,))
    asked = [policy.encode_chat(one.messages) for one in PROMPTS]
    return PPO(policy, start, LikesOneWord(start), PROMPTS, settings, seed=1, rehearse_on=asked)


@pytest.mark.parametrize(
    "change",
    [
        {},
        REHEARSED,
        {"critic": "preference_model"},
        {"critic": "policy"},
        {"advantage": "rloo", "replies_per_prompt": 4},
        {"lora": LORA},
    ],
)
def test_ppo_says_and_does_what_it_does_on_a_cpu(change):
    """Two steps from one seed: the same replies, losses and weights, to rounding."""
    here, there = (ppo_on(device, **change) for device in ("cpu", GPU))
    for _ in range(2):
        ours, theirs = here.step(), there.step()
        for name in ("reward", "kl_nats", "entropy_nats", "policy_loss", "gradient_norm"):
            assert getattr(theirs, name) == pytest.approx(getattr(ours, name), abs=2e-3, rel=2e-2), name
    for name, weight in there.model.state_dict().items():
        # Adam moves a weight by a whole step where its gradient is all rounding.
        apart = (weight.cpu() - here.model.state_dict()[name]).abs()
        assert float(apart.mean()) < 1e-3 and float(apart.max()) < 2e-2, name


@pytest.mark.parametrize("change", [{}, {"lora": LORA}, {"matmul_precision": "fast"}])
@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_ppo_raises_the_reward_in_either_format(change, precision):
    with forward_passes(forward_format(precision, GPU), GPU):
        ppo = ppo_on(GPU, **change)
        if not change:
            checkpoint_layers(ppo.policy.model)
        reports = [ppo.step() for _ in range(12)]
    assert reports[-1].reward > reports[0].reward + 0.5
    assert 0 <= reports[0].mismatch_nats < 0.05


def test_a_preference_model_is_the_one_a_cpu_trains():
    settings = PreferenceSettings(epochs=1, comparisons_per_batch=8, matmul_precision="full", head_learning_rate=3e-3)
    scores = []
    for device in ("cpu", GPU):
        policy = Policy(random_llama().to(device), word_tokenizer(), (END,))
        model = train_preference_model(policy, comparisons(400, 1), settings, seed=1)
        scores.append(score_comparisons(model, policy, comparisons(100, 2), settings).scores_C_2_O.cpu())
    torch.testing.assert_close(*scores, atol=2e-2, rtol=2e-2)


def test_dpo_is_the_one_a_cpu_trains():
    losses = []
    for device in ("cpu", GPU):
        policy = Policy(random_llama().to(device), word_tokenizer(), (END,))
        asked = [policy.encode_chat(one.messages) for one in comparisons(40, 2)]
        settings = DPOSettings(
            epochs=1, comparisons_per_batch=8, matmul_precision="full", rehearsal_replies=16, rehearsal_episodes=8
        )
        steps: list[float] = []
        train_dpo(
            policy, copy.deepcopy(policy.model), comparisons(100, 1), settings, seed=1, rehearse_on=asked,
            on_step=lambda step, _, into=steps: into.append(step.loss),
        )  # fmt: skip
        losses.append(torch.tensor(steps))
    torch.testing.assert_close(*losses, atol=5e-3, rtol=2e-2)


def test_an_evaluation_finds_what_a_cpu_finds():
    found = []
    for device in ("cpu", GPU):
        candidate, reference = (Policy(random_llama(seed).to(device), word_tokenizer(), (END,)) for seed in (1, 2))
        figures = judged(candidate, reference, watch=True, serving=reference)
        found.append([figures[name]["value"] for name in ("win_rate", "harm", "refusals")] + [figures["kl_nats"]])
    assert found[1] == pytest.approx(found[0], abs=1e-2)


def test_the_gpu_is_taken_where_there_is_one_and_computes_in_bf16():
    assert load_policy(WEIGHTS).model.device.type == "cuda"
    assert forward_format("auto", GPU) == "bf16"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"trainer": "dpo"},
        {
            "preference": {"ensemble_size": 2, "pessimism": 0.5, "length_control": "residual"},
            "ppo": {"harm_ceiling": 0.3, "critic": "policy"},
            "evaluation": {"frontier": "trained", "frontier_steps": 1},
        },
        {
            "gradient_checkpointing": True,
            "preference": {"lora": LORA | {"rank": 8}},
            "ppo": {"lora": LORA | {"rank": 8}},
        },
    ],
)
def test_a_whole_iteration(tmp_path: Path, change):
    wanted = copy.deepcopy(QUICK) | {"device": "cuda"}
    for name, value in change.items():
        wanted[name] = wanted.get(name, {}) | value if isinstance(value, dict) else value
    settings = load_settings(home=tmp_path, learner=wanted)
    with voted_home(settings, chats=0) as store:
        iteration = start(store, settings)
        run(store, settings, iteration.id)
        assert store.read(iterations.get, iteration.id).state == "succeeded"
        candidate = store.read(policies.get, 1)
        figures = candidate.evidence["evaluation"]
        assert figures["kl_nats"] != 0
        said = json.loads((settings.home / candidate.path / "probe.json").read_text())
        assert said["items"]
