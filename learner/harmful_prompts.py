"""Which prompts ask for harm: those for which training must not hold the policy to what the starting policy says.

People say so by what they judge a prompt under, where they judge harm on prompts that ask for it and help on others.
Where they judge every pair under both, they do not. There the preference model says it: where harm is asked for,
replies differ in how harmful they are, and elsewhere they do not. Either way a linear discriminant on the starting
policy's activations learns what such prompts have in common, since one prompt alone says it with much noise, and most
chats nobody judged.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from feedback.learning_settings import DPOSettings, PPOSettings
from feedback.store.samples import prompt_digest
from learner.outliers import discriminant, held_out_auroc
from learner.policy import Message, Policy
from learner.preference_model import PreferenceModel
from learner.prompts import HARMLESS, HELPFUL
from learner.rounded_weights import rounded_once
from learner.sampler import TorchSampler
from learner.strange_prompts import middle_layer, said_last, states

# With fewer prompts of a kind nothing is learnt of it.
LEAST = 10
# The built-in world, from 300 votes: of .01, .1 and .3 the last found most harmful prompts at equally few others lost.
SHRINKAGE = 0.3
# The chance that the discriminant puts a prompt judged under harmless above another one, where it did not learn from
# either: a half is what labels without meaning give, .8 what the built-in world's do.
TELLING = 0.65
# Of the voted prompts, how many the starting policy is asked; and how many replies it gives in all and to one of them:
# of few prompts each is asked more often, since a spread over few replies is mostly chance.
MOST_ASKED = 512
MOST_REPLIES = 4096
MOST_REPLIES_EACH = 32
# Those with most harm at stake are learnt against those with least. The built-in world, 361 prompts: the chance that a
# harmful prompt then stood above another one was .91 to 1 over six preference models, .85 to .98 by the spread of the
# difference of the scores, .8 to .91 by their covariance.
MOST_AT_STAKE, LEAST_AT_STAKE = 0.75, 0.5

Tokens = tuple[int, ...]
Asked = Mapping[Tokens, Sequence[Message]]


@dataclass(frozen=True)
class VotedPrompt:
    """A conversation by its digest, and how many raters judged replies to it under harmless and under others."""

    digest: str
    messages: Sequence[Message]
    under_harmless: int
    under_others: int

    @property
    def undecided(self) -> bool:
        """As many under the one as under the others: that says nothing of what it asks for."""
        return self.under_harmless == self.under_others


def voted_prompts(votes: Iterable[tuple[Sequence[Message], str]]) -> list[VotedPrompt]:
    """The distinct conversations of votes, each given with its objective."""
    said: dict[str, Counter[str]] = {}
    conversations: dict[str, Sequence[Message]] = {}
    for messages, objective in votes:
        digest = prompt_digest(messages)
        said.setdefault(digest, Counter())[objective] += 1
        conversations.setdefault(digest, messages)
    return [
        VotedPrompt(digest, conversations[digest], count[HARMLESS], count.total() - count[HARMLESS])
        for digest, count in said.items()
    ]


class HarmTest:
    """Tells prompts that ask for harm from others.

    `told_by` says what it learnt from: `votes` (what people judged prompts under) or `scores` (the harm at stake by
    them); `nothing`, where people judged harm but neither says on which prompts; `none_judged`, where hardly any did.
    """

    def __init__(self, start: Policy, max_tokens: int) -> None:
        self.told_by: Literal["votes", "scores", "nothing", "none_judged"] = "none_judged"
        self._start, self._max_tokens, self._layer = start, max_tokens, middle_layer(start)
        # None until it has learnt; and the place on it half way, and that above which a prompt is not rehearsed.
        self._direction_D: Tensor | None = None
        self._halfway = self._harmless_up_to = torch.zeros(())

    @classmethod
    def learn(
        cls,
        start: Policy,
        voted: Sequence[VotedPrompt],
        settings: PPOSettings | DPOSettings,
        preference_model: PreferenceModel | None,
        *,
        seed: int,
    ) -> "HarmTest":
        """From prompts that were voted on and, where these do not say it, a preference model with both objectives."""
        test = cls(start, settings.max_prompt_tokens)
        under_harmless = [one for one in voted if one.under_harmless > one.under_others]
        under_others = [one for one in voted if one.under_harmless < one.under_others]
        if sum(one.under_harmless > 0 for one in voted) < LEAST:
            return test
        if min(len(under_harmless), len(under_others)) >= LEAST:
            others_N_D, harmful_M_D = test._states_of(under_others), test._states_of(under_harmless)
            if (held_out_auroc(others_N_D, harmful_M_D, SHRINKAGE) or 0) >= TELLING:
                test._learn("votes", others_N_D, harmful_M_D)
                return test
        both = preference_model is not None and {HELPFUL, HARMLESS} <= set(preference_model.shape.objectives)
        if preference_model is not None and both and len(voted) >= 4 * LEAST:
            test._learn_from_scores(preference_model, voted, settings, seed)
        else:
            test.told_by = "nothing"
        return test

    def _learn(self, told_by: Literal["votes", "scores"], others_N_D: Tensor, harmful_M_D: Tensor) -> Tensor:
        self.told_by = told_by
        self._direction_D, self._halfway = discriminant(others_N_D, harmful_M_D, SHRINKAGE)
        self._harmless_up_to = self._halfway
        return self._direction_D

    def _learn_from_scores(
        self,
        preference_model: PreferenceModel,
        voted: Sequence[VotedPrompt],
        settings: PPOSettings | DPOSettings,
        seed: int,
    ) -> None:
        order = torch.randperm(len(voted), generator=torch.Generator().manual_seed(seed))[:MOST_ASKED]
        asked = [voted[at] for at in order.tolist()]
        encoded = [self.encode(one.messages) for one in asked]
        stake_N = harm_at_stake(self._start, preference_model, encoded, settings, seed=seed)
        states_N_D = self._states_of(asked)
        most_N = stake_N >= stake_N.quantile(MOST_AT_STAKE)
        least_N = stake_N <= stake_N.quantile(LEAST_AT_STAKE)
        direction_D = self._learn("scores", states_N_D[least_N], states_N_D[most_N])
        # It errs more often than what votes say, and to leave out too much costs less than to rehearse harm: half of
        # such prompts as were voted on is kept.
        scores_N = states_N_D @ direction_D
        self._harmless_up_to = torch.minimum(self._halfway, scores_N.median())

    def encode(self, messages: Sequence[Message]) -> Tokens:
        """The prompt's last `max_prompt_tokens` tokens, by which it is known here."""
        return tuple(self._start.encode_chat(messages)[-self._max_tokens :])

    def harmful(self, voted: Sequence[VotedPrompt]) -> list[bool]:
        """Which ask for harm: those that more raters judged under harmless than under others, and of the undecided
        those that are like prompts that do; all of them, where nothing tells it."""
        harmful_N = torch.tensor([one.under_harmless >= one.under_others for one in voted], dtype=torch.bool)
        undecided = [one for one in voted if one.undecided]
        if self._direction_D is not None and undecided:
            undecided_N = torch.tensor([one.undecided for one in voted], dtype=torch.bool)
            harmful_N[undecided_N] = self._states_of(undecided) @ self._direction_D > self._halfway
        found: list[bool] = harmful_N.tolist()
        return found

    def harmless(self, asked: Asked) -> list[Tokens]:
        """The keys of those that do not look as if they asked for harm."""
        if self._direction_D is None or not asked:
            return list(asked)
        scores_N = self._states(list(asked.values())) @ self._direction_D
        kept_N = (scores_N <= self._harmless_up_to).tolist()
        return [tokens for tokens, kept in zip(asked, kept_N, strict=True) if kept]

    def harmless_chats(self, asked: Asked) -> list[Tokens]:
        """The same of prompts that nobody voted on: none where nothing tells it."""
        return [] if self.told_by == "nothing" else self.harmless(asked)

    def _states_of(self, voted: Sequence[VotedPrompt]) -> Tensor:
        return self._states([one.messages for one in voted])

    def _states(self, conversations: Sequence[Sequence[Message]]) -> Tensor:
        texts = [said_last(messages) or "" for messages in conversations]
        return states(self._start, texts, self._layer, self._max_tokens).double()


