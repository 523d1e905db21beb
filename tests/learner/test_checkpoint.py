"""Where training left its state, it goes on; where that is of another run, the stage begins anew."""

from pathlib import Path

import torch

from learner.comparisons import VotedComparison
from learner.iteration.checkpoint import Checkpoint
from learner.policy import Policy
from learner.preference_model import PreferenceModel
from learner.preference_training import train_preference_model
from learner.processes import ALONE
from tests.learner.test_preference_training import SETTINGS, comparisons


def trained(
    policy: Policy, votes: list[VotedComparison], checkpoint: Checkpoint, steps: list[int] | None = None
) -> PreferenceModel:
    taken = [] if steps is None else steps
    return checkpoint.resume(
        lambda state: train_preference_model(
            policy,
            votes,
            SETTINGS,
            seed=1,
            resume=state,
            on_step=checkpoint.after(lambda done: taken.append(done.step)),
        )
    )


def test_a_stage_whose_votes_changed_since_its_checkpoint_begins_anew(policy: Policy, tmp_path: Path) -> None:
    """As when somebody is erased between a kill and its resumption."""
    told: list[str] = []
    checkpoint = Checkpoint(tmp_path / "state", 0.0, told.append, ALONE)
    trained(policy, comparisons(40, 1), checkpoint)
    left = comparisons(40, 1)[1:]
    steps: list[int] = []
    found = trained(policy, left, checkpoint, steps)
    assert steps == [1, 2, 3, 4, 5]
    (said,) = told
    assert "other comparisons" in said
    whole = train_preference_model(policy, left, SETTINGS, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), whole.parameters(), strict=True))
    # What it left is its own.
    steps.clear()
    trained(policy, left, checkpoint, steps)
    assert not steps
