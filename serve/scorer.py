"""Asks the scorer which of several replies the preference model likes best, what it makes of each, and whether a prompt
is a strange one. Its words are in `feedback.scoring`."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from feedback.errors import InvalidRequest, PolicyInvalid, TandemError
from feedback.schema import version_name
from feedback.scoring import LONGEST_LINE_BYTES, scorer_socket
from feedback.store import policies
from serve.record import Record


class ScorerUnavailable(TandemError):
    """The scorer does not run, or did not answer."""

    code = "scorer_unavailable"
    status = 503


class NoPreferenceModel(InvalidRequest):
    """What serves, or the version that was named, was made by no iteration, so it has no preference model."""

    code = "no_preference_model"


class Scorer:
    """One question, one connection: a scorer that was restarted is found again."""

    def __init__(self, run_dir: Path, record: Record, timeout_s: float) -> None:
        self._socket = scorer_socket(run_dir)
        self._record = record
        self._timeout_s = timeout_s
        self._made_by: dict[int, str | None] = {}
        # So that a chat waits for one of them at most, however many are asked.
        self._opinions = asyncio.Semaphore(1)

    async def iteration_of(self, version: int | None) -> str:
        """The iteration whose preference model is the current one when `version` serves. Raises NoPreferenceModel."""
        if version is not None and version not in self._made_by:
            self._made_by[version] = (await self._record.read_once(policies.get, version)).iteration_id
        iteration = None if version is None else self._made_by[version]
        if version is None or iteration is None:
            serving = "nothing" if version is None else version_name(version)
            raise NoPreferenceModel(
                f"'best_of' needs a preference model, and {serving} serves, which no iteration made: "
                "run an iteration and promote its version, or leave 'best_of' out",
                param="best_of",
            )
        return iteration

    async def scores(
        self, version: int, messages: Sequence[dict[str, Any]], replies: Sequence[str], ended: Sequence[bool]
    ) -> list[float]:
        """A score for each reply, which `ended` or was cut off; higher is better. Raises ScorerUnavailable."""
        question = {"version": version, "messages": messages, "replies": replies, "ended": ended}
        answer = await self._answer(question, self._timeout_s)
        scores: list[float] = answer["scores"]
        return scores

    async def opinion(
        self, version: int, messages: Sequence[dict[str, Any]], replies: Sequence[str], ended: Sequence[bool]
    ) -> dict[str, Any]:
        """All that is made of each reply. Raises ScorerUnavailable, InvalidRequest for messages that the policy does
        not take, PolicyInvalid where the preference model is gone or another one."""
        question = {"version": version, "messages": messages, "replies": replies, "ended": ended, "in_full": True}
        refusals = (InvalidRequest, PolicyInvalid)
        try:
            return await self._answer(question, self._timeout_s, refusals, self._opinions)
        except orjson.JSONEncodeError as error:
            raise InvalidRequest("the messages hold what cannot be sent on", param="messages") from error

    async def strangeness(self, version: int, messages: Sequence[dict[str, Any]], timeout_s: float) -> dict[str, Any]:
        """`strangeness` and whether that makes the prompt `strange`; nothing where there is no gate. Raises
        ScorerUnavailable."""
        return await self._answer({"version": version, "messages": messages}, timeout_s)

    async def _answer(
        self,
        question: dict[str, Any],
        timeout_s: float,
        refusals: Sequence[type[TandemError]] = (),
        turn: contextlib.AbstractAsyncContextManager[None] | None = None,
    ) -> dict[str, Any]:
        """The wait for its `turn` is a part of the time. Raises ScorerUnavailable, or the one of `refusals` that the
        scorer has raised."""
        try:
            async with asyncio.timeout(timeout_s), turn or contextlib.nullcontext():
                answer = await self._ask(orjson.dumps(question))
        except (OSError, TimeoutError, ValueError) as error:
            raise ScorerUnavailable(
                f"the scorer does not answer ({type(error).__name__}); "
                "see that `python -m learner.scorer` runs beside this process"
            ) from error
        if not answer.get("ok"):
            said = answer.get("error", "no reason given")
            for refusal in refusals:
                if refusal.code == answer.get("code"):
                    raise refusal(said)
            raise ScorerUnavailable(f"the scorer could not answer: {said}")
        return answer

    async def _ask(self, question: bytes) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(str(self._socket), limit=LONGEST_LINE_BYTES)
        try:
            writer.write(question + b"\n")
            await writer.drain()
            line = await reader.readline()
            if not line.endswith(b"\n"):
                raise ConnectionResetError("it ended in the midst of its answer")
            answer: dict[str, Any] = orjson.loads(line)
            return answer
        finally:
            writer.close()
