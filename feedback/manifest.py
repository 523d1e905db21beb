"""Policy folders: what they hold, and whether they may be served.

A published policy folder holds safetensors weights, tokenizer, configuration, `probe.json` and `manifest.json`, which
lists each file's size and SHA-256 and each tensor's type and shape. The digest of the manifest names the policy:
nothing in the folder can change without it. An engine would load a folder with a missing tensor, another shape or a
NaN and answer 200; so all of that is found out here, before an engine comes near.
"""

import hashlib
import json
import math
import os
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from feedback.errors import PolicyInvalid

MANIFEST = "manifest.json"
PROBE = "probe.json"
NEEDED = ("config.json", "tokenizer_config.json", PROBE)
NEEDED_OF_AN_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", PROBE)
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
# What a processor keeps at hand: with blocks of 4 MiB finding a NaN took eight times as long.
BLOCK_BYTES = 1 << 18
MAX_HEADER_BYTES = 100_000_000

# For each floating-point type of safetensors: the integer type of the same width, and the bits that are all set in an
# infinity or a NaN and in nothing else. fp8 E4M3 (the FN variant) has no infinity; its NaN has all seven low bits set.
_EXPONENTS: dict[str, tuple[type[np.unsignedinteger[Any]], int]] = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
    "F8_E5M2": (np.uint8, 0x7C),
    "F8_E4M3": (np.uint8, 0x7F),
}
_WIDTHS = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a safetensors file: its type, its shape, and where its bytes are (from the start of the file)."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def write(folder: Path, *, base: tuple[str, str] | None = None) -> str:
    """Check `folder` and write its manifest. Returns the policy's digest. Raises PolicyInvalid.

    For a LoRA adapter `base` is the version that it stands on (`v3`) and that version's digest.
    """
    manifest: dict[str, Any] = {"files": digest_files(folder), "tensors": _describe(_tensors(folder))}
    if base is not None:
        manifest["base"] = {"version": base[0], "digest": base[1]}
    _check_complete(folder, manifest)
    _check_names_no_code(folder)
    _check_finite(folder)
    return keep(folder, manifest)


def keep(folder: Path, manifest: dict[str, Any]) -> str:
    """Write it into the folder. Returns its digest."""
    content = orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
    with (folder / MANIFEST).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def verify(folder: Path, digest: str, *, like: Path | None = None) -> None:
    """Check that `folder` is the policy of this digest, whole and finite; with `like`, that it has the same tensors.

    Raises PolicyInvalid, which names the first thing that is wrong.
    """
    manifest = verify_files(folder, digest)
    if manifest["tensors"] != _describe(_tensors(folder)):
        raise PolicyInvalid(f"{folder.name}: the tensors are not those of the manifest")
    _check_complete(folder, manifest)
    _check_finite(folder)
    if like is not None and manifest["tensors"] != _describe(_tensors(like)):
        raise PolicyInvalid(f"{folder.name} has other tensors than {like.name}")


def verify_files(folder: Path, digest: str, parts: Collection[str] | None = None) -> dict[str, Any]:
    """Check that `folder` holds the files of the manifest of this digest and no others; of `parts` only, where given.
    Returns that manifest.

    Raises PolicyInvalid, which names the first file that is wrong.
    """
    manifest = read(folder, digest)
    files = digest_files(folder, parts)
    for name in sorted(manifest["files"].keys() | files.keys()):
        if name not in files:
            raise PolicyInvalid(f"{folder.name}: {name} is missing")
        if name not in manifest["files"]:
            raise PolicyInvalid(f"{folder.name}: {name} is not in the manifest")
        if manifest["files"][name] != files[name]:
            raise PolicyInvalid(f"{folder.name}: {name} was changed after it was published")
    return manifest


def read(folder: Path, digest: str | None = None) -> dict[str, Any]:
    """The manifest of a folder. Raises PolicyInvalid when there is none or it has another digest."""
    try:
        content = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise PolicyInvalid(f"{folder} has no {MANIFEST}") from None
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise PolicyInvalid(f"{folder.name}: {MANIFEST} is not the one that was published")
    manifest: dict[str, Any] = orjson.loads(content)
    return manifest


