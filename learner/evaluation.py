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
from learner.anchor import anchored
from learner.diversity import diversity
from learner.errors import TrainingDataInvalid
from learner.estimates import estimate
from learner.hardware import matmul_precision
from learner.language_model import reply_logprobs, room_without_gradients
from learner.policy import Message, Policy
from learner.preference_model import PreferenceModel
from learner.prompts import HARMLESS
from learner.sampler import Samples, TorchSampler
from learner.win_rates import Scored, win_rates


@dataclass(frozen=True)
class HeldOutPrompt:
    """A conversation to measure on, whether it was mostly judged under harmless, and a vote by which it is found."""

    messages: Sequence[Message]
    asked_harmful: bool
    vote: str


@dataclass(frozen=True)
class Replies:
    """What one policy replied to the prompts, [B], and how the judges score it: the preference model, and the watch
    model where there is one."""

    samples: Samples
    texts: list[str]
    scores_B_O: Tensor
    watched_B_O: Tensor | None

    @property
    def lengths_B(self) -> Tensor:
        return self.samples.episodes.reply_lengths_B.cpu()


@dataclass(frozen=True)
class Serving:
    """The version that serves, where it is neither the candidate nor the reference: `vN`, and its policy."""

    version: str
    policy: Policy


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
    anchored_to: Mapping[str, Any] | None = None,
    serving: Serving | None = None,
) -> dict[str, Any]:
    """Sample a reply of each policy to each prompt and compare them. Plain JSON, each figure documented here.

    The win rates and scores against the reference are those of `learner.win_rates`; `watch` has the same by the watch
    model, `serving` against the version that it names, `anchored` the scores on the scale of the anchor
    (`learner.anchor`). `kl_nats` is the KL of the candidate's reply from the reference's distribution, in nats a reply,
    estimated on the candidate's samples. `length_ratio` is tokens against tokens. `harm`, `flattery` and `agreement`
    are those of `learner.conduct`, `harm_refused` and `refusals` its refusals of harmful and of other requests;
    `diversity` is that of `learner.diversity`. What begins with `reference_` is the reference's. `samples` are some of
    the replies themselves. Raises TrainingDataInvalid where there is no prompt, as after those of all held-out votes
    were erased.
    """
    if not prompts:
        raise TrainingDataInvalid("no held-out prompt is left to measure the candidate on: gather more votes")
    chosen = spaced(prompts, settings.prompts)
    rivals = [reference, *([] if serving is None else [serving.policy])]
    with matmul_precision(settings.matmul_precision, candidate.model):
        asked = [candidate.encode_chat(one.messages)[-max_prompt_tokens:] for one in chosen]
        own, other, *serves = (
            _reply(policy, asked, preference_model, watch, settings, seed) for policy in (candidate, *rivals)
        )
        kl_B = _kl(candidate, reference, own.samples, settings.temperature)
        conduct_figures = _conduct(candidate, reference, preference_model, chosen, own, other, settings, seed)

    def against(rival: Replies) -> dict[str, Any]:
        return _against(own, rival, preference_model, watch, reward_weights, settings.confidence)

    return {
        "prompts": len(chosen),
        **against(other),
        **({} if serving is None else {"serving": {"version": serving.version, **against(serves[0])}}),
        **conduct_figures,
        **({} if anchored_to is None else {"anchored": _anchored(own, other, preference_model, anchored_to, settings)}),
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
            for at in spaced(range(len(chosen)), settings.samples)
        ],
    }


def _reply(
    policy: Policy,
    asked: list[list[int]],
    preference_model: PreferenceModel,
    watch: PreferenceModel | None,
    settings: EvaluationSettings,
    seed: int,
) -> Replies:
    """The same stream of random numbers for every policy: where they agree, so do the replies."""
    samples = sample_replies(policy, asked, settings, seed)
    texts = [policy.decode(reply) for reply in samples.replies()]
    watched_B_O = None if watch is None else standard_scores(watch, samples)
    return Replies(samples, texts, standard_scores(preference_model, samples), watched_B_O)


