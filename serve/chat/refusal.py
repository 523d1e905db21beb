"""The refusal of a strange prompt: a reply that no policy wrote. It looks to the client like any other."""

from feedback.settings import ServeSettings
from serve.chat.best_of import as_chunks
from serve.chat.generation import Generation
from serve.chat.request import ChatRequest
from serve.engine.pool import Pool
from serve.metrics import Metrics
from serve.strange_prompts import Strange

# OpenAI's word for a reply that a filter took the place of.
FINISH_REASON = "content_filter"


class Refusal(Generation):
    """A generation that is whole from the beginning and asks no engine."""

    def __init__(
        self, pool: Pool, metrics: Metrics, chat: ChatRequest, choice: int, why: Strange, settings: ServeSettings
    ) -> None:
        super().__init__(pool, metrics, chat, choice, None)
        said = {
            "message": {"role": "assistant", "content": settings.rejection_reply},
            "finish_reason": FINISH_REASON,
            "token_ids": None,
        }
        self.reply.absorb_message(said, {})
        self.reply.chosen = {"refused_by": why.iteration, "strangeness": why.strangeness}
        if chat.stream:
            self.pending.extend(as_chunks(said))
        self.is_whole = True

    async def begin(self, key_id: str, *, record_logprobs: bool) -> None:
        """There is nothing to wait for."""

    def take(self) -> None:
        """Everything is in `pending`."""
