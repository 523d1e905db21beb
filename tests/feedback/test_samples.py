"""The replies to one request are found by its id."""

from feedback.schema import Comparison, Sample
from feedback.store import Store, checks, samples
from tests.feedback.plans import plans_of
from tests.feedback.record import add_comparison, sample


def test_the_replies_to_a_request_come_in_the_order_of_their_choices_with_their_pair(store: Store) -> None:
    left, right = sample(request_id="req_pair"), sample(request_id="req_pair")
    pair = add_comparison(store, left, right)
    alone = sample(request_id="req_one")
    store.write(samples.add, [alone, sample(request_id=None), sample(request_id="req_one", key_id="key_b")])
    # The same pair again, for its raters, has the same replies.
    store.write(checks.repeat_of, pair)

    def found(request_id: str, key_id: str | None = None, **page: object) -> list[tuple[str, str | None]]:
        rows, _ = store.read(samples.of_request, request_id, key_id=key_id, **({"limit": 9} | page))
        return [(row.id, pair) for row, pair in rows]

    assert found("req_pair") == [(left.id, pair), (right.id, pair)]
    assert found("req_one", "key_a") == [(alone.id, None)]
    assert len(found("req_one")) == 2
    assert found("req_pair", "key_b") == found("req_none") == []
    assert found("req_pair", limit=1) == [(left.id, pair)]
    assert found("req_pair", after=left.id) == [(right.id, pair)]


def test_neither_all_replies_nor_all_pairs_are_read_for_it(store: Store) -> None:
    store.write(samples.add, [sample(request_id="req_one")])
    replies, *sides = plans_of(store, lambda session: samples.of_request(session, "req_one", limit=20))
    assert "ix_samples_request_id" in replies
    for name, plan in zip(("sample_0", "sample_1"), sides, strict=True):
        assert f"ix_comparisons_{name}" in plan, plan


def test_what_is_recorded_again_stays_as_it_is(store: Store) -> None:
    """Nobody looks at any result of it; who was told that the record is away sends it again."""

    def record(rows: list[Sample], pairs: list[Comparison]) -> None:
        store.write_swiftly(
            lambda session: samples.add(session, rows, pairs),
            lambda driver: samples.add_by_driver(driver, rows, pairs),
        )

    said, went_on = sample("5"), [{"role": "user", "content": "And 3 more?"}]
    conversation = [*said.messages, {"role": "assistant", "content": "5"}, *went_on]
    sides = [sample(text, messages=conversation, token_ids=[1], message=None) for text in ("8", "8!")]
    pair = samples.compare((sides[0], sides[1]), key_id="key_a", tranche="online")
    for _ in range(2):
        record([said], [])
        record(sides, [pair])
        sides[0].text = "another"
    rows = store.read(lambda session: {row.id: (row.text, row.parent) for row in session.query(Sample)})
    assert rows == {said.id: ("5", None), sides[0].id: ("8", said.id), sides[1].id: ("8!", said.id)}
    kept = store.read(lambda session: session.query(Comparison).one())
    assert (kept.id, kept.is_open, kept.disagreement, kept.origin) == (pair.id, True, 1.0, None)
    assert 0 <= kept.draw < 1
