"""Finding votes: each thing they are looked for by, on SQLite and on Postgres."""

import io
import json
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from feedback import setting_apart
from feedback.exporting import export_votes
from feedback.store import Store, comparisons, finding, votes
from feedback.store.finding import Wanted
from feedback.worker import count_all
from tests.feedback.plans import plans_of
from tests.feedback.record import add_comparison, judgement, sample

PARTS = [{"role": "user", "content": [{"type": "text", "text": "Is 100% of_it done?"}]}]


@pytest.fixture
def cast(store: Store) -> dict[str, str]:
    """Votes by a name for each: two who disagree, one who is of neither side, one on another pair under harmless."""
    sums = add_comparison(store)
    parts = add_comparison(store, sample("Yes.", 2, messages=PARTS), sample("No.", 3, messages=PARTS))
    said = {
        "left": (sums, judgement("0"), "ann"),
        "right": (sums, judgement("1", reason='It is "RIGHT"'), "bob"),
        "tie": (sums, judgement("tie"), "cyd"),
        "harmless": (parts, judgement("0", objective="harmless", ideal="All of it, \u00e4hm."), "ann"),
    }
    return {
        name: store.write(votes.put, pair, one, key_id="key_a", sees_all=False, rater=rater).id
        for name, (pair, one, rater) in said.items()
    }


def found(store: Store, cast: dict[str, str], **wanted: object) -> set[str]:
    names = {vote_id: name for name, vote_id in cast.items()}
    rows, more = store.read(finding.find, Wanted(**wanted), limit=9)
    assert not more
    return {names[vote.id] for vote in rows}


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({}, {"left", "right", "tie", "harmless"}),
        ({"objective": "harmless"}, {"harmless"}),
        ({"preferred": "tie"}, {"tie"}),
        ({"state": "counted"}, set()),
        ({"version": 1}, {"left", "right", "tie"}),
        ({"version": 2}, {"harmless"}),
        ({"disputed": True}, {"left", "right"}),
        ({"since": 0.0, "until": 1.0}, set()),
        ({"text": "2 PLUS"}, {"left", "right", "tie"}),
        ({"text": '"right"'}, {"right"}),
        ({"text": "\u00e4hm"}, {"harmless"}),
        ({"text": "IT, \u00c4HM"}, {"harmless"}),
        ({"text": "no."}, {"harmless"}),
        ({"text": "100% of_it"}, {"harmless"}),
        ({"text": "100%done"}, set()),
        ({"text": "user"}, set()),
        ({"text": "\0"}, set()),
        ({"text": "2 plus", "preferred": "0"}, {"left"}),
    ],
)
def test_votes_are_found_by(store: Store, cast: dict[str, str], wanted: dict, names: set[str]) -> None:
    assert found(store, cast, **wanted) == names


def test_votes_are_found_by_rater_pair_time_and_state(store: Store, cast: dict[str, str]) -> None:
    left = store.read(votes.get, cast["left"], key_id="", sees_all=True)
    assert found(store, cast, rater_id=left.rater_id) == {"left", "harmless"}
    assert found(store, cast, comparison_id=left.comparison_id) == {"left", "right", "tie"}
    assert "left" not in found(store, cast, until=left.created_at)
    assert "left" in found(store, cast, since=left.created_at)
    assert count_all(store) == 4
    assert found(store, cast, state="counted") == set(cast)


def test_who_is_set_apart_disputes_nothing_and_what_is_taken_back_is_of_no_version(
    store: Store, cast: dict[str, str]
) -> None:
    right = store.read(votes.get, cast["right"], key_id="", sees_all=True)
    setting_apart.quarantine(store, right.rater_id, "a test")
    assert found(store, cast, disputed=True) == set()
    assert found(store, cast, version=1, state="quarantined") == {"right"}
    store.write(votes.retract, right.comparison_id, None, key_id="key_a", sees_all=False, rater="cyd")
    assert found(store, cast, version=1) == {"left", "right"}
    assert "tie" in found(store, cast)


@pytest.mark.parametrize(
    ("wanted", "reads_all"),
    [
        ({}, False),
        ({"state": "retracted"}, False),
        ({"since": 1.0}, True),
        ({"preferred": "both_bad"}, True),
        ({"since": 1.0, "rater_id": "rtr_1"}, False),
        ({"until": 1.0, "objective": "helpful", "comparison_id": "cmp_1"}, False),
        ({"text": "plus", "rater_id": "rtr_1"}, True),
    ],
)
def test_what_may_be_read_of_every_vote_is_known(wanted: dict, reads_all: bool) -> None:
    assert Wanted(**wanted).reads_all is reads_all


def test_pages_of_what_is_found_go_on(store: Store, cast: dict[str, str]) -> None:
    first, more = store.read(finding.find, Wanted(text="plus"), limit=2)
    rest, none = store.read(finding.find, Wanted(text="plus"), limit=2, after=first[-1].id)
    assert [vote.id for vote in [*first, *rest]] == [cast["tie"], cast["right"], cast["left"]]
    assert (more, none) == (True, False)


def test_what_is_found_is_what_is_exported(store: Store, cast: dict[str, str]) -> None:
    out = io.BytesIO()
    assert export_votes(store, out, "trl", Wanted(disputed=True)).written == 2
    chosen = [json.loads(line)["chosen"][0]["content"] for line in out.getvalue().splitlines()]
    assert chosen == ["5", "6"]
    assert export_votes(store, out, "trl", Wanted(text="done", version=3)).written == 2, "the pair and its rewriting"
    assert export_votes(store, out, "trl", Wanted(preferred="tie")).left_out == {"preferred is tie": 1}


