"""Low-rank adapters (LoRA, by peft) on frozen models: put in, written as peft's files, read, merged into the weights.

Frozen weights are held once, however many models stand on them: the policy in training, the preference model's trunk
and the critic's have layers of their own around the same tensors. So the starting policy, which is the model without an
adapter, costs no second copy. It knows nothing of what the adapters are trained for.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import orjson
import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from feedback.adapters import CONFIG
from feedback.errors import PolicyInvalid
from feedback.learning_settings import LoRASettings

Module = TypeVar("Module", bound=nn.Module)

WEIGHTS = "adapter_model.safetensors"
ADAPTER = "default"


def copy_sharing_frozen(module: Module) -> Module:
    """A copy with trainable parameters of its own, around the very tensors of the parameters that are frozen."""
    frozen = {id(parameter): parameter for parameter in module.parameters() if not parameter.requires_grad}
    return copy.deepcopy(module, dict(frozen))


def with_adapter(model: PreTrainedModel, settings: LoRASettings, seed: int) -> PreTrainedModel:
    """`model`, whose weights are frozen from now on, with a new adapter around them; the adapter alone can be trained.

    At first it changes nothing. Its weights are fp32 and drawn from `seed`. Raises PolicyInvalid where `model` has no
    layer of the names in `settings.targets`.
    """
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules=settings.targets, task_type="CAUSAL_LM"
    )
    return _inject(model, config, seed)


def require_targets(model: PreTrainedModel, settings: LoRASettings) -> None:
    """Raises PolicyInvalid where an adapter is wanted and `model` has no layer of the names in `settings.targets`."""
    wanted = settings.targets
    if not settings.rank or wanted == "all-linear":
        return
    if not any(f".{name}".endswith(tuple(f".{one}" for one in wanted)) for name, _ in model.named_modules()):
        raise PolicyInvalid(
            f"no adapter can be put into this model: it has no layer {' or '.join(wanted) or 'of no name'}"
        )


def has_adapter(model: nn.Module) -> bool:
    return any(isinstance(module, LoraLayer) for module in model.modules())


def save_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Write peft's two files into `folder`. Raises PolicyInvalid for a weight that is not finite."""
    tensors = {f"base_model.model.{name}": tensor for name, tensor in get_peft_model_state_dict(model).items()}
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise PolicyInvalid(f"weights not finite: {', '.join(bad[:5])}")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": layers[0][1].r[ADAPTER],
        "lora_alpha": layers[0][1].lora_alpha[ADAPTER],
        "lora_dropout": 0.0,
        # In full: the last parts alone would name layers that have no adapter, where `targets` named some of a kind.
        "target_modules": sorted(name for name, _ in layers),
        "bias": "none",
        "inference_mode": True,
        "base_model_name_or_path": None,
    }
    (folder / CONFIG).write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))


def load_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """`model` with the adapter that `save_adapter` wrote. Raises PolicyInvalid for one that does not fit it."""
    said = orjson.loads((folder / CONFIG).read_bytes())
    config = LoraConfig(r=said["r"], lora_alpha=said["lora_alpha"], target_modules=said["target_modules"])
    _inject(model, config, seed=0)
    tensors = load_file(folder / WEIGHTS)
    own = {f"base_model.model.{name}" for name in get_peft_model_state_dict(model)}
    if own != tensors.keys():
        raise PolicyInvalid(f"{folder.name}: the adapter has other tensors than its configuration says")
    set_peft_model_state_dict(
        model, {name.removeprefix("base_model.model."): tensor for name, tensor in tensors.items()}
    )
    return model


@torch.no_grad()
def merged_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Names and values of all parameters as they are without adapters, what adapters add included; one at a time."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner = next((place for place in _parents(name) if place in layers), None)
        if owner is None:
            yield name, parameter.detach()
        elif name == f"{owner}.base_layer.weight":
            added = layers[owner].get_delta_weight(ADAPTER)
            yield f"{owner}.weight", (parameter.float() + added.float()).to(parameter.dtype)
        elif name.startswith(f"{owner}.base_layer."):
            yield f"{owner}.{name.removeprefix(f'{owner}.base_layer.')}", parameter.detach()


def merge(model: PreTrainedModel) -> None:
    """Put plain layers in the place of those with adapters; weights that others share are left alone."""
    values = dict(merged_weights(model))
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            plain = module.get_base_layer()
            plain.weight = nn.Parameter(values[f"{name}.weight"])
            above, _, last = name.rpartition(".")
            setattr(model.get_submodule(above), last, plain)
    model.__dict__.pop("peft_config", None)
    model.requires_grad_(True)


def _inject(model: PreTrainedModel, config: LoraConfig, seed: int) -> PreTrainedModel:
    model.requires_grad_(False)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(config, model)
    except ValueError as error:
        raise PolicyInvalid(f"no adapter can be put into this model: {error}") from error
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()
    return model.eval()


def _parents(name: str) -> Iterator[str]:
    while name:
        name = name.rpartition(".")[0]
        yield name