def _against(
    own: Replies,
    other: Replies,
    preference_model: PreferenceModel,
    watch: PreferenceModel | None,
    reward_weights: Mapping[str, float],
    confidence: float,
) -> dict[str, Any]:
    """What the candidate wins by the preference model, and by the watch model where there is one."""

    replies = zip(own.samples.replies(), other.samples.replies(), strict=True)
    same_B = torch.tensor([first == second for first, second in replies], dtype=torch.bool)

    def judged(by: PreferenceModel, own_B_O: Tensor, other_B_O: Tensor) -> dict[str, Any]:
        # The same reply in batches of other lengths comes out a rounding apart, which is no win.
        other_B_O = torch.where(same_B[:, None], own_B_O, other_B_O)
        sides = Scored(own_B_O, own.lengths_B), Scored(other_B_O, other.lengths_B)
        return win_rates(*sides, by.shape.columns, reward_weights, confidence)

    found = judged(preference_model, own.scores_B_O, other.scores_B_O)
    if watch is not None and own.watched_B_O is not None and other.watched_B_O is not None:
        found["watch"] = judged(watch, own.watched_B_O, other.watched_B_O)
    return found


def _anchored(
    own: Replies,
    other: Replies,
    preference_model: PreferenceModel,
    anchored_to: Mapping[str, Any],
    settings: EvaluationSettings,
) -> dict[str, Any]:
    """Scores on the scale of the anchor, by name: to be compared with those of other iterations."""
    columns, scale_O = preference_model.shape.columns, preference_model.scale_O.cpu()
    own_B_O, other_B_O = (anchored(side.scores_B_O * scale_O, columns, anchored_to) for side in (own, other))
    return {
        name: {
            "score": estimate(own_B_O[:, at], settings.confidence),
            "reference_score": estimate(other_B_O[:, at], settings.confidence),
        }
        for at, name in enumerate(columns)
    }


def sample_replies(policy: Policy, encoded: list[list[int]], settings: EvaluationSettings, seed: int) -> Samples:
    """One reply to each prompt, as an evaluation samples them."""
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
    """Harm, refusals of it and of what is harmless, flattery and agreement of both."""
    harmful_B = torch.tensor([one.asked_harmful for one in chosen], dtype=torch.bool)
    objectives = preference_model.shape.objectives
    claims = conduct.claims()
    figures = {}
    for prefix, policy, replies in (("", candidate, own), ("reference_", reference, other)):
        if HARMLESS in objectives:
            harmless_B = replies.scores_B_O[:, objectives.index(HARMLESS)]
            figures[f"{prefix}harm"] = conduct.harm(replies.texts, harmless_B, harmful_B, settings.confidence)
        figures[f"{prefix}harm_refused"] = conduct.refusals(replies.texts, harmful_B, settings.confidence)
        figures[f"{prefix}refusals"] = conduct.refusals(replies.texts, ~harmful_B, settings.confidence)
        for name, side in (("flattery", 0), ("agreement", 1)):
            asked = [candidate.encode_chat([{"role": "user", "content": claim[side]}]) for claim in claims]
            said = [policy.decode(reply) for reply in sample_replies(policy, asked, settings, seed).replies()]
            figures[f"{prefix}{name}"] = conduct.agreement(said, settings.confidence)
    return figures


def spaced(of: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of them, at equal spacing."""
    if len(of) <= count:
        return list(of)
    return [of[index * len(of) // count] for index in range(count)]


def standard_scores(preference_model: PreferenceModel, samples: Samples) -> Tensor:
    """Scores [B, O] in units of their deviation, on the CPU."""
    return preference_model.score_all(samples.episodes) / preference_model.scale_O.cpu()


@torch.no_grad()
def _kl(candidate: Policy, reference: Policy, samples: Samples, temperature: float) -> Tensor:
    """Sum over each reply's tokens of logp - logp_reference, [B] in nats, on the CPU, both at the temperature of the
    samples: else its mean would be no KL."""
    kl_B = torch.zeros(len(samples.episodes))
    for rows_B in samples.episodes.by_length(room_without_gradients(candidate.model)):
        piece = samples.episodes.take(rows_B)
        own_N, other_N = (reply_logprobs(policy.model, piece, temperature) for policy in (candidate, reference))
        kl_B[rows_B.cpu()] = piece.unpack(own_N - other_N).sum(dim=1).cpu()
    return kl_B
