"""Live votes between two versions, for the tests of what is decided by them."""

import itertools

from feedback.store import Store, votes
from tests.feedback.record import add_comparison, judgement, sample

_turn = itertools.count()


def vote_between(store: Store, winner: int, loser: int, rater: str, objective: str = "helpful") -> None:
    """A vote of `rater` for `winner`; the sides alternate."""
    versions = (winner, loser) if next(_turn) % 2 == 0 else (loser, winner)
    pair = add_comparison(store, sample("one", versions[0]), sample("other", versions[1]))
    said = judgement(str(versions.index(winner)), objective=objective)
    store.write(votes.put, pair, said, key_id="key_a", sees_all=False, rater=rater)
