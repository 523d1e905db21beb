"""The critic: the expected return before each reply token."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from learner.few_shapes import with_rows_to_spare
from learner.language_model import predicting_states
from learner.lora import copy_sharing_frozen
from learner.number_format import exactly
from learner.sequences import Episodes

INNER_WIDTH = 64


class Critic(nn.Module):
    """A linear value on hidden states: of a trunk of its own, or of the policy's. Values begin at zero."""

    def __init__(self, trunk: PreTrainedModel | None, width: int, device: torch.device) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = _zero(nn.Linear(width, 1))
        self.to(device)

    @classmethod
    def on_copy_of(cls, trunk: PreTrainedModel) -> "Critic":
        """A critic with its own trunk that starts as a copy of `trunk`, around its frozen weights if it has any."""
        return cls(copy_sharing_frozen(trunk), trunk.config.get_text_config().hidden_size, trunk.device)

    @classmethod
    def on_policy(cls, policy: PreTrainedModel) -> "Critic":
        """A critic that shares the policy's trunk."""
        return cls(None, policy.config.get_text_config().hidden_size, policy.device)

    @property
    def shares_policy(self) -> bool:
        """Whether its gradient moves the policy too."""
        return self.trunk is None

    def forward(self, episodes: Episodes, policy_hidden_N_D: Tensor | None) -> Tensor:
        """Values [N] before each reply token; `policy_hidden_N_D` are the policy's hidden states at these places, which
        a critic with a trunk of its own does not read."""
        hidden_N_D = policy_hidden_N_D if self.trunk is None else predicting_states(self.trunk, episodes)
        assert hidden_N_D is not None
        with exactly(hidden_N_D.device):
            return self.head(hidden_N_D.float()).sum(dim=1)


class PreferenceCritic(nn.Module):
    """Values that a small network reads off the preference model's hidden states, which come with the scores and never
    change: once a step they are computed, however often the critic learns from them.

    It sees the state before each token and the mean of the reply's states so far, since from such a mean, or from the
    last state, the preference model takes its score. Values begin at zero.
    """

    shares_policy = False
    trunk = None

    def __init__(self, trunk: PreTrainedModel, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inner = nn.Linear(2 * trunk.config.get_text_config().hidden_size, INNER_WIDTH)
        self.head = nn.Sequential(inner, nn.SiLU(), _zero(nn.Linear(INNER_WIDTH, 1)))
        self.to(trunk.device)

    def forward(self, episodes: Episodes, states_N_D: Tensor) -> Tensor:
        """Values [N] before each reply token, from the preference model's states before it."""
        with exactly(states_N_D.device):
            # Of one size whatever the model, so that one learning rate suits them all.
            states_N_D = F.rms_norm(states_N_D.float(), states_N_D.shape[1:])
            seen_N_2D = torch.cat([states_N_D, means_so_far(states_N_D, episodes)], dim=1)
            return self.head(with_rows_to_spare(seen_N_2D))[: len(seen_N_2D), 0]


def means_so_far(states_N_D: Tensor, episodes: Episodes) -> Tensor:
    """Mean [N, D] of the states of a reply's tokens before each one; zero before the first.

    `states_N_D` are the states before each token: the first of a reply is still its prompt's, and counts nothing.
    """
    states_B_R_D = episodes.unpack(states_N_D)
    sums_B_R_D = states_B_R_D.cumsum(dim=1) - states_B_R_D[:, :1]
    counts_R_1 = torch.arange(sums_B_R_D.shape[1], device=states_N_D.device).clamp(min=1)[:, None]
    return episodes.pack(sums_B_R_D / counts_R_1)


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
