"""Policies to measure with: the built-in one, or a Llama of 28M random parameters, and versions nudged away from it.

`python -m benchmarks.policies ROOT VERSIONS [--large]` writes ROOT/v0, v1, ...: a process of its own, for torch's sake.
"""

import argparse
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from learner.policy import Policy

ROOT = Path(__file__).parents[1]
STARTING_POLICY = ROOT / "learner" / "starting_policy" / "weights"
LARGE = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8}
NUDGE = 0.03


def write_policies(root: Path, versions: int, *, large: bool) -> None:
    """Each is a folder as the learner publishes it, less its manifest."""
    arguments = ["-m", "benchmarks.policies", str(root), str(versions), *(["--large"] if large else [])]
    subprocess.run([sys.executable, *arguments], check=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})


def _policy(*, large: bool) -> "Policy":
    import torch
    from transformers import AutoConfig, LlamaForCausalLM

    from learner.policy import load_policy

    built_in = load_policy(STARTING_POLICY, "cpu")
    if not large:
        return built_in
    config = AutoConfig.from_pretrained(STARTING_POLICY)
    config.update(LARGE | {"num_key_value_heads": LARGE["num_attention_heads"], "head_dim": 64})
    torch.manual_seed(0)
    return replace(built_in, model=LlamaForCausalLM(config).eval())


def main() -> None:
    import torch

    from learner.policy import save_policy

    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("root", type=Path)
    arguments.add_argument("versions", type=int)
    arguments.add_argument("--large", action="store_true")
    given = arguments.parse_args()
    for version in range(given.versions):
        policy = _policy(large=given.large)
        torch.manual_seed(version)
        with torch.no_grad():
            for weight in policy.model.parameters() if version else ():
                weight.add_(torch.randn_like(weight) * weight.std() * NUDGE)
        (given.root / f"v{version}").mkdir(parents=True)
        save_policy(policy, given.root / f"v{version}")


if __name__ == "__main__":
    main()
