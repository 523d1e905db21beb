"""In the engine's process: the next version's weights are loaded and packed beside those that serve, by a thread that
gives way, and change places with them between two steps.

The modules of the model stay, and with them whatever else points at them; only what they compute with is exchanged.
This takes the memory of the weights once more. What is not known to allow it is refused; a reload does without.
"""

import logging
import sys
import threading
from collections.abc import Iterator
from types import MethodType
from typing import Any

import psutil
import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.model_executor.layers.attention import is_deferred_attention_layer
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info
from vllm.utils.cpu_resource_utils import get_cgroup_memory_limit, get_cgroup_memory_usage

from feedback.giving_way import give_way, with_rests
from serve.engine.weight_files import name_folder, read_weights

log = logging.getLogger(__name__)

# Of these the packing is known to touch nothing but the module itself.
KNOWN_METHODS = (UnquantizedLinearMethod, UnquantizedEmbeddingMethod)
MOST_OF_WHAT_IS_FREE = 0.9


class CannotStage(Exception):
    """Not here, or not this: it says why."""


class StagedLoading:
    """What vLLM's worker can do beside its own; `device` and `model_runner` are the worker's. All but the loading
    itself is done between two steps of the engine. Each answer is `{"state": "none" | "loading" | "ready" | "failed",
    "why": str}`.
    """

    device: Any
    model_runner: Any
    _staging: "Staging | None" = None

    def stage_weights(self, weights_path: str) -> dict[str, str]:
        """Begin to load the policy in the folder `weights_path`, in place of what was staged before."""
        self.drop_staged()
        try:
            staging = Staging(self.model_runner.get_model(), self.model_runner.vllm_config, self.device, weights_path)
        except CannotStage as error:
            return {"state": "failed", "why": str(error)}
        self._staging = staging
        return staging.said()

    def staged_weights(self) -> dict[str, str]:
        return {"state": "none", "why": ""} if self._staging is None else self._staging.said()

    def commit_staged(self) -> dict[str, str]:
        """Have what is staged serve, if it is ready; the engine must be drained. What served is freed."""
        staging, self._staging = self._staging, None
        if staging is None or staging.state != "ready":
            return {"state": "none", "why": ""}
        staging.exchange()
        name_folder(self.model_runner.vllm_config.model_config, staging.weights_path)
        self.model_runner.reset_lora_state()
        self.model_runner.reset_encoder_cache()
        self.model_runner.reset_mm_cache()
        threading.Thread(target=staging.free, name="freeing", daemon=True).start()
        return {"state": "ready", "why": ""}

    def drop_staged(self) -> None:
        """Forget what is staged, or is being staged."""
        staging, self._staging = self._staging, None
        if staging is not None:
            staging.free()


