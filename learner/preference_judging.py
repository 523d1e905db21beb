"""Judging a preference model on held-out comparisons: centred and calibrated there, and told the truth about."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

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
from learner.comparisons import ComparisonBatch, EncodedComparison, VotedComparison, encode_comparison, pieces
from learner.errors import TrainingDataInvalid
from learner.hardware import matmul_precision
from learner.policy import Policy
from learner.preference_model import OVERALL, PreferenceModel

SURE_LABEL = 0.85


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
        for piece in pieces(encoded):
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
