import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from feedback import manifest
from feedback.errors import PolicyInvalid


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "v1"
    folder.mkdir()
    for name in ("config.json", "tokenizer_config.json", "probe.json"):
        (folder / name).write_text("{}")
    tensors = {"a": np.ones((2, 3), np.float32), "b": np.arange(4, dtype=np.float16), "n": np.arange(3)}
    save_file(tensors, folder / "model.safetensors")
    return folder


def rewrite(folder: Path, **tensors: np.ndarray) -> None:
    save_file(tensors, folder / "model.safetensors")


def test_what_was_published_verifies(folder: Path) -> None:
    digest = manifest.write(folder)
    manifest.verify(folder, digest)
    assert manifest.write(folder) == digest
    assert manifest.read(folder, digest)["tensors"]["a"] == {"dtype": "F32", "shape": [2, 3]}


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("{} "), "config.json was changed"),
        (lambda f: (f / "extra.json").write_text("{}"), "extra.json is not in the manifest"),
        (lambda f: (f / "manifest.json").unlink(), "no manifest.json"),
        (lambda f: (f / "manifest.json").write_text("{}"), "not the one that was published"),
        (lambda f: rewrite(f, a=np.zeros((2, 3), np.float32)), "model.safetensors was changed"),
        (lambda f: (f / "model.safetensors").write_bytes(b"abc"), "was changed"),
        (lambda f: (f / "link.json").symlink_to(f / "config.json"), "is a link"),
    ],
)
def test_a_folder_that_was_tampered_with(folder: Path, tamper, said: str) -> None:
    digest = manifest.write(folder)
    tamper(folder)
    with pytest.raises(PolicyInvalid, match=said):
        manifest.verify(folder, digest)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_a_value_that_is_not_finite(folder: Path, value: float, dtype: type) -> None:
    rewrite(folder, a=np.array([1.0, value, 2.0], dtype))
    with pytest.raises(PolicyInvalid, match="tensor a holds a value that is not finite"):
        manifest.write(folder)


def test_bfloat16_is_looked_into_as_well(folder: Path) -> None:
    write_raw(folder, "BF16", struct.pack("<3H", 0x3F80, 0x7F7F, 0xFF7F))
    manifest.write(folder)
    write_raw(folder, "BF16", struct.pack("<3H", 0x3F80, 0x7FC0, 0x3F80))
    with pytest.raises(PolicyInvalid, match="not finite"):
        manifest.write(folder)


def test_files_that_are_cut_off_or_no_policy(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    for cut in (4, 20, len(whole) - 1):
        (folder / "model.safetensors").write_bytes(whole[:cut])
        with pytest.raises(PolicyInvalid, match=r"cut off|readable header"):
            manifest.write(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(PolicyInvalid, match="no safetensors weights"):
        manifest.write(folder)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(PolicyInvalid, match="never loaded"):
        manifest.write(folder)


OF_W = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        *(
            json.dumps(said).encode()
            for said in (
                [1], "w", {"w": [1]}, {"w": {"dtype": "F32", "shape": [4]}},
                {"w": OF_W | {"data_offsets": ["0", "16"]}},
                {"w": OF_W | {"data_offsets": [0, 16, 32]}}, {"w": OF_W | {"data_offsets": [-16, 0]}},
                {"w": OF_W | {"data_offsets": [-1000, -984]}}, {"w": OF_W | {"shape": [-2, -2]}},
                {"w": OF_W | {"shape": [2.0, 2]}}, {"w": OF_W | {"shape": 4}}, {"w": OF_W | {"dtype": ["F32"]}},
                {"w": OF_W | {"dtype": "F4"}}, {"w": OF_W | {"shape": [10**4000]}},
            )
        ),
    ],
)  # fmt: skip
def test_a_header_that_is_none(folder: Path, header: bytes) -> None:
    content = struct.pack("<Q", len(header)) + header + bytes(16)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(PolicyInvalid):
        manifest.write(folder)


@pytest.mark.parametrize("written", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_an_index_that_is_none(folder: Path, written: str) -> None:
    (folder / "model.safetensors.index.json").write_text(written)
    with pytest.raises(PolicyInvalid, match="no index of weights"):
        manifest.write(folder)


def test_what_is_no_file_or_may_hold_a_pickle_under_another_name(folder: Path) -> None:
    (folder / "b.safetensors").mkdir()
    manifest.write(folder)
    (folder / "PYTORCH_MODEL.BIN").write_bytes(b"pickle")
    with pytest.raises(PolicyInvalid, match="never loaded"):
        manifest.write(folder)
    (folder / "PYTORCH_MODEL.BIN").unlink()
    os.mkfifo(folder / "c.safetensors")
    with pytest.raises(PolicyInvalid, match=r"c.safetensors is no ordinary file"):
        manifest.write(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "processor_config.json"])
def test_what_names_code_is_not_published(folder: Path, name: str) -> None:
    (folder / name).write_text('{"auto_map": {"AutoConfig": "own.OwnConfig"}}')
    with pytest.raises(PolicyInvalid, match=f"{name} names code"):
        manifest.write(folder)


def test_what_was_published_when_it_could_name_code_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "config.json").write_text('{"auto_map": {}}')
    monkeypatch.setattr(manifest, "_check_names_no_code", lambda _: None)
    digest = manifest.write(folder)
    monkeypatch.undo()
    manifest.verify(folder, digest)


def test_code_is_no_part_of_a_policy(folder: Path) -> None:
    (folder / "own").mkdir()
    (folder / "own" / "Model.PY").write_text("")
    with pytest.raises(PolicyInvalid, match=r"own/Model\.PY is code"):
        manifest.write(folder)


def test_a_shard_that_is_missing(folder: Path) -> None:
    index = {"weight_map": {"a": "1", "b": "1", "n": "1", "c": "2"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(PolicyInvalid, match="differ in c"):
        manifest.write(folder)


def test_other_tensors_than_the_parent(folder: Path, tmp_path: Path) -> None:
    digest = manifest.write(folder)
    parent = tmp_path / "v0"
    parent.mkdir()
    save_file({"a": np.ones((2, 4), np.float32)}, parent / "model.safetensors")
    with pytest.raises(PolicyInvalid, match="other tensors than v0"):
        manifest.verify(folder, digest, like=parent)


def write_raw(folder: Path, dtype: str, data: bytes) -> None:
    header = json.dumps({"a": {"dtype": dtype, "shape": [3], "data_offsets": [0, len(data)]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
