"""What a step of PPO and one of preference training ask of a GPU, counted on a CPU: operators, waits, casts.

In eager PyTorch the CPU launches each operator in some microseconds, and waits where it fetches a value or must know
how many of a mask are True. Neither depends on how wide a model is, so a policy with as many layers as Qwen2.5's of .5
billion and a sixteenth of its width tells both, in bf16 by autocast, its passes cut as on a GPU. Replies are made up:
drawing is recorded. What works on lists of tensors, such as Adam, counts as one operator. Prints a line of JSON for
each line of a trainer that asks for something, and the sums. No seconds: what an operator costs is for the GPU, its
driver and the processor to say.
"""

import argparse
import copy
import json
import linecache
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import Qwen2Config, Qwen2ForCausalLM

import learner
from benchmarks.ppo import say
from feedback.learning_settings import PPOSettings, PreferenceSettings
from learner import language_model
from learner.comparisons import VotedComparison
from learner.fused_norms import fuse_norms
from learner.number_format import forward_passes
from learner.policy import Policy, load_policy
from learner.ppo import PPO
from learner.preference_model import PreferenceShape, new_preference_model
from learner.preference_training import train_preference_model
from learner.prompts import TrainingPrompt
from learner.sampler import Samples
from learner.starting_policy import WEIGHTS

CPU = torch.device("cpu")
WORDS, WIDTH = 64, 56
REAL_WORDS, REAL_WIDTH = 151_936, 896
TRAINERS = tuple(str(Path(learner.__file__).parent / name) for name in ("ppo/", "preference_training.py"))

aten = torch.ops.aten
# These launch nothing: they give memory, or another view of it.
FREE = {
    aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided, aten.detach, aten.alias,
    aten.lift_fresh, aten._unsafe_view, aten._local_scalar_dense,
}  # fmt: skip
WAITS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.repeat_interleave, aten.equal}
INDEXES = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


@dataclass
class Asked:
    """What was asked of the device."""

    operators: int = 0
    waits: int = 0
    casts: int = 0

    def add(self, other: "Asked") -> None:
        self.operators += other.operators
        self.waits += other.waits
        self.casts += other.casts


@dataclass
class Count(TorchDispatchMode):
    """Counts what is asked within the block, below autocast and autograd, by the line of a trainer that asks."""

    by_line: dict[tuple[str, int], Asked] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._paused = False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self._paused:
            self.note(_asked(function, args))
        return function(*args, **(kwargs or {}))

    def note(self, asked: Asked) -> None:
        if asked != Asked():
            self.by_line.setdefault(_line_of_a_trainer(), Asked()).add(asked)

    @property
    def total(self) -> Asked:
        total = Asked()
        for asked in self.by_line.values():
            total.add(asked)
        return total

    @contextmanager
    def counted_as(self, launches: int) -> Iterator[None]:
        """What is computed within the block is so many launches on a GPU."""
        self.note(Asked(launches))
        self._paused = True
        yield
        self._paused = False


def _asked(function: Any, args: Any) -> Asked:
    packet = function.overloadpacket
    views = any(one.alias_info is not None and not one.alias_info.is_write for one in function._schema.returns)
    by_mask = packet in INDEXES and any(one.dtype == torch.bool for one in tree_leaves(args[1]) if one is not None)
    return Asked(not views and packet not in FREE, packet in WAITS or by_mask, packet is aten._to_copy)


