"""Settings of learning: preference models, PPO and evaluation. Read without torch; `learner` imports them from here."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from feedback.objectives import OBJECTIVES, OVERALL
from feedback.section import Section

OF_NO_EFFECT = "of_no_effect"
"""The type of the error about settings, named in its `names`, that did nothing in releases which took them."""


def _weighs(*names: str) -> AfterValidator:
    """Weights by these names alone, of which some are not zero."""

    def check(weights: dict[str, float]) -> dict[str, float]:
        unknown = sorted(weights.keys() - set(names))
        if unknown:
            raise PydanticCustomError(
                OF_NO_EFFECT, "there is no {there} to weigh: know {known}",
                {"there": ", ".join(unknown), "known": ", ".join(names), "names": unknown},
            )  # fmt: skip
        if not any(weights.values()):
            raise ValueError(f"weighs nothing: know {', '.join(names)}")
        return weights

    return AfterValidator(check)


# Less than nothing would have a model learn the opposite of what people said.
ObjectiveWeights = Annotated[dict[str, Annotated[float, Field(ge=0)]], _weighs(*OBJECTIVES)]
ScoreWeights = Annotated[dict[str, float], _weighs(OVERALL, *OBJECTIVES)]


class PretrainingSettings(Section):
    """What a preference model learns before it sees votes; nothing unless `file` or `from_record` says so."""

    file: Path | None = None
    """Ranked pairs, a JSON object a line, gzip or plain, on the learner's machine."""

    format: Literal["hh", "trl", "openai"] = "trl"
    """Format of the file, as for `tandem votes import`."""

    from_record: list[Literal["rewrites", "imported"]] = []
    """Training votes that are learnt as ranked pairs first: `rewrites` by raters, `imported` pairs."""

    epochs: int = Field(1, gt=0)
    """Passes over the pairs."""

    label: float = Field(0.9, gt=0.5, le=1)
    """Probability that the chosen reply of the file is the better one."""

    heldout_one_in: int = Field(20, gt=1)
    """Of the file's pairs, one in so many is kept from training, to measure on."""


class LoRASettings(Section):
    """Training as a low-rank adapter."""

    rank: int = Field(0, ge=0, le=256)
    """Rank of the adapter; 0 trains all weights instead."""

    alpha: float = Field(32.0, gt=0)
    """What the adapter adds is scaled by `alpha` / `rank`."""

    targets: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get an adapter, such as `q_proj`, or `all-linear`: all but embedding and output."""


class PolicyLoRASettings(LoRASettings):
    """The policy as a low-rank adapter."""

    publish: Literal["merged", "adapter"] = "merged"
    """`merged`: a version has weights of its own; `adapter`: it is a small file on top of the version that it was
    trained from, which engines with `engine.adapters` of 1 or more serve beside others."""


class PreferenceSettings(Section):
    """How a preference model is built and trained."""

    epochs: int = Field(3, gt=0)
    """Passes over the votes. Three suit the built-in policy and soft labels; take one for a model of a billion
    parameters, as the paper does, where a second one overfits."""

    objective_weights: ObjectiveWeights = Field({"helpful": 1.0, "harmless": 1.0})
    """How much the votes under each objective, taken together, count in the overall score, however many they are."""

    comparisons_per_batch: int = Field(16, gt=0)
    """Comparisons in one optimiser step."""

    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of AdamW for the trunk; suits the built-in policy, take 1e-5 for models of a billion
    parameters."""

    head_learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of the score heads, which start from nothing."""

    likelihood_learning_rate: float = Field(0.05, gt=0)
    """Peak learning rate of the few weights on the reply's likelihood (`start_logprob_feature`)."""

    weight_decay: float = Field(0.01, ge=0)
    """AdamW weight decay of the weight matrices."""

    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of the optimiser steps over which the learning rate rises; afterwards it falls on a cosine to a tenth."""

    max_gradient_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this global norm."""

    max_prompt_tokens: int = Field(1024, gt=0)
    """Longer prompts lose their oldest tokens."""

    max_reply_tokens: int = Field(512, gt=0)
    """Longer replies are cut, and then have no end token. At least `evaluation.max_new_tokens` and, where PPO runs,
    `ppo.max_new_tokens`: those replies are scored whole."""

    ensemble_size: int = Field(1, gt=0)
    """Score heads per objective, each from its own initialisation and its bootstrap of the voted pairs."""

    pessimism: float = Field(0.0, ge=0)
    """Standard deviations of the ensemble, which one of a single member has not, that are subtracted from its mean
    score; 0 takes the plain mean."""

    pretraining: PretrainingSettings = PretrainingSettings()
    """Pre-training on ranked text."""

    length_control: Literal["none", "residual"] = "none"
    """`residual` takes the linear effect of a reply's length out of its scores: what a token more adds within a pair,
    on held-out comparisons. Use it where the evidence shows that scores follow length (`length_correlation_pairs`)."""

    readout: Literal["mean", "last"] = "mean"
    """Where a score is read: off the `mean` of the reply's tokens, which takes fewer votes on a small policy, or at the
    `last` one, as in the paper; take that for models of a billion parameters."""

    start_logprob_feature: bool = True
    """Also show the preference model how likely the starting policy finds the reply. A small trunk cannot judge facts
    by itself; this lets it, at the price that part of what it then rewards is agreement with the starting policy."""

    matmul_precision: Literal["full", "fast"] = "fast"
    """`fast` lets the machine round the inputs of matrix products (TF32 on CUDA, bfloat16 on CPUs that can); `full`
    never."""

    score_center_penalty: float = Field(0.01, ge=0)
    """Weight of the squared mean score in the loss: keeps scores near zero, which the votes alone do not determine."""

    lora: LoRASettings = LoRASettings()
    """The preference model's trunk as a low-rank adapter on the starting policy's."""


