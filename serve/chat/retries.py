"""The same request sent again gets the same answer, and is not written and recorded twice.

A request is the same by its `Idempotency-Key`; or, when an OpenAI SDK says that it is retrying, by its body. Answers
are kept in this process for a while; `serve.chat.shared_retries` shares them with others.
"""

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass

from starlette.datastructures import Headers

from feedback.errors import Conflict, InvalidRequest

REMEMBERED_S = 600.0
MAX_REMEMBERED = 512
MAX_REMEMBERED_BYTES = 64_000_000
LARGEST_ANSWER_BYTES = 1_000_000
MAX_KEY = 255


class KeyReused(InvalidRequest):
    """An idempotency key that came with another body before."""

    code = "idempotency_key_reused"


@dataclass
class Answer:
    """What was answered, and how long that is remembered."""

    digest: str
    until: float
    content: bytes
    media_type: str = "application/json"


@dataclass(frozen=True)
class Attempt:
    """One arrival of a request. `name` is what it has in common with its retries; `named` when the client gave it."""

    name: str
    digest: str
    named: bool
    repeated: bool


class Retries:
    """Answers by the name of their request, the oldest forgotten first; what is being answered is never forgotten."""

    def __init__(self) -> None:
        # The digests of what is being answered.
        self._pending: dict[str, str] = {}
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._answer_bytes = 0

    def begin(self, attempt: Attempt) -> Answer | None:
        """The answer that this request got before, or None: then it is to be answered now.

        Raises KeyReused, and Conflict while the first attempt is still being answered.
        """
        self._forget_old()
        known = self._answers.get(attempt.name)
        digest = self._pending.get(attempt.name) if known is None else known.digest
        if digest not in (None, attempt.digest):
            raise KeyReused("this Idempotency-Key came with another body before", param="Idempotency-Key")
        if attempt.name in self._pending:
            raise Conflict("the first request with this Idempotency-Key is still being answered")
        if known is not None and (attempt.named or attempt.repeated):
            return known
        if attempt.named:
            self._pending[attempt.name] = attempt.digest
        return None

    def keep(self, attempt: Attempt, content: bytes, media_type: str) -> bool:
        """Remember what was answered. False when it is too large for that."""
        if len(content) > LARGEST_ANSWER_BYTES:
            self.drop(attempt)
            return False
        self._pending.pop(attempt.name, None)
        self._forget(attempt.name)
        self._answers[attempt.name] = Answer(attempt.digest, time.monotonic() + REMEMBERED_S, content, media_type)
        self._answer_bytes += len(content)
        while len(self._answers) > MAX_REMEMBERED or self._answer_bytes > MAX_REMEMBERED_BYTES:
            self._forget(next(iter(self._answers)))
        return True

    def drop(self, attempt: Attempt) -> bool:
        """It came to nothing: the next attempt is the first. False when it was answered, or is not known."""
        return self._pending.pop(attempt.name, None) is not None

    def _forget_old(self) -> None:
        now = time.monotonic()
        while self._answers and next(iter(self._answers.values())).until < now:
            self._forget(next(iter(self._answers)))

    def _forget(self, name: str) -> bool:
        """False when it is not known."""
        known = self._answers.pop(name, None)
        if known is not None:
            self._answer_bytes -= len(known.content)
        return known is not None


def attempt_of(headers: Headers, key_id: str, content: bytes) -> Attempt:
    """Raises InvalidRequest for an idempotency key that is too long."""
    digest = hashlib.sha256(content).hexdigest()
    given = headers.get("idempotency-key", "")
    if len(given) > MAX_KEY:
        raise InvalidRequest(f"an Idempotency-Key has at most {MAX_KEY} characters", param="Idempotency-Key")
    retried = headers.get("x-stainless-retry-count", "0")
    repeated = retried.isdecimal() and bool(retried.strip("0"))
    name = f"{key_id} key {given}" if given else f"{key_id} body {digest}"
    return Attempt(name, digest, bool(given), repeated)
