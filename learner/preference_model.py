"""The preference model: one trunk, a score per objective and one overall, read off a reply.

P(A preferred to B) = sigmoid(score A - score B), per objective. The overall score learns from the votes under every
objective, as the paper's preference models do from their mix of helpful and harmless data: on each kind of prompt those
votes speak loudest that people gave there, so that a harmless refusal is not wanted where nobody saw harm. Scores have
mean zero and are calibrated on held-out votes. Dimension O counts the score columns: the objectives, then overall.
The score is read at the last token of the reply, as in the paper, or off the mean of its tokens, from which a
small trunk learns manner with fewer votes. It sees manner (rude, refusing, complying) but not whether a statement is
true. With the starting policy given, the scores may also use how likely that policy finds the reply: this makes wrong
answers visible to a trunk of any size, and it is partly a pull towards what the starting policy would say anyway. It
knows nothing of votes, optimisers or sampling.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from feedback.learning_settings import LoRASettings
from feedback.objectives import OVERALL
from learner.comparisons import ComparisonBatch
from learner.errors import CheckpointInvalid
from learner.fused_norms import fuse_norms
from learner.language_model import hidden_states, reply_logprobs, room_without_gradients, token_logprobs
from learner.lora import copy_sharing_frozen, with_adapter
from learner.number_format import exactly
from learner.pairs import pair_states
from learner.sequences import Episodes

FEATURES = 2


@dataclass(frozen=True)
class PreferenceShape:
    """What must be known to build a preference model before its weights are read."""

    objectives: tuple[str, ...]
    ensemble_size: int = 1
    head_width: int = 64
    start_logprob_feature: bool = False
    pessimism: float = 0.0
    readout: Literal["mean", "last"] = "last"
    lora: Mapping[str, Any] | None = None
    """Settings of the adapter that the trunk is, around the starting policy's weights; None for a trunk of its own."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the scores, in their order."""
        return (*self.objectives, OVERALL)


