"""Judging a preference model on held-out comparisons: centred and calibrated there, and told the truth about."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from feedback.learning_settings import PreferenceSettings
from feedback.objectives import OVERALL
from learner.calibration import (
    agreeing,
    calibration_bins,
    calibration_noise,
    correlation,
    cross_entropy,
    cross_fitted,
    expected_calibration_error,
    fit_temperature,
    length_slope,
    outcomes,
    temperature_of_softening,
    weighted_mean,
)
from learner.comparisons import ComparisonBatch, EncodedComparison, VotedComparison, encode_comparisons, pieces
from learner.errors import TrainingDataInvalid
from learner.estimates import Estimate, share, worth_of
from learner.hardware import matmul_precision
from learner.policy import Policy
from learner.preference_model import PreferenceModel
from learner.rounded_weights import rounded_once

SURE_LABEL = 0.85
CONFIDENCE = 0.95


@dataclass(frozen=True)
class HeldOut:
    """Aggregated scores [C, 2, O] of held-out comparisons, as the model stands."""

    scores_C_2_O: Tensor
    lengths_C_2: Tensor
    encoded: list[EncodedComparison]
    comparisons: list[VotedComparison]


@dataclass(frozen=True)
class Votes:
    """What one score makes of the votes it speaks of: its margin for side 0, the votes' soft labels, outcomes and
    weights, by how many tokens side 0 is the longer one, and the number of the pair that each vote is on."""

    margins_C: Tensor
    labels_C: Tensor
    weights_C: Tensor
    longer_by_C: Tensor
    pairs_C: Tensor

    @property
    def outcomes_C(self) -> Tensor:
        return outcomes(self.labels_C)

    def take(self, chosen_C: Tensor) -> "Votes":
        return Votes(*(getattr(self, each.name)[chosen_C] for each in fields(self)))

    def accuracy(self, confidence: float = CONFIDENCE) -> Estimate:
        """Share by weight of the untied votes whose better side has the higher score; an equal score counts half.

        For its interval all votes on a pair are taken to say the same: they are worth as much as one vote on each pair
        that weighs what they do together.
        """
        untied = self.take(self.labels_C != 0.5)
        on_pair_P = untied.pairs_C.bincount(untied.weights_C.double())
        return share(agreeing(untied.margins_C, untied.labels_C), confidence, worth_of(on_pair_P), untied.weights_C)


@torch.no_grad()
def score_comparisons(
    model: PreferenceModel,
    start: Policy,
    comparisons: Sequence[VotedComparison],
    settings: PreferenceSettings,
) -> HeldOut:
    """Scores of both replies of each comparison."""
    return _aggregated(model, *member_scores(model, start, comparisons, settings), comparisons)


def _aggregated(
    model: PreferenceModel,
    raw_C_2_E_O: Tensor,
    encoded: list[EncodedComparison],
    comparisons: Sequence[VotedComparison],
) -> HeldOut:
    """Of raw scores by member those of the model as it stands."""
    scores_C_2_O = model.aggregate(raw_C_2_E_O.flatten(0, 1)).unflatten(0, (len(encoded), 2)).cpu()
    lengths = torch.tensor([[len(reply) for reply in one.replies] for one in encoded])
    return HeldOut(scores_C_2_O, lengths, encoded, list(comparisons))


@torch.no_grad()
def member_scores(
    model: PreferenceModel, start: Policy, comparisons: Sequence[VotedComparison], settings: PreferenceSettings
) -> tuple[Tensor, list[EncodedComparison]]:
    """Raw scores [C, 2, E, O] of both replies of each comparison by each member, and the comparisons as token ids.
    Raises TrainingDataInvalid where there is none."""
    encoded = encode_comparisons(comparisons, start, model.shape.objectives, settings)
    if not encoded:
        raise TrainingDataInvalid("no held-out comparison to judge the preference model by")
    shape = model.shape
    raw_C_2_E_O = torch.zeros(len(encoded), 2, shape.ensemble_size, len(shape.columns), device=model.device)
    with matmul_precision(settings.matmul_precision, model.trunk), rounded_once(model.trunk, model.start):
        for piece in pieces(encoded):
            batch = ComparisonBatch.pad([encoded[i] for i in piece], model.device)
            raw_C_2_E_O[piece] = model.compare(batch, model.features(batch))
    return raw_C_2_E_O, encoded


def accuracy_of(
    model: PreferenceModel, start: Policy, comparisons: Sequence[VotedComparison], settings: PreferenceSettings
) -> float | None:
    """Share by weight of the untied comparisons whose better side has the higher score of their objective; None without
    any."""
    if not comparisons:
        return None
    return _votes(score_comparisons(model, start, comparisons, settings), model, None).accuracy()["value"]


@torch.no_grad()
def calibrate(
    model: PreferenceModel,
    start: Policy,
    held_out: Sequence[VotedComparison],
    settings: PreferenceSettings,
    confidence: float = CONFIDENCE,
) -> dict[str, Any]:
    """Control `model` for length where the settings say so, centre and calibrate it in place on held-out comparisons,
    and report on it (see `report`).

    Probabilities are calibrated to what voters chose, not to the softened labels that training takes. Votes count by
    their weights, so that a rater who is bounded in training is no less so here. The report's
    calibration figures are cross-fitted: no vote is judged by a temperature that was fitted on it; `calibration_noise`
    is the error that so few votes would show of a perfectly calibrated model. Its `bins` are those of
    `calibration_bins`, each vote under its own objective. `length_correlation_uncontrolled` is
    `length_correlation_pairs` before length was controlled.
    """
    held_out = [one for one in held_out if one.weight > 0]
    raw_C_2_E_O, encoded = member_scores(model, start, held_out, settings)
    if model.shape.pessimism:
        model.member_center_E_O.copy_(weighted_mean(raw_C_2_E_O.mean(dim=1), _weights(encoded)))
    scored = _aggregated(model, raw_C_2_E_O, encoded, held_out)
    uncontrolled = {name: _votes(scored, model, name) for name in model.shape.columns}
    if settings.length_control == "residual":
        slopes_O = _take_out_length(model, uncontrolled)
        raw_C_2_E_O = raw_C_2_E_O - scored.lengths_C_2[..., None, None].to(model.device) * slopes_O
        scored = _aggregated(model, raw_C_2_E_O, encoded, held_out)
    before = {name: _votes(scored, model, name) for name in model.shape.columns}
    near = temperature_of_softening(torch.tensor([one.label for one in encoded]), _weights(encoded))
    calibrated = {
        name: cross_fitted(votes.margins_C, votes.outcomes_C, near / float(own), votes.weights_C)
        for (name, votes), own in zip(before.items(), model.temperature_O, strict=True)
    }
    _scale(model, scored, before, near)

    result = report(model, _aggregated(model, raw_C_2_E_O, encoded, held_out), confidence)
    for name, votes in before.items():
        if len(votes.margins_C):
            figures = result["overall"] if name == OVERALL else result["objectives"][name]
            actual = votes.outcomes_C, votes.weights_C
            figures["calibration_error_uncalibrated"] = expected_calibration_error(votes.margins_C, *actual)
            figures["calibration_error"] = expected_calibration_error(calibrated[name], *actual)
            figures["calibration_noise"] = calibration_noise(calibrated[name], votes.weights_C)
            figures["length_correlation_uncontrolled"] = _length_correlation(uncontrolled[name])
    # In the objectives' own scores every held-out vote stands once.
    own = [name for name in model.shape.objectives if len(calibrated[name])]
    result["bins"] = calibration_bins(
        torch.cat([calibrated[name] for name in own]),
        torch.cat([before[name].outcomes_C for name in own]),
        torch.cat([before[name].weights_C for name in own]),
    )
    return result


def _take_out_length(model: PreferenceModel, by_column: dict[str, Votes]) -> Tensor:
    """Answers what is taken out of a raw score for each token from now on, beyond what was, [O]."""
    slopes = [length_slope(votes.margins_C, votes.longer_by_C, votes.weights_C) for votes in by_column.values()]
    slopes_O = torch.tensor(slopes).to(model.device) * model.temperature_O
    model.length_slope_O.add_(slopes_O)
    return slopes_O


def _scale(model: PreferenceModel, scored: HeldOut, by_column: dict[str, Votes], near: float) -> None:
    """Set centre, deviation and temperature, the last close to `near` where there are few votes."""
    raw_S_O = scored.scores_C_2_O.flatten(0, 1).to(model.device) * model.temperature_O + model.center_O
    weights_S = _weights(scored.encoded).repeat_interleave(2).to(model.device)
    temperatures = [
        fit_temperature(votes.margins_C, votes.outcomes_C, near / own, votes.weights_C)
        for votes, own in zip(by_column.values(), model.temperature_O.tolist(), strict=True)
    ]
    model.center_O.copy_(weighted_mean(raw_S_O, weights_S))
    model.temperature_O.mul_(torch.tensor(temperatures).to(model.device))
    # A little is added so that no score has no deviation at all.
    variance_O = weighted_mean((raw_S_O - model.center_O).square(), weights_S)
    model.scale_O.copy_((variance_O / model.temperature_O.square() + 1e-6).sqrt())


def report(model: PreferenceModel, scored: HeldOut, confidence: float = CONFIDENCE) -> dict[str, Any]:
    """Held-out evidence as plain JSON: accuracy by objective, tranche and agreement, cross-entropy, length correlation.
    Each accuracy has its interval beside it, as `..._interval`, or is an estimate.

    `accuracy` takes each vote under its own objective; `overall` has the figures of the overall score on all votes.
    `accuracy_sure` and `accuracy_unsure` split at labels within or beyond `SURE_LABEL` for either side. `agreement`
    parts comparisons by how far their raters were of one mind.
    """
    figures = {name: _figures(model, scored, name, confidence) for name in model.shape.columns}
    votes = _votes(scored, model, None)
    return {
        "comparisons": len(votes.margins_C),
        **_accuracy(votes, confidence),
        "overall": figures.pop(OVERALL),
        "objectives": {name: of_objective for name, of_objective in figures.items() if of_objective["comparisons"]},
        "tranches": {name: part.accuracy(confidence) for name, part in _parts(votes, scored, "tranche")},
        "agreement": {
            name: {"comparisons": len(part.margins_C), **_accuracy(part, confidence)}
            for name, part in _parts(votes, scored, "agreement")
        },
    }


def _parts(votes: Votes, scored: HeldOut, by: str) -> list[tuple[str, Votes]]:
    names = [getattr(one, by) for one in scored.comparisons]
    return [(name, votes.take(torch.tensor([own == name for own in names]))) for name in sorted(set(names))]


def _accuracy(votes: Votes, confidence: float, name: str = "accuracy") -> dict[str, Any]:
    """The figure and, beside it, its interval."""
    found = votes.accuracy(confidence)
    return {name: found["value"], f"{name}_interval": found["interval"]}


def _figures(model: PreferenceModel, scored: HeldOut, column: str, confidence: float) -> dict[str, Any]:
    votes = _votes(scored, model, column)
    sure_C = (votes.labels_C - 0.5).abs() >= SURE_LABEL - 0.5
    index = model.shape.columns.index(column)
    return {
        "comparisons": len(votes.margins_C),
        **_accuracy(votes, confidence),
        **_accuracy(votes.take(sure_C), confidence, "accuracy_sure"),
        **_accuracy(votes.take(~sure_C), confidence, "accuracy_unsure"),
        "cross_entropy": cross_entropy(votes.margins_C, votes.outcomes_C, votes.weights_C),
        "temperature": float(model.temperature_O[index]),
        "center": float(model.center_O[index]),
        "length_correlation": correlation(
            scored.scores_C_2_O[:, :, index].flatten(),
            scored.lengths_C_2.flatten().float(),
            _weights(scored.encoded).repeat_interleave(2),
        ),
        "length_correlation_pairs": _length_correlation(votes),
        "length_slope": float(model.length_slope_O[index]),
    }


def _length_correlation(votes: Votes) -> float | None:
    """Of margins and differences of length, about zero since neither side is the first by nature."""
    return correlation(
        torch.cat([votes.margins_C, -votes.margins_C]),
        torch.cat([votes.longer_by_C, -votes.longer_by_C]),
        votes.weights_C.repeat(2),
    )


def _votes(scored: HeldOut, model: PreferenceModel, column: str | None) -> Votes:
    """The votes that the score `column` speaks of; without one, each vote in the score of its own objective."""
    objectives_C = torch.tensor([one.objective for one in scored.encoded])
    labels_C, weights_C = torch.tensor([one.label for one in scored.encoded]), _weights(scored.encoded)
    longer_by_C = (scored.lengths_C_2[:, 0] - scored.lengths_C_2[:, 1]).float()
    numbers: dict[str, int] = {}
    pairs_C = torch.tensor(
        [numbers.setdefault(repr((one.prompt, one.replies)), len(numbers)) for one in scored.encoded]
    )
    margins_C_O = scored.scores_C_2_O[:, 0] - scored.scores_C_2_O[:, 1]
    if column is None:
        return Votes(margins_C_O.gather(1, objectives_C[:, None])[:, 0], labels_C, weights_C, longer_by_C, pairs_C)
    index = model.shape.columns.index(column)
    everything = Votes(margins_C_O[:, index], labels_C, weights_C, longer_by_C, pairs_C)
    return everything if column == OVERALL else everything.take(objectives_C == index)


def _weights(encoded: Sequence[EncodedComparison]) -> Tensor:
    return torch.tensor([one.weight for one in encoded])
