"""Whether a chat is refused, since its prompt is unlike those that people judged helpfulness on. Off by default."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from feedback.settings import ServeSettings
from serve.scorer import NoPreferenceModel, Scorer, ScorerUnavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Strange:
    """Why a prompt is refused: by the gate of which iteration, at which score; no score where nobody answered."""

    iteration: str
    strangeness: float | None


class StrangePrompts:
    """Asks the gate that the serving version's iteration left."""

    def __init__(self, scorer: Scorer, settings: ServeSettings) -> None:
        self._scorer = scorer
        self._when_silent = settings.reject_strange_prompts
        self._timeout_s = settings.rejection_timeout_s

    async def look(self, serving: int | None, messages: Sequence[dict[str, Any]]) -> Strange | None:
        """None where the prompt may pass."""
        if self._when_silent == "off":
            return None
        try:
            iteration = await self._scorer.iteration_of(serving)
        except NoPreferenceModel:
            return None
        assert serving is not None
        try:
            found = await self._scorer.strangeness(serving, messages, self._timeout_s)
        except ScorerUnavailable as error:
            log.warning("the gate for strange prompts: %s", error.message)
            return Strange(iteration, None) if self._when_silent == "closed" else None
        return Strange(iteration, found["strangeness"]) if found.get("strange") else None
