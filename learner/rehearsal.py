"""Rehearsal: holding the policy to what the starting policy says by itself, so that training does not unlearn the rest.

Before the first step the starting policy replies to prompts that ask for no harm. Each optimiser step
then also lowers the forward KL, KL(start || policy), of the next-token distributions in a few of these replies: it
costs most where the policy gives up what the start would say. At a temperature below 1 that is what the start would say
most often, and the policy need not keep the rest. The penalty in PPO's reward is the other way round and sees only what
the policy still says, so it does not notice a fact that was lost. It takes the place of the pretraining gradients of
Ouyang et al. 2022, "Training language models to follow instructions with human feedback", section 3.5, which want texts
that few operators have; practising on a network's own outputs is the pseudo-rehearsal of Robins 1995, with the soft
targets of Li and Hoiem 2016, "Learning without forgetting".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from feedback.learning_settings import RehearsalSettings
from learner.language_model import predicting_states, room_without_gradients
from learner.rounded_weights import rounded_once
from learner.sampler import Sampler
from learner.sequences import Episodes, Room
from learner.trained import Trained


@dataclass(frozen=True)
class Rehearsal:
    """The starting policy's own replies, and how strongly the policy is held to them.

    `start_states` are the hidden states [R, D] that the start predicts each reply from, on the CPU: they never change,
    and are a small part of what the logits would take. `temperature` is the policy's; a pass has `room`.
    """

    start: PreTrainedModel
    replies: Episodes
    start_states: tuple[Tensor, ...]
    settings: RehearsalSettings
    temperature: float
    room: Room

    @property
    def start_head(self) -> nn.Module:
        """The start's output layer, which is all of it that an optimiser step asks."""
        head: nn.Module = self.start.get_output_embeddings()
        return head

    @classmethod
    def draw(
        cls,
        start: PreTrainedModel,
        sampler: Sampler,
        prompts: Sequence[list[int]],
        settings: RehearsalSettings,
        *,
        max_new_tokens: int,
        temperature: float,
        room: Room,
        seed: int,
    ) -> "Rehearsal":
        """`rehearsal_replies` replies to the prompts (token ids), to each as many as to another or one more; `sampler`
        draws from `start`."""
        replies = sampler.sample(
            list(islice(cycle(prompts), settings.rehearsal_replies)),
            max_new_tokens=max_new_tokens,
            temperature=settings.rehearsal_temperature,
            seed=seed,
        ).episodes
        states: dict[int, Tensor] = {}
        with torch.no_grad(), rounded_once(start):
            for rows_B in replies.by_length(room_without_gradients(start, room)):
                piece = replies.take(rows_B)
                states_N_D = predicting_states(start, piece).cpu()
                of_rows = states_N_D.split(piece.reply_lengths_B.tolist())
                states |= dict(zip(rows_B.tolist(), of_rows, strict=True))
        in_order = tuple(states[row] for row in range(len(replies)))
        return cls(start, replies, in_order, settings, temperature, room)

    def add_gradients(self, policy: Trained, generator: torch.Generator) -> Tensor:
        """Add the gradient of the weighted KL, mean over the tokens of `rehearsal_episodes` of the replies, which
        `generator` chooses. Answers this process's part of that mean, in nats."""
        settings, processes = self.settings, policy.processes
        device = self.replies.tokens_B_T.device
        order_B = torch.randperm(len(self.replies), generator=generator)[: settings.rehearsal_episodes]
        tokens = sum(len(self.start_states[row]) for row in order_B.tolist())
        mean = torch.zeros((), device=device)
        for piece_B in self.replies.by_length(self.room, order_B.to(device), processes=processes.count):
            rows_B = processes.share(piece_B)
            start_hidden_N_D = torch.cat([self.start_states[row] for row in rows_B.tolist()])
            start_hidden_N_D = start_hidden_N_D.to(device, non_blocking=True)
            kl_N = policy.forward_kl_pass(
                self.replies.take(rows_B),
                self.start,
                start_hidden_N_D,
                self.temperature,
                settings.rehearsal_temperature,
            )
            part = kl_N.sum() / tokens
            # Over processes gradients are averaged, where their sum is wanted.
            (part * (settings.rehearsal_weight * processes.count)).backward()
            mean += part.detach()
        return mean