class PreferenceModel(nn.Module):
    """Scores replies. `start` is the frozen starting policy; it is no part of the saved weights.

    Members of the ensemble share the trunk and have heads of their own. `center_O`, `temperature_O` and `scale_O` come
    from held-out votes: score = (mean over members - pessimism * deviation - center) / temperature, in logits of a
    vote; `scale_O` is the deviation of the scores over replies. Each member counts from its own mean there,
    `member_center_E_O`: votes leave it open, so it says nothing of how far they disagree. `length_slope_O` is what each
    token of a reply adds to its raw score, and is taken out of it; `anchor_O` the mean score of the anchor replies
    (`learner.anchor`).
    """

    member_center_E_O: Tensor
    length_slope_O: Tensor
    center_O: Tensor
    temperature_O: Tensor
    scale_O: Tensor
    anchor_O: Tensor
    feature_mean_F: Tensor
    feature_deviation_F: Tensor

    def __init__(self, trunk: PreTrainedModel, shape: PreferenceShape, start: PreTrainedModel | None = None) -> None:
        super().__init__()
        if shape.start_logprob_feature and start is None:
            raise CheckpointInvalid("this preference model needs the starting policy it was trained with")
        self.trunk = trunk
        self.shape = shape
        # In a tuple, so that torch does not take the frozen policy for a part of this module.
        self._start = (start,)
        members, columns = shape.ensemble_size, len(shape.columns)
        self.head_in = nn.Linear(trunk.config.get_text_config().hidden_size, members * shape.head_width)
        self.head_out_E_H_O = nn.Parameter(torch.randn(members, shape.head_width, columns) * shape.head_width**-0.5)
        if shape.start_logprob_feature:
            self.likelihood_E_F_O = nn.Parameter(torch.zeros(members, FEATURES, columns))
        for name, value, size in (
            ("length_slope_O", 0.0, columns),
            ("center_O", 0.0, columns),
            ("temperature_O", 1.0, columns),
            ("scale_O", 1.0, columns),
            ("anchor_O", 0.0, columns),
            ("feature_mean_F", 0.0, FEATURES),
            ("feature_deviation_F", 1.0, FEATURES),
        ):
            self.register_buffer(name, torch.full((size,), value))
        self.register_buffer("member_center_E_O", torch.zeros(members, columns))
        self.to(trunk.device)

    @property
    def start(self) -> PreTrainedModel | None:
        """The frozen starting policy, where the scores use it."""
        return self._start[0]

    @property
    def device(self) -> torch.device:
        return self.trunk.device

    @torch.no_grad()
    def take_over(self, before: "PreferenceModel") -> None:
        """Begin from another model of the same make: from its trunk, and every score from its overall one."""
        self.trunk.load_state_dict(before.trunk.state_dict())
        self.head_in.load_state_dict(before.head_in.state_dict())
        self.head_out_E_H_O.copy_(before.head_out_E_H_O[..., -1:].expand_as(self.head_out_E_H_O))
        if self.shape.start_logprob_feature:
            self.likelihood_E_F_O.copy_(before.likelihood_E_F_O[..., -1:].expand_as(self.likelihood_E_F_O))
            self.feature_mean_F.copy_(before.feature_mean_F)
            self.feature_deviation_F.copy_(before.feature_deviation_F)

    def member_scores(self, hidden_B_D: Tensor, features_B_F: Tensor | None, lengths_B: Tensor) -> Tensor:
        """Raw scores [B, E, O] of replies from what the heads see of them, their lengths in tokens and, where the model
        uses them, features."""
        with exactly(hidden_B_D.device):
            inner_B_E_H = F.silu(self.head_in(hidden_B_D.float())).unflatten(1, (self.shape.ensemble_size, -1))
            scores_B_E_O = torch.einsum("beh,eho->beo", inner_B_E_H, self.head_out_E_H_O)
            scores_B_E_O = scores_B_E_O - lengths_B[:, None, None] * self.length_slope_O
            if features_B_F is None:
                return scores_B_E_O
            standard_B_F = (features_B_F - self.feature_mean_F) / self.feature_deviation_F
            return scores_B_E_O + torch.einsum("bf,efo->beo", standard_B_F, self.likelihood_E_F_O)

    def aggregate(self, scores_B_E_O: Tensor) -> Tensor:
        """Scores [B, O] of the ensemble: pessimistic mean, centred and calibrated."""
        scores_B_E_O = scores_B_E_O - self.member_center_E_O
        raw_B_O = scores_B_E_O.mean(dim=1)
        if self.shape.pessimism:
            raw_B_O = raw_B_O - self.shape.pessimism * scores_B_E_O.std(dim=1, unbiased=False)
        return (raw_B_O - self.center_O) / self.temperature_O

    def combine(self, scores_B_O: Tensor, weights: Mapping[str, float]) -> Tensor:
        """One number a reply, [B]: the weighted sum of scores, each from the anchor's and over its own deviation.

        So a score counts by its weight, however many votes it had; unnamed ones count nothing. Zero is what the
        starting policy's anchor replies have on average, whichever iteration trained this model.
        """
        weights_O = torch.tensor([float(weights.get(name, 0)) for name in self.shape.columns], device=scores_B_O.device)
        anchor_O, scale_O = self.anchor_O.to(scores_B_O.device), self.scale_O.to(scores_B_O.device)
        with exactly(scores_B_O.device):
            return (scores_B_O - anchor_O) / scale_O @ weights_O

    def compare(self, batch: ComparisonBatch, features_C_2_F: Tensor | None) -> Tensor:
        """Raw member scores [C, 2, E, O] of both sides, their prompt computed once."""
        read_C_T = batch.ends_reply_C_T if self.shape.readout == "last" else batch.is_reply_C_T
        lengths_C2 = batch.lengths_3_C[1:].T.flatten()
        read_C2_D = self._read(pair_states(self.trunk, batch, read_C_T), lengths_C2)
        features_C2_F = None if features_C_2_F is None else features_C_2_F.flatten(0, 1)
        return self.member_scores(read_C2_D, features_C2_F, lengths_C2).unflatten(0, (len(batch), 2))

    @torch.no_grad()
    def states(self, episodes: Episodes) -> tuple[Tensor, Tensor]:
        """By one pass, the trunk's hidden states [N, D] before each reply token, which know nothing of it yet, and
        those [M, D] that `score` reads the replies off."""
        before_B_T, read_B_T = episodes.predicts_reply_B_T, self._reads(episodes)
        either_B_T = before_B_T | read_B_T
        states_L_D = hidden_states(self.trunk, episodes.tokens_B_T, either_B_T, episodes.present_B_T)
        return states_L_D[before_B_T[either_B_T]], states_L_D[read_B_T[either_B_T]]

    @torch.no_grad()
    def score(
        self, episodes: Episodes, start_logprobs_N: Tensor | None = None, states_M_D: Tensor | None = None
    ) -> Tensor:
        """Scores [B, O] of replies. `start_logprobs_N` spares a pass through the starting policy where they are
        known, `states_M_D` one through the trunk (see `states`)."""
        return self.aggregate(self.score_by_member(episodes, start_logprobs_N, states_M_D))

    @torch.no_grad()
    def score_by_member(
        self, episodes: Episodes, start_logprobs_N: Tensor | None = None, states_M_D: Tensor | None = None
    ) -> Tensor:
        """Raw scores [B, E, O], of which `aggregate` makes those of `score`."""
        if states_M_D is None:
            states_M_D = hidden_states(self.trunk, episodes.tokens_B_T, self._reads(episodes), episodes.present_B_T)
        read_B_D = self._read(states_M_D, episodes.reply_lengths_B)
        features_B_F = None
        if self.start is not None and self.shape.start_logprob_feature:
            if start_logprobs_N is None:
                start_logprobs_N = reply_logprobs(self.start, episodes)
            features_B_F = likelihood_features(episodes.unpack(start_logprobs_N), episodes.reply_mask_B_R)
        return self.member_scores(read_B_D, features_B_F, episodes.reply_lengths_B)

    @torch.no_grad()
    def score_all(self, episodes: Episodes) -> Tensor:
        """Scores [B, O], on the CPU, of more replies than go through one pass."""
        scores_B_O = torch.zeros(len(episodes), len(self.shape.columns))
        for rows_B in episodes.by_length(room_without_gradients(self.trunk)):
            scores_B_O[rows_B.cpu()] = self.score(episodes.take(rows_B)).cpu()
        return scores_B_O

    def _reads(self, episodes: Episodes) -> Tensor:
        """True at the tokens [B, T] whose states `_read` takes."""
        return episodes.ends_reply_B_T if self.shape.readout == "last" else episodes.is_reply_B_T

    def _read(self, states_N_D: Tensor, lengths_S: Tensor) -> Tensor:
        """What the heads see of S replies, [S, D]: the states at their last tokens, or the means over all of each."""
        if self.shape.readout == "last":
            return states_N_D
        states_N_D = states_N_D.float()
        replies_S = torch.arange(len(lengths_S), device=self.device)
        replies_N = replies_S.repeat_interleave(lengths_S, output_size=len(states_N_D))
        sums_S_D = states_N_D.new_zeros(len(lengths_S), states_N_D.shape[1]).index_add(0, replies_N, states_N_D)
        return sums_S_D / lengths_S[:, None]

    @torch.no_grad()
    def features(self, batch: ComparisonBatch) -> Tensor | None:
        """Likelihood features [C, 2, F] of both sides under the starting policy, where the model uses them."""
        if self.start is None or not self.shape.start_logprob_feature:
            return None
        hidden_N_D = batch.predicting(pair_states(self.start.base_model, batch, batch.predicts_reply_C_T))
        logprobs_N = token_logprobs(self.start, hidden_N_D, batch.reply_tokens_N)
        return likelihood_features(batch.unpack(logprobs_N), batch.reply_mask_C_2_R)