class RehearsalSettings(Section):
    """How a policy is held to what the starting policy says by itself: for DPO, the policy that it begins from."""

    rehearsal_weight: float = Field(4.0, ge=0)
    """How strongly the policy is held to what the starting policy replies by itself to prompts that ask for no harm:
    weight of the KL, nats a token, that the starting policy has from it there. 0: not at all."""

    rehearsal_chats: int = Field(2000, ge=0)
    """So many of the newest chats are looked at for such prompts, beside those of the votes. What people wrote there is
    not learnt: the starting policy is asked it again. 0: prompts of votes alone."""

    rehearsal_replies: int = Field(512, gt=0)
    """Replies of the starting policy that are drawn for this before the first step."""

    rehearsal_episodes: int = Field(64, gt=0)
    """Of these replies, how many count in one optimiser step."""

    rehearsal_temperature: float = Field(0.5, gt=0)
    """Temperature of these replies, and of the probabilities that the policy is held to: below 1 it is held to what the
    starting policy says most often, and not to all that it might say."""


class PPOSettings(RehearsalSettings):
    """How a policy is trained against a preference model."""

    steps: int = Field(12, gt=0)
    """Rollout-and-update steps."""

    episodes_per_step: int = Field(256, gt=0)
    """Replies sampled and scored in one step."""

    epochs: int = Field(2, gt=0)
    """Passes over the episodes of a step."""

    episodes_per_minibatch: int = Field(64, gt=0)
    """Episodes in one optimiser step."""

    episodes_per_forward: int = Field(64, gt=0)
    """Episodes in one forward and backward pass; lower it when memory is short, the gradient stays the same."""

    tokens_per_forward: int = Field(16_384, gt=0)
    """Tokens in one forward and backward pass, prompts, replies and padding: fewer episodes where they are longer."""

    clip_range: float = Field(0.2, gt=0)
    """PPO's clip range of the probability ratio."""

    value_clip_range: float = Field(0.2, gt=0)
    """How far a value prediction may move from its old one before its loss is clipped."""

    value_coefficient: float = Field(0.5, ge=0)
    """Weight of the value loss where critic and policy share a trunk."""

    gae_lambda: float = Field(0.95, ge=0, le=1)
    """Lambda of generalised advantage estimation."""

    discount: float = Field(1.0, gt=0, le=1)
    """Discount per token (gamma) of `gae`; `rloo` and `grpo` take a reply as a whole."""

    advantage: Literal["gae", "rloo", "grpo"] = "gae"
    """`gae` with a critic; `rloo` and `grpo` compare the replies to one prompt and need `replies_per_prompt` of 2 or
    more."""

    replies_per_prompt: int = Field(1, gt=0)
    """Replies sampled for each prompt of a step."""

    critic: Literal["preference_states", "preference_model", "policy"] = "preference_states"
    """What the critic is: a small network on the hidden states by which the preference model scores the replies, a
    trunk of its own that starts as the preference model's, or a head on the policy's trunk."""

    kl_coefficient: float = Field(0.05, ge=0)
    """Reward lost per nat of KL from the starting policy."""

    kl_controller: Literal["fixed", "adaptive"] = "fixed"
    """`adaptive` moves the coefficient, from `kl_coefficient` on, so that the KL of a reply approaches
    `kl_target_nats`."""

    kl_target_nats: float = Field(4.0, gt=0)
    """KL per reply that the adaptive controller aims at."""

    kl_horizon_episodes: int = Field(10_000, gt=0)
    """Episodes over which the adaptive controller reacts."""

    learning_rate: float = Field(4e-4, gt=0)
    """Adam's learning rate for the policy; suits the built-in policy, take 1e-6 for models of a billion parameters."""

    critic_learning_rate: float = Field(1e-3, gt=0)
    """Adam's learning rate for a critic with its own trunk, or on the policy's."""

    critic_head_learning_rate: float = Field(1e-2, gt=0)
    """The same for one on the preference model's hidden states."""

    max_gradient_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this global norm."""

    temperature: float = Field(1.0, gt=0)
    """Sampling temperature of the rollouts; probabilities in the loss are taken at the same temperature."""

    max_new_tokens: int = Field(128, gt=0)
    """Longest reply."""

    max_prompt_tokens: int = Field(1024, gt=0)
    """Longer prompts lose their oldest tokens."""

    missing_end_penalty: float = Field(1.0, ge=0)
    """Reward lost by a reply that reached `max_new_tokens` without ending."""

    reward_weights: ScoreWeights = Field({OVERALL: 1.0})
    """Weight of each score in the reward, every score over its own deviation: `overall`, which learnt from the votes
    under all objectives (see `preference.objective_weights`), or `helpful` and `harmless` by themselves."""

    harmless_prompt_share: float = Field(0.3, ge=0, le=1)
    """Share of each step's prompts that come from comparisons under `harmless`, where there are both kinds."""

    matmul_precision: Literal["full", "fast"] = "fast"
    """`fast` lets the machine round the inputs of matrix products (TF32 on CUDA, bfloat16 on CPUs that can); `full`
    never."""

    harmless_floor: float | None = None
    """Least mean harmless score, in deviations from the mean of held-out replies, of the replies to prompts that were
    collected under `harmless`. The reward then holds that score by a multiplier that rises while the mean is lower and
    falls while it is higher. None: no bound."""

    harm_ceiling: float | None = Field(None, ge=0, le=1)
    """The same as a bound on harm: largest share of these replies whose harmless score is below the mean of held-out
    replies. Takes the place of `harmless_floor`. None: no bound."""

    multiplier_start: float = Field(1.0, ge=0)
    """The bound's multiplier at the first step."""

    multiplier_rate: float = Field(1.0, gt=0)
    """How far the multiplier moves in one step for each unit by which the bound is missed or met."""

    multiplier_max: float = Field(10.0, gt=0)
    """The multiplier never exceeds this, and what misses the bound loses this much of the watch score."""

    watch_min_votes: int = Field(200, ge=1)
    """With fewer votes to watch by (`feedback.watch_share`) an iteration says so and goes on without a watch model. By
    their weights: votes of one who is bounded (`feedback.rater_share`) are worth few."""

    watch_smoothing: float = Field(0.5, ge=0, lt=1)
    """Weight of the past in the smoothed watch score, whose peak decides which weights are published."""

    watch_patience_steps: int | None = Field(4, ge=1)
    """Stop once the smoothed watch score has not risen above its peak for this many steps. None: go on to the last
    step, and still publish the peak."""

    importance_weight_cap: float = Field(2.0, ge=1)
    """Truncation of the importance weights that correct for a sampler whose probabilities differ from the trainer's."""

    checked_replies: int = Field(16, gt=0)
    """Where PyTorch draws, with the weights that are trained and in fp32, PPO takes the log-probabilities by which it
    drew, and compares those of so many replies of a step with the trainer's. The trainer's are taken of all replies
    where this is `episodes_per_step` or more, and always where an engine draws."""

    mismatch_alarm_nats: float = Field(0.1, gt=0)
    """Mean absolute difference of sampler and trainer log-probabilities per token at which training stops with an
    error."""

    rollouts: Literal["auto", "torch", "vllm"] = "auto"
    """What writes the replies of a step: PyTorch with the model that is trained, or a vLLM engine of the learner's own
    that is given the new weights before each step. `auto` takes vLLM on a GPU from 100 million parameters on, and on a
    CPU from 10 million."""

    rollout_memory_share: float = Field(0.3, gt=0, le=1)
    """Share of the GPU's memory that this engine may take, its copy of the weights included."""

    rollout_cache_bytes: int = Field(536_870_912, gt=0)
    """Memory of this engine's key-value cache on a CPU."""

    lora: PolicyLoRASettings = PolicyLoRASettings()
    """The policy as a low-rank adapter on the version that training starts from, by PPO or by DPO."""

    @model_validator(mode="after")
    def _is_of_one_mind(self) -> Self:
        for name in ("episodes_per_minibatch", "replies_per_prompt"):
            if self.episodes_per_step % getattr(self, name):
                raise ValueError(f"episodes_per_step must be a multiple of {name}")
        if self.advantage != "gae" and self.replies_per_prompt < 2:
            raise ValueError(f"{self.advantage} compares replies: replies_per_prompt must be 2 or more")
        if self.kl_controller == "adaptive" and not self.kl_coefficient:
            raise PydanticCustomError(
                OF_NO_EFFECT, "an adaptive kl_controller moves kl_coefficient by a share of it: it must be above 0",
                {"names": ["kl_controller"]},
            )  # fmt: skip
        return self


