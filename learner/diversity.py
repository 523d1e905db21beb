"""How much a policy's replies differ from each other: what training against one score tends to lose."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any


def diversity(replies: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Figures of token ids, a reply each, end tokens included.

    `distinct_1` and `distinct_2` are the shares of one- and two-token sequences that occur for the first time (Li et
    al. 2016), `distinct_replies` of whole replies, `entropy_nats` the entropy of how often each token is used. All but
    the last fall with the number of tokens, so they are to be compared between as many replies.
    """
    tokens = Counter(token for reply in replies for token in reply)
    total = sum(tokens.values())
    return {
        "distinct_1": _distinct(replies, 1),
        "distinct_2": _distinct(replies, 2),
        "distinct_replies": len({tuple(reply) for reply in replies}) / len(replies) if replies else None,
        "entropy_nats": -sum(n / total * math.log(n / total) for n in tokens.values()) if total else None,
    }


def _distinct(replies: Sequence[Sequence[int]], size: int) -> float | None:
    runs = [tuple(reply[at : at + size]) for reply in replies for at in range(len(reply) - size + 1)]
    return len(set(runs)) / len(runs) if runs else None
