"""Policy versions that are LoRA adapters on another version: what their folders hold, and whether they fit their base.

Such a folder holds `adapter_config.json` and `adapter_model.safetensors` as peft writes them, `probe.json`, and a
manifest that names the base and its digest. An engine would load an adapter of the wrong shape and answer 200; so that
is found out here. It knows nothing of engines or of torch.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from feedback.errors import InvalidRequest, PolicyInvalid
from feedback.schema import version_number

CONFIG = "adapter_config.json"
MANIFEST = "manifest.json"
# `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`, as peft names it.
TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
# What peft can also do and an engine would leave out without a word.
NOT_TAKEN = ("modules_to_save", "rank_pattern", "alpha_pattern", "layers_to_transform", "use_dora", "lora_bias")


@dataclass(frozen=True)
class Base:
    """The version that an adapter was trained on, and the digest of that version's folder."""

    version: int
    digest: str


def base_of(folder: Path) -> Base | None:
    """What an adapter's manifest says of its base; None for a policy that stands by itself. Raises PolicyInvalid."""
    if not (folder / CONFIG).is_file():
        return None
    try:
        said = orjson.loads((folder / MANIFEST).read_bytes())["base"]
        return Base(version_number(said["version"]), str(said["digest"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, InvalidRequest):
        raise PolicyInvalid(f"{folder.name}: the manifest of an adapter must name its base: version, digest") from None


def check_fits(folder: Path, tensors: dict[str, Any], base_tensors: dict[str, Any], max_rank: int) -> None:
    """Raises PolicyInvalid unless an engine that holds the base can take the adapter as it is meant.

    `tensors` and `base_tensors` are those of the manifests of both: `{name: {"dtype", "shape"}}`.
    """
    rank = _rank(folder, max_rank)
    sides: dict[str, set[str]] = {}
    for name, entry in tensors.items():
        found = TENSOR.fullmatch(name)
        weight = base_tensors.get(f"{found['module']}.weight") if found else None
        if found is None or weight is None or len(weight["shape"]) != 2:
            raise PolicyInvalid(f"{folder.name}: {name} belongs to no matrix of the base")
        rows, columns = weight["shape"]
        wanted = [rank, columns] if found["side"] == "A" else [rows, rank]
        if entry["shape"] != wanted:
            raise PolicyInvalid(f"{folder.name}: {name} has the shape {entry['shape']}; the base wants {wanted}")
        sides.setdefault(found["module"], set()).add(found["side"])
    for module, both in sides.items():
        if len(both) != 2:
            raise PolicyInvalid(f"{folder.name}: {module} has one of its two matrices only")


def _rank(folder: Path, max_rank: int) -> int:
    try:
        config = orjson.loads((folder / CONFIG).read_bytes())
        kind, rank, bias = config["peft_type"], int(config["r"]), config.get("bias", "none")
    except (OSError, ValueError, KeyError, TypeError):
        raise PolicyInvalid(f"{folder.name}: {CONFIG} cannot be read") from None
    extra = [name for name in NOT_TAKEN if config.get(name)]
    if kind != "LORA" or bias != "none" or extra:
        raise PolicyInvalid(f"{folder.name}: only plain LoRA can be served, not {(extra or [kind, bias])[0]}")
    if not 1 <= rank <= max_rank:
        raise PolicyInvalid(f"{folder.name}: rank {rank} is more than engine.max_adapter_rank ({max_rank})")
    return rank
