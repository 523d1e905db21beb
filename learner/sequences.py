"""Prompts and replies as one padded tensor, and where in it each reply token stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from feedback.learning_settings import PPOSettings


def positions(mask_B_S: Tensor) -> Tensor:
    """Places [B, S] of tokens in rows that are padded on the left, where `mask_B_S` is 0; there 0."""
    return (mask_B_S.cumsum(dim=1) - 1).clamp(min=0)


@dataclass(frozen=True)
class Room:
    """What one pass through a model holds: so many rows, and so many tokens with their padding. One row always fits."""

    rows: int
    tokens: int

    @classmethod
    def of(cls, settings: PPOSettings) -> "Room":
        """That of a pass with gradients in PPO."""
        return cls(settings.episodes_per_forward, settings.tokens_per_forward)

    def sizes(self, lengths: Sequence[int], processes: int = 1) -> list[int]:
        """How many rows of these lengths, the shortest first, go through each pass, where each of `processes` takes
        every so-manieth of them. All of them have as many, if `lengths` are a multiple."""
        sizes: list[int] = []
        for first in range(0, len(lengths), processes):
            rows_of_each = lengths[first : first + processes]
            rows = sizes[-1] // processes + 1 if sizes else 0
            if not sizes or rows > self.rows or rows * rows_of_each[-1] > self.tokens:
                sizes.append(0)
            sizes[-1] += len(rows_of_each)
        return sizes


@dataclass(frozen=True)
class Episodes:
    """A batch of prompts, each followed at once by its reply and then by padding.

    `tokens_B_T` int64; `prompt_lengths_B` and `reply_lengths_B` int64, all at least 1; what stands in the padding is
    never looked at, so any token may serve, the end token included.
    """

    tokens_B_T: Tensor
    prompt_lengths_B: Tensor
    reply_lengths_B: Tensor

    @classmethod
    def pad(
        cls,
        prompts: Sequence[Sequence[int]],
        replies: Sequence[Sequence[int]],
        device: torch.device | str = "cpu",
    ) -> "Episodes":
        """From token ids, row by row."""
        width = max(len(prompt) + len(reply) for prompt, reply in zip(prompts, replies, strict=True))
        rows = [[*p, *r, *[0] * (width - len(p) - len(r))] for p, r in zip(prompts, replies, strict=True)]
        return cls(
            torch.tensor(rows, device=device),
            torch.tensor([len(prompt) for prompt in prompts], device=device),
            torch.tensor([len(reply) for reply in replies], device=device),
        )

    def __len__(self) -> int:
        return self.tokens_B_T.shape[0]

    def take(self, index_B: Tensor) -> "Episodes":
        """The chosen rows, with no more padding than they need."""
        prompt_lengths_B, reply_lengths_B = (
            self.prompt_lengths_B[index_B],
            self.reply_lengths_B[index_B],
        )
        width = int((prompt_lengths_B + reply_lengths_B).max())
        return Episodes(self.tokens_B_T[index_B, :width], prompt_lengths_B, reply_lengths_B)

    def by_length(self, room: Room, among_B: Tensor | None = None, *, processes: int = 1) -> tuple[Tensor, ...]:
        """Row numbers, all or those `among_B`, in batches that are shared out among `processes`, each of which has
        `room`; rows of like length together, so that little padding is computed."""
        lengths_B = self.prompt_lengths_B + self.reply_lengths_B
        order_B = lengths_B.argsort() if among_B is None else among_B[lengths_B[among_B].argsort()]
        # Seen without waiting for a GPU.
        if min(room.rows, len(order_B)) * self.tokens_B_T.shape[1] <= room.tokens:
            return order_B.split(room.rows * processes)
        return order_B.split(room.sizes(lengths_B[order_B].tolist(), processes))

    @cached_property
    def reply_mask_B_R(self) -> Tensor:
        """True on reply tokens; R is the longest reply."""
        offsets_R = torch.arange(int(self.reply_lengths_B.max()), device=self.tokens_B_T.device)
        return offsets_R < self.reply_lengths_B[:, None]

    @cached_property
    def _packed(self) -> tuple[Tensor, Tensor]:
        """Rows and columns [N] of `reply_mask_B_R` where it is True. Looked for once: on a GPU whoever asks a mask how
        much is True in it waits."""
        rows_N, columns_N = self.reply_mask_B_R.nonzero(as_tuple=True)
        return rows_N, columns_N

    @cached_property
    def reply_places(self) -> tuple[Tensor, Tensor]:
        """(rows_N, columns_N) of the reply tokens in `tokens_B_T`, in the order of `reply_mask_B_R`."""
        rows_N, offsets_N = self._packed
        return rows_N, self.prompt_lengths_B[rows_N] + offsets_N

    @cached_property
    def reply_tokens_N(self) -> Tensor:
        """The reply tokens without padding."""
        rows_N, columns_N = self.reply_places
        return self.tokens_B_T[rows_N, columns_N]

    @property
    def present_B_T(self) -> Tensor:
        """True on all tokens, False on padding."""
        return self._columns_from(0, self.prompt_lengths_B + self.reply_lengths_B)

    @property
    def is_reply_B_T(self) -> Tensor:
        """True on reply tokens, in the columns of `tokens_B_T`."""
        return self._columns_from(self.prompt_lengths_B, self.reply_lengths_B)

    @property
    def predicts_reply_B_T(self) -> Tensor:
        """True one column before each reply token: where it is predicted."""
        return self._columns_from(self.prompt_lengths_B - 1, self.reply_lengths_B)

    @property
    def ends_reply_B_T(self) -> Tensor:
        """True on each row's last reply token."""
        return self._columns_from(self.prompt_lengths_B + self.reply_lengths_B - 1, 1)

    def _columns_from(self, first_B: Tensor | int, count_B: Tensor | int) -> Tensor:
        device = self.tokens_B_T.device
        columns_B_T = torch.arange(self.tokens_B_T.shape[1], device=device).expand_as(self.tokens_B_T)
        first_B, end_B = (torch.as_tensor(place, device=device) for place in (first_B, first_B + count_B))
        return (columns_B_T >= first_B[..., None]) & (columns_B_T < end_B[..., None])

    def unpack(self, values_N: Tensor) -> Tensor:
        """One value per reply token, or one vector, laid out as [B, R] with zeros on padding."""
        values_B_R = values_N.new_zeros(*self.reply_mask_B_R.shape, *values_N.shape[1:])
        values_B_R[self._packed] = values_N
        return values_B_R

    def pack(self, values_B_R: Tensor, among_B: Tensor | None = None) -> Tensor:
        """What `unpack` laid out, back as one value [N] or vector per reply token. The layout may be wider, or of more
        rows, `among_B` of which are these."""
        rows_N, offsets_N = self._packed
        return values_B_R[rows_N if among_B is None else among_B[rows_N], offsets_N]
