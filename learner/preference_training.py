"""Training a preference model on voted comparisons. `learner.preference_judging` makes it fit for use."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from feedback.learning_settings import PreferenceSettings
from feedback.objectives import OBJECTIVES
from learner.comparisons import (
    ComparisonBatch,
    EncodedComparison,
    VotedComparison,
    encode_comparisons,
    fingerprint_of,
    pieces,
    thinned,
)
from learner.errors import CheckpointInvalid, TrainingDataInvalid, TrainingDiverged
from learner.gradient_checkpointing import checkpoint_layers
from learner.hardware import matmul_precision
from learner.losses import preference_loss
from learner.policy import Policy
from learner.preference_model import FEATURES, PreferenceModel, PreferenceShape, new_preference_model
from learner.processes import ALONE, Processes
from learner.rounded_weights import rounded_once
from learner.schedule import batch_of, set_learning_rates
from learner.sharding import clip_gradients, copy_trained, cut_like, shard
from learner.training_state import TrainingState, restore


@dataclass(frozen=True)
class PreferenceStep:
    """One optimiser step done, of `steps`."""

    step: int
    steps: int
    loss: float


OnPreferenceStep = Callable[[PreferenceStep, Callable[[], TrainingState]], None]


def train_preference_model(
    start: Policy,
    comparisons: Sequence[VotedComparison],
    settings: PreferenceSettings,
    *,
    seed: int,
    objectives: Sequence[str] = OBJECTIVES,
    before: PreferenceModel | None = None,
    processes: Processes = ALONE,
    checkpoint_gradients: bool = False,
    on_step: OnPreferenceStep | None = None,
    resume: TrainingState | None = None,
) -> PreferenceModel:
    """Train on `comparisons`, from the trunk of the starting policy, or from a model that was trained `before` on other
    data. The result wants `calibrate` before it is used.

    `on_step` is called after each optimiser step, with a function that gives the state to resume from. The same
    arguments give the same weights, resumed or not. Raises `TrainingDataInvalid` and `TrainingDiverged`.
    """
    encoded = encode_comparisons(thinned(comparisons, seed), start, objectives, settings)
    if not encoded:
        raise TrainingDataInvalid("no comparison to train the preference model on")
    shares_O = shares_of_objectives(encoded, objectives, settings.objective_weights)
    shape = PreferenceShape(
        objectives=tuple(objectives),
        ensemble_size=settings.ensemble_size,
        start_logprob_feature=settings.start_logprob_feature,
        pessimism=settings.pessimism,
        readout=settings.readout,
        lora=settings.lora.model_dump() if settings.lora.rank else None,
    )
    model = new_preference_model(start.model, shape, seed)
    if before is not None:
        model.take_over(before)
    if checkpoint_gradients:
        checkpoint_layers(model.trunk)
    if processes.count > 1:
        shard(model, compare=model.compare)
    optimizer = _optimizer(model, settings)
    steps = settings.epochs * math.ceil(len(encoded) / settings.comparisons_per_batch)
    fingerprint = fingerprint_of(encoded, settings, seed)
    processes.agree_on(fingerprint)
    modules: dict[str, nn.Module] = {"model": model}
    optimizers: dict[str, torch.optim.Optimizer] = {"optimizer": optimizer}
    first = 0
    if resume is not None:
        if resume.fingerprint != fingerprint:
            raise CheckpointInvalid("the checkpoint belongs to other comparisons, settings or another seed")
        restore(resume.tensors, modules, optimizers)
        first = resume.step

    with matmul_precision(settings.matmul_precision, model.trunk):
        features_C_2_F = _all_features(model, encoded, processes)
        if features_C_2_F is not None and resume is None:
            _standardise(model, features_C_2_F)
        votes_C_E = _bootstrap(encoded, settings.ensemble_size, seed)
        votes_C_E /= _mean_weight(encoded, votes_C_E, shares_O)
        for step in range(first, steps):
            index = batch_of(step, len(encoded), settings.comparisons_per_batch, seed)
            set_learning_rates(optimizer, step, steps, settings.warmup_share)
            loss = _accumulate(
                model, encoded, index, features_C_2_F, votes_C_E, shares_O, settings.score_center_penalty, processes
            )
            _update(model, optimizer, settings.max_gradient_norm)
            if on_step is not None:
                done = step + 1
                state = partial(TrainingState.of, done, fingerprint, modules, optimizers)
                on_step(PreferenceStep(done, steps, loss), state)
    if processes.count == 1:
        return model.eval()
    cut, model = model, new_preference_model(start.model, shape, seed)
    copy_trained(cut, model)
    for name, buffer in model.named_buffers():
        buffer.copy_(cut.get_buffer(name))
    return model.eval()


def shares_of_objectives(
    encoded: Sequence[EncodedComparison], objectives: Sequence[str], wanted: Mapping[str, float]
) -> Tensor:
    """What a vote under each objective weighs where all are learnt together, [O]: all votes of an objective weigh as
    wanted, however many they are, and a vote weighs one on average. Raises `TrainingDataInvalid`."""
    wanted_O = [wanted.get(name, 0.0) for name in objectives]
    voted_O = torch.zeros(len(wanted_O))
    for one in encoded:
        voted_O[one.objective] += one.weight
    shares_O = torch.where(voted_O > 0, torch.tensor(wanted_O) / voted_O, 0.0)
    total = float((shares_O * voted_O).sum())
    if total <= 0:
        raise TrainingDataInvalid("objective_weights gives no weight to any objective that was voted on")
    return shares_O * float(voted_O.sum()) / total


def _mean_weight(encoded: Sequence[EncodedComparison], votes_C_E: Tensor, shares_O: Tensor) -> float:
    """Of a comparison in the loss, under its own objective and in the overall score, all members together.

    Every comparison counts by its weight over this one. Over the mean of its batch, many votes of next to no weight, as
    of a rater who is bounded, would fill batches that teach as much as any other.
    """
    seen, counts = votes_C_E.sum(dim=1).tolist(), (1 + shares_O).tolist()
    weights = (one.weight * times * counts[one.objective] for one, times in zip(encoded, seen, strict=True))
    # Of very few comparisons the bootstrap may draw none.
    return max(sum(weights) / len(encoded), 1e-6)


def _accumulate(
    model: PreferenceModel,
    encoded: Sequence[EncodedComparison],
    index: list[int],
    features_C_2_F: Tensor | None,
    votes_C_E: Tensor,
    shares_O: Tensor,
    penalty: float,
    processes: Processes,
) -> float:
    """Gradients of the loss of the comparisons `index`, in as many pieces as fit; answers the loss.

    Of each piece every process does its share, and one that has none a row that counts nothing: all of them must make
    the same passes.
    """
    total = torch.zeros((), device=model.device)
    with rounded_once(model.trunk):
        for piece in pieces([encoded[i] for i in index]):
            share = processes.share([index[place] for place in piece])
            rows = share or [index[piece[0]]]
            batch = ComparisonBatch.pad([encoded[i] for i in rows], model.device)
            features = None if features_C_2_F is None else features_C_2_F[rows]
            own_votes_C_E, on_device_O = votes_C_E[rows].to(model.device), shares_O.to(model.device)
            loss_sum, center = _loss(model, batch, features, own_votes_C_E, on_device_O)
            loss = loss_sum / len(index) + penalty * center * (len(rows) / len(index))
            loss = loss * bool(share)
            # Over processes gradients are averaged, where their sum is wanted.
            (loss * processes.count).backward()
            total += loss.detach()
    return float(processes.add_up(total.cpu()))


def _loss(
    model: PreferenceModel, batch: ComparisonBatch, features_C_2_F: Tensor | None, votes_C_E: Tensor, shares_O: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted sum of the comparisons' losses, and the mean square of their pairs' mean scores.

    Each comparison teaches the score of its own objective and, as much as its objective counts, the overall one.
    """
    scores_C_2_E_O = model.compare(batch, features_C_2_F)
    rows_C = torch.arange(len(batch), device=model.device)
    own_C_2_E, overall_C_2_E = scores_C_2_E_O[rows_C, :, :, batch.objectives_C], scores_C_2_E_O[..., -1]
    weights_C_E = batch.weights_C[:, None] * votes_C_E
    own_sum = _votes_loss(own_C_2_E, batch.labels_C, weights_C_E)
    overall_sum = _votes_loss(overall_C_2_E, batch.labels_C, weights_C_E * shares_O[batch.objectives_C][:, None])
    own_center, overall_center = (sides.mean(dim=1).square().mean() for sides in (own_C_2_E, overall_C_2_E))
    center = (own_center + overall_center) / 2
    return own_sum + overall_sum, center


