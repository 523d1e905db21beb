"""Policy versions that must not be served, each harmed in one way."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from safetensors.numpy import load_file, save_file

from feedback import manifest
from feedback.schema import Policy
from feedback.settings import Settings
from feedback.store import Store, policies


def spoiled_version(store: Store, settings: Settings, harm: str) -> int:
    """Record a further candidate, made of v2 and then harmed."""
    version = store.read(policies.next_version)
    folder: Path = settings.policies_dir / f"v{version}"
    shutil.copytree(settings.policies_dir / "v2", folder)
    weights = folder / "model.safetensors"
    (folder / "manifest.json").unlink()
    if harm == "probe":
        probe = orjson.loads((folder / "probe.json").read_bytes())
        for item in probe["items"]:
            item["logprobs"][0] -= 1.0
        (folder / "probe.json").write_bytes(orjson.dumps(probe))
    if harm == "nan":
        # Its manifest is made before: a learner that published a NaN would not have got this far.
        digest = manifest.write(folder)
        tensors = load_file(weights)
        tensors["lm_head.weight"][0, 0] = np.nan
        save_file(tensors, weights)
    elif harm == "shape":
        digest = manifest.write(folder)
        tensors = load_file(weights)
        tensors["lm_head.weight"] = tensors["lm_head.weight"][:-1].copy()
        save_file(tensors, weights)
    else:
        digest = manifest.write(folder)
    if harm == "changed":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    if harm == "missing":
        weights.unlink()
    add_candidate(store, version, digest)
    return version


def add_candidate(store: Store, version: int, digest: str) -> None:
    """Record the folder of this version as one that may be promoted as v2 may."""

    def add(session: Any) -> None:
        known = policies.get(session, 2)
        session.add(
            Policy(
                version=version, state="candidate", parent=0, path=f"policies/v{version}", digest=digest,
                iteration_id=f"itr_{version}", dataset_digest=None, settings={}, seed=0, evidence=known.evidence,
                created_at=known.created_at,
            )
        )  # fmt: skip

    store.write(add)
