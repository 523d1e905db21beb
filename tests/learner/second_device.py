"""A stand-in for a GPU, as a plugin of pytest: a device that computes on the CPU, and refuses what a GPU refuses.

Its tensors are wrappers around the CPU's. An operation some of whose operands are on it and some are not fails, unless
the others are single numbers, and so does taking its values without a copy to the CPU. So a machine without a GPU can
tell whether everything was put where it belongs; of speed, rounding and bf16 it can tell nothing. The device type is
`lazy`, for which torch brings its bookkeeping and no kernels.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

DEVICE = "lazy"

aten = torch.ops.aten
MOVES = {aten._to_copy.default, aten.copy_.default}
# A GPU takes indices that are on the CPU.
INDEXES = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class There(Tensor):
    """A tensor on the second device; `here` holds its values."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "There":
        self = Tensor._make_wrapper_subclass(
            cls, here.size(), here.stride(), here.storage_offset(), dtype=here.dtype, device=DEVICE
        )
        self.here = here
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})

    def __getitem__(self, index):
        return Tensor.__getitem__(self, _as_tensors(index))

    def __setitem__(self, index, values):
        Tensor.__setitem__(self, _as_tensors(index), values)

    def __repr__(self):
        return f"There({self.here!r})"

    def tolist(self):
        return self.here.tolist()

    def numpy(self, **kwargs):
        raise TypeError("can't convert a tensor of the second device to numpy: copy it to the CPU first")


class SecondDevice(TorchDispatchMode):
    """Within the block the device is there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


def compute(function: Any, args: tuple, kwargs: dict) -> Any:
    """What an operation gives: on the second device where its operands are, or where it is told to make it."""
    leaves, spec = tree_flatten((args, kwargs))
    there = [one for one in leaves if isinstance(one, There)]
    device = kwargs.get("device")
    asked = None if device is None else torch.device(device).type
    if there and function not in MOVES:
        _refuse_strays(function, args, leaves)
    here_args, here_kwargs = tree_unflatten([one.here if isinstance(one, There) else one for one in leaves], spec)
    if asked == DEVICE:
        here_kwargs = here_kwargs | {"device": torch.device("cpu")}
    made = function(*here_args, **here_kwargs)
    if function is aten.copy_.default:
        return args[0]
    if not (there if asked is None else asked == DEVICE) or function is aten._local_scalar_dense.default:
        return made
    known = {id(one.here): one for one in there}

    def brought(one: Any) -> Any:
        if not isinstance(one, Tensor):
            return one
        return known[id(one)] if id(one) in known else There(one)

    return tree_map(brought, made)


def _refuse_strays(function: Any, args: tuple, leaves: list) -> None:
    operands = leaves
    if function in INDEXES:
        operands = [args[0], *args[2:]]
    strays = [one for one in operands if isinstance(one, Tensor) and not isinstance(one, There) and one.dim()]
    if strays:
        raise RuntimeError(f"{function}: expected all tensors to be on one device, found some on the CPU")


def _as_tensors(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(map(_as_tensors, index))
    return make(index) if isinstance(index, list) else index


make, convert, supported = torch.tensor, torch.as_tensor, optimizer._get_fused_kernels_supported_devices
enabled = torch.is_autocast_enabled


def _make(data, *, device=None, **kwargs):
    made = make(data, **kwargs)
    return made if device is None else made.to(device)


def _convert(data, dtype=None, device=None):
    made = data if isinstance(data, There) else convert(data, dtype=dtype)
    return made if device is None else made.to(device)


class Autocast(torch.autocast):
    """There is none on the second device."""

    def __init__(self, device_type: str, *args, **kwargs) -> None:
        if device_type == DEVICE:
            device_type, kwargs = "cpu", kwargs | {"enabled": False}
        super().__init__(device_type, *args, **kwargs)


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    """Bring the device in, and what torch does not ask a device's wrapper for."""
    torch.tensor, torch.as_tensor, torch.autocast = _make, _convert, Autocast
    optimizer._get_fused_kernels_supported_devices = lambda: [*supported(), DEVICE]
    torch.is_autocast_enabled = lambda device=None: device != DEVICE and (enabled(device) if device else enabled())
    SecondDevice().__enter__()
