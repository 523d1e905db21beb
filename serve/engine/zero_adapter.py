"""An adapter that changes nothing: by it the base itself is served from an engine that takes adapters.

Rows of the plain base came out wrong in one batch with rows of adapters (vLLM 0.32); rows of a zero adapter do not. It
is written here, since it needs no more than the shapes in the base's manifest.
"""

import math
import struct
from pathlib import Path
from typing import Any

import orjson

from feedback.errors import PolicyInvalid

# One kind of module in each layer is enough to have every row go the same way.
MODULES = ("q_proj", "qkv_proj", "query_key_value", "c_attn")


def write_zero_adapter(folder: Path, tensors: dict[str, Any]) -> None:
    """Write peft's two files for a base with `tensors` (a manifest's). Raises PolicyInvalid for a model whose layers
    are not known here.
    """
    module = next((name for name in MODULES if any(key.endswith(f".{name}.weight") for key in tensors)), None)
    if module is None:
        raise PolicyInvalid("this model's attention is not known here: it cannot be served with adapters")
    shapes: dict[str, list[int]] = {}
    for name, entry in tensors.items():
        if name.endswith(f".{module}.weight"):
            rows, columns = entry["shape"]
            prefix = f"base_model.model.{name.removesuffix('.weight')}"
            shapes |= {f"{prefix}.lora_A.weight": [1, columns], f"{prefix}.lora_B.weight": [rows, 1]}
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 1, "target_modules": [module],
        "bias": "none", "inference_mode": True,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_bytes(orjson.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(_zeros(shapes))


def _zeros(shapes: dict[str, list[int]]) -> bytes:
    """A safetensors file of float32 zeros: eight bytes of length, a header in JSON, the values."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    said = orjson.dumps(header)
    said += b" " * (-len(said) % 8)
    return struct.pack("<Q", len(said)) + said + bytes(end)
