import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
)

from feedback import manifest
from feedback.errors import Conflict, PolicyInvalid
from feedback.settings import load_settings
from feedback.store import Store, policies
from learner.policy import load_policy
from learner.prepare import BUILTIN, prepare
from tests.records import empty_record_of


def open_home(home: Path, policy: str) -> tuple[Store, object]:
    settings = load_settings(home=home, policy=policy)
    store = empty_record_of(settings)
    return store, settings


def model_folder(folder: Path, *, tied: bool = True, template: bool = False, gpt2: bool = False) -> Path:
    """A small random model saved as any Hugging Face model is."""
    tokenizer = AutoTokenizer.from_pretrained(BUILTIN)
    if not template:
        tokenizer.chat_template = None
    torch.manual_seed(0)
    size = {"vocab_size": len(tokenizer), "tie_word_embeddings": tied, "eos_token_id": 2, "bos_token_id": 1}
    model = (
        GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=2, n_head=2, n_positions=256, **size))
        if gpt2
        else LlamaForCausalLM(
            LlamaConfig(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, **size)
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("gpt2", [False, True])
def test_any_model_folder_becomes_v0_with_an_output_layer_of_its_own(tmp_path: Path, gpt2: bool) -> None:
    source = model_folder(tmp_path / "model", gpt2=gpt2)
    store, settings = open_home(tmp_path / "home", str(source))
    prepare(store, settings)
    v0 = store.read(policies.get, 0)
    folder = settings.home / v0.path
    manifest.verify(folder, v0.digest)
    assert (v0.state, v0.settings["policy"]) == ("serving", str(source))
    assert "lm_head.weight" in load_file(folder / "model.safetensors")

    policy, original = load_policy(folder, "cpu"), load_policy(source, "cpu")
    assert not policy.model.config.tie_word_embeddings
    tokens = torch.tensor([policy.encode_chat([{"role": "user", "content": "What is 2 plus 3?"}])])
    assert torch.equal(policy.model(tokens).logits, original.model(tokens).logits)
    text = policy.tokenizer.decode(tokens[0])
    assert text == "Human:\nWhat is 2 plus 3?\n\nAssistant:\n"


@pytest.mark.parametrize("tied", [False, True])
def test_a_token_that_the_model_has_no_row_for_gets_one(
    tmp_path: Path, tied: bool, caplog: pytest.LogCaptureFixture
) -> None:
    source = model_folder(tmp_path / "model", tied=tied)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens(["<picture>"])
    tokenizer.save_pretrained(source)
    store, settings = open_home(tmp_path / "home", str(source))
    prepare(store, settings)
    policy, original = load_policy(settings.policies_dir / "v0", "cpu"), load_policy(source, "cpu")
    said = torch.tensor([policy.encode_chat([{"role": "user", "content": "What is a <picture>?"}])])
    assert said.max() == 1024 and torch.isfinite(policy.model(said).logits).all()
    others = said[said != 1024][None]
    assert torch.equal(policy.model(others).logits[..., :1024], original.model(others).logits)
    for layer in (policy.model.get_input_embeddings(), policy.model.get_output_embeddings()):
        torch.testing.assert_close(layer.weight[1024], layer.weight[:1024].mean(0))
    assert "1 tokens more than the model, such as '<picture>'" in caplog.text


def test_a_chat_template_is_kept(tmp_path: Path) -> None:
    source = model_folder(tmp_path / "model", template=True)
    store, settings = open_home(tmp_path / "home", str(source))
    prepare(store, settings)
    kept = load_policy(settings.policies_dir / "v0", "cpu").tokenizer.chat_template
    assert kept == AutoTokenizer.from_pretrained(BUILTIN).chat_template


def test_a_home_keeps_the_policy_that_it_started_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, settings = open_home(tmp_path / "home", "builtin")
    prepare(store, settings)
    digest = store.read(policies.get, 0).digest
    other = model_folder(tmp_path / "model")
    prepare(store, settings.model_copy(update={"policy": str(other)}))
    assert store.read(policies.get, 0).digest == digest
    assert "goes on with it" in caplog.text


def without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def with_a_nan(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def another(config: PreTrainedConfig) -> Callable[[Path], None]:
    """Another model in the place of the one in a folder."""

    def put(folder: Path) -> None:
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)

    return put


SMALL = {"vocab_size": 1024, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2}
GEMMA_2 = Gemma2Config(num_hidden_layers=2, num_key_value_heads=1, head_dim=32, **SMALL)
BLOOM = BloomConfig(n_layer=2, n_head=2, vocab_size=1024, hidden_size=64)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_a_tensor, "model.norm.weight"),
        (with_a_nan, "not finite|differ"),
        (as_pickle, "pickled weights"),
        (lambda folder: (folder / "config.json").unlink(), "cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"cut"), "cannot be loaded"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "cannot be loaded"),
        (shutil.rmtree, "no such folder"),
        (another(GEMMA_2), "gemma2: vLLM"),
        (another(BLOOM), "bloom: two replies"),
    ],
)
def test_a_policy_that_cannot_be_used_is_refused_and_nothing_is_left(tmp_path: Path, spoil, said: str) -> None:
    source = model_folder(tmp_path / "model")
    spoil(source)
    store, settings = open_home(tmp_path / "home", str(source))
    with pytest.raises(PolicyInvalid, match=said):
        prepare(store, settings)
    assert store.read(policies.serving) is None
    assert not (settings.policies_dir / "v0").exists()


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "learner.prepare"],
        env={"TANDEM_HOME": str(tmp_path), "TANDEM_POLICY": "./nowhere", "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1] == "tandem: ./nowhere: no such folder"


def test_a_home_that_lost_its_record_gets_no_new_one(tmp_path: Path) -> None:
    (tmp_path / "policies" / "v0").mkdir(parents=True)
    environment = os.environ | {"TANDEM_HOME": str(tmp_path)}
    refused = subprocess.run(
        [sys.executable, "-m", "learner.prepare"], env=environment, stderr=subprocess.PIPE, text=True, check=False
    )
    assert refused.returncode == Conflict.exit_code
    assert "holds policies and no record" in refused.stderr
    assert not (tmp_path / "record.db").exists()