class Staging:
    """A model beside `model`: the same modules, with weights of their own as soon as `state` is `ready`."""

    def __init__(self, model: nn.Module, config: VllmConfig, device: torch.device, weights_path: str) -> None:
        """Begins to load. Raises CannotStage."""
        self.weights_path = weights_path
        self.state, self._why = "loading", ""
        self._dropped = False
        self._config, self._device = config, device
        self._parts: list[tuple[nn.Module, nn.Module]] = []
        check_known(model, config)
        check_room(model, device)
        self._beside: nn.Module | None = self._shadow(model)
        threading.Thread(target=self._run, name="staging", daemon=True).start()

    def said(self) -> dict[str, str]:
        return {"state": self.state, "why": self._why}

    def exchange(self) -> None:
        """What the modules compute with, and what was loaded beside it, change places."""
        for module, beside in self._parts:
            for name, parameter in beside._parameters.items():
                beside._parameters[name], module._parameters[name] = module._parameters[name], parameter
            own, other = module.__dict__, beside.__dict__
            # What the packing has set anew; the two share all the rest.
            for name in [name for name, value in other.items() if name != "_parameters" and own.get(name) is not value]:
                if name not in ("_modules", "_buffers"):
                    own[name], other[name] = other[name], own.get(name)

    def free(self) -> None:
        self._dropped = True
        self._parts.clear()
        self._beside = None

    def _shadow(self, module: nn.Module) -> nn.Module:
        """A copy of the module that shares everything with it but its parameters, which it does not have yet."""
        if is_deferred_attention_layer(module):
            # It has a cache of its own, and no weights.
            return module
        beside = module.__class__.__new__(module.__class__)
        beside.__dict__ = module.__dict__.copy()
        beside.__dict__["_parameters"] = dict(module._parameters)
        beside.__dict__["_modules"] = {
            name: None if child is None else self._shadow(child) for name, child in module._modules.items()
        }
        if beside._parameters:
            self._parts.append((module, beside))
        return beside

    def _run(self) -> None:
        try:
            if self._device.type == "cpu" and sys.platform == "linux":
                give_way()
            with torch.no_grad():
                self._load()
            self.state = "ready"
        except CannotStage as error:
            self.state, self._why = "failed", str(error)
        except Exception as error:
            # Other shapes, say: a reload, or an engine that is started anew, has the word then.
            log.warning("%s could not be staged", self.weights_path, exc_info=True)
            self.state, self._why = "failed", f"it could not be loaded ({type(error).__name__})"
        if self.state == "failed":
            self.free()

    def _load(self) -> None:
        model, parts = self._beside, list(self._parts)
        assert model is not None
        twins: dict[int, nn.Parameter] = {}
        for module, beside in parts:
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    # A tied output layer stays tied.
                    twin = twins.get(id(parameter))
                    beside._parameters[name] = twins[id(parameter)] = (
                        unfilled(module, name, parameter, self._device) if twin is None else twin
                    )
        model.load_weights(self._weights(model))  # type: ignore[operator]
        for name, parameter in with_rests(model.named_parameters()):
            self._check_wanted()
            # vLLM does not say what it has not loaded, nor that it has loaded a part of it.
            if parameter.isnan().any():
                raise CannotStage(f"its files do not fill {name}")
        for _, beside in with_rests(parts):
            self._check_wanted()
            method = getattr(beside, "quant_method", None)
            if method is not None:
                method.process_weights_after_loading(beside)

    def _weights(self, model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
        for weight in with_rests(read_weights(self.weights_path, self._config, model)):
            self._check_wanted()
            yield weight

    def _check_wanted(self) -> None:
        if self._dropped:
            raise CannotStage("it was dropped")


def check_known(model: nn.Module, config: VllmConfig) -> None:
    """Raises CannotStage for a model whose weights may be somewhere else than in the parameters of its modules."""
    if not config.model_config.enforce_eager:
        raise CannotStage("graphs were captured of the weights where they are")
    if config.model_config.word_embeddings_untied_by_checkpoint:
        raise CannotStage("its configuration says tied, and its files do not")
    for name, module in model.named_modules():
        method = getattr(module, "quant_method", None)
        if is_deferred_attention_layer(module):
            if module._parameters:
                raise CannotStage(f"{name} has weights of its own")
        elif method is not None and module._parameters and type(method) not in KNOWN_METHODS:
            raise CannotStage(f"{name} is packed by {type(method).__name__}")
        elif set(module._buffers) - module._non_persistent_buffers_set:
            raise CannotStage(f"{name} has buffers that a file may fill")


def check_room(model: nn.Module, device: torch.device) -> None:
    """Raises CannotStage where the weights do not fit once more, and the largest a second time while it is packed."""
    sizes = [
        original.numel() * original.element_size()
        for module in model.modules()
        if not is_deferred_attention_layer(module)
        for name, parameter in module._parameters.items()
        if parameter is not None
        for original in [unpacked(module, name, parameter)]
    ]
    needed, free = sum(sizes) + max(sizes, default=0), free_bytes(device)
    if needed > MOST_OF_WHAT_IS_FREE * free:
        raise CannotStage(f"it takes {needed >> 20} MiB more, and {free >> 20} are free")


def free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free: int = psutil.virtual_memory().available
    limit = get_cgroup_memory_limit()
    return free if limit is None else min(free, limit - get_cgroup_memory_usage())


def unpacked(module: nn.Module, name: str, parameter: nn.Parameter) -> torch.Tensor:
    """The parameter as a file has it, perhaps without values: packing empties it."""
    original = get_layerwise_info(module).restore_metadata[0].get(name, parameter)
    if not original.numel():
        raise CannotStage(f"what {name} was before it was packed is not known")
    return original


def unfilled(module: nn.Module, name: str, parameter: nn.Parameter, device: torch.device) -> nn.Parameter:
    """Room for the parameter, none of it a number yet, with all that loading it needs to know."""
    original = unpacked(module, name, parameter)
    made: Any = torch.empty_strided(original.size(), original.stride(), dtype=original.dtype, device=device)
    made.fill_(torch.nan)
    made.__class__ = original.__class__
    made.__dict__ = {key: own_loader(value, module) for key, value in original.__dict__.items()}
    result: nn.Parameter = made
    return result


def own_loader(value: Any, module: nn.Module) -> Any:
    """What vLLM keeps with a parameter, its loader made useful again: a reload leaves one that waits for the next
    reload, and a method is kept without the module that it belongs to.
    """
    while getattr(value, "__name__", "") == "online_process_loader":
        value = value.__wrapped__
    return MethodType(value.__func__, module) if isinstance(value, MethodType) else value
