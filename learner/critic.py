"""The critic: the expected return before each reply token."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from learner.language_model import predicting_states
from learner.lora import copy_sharing_frozen
from learner.number_format import exactly
from learner.sequences import Episodes


class Critic(nn.Module):
    """A linear value on hidden states: of a trunk of its own, or of the policy's. Values begin at zero."""

    def __init__(self, trunk: PreTrainedModel | None, width: int, device: torch.device) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.to(device)

    @classmethod
    def on_copy_of(cls, trunk: PreTrainedModel) -> "Critic":
        """A critic with its own trunk that starts as a copy of `trunk`, around its frozen weights if it has any."""
        return cls(copy_sharing_frozen(trunk), trunk.config.get_text_config().hidden_size, trunk.device)

    @classmethod
    def on_policy(cls, policy: PreTrainedModel) -> "Critic":
        """A critic that shares the policy's trunk."""
        return cls(None, policy.config.get_text_config().hidden_size, policy.device)

    def forward(self, episodes: Episodes, policy_hidden_N_D: Tensor) -> Tensor:
        """Values [N] before each reply token; `policy_hidden_N_D` are the policy's hidden states at these places."""
        hidden_N_D = policy_hidden_N_D
        if self.trunk is not None:
            hidden_N_D = predicting_states(self.trunk, episodes)
        with exactly(hidden_N_D.device):
            return self.head(hidden_N_D.float()).sum(dim=1)
