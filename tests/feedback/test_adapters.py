"""What an engine would not notice about an adapter is found before it gets there."""

import json
from pathlib import Path
from typing import Any

import pytest

from feedback.adapters import CONFIG, Base, base_of, check_fits
from feedback.errors import PolicyInvalid

A, B = (f"base_model.model.model.layers.0.q_proj.lora_{side}.weight" for side in "AB")
BASE = {"model.layers.0.q_proj.weight": {"dtype": "F32", "shape": [6, 8]}, "model.norm.weight": {"shape": [8]}}
FITTING = {A: {"shape": [4, 8]}, B: {"shape": [6, 4]}}


def folder_of(tmp_path: Path, **config: Any) -> Path:
    (tmp_path / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 4, "bias": "none"} | config))
    return tmp_path


def test_one_that_fits(tmp_path: Path) -> None:
    check_fits(folder_of(tmp_path), FITTING, BASE, 8)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({A: {"shape": [4, 6]}, B: {"shape": [6, 4]}}, "shape"),
        ({A: {"shape": [4, 8]}, B: {"shape": [8, 4]}}, "shape"),
        ({A: {"shape": [4, 8]}}, "one of its two"),
        ({A.replace("q_proj", "k_proj"): {"shape": [4, 8]}}, "no matrix"),
        ({"base_model.model.model.norm.lora_A.weight": {"shape": [4, 8]}}, "no matrix"),
        ({"model.layers.0.q_proj.weight": {"shape": [6, 8]}}, "no matrix"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, tensors: dict[str, Any], said: str) -> None:
    with pytest.raises(PolicyInvalid, match=said):
        check_fits(folder_of(tmp_path), tensors, BASE, 8)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"r": 16}, "max_adapter_rank"),
        ({"r": None}, "cannot be read"),
        ({"bias": "all"}, "plain LoRA"),
        ({"peft_type": "IA3"}, "plain LoRA"),
        ({"use_dora": True}, "use_dora"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
    ],
)
def test_what_an_engine_does_not_take(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    with pytest.raises(PolicyInvalid, match=said):
        check_fits(folder_of(tmp_path, **config), FITTING, BASE, 8)


def test_the_manifest_names_the_base(tmp_path: Path) -> None:
    assert base_of(tmp_path) is None
    folder = folder_of(tmp_path)
    for said in ({}, {"base": None}, {"base": {"version": "3", "digest": "d"}}, {"base": {"version": "v3"}}):
        (folder / "manifest.json").write_text(json.dumps(said))
        with pytest.raises(PolicyInvalid, match="base"):
            base_of(folder)
    (folder / "manifest.json").write_text(json.dumps({"base": {"version": "v3", "digest": "d"}}))
    assert base_of(folder) == Base(3, "d")