STANDING = ["plain", 'a "quote"', "back\\slash", "two\nlines", "caf\u00e9", "100%_", "a/b", "\x7f", "\ufffd", "parts"]
# Of some letters the lower case is two, or has another upper case: as they stand they are found all the same.
ODD = ["\u0130stanbul", "STRA\u1e9eE", "\u03c3\u03bf\u03c6\u03cc\u03c2", "5 \u212a"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        *((text, text) for text in STANDING + ODD),
        *(("caf\u00e9", "CAF\u00c9"), ("CAF\u00c9", "caf\u00e9")),
        # A sigma is another letter at the end of a word than within it; both have one upper case.
        *((ODD[2], ODD[2].upper()), (ODD[2].upper(), ODD[2])),
        *(("stra\u00dfe", "STRA\u1e9eE"), ("STRA\u1e9eE", "stra\u00dfe")),
    ],
)
def test_whatever_stands_in_a_conversation_is_found(store: Store, text: str, wanted: str) -> None:
    said = [{"type": "text", "text": f"so {text} it is"}] if text == "parts" else f"so {text} it is"
    for content in (said, "something else"):
        pair = add_comparison(store, sample(messages=[{"role": "user", "content": content}]))
        store.write(votes.put, pair, judgement(), key_id="key_a", sees_all=False, rater="ann")
    found, _ = store.read(finding.find, Wanted(text=wanted), limit=9)
    assert len(found) == 1


# Each letter of an alphabet, which are more than SQLite takes functions within functions, and all that has a meaning in
# a pattern.
RUSSIAN = "".join(map(chr, range(ord("\u0430"), ord("\u044f") + 1)))
STRANGE = r"^[\u00e9]$ *.* {2}? (a|b)+ \d #-~ ]^" + "\n\u00e9"


@pytest.mark.parametrize("wanted", [RUSSIAN, STRANGE, f"{RUSSIAN} {STRANGE}" * 10])
def test_many_letters_beyond_ascii_are_found_and_nothing_in_a_text_is_a_pattern(store: Store, wanted: str) -> None:
    for said in (wanted.upper(), wanted.replace("\u0430", "\u0431").replace("*", "**")):
        asked = [{"role": "user", "content": f"So\0 {said} it is"}]
        pair = add_comparison(store, sample(messages=asked))
        for rater, reason in (("ann", None), ("bob", f"because\0 {said}")):
            vote = {"key_id": "key_a", "sees_all": False, "rater": rater}
            store.write(votes.put, pair, judgement(reason=reason), **vote)
    for one in (wanted, wanted.upper()):
        assert len(store.read(finding.find, Wanted(text=one), limit=9)[0]) == 2
        assert len(store.read(finding.find, Wanted(text=f"because\0 {one}"), limit=9)[0]) == 1


def test_what_stands_beside_a_nul_is_found(store: Store) -> None:
    said = [{"role": "user", "content": "so plain\0 \\u0000 it IS"}]
    pair = add_comparison(store, sample("as\0 said", messages=said))
    store.write(votes.put, pair, judgement(), key_id="key_a", sees_all=False, rater="ann")
    for one in ("plain", "it is", "As", "said", "\0", "u0000", "\\u0000"):
        found, _ = store.read(finding.find, Wanted(text=one), limit=9)
        assert len(found) == 1, one
    for one in ("\\\\u", "ufffd", "u005c"):
        assert store.read(finding.find, Wanted(text=one), limit=9) == ([], False), one


def test_a_page_of_what_most_pairs_say_is_found_without_looking_through_all_of_them(store: Store) -> None:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite looks at one vote after the other")
    pair = store.read(comparisons.get, add_comparison(store), key_id="key_a", sees_all=False).comparison
    vote = store.write(votes.put, pair.id, judgement(), key_id="key_a", sees_all=False, rater="ann")
    copied = {
        "samples": ("id = :of", pair.sample_0, ["id"]),
        "comparisons": ("id = :of", pair.id, ["id", "sample_0"]),
        "votes": ("id = :of", vote.id, ["id", "comparison_id"]),
    }

    def copy(session: Session) -> None:
        for table, (which, of, named) in copied.items():
            others = ", ".join(f"'{name}', {name} || n" for name in named)
            session.execute(
                text(
                    f"INSERT INTO {table} SELECT (json_populate_record({table}, json_build_object({others}))).* "
                    f"FROM {table}, generate_series(1, 5000) AS n WHERE {which}"
                ),
                {"of": of},
            )

    def read_so_far(session: Session) -> int:
        """By this transaction, and by those before it that the server has not added up yet."""
        read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'samples'"
        return session.scalars(text(read)).one()

    def reads(session: Session) -> int:
        before = read_so_far(session)
        assert len(finding.find(session, Wanted(text="2 plus"), limit=20)[0]) == 20
        return read_so_far(session) - before

    store.write(copy)
    store.write(lambda session: session.execute(text("ANALYZE")))
    assert store.read(reads) < 100


@pytest.mark.parametrize("state", ["accepted", "quarantined", "retracted"])
def test_the_few_votes_that_do_not_count_are_found_by_their_index(store: Store, state: str) -> None:
    (plan,) = plans_of(store, partial(finding.find, wanted=Wanted(state=state), limit=9))
    assert ("ix_votes_accepted" if state == "accepted" else "ix_votes_apart") in plan
