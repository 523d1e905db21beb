"""A training run frozen between two steps: weights, optimisers and counters in one safetensors file, never pickle."""

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from learner.errors import CheckpointInvalid
from learner.sharding import cut_like, whole


@dataclass(frozen=True)
class TrainingState:
    """State after `step` steps. Random numbers are drawn from (seed, step) alone, so no generator needs keeping.

    `fingerprint` says which run this belongs to; resuming another one is refused.
    """

    step: int
    fingerprint: str
    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, step: int, fingerprint: str, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
    ) -> "TrainingState":
        """The state of a run whose weights and moments are all there is to it."""
        return cls(step, fingerprint, capture(modules, optimizers))

    def save(self, path: Path | str) -> None:
        """Write durably and all at once: a kill leaves the old file or the new one."""
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        said = {"step": self.step, "fingerprint": self.fingerprint, "numbers": dict(self.numbers)}
        about = json.dumps(said | {"checksum": _checksum(self.tensors)})
        save_file(dict(self.tensors), partial, metadata={"tandem": about})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @classmethod
    def load(cls, path: Path | str) -> "TrainingState":
        """Read what `save` wrote. Raises `CheckpointInvalid`."""
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads(file.metadata()["tandem"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CheckpointInvalid(f"{path}: not a checkpoint: {error}") from error
        if about.get("checksum") != _checksum(tensors):
            raise CheckpointInvalid(f"{path}: the checkpoint was changed since it was written")
        return cls(about["step"], about["fingerprint"], tensors, about["numbers"])


def capture(modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    """Copies of all trained weights, buffers and optimiser moments, by name, on the CPU.

    Of modules that are cut into shares, whole: then all processes must call this.
    """
    tensors = {
        f"module.{name}.{key}": tensor for name, module in modules.items() for key, tensor in _changing(module).items()
    }
    for name, optimizer in optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            for key, value in moments.items():
                tensors[f"optimizer.{name}.{index}.{key}"] = torch.as_tensor(value)
    return {key: whole(tensor.detach()).to("cpu", copy=True).contiguous() for key, tensor in tensors.items()}


def restore(
    tensors: Mapping[str, Tensor],
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
) -> None:
    """Put back what `capture` took, into modules and optimisers of the same make, whether they are cut into shares or
    not. Raises `CheckpointInvalid`, and nothing is changed then: who begins anew may do so with the same modules."""
    weights = {name: _under(tensors, f"module.{name}.") for name in modules}
    for name, module in modules.items():
        if weights[name].keys() != _changing(module).keys():
            raise CheckpointInvalid(f"the checkpoint's {name} is of another make")
    moments = {name: _moments(tensors, name, optimizer) for name, optimizer in optimizers.items()}
    for name, module in modules.items():
        own = _changing(module)
        module.load_state_dict({key: cut_like(tensor, own[key]) for key, tensor in weights[name].items()}, strict=False)
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict({"state": moments[name], "param_groups": optimizer.state_dict()["param_groups"]})


def _moments(tensors: Mapping[str, Tensor], name: str, optimizer: Optimizer) -> dict[int, dict[str, Tensor]]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in _under(tensors, f"optimizer.{name}.").items():
        index, moment = key.split(".", 1)
        of = parameters[int(index)]
        # The count of steps has no shape.
        if tensor.ndim and tensor.shape != of.shape:
            raise CheckpointInvalid(f"the checkpoint's {name} is of another make")
        state.setdefault(int(index), {})[moment] = cut_like(tensor, of) if tensor.ndim else tensor
    return state


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 of names and values: a disk that fails is to be found out, not somebody who forges."""
    found = 0
    for name in sorted(tensors):
        found = zlib.crc32(name.encode(), found)
        if tensors[name].numel():
            values = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            found = zlib.crc32(memoryview(values.numpy()), found)  # type: ignore[arg-type]
    return found


def copy_weights(module: nn.Module) -> dict[str, Tensor]:
    """Copies of a module's trained weights and buffers on the CPU; `module.load_state_dict(..., strict=False)` takes
    them. The module must not be cut."""
    return {key: tensor.detach().to("cpu", copy=True) for key, tensor in _changing(module).items()}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _changing(module: nn.Module) -> dict[str, Tensor]:
    """A module's buffers, and each trained parameter once: a tied output layer is the embedding under another name."""
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    others = {name for name, _ in module.named_parameters(remove_duplicate=False)} - trained
    return {name: tensor for name, tensor in module.state_dict().items() if name not in others}