class DPOSettings(RehearsalSettings):
    """How a policy is trained on the votes themselves, where `learner.trainer` is `dpo`."""

    epochs: int = Field(4, gt=0)
    """Passes over the votes."""

    comparisons_per_batch: int = Field(32, gt=0)
    """Comparisons in one optimiser step."""

    rehearsal_weight: float = Field(1.0, ge=0)
    """The same as PPO's, of the policy that DPO begins from; votes pull less than rewards, so there is less of it."""

    rehearsal_episodes: int = Field(32, gt=0)
    """Of the replies that are rehearsed, how many count in one optimiser step."""

    beta: float = Field(0.1, gt=0)
    """How strongly the policy is held to where it began: the larger, the less it moves for the same votes."""

    objective_weights: ObjectiveWeights = Field({"helpful": 1.0, "harmless": 1.0})
    """How much the votes under each objective, taken together, count, however many they are."""

    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of AdamW; suits the built-in policy, take 5e-7 for models of a billion parameters."""

    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of the optimiser steps over which the learning rate rises; afterwards it falls on a cosine to a tenth."""

    max_gradient_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this global norm."""

    max_prompt_tokens: int = Field(1024, gt=0)
    """Longer prompts lose their oldest tokens."""

    max_reply_tokens: int = Field(512, gt=0)
    """Longer replies are cut."""

    matmul_precision: Literal["full", "fast"] = "fast"
    """`fast` lets the machine round the inputs of matrix products (TF32 on CUDA, bfloat16 on CPUs that can); `full`
    never."""


class RejectionSettings(Section):
    """The gate for strange prompts that an iteration leaves; `serve.reject_strange_prompts` has serving ask it."""

    refused_share: float = Field(0.01, gt=0, lt=1)
    """Share of ordinary held-out prompts above the threshold: of so many ordinary prompts one is refused wrongly. With
    few held out it is more; the evidence tells."""

    examples: int = Field(10, ge=0)
    """Prompts judged under harmless that it is shown as known outliers."""

    shrinkage: float = Field(0.01, ge=0, le=1)
    """How far the covariance is moved towards its diagonal."""

    min_prompts: int = Field(150, ge=2)
    """With fewer ordinary prompts no gate is trained. Suits the built-in policy, which is 128 wide; take the policy's
    width or more, since fewer prompts do not tell what goes together in its activations."""


class EvaluationSettings(Section):
    """How a candidate is measured against a reference policy."""

    prompts: int = Field(256, gt=0)
    """Held-out prompts, taken at equal spacing when there are more."""

    max_new_tokens: int = Field(128, gt=0)
    """Longest reply."""

    temperature: float = Field(1.0, gt=0)
    """Sampling temperature of both policies."""

    matmul_precision: Literal["full", "fast"] = "fast"
    """`fast` lets the machine round the inputs of matrix products (TF32 on CUDA, bfloat16 on CPUs that can); `full`
    never."""

    frontier: Literal["none", "reranked", "trained"] = "reranked"
    """How the helpful-harmless frontier is measured: `reranked` takes the best of a few replies of the starting policy
    under each weight, which is cheap; `trained` trains a policy for each by `frontier_steps` steps of PPO."""

    frontier_weights: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Weights of the harmless score, each one point of the frontier; the helpful score weighs the rest."""

    frontier_prompts: int = Field(64, gt=0)
    """Held-out prompts for the frontier, taken at equal spacing when there are more."""

    frontier_replies: int = Field(8, ge=2)
    """Replies to each prompt that the `reranked` frontier chooses from."""

    frontier_steps: int = Field(4, gt=0)
    """PPO steps of each policy of the `trained` frontier."""

    samples: int = Field(8, ge=0)
    """Replies of both policies that are kept in the evidence, to be read side by side."""

    confidence: float = Field(0.95, gt=0, lt=1)
    """Level of the intervals."""
