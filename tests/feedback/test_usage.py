"""What a key used, by day, counted by hand."""

import time
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import update

from feedback.ids import earliest, new_id
from feedback.schema import Key
from feedback.store import Store, checks, keys, now, samples, usage, votes
from tests.feedback.plans import plans_of
from tests.feedback.record import add_comparison, judgement, sample

DAY_S = 86_400.0


def midnight(store: Store) -> float:
    """When this day began, which does not end within the test."""
    at = store.read(now)
    if at % DAY_S > DAY_S - 30:
        time.sleep(31)
        at = store.read(now)
    return at - at % DAY_S


def made_days_ago(store: Store, days: int, name: str) -> str:
    """The id of a key of that age."""
    key, _ = store.write(keys.create, "vote", name)
    store.write(lambda session: session.execute(update(Key).values(created_at=midnight(store) - days * DAY_S + 60)))
    return key.id


def chat(store: Store, key_id: str, at: float, prompt: int, *replies: int) -> None:
    rows = [
        sample(key_id=key_id, created_at=at, prompt_tokens=None if choice else prompt, reply_tokens=tokens)
        for choice, tokens in enumerate(replies)
    ]
    store.write(samples.add, rows)


def told(days: list[usage.Day]) -> list[tuple[str, list[dict[str, object]]]]:
    return [(day.date.isoformat(), [usage.described(used) for used in day.used]) for day in days]


def said(one: usage.Used) -> tuple[int, ...]:
    return one.chats, one.prompt_tokens, one.reply_tokens, one.comparisons, one.votes


def test_each_key_and_day_by_hand(store: Store) -> None:
    one, other = made_days_ago(store, 3, "one"), made_days_ago(store, 3, "other")
    begins = midnight(store)
    chat(store, one, begins - DAY_S, 7, 20)  # the first moment of yesterday
    chat(store, one, begins - 0.001, 10, 5, 6)  # its last: both replies of a pair
    chat(store, one, begins, 3, 2)
    chat(store, other, begins - 2 * DAY_S + 1, 100, 200)
    # Of an older release, and imported: neither says what was used.
    store.write(samples.add, [sample(key_id=one, created_at=begins - 5), sample(key_id="import", created_at=begins)])
    pair = add_comparison(store, key_id=one)
    add_comparison(store, key_id="import")
    # Nobody asked for a pair that is shown again.
    store.write(checks.repeat_of, pair)
    for key_id, rater in ((one, ""), (one, "ann"), (one, "bob"), (other, "")):
        store.write(votes.put, pair, judgement(), key_id=key_id, sees_all=True, rater=rater)
    store.write(votes.retract, pair, None, key_id=one, sees_all=False, rater="bob")

    days, more = store.read(usage.list_page, limit=3)
    today = datetime.fromtimestamp(begins, UTC).date()
    assert [day.date for day in days] == [today, today - timedelta(1), today - timedelta(2)] and more
    assert [[(used.key.id, said(used)) for used in day.used] for day in days] == [
        [(one, (1, 3, 2, 1, 2)), (other, (0, 0, 0, 0, 1))],
        [(one, (2, 17, 31, 0, 0))],
        [(other, (1, 100, 200, 0, 0))],
    ]
    (oldest,), more = store.read(usage.list_page, limit=3, after=days[-1].date)
    assert (oldest.date, oldest.used, more) == (today - timedelta(3), [], False)
    assert store.read(usage.list_page, limit=3, after=date.min) == ([], False)

    forward, more = store.read(usage.list_page, limit=2, order="asc", after=oldest.date, key_id=one)
    assert more and [[said(used) for used in day.used] for day in forward] == [[], [(2, 17, 31, 0, 0)]]
    since = store.read(usage.since, begins - 1, one)
    assert [[said(used) for used in day.used] for day in since] == [[(2, 17, 31, 0, 0)], [(1, 3, 2, 1, 2)]]
    assert told(since)[1][1][0] == {
        "key_id": one, "prefix": store.read(keys.known, one).prefix, "name": "one",
        "chats": 1, "prompt_tokens": 3, "reply_tokens": 2, "comparisons": 1, "votes": 2,
    }  # fmt: skip


def test_a_record_without_keys_has_used_nothing(store: Store) -> None:
    ((day,), more) = store.read(usage.list_page, limit=7)
    assert (day.used, more) == ([], False)


def test_ids_are_cut_by_time_where_they_were_made(store: Store) -> None:
    made = new_id("cmp")
    at = int(made[4:], 16) // 2**80 / 1000
    assert earliest("cmp", at) <= made < earliest("cmp", at + 0.001)


def test_what_it_reads_does_not_hang_on_the_age_of_the_record(store: Store) -> None:
    """By the databases' own word: only ranges of indices are read, and of samples not the large rows."""
    made_days_ago(store, 9, "one")
    plans = plans_of(store, lambda session: usage.list_page(session, limit=2))
    assert len(plans) == 2
    day = (
        (
            "samples USING COVERING INDEX ix_samples_used (created_at>? AND created_at<?)",
            "comparisons USING INDEX sqlite_autoindex_comparisons_1 (id>? AND id<?)",
            "votes USING INDEX sqlite_autoindex_votes_1 (id>? AND id<?)",
        )
        if store.engine.dialect.name == "sqlite"
        else ("ix_samples_used", "pk_comparisons", "pk_votes")
    )
    for plan in plans:
        for index in day:
            assert index in plan, plan
