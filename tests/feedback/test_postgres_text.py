"""A NUL in what clients send and models write: nothing is lost over it, on either database."""

from feedback.schema import Sample, Vote
from feedback.store import Store, raters, votes
from feedback.worker import count_all
from tests.feedback.record import add_comparison, judgement, sample

ANN = {"key_id": "key_a", "sees_all": False, "rater": "an\0n"}
CHAT = [{"role": "user", "content": "a\0b \\u0000"}]


def held(store: Store, text: str) -> str:
    """As the record holds it: Postgres has no NUL."""
    return text.replace("\0", "\ufffd") if store.engine.dialect.name == "postgresql" else text


def test_replies_and_votes_with_it_are_recorded(store: Store) -> None:
    reply = sample("five\0", messages=CHAT, user="an\0n")
    pair = add_comparison(store, reply, sample("six", version=1, messages=CHAT))
    vote = store.write(votes.put, pair, judgement(reason="so \0", ideal="\0"), **ANN)
    count_all(store)

    kept = store.read(lambda session: session.get(Sample, reply.id))
    assert (kept.text, kept.user) == (held(store, "five\0"), held(store, "an\0n"))
    assert kept.messages == CHAT, "JSON holds it escaped"
    cast = store.read(lambda session: session.get(Vote, vote.id))
    assert (cast.state, cast.reason, cast.ideal) == ("counted", "so \ufffd", "\ufffd")
    again = store.write(votes.put, pair, judgement(reason="so \0", ideal="\0"), **ANN)
    assert (again.state, again.revision) == ("counted", 1), "the same as what it said"
    assert store.read(raters.find, "key_a", "an\0n") == cast.rater_id


def test_an_id_with_it_is_nobodys(store: Store) -> None:
    add_comparison(store)
    assert store.read(raters.find, "key_a", "\0") is None
    assert not store.read(lambda session: session.get(Sample, "smp_\0"))
