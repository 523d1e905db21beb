"""The prompts of a step shared out among processes, each of which draws its replies, and the replies put together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from learner.processes import Processes
from learner.sampler import Sampler, Samples
from learner.sequences import Episodes


@dataclass(frozen=True)
class SharedSampler:
    """Every process asks for the same prompts and is answered the same replies, those that one process would draw."""

    own: Sampler
    processes: Processes

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        first_row: int = 0,
    ) -> Samples:
        """See `Sampler`. There must be as many prompts for each process."""
        each = len(prompts) // self.processes.count
        first = self.processes.rank * each
        rows = slice(first, first + each)
        own = self.own.sample(
            prompts[rows],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            first_row=first_row + first,
        )
        # What the other processes drew is zero here, and what this one drew is zero there.
        width, device = own.logprobs_B_R.shape[1], own.logprobs_B_R.device
        replies_B_R = torch.zeros(len(prompts), max_new_tokens, dtype=torch.long, device=device)
        logprobs_B_R, entropies_B_R = torch.zeros(2, len(prompts), max_new_tokens, device=device)
        lengths_B, ends_B = torch.zeros(2, len(prompts), dtype=torch.long, device=device)
        replies_B_R[rows, :width] = own.episodes.unpack(own.episodes.reply_tokens_N)
        logprobs_B_R[rows, :width] = own.logprobs_B_R
        lengths_B[rows], ends_B[rows] = own.episodes.reply_lengths_B, own.finished_B.long()
        if own.entropies_B_R is not None:
            entropies_B_R[rows, :width] = own.entropies_B_R
        for values in (replies_B_R, logprobs_B_R, entropies_B_R, lengths_B, ends_B):
            self.processes.add_up(values)
        replies = [row[:length] for row, length in zip(replies_B_R.tolist(), lengths_B.tolist(), strict=True)]
        width = int(lengths_B.max())
        return Samples(
            Episodes.pad(prompts, replies, device),
            logprobs_B_R[:, :width],
            ends_B.bool(),
            None if own.entropies_B_R is None else entropies_B_R[:, :width],
        )
