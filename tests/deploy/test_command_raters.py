"""`tandem raters` and `tandem db` on the record of a home that nothing runs in."""

import json
from pathlib import Path

import pytest

from deploy.running import prepare_home, take_home
from feedback.store import Store, checks, keys, raters, samples, votes
from feedback.worker import count_all
from tests.deploy.command_line import Tandem, in_process
from tests.deploy.homes import engines_alone
from tests.feedback.crowd import cast, crowd
from tests.feedback.record import add_comparison, sample
from tests.records import empty_record


@pytest.fixture
def tandem(capfd: pytest.CaptureFixture[str]) -> Tandem:
    return in_process(capfd)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = empty_record(tmp_path / "record.db")
    cast(store, crowd(5, turned=1), pairs=60, votes_each=3)
    return store


def test_a_rater_is_shown_set_apart_released_and_erased(tandem: Tandem, store: Store, tmp_path: Path) -> None:
    home = ("--home", tmp_path)
    turned = store.read(raters.find, "key_a", "turned-0")
    listed = json.loads(tandem("raters", "list", "--json", *home).out)
    assert len(listed) == 6
    assert {rater["state"] for rater in listed} == {"active"}
    shown = json.loads(tandem("raters", "show", turned, "--json", *home).out)
    assert shown["figures"]["reliability"] < 0.45
    assert "agreement with others" in tandem("raters", "show", turned, *home).out

    counted = store.read(votes.count_by_state)["counted"]
    assert tandem("raters", "quarantine", turned, "--reason", " ", *home).exit_code == 2
    apart = json.loads(tandem("raters", "quarantine", turned, "--reason", "turned", "--json", *home).out)
    assert apart["votes"] > 0
    assert store.read(votes.count_by_state) == {"counted": counted - apart["votes"], "quarantined": apart["votes"]}
    assert "quarantined" in tandem("raters", "list", *home).out
    assert json.loads(tandem("raters", "release", turned, "--json", *home).out)["votes"] == apart["votes"]
    count_all(store)
    assert store.read(votes.count_by_state) == {"counted": counted}

    # Nobody is asked about a rater who is not there.
    unknown = tandem("raters", "erase", "rtr_unknown", *home)
    assert unknown.exit_code == 3
    assert unknown.err == "tandem: no rater 'rtr_unknown'; `tandem raters list` and GET /v1/raters show them\n"
    assert json.loads(tandem("raters", "erase", turned, "--yes", "--json", *home).out)["used_by"] == []
    assert tandem("raters", "show", turned, *home).exit_code == 3
    assert len(json.loads(tandem("raters", "list", "--json", *home).out)) == 5
    assert "(imported)" not in tandem("raters", "list", *home).out
    pair = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi\n\nAssistant: Go away."}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair))
    imported = ("votes", "import", tmp_path / "pairs.jsonl", "--format", "hh", "--objective", "helpful")
    assert tandem(*imported, *home).exit_code == 0
    assert "(imported)" in tandem("raters", "list", *home).out


def test_how_far_they_agree_and_what_is_left_to_judge(tandem: Tandem, store: Store, tmp_path: Path) -> None:
    add_comparison(store)
    said = json.loads(tandem("raters", "overview", "--json", "--home", tmp_path).out)
    assert said["open_pairs"] == 1
    helpful = said["objectives"]["helpful"]
    assert (helpful["pairs"], helpful["votes"]) == (60, 180)
    assert abs(helpful["agreement"]) < 0.2, "the first reply is the better one of all pairs: votes tell none apart"
    shown = tandem("raters", "overview", "--home", tmp_path)
    assert f"{helpful['agreement']}" in shown.out and "1 pair wants votes" in shown.out + shown.err


def test_who_only_chats_is_erased_by_key_and_name(tandem: Tandem, store: Store, tmp_path: Path) -> None:
    key = store.write(keys.create, "chat")[0]
    chat = sample(key_id=key.id, user="visitor")
    chat_id = chat.id
    store.write(samples.add, [chat])
    whom = ("raters", "erase", "--key-id", key.prefix, "--name", "visitor", "--yes", "--home", tmp_path)
    assert json.loads(tandem(*whom, "--json").out)["status"] == "erased"
    assert store.read(samples.get, chat_id).messages == []
    again = tandem(*whom)
    assert (again.exit_code, "nobody votes or chats" in again.err) == (3, True)
    for wrong in ((), ("rtr_x", "--key-id", "key_a")):
        refused = tandem("raters", "erase", *wrong, "--home", tmp_path)
        assert refused.exit_code == 2 and "say whom" in refused.err


def test_the_record_is_copied(tandem: Tandem, store: Store, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path / 'copy' / 'record.db'}"
    copied = json.loads(tandem("db", "copy", "--to", target, "--json", "--home", tmp_path).out)
    assert copied["tables"]["votes"] == 180
    other = Store(target)
    assert other.read(votes.count_by_state) == store.read(votes.count_by_state)
    other.close()
    again = tandem("db", "copy", "--to", target, "--home", tmp_path)
    assert again.exit_code == 1
    assert "holds rows" in again.err
    for nonsense in ("nonsense", "mysql://ann:secret@db/x"):
        refused = tandem("db", "copy", "--to", nonsense, "--home", tmp_path)
        assert refused.exit_code == 2 and "postgresql+psycopg://" in refused.err and "secret" not in refused.err
    prepare_home(tmp_path)
    for running in (take_home, engines_alone):
        with running(tmp_path):
            refused = tandem("db", "copy", "--to", f"sqlite:///{tmp_path}/third.db", "--home", tmp_path)
        assert refused.exit_code == 1 and "votes cast now would be missing" in refused.err
        assert not (tmp_path / "third.db").exists()


def test_an_answer_is_made_known_and_taken_away(tandem: Tandem, store: Store, tmp_path: Path) -> None:
    pair = add_comparison(store)
    asked = ("raters", "answer", pair, "--objective", "helpful", "--home", tmp_path)
    assert json.loads(tandem(*asked, "--json").out)["preferred"] is None
    assert json.loads(tandem(*asked, "--preferred", "1", "--json").out)["preferred"] == 1
    assert store.read(checks.answers) == {(pair, "helpful"): "1"}
    assert "choice 1" in tandem(*asked).err
    assert "No answer" in tandem(*asked, "--remove").err
    assert tandem(*asked, "--remove").exit_code == 3
    assert tandem("raters", "answer", "cmp_none", *asked[3:], "--preferred", "0").exit_code == 3
