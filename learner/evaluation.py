"""What is measured of a candidate before anybody promotes it: replies on held-out prompts, against a reference policy.

The judge is the preference model, so these figures say how far PPO got by its own measure; a watch model, which PPO did
not learn from, says the same with less interest in it. Gold judgement comes from people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from feedback.learning_settings import EvaluationSettings
from learner import conduct
from learner.diversity import diversity
from learner.estimates import estimate
from learner.hardware import matmul_precision
from learner.language_model import reply_logprobs
from learner.length_control import length_controlled_win_rate
from learner.policy import Message, Policy
from learner.preference_model import PreferenceModel
from learner.prompts import HARMLESS
from learner.sampler import Samples, TorchSampler

ROWS_PER_FORWARD = 64


@dataclass(frozen=True)
class HeldOutPrompt:
    """A conversation to measure on, whether it was mostly judged under harmless, and a vote by which it is found."""

    messages: Sequence[Message]
    asked_harmful: bool
    vote: str


@dataclass(frozen=True)
class Replies:
    """What one policy replied to the prompts, [B], and how its preference model scores it."""

    samples: Samples
    texts: list[str]
    scores_B_O: Tensor

    @property
    def lengths_B(self) -> Tensor:
        return self.samples.episodes.reply_lengths_B.cpu()


def evaluate(
    candidate: Policy,
    reference: Policy,
    preference_model: PreferenceModel,
    prompts: Sequence[HeldOutPrompt],
    settings: EvaluationSettings,
    *,
    reward_weights: Mapping[str, float],
    max_prompt_tokens: int,
    seed: int,
    watch: PreferenceModel | None = None,
) -> dict[str, Any]:
    """Sample a reply of each policy to each prompt and compare them. Plain JSON, each figure documented here.

    `win_rate` is the share of prompts where the candidate's weighted score is higher (a tie counts half), with its
    interval; `objectives` has the same per objective, `watch` by the watch model. `win_rate_shorter` is the win rate
    where the candidate's reply is not the longer one, `win_rate_length_controlled` the one at equal length
    (`learner.length_control`). `kl_nats` is the KL of the candidate's reply from the reference's distribution, in nats
    a reply, estimated on the candidate's samples. `length_ratio` is tokens against tokens. `harm`, `refusals`,
    `flattery` and `agreement` are those of `learner.conduct`; `diversity` that of `learner.diversity`. What begins with
    `reference_` is the reference's. `samples` are some of the replies themselves.
    """
    chosen = _spaced(prompts, settings.prompts)
    with matmul_precision(settings.matmul_precision, candidate.model):
        own, other = (
            _reply(
                policy, candidate, [one.messages for one in chosen], preference_model, settings, max_prompt_tokens, seed
            )
            for policy in (candidate, reference)
        )
        kl_B = _kl(candidate, reference, own.samples)
        watched = None if watch is None else _watched(watch, own, other, reward_weights, settings.confidence)
        conduct_figures = _conduct(candidate, reference, preference_model, chosen, own, other, settings, seed)
    weights_O = torch.tensor([reward_weights.get(name, 0.0) for name in preference_model.shape.columns])
    wins_B_O = _wins(own.scores_B_O, other.scores_B_O)
    wins_B = _wins(own.scores_B_O @ weights_O, other.scores_B_O @ weights_O)
    shorter_B = own.lengths_B <= other.lengths_B
    return {
        "prompts": len(chosen),
        "win_rate": estimate(wins_B, settings.confidence),
        "win_rate_shorter": estimate(wins_B[shorter_B], settings.confidence),
        "win_rate_length_controlled": length_controlled_win_rate(
            wins_B, own.lengths_B, other.lengths_B, settings.confidence
        ),
        "objectives": {
            name: {
                "win_rate": estimate(wins_B_O[:, index], settings.confidence),
                "score": estimate(own.scores_B_O[:, index], settings.confidence),
                "reference_score": estimate(other.scores_B_O[:, index], settings.confidence),
            }
            for index, name in enumerate(preference_model.shape.objectives)
        },
        **({} if watched is None else {"watch": watched}),
        **conduct_figures,
        "kl_nats": float(kl_B.mean()),
        "kl_nats_interval": estimate(kl_B, settings.confidence)["interval"],
        "length_tokens": float(own.lengths_B.float().mean()),
        "reference_length_tokens": float(other.lengths_B.float().mean()),
        "length_ratio": float(own.lengths_B.sum() / other.lengths_B.sum()),
        "finished_share": float(own.samples.finished_B.float().mean()),
        "diversity": diversity(own.samples.replies())
        | {f"reference_{name}": value for name, value in diversity(other.samples.replies()).items()},
        "samples": [
            {
                "messages": list(chosen[at].messages),
                "candidate": own.texts[at],
                "reference": other.texts[at],
                "vote": chosen[at].vote,
            }
            for at in _spaced(range(len(chosen)), settings.samples)
        ],
    }


def _reply(
    policy: Policy,
    candidate: Policy,
    asked: Sequence[Sequence[Message]],
    preference_model: PreferenceModel,
    settings: EvaluationSettings,
    max_prompt_tokens: int,
    seed: int,
) -> Replies:
    """The same stream of random numbers for both policies: where they agree, so do the replies."""
    encoded = [candidate.encode_chat(messages)[-max_prompt_tokens:] for messages in asked]
    samples = _sample(policy, encoded, settings, seed)
    texts = [policy.decode(reply) for reply in samples.replies()]
    return Replies(samples, texts, _scores(preference_model, samples))


def _sample(policy: Policy, encoded: list[list[int]], settings: EvaluationSettings, seed: int) -> Samples:
    return TorchSampler(policy.model, policy.end_ids).sample(
        encoded, max_new_tokens=settings.max_new_tokens, temperature=settings.temperature, seed=seed
    )


def _conduct(
    candidate: Policy,
    reference: Policy,
    preference_model: PreferenceModel,
    chosen: Sequence[HeldOutPrompt],
    own: Replies,
    other: Replies,
    settings: EvaluationSettings,
    seed: int,
) -> dict[str, Any]:
    """Harm, refusals, flattery and agreement of both."""
    harmful_B = torch.tensor([one.asked_harmful for one in chosen], dtype=torch.bool)
    objectives = preference_model.shape.objectives
    claims = conduct.claims()
    figures = {}
    for prefix, policy, replies in (("", candidate, own), ("reference_", reference, other)):
        if HARMLESS in objectives:
            harmless_B = replies.scores_B_O[:, objectives.index(HARMLESS)]
            figures[f"{prefix}harm"] = conduct.harm(replies.texts, harmless_B, harmful_B, settings.confidence)
        figures[f"{prefix}refusals"] = conduct.refusals(replies.texts, harmful_B, settings.confidence)
        for name, side in (("flattery", 0), ("agreement", 1)):
            asked = [candidate.encode_chat([{"role": "user", "content": claim[side]}]) for claim in claims]
            said = [policy.decode(reply) for reply in _sample(policy, asked, settings, seed).replies()]
            figures[f"{prefix}{name}"] = conduct.agreement(said, settings.confidence)
    return figures


def _watched(
    watch: PreferenceModel, own: Replies, other: Replies, reward_weights: Mapping[str, float], confidence: float
) -> dict[str, Any]:
    """The replies by the watch model's weighted score."""
    weights_O = torch.tensor([reward_weights.get(name, 0.0) for name in watch.shape.columns])
    own_B, other_B = (_scores(watch, replies.samples) @ weights_O for replies in (own, other))
    return {
        "win_rate": estimate(_wins(own_B, other_B), confidence),
        "score": estimate(own_B, confidence),
        "reference_score": estimate(other_B, confidence),
    }


