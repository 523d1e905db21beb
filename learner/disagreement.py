"""How far a preference model is from being sure about the open pairs, written to the record: what to ask people next.

The ensemble's members disagree about a pair when they give side 0 different chances of being preferred. A model of one
member cannot disagree with itself; what it is itself unsure about stands in for it then, and the summary says so.
"""

from collections.abc import Sequence
from typing import Any

import torch
from sqlalchemy.orm import Session
from torch import Tensor

from feedback.learning_settings import PreferenceSettings
from feedback.store import Store, comparisons, leases
from feedback.store.comparisons import Unjudged
from learner.comparisons import VotedComparison
from learner.policy import Policy
from learner.preference_judging import member_scores
from learner.preference_model import PreferenceModel


def note_disagreement(
    store: Store,
    epoch: int,
    model: PreferenceModel,
    start: Policy,
    settings: PreferenceSettings,
    *,
    votes_wanted: int,
    pairs: int,
) -> dict[str, Any]:
    """Ask the model about up to `pairs` open comparisons and record what it is least sure of, under the learner lease
    of `epoch`. Pairs with a reply that has no text, or with twice the same, teach it nothing and are handed out last.
    Returns how many it was asked about, by which measure, and the mean. Raises LeaseLost.
    """
    wanted = store.read(comparisons.unjudged, votes_wanted=votes_wanted, limit=pairs)
    asked = [one for one in wanted if one.can_be_read and one.replies[0] != one.replies[1]]
    found = dict(zip((one.id for one in asked), disagreements(model, start, asked, settings), strict=True))
    store.write(_write, epoch, {one.id: 0.0 for one in wanted} | found)
    return {
        "pairs": len(found),
        "measure": "ensemble" if model.shape.ensemble_size > 1 else "own uncertainty",
        "mean": sum(found.values()) / len(found) if found else None,
    }


def disagreements(
    model: PreferenceModel, start: Policy, pairs: Sequence[Unjudged], settings: PreferenceSettings
) -> list[float]:
    """A number from 0 to 1 for each pair, whichever objective it is highest under."""
    if not pairs:
        return []
    objectives = model.shape.objectives
    asked = [VotedComparison(one.messages, one.replies, objectives[0], 0.5, ended=one.ended) for one in pairs]
    raw_C_2_E_O, _ = member_scores(model, start, asked, settings)
    margins_C_E_O = (raw_C_2_E_O[:, 0] - raw_C_2_E_O[:, 1]) / model.temperature_O
    highest_C: list[float] = spread(margins_C_E_O[..., : len(objectives)]).amax(dim=1).tolist()
    return highest_C


def spread(margins_C_E_O: Tensor) -> Tensor:
    """[C, O] from 0 to 1, from each member's score of side 0 less that of side 1, in logits of a vote.

    For E > 1 members twice the standard deviation of P(side 0 preferred) over them, 1 where half of them are sure of
    one side and half of the other; for one member 4 p (1 - p), the variance of its vote over the highest there is.
    """
    p_C_E_O = torch.sigmoid(margins_C_E_O.float())
    if p_C_E_O.shape[1] > 1:
        return 2 * p_C_E_O.std(dim=1, unbiased=False)
    p_C_O = p_C_E_O.squeeze(1)
    return 4 * p_C_O * (1 - p_C_O)


def _write(session: Session, epoch: int, found: dict[str, float]) -> None:
    leases.check(session, leases.LEARNER, epoch)
    comparisons.set_disagreement(session, found)
