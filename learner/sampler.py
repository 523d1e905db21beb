"""Drawing replies from a policy in plain torch, with a key-value cache: right for small models, and always exact.

Each row draws with its own stream of uniform numbers, so a reply depends on its prompt, the weights and the seed, and
not on which rows share its batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from learner.decoding import decoder, left_pad
from learner.few_shapes import rounded_up
from learner.language_model import logits
from learner.rounded_weights import rounded_once
from learner.sequences import Episodes


@dataclass(frozen=True)
class Samples:
    """Prompts with the replies that were drawn. `logprobs_B_R` (zero on padding) are the sampler's own, at the sampling
    temperature; `finished_B` is False where a reply ran into the limit and so has no end token.

    `entropies_B_R`, in nats, of the distributions that the tokens were drawn from, are there where the sampler drew
    with the very weights that are trained, exactly: then its log-probabilities can be taken for the trainer's.
    """

    episodes: Episodes
    logprobs_B_R: Tensor
    finished_B: Tensor
    entropies_B_R: Tensor | None = None

    @classmethod
    def pad(
        cls,
        prompts: Sequence[Sequence[int]],
        replies: Sequence[Sequence[int]],
        logprobs: Sequence[Sequence[float]],
        end_ids: Sequence[int],
        device: torch.device | str,
    ) -> "Samples":
        """From token ids and log-probabilities, row by row."""
        width = max(map(len, replies))
        return cls(
            Episodes.pad(prompts, replies, device),
            torch.tensor([[*row, *[0.0] * (width - len(row))] for row in logprobs], device=device),
            torch.tensor([reply[-1] in end_ids for reply in replies], device=device),
        )

    def replies(self) -> list[list[int]]:
        """Token ids of each reply, its end token included."""
        rows = zip(
            self.episodes.tokens_B_T,
            self.episodes.prompt_lengths_B,
            self.episodes.reply_lengths_B,
            strict=True,
        )
        return [tokens_T[start : start + length].tolist() for tokens_T, start, length in rows]


class Sampler(Protocol):
    """Whatever draws replies: this module's, or an engine where the model is worth one."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        first_row: int = 0,
    ) -> Samples:
        """One reply for each prompt (token ids). A `temperature` of 0 takes the likeliest token every time.

        A reply depends on the prompt, the weights, `seed` and its row; the rows are counted from `first_row`.
        """
        ...


@dataclass(frozen=True)
class TorchSampler:
    """Samples with the model's own forward pass. `end_ids` end a reply and belong to it."""

    model: PreTrainedModel
    end_ids: tuple[int, ...]
    rows_per_batch: int = 256

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        first_row: int = 0,
    ) -> Samples:
        """See `Sampler`. Prompts must hold at least one token each."""
        device = self.model.device
        generator = torch.Generator().manual_seed(seed)
        uniforms_B_R = torch.rand(first_row + len(prompts), max_new_tokens, generator=generator)[first_row:].to(device)
        parts = []
        with rounded_once(self.model):
            for start in range(0, len(prompts), self.rows_per_batch):
                rows = slice(start, start + self.rows_per_batch)
                parts.append(self._decode(prompts[rows], uniforms_B_R[rows], temperature))
        tokens_B_R, logprobs_B_R, entropies_B_R, lengths_B = (torch.cat(part) for part in zip(*parts, strict=True))
        replies = [row[:length] for row, length in zip(tokens_B_R.tolist(), lengths_B.tolist(), strict=True)]
        episodes = Episodes.pad(prompts, replies, device)
        mask_B_R = episodes.reply_mask_B_R
        width = mask_B_R.shape[1]
        last_B = tokens_B_R.gather(1, lengths_B[:, None] - 1).squeeze(1)
        return Samples(
            episodes,
            torch.where(mask_B_R, logprobs_B_R[:, :width], 0),
            torch.isin(last_B, torch.tensor(self.end_ids, device=device)),
            torch.where(mask_B_R, entropies_B_R[:, :width], 0) if self._is_exact() else None,
        )

    def _is_exact(self) -> bool:
        """In fewer bits the trainer's own pass over whole replies comes out differently. Where both merely round the
        inputs of their products, it is by a thousandth of a nat."""
        return self.model.dtype == torch.float32 and not torch.is_autocast_enabled(self.model.device.type)

    def _decode(
        self, prompts: Sequence[Sequence[int]], uniforms_B_R: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens, log-probabilities, entropies and lengths of the replies to one batch of prompts; what stands beyond a
        reply's length means nothing."""
        rows, limit = uniforms_B_R.shape
        device = uniforms_B_R.device
        inputs_B_T, mask_B_S = left_pad(prompts, limit, device)
        decoding = decoder(self.model, mask_B_S)
        ends = torch.tensor(self.end_ids, device=device)
        tokens_B_R = torch.zeros(rows, limit, dtype=torch.long, device=device)
        logprobs_B_R, entropies_B_R = torch.zeros(2, rows, limit, device=device)
        lengths_B = torch.full((rows,), limit, device=device)
        active = torch.arange(rows, device=device)
        running = torch.ones(rows, dtype=torch.bool, device=device)
        for step in range(limit):
            logits_B_V = logits(self.model, decoding.advance(inputs_B_T))
            chosen_B, logprobs_B, entropies_B = draw(logits_B_V, uniforms_B_R[active, step], temperature)
            tokens_B_R[active, step] = chosen_B
            logprobs_B_R[active, step], entropies_B_R[active, step] = logprobs_B.float(), entropies_B.float()
            ending = running & torch.isin(chosen_B, ends)
            lengths_B[active[ending]] = step + 1
            running = running & ~ending
            alive = int(running.sum())
            if alive == 0:
                break
            if (wanted := rounded_up(alive, 2)) < len(active):
                # Those that run, and some that have ended, for the sake of few shapes.
                keep = running.int().argsort(descending=True, stable=True)[:wanted]
                decoding.keep(keep)
                active, chosen_B, running = active[keep], chosen_B[keep], running[keep]
            inputs_B_T = chosen_B[:, None]
        return tokens_B_R, logprobs_B_R, entropies_B_R, lengths_B


def draw(logits_B_V: Tensor, uniforms_B: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """A token of each row's softmax(logits / temperature) by inversion, its log-probability, and the distribution's
    entropy in nats; all [B].

    `uniforms_B` in [0, 1). The token is the first whose cumulative probability exceeds the uniform number, so a token
    of probability zero is never drawn. Temperature 0 takes the likeliest token, and speaks of the distribution at 1.
    """
    scaled_B_V = logits_B_V if temperature in (0, 1) else logits_B_V / temperature
    logprobs_B_V = torch.log_softmax(scaled_B_V, dim=-1)
    probabilities_B_V = logprobs_B_V.exp()
    entropies_B = -torch.linalg.vecdot(probabilities_B_V, logprobs_B_V)
    if temperature == 0:
        chosen_B_1 = logprobs_B_V.argmax(dim=-1, keepdim=True)
    else:
        cumulative_B_V = probabilities_B_V.cumsum_(dim=-1)
        total_B_1 = cumulative_B_V[:, -1:]
        # Rounding must not carry the product up to the total, which no token exceeds.
        below_B_1 = torch.minimum(
            uniforms_B[:, None] * total_B_1, torch.nextafter(total_B_1, torch.zeros_like(total_B_1))
        )
        chosen_B_1 = torch.searchsorted(cumulative_B_V, below_B_1, right=True)
    return chosen_B_1.squeeze(1), logprobs_B_V.gather(1, chosen_B_1).squeeze(1), entropies_B