def likelihood_features(logprobs_xR: Tensor, mask_xR: Tensor) -> Tensor:
    """[..., R] to [..., F]: mean and minimum of each reply's log-probabilities in nats. Neither grows with length."""
    logprobs_xR = torch.where(mask_xR, logprobs_xR, 0)
    return torch.stack([logprobs_xR.sum(dim=-1) / mask_xR.sum(dim=-1), logprobs_xR.amin(dim=-1)], dim=-1)


def new_preference_model(start: PreTrainedModel, shape: PreferenceShape, seed: int) -> PreferenceModel:
    """An untrained preference model on a copy of the starting policy's trunk, its heads drawn from `seed`.

    The copy is in fp32, however coarse the start, or an adapter on the start's own weights, which are frozen then.
    """
    if shape.lora is None:
        trunk = copy.deepcopy(start.base_model).float().requires_grad_(True)
    else:
        trunk = _adapted(start, shape.lora, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PreferenceModel(trunk, shape, start).eval()


def save_preference_model(model: PreferenceModel, folder: Path | str) -> None:
    """Write weights (safetensors; without those of the start), shape and trunk configuration (JSON)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.trunk.config.save_pretrained(folder)
    (folder / "preference.json").write_text(json.dumps(asdict(model.shape)))
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in _own_state(model).items()}
    save_file(state, folder / "preference.safetensors")


def load_preference_model(
    folder: Path | str, start: PreTrainedModel | None = None, device: str = "cpu"
) -> PreferenceModel:
    """Read what `save_preference_model` wrote. `start` must be the starting policy that it was trained with, if any.

    Raises `CheckpointInvalid` where files are missing or do not fit together.
    """
    folder = Path(folder)
    try:
        fields = json.loads((folder / "preference.json").read_text())
        shape = PreferenceShape(**{**fields, "objectives": tuple(fields["objectives"])})
        if shape.lora is None:
            trunk = AutoModel.from_config(
                AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            ).float()
        else:
            trunk = _adapted(start, shape.lora, seed=0)
        model = PreferenceModel(trunk, shape, start)
        # Models of earlier homes have no length taken out, no anchor, and members that count from zero.
        later = {name: getattr(model, name) for name in ("length_slope_O", "anchor_O", "member_center_E_O")}
        state = later | load_file(folder / "preference.safetensors")
        if state.keys() != _own_state(model).keys():
            raise CheckpointInvalid(f"{folder}: not the weights of this preference model")
        model.load_state_dict(state, strict=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointInvalid(f"{folder}: not a preference model: {error}") from error
    model = model.to(device).eval()
    if model.device.type == "cuda":
        fuse_norms(model.trunk)
    return model


def _adapted(start: PreTrainedModel | None, lora: Mapping[str, Any], seed: int) -> PreTrainedModel:
    if start is None:
        raise CheckpointInvalid("this preference model is an adapter: it needs the starting policy it was trained with")
    start.requires_grad_(False)
    return with_adapter(copy_sharing_frozen(start.base_model), LoRASettings.model_validate(lora), seed)


def _own_state(model: PreferenceModel) -> dict[str, Tensor]:
    """Weights and buffers that are not the starting policy's."""
    shared = {f"trunk.{name}" for name, weight in model.trunk.named_parameters() if not weight.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in shared}