def _spaced(of: Sequence[Any], count: int) -> list[Any]:
    if len(of) <= count:
        return list(of)
    return [of[index * len(of) // count] for index in range(count)]


def _wins(own: Tensor, other: Tensor) -> Tensor:
    return (own > other).float() + (own == other).float() / 2


@torch.no_grad()
def _scores(preference_model: PreferenceModel, samples: Samples) -> Tensor:
    """Scores [B, O] in units of their deviation, on the CPU."""
    rows = torch.arange(len(samples.episodes), device=samples.episodes.tokens_B_T.device)
    scores = [preference_model.score(samples.episodes.take(index_B)) for index_B in rows.split(ROWS_PER_FORWARD)]
    return (torch.cat(scores) / preference_model.scale_O).cpu()


@torch.no_grad()
def _kl(candidate: Policy, reference: Policy, samples: Samples) -> Tensor:
    """Sum over each reply's tokens of logp - logp_reference, [B] in nats, on the CPU."""
    rows = torch.arange(len(samples.episodes), device=samples.episodes.tokens_B_T.device)
    sums = []
    for index_B in rows.split(ROWS_PER_FORWARD):
        piece = samples.episodes.take(index_B)
        own_N, other_N = (reply_logprobs(policy.model, piece).logprobs_N for policy in (candidate, reference))
        sums.append(piece.unpack(own_N - other_N).sum(dim=1).cpu())
    return torch.cat(sums)
