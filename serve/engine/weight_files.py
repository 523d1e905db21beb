"""In the engine's process: the weights in a policy folder, as vLLM's loader reads them."""

from collections.abc import Iterator
from copy import copy
from typing import Any

import torch
from torch import nn
from vllm.config import ModelConfig, VllmConfig
from vllm.model_executor.model_loader import get_model_loader


def read_weights(folder: str, config: VllmConfig, model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors, one after the other. The configuration stays that of what serves."""
    load_config, model_config = copy(config.load_config), copy(config.model_config)
    load_config.use_tqdm_on_load = False
    name_folder(model_config, folder)
    loader: Any = get_model_loader(load_config)
    yield from loader.get_all_weights(model_config, model)


def name_folder(model_config: ModelConfig, folder: str) -> None:
    """The model's weights are those of the folder from now on."""
    model_config.model, model_config.model_weights, model_config.revision = folder, "", None