@torch.no_grad()
def harm_at_stake(
    start: Policy,
    preference_model: PreferenceModel,
    prompts: Sequence[Tokens],
    settings: PPOSettings | DPOSettings,
    *,
    seed: int,
) -> Tensor:
    """[N], in scores: how far the harmless scores of as many replies of the start to each prompt spread, their standard
    deviation, without what the helpful scores explain of them by one line through all replies."""
    each = min(MOST_REPLIES_EACH, MOST_REPLIES // len(prompts))
    longest = settings.max_new_tokens if isinstance(settings, PPOSettings) else settings.max_reply_tokens
    rows = [list(prompt) for prompt in prompts for _ in range(each)]
    sampler = TorchSampler(start.model, start.end_ids)
    episodes = sampler.sample(rows, max_new_tokens=longest, temperature=1.0, seed=seed).episodes
    columns = [preference_model.shape.columns.index(name) for name in (HELPFUL, HARMLESS)]
    with rounded_once(preference_model.trunk, preference_model.start):
        scores_R_2 = preference_model.score_all(episodes)[:, columns].double()
    helpful_R, harmless_R = (scores_R_2 - scores_R_2.mean(dim=0)).unbind(dim=1)
    slope = (helpful_R @ harmless_R) / (helpful_R @ helpful_R).clamp(min=1e-12)
    return (harmless_R - slope * helpful_R).unflatten(0, (len(prompts), each)).std(dim=1)
