"""The policy in training: one model in one process, or shares of a copy of it in several."""

from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from learner import language_model
from learner.lora import copy_sharing_frozen
from learner.processes import Processes
from learner.sequences import Episodes
from learner.sharding import copy_trained, shard


class Trained:
    """`model` is what the optimiser moves; `whole`, which replies are drawn from and which is published, follows it.

    In one process both are the same.
    """

    def __init__(self, whole: PreTrainedModel, processes: Processes) -> None:
        self.whole = whole
        self.processes = processes
        self.model = whole
        if processes.count > 1:
            self.model = copy_sharing_frozen(whole)
            passes = (
                language_model.reply_pass,
                language_model.reply_pass_with_entropies,
                language_model.forward_kl_pass,
            )
            shard(self.model, **{function.__name__: partial(function, self.model) for function in passes})

    def reply_pass(self, episodes: Episodes, temperature: float) -> tuple[Tensor, Tensor]:
        """See `learner.language_model.reply_pass`; in several processes all of them must call this equally often."""
        if self.model is self.whole:
            return language_model.reply_pass(self.model, episodes, temperature)
        answer: tuple[Tensor, Tensor] = self.model.reply_pass(episodes, temperature)
        return answer

    def reply_pass_with_entropies(self, episodes: Episodes, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """The same of `learner.language_model.reply_pass_with_entropies`."""
        if self.model is self.whole:
            return language_model.reply_pass_with_entropies(self.model, episodes, temperature)
        answer: tuple[Tensor, Tensor, Tensor] = self.model.reply_pass_with_entropies(episodes, temperature)
        return answer

    def forward_kl_pass(
        self,
        episodes: Episodes,
        start: PreTrainedModel,
        start_hidden_N_D: Tensor,
        temperature: float,
        start_temperature: float,
    ) -> Tensor:
        """The same of `learner.language_model.forward_kl_pass`."""
        given = episodes, start, start_hidden_N_D, temperature, start_temperature
        if self.model is self.whole:
            return language_model.forward_kl_pass(self.model, *given)
        answer: Tensor = self.model.forward_kl_pass(*given)
        return answer

    def make_whole(self) -> None:
        """Bring `whole` up to date with what was trained."""
        if self.model is not self.whole:
            copy_trained(self.model, self.whole)