def _votes_loss(sides_C_2_E: Tensor, labels_C: Tensor, weights_C_E: Tensor) -> Tensor:
    margins_C_E = sides_C_2_E[:, 0] - sides_C_2_E[:, 1]
    labels_C_E = labels_C[:, None].expand_as(margins_C_E)
    return preference_loss(margins_C_E.flatten(), labels_C_E.flatten(), weights_C_E.flatten())


def _update(model: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float) -> None:
    norm = clip_gradients(model.parameters(), max_norm)
    if not torch.isfinite(norm):
        raise TrainingDiverged("the preference model's gradient is not finite")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _optimizer(model: PreferenceModel, settings: PreferenceSettings) -> torch.optim.AdamW:
    trunk = [parameter for parameter in model.trunk.parameters() if parameter.requires_grad]
    heads = [*model.head_in.parameters(), model.head_out_E_H_O]
    groups: list[dict[str, Any]] = []
    for parameters, peak in ((trunk, settings.learning_rate), (heads, settings.head_learning_rate)):
        groups.append({"params": [p for p in parameters if p.ndim > 1], "peak": peak})
        groups.append({"params": [p for p in parameters if p.ndim <= 1], "peak": peak, "weight_decay": 0.0})
    if model.shape.start_logprob_feature:
        likelihood = [model.likelihood_E_F_O]
        groups.append({"params": likelihood, "peak": settings.likelihood_learning_rate, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), weight_decay=settings.weight_decay, fused=True)


