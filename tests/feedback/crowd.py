"""A crowd at votes whose truth is known: ordinary raters, some who turn every judgement round, some who guess."""

import random
from dataclasses import dataclass

from feedback.store import Store, votes
from feedback.worker import count_all
from tests.feedback.record import add_comparison, judgement


@dataclass(frozen=True)
class Voter:
    name: str
    accuracy: float


def crowd(ordinary: int, turned: int = 0, guessing: int = 0) -> list[Voter]:
    return [
        *(Voter(f"ordinary-{n}", 0.75) for n in range(ordinary)),
        *(Voter(f"turned-{n}", 0.25) for n in range(turned)),
        *(Voter(f"guessing-{n}", 0.5) for n in range(guessing)),
    ]


def cast(store: Store, voters: list[Voter], pairs: int, votes_each: int, seed: int = 0) -> list[str]:
    """`votes_each` voters, drawn anew, on each of `pairs` pairs whose truth is side 0; counted. Returns the pairs."""
    rng = random.Random(seed)
    ids = [add_comparison(store) for _ in range(pairs)]

    def put_all(session: object) -> None:
        for comparison_id in ids:
            for voter in rng.sample(voters, votes_each):
                said = judgement("0" if rng.random() < voter.accuracy else "1")
                votes.put(session, comparison_id, said, key_id="key_a", sees_all=False, rater=voter.name)

    store.write(put_all)
    count_all(store)
    return ids
