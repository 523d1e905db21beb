"""What a preference model learns from: comparisons with their votes, and their layout as tensors.

Both replies of a comparison stand in one row after their common prompt, which is computed once: an attention mask
hides the first reply from the second, and positions continue from the prompt for both.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from pydantic import BaseModel
from torch import Tensor

from feedback.learning_settings import DPOSettings, PreferenceSettings
from learner.errors import TrainingDataInvalid
from learner.policy import Message, Policy

Agreement = Literal["one vote", "unanimous", "divided"]

PROMPT, FIRST, SECOND, PADDING = range(4)
# Attention of one forward pass: rows times the square of the longest. 64 short comparisons, or one of 2048 tokens.
PAIRS_PER_FORWARD = 1 << 22
COMPARISONS_PER_FORWARD = 64
LEAST_WEIGHT = 0.1


@dataclass(frozen=True)
class VotedComparison:
    """Two replies to one prompt and what the raters made of them under one objective.

    A reply is its text, of which `ended` says whether it came to its end, or the token ids that the policy produced
    (end token included, if it came to that). `label` is the probability in [0, 1] that side 0 is the better one, 0.5
    for a tie. `weight` scales its loss; `tranche` and `agreement` (how far the raters of this comparison were of one
    mind) are only reported.
    """

    messages: Sequence[Message]
    replies: tuple[str | Sequence[int], str | Sequence[int]]
    objective: str
    label: float
    weight: float = 1.0
    tranche: str = "base"
    agreement: Agreement = "one vote"
    ended: tuple[bool, bool] = (True, True)

    def __post_init__(self) -> None:
        if not 0 <= self.label <= 1:
            raise TrainingDataInvalid(f"label {self.label} of a comparison is outside [0, 1]")
        if not 0 <= self.weight < math.inf:
            raise TrainingDataInvalid(f"weight {self.weight} of a comparison is no number from 0 on")


@dataclass(frozen=True)
class EncodedComparison:
    """A comparison as token ids, with the place of its objective in the preference model."""

    prompt: list[int]
    replies: tuple[list[int], list[int]]
    objective: int
    label: float
    weight: float


def thinned(comparisons: Iterable[VotedComparison], seed: int) -> list[VotedComparison]:
    """What training looks at of comparisons: those that weigh anything.

    Of such as weigh less than `LEAST_WEIGHT` of the weightiest under their objective some are drawn from `seed`, which
    weigh that much then: together as much as all of them, on average. Thousands of votes of a rater who is bounded
    would else fill most batches; there an optimiser that scales its steps to the gradients takes little for much.
    """
    weighty = [one for one in comparisons if one.weight > 0]
    most: dict[str, float] = {}
    for one in weighty:
        most[one.objective] = max(one.weight, most.get(one.objective, 0.0))
    drawn = torch.rand(len(weighty), generator=torch.Generator().manual_seed(seed * 1_000_003 - 2)).tolist()
    kept = []
    for one, number in zip(weighty, drawn, strict=True):
        least = LEAST_WEIGHT * most[one.objective]
        if one.weight >= least:
            kept.append(one)
        elif number * least < one.weight:
            kept.append(replace(one, weight=least))
    return kept


def encode_comparison(
    comparison: VotedComparison,
    policy: Policy,
    objectives: Sequence[str],
    max_prompt_tokens: int,
    max_reply_tokens: int,
) -> EncodedComparison:
    """Token ids in the policy's chat template. Raises `TrainingDataInvalid` for an empty reply or unknown objective."""
    if comparison.objective not in objectives:
        raise TrainingDataInvalid(f"unknown objective {comparison.objective!r}: know {', '.join(objectives)}")
    first, second = (
        (policy.encode_reply(reply, ended) if isinstance(reply, str) else list(reply))[:max_reply_tokens]
        for reply, ended in zip(comparison.replies, comparison.ended, strict=True)
    )
    if not first or not second:
        raise TrainingDataInvalid("a reply of a comparison holds no tokens")
    prompt = policy.encode_chat(comparison.messages)[-max_prompt_tokens:]
    objective = list(objectives).index(comparison.objective)
    return EncodedComparison(prompt, (first, second), objective, comparison.label, comparison.weight)


def encode_comparisons(
    comparisons: Iterable[VotedComparison],
    policy: Policy,
    objectives: Sequence[str],
    settings: PreferenceSettings | DPOSettings,
) -> list[EncodedComparison]:
    """Each as `encode_comparison` does, as long as the settings let them be."""
    limits = settings.max_prompt_tokens, settings.max_reply_tokens
    return [encode_comparison(one, policy, objectives, *limits) for one in comparisons]


def pieces(encoded: Sequence[EncodedComparison]) -> list[list[int]]:
    """Places of comparisons, those of like length together, in pieces that one forward pass can hold."""
    lengths = [len(one.prompt) + len(one.replies[0]) + len(one.replies[1]) for one in encoded]
    cut: list[list[int]] = []
    for place in sorted(range(len(encoded)), key=lengths.__getitem__):
        rows = len(cut[-1]) + 1 if cut else 0
        if not cut or rows > COMPARISONS_PER_FORWARD or rows * lengths[place] ** 2 > PAIRS_PER_FORWARD:
            cut.append([])
        cut[-1].append(place)
    return cut


