"""Policy versions that are LoRA adapters with random weights, made with plain numpy; what an engine is to be held to
is computed by peft itself.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel
from safetensors.numpy import save_file

from feedback import manifest
from feedback.schema import Policy
from feedback.settings import Settings
from feedback.store import Store, policies
from learner.policy import load_policy, probe

RANK = 4
MODULES = ("q_proj", "v_proj", "o_proj", "gate_proj", "down_proj")


def write_adapter(folder: Path, base_folder: Path, seed: int) -> None:
    """peft's two files."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    tensors = {}
    for name, entry in manifest.read(base_folder)["tensors"].items():
        if name.removesuffix(".weight").endswith(MODULES):
            rows, columns = entry["shape"]
            prefix = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{prefix}.lora_A.weight"] = draw.normal(0, 0.1, (RANK, columns)).astype(np.float32)
            tensors[f"{prefix}.lora_B.weight"] = draw.normal(0, 0.1, (rows, RANK)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK, "lora_dropout": 0.0,
        "target_modules": list(MODULES), "bias": "none", "inference_mode": True, "base_model_name_or_path": None,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))


def add_adapters(store: Store, settings: Settings, count: int) -> list[int]:
    """Record further candidates that are adapters on v0."""
    first = store.read(policies.next_version)
    base_folder = settings.policies_dir / "v0"
    folders = {version: settings.policies_dir / f"v{version}" for version in range(first, first + count)}
    for version, folder in folders.items():
        write_adapter(folder, base_folder, version)
    for version, folder in folders.items():
        base = load_policy(base_folder, "cpu")
        model = PeftModel.from_pretrained(base.model, folder).eval()
        (folder / "probe.json").write_text(json.dumps(probe(model, base.tokenizer)))
        record(store, settings, version)
    return list(folders)


def add_spoiled(store: Store, settings: Settings, like: int, spoil: Callable[[Path], None]) -> int:
    """Record a further candidate: the adapter `like`, harmed before its manifest was made."""
    version = store.read(policies.next_version)
    folder = settings.policies_dir / f"v{version}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(settings.policies_dir / f"v{like}", folder)
    (folder / "manifest.json").unlink()
    spoil(folder)
    record(store, settings, version)
    return version


def record(store: Store, settings: Settings, version: int) -> None:
    folder = settings.policies_dir / f"v{version}"

    def add(session: Any) -> None:
        base = policies.get(session, 0)
        like = policies.get(session, 1)
        session.add(
            Policy(
                version=version, state="candidate", parent=0, path=f"policies/v{version}",
                digest=manifest.write(folder, base=("v0", base.digest)), iteration_id=f"itr_{version}",
                dataset_digest=None, settings={}, seed=version, evidence=like.evidence, created_at=base.created_at,
            )
        )  # fmt: skip

    store.write(add)