def _bootstrap(encoded: Sequence[EncodedComparison], members: int, seed: int) -> Tensor:
    """How often each member of the ensemble sees each comparison, [C, E]: Poisson(1), or once where there is one
    member.

    All votes on a pair are seen equally often: they share what is odd about its replies, and members that were each
    shown some of them would be more of one mind than their data allow.
    """
    if members == 1:
        return torch.ones(len(encoded), 1)
    numbers: dict[bytes, int] = {}
    pairs_C = [numbers.setdefault(_digest_of_pair(one), len(numbers)) for one in encoded]
    generator = torch.Generator().manual_seed(seed * 1_000_003 - 1)
    return torch.poisson(torch.ones(len(numbers), members), generator=generator)[pairs_C]


def _digest_of_pair(one: EncodedComparison) -> bytes:
    return hashlib.blake2b(repr((one.prompt, one.replies)).encode(), digest_size=16).digest()


def _all_features(model: PreferenceModel, encoded: Sequence[EncodedComparison], processes: Processes) -> Tensor | None:
    if not model.shape.start_logprob_feature:
        return None
    features_C_2_F = torch.zeros(len(encoded), 2, FEATURES, device=model.device)
    with rounded_once(model.start):
        for piece in processes.share(pieces(encoded)):
            features = model.features(ComparisonBatch.pad([encoded[i] for i in piece], model.device))
            assert features is not None
            features_C_2_F[piece] = features
    return processes.add_up(features_C_2_F)


@torch.no_grad()
def _standardise(model: PreferenceModel, features_C_2_F: Tensor) -> None:
    """Have the model count features from their mean here and over their deviation here. Weights that it took over from
    one that counted otherwise say what they said."""
    flat_F = features_C_2_F.flatten(0, 1)
    deviation_F = flat_F.std(dim=0, unbiased=False).clamp(min=1e-3)
    weights_E_F_O = model.likelihood_E_F_O
    ratio_E_F_O = (deviation_F / model.feature_deviation_F)[:, None].expand(weights_E_F_O.shape)
    weights_E_F_O.mul_(cut_like(ratio_E_F_O.contiguous(), weights_E_F_O))
    model.feature_mean_F.copy_(flat_F.mean(dim=0))
    model.feature_deviation_F.copy_(deviation_F)