def fingerprint_of(
    encoded: Sequence[EncodedComparison], settings: BaseModel, seed: int, rehearse_on: Sequence[list[int]] = ()
) -> str:
    """What a training run on votes is known by: its comparisons, settings and seed, and the prompts it rehearses."""
    digest = hashlib.sha256(f"{settings.model_dump_json()} {seed}".encode())
    for one in (*encoded, *rehearse_on):
        digest.update(repr(one).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class ComparisonBatch:
    """C comparisons as rows [prompt, first reply, second reply, padding]. `parts_C_T` says which token is what."""

    tokens_C_T: Tensor
    parts_C_T: Tensor
    objectives_C: Tensor
    labels_C: Tensor
    weights_C: Tensor

    @classmethod
    def pad(cls, comparisons: Sequence[EncodedComparison], device: torch.device | str = "cpu") -> "ComparisonBatch":
        """From token ids, row by row."""
        lengths = [(len(c.prompt), len(c.replies[0]), len(c.replies[1])) for c in comparisons]
        width = max(map(sum, lengths))
        tokens = [
            [*c.prompt, *c.replies[0], *c.replies[1], *[0] * (width - sum(n))]
            for c, n in zip(comparisons, lengths, strict=True)
        ]
        parts = [[PROMPT] * p + [FIRST] * a + [SECOND] * b + [PADDING] * (width - p - a - b) for p, a, b in lengths]
        return cls(
            torch.tensor(tokens, device=device),
            torch.tensor(parts, device=device),
            torch.tensor([c.objective for c in comparisons], device=device),
            torch.tensor([c.label for c in comparisons], device=device),
            torch.tensor([c.weight for c in comparisons], device=device),
        )

    def __len__(self) -> int:
        return self.tokens_C_T.shape[0]

    @cached_property
    def lengths_3_C(self) -> Tensor:
        """Tokens of prompt, first and second reply."""
        return torch.stack([(self.parts_C_T == part).sum(dim=1) for part in (PROMPT, FIRST, SECOND)])

    @cached_property
    def positions_C_T(self) -> Tensor:
        """Position of each token in its own conversation: the second reply counts on from the prompt too."""
        columns_T = torch.arange(self.tokens_C_T.shape[1], device=self.tokens_C_T.device)
        return columns_T - torch.where(self.parts_C_T == SECOND, self.lengths_3_C[1][:, None], 0)

    @cached_property
    def visible_C_T_T(self) -> Tensor:
        """True where a token (second axis) may look at another (third): causal, but never from one reply at the
        other."""
        width = self.tokens_C_T.shape[1]
        causal_T_T = torch.ones(width, width, dtype=torch.bool, device=self.tokens_C_T.device).tril()
        second_C_T = self.parts_C_T == SECOND
        first_C_T = self.parts_C_T == FIRST
        return causal_T_T & ~(second_C_T[:, :, None] & first_C_T[:, None, :])

    @property
    def present_C_T(self) -> Tensor:
        """True on all tokens, False on padding."""
        return self.parts_C_T != PADDING

    @property
    def is_reply_C_T(self) -> Tensor:
        """True on the tokens of both replies."""
        return (self.parts_C_T == FIRST) | (self.parts_C_T == SECOND)

    @property
    def ends_reply_C_T(self) -> Tensor:
        """True on the last token of either reply."""
        next_C_T = torch.nn.functional.pad(self.parts_C_T[:, 1:], (0, 1), value=PADDING)
        return self.is_reply_C_T & (self.parts_C_T != next_C_T)

    @property
    def predicts_reply_C_T(self) -> Tensor:
        """True where a reply token is predicted: on the last of the prompt, which predicts both replies' first tokens,
        and on all of a reply but its last."""
        columns_T = torch.arange(self.tokens_C_T.shape[1], device=self.tokens_C_T.device)
        ends_prompt_C_T = columns_T == self.lengths_3_C[0][:, None] - 1
        return ends_prompt_C_T | (self.is_reply_C_T & ~self.ends_reply_C_T)

    @property
    def reply_tokens_N(self) -> Tensor:
        """The tokens of all replies, row after row, the first reply of a row before its second."""
        return self.tokens_C_T[self.is_reply_C_T]

    def predicting(self, states_U_D: Tensor) -> Tensor:
        """The hidden states [N, D] from which the reply tokens are predicted; given are those where
        `predicts_reply_C_T` is True."""
        rows_N, columns_N = self.is_reply_C_T.nonzero(as_tuple=True)
        prompt_C, first_C, _ = self.lengths_3_C
        opens_second_N = columns_N == (prompt_C + first_C)[rows_N]
        before_N = torch.where(opens_second_N, prompt_C[rows_N], columns_N) - 1
        numbers_C_T = self.predicts_reply_C_T.flatten().cumsum(dim=0).view_as(self.tokens_C_T) - 1
        return states_U_D[numbers_C_T[rows_N, before_N]]

    @cached_property
    def reply_mask_C_2_R(self) -> Tensor:
        """True on the reply tokens of either side; R is the longest reply."""
        lengths_C_2 = self.lengths_3_C[1:].T
        offsets_R = torch.arange(int(lengths_C_2.max()), device=self.tokens_C_T.device)
        return offsets_R < lengths_C_2[:, :, None]

    def unpack(self, values_N: Tensor) -> Tensor:
        """One value per reply token, laid out as [C, 2, R] with zeros on padding."""
        values_C_2_R = values_N.new_zeros(self.reply_mask_C_2_R.shape)
        values_C_2_R[self.reply_mask_C_2_R] = values_N
        return values_C_2_R
