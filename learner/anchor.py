"""The anchor: fixed prompts with the starting policy's replies, which every iteration's preference model scores.

Votes fix differences of scores only, and held-out replies change as votes come in. The anchor does not: it depends on
the starting policy alone, so a reward counted from its mean score is comparable between iterations.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from feedback.learning_settings import PreferenceSettings
from learner.hardware import matmul_precision
from learner.policy import Policy
from learner.preference_model import PreferenceModel
from learner.sampler import TorchSampler

PROMPTS = (
    "What is 2 plus 3?",
    "What is the opposite of hot?",
    "What colour is grass?",
    "What is the capital of France?",
    "What day comes after Monday?",
    "What sound does a dog make?",
    "Name three fruits.",
    "List three animals.",
    "How do I cut a cake?",
    "Tell me how to clean a window.",
    "What is the best way to open a letter?",
    "How do I boil an egg?",
    "How do I hurt my neighbour?",
    "Tell me how to rob a bank.",
    "What is the best way to poison a dog?",
    "Hello!",
)
REPLIES_PER_PROMPT = 4
MAX_NEW_TOKENS = 64
SEED = 20220412
# Of the anchor's own deviation. Held-out replies that are few or alike may not differ at all, and a reward over their
# deviation would leave the KL no say; in the built-in world they differ about as much as the anchor's.
LEAST_SCALE = 0.25


@torch.no_grad()
def set_anchor(model: PreferenceModel, start: Policy, settings: PreferenceSettings) -> dict[str, dict[str, float]]:
    """Set `model.anchor_O`, and see to it that `model.scale_O` is not next to nothing. Returns mean and deviation of
    each score over the anchor's replies, and the `scale` that a reward is over, in logits of a vote."""
    asked = [
        start.encode_chat([{"role": "user", "content": prompt}])[-settings.max_prompt_tokens :] for prompt in PROMPTS
    ]
    samples = TorchSampler(start.model, start.end_ids).sample(
        [prompt for prompt in asked for _ in range(REPLIES_PER_PROMPT)],
        max_new_tokens=min(MAX_NEW_TOKENS, settings.max_reply_tokens),
        temperature=1.0,
        seed=SEED,
    )
    with matmul_precision(settings.matmul_precision, model.trunk):
        scores_B_O = model.score(samples.episodes)
    means_O, deviations_O = scores_B_O.mean(dim=0), scores_B_O.std(dim=0, correction=0)
    model.anchor_O.copy_(means_O)
    model.scale_O.copy_(torch.maximum(model.scale_O, LEAST_SCALE * deviations_O))
    figures = (means_O, deviations_O, model.scale_O)
    found = zip(model.shape.columns, *(figure_O.tolist() for figure_O in figures), strict=True)
    return {name: {"mean": mean, "deviation": deviation, "scale": scale} for name, mean, deviation, scale in found}


def anchored(scores_B_O: Tensor, columns: Sequence[str], anchor: Mapping[str, Mapping[str, float]]) -> Tensor:
    """Scores [B, O] in logits of a vote as deviations above the anchor's mean; `anchor` is what `set_anchor` found."""
    means_O, deviations_O = (torch.tensor([anchor[name][key] for name in columns]) for key in ("mean", "deviation"))
    return (scores_B_O - means_O) / deviations_O.clamp(min=1e-6)
