"""Direct preference optimisation: a policy trained on the votes themselves, held to the policy it began from.

The second trainer, on the same datasets as PPO: no rollouts, no reward, no critic; the same rehearsal. Both replies of
a comparison stand in one row after their prompt, as for the preference model. Each iteration takes all votes and begins
from the starting policy, or from the last one by setting: then it is iterated DPO. It knows nothing of checkpoints'
places or progress.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from feedback.learning_settings import DPOSettings
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
from learner.hardware import matmul_precision
from learner.language_model import token_logprobs
from learner.losses import dpo_margins, preference_loss
from learner.pairs import pair_states
from learner.policy import Policy
from learner.preference_training import shares_of_objectives
from learner.processes import ALONE
from learner.rehearsal import Rehearsal
from learner.rounded_weights import rounded_once
from learner.sampler import TorchSampler
from learner.schedule import batch_of, set_learning_rates
from learner.sequences import Room
from learner.trained import Trained
from learner.training_state import TrainingState, restore

REHEARSED = Room(rows=16, tokens=1 << 13)


@dataclass(frozen=True)
class DPOStep:
    """What one optimiser step saw, before it changed anything. Means are over its comparisons."""

    step: int
    steps: int
    loss: float
    """Mean cross-entropy of the votes' soft labels, in nats, each times its weight over the mean one of all votes."""
    accuracy: float
    """Share of untied comparisons whose preferred reply has the higher implicit reward; an equal one counts half."""
    margin: float
    """Implicit reward of the preferred reply less that of the other, in logits of a vote; ties count nothing."""
    preferred_nats: float
    """How much more likely the preferred reply became since the beginning, in nats a reply."""
    other_nats: float
    """The same of the other reply."""
    gradient_norm: float
    """Norm of the gradient before it is scaled down."""
    rehearsal_kl_nats: float | None = None
    """KL per token of the policy that it began from, on that one's own replies; None where it is not held to them."""


OnDPOStep = Callable[[DPOStep, Callable[[], TrainingState]], None]
OnReference = Callable[[int, int], None]


