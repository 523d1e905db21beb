"""A real vLLM engine in a learner's process: after weights change it draws what the trainer would, and says so."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from learner.vllm_sampler import WORTH_IT, worth_it
from tests.learner.conftest import random_llama
from tests.serve.conftest import ROOT

pytestmark = pytest.mark.engine

# Rounding in fp32; weights of another step differ by a hundred times as much.
TOLERANCE_NATS = 5e-4


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.learner.vllm_rollouts", str(tmp_path_factory.mktemp("policy"))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, timeout=500)
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("temperature", ["0.0", "0.7", "1.0"])
def test_log_probabilities_are_the_trainers_at_the_sampling_temperature(
    drawn: dict[str, Any], when: str, temperature: str
) -> None:
    assert drawn[when][temperature]["difference"] < TOLERANCE_NATS
    assert drawn[when][temperature]["padding"] == 0
    assert all(drawn[when][temperature]["finished"])


@pytest.mark.parametrize("when", ["before", "after", "all"])
def test_greedy_replies_are_the_trainers(drawn: dict[str, Any], when: str) -> None:
    assert drawn[when]["0.0"]["replies"] == drawn[when]["torch_greedy"]
    assert drawn[when]["0.0"]["difference"] < TOLERANCE_NATS


def test_weights_that_changed_are_those_it_draws_from(drawn: dict[str, Any]) -> None:
    greedy = [drawn[when]["0.0"]["replies"] for when in ("before", "after", "all")]
    assert greedy[0] != greedy[1]
    assert greedy[1] != greedy[2]


def test_seed_and_row_decide(drawn: dict[str, Any]) -> None:
    for when in ("before", "after"):
        assert drawn[when]["1.0"]["replies"] == drawn[when]["again"]
        assert drawn[when]["1.0"]["replies"] != drawn[when]["other_seed"]
    # The same prompt in several rows is answered differently.
    replies = drawn["before"]["1.0"]["replies"]
    assert len({tuple(reply) for reply in replies[::4]}) > 1
    assert drawn["rows"]
    assert drawn["long"]


def test_it_leaves_the_global_generator_alone(drawn: dict[str, Any]) -> None:
    assert drawn["generator_kept"]


def test_size_decides_what_is_worth_an_engine() -> None:
    model = random_llama()
    assert not worth_it(model)
    large = random_llama(vocabulary=WORTH_IT["cpu"] // model.config.hidden_size // 2 + 1)
    assert worth_it(large)
