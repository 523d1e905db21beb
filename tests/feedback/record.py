"""Rows for the tests of the record."""

from typing import Any

from feedback.ids import new_id
from feedback.schema import Comparison, Sample
from feedback.store import Store, comparisons, samples
from feedback.store.comparisons import Pair
from feedback.store.votes import Judgement

MESSAGES = [{"role": "user", "content": "What is 2 plus 3?"}]


def sample(text: str = "5", version: int = 0, **changes: object) -> Sample:
    messages = changes.pop("messages", MESSAGES)
    fields = {
        "id": new_id("smp"), "key_id": "key_a", "user": None, "request_id": None, "messages": messages,
        "prompt_digest": samples.prompt_digest(messages), "text": text,
        "message": {"role": "assistant", "content": text}, "token_ids": [1, 2], "logprobs": [-0.5, -0.1],
        "sampling": {"temperature": 1.0}, "seed": 7, "version_first": version, "version_last": version,
        "status": "complete", "finish_reason": "stop", "usage": None, "created_at": 1.0, "finished_at": 2.0,
    }  # fmt: skip
    return Sample(**(fields | changes))


def add_comparison(store: Store, left: Sample | None = None, right: Sample | None = None, key_id: str = "key_a") -> str:
    pair = (left or sample("5"), right or sample("6", version=1))
    comparison: Comparison = samples.compare(pair, key_id=key_id, tranche="online")
    store.write(samples.add, pair, [comparison])
    return comparison.id


def judgement(preferred: str = "0", strength: int = 2, objective: str = "helpful", **more: object) -> Judgement:
    return Judgement(objective, preferred, strength, **more)


def handed_in_order(store: Store, *, after: str | None = None, **wanted: Any) -> tuple[list[Pair], bool]:
    """A page of the pairs that want votes, none of them drawn, and whether more follow."""
    if after is None:
        return store.write(comparisons.hand_out, **wanted, uniform_share=0.0)
    return store.write(comparisons.hand_on, **wanted, after=after)
