"""Training a preference model on voted comparisons, then centring, calibrating and judging it on held-out ones."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from feedback.learning_settings import PreferenceSettings
from learner.calibration import (
    accuracy,
    calibration_bins,
    correlation,
    cross_entropy,
    cross_fitted,
    expected_calibration_error,
    fit_temperature,
)
from learner.comparisons import (
    ComparisonBatch,
    EncodedComparison,
    VotedComparison,
    encode_comparison,
)
from learner.errors import CheckpointInvalid, TrainingDataInvalid, TrainingDiverged
from learner.hardware import matmul_precision
from learner.losses import preference_loss
from learner.policy import Policy
from learner.preference_model import FEATURES, OVERALL, PreferenceModel, PreferenceShape, new_preference_model
from learner.training_state import TrainingState, capture, restore

OBJECTIVES = ("helpful", "harmless")
# Attention of one forward pass: rows times the square of the longest. 64 short comparisons, or one of 2048 tokens.
PAIRS_PER_FORWARD = 1 << 22
COMPARISONS_PER_FORWARD = 64
SURE_LABEL = 0.85


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
    on_step: OnPreferenceStep | None = None,
    resume: TrainingState | None = None,
) -> PreferenceModel:
    """Train on `comparisons`, from the trunk of the starting policy. The result wants `calibrate` before it is used.

    `on_step` is called after each optimiser step, with a function that gives the state to resume from. The same
    arguments give the same weights, resumed or not. Raises `TrainingDataInvalid` and `TrainingDiverged`.
    """
    encoded = [
        encode_comparison(one, start, objectives, settings.max_prompt_tokens, settings.max_reply_tokens)
        for one in comparisons
        if one.weight > 0
    ]
    if not encoded:
        raise TrainingDataInvalid("no comparison to train the preference model on")
    shares_O = _shares(encoded, [settings.objective_weights.get(name, 0.0) for name in objectives])
    shape = PreferenceShape(
        objectives=tuple(objectives),
        ensemble_size=settings.ensemble_size,
        start_logprob_feature=settings.start_logprob_feature,
        pessimism=settings.pessimism,
        readout=settings.readout,
    )
    model = new_preference_model(start.model, shape, seed)
    optimizer = _optimizer(model, settings)
    steps_per_epoch = math.ceil(len(encoded) / settings.comparisons_per_batch)
    steps = settings.epochs * steps_per_epoch
    fingerprint = _fingerprint(encoded, settings, seed)
    modules: dict[str, nn.Module] = {"model": model}
    optimizers: dict[str, torch.optim.Optimizer] = {"optimizer": optimizer}
    first = 0
    if resume is not None:
        if resume.fingerprint != fingerprint:
            raise CheckpointInvalid("the checkpoint belongs to other comparisons, settings or another seed")
        restore(resume.tensors, modules, optimizers)
        first = resume.step

    with matmul_precision(settings.matmul_precision, model.trunk):
        features_C_2_F = _all_features(model, encoded)
        if features_C_2_F is not None and resume is None:
            _standardise(model, features_C_2_F)
        votes_C_E = _bootstrap(len(encoded), settings.ensemble_size, seed)
        for step in range(first, steps):
            order_C = torch.randperm(len(encoded), generator=_generator(seed, step // steps_per_epoch))
            start_at = step % steps_per_epoch * settings.comparisons_per_batch
            index = order_C[start_at : start_at + settings.comparisons_per_batch].tolist()
            _schedule(optimizer, step, steps, settings.warmup_share)
            loss = _accumulate(
                model, encoded, index, features_C_2_F, votes_C_E, shares_O, settings.score_center_penalty
            )
            _update(model, optimizer, settings.max_gradient_norm)
            if on_step is not None:
                done = step + 1
                state = partial(_state, done, fingerprint, modules, optimizers)
                on_step(PreferenceStep(done, steps, loss), state)
    return model.eval()


def _state(
    step: int, fingerprint: str, modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]
) -> TrainingState:
    return TrainingState(step, fingerprint, capture(modules, optimizers))


def _shares(encoded: Sequence[EncodedComparison], wanted_O: Sequence[float]) -> Tensor:
    """What a vote under each objective weighs in the overall score, [O]: all votes of an objective together weigh as
    wanted, however many they are, and a vote weighs one on average."""
    voted_O = torch.zeros(len(wanted_O))
    for one in encoded:
        voted_O[one.objective] += one.weight
    shares_O = torch.where(voted_O > 0, torch.tensor(wanted_O) / voted_O.clamp(min=1e-6), 0.0)
    total = float((shares_O * voted_O).sum())
    if total <= 0:
        raise TrainingDataInvalid("preference.objective_weights gives no weight to any objective that was voted on")
    return shares_O * float(voted_O.sum()) / total


def _accumulate(
    model: PreferenceModel,
    encoded: Sequence[EncodedComparison],
    index: Sequence[int],
    features_C_2_F: Tensor | None,
    votes_C_E: Tensor,
    shares_O: Tensor,
    penalty: float,
) -> float:
    """Gradients of the loss of the comparisons `index`, in as many pieces as fit; answers the loss."""
    weight = sum(
        encoded[i].weight * float(votes_C_E[i].sum()) * float(1 + shares_O[encoded[i].objective]) for i in index
    )
    total = 0.0
    for piece in _pieces([encoded[i] for i in index]):
        rows = [index[place] for place in piece]
        batch = ComparisonBatch.pad([encoded[i] for i in rows], model.device)
        features = None if features_C_2_F is None else features_C_2_F[rows]
        loss_sum, center = _loss(model, batch, features, votes_C_E[rows].to(model.device), shares_O.to(model.device))
        loss = loss_sum / max(weight, 1e-6) + penalty * center * (len(rows) / len(index))
        loss.backward()
        total += float(loss.detach())
    return total


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
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    if not torch.isfinite(norm):
        raise TrainingDiverged("the preference model's gradient is not finite")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _optimizer(model: PreferenceModel, settings: PreferenceSettings) -> torch.optim.AdamW:
    heads = [*model.head_in.parameters(), model.head_out_E_H_O]
    trunk = list(model.trunk.parameters())
    groups = [
        {"params": [p for p in trunk if p.ndim > 1], "peak": settings.learning_rate},
        {"params": [p for p in trunk if p.ndim <= 1], "peak": settings.learning_rate, "weight_decay": 0.0},
        {"params": heads, "peak": settings.head_learning_rate},
    ]
    if model.shape.start_logprob_feature:
        likelihood = {
            "params": [model.likelihood_E_F_O],
            "peak": settings.likelihood_learning_rate,
            "weight_decay": 0.0,
        }
        groups.append(likelihood)
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), weight_decay=settings.weight_decay, fused=True)


def _schedule(optimizer: torch.optim.Optimizer, step: int, steps: int, warmup_share: float) -> None:
    warmup = max(1, round(warmup_share * steps))
    if step < warmup:
        share = (step + 1) / warmup
    else:
        share = 0.55 + 0.45 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


def _bootstrap(comparisons: int, members: int, seed: int) -> Tensor:
    """How often each member of the ensemble sees each comparison, [C, E]: Poisson(1), or once where there is one
    member."""
    if members == 1:
        return torch.ones(comparisons, 1)
    generator = torch.Generator().manual_seed(seed * 1_000_003 - 1)
    return torch.poisson(torch.ones(comparisons, members), generator=generator)


def _pieces(encoded: Sequence[EncodedComparison]) -> list[list[int]]:
    """Places of comparisons, those of like length together, in pieces that one forward pass can hold."""
    lengths = [len(one.prompt) + len(one.replies[0]) + len(one.replies[1]) for one in encoded]
    pieces: list[list[int]] = []
    for place in sorted(range(len(encoded)), key=lengths.__getitem__):
        rows = len(pieces[-1]) + 1 if pieces else 0
        if not pieces or rows > COMPARISONS_PER_FORWARD or rows * lengths[place] ** 2 > PAIRS_PER_FORWARD:
            pieces.append([])
        pieces[-1].append(place)
    return pieces


def _all_features(model: PreferenceModel, encoded: Sequence[EncodedComparison]) -> Tensor | None:
    if not model.shape.start_logprob_feature:
        return None
    features_C_2_F = torch.zeros(len(encoded), 2, FEATURES, device=model.device)
    for piece in _pieces(encoded):
        features = model.features(ComparisonBatch.pad([encoded[i] for i in piece], model.device))
        assert features is not None
        features_C_2_F[piece] = features
    return features_C_2_F


def _standardise(model: PreferenceModel, features_C_2_F: Tensor) -> None:
    flat_F = features_C_2_F.flatten(0, 1)
    model.feature_mean_F.copy_(flat_F.mean(dim=0))
    model.feature_deviation_F.copy_(flat_F.std(dim=0, unbiased=False).clamp(min=1e-3))


def _fingerprint(encoded: Sequence[EncodedComparison], settings: PreferenceSettings, seed: int) -> str:
    digest = hashlib.sha256(f"{settings.model_dump_json()} {seed}".encode())
    for one in encoded:
        digest.update(repr(one).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class HeldOut:
    """Aggregated scores [C, 2, O] of held-out comparisons, as the model stands."""

    scores_C_2_O: Tensor
    lengths_C_2: Tensor
    encoded: list[EncodedComparison]
    tranches: list[str]


@torch.no_grad()
def score_comparisons(
    model: PreferenceModel,
    start: Policy,
    comparisons: Sequence[VotedComparison],
    settings: PreferenceSettings,
) -> HeldOut:
    """Scores of both replies of each comparison."""
    encoded = [
        encode_comparison(
            one,
            start,
            model.shape.objectives,
            settings.max_prompt_tokens,
            settings.max_reply_tokens,
        )
        for one in comparisons
    ]
    if not encoded:
        raise TrainingDataInvalid("no held-out comparison to judge the preference model by")
    scores_C_2_O = torch.zeros(len(encoded), 2, len(model.shape.columns))
    with matmul_precision(settings.matmul_precision, model.trunk):
        for piece in _pieces(encoded):
            batch = ComparisonBatch.pad([encoded[i] for i in piece], model.device)
            raw_C_2_E_O = model.compare(batch, model.features(batch))
            scores_C_2_O[piece] = model.aggregate(raw_C_2_E_O.flatten(0, 1)).unflatten(0, (len(batch), 2)).cpu()
    lengths = torch.tensor([[len(reply) for reply in one.replies] for one in encoded])
    return HeldOut(scores_C_2_O, lengths, encoded, [one.tranche for one in comparisons])


def calibrate(
    model: PreferenceModel,
    start: Policy,
    held_out: Sequence[VotedComparison],
    settings: PreferenceSettings,
) -> dict[str, Any]:
    """Centre and calibrate `model` in place on held-out comparisons, and report on it (see `report`).

    The report's calibration figures are cross-fitted: no vote is judged by a temperature that was fitted on it. Its
    `bins` are those of `calibration_bins`, each vote under its own objective.
    """
    scored = score_comparisons(model, start, held_out, settings)
    before = {name: _margins(scored, model, name) for name in model.shape.columns}
    raw_S_O = scored.scores_C_2_O.flatten(0, 1).to(model.device) * model.temperature_O + model.center_O
    temperatures_O = torch.tensor([fit_temperature(*votes) for votes in before.values()]).to(model.device)
    model.center_O.copy_(raw_S_O.mean(dim=0))
    model.temperature_O.mul_(temperatures_O)
    # A little is added so that no score has no deviation at all.
    model.scale_O.copy_((raw_S_O.var(dim=0, unbiased=False) / model.temperature_O.square() + 1e-6).sqrt())
    result = report(model, score_comparisons(model, start, held_out, settings))
    calibrated = {name: cross_fitted(*votes) for name, votes in before.items()}
    for name, (margins_C, labels_C) in before.items():
        if len(margins_C):
            figures = result["overall"] if name == OVERALL else result["objectives"][name]
            figures["calibration_error_uncalibrated"] = expected_calibration_error(margins_C, labels_C)
            figures["calibration_error"] = expected_calibration_error(calibrated[name], labels_C)
    # In the objectives' own scores every held-out vote stands once.
    own = [name for name in model.shape.objectives if len(calibrated[name])]
    result["bins"] = calibration_bins(
        torch.cat([calibrated[name] for name in own]), torch.cat([before[name][1] for name in own])
    )
    return result


def report(model: PreferenceModel, scored: HeldOut) -> dict[str, Any]:
    """Held-out evidence as plain JSON: accuracy by objective, tranche and agreement, cross-entropy, length correlation.

    `accuracy` takes each vote under its own objective; `overall` has the figures of the overall score on all votes.
    `accuracy_sure` and `accuracy_unsure` split at labels within or beyond `SURE_LABEL` for either side.
    """
    figures = {name: _figures(model, scored, name) for name in model.shape.columns}
    margins_C, labels_C = _margins(scored, model, None)
    tranches = torch.tensor([sorted(set(scored.tranches)).index(tranche) for tranche in scored.tranches])
    return {
        "comparisons": len(margins_C),
        "accuracy": accuracy(margins_C, labels_C),
        "overall": figures.pop(OVERALL),
        "objectives": {name: of_objective for name, of_objective in figures.items() if of_objective["comparisons"]},
        "tranches": {
            name: accuracy(margins_C[tranches == index], labels_C[tranches == index])
            for index, name in enumerate(sorted(set(scored.tranches)))
        },
    }


def _figures(model: PreferenceModel, scored: HeldOut, column: str) -> dict[str, Any]:
    margins_C, labels_C = _margins(scored, model, column)
    sure_C = (labels_C - 0.5).abs() >= SURE_LABEL - 0.5
    index = model.shape.columns.index(column)
    return {
        "comparisons": len(margins_C),
        "accuracy": accuracy(margins_C, labels_C),
        "accuracy_sure": accuracy(margins_C[sure_C], labels_C[sure_C]),
        "accuracy_unsure": accuracy(margins_C[~sure_C], labels_C[~sure_C]),
        "cross_entropy": cross_entropy(margins_C, labels_C),
        "temperature": float(model.temperature_O[index]),
        "center": float(model.center_O[index]),
        "scale": float(model.scale_O[index]),
        "length_correlation": correlation(
            scored.scores_C_2_O[:, :, index].flatten(), scored.lengths_C_2.flatten().float()
        ),
    }


def _margins(scored: HeldOut, model: PreferenceModel, column: str | None) -> tuple[Tensor, Tensor]:
    """(margins_C, labels_C) in the score `column` of the votes it speaks of; without one, each vote's own."""
    objectives_C = torch.tensor([one.objective for one in scored.encoded])
    labels_C = torch.tensor([one.label for one in scored.encoded])
    margins_C_O = scored.scores_C_2_O[:, 0] - scored.scores_C_2_O[:, 1]
    if column is None:
        return margins_C_O.gather(1, objectives_C[:, None])[:, 0], labels_C
    index = model.shape.columns.index(column)
    chosen_C = objectives_C == index if column != OVERALL else torch.ones_like(objectives_C, dtype=torch.bool)
    return margins_C_O[chosen_C, index], labels_C[chosen_C]
