"""The best of k: an engine writes k replies to the same prompt, and the one that the preference model likes best is
given. The others leave no trace but their tokens in `usage`; where none was chosen, all of them are recorded.
"""

from typing import Any

from feedback.schema import has_ended
from serve.chat.generation import Generation
from serve.chat.reply import Reply
from serve.chat.request import ChatRequest
from serve.engine.pool import Pool
from serve.engine.slot import Seat
from serve.metrics import Metrics
from serve.scorer import Scorer


class BestOf(Generation):
    """A generation whose chunks are there all at once: nobody can stream what is still to be chosen."""

    def __init__(
        self, pool: Pool, metrics: Metrics, chat: ChatRequest, choice: int, version: int | None, scorer: Scorer
    ) -> None:
        super().__init__(pool, metrics, chat, choice, version)
        self._scorer = scorer
        # What was written, until one is chosen.
        self._candidates: list[Reply] = []
        # Of two sides both are judged by one model, whichever versions wrote them.
        self._serving = pool.serving

    async def begin(self, key_id: str, *, record_logprobs: bool) -> None:
        """Returns with the chosen reply. Raises NoPreferenceModel, ScorerUnavailable, and what any generation does."""
        iteration = await self._scorer.iteration_of(self._serving)
        self.reply.chosen = {"best_of": self._chat.best_of, "best_of_by": iteration}
        await super().begin(key_id, record_logprobs=record_logprobs)

    @property
    def replies(self) -> list[Reply]:
        return self._candidates or [self.reply]

    async def _begin_on(self, seat: Seat, body: dict[str, Any]) -> None:
        body = {name: value for name, value in body.items() if name != "stream_options"}
        answer = await self._write_whole(seat, body | {"stream": False, "n": self._chat.best_of})
        await self._choose(answer["choices"])

    def _take_whole(self, answer: dict[str, Any]) -> None:
        self.reply.absorb_usage(answer["usage"])
        answer["choices"].sort(key=lambda choice: choice["index"])
        self._candidates = [self._candidate(at, choice) for at, choice in enumerate(answer["choices"])]

    def _candidate(self, at: int, choice: dict[str, Any]) -> Reply:
        candidate = Reply(self._chat, self.reply.choice)
        candidate.seed += at
        candidate.seat, candidate.chosen, candidate.began_at = self.reply.seat, self.reply.chosen, self.reply.began_at
        written = len(choice.get("token_ids") or ())
        candidate.absorb_message(choice, self.reply.usage | {"completion_tokens": written})
        return candidate

    async def _choose(self, choices: list[dict[str, Any]]) -> None:
        assert self._serving is not None
        texts = [candidate.text for candidate in self._candidates]
        ended = [has_ended(candidate.finish_reason) for candidate in self._candidates]
        scores = await self._scorer.scores(self._serving, self._chat.messages, texts, ended)
        best = max(range(len(choices)), key=lambda index: scores[index])
        self.reply.seed += best
        self.reply.absorb_message(choices[best], self.reply.usage)
        self._candidates.clear()
        if self._chat.stream:
            self.pending.extend(as_chunks(choices[best]))


def as_chunks(choice: dict[str, Any]) -> list[dict[str, Any]]:
    """A whole choice of vLLM's as the choices of the chunks that it would have streamed."""
    said = {name: value for name, value in choice["message"].items() if name != "role" and value}
    return [
        {"delta": {"role": "assistant", "content": ""}},
        {"delta": said, "logprobs": choice.get("logprobs"), "token_ids": choice.get("token_ids")},
        {"delta": {}, "finish_reason": choice["finish_reason"]},
    ]