def _line_of_a_trainer() -> tuple[str, int]:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.startswith(TRAINERS):
        frame = frame.f_back
    return ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def fused_norm(count: Count) -> Any:
    """`rms_norm` as a GPU launches it: one kernel, and two backward."""

    class FusedNorm(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
            ctx.save_for_backward(states, weight)
            ctx.epsilon = epsilon
            with count.counted_as(1):
                return torch.rms_norm(states, weight.shape, weight, epsilon)

        @staticmethod
        def backward(ctx: Any, gradients: Tensor) -> Any:
            given = [one.detach().requires_grad_() for one in ctx.saved_tensors]
            with count.counted_as(2), torch.enable_grad():
                normed = torch.rms_norm(given[0], given[1].shape, given[1], ctx.epsilon)
                return *torch.autograd.grad(normed, given, gradients), None

    def rms_norm(states: Tensor, shape: Any, weight: Tensor | None = None, epsilon: float | None = None) -> Any:
        if weight is not None:
            return FusedNorm.apply(states, weight, epsilon)
        with count.counted_as(1):
            return torch.rms_norm(states, shape)

    return rms_norm


@contextmanager
def as_on_a_gpu(count: Count) -> Iterator[None]:
    """Passes cut as a GPU's are, by sizes in proportion to the narrow model's; norms fused."""
    cut = {"cpu": language_model.LOGITS_PER_PIECE["cuda"] // REAL_WORDS * WORDS}
    whole = {"cpu": language_model.VALUES_PER_PASS["cuda"] // REAL_WIDTH * WIDTH}
    with (
        mock.patch.dict(language_model.LOGITS_PER_PIECE, cut),
        mock.patch.dict(language_model.VALUES_PER_PASS, whole),
        mock.patch.object(F, "rms_norm", fused_norm(count)),
        forward_passes("bf16", CPU),
    ):
        yield


def narrow(layers: int) -> Policy:
    """A policy of so many layers with the built-in policy's tokenizer, cut down to few words."""
    torch.manual_seed(1)
    like = load_policy(WEIGHTS, device="cpu")
    config = Qwen2Config(
        vocab_size=WORDS, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=layers, num_attention_heads=14,
        num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    fuse_norms(model)
    return FewWords(model, like.tokenizer, (1,))


class FewWords(Policy):
    """Whose token ids fit the narrow model's words; what they say does not matter."""

    def encode_chat(self, *args: Any, **kwargs: Any) -> list[int]:
        return [token % WORDS for token in super().encode_chat(*args, **kwargs)]


@dataclass(frozen=True)
class MadeUp:
    """Replies of half the limit and more, as if an engine had drawn them."""

    generator: torch.Generator

    def sample(self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, **_: Any) -> Samples:
        lengths = torch.randint(max_new_tokens // 2, max_new_tokens + 1, (len(prompts),), generator=self.generator)
        replies = [torch.randint(2, WORDS, (length,), generator=self.generator).tolist() for length in lengths.tolist()]
        return Samples.pad(prompts, replies, [[-4.0] * len(reply) for reply in replies], (1,), "cpu")


def ppo_step(policy: Policy, settings: PPOSettings) -> Count:
    """The second step of PPO, against an untrained preference model: the first makes the optimisers' moments."""
    messages = [[{"role": "user", "content": "How do I cut a cake? " * (1 + n % 4)}] for n in range(64)]
    prompts = [TrainingPrompt(one, "helpful") for one in messages]
    count, sampler = Count(), MadeUp(torch.Generator().manual_seed(1))
    settings = settings.model_copy(update={"mismatch_alarm_nats": 1e3})
    shape = PreferenceShape(("helpful", "harmless"))
    with as_on_a_gpu(count):
        preference_model = new_preference_model(policy.model, shape, seed=1)
        moving = FewWords(copy.deepcopy(policy.model), policy.tokenizer, policy.end_ids)
        asked = [policy.encode_chat(one) for one in messages]
        ppo = PPO(moving, policy.model, preference_model, prompts, settings, seed=1, sampler=sampler, rehearse_on=asked)
        ppo.step()
        with count:
            ppo.step()
    return count


def preference_step(policy: Policy, settings: PreferenceSettings, tokens: int) -> Count:
    """The second optimiser step of a preference model, prompts of about so many tokens and replies of 30."""
    generator = torch.Generator().manual_seed(1)
    question = {"role": "user", "content": "How do I cut a cake? " * (tokens // 8)}

    def reply() -> list[int]:
        return torch.randint(2, WORDS, (30,), generator=generator).tolist()

    pairs = [
        VotedComparison([question], (reply(), reply()), "helpful", 1.0)
        for _ in range(2 * settings.comparisons_per_batch)
    ]
    count = Count()

    def on_step(done: Any, state: Any) -> None:
        if done.step == 1:
            count.__enter__()
        else:
            count.__exit__(None, None, None)

    with as_on_a_gpu(count):
        train_preference_model(policy, pairs, settings, seed=1, on_step=on_step)
    return count


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--ppo", type=json.loads, default={}, help="PPO settings")
    parser.add_argument("--preference", type=json.loads, default={}, help="settings of the preference model")
    parser.add_argument("--prompt-tokens", type=int, default=247)
    given = parser.parse_args()
    small = {
        "episodes_per_step": 128, "episodes_per_minibatch": 32, "max_new_tokens": 64, "rehearsal_weight": 0.0,
        "rehearsal_replies": 64,
    }  # fmt: skip
    alone = {"epochs": 1, "comparisons_per_batch": 48, "readout": "last", "start_logprob_feature": False}
    policy = narrow(given.layers)
    steps = {
        "ppo": ppo_step(policy, PPOSettings(**(small | given.ppo))),
        "preference": preference_step(policy, PreferenceSettings(**(alone | given.preference)), given.prompt_tokens),
    }
    for name, count in steps.items():
        for (file, line), asked in sorted(count.by_line.items()):
            where = f"{Path(file).name}:{line}" if file else "elsewhere"
            say(step=name, line=where, **vars(asked), source=linecache.getline(file, line).strip()[:100])
        say(step=name, layers=given.layers, **vars(count.total))


if __name__ == "__main__":
    main()
