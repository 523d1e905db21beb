"""The benchmarks of learning run, at a size that measures nothing; the peers too where their environments are there."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import pytest

from benchmarks import age, ppo, preference_training
from benchmarks.peers import environment
from feedback.learning_settings import PPOSettings, PreferenceSettings
from learner.policy import load_policy
from learner.starting_policy import WEIGHTS

pytestmark = pytest.mark.slow

PREFERENCE = PreferenceSettings(epochs=1, readout="last", start_logprob_feature=False)
PPO = PPOSettings(steps=1, episodes_per_step=16, episodes_per_minibatch=8, max_new_tokens=8)
HOW = {"attention": "eager", "matmul": "ieee", "start": str(WEIGHTS), "device": "cpu"}


def peer(trl: str) -> Path:
    folder = environment.ROOT / f".venv-trl-{trl}"
    if not (folder / "complete").exists():
        pytest.skip(f"no environment with TRL {trl}: the benchmark makes it")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def pairs() -> preference_training.Pairs:
    return preference_training.make_pairs(load_policy(WEIGHTS, device="cpu"), votes=48, turns=1, seed=1)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> ppo.Task:
    return ppo.make_task(WEIGHTS, 48, tmp_path_factory.mktemp("ppo"), "cpu")


def test_preference_training(pairs: preference_training.Pairs) -> None:
    policy = load_policy(WEIGHTS, device="cpu")
    assert all(len(pair.messages) == 3 for pair in pairs.train)
    assert 0 < preference_training.tandem(policy, pairs, PREFERENCE, seed=1)["accuracy"] < 1


def test_preference_training_of_the_peer(pairs: preference_training.Pairs) -> None:
    job = preference_training.peer_job(load_policy(WEIGHTS, device="cpu"), pairs, PREFERENCE, 1)
    assert 0 < environment.run(peer(preference_training.TRL), "trl_reward.py", job | HOW)["accuracy"] < 1


@pytest.mark.parametrize("rollouts", ["auto", "vllm"])
def test_ppo(task: ppo.Task, rollouts: Literal["auto", "vllm"]) -> None:
    settings = PPO.model_copy(update={"rollouts": rollouts, "max_prompt_tokens": 128})
    # What an engine leaves in its process is not for other tests.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        done = apart.submit(ppo.tandem, task, settings, seed=1, keep_policies=True).result()
    [start, end] = ppo.course(task, done["folders"], 2, 1)
    assert abs(start[0]) < 1e-3 < abs(end[0])


def test_ppo_of_the_peer(task: ppo.Task) -> None:
    """It refuses a peer whose reward scores otherwise than ours."""
    done = ppo.trl(peer(ppo.TRL), task, PPO, 1, HOW | {"rows": 16}, keep_policies=True)
    [start, end] = ppo.course(task, done["folders"], 2, 1)
    assert abs(start[0]) < 1e-3 < abs(end[0])


def test_reward_is_compared_where_the_kl_is_the_same() -> None:
    """On a line of slope 1, against one of slope .5 that goes further, up to a KL of 2: .5 on average. The order of the
    steps does not matter."""
    ours, theirs = [(0.0, 0.1), (2.0, 2.1), (1.0, 1.1)], [(0.0, 0.1), (4.0, 2.1)]
    assert ppo.reward_at_equal_kl(ours, theirs) == pytest.approx(0.5)
    assert ppo.reward_at_equal_kl(theirs, ours) == pytest.approx(-0.5)


def test_age(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    age.measure(old=300, new=200, kept=50, folder=tmp_path)
    assert '"learnt_from"' in capsys.readouterr().out