def train_dpo(
    policy: Policy,
    reference: PreTrainedModel,
    comparisons: Sequence[VotedComparison],
    settings: DPOSettings,
    *,
    seed: int,
    objectives: Sequence[str] = OBJECTIVES,
    rehearse_on: Sequence[list[int]] = (),
    on_reference: OnReference | None = None,
    on_step: OnDPOStep | None = None,
    resume: TrainingState | None = None,
) -> None:
    """Train `policy` in place; `reference` is the frozen policy that it began from. `rehearse_on` are the prompts, as
    token ids, on which it is held to it: such as ask for no harm.

    `on_reference` is called while the reference goes over the comparisons, which comes first, with how many of how many
    it has seen; `on_step` after each step, with a function that gives the state to resume from: a resumed run ends
    where an uninterrupted one does. Raises `TrainingDataInvalid`, `TrainingDiverged`, `CheckpointInvalid`.
    """
    encoded = encode_comparisons(thinned(comparisons, seed), policy, objectives, settings)
    if not encoded:
        raise TrainingDataInvalid("no comparison to train the policy on")
    # So that every vote counts by its weight over the mean one, as for the preference model.
    mean_weight = sum(one.weight for one in encoded) / len(encoded)
    shares_O = shares_of_objectives(encoded, objectives, settings.objective_weights) / mean_weight
    # Dropout stays off: the policy that is measured against the reference must be the one that is served.
    model = policy.model.eval()
    groups = [{"params": [one for one in model.parameters() if one.requires_grad], "peak": settings.learning_rate}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    modules: dict[str, nn.Module] = {"policy": model}
    optimizers: dict[str, torch.optim.Optimizer] = {"policy": optimizer}
    rehearsal, trained = _new_rehearsal(policy, reference, rehearse_on, settings, seed), Trained(model, ALONE)
    fingerprint = fingerprint_of(encoded, settings, seed, rehearse_on)
    if resume is not None:
        if resume.fingerprint != fingerprint:
            raise CheckpointInvalid("the checkpoint belongs to other comparisons, prompts, settings or another seed")
        restore(resume.tensors, modules, optimizers)
    steps = settings.epochs * math.ceil(len(encoded) / settings.comparisons_per_batch)
    with matmul_precision(settings.matmul_precision, model):
        reference_C_2 = _all_reply_logprobs(reference, encoded, on_reference)
        for step in range(0 if resume is None else resume.step, steps):
            chosen = batch_of(step, len(encoded), settings.comparisons_per_batch, seed)
            set_learning_rates(optimizer, step, steps, settings.warmup_share)
            rehearsed = None
            with rounded_once(model, None if rehearsal is None else rehearsal.start_head):
                sums = _accumulate(
                    model, [encoded[at] for at in chosen], reference_C_2[chosen], shares_O, settings.beta
                )
                if rehearsal is not None:
                    drawn = torch.Generator().manual_seed(seed * 1_000_003 + step)
                    rehearsed = float(rehearsal.add_gradients(trained, drawn))
            norm = nn.utils.clip_grad_norm_(model.parameters(), settings.max_gradient_norm)
            if not torch.isfinite(norm):
                raise TrainingDiverged(f"the gradient of DPO is not finite in step {step + 1}")
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if on_step is not None:
                state = partial(TrainingState.of, step + 1, fingerprint, modules, optimizers)
                on_step(DPOStep(step + 1, steps, *sums, float(norm), rehearsed), state)


def _new_rehearsal(
    policy: Policy,
    reference: PreTrainedModel,
    asked: Sequence[list[int]],
    settings: DPOSettings,
    seed: int,
) -> Rehearsal | None:
    """None where the policy is not to be held, or there is nothing to hold it on."""
    if not settings.rehearsal_weight or not asked:
        return None
    with matmul_precision(settings.matmul_precision, reference):
        return Rehearsal.draw(
            reference,
            TorchSampler(reference, policy.end_ids),
            asked,
            settings,
            max_new_tokens=settings.max_reply_tokens,
            temperature=1.0,
            room=REHEARSED,
            seed=seed,
        )


def _accumulate(
    model: PreTrainedModel,
    chosen: Sequence[EncodedComparison],
    reference_C_2: Tensor,
    shares_O: Tensor,
    beta: float,
) -> tuple[float, float, float, float, float]:
    """Gradients of the mean loss of the comparisons, in as many pieces as fit; answers the figures of the step."""
    untied = max(1, sum(one.label != 0.5 for one in chosen))
    figures: list[Tensor] = []
    for piece in pieces(chosen):
        batch = ComparisonBatch.pad([chosen[at] for at in piece], model.device)
        logprobs_C_2 = _reply_logprobs(model, batch)
        margins_C = dpo_margins(logprobs_C_2, reference_C_2[piece], beta)
        weights_C = batch.weights_C * shares_O.to(model.device)[batch.objectives_C]
        piece_loss = preference_loss(margins_C, batch.labels_C, weights_C) / len(chosen)
        piece_loss.backward()
        with torch.no_grad():
            side_C = (batch.labels_C - 0.5).sign()
            first_C, second_C = (logprobs_C_2 - reference_C_2[piece]).unbind(dim=1)
            of_comparisons = [
                (margins_C.sign() * side_C + 1) / 2,
                margins_C * side_C,
                torch.where(side_C > 0, first_C, second_C),
                torch.where(side_C > 0, second_C, first_C),
            ]
            sums = [torch.where(side_C != 0, values_C, 0).sum() for values_C in of_comparisons]
            figures.append(torch.stack([piece_loss, *sums]))
    # Fetched all at once.
    loss, right, margin, preferred, other = torch.stack(figures).sum(dim=0).tolist()
    return loss, right / untied, margin / untied, preferred / untied, other / untied


@torch.no_grad()
def _all_reply_logprobs(
    model: PreTrainedModel, encoded: Sequence[EncodedComparison], on_piece: OnReference | None = None
) -> Tensor:
    """`_reply_logprobs` of more comparisons than go through one pass, [C, 2]: once, however many passes learn from
    them."""
    logprobs_C_2 = torch.zeros(len(encoded), 2, device=model.device)
    seen = 0
    with rounded_once(model):
        for piece in pieces(encoded):
            logprobs_C_2[piece] = _reply_logprobs(
                model, ComparisonBatch.pad([encoded[at] for at in piece], model.device)
            )
            seen += len(piece)
            if on_piece is not None:
                on_piece(seen, len(encoded))
    return logprobs_C_2


def _reply_logprobs(model: PreTrainedModel, batch: ComparisonBatch) -> Tensor:
    """Summed log-probabilities [C, 2] of both replies of each comparison."""
    hidden_N_D = batch.predicting(pair_states(model.base_model, batch, batch.predicts_reply_C_T))
    return batch.unpack(token_logprobs(model, hidden_N_D, batch.reply_tokens_N)).sum(dim=2)