def digest_files(folder: Path, parts: Collection[str] | None = None) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each file but the manifest, by its name; with `parts`, of these files and folders in it only.
    Raises PolicyInvalid for what is no ordinary file."""
    digests: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        if parts is not None and path.relative_to(folder).parts[0] not in parts:
            continue
        if path.is_symlink():
            raise PolicyInvalid(f"{folder.name}: {path.name} is a link; a policy folder holds its own files")
        if path.is_dir() or path.name == MANIFEST:
            continue
        if not path.is_file():
            raise PolicyInvalid(f"{folder.name}: {path.name} is no ordinary file")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        digests[path.relative_to(folder).as_posix()] = {
            "bytes": path.stat().st_size,
            "sha256": digest,
        }
    return digests


def _check_complete(folder: Path, manifest: dict[str, Any]) -> None:
    for name in NEEDED_OF_AN_ADAPTER if "base" in manifest else NEEDED:
        if name not in manifest["files"]:
            raise PolicyInvalid(f"{folder.name}: {name} is missing")
    pickles = [name for name in manifest["files"] if name.lower().endswith(PICKLES)]
    if pickles:
        raise PolicyInvalid(f"{folder.name}: {pickles[0]} may hold a pickle, which is never loaded; use safetensors")
    code = [name for name in manifest["files"] if name.lower().endswith(".py")]
    if code:
        raise PolicyInvalid(f"{folder.name}: {code[0]} is code, and none of a policy's is ever run; leave it out")
    if not manifest["tensors"]:
        raise PolicyInvalid(f"{folder.name}: there are no safetensors weights")
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            listed = set(orjson.loads(index.read_bytes())["weight_map"])
        except (ValueError, TypeError, KeyError):
            raise PolicyInvalid(f"{folder.name}: {index.name} is no index of weights") from None
        if listed != manifest["tensors"].keys():
            absent = sorted(listed ^ manifest["tensors"].keys())[0]
            raise PolicyInvalid(f"{folder.name}: the index and the weights differ in {absent}")


def _check_names_no_code(folder: Path) -> None:
    """Of what was published before nobody runs it either, and it goes on being served."""
    for path in sorted(folder.glob("*config.json")):
        try:
            named = "auto_map" in orjson.loads(path.read_bytes())
        except (ValueError, TypeError):
            raise PolicyInvalid(f"{folder.name}: {path.name} is no JSON object") from None
        if named:
            raise PolicyInvalid(
                f"{folder.name}: {path.name} names code in 'auto_map', and none of a policy's is ever run; "
                "leave it out where transformers has the architecture"
            )


def _tensors(folder: Path) -> dict[str, tuple[Path, TensorEntry]]:
    found: dict[str, tuple[Path, TensorEntry]] = {}
    for path in sorted(path for path in folder.glob("*.safetensors") if path.is_file()):
        for name, entry in _read_header(path).items():
            if name in found:
                raise PolicyInvalid(f"{folder.name}: tensor {name} is there twice")
            found[name] = (path, entry)
    return found


def _describe(tensors: dict[str, tuple[Path, TensorEntry]]) -> dict[str, Any]:
    return {name: {"dtype": entry.dtype, "shape": list(entry.shape)} for name, (_, entry) in tensors.items()}


def _read_header(path: Path) -> dict[str, TensorEntry]:
    """The header of a safetensors file: eight bytes of length, then JSON (huggingface/safetensors, "Format")."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else MAX_HEADER_BYTES
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise PolicyInvalid(f"{path.parent.name}: {path.name} is cut off or not safetensors")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            entries = {name: _entry(name, said, 8 + length) for name, said in header.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise PolicyInvalid(f"{path.parent.name}: {path.name} has no readable header") from None
    for name, entry in entries.items():
        wanted = math.prod(entry.shape) * _width(entry.dtype, name)
        if not 8 + length <= entry.start <= entry.end <= size or entry.end - entry.start != wanted:
            raise PolicyInvalid(f"{path.parent.name}: {path.name} is cut off in tensor {name}")
    return entries


def _entry(name: str, said: Any, data_at: int) -> TensorEntry:
    dtype, shape, (start, end) = said["dtype"], said["shape"], said["data_offsets"]
    if not all(type(size) is int and size >= 0 for size in (*shape, start, end)) or not isinstance(dtype, str):
        raise ValueError(name)
    return TensorEntry(dtype, tuple(shape), data_at + start, data_at + end)


def _width(dtype: str, name: str) -> int:
    if dtype in _EXPONENTS:
        return int(np.dtype(_EXPONENTS[dtype][0]).itemsize)
    if dtype in _WIDTHS:
        return _WIDTHS[dtype]
    raise PolicyInvalid(f"tensor {name} has the unknown type {dtype}")


def _check_finite(folder: Path) -> None:
    for name, (path, entry) in _tensors(folder).items():
        if entry.dtype in _EXPONENTS and not _finite(path, entry):
            raise PolicyInvalid(f"{folder.name}: tensor {name} holds a value that is not finite")


def _finite(path: Path, entry: TensorEntry) -> bool:
    word, exponent = _EXPONENTS[entry.dtype]
    mask = word(exponent)
    with path.open("rb") as file:
        file.seek(entry.start)
        remaining = entry.end - entry.start
        while remaining:
            block = file.read(min(BLOCK_BYTES, remaining))
            remaining -= len(block)
            if bool(np.any((np.frombuffer(block, dtype=word) & mask) == mask)):
                return False
    return True
